//! A nodule detector without training: the floor that a network has to beat.
//!
//! Li, Sone & Doi, Selective enhancement filters for nodules, vessels, and airway walls in two- and
//! three-dimensional CT scans, Med. Phys. 30 (2003): at several scales, a voxel scores by the eigenvalues of
//! its Hessian, high for balls and low for tubes and sheets. Candidates are the maxima of the Laplacian of
//! Gaussian inside of the lungs.

use crate::gaussian;
use crate::morphology::dilate_mm;
use crate::resample::{resample, resample_labels};
use lungai_ct::{Geometry, LabelMap, Spacing, Volume, VoxelPoint, WorldPoint};
use lungai_trace::implements;
use ndarray::{Array3, Axis, Zip};
use rayon::prelude::*;

/// A bright ball in the lung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blob {
    /// Centre.
    pub position: WorldPoint,
    /// Diameter in mm of the ball that answers most at this scale.
    pub diameter_mm: f64,
    /// `0..1`; half for a solid ball of ideal size that loses half of its contrast to its shape.
    pub score: f64,
}

/// Lung, and what replaces everything outside of the gate in the detector's own copy.
const LUNG_HU: f32 = -860.0;
/// Solid tissue; denser is not more of a nodule.
const TISSUE_HU: f32 = 40.0;
/// The gate reaches this far beyond the lungs' mask: nodules on the pleura.
const GATE_MM: f64 = 2.0;
/// Most candidates per scan.
const MOST: usize = 100;
/// Standard deviations of the Gaussians in voxels of a grid, and the grid's spacing in mm. A ball of radius
/// `sqrt(3) sigma` answers most to `sigma`.
const OCTAVES: [(f64, [f64; 3]); 2] = [(1.0, [1.1, 1.5, 2.1]), (2.0, [1.45, 2.0, 2.8])];

/// Balls of about 3 to 20 mm within `lungs` (any label but 0), best first, at most 100.
#[implements("FR-004")]
pub fn detect(volume: &Volume, lungs: &LabelMap) -> Vec<Blob> {
    let Some(region) = region(lungs) else { return Vec::new() };
    let mut found = Vec::new();
    for (spacing_mm, sigmas) in OCTAVES {
        let grid = region.respaced(Spacing::new([spacing_mm; 3]).expect("positive"));
        let inside = resample_labels(lungs, &grid).labels().mapv(|label| label > 0);
        let gate = dilate_mm(inside.view(), grid.spacing(), GATE_MM);
        let tissue = Zip::from(resample(volume, &grid).hu())
            .and(&gate)
            .par_map_collect(|hu, gate| if *gate { f32::from(*hu).clamp(LUNG_HU, TISSUE_HU) } else { LUNG_HU });
        // Gaussians add up in squares: each scale starts from the one before.
        let (mut smooth, mut reached) = (tissue, 0.0f64);
        let in_voxels = Spacing::new([1.0; 3]).expect("positive");
        for sigma in sigmas {
            smooth = gaussian(smooth.view(), in_voxels, (sigma * sigma - reached * reached).sqrt());
            reached = sigma;
            found.extend(maxima(&smooth, &inside, &grid, sigma));
        }
    }
    found.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| {
            let key = |blob: &Blob| blob.position.0;
            key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
        })
    });
    let mut kept: Vec<Blob> = Vec::new();
    for blob in found {
        if kept.len() == MOST {
            break;
        }
        let known =
            |other: &Blob| other.position.distance_mm(blob.position) < 0.6 * other.diameter_mm.max(blob.diameter_mm);
        if !kept.iter().any(known) {
            kept.push(blob);
        }
    }
    kept
}

/// The lungs' box with a margin for the filters.
fn region(lungs: &LabelMap) -> Option<Geometry> {
    let (mut first, mut last) = ([usize::MAX; 3], [0; 3]);
    for ((z, y, x), label) in lungs.labels().indexed_iter() {
        if *label > 0 {
            for (i, at) in [z, y, x].into_iter().enumerate() {
                first[i] = first[i].min(at);
                last[i] = last[i].max(at);
            }
        }
    }
    if first[0] == usize::MAX {
        return None;
    }
    // Not beyond the scan: a vessel that it cuts off would become a ball.
    let margin = lungs.geometry().spacing().zyx_mm().map(|mm| (8.0 / mm).ceil() as usize);
    let start: [usize; 3] = std::array::from_fn(|i| first[i].saturating_sub(margin[i]));
    let end: [usize; 3] = std::array::from_fn(|i| (last[i] + 1 + margin[i]).min(lungs.geometry().size()[i]));
    let size = std::array::from_fn(|i| end[i] - start[i]);
    let start = start.map(|v| v as isize);
    Some(lungs.geometry().window(start, size))
}

/// Local maxima of the Laplacian (26 neighbours) with the score of their Hessian.
fn maxima(smooth: &Array3<f32>, inside: &Array3<bool>, grid: &Geometry, sigma: f64) -> Vec<Blob> {
    let (nz, ny, nx) = smooth.dim();
    let mut response = Array3::<f32>::zeros((nz, ny, nx));
    if nz < 5 || ny < 5 || nx < 5 {
        return Vec::new();
    }
    let values = smooth.as_slice().expect("made in standard layout");
    response.axis_iter_mut(Axis(0)).into_par_iter().enumerate().skip(1).take(nz - 2).for_each(|(z, mut slice)| {
        let line = |dz: usize, dy: usize, y: usize| {
            let from = ((z + dz - 1) * ny + y + dy - 1) * nx;
            &values[from..from + nx]
        };
        for (y, mut row) in slice.rows_mut().into_iter().enumerate().skip(1).take(ny - 2) {
            let (here, below, above) = (line(1, 1, y), line(0, 1, y), line(2, 1, y));
            let (front, back) = (line(1, 0, y), line(1, 2, y));
            for x in 1..nx - 1 {
                let around = below[x] + above[x] + front[x] + back[x] + here[x - 1] + here[x + 1];
                row[x] = 6.0 * here[x] - around;
            }
        }
    });
    let spacing_mm = grid.spacing().zyx_mm()[0];
    let scale = (sigma * sigma) as f32;
    let contrast = TISSUE_HU - LUNG_HU;
    (2..nz - 2)
        .into_par_iter()
        .flat_map_iter(|z| {
            let mut found = Vec::new();
            for y in 2..ny - 2 {
                for x in 2..nx - 2 {
                    let here = response[[z, y, x]];
                    if !inside[[z, y, x]] || here * scale < 0.15 * contrast {
                        continue;
                    }
                    let block = response.slice(ndarray::s![z - 1..=z + 1, y - 1..=y + 1, x - 1..=x + 1]);
                    if block.iter().any(|other| *other > here) {
                        continue;
                    }
                    let [weak, _, strong] = eigenvalues(hessian(smooth, [z, y, x]));
                    if weak <= 0.0 {
                        continue;
                    }
                    // A solid ball of radius sqrt(3) sigma has three eigenvalues of 0.31 contrast / sigma^2 at its centre.
                    let dot = f64::from(scale / contrast) * weak * weak / strong;
                    let score = dot / (dot + 0.15);
                    let position = grid.to_world(VoxelPoint([z as f64, y as f64, x as f64]));
                    found.push(Blob { position, diameter_mm: 2.0 * 3f64.sqrt() * sigma * spacing_mm, score });
                }
            }
            found
        })
        .collect()
}

/// Second derivatives, sign turned, so that bright balls are positive: zz, yy, xx, zy, zx, yx.
fn hessian(smooth: &Array3<f32>, at: [usize; 3]) -> [f64; 6] {
    let v = |dz: isize, dy: isize, dx: isize| {
        let moved = |i: usize, d: isize| at[i].checked_add_signed(d).unwrap_or(0);
        f64::from(smooth[[moved(0, dz), moved(1, dy), moved(2, dx)]])
    };
    let here = v(0, 0, 0);
    [
        2.0 * here - v(1, 0, 0) - v(-1, 0, 0),
        2.0 * here - v(0, 1, 0) - v(0, -1, 0),
        2.0 * here - v(0, 0, 1) - v(0, 0, -1),
        -0.25 * (v(1, 1, 0) + v(-1, -1, 0) - v(1, -1, 0) - v(-1, 1, 0)),
        -0.25 * (v(1, 0, 1) + v(-1, 0, -1) - v(1, 0, -1) - v(-1, 0, 1)),
        -0.25 * (v(0, 1, 1) + v(0, -1, -1) - v(0, 1, -1) - v(0, -1, 1)),
    ]
}

/// Eigenvalues of a symmetric matrix in rising order (Smith 1961, the trigonometric solution).
fn eigenvalues([zz, yy, xx, zy, zx, yx]: [f64; 6]) -> [f64; 3] {
    let mean = (zz + yy + xx) / 3.0;
    let off = zy * zy + zx * zx + yx * yx;
    let spread = (((zz - mean).powi(2) + (yy - mean).powi(2) + (xx - mean).powi(2) + 2.0 * off) / 6.0).sqrt();
    if spread == 0.0 {
        return [mean; 3];
    }
    let [a, b, c] = [zz, yy, xx].map(|d| (d - mean) / spread);
    let [d, e, f] = [zy, zx, yx].map(|o| o / spread);
    let determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e);
    let angle = (0.5 * determinant).clamp(-1.0, 1.0).acos() / 3.0;
    let high = mean + 2.0 * spread * angle.cos();
    let low = mean + 2.0 * spread * (angle + 2.0 * std::f64::consts::PI / 3.0).cos();
    [low, 3.0 * mean - high - low, high]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Ball, Chest, grid};
    use lungai_trace::verifies;

    #[verifies("FR-004")]
    #[test]
    fn balls_in_the_lung_are_found_before_anything_else() {
        let balls = vec![
            Ball { centre: [-70.0, 10.0, 40.0], radius: 3.0, hu: 40.0 },
            Ball { centre: [-60.0, -20.0, -30.0], radius: 5.0, hu: 40.0 },
            Ball { centre: [75.0, 5.0, 10.0], radius: 8.0, hu: 40.0 },
        ];
        let chest = Chest { balls, joined: false };
        let grid = grid([1.5, 1.2, 1.2]);
        let found = detect(&chest.render(&grid), &chest.lungs(&grid));
        for ball in &chest.balls {
            let place = found.iter().position(|b| b.position.distance_mm(WorldPoint(ball.centre)) < ball.radius);
            let place = place.expect("each ball is found");
            assert!(place < 3, "place {place}");
            assert!((found[place].diameter_mm / (2.0 * ball.radius)).ln().abs() < 0.35, "{:?}", found[place]);
            assert!(found[place].score > 0.4);
        }
    }

    #[test]
    fn a_tube_scores_lower_than_a_ball() {
        let size = (40, 40, 40);
        let g = Geometry::new([40; 3], Spacing::new([1.0; 3]).unwrap(), WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        let score = |inside: &dyn Fn(f64, f64, f64) -> bool| {
            let hu = Array3::from_shape_fn(size, |(z, y, x)| {
                if inside(z as f64 - 20.0, y as f64 - 20.0, x as f64 - 20.0) { 40 } else { -860 }
            });
            let lungs = LabelMap::new(Array3::from_elem(size, 1), g.clone()).unwrap();
            let found = detect(&Volume::new(hu, g.clone()).unwrap(), &lungs);
            let middle = WorldPoint([20.0; 3]);
            found.iter().filter(|b| b.position.distance_mm(middle) < 8.0).map(|b| b.score).fold(0.0, f64::max)
        };
        let ball = score(&|z, y, x| z * z + y * y + x * x < 9.0);
        let tube = score(&|z, y, _| z * z + y * y < 9.0);
        assert!(ball > 0.5 && tube < 0.2, "ball {ball:.2}, tube {tube:.2}");
    }

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        // [[2, 1, 0], [1, 2, 0], [0, 0, 5]]: 1, 3, 5.
        for (found, want) in eigenvalues([2.0, 2.0, 5.0, 1.0, 0.0, 0.0]).into_iter().zip([1.0, 3.0, 5.0]) {
            assert!((found - want).abs() < 1e-9);
        }
    }

    #[test]
    fn no_lung_no_blob() {
        let g = grid([6.0; 3]);
        let lungs = LabelMap::new(Array3::zeros(g.size()), g.clone()).unwrap();
        assert!(detect(&Chest::plain().render(&g), &lungs).is_empty());
    }
}
