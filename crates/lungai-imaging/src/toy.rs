//! A chest of ellipsoids for tests: body, two lungs, trachea with main bronchi, table and a stomach bubble.

use lungai_ct::{Geometry, LabelMap, Lung, Spacing, Volume, VoxelPoint, WorldPoint};
use ndarray::Array3;

/// A ball in patient mm with one HU.
pub(crate) struct Ball {
    pub centre: [f64; 3],
    pub radius: f64,
    pub hu: f64,
}

/// What varies between tests.
pub(crate) struct Chest {
    pub balls: Vec<Ball>,
    /// A strait of lung tissue joins both lungs in front.
    pub joined: bool,
}

/// Patient space: x -150..150, y -100..130 (table at the back), z -140..140.
pub(crate) fn grid(spacing: [f64; 3]) -> Geometry {
    box_grid(spacing, [-150.0, -105.0, -140.0], [150.0, 135.0, 140.0])
}

pub(crate) fn box_grid(spacing: [f64; 3], low: [f64; 3], high: [f64; 3]) -> Geometry {
    let size = std::array::from_fn(|i| ((high[2 - i] - low[2 - i]) / spacing[i]).floor() as usize + 1);
    Geometry::new(size, Spacing::new(spacing).unwrap(), WorldPoint(low), Geometry::AXIAL).unwrap()
}

fn ellipsoid(p: [f64; 3], c: [f64; 3], r: [f64; 3]) -> f64 {
    // Close to a distance in mm near the surface; negative inside.
    let q: f64 = (0..3).map(|i| ((p[i] - c[i]) / r[i]).powi(2)).sum::<f64>().sqrt();
    (q - 1.0) * r.into_iter().fold(f64::INFINITY, f64::min)
}

impl Chest {
    pub(crate) fn plain() -> Self {
        Self { balls: Vec::new(), joined: false }
    }

    /// 1 or 2 inside of a lung, nodules included.
    pub(crate) fn lung(&self, p: [f64; 3]) -> u8 {
        if ellipsoid(p, [-68.0, 0.0, 0.0], [52.0, 72.0, 110.0]) < 0.0 {
            Lung::Right as u8
        } else if ellipsoid(p, [68.0, 0.0, 0.0], [50.0, 72.0, 105.0]) < 0.0 {
            Lung::Left as u8
        } else {
            0
        }
    }

    fn airway(p: [f64; 3]) -> bool {
        let tube = |a: [f64; 3], b: [f64; 3], r: f64| {
            let d: [f64; 3] = std::array::from_fn(|i| b[i] - a[i]);
            let len: f64 = d.iter().map(|v| v * v).sum();
            let t = ((0..3).map(|i| (p[i] - a[i]) * d[i]).sum::<f64>() / len).clamp(0.0, 1.0);
            (0..3).map(|i| (p[i] - a[i] - t * d[i]).powi(2)).sum::<f64>() < r * r
        };
        tube([0.0, 10.0, 150.0], [0.0, 10.0, 30.0], 8.0)
            || tube([0.0, 10.0, 30.0], [-40.0, 10.0, 0.0], 6.0)
            || tube([0.0, 10.0, 30.0], [40.0, 10.0, 0.0], 6.0)
    }

    pub(crate) fn hu(&self, p: [f64; 3]) -> f64 {
        if let Some(ball) = self.balls.iter().find(|b| WorldPoint(b.centre).distance_mm(WorldPoint(p)) < b.radius) {
            return ball.hu;
        }
        if Self::airway(p) {
            return -990.0;
        }
        let strait = self.joined && p[0].abs() < 20.0 && (p[1] + 5.0).abs() < 4.0 && (p[2] + 30.0).abs() < 25.0;
        if self.lung(p) > 0 || strait {
            return -860.0;
        }
        if ellipsoid(p, [0.0, 0.0, 0.0], [140.0, 92.0, 1000.0]) < 0.0 {
            return 30.0;
        }
        // A table of foam between two shells of 3 mm.
        match p[1] {
            y if (105.0..108.0).contains(&y) || (127.0..130.0).contains(&y) => -100.0,
            y if (108.0..127.0).contains(&y) => -920.0,
            _ => -1000.0,
        }
    }

    /// Point samples on `grid`, 8 per voxel averaged where it is coarse, with a fixed noise of about 15 HU.
    pub(crate) fn render(&self, grid: &Geometry) -> Volume {
        let samples = if grid.spacing().zyx_mm()[2] > 1.0 { 8 } else { 1 };
        let mut hu = Array3::zeros(grid.size());
        ndarray::Zip::indexed(&mut hu).par_for_each(|(z, y, x), hu| {
            let mut sum = 0.0;
            for k in 0..samples {
                let off = |bit: usize| if k >> bit & 1 == 1 { 0.25 } else { -0.25 };
                sum += self.hu(grid.to_world(VoxelPoint([z as f64 + off(0), y as f64 + off(1), x as f64 + off(2)])).0);
            }
            let hash = ((z * 1009 + y) * 1013 + x).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            *hu = (sum / f64::from(samples) + ((hash >> 40) % 51) as f64 - 25.0).round() as i16;
        });
        Volume::new(hu, grid.clone()).unwrap()
    }

    pub(crate) fn lungs(&self, grid: &Geometry) -> LabelMap {
        let labels = Array3::from_shape_fn(grid.size(), |(z, y, x)| {
            let p = grid.to_world(VoxelPoint([z as f64, y as f64, x as f64])).0;
            if Self::airway(p) { 0 } else { self.lung(p) }
        });
        LabelMap::new(labels, grid.clone()).unwrap()
    }
}
