//! The parts of the chest that are one smooth shape: torso, lungs, heart, diaphragm, fissures.
//!
//! Lengths in the constants below are those of a nominal adult in deep inspiration (lungs of about 5 l); a point is
//! divided by the patient's scale before it meets them. The origin lies on the midline in the middle of the lungs.
//! Signed distances are positive inside; they are exact enough (a few per cent) near the surface only.

use crate::vector::{V3, dot, to_segment};
use lungai_ct::Lobe;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// One patient's variation of the nominal chest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chest {
    /// Size relative to the nominal adult, `[x, y, z]`.
    pub scale: [f64; 3],
    /// Height of the right and left diaphragm relative to nominal, in mm.
    pub dome_shift_mm: [f64; 2],
    /// Heart size relative to nominal.
    pub heart_scale: f64,
    /// Thickness of the fat below the skin in mm.
    pub fat_mm: f64,
    /// Slow displacement of everything, so that no two chests are alike.
    pub warp: Vec<Wave>,
    /// Mean HU of the lung half-way between front and back.
    pub parenchyma_hu: f64,
    /// HU per mm towards the back (blood sinks when supine).
    pub gravity_hu_per_mm: f64,
    /// Standard deviation of the lung's texture in HU.
    pub texture_hu: f64,
    /// HU that a fissure adds.
    pub fissure_hu: f64,
    /// Distance from the back to the table in mm.
    pub table_gap_mm: f64,
}

/// A sinusoidal displacement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// Radians per mm.
    pub k: [f64; 3],
    /// Radians.
    pub phase: f64,
    /// Displacement in mm.
    pub amplitude_mm: [f64; 3],
}

/// Inner surface of the rib cage: half-width, half-depth, lowest and highest point.
pub const CAGE: [f64; 2] = [136.0, 95.0];
pub const BASE_Z: f64 = -125.0;
pub const APEX_Z: f64 = 125.0;
/// Half-width and half-depth of the torso, and how far its centre lies behind the cage's.
const TORSO: [f64; 2] = [172.0, 127.0];
const TORSO_Y: f64 = 8.0;
/// How much broader the shoulders are.
const SHOULDERS: f64 = 1.3;
/// Centre of the vertebral bodies.
pub const SPINE_Y: f64 = 70.0;
/// Where the trachea divides.
pub const CARINA: V3 = [3.0, 14.0, 40.0];
/// Where the main bronchi enter the right and left lung.
pub const HILUM: [V3; 2] = [[-40.0, 14.0, 14.0], [44.0, 17.0, 12.0]];
const HEART: V3 = [24.0, -26.0, -48.0];
const HEART_SEMI: V3 = [60.0, 47.0, 46.0];
const AORTA: [V3; 3] = [[-6.0, -14.0, 58.0], [22.0, 36.0, 60.0], [20.0, 46.0, -160.0]];

impl Chest {
    /// Lowest and highest z in mm that a lung can reach.
    pub fn lung_extent_z(&self) -> [f64; 2] {
        [BASE_Z * self.scale[2], APEX_Z * self.scale[2]]
    }

    /// Half-width and half-depth of the torso below the shoulders in mm.
    pub fn torso_mm(&self) -> [f64; 2] {
        [TORSO[0] * self.scale[0], TORSO[1] * self.scale[1]]
    }

    /// Half-width of the shoulders in mm.
    pub(crate) fn shoulders_mm(&self) -> f64 {
        1.07 * SHOULDERS * TORSO[0] * self.scale[0]
    }

    pub(crate) fn to_nominal(&self, p: V3) -> V3 {
        std::array::from_fn(|i| p[i] / self.scale[i])
    }

    /// Nominal to patient with the warp undone to first order (its error is below 0.3 mm).
    pub(crate) fn to_patient(&self, q: V3) -> V3 {
        let p: V3 = std::array::from_fn(|i| q[i] * self.scale[i]);
        let moved = self.warped(p);
        std::array::from_fn(|i| p[i] - (moved[i] - q[i]) * self.scale[i])
    }

    /// One length for all axes: the error for a slanted surface is below the few per cent by which the axes differ.
    pub(crate) fn mean_scale(&self) -> f64 {
        (self.scale[0] + self.scale[1] + self.scale[2]) / 3.0
    }

    /// Where `p` lies in the nominal chest.
    pub(crate) fn warped(&self, p: V3) -> V3 {
        let mut q = self.to_nominal(p);
        for wave in &self.warp {
            let s = (dot(wave.k, p) + wave.phase).sin();
            for (q, amplitude) in q.iter_mut().zip(wave.amplitude_mm) {
                *q += amplitude * s;
            }
        }
        q
    }

    /// Torso: distance to the skin.
    pub(crate) fn body(&self, p: V3) -> f64 {
        let [x, y, z] = self.to_nominal(p);
        // With the arms raised the shoulders are broad and flat; the waist is a little narrower.
        let shoulders = smoothstep(35.0, 135.0, z);
        let wide = TORSO[0] * (1.0 + (SHOULDERS - 1.0) * shoulders - 0.03 * smoothstep(-60.0, -140.0, z));
        let deep = TORSO[1] * (1.0 - 0.14 * shoulders);
        let y = y - TORSO_Y - 10.0 * shoulders;
        // Broader behind than in front, hollow along breastbone and spine.
        let hollow = 1.0 + (0.045 + 0.05 * shoulders) * (-(x / 42.0).powi(2)).exp();
        let (at, [dx, dy], _) = superellipse(x / (1.0 + 0.07 * y / deep), y * hollow, wide, deep);
        (1.0 - at) / (dx * dx + dy * dy).sqrt().max(1e-3) * self.mean_scale()
    }

    /// Inner surface of the rib cage.
    pub(crate) fn cage(&self, p: V3) -> f64 {
        cage(self.warped(p)) * self.mean_scale()
    }

    /// Right and left lung.
    pub(crate) fn lungs(&self, p: V3) -> [f64; 2] {
        self.lungs_at(self.warped(p))
    }

    /// [`Chest::lungs`] at a warped point, as are all functions below that take `q`.
    pub(crate) fn lungs_at(&self, q: V3) -> [f64; 2] {
        let around = cage(q).min(60.0);
        if around < -25.0 {
            return [around * self.mean_scale(); 2]; // far outside: no other shape brings it nearer
        }
        let outside = smooth_max(self.mediastinum(q), hila(q), 6.0);
        let both = smooth_min(around, -outside, 5.0);
        let [right, left] = self.above_domes(q);
        // The pleurae meet in front of the aorta but never join: 2 mm between the lungs.
        [
            smooth_min(smooth_min(both, right, 7.0), -q[0] - 1.0, 3.0) * self.mean_scale(),
            smooth_min(smooth_min(both, left, 7.0), q[0] - 1.0, 3.0) * self.mean_scale(),
        ]
    }

    /// The nearer lung.
    pub(crate) fn lung(&self, p: V3) -> f64 {
        let [right, left] = self.lungs(p);
        right.max(left)
    }

    /// Direction in which the lung's distance grows fastest.
    pub(crate) fn inward(&self, p: V3) -> V3 {
        let h = 0.5;
        let at = |axis: usize, by: f64| {
            let mut q = p;
            q[axis] += by;
            self.lung(q)
        };
        crate::vector::unit(std::array::from_fn(|axis| at(axis, h) - at(axis, -h)))
    }

    /// Heart, great vessels, spine and the tissue around them.
    fn mediastinum(&self, q: V3) -> f64 {
        let [x, y, z] = q;
        let width = 27.0 + 6.0 * bump(z, 25.0, 35.0) - 5.0 * smoothstep(70.0, 125.0, z);
        let column = ellipse_distance(x - 1.0, y - 6.0, width, 58.0);
        let spine = 25.0 - (x * x + (y - SPINE_Y - 6.0).powi(2)).sqrt();
        let heart = self.heart(q) + 3.0;
        let aorta = aorta(q) + 2.5;
        // Fat between heart and sternum, wider towards the diaphragm.
        let pad = 16.0 + 16.0 * smoothstep(20.0, -70.0, z);
        let front = ellipse_distance(x - 5.0 - 4.0 * (0.02 * z).sin(), y + CAGE[1], 1.5 * pad, 15.0);
        // What is left of the thymus, and fat, between the lungs behind the breastbone.
        let thin = 4.0 + 9.0 * bump(z, 70.0, 60.0) + 8.0 * smoothstep(0.0, -60.0, z);
        let wedge = ellipse_distance(x - 4.0 - 5.0 * (0.03 * z + 0.04 * y).sin(), y + 62.0, thin, 44.0);
        let base = smooth_max(smooth_max(column, spine, 10.0), front, 18.0);
        let base = smooth_max(base, wedge, 14.0);
        smooth_max(smooth_max(base, heart, 8.0), aorta, 6.0)
    }

    fn heart(&self, q: V3) -> f64 {
        // Turned so that its tip points to the left, forward and down.
        let [dx, dy, dz] = [q[0] - HEART[0], q[1] - HEART[1], q[2] - HEART[2]];
        let (s, c) = 0.5f64.sin_cos();
        let turned = [c * dx - s * dy, s * dx + c * dy, dz + 0.25 * dx];
        ellipsoid_distance(turned, HEART_SEMI.map(|semi| semi * self.heart_scale))
    }

    /// Height above the right and left diaphragm.
    fn above_domes(&self, q: V3) -> [f64; 2] {
        let dome = |cx: f64, top: f64, lateral: f64| {
            let dx = (q[0] - cx) * lateral;
            let dx = if dx > 0.0 { dx / 72.0 } else { dx / 115.0 }; // steeper towards the flank
            let dy = q[1] + 12.0;
            let dy = if dy > 0.0 { dy / 82.0 } else { dy / 112.0 }; // steeper towards the back
            let fall = 52.0 * (dx * dx + dy * dy);
            // Gradient of the fall turns height into distance.
            let slope = 104.0 * ((dx / 80.0).powi(2) + (dy / 90.0).powi(2)).sqrt();
            (q[2] - (top - fall)) / (1.0 + slope * slope).sqrt()
        };
        [dome(-62.0, -70.0 + self.dome_shift_mm[0], -1.0), dome(66.0, -82.0 + self.dome_shift_mm[1], 1.0)]
    }

    /// Distances to the oblique fissure (positive in front of it) and to the horizontal fissure (positive above), which
    /// the right lung has in front of the oblique one.
    pub(crate) fn fissures_at(&self, q: V3) -> [f64; 2] {
        let right = q[0] < 0.0;
        let bow = 0.0016 * (q[0].abs() - 70.0).powi(2);
        // From the back at the height of the carina down to the front of the diaphragm.
        let tilt: f64 = if right { 0.78 } else { 0.72 };
        let oblique = (tilt.sin() * (q[2] - 6.0) - tilt.cos() * (q[1] - 22.0)) - bow;
        let horizontal = q[2] - 6.0 + 0.05 * q[1] + 0.6 * bow;
        [oblique * self.mean_scale(), horizontal * self.mean_scale()]
    }

    /// The lobe of a lung (0 right, 1 left) that holds `p`.
    pub(crate) fn lobe(&self, side: usize, p: V3) -> Lobe {
        let [oblique, horizontal] = self.fissures_at(self.warped(p));
        match (side, oblique > 0.0, horizontal > 0.0) {
            (0, true, true) => Lobe::RightUpper,
            (0, true, false) => Lobe::RightMiddle,
            (0, false, _) => Lobe::RightLower,
            (_, true, _) => Lobe::LeftUpper,
            (_, false, _) => Lobe::LeftLower,
        }
    }

    /// The lobe of the nearer lung that holds `p`.
    pub(crate) fn lobe_at(&self, p: V3) -> Lobe {
        let [right, left] = self.lungs(p);
        self.lobe(usize::from(left > right), p)
    }

    /// Whether a point in a lung belongs to an upper lobe (the left lingula included).
    pub(crate) fn in_upper_lobe(&self, p: V3) -> bool {
        matches!(self.lobe_at(p), Lobe::RightUpper | Lobe::LeftUpper)
    }

    /// HU of everything in the torso that is neither lung, airway nor bone.
    /// - `q`: `p` warped
    /// - `skin`: [`Chest::body`] of `p`
    pub(crate) fn soft_tissue(&self, p: V3, q: V3, skin: f64) -> f64 {
        let cage = cage(q);
        if cage < 0.0 {
            // Chest wall: fat below the skin, then muscle with a thin sheet of fat between its layers.
            let [x, y, _] = self.to_nominal(p);
            let fat = self.fat_mm * (0.75 + 0.5 * smoothstep(20.0, 150.0, x.abs()));
            let mut hu = mix(-105.0, 52.0, smoothstep(-2.0, 2.0, skin - fat));
            let sheet = bump(cage, -13.0 + 2.0 * (0.03 * x + 0.02 * y).sin(), 2.2) * smoothstep(85.0, 45.0, q[2]);
            // Sheets of fat between the muscles of back and shoulders lie where a slow wave is 0.
            let wave: f64 = self.warp.iter().map(|w| (MUSCLES * dot(w.k, p) + 2.0 * w.phase).sin()).sum();
            let planes = bump(wave, 0.0, 0.2) * smoothstep(-16.0, -22.0, cage);
            let armpit = ellipsoid_distance([x.abs() - 152.0, y - 2.0, q[2] - 82.0], [34.0, 19.0, 46.0]);
            let armpit = smoothstep(-4.0, 6.0, armpit) * smoothstep(-7.0, -10.0, cage);
            let paraspinal = ellipse_distance(x.abs() - 34.0, y - 104.0, 24.0, 17.0);
            let fatty = sheet.max(0.9 * planes) * smoothstep(2.0, -2.0, paraspinal);
            hu = mix(hu, -85.0, fatty.max(armpit * smoothstep(0.5, 1.1, wave.abs() + 0.5)));
            return mix(hu, 55.0, smoothstep(-2.0, 2.0, paraspinal));
        }
        let [right, left] = self.above_domes(q);
        let heart = self.heart(q);
        let below = if q[0] < 12.0 { -right } else { -left };
        let mediastinal = self.mediastinal_hu(q, heart);
        // Liver on the right, spleen and stomach wall on the left, fat between them and the wall.
        let organ = if q[0] + 0.35 * q[1] + 6.0 * (0.05 * q[2]).sin() < 30.0 { 58.0 } else { 42.0 };
        let between = (q[0] - 30.0 + 0.35 * q[1] + 6.0 * (0.05 * q[2]).sin()).abs();
        let gap = smoothstep(1.0, 5.0, cage) * smoothstep(0.0, 4.0, between - 1.0 - 0.06 * (q[1] + 20.0).max(0.0));
        let abdomen = mix(-90.0, organ, gap);
        let hu = mix(mediastinal, abdomen, smoothstep(-2.0, 2.0, below) * smoothstep(2.0, -1.0, heart - 3.0));
        // Pleura and the muscle between the ribs.
        mix(hu, 30.0, smoothstep(4.5, 2.0, cage))
    }

    fn mediastinal_hu(&self, q: V3, heart: f64) -> f64 {
        let inside = |d: f64| smoothstep(-1.5, 1.5, d);
        let cava = 9.5 - to_segment(q, [-22.0, -8.0, 110.0], [-24.0, -4.0, -5.0]);
        let trunk = 13.0
            - to_segment(q, [16.0, -24.0, 14.0], [22.0, -4.0, 26.0]).min(
                0.9 * to_segment(q, [22.0, -4.0, 22.0], [-36.0, 4.0, 14.0]), // right pulmonary artery
            );
        let left_artery = 10.0 - to_segment(q, [22.0, -4.0, 26.0], [42.0, 8.0, 22.0]);
        let atrium = ellipsoid_distance([q[0] - 2.0, q[1] - 20.0, q[2] + 14.0], [36.0, 17.0, 20.0]);
        let arteries = to_segment(q, [-14.0, -12.0, 60.0], [-20.0, -8.0, 130.0])
            .min(to_segment(q, [2.0, -12.0, 60.0], [10.0, -2.0, 130.0]))
            .min(to_segment(q, [14.0, 6.0, 60.0], [24.0, 6.0, 130.0]));
        let oesophagus = 8.0 - to_segment(q, [2.0, 38.0, 140.0], [4.0, 34.0, -120.0]);
        let nodes = 6.0 - to_segment(q, [8.0, 26.0, 26.0], [-8.0, 24.0, 20.0]);
        let behind = 14.0 - (q[0].powi(2) + (q[1] - SPINE_Y + 2.0).powi(2)).sqrt() + 8.0;
        let filled =
            [cava, trunk, left_artery, atrium, 5.5 - arteries, oesophagus, nodes, aorta(q), heart - 2.5, behind];
        let tissue = filled.into_iter().map(inside).fold(0.0, f64::max);
        mix(-88.0, 42.0, tissue)
    }

    /// Height of the table's surface at `x`, in y, and its parts: HU relative to air, 0 away from it.
    pub(crate) fn table_hu(&self, x: f64, y: f64) -> f64 {
        let back = (TORSO_Y + TORSO[1]) * self.scale[1] + self.table_gap_mm;
        let depth = y - (back - 0.00035 * x * x); // slightly hollow
        let side = smoothstep(215.0, 211.0, x.abs());
        let shell = smoothstep(-1.0, 0.0, depth) * smoothstep(3.0, 2.0, depth)
            + smoothstep(26.0, 27.0, depth) * smoothstep(30.0, 29.0, depth);
        let foam = smoothstep(2.0, 3.0, depth) * smoothstep(27.0, 26.0, depth);
        side * (820.0 * shell.min(1.0) + 70.0 * foam)
    }
}

/// How much finer the muscles are than the slow waves of the whole chest.
const MUSCLES: f64 = 2.4;

/// How far behind the rib cage reaches beside the spine, where the lungs lie in gutters.
pub(crate) fn gutter(x: f64, y: f64) -> f64 {
    13.0 * bump(x.abs(), 46.0, 44.0) * smoothstep(0.0, 60.0, y)
}

/// Half-width, half-depth and centre `y` of the cage at height `z`: widest below the middle, closing at the apex, which
/// lies behind the middle.
pub(crate) fn cage_at(z: f64) -> [f64; 3] {
    let t = (z - BASE_Z) / (APEX_Z - BASE_Z);
    let u = ((t - 0.3) / 0.7).clamp(0.0, 0.985);
    let low = ((0.3 - t) / 0.3).clamp(0.0, 1.5);
    let a = CAGE[0] * (1.0 - u.powf(2.6)).powf(0.58) * (1.0 - 0.05 * low * low);
    let b = CAGE[1] * (1.0 - u.powf(2.8)).powf(0.55) * (1.0 - 0.03 * low * low);
    [a, b, 14.0 * u * u]
}

/// [`cage_at`] at whole mm from `CAGE_TABLE_Z` on: powers are slow.
static CAGE_TABLE: LazyLock<Vec<[f64; 3]>> =
    LazyLock::new(|| (0..400).map(|i| cage_at(CAGE_TABLE_Z + i as f64)).collect());
const CAGE_TABLE_Z: f64 = -200.0;

fn cage([x, y, z]: V3) -> f64 {
    let at = (z - CAGE_TABLE_Z).clamp(0.0, CAGE_TABLE.len() as f64 - 1.001);
    let (low, high) = (CAGE_TABLE[at as usize], CAGE_TABLE[at as usize + 1]);
    let rise: [f64; 3] = std::array::from_fn(|i| high[i] - low[i]); // per mm
    let [a, b, cy] = std::array::from_fn(|i| low[i] + (at - at.floor()) * rise[i]);
    let (f, [dx, dy], [da, db]) = superellipse(x, y - cy - gutter(x, y), a, b);
    let dz = da * rise[0] + db * rise[1] - dy * rise[2];
    let wall = (1.0 - f) / (dx * dx + dy * dy + dz * dz).sqrt().max(1e-3);
    let ends = smooth_min(APEX_Z - 1.0 - z, z - BASE_Z, 20.0);
    smooth_min(wall, ends, 14.0)
}

/// Where the bronchi and vessels enter the lungs.
fn hila(q: V3) -> f64 {
    let right = ellipsoid_distance([q[0] - HILUM[0][0] - 4.0, q[1] - HILUM[0][1], q[2] - 6.0], [17.0, 15.0, 26.0]);
    let left = ellipsoid_distance([q[0] - HILUM[1][0] + 4.0, q[1] - HILUM[1][1], q[2] - 10.0], [17.0, 15.0, 24.0]);
    right.max(left)
}

fn aorta(q: V3) -> f64 {
    let ascending = 15.0 - to_segment(q, [-10.0, -22.0, 0.0], AORTA[0]);
    let arch = 13.5 - to_segment(q, AORTA[0], AORTA[1]);
    let descending = 12.5 - to_segment(q, AORTA[1], AORTA[2]);
    ascending.max(arch).max(descending)
}

/// A curve between ellipse and rectangle, `(|x|/a)^n + (|y|/b)^n = 1` with n = 2.5: its value (0 at the centre, 1 on the
/// curve) and its derivatives by `[x, y]` and by `[a, b]`.
fn superellipse(x: f64, y: f64, a: f64, b: f64) -> (f64, [f64; 2], [f64; 2]) {
    let (u, v) = (x.abs() / a, y.abs() / b);
    let (u15, v15) = (u * u.sqrt(), v * v.sqrt());
    let sum = (u * u15 + v * v15).max(1e-9);
    let f = sum.powf(0.4);
    let g = f / sum;
    (f, [g * u15 / a * x.signum(), g * v15 / b * y.signum()], [-g * u * u15 / a, -g * v * v15 / b])
}

/// Signed distance to an ellipse, exact on it.
fn ellipse_distance(x: f64, y: f64, a: f64, b: f64) -> f64 {
    ellipsoid_distance([x, y, 0.0], [a, b, 1e6])
}

/// Signed distance to an ellipsoid, exact on it (Quilez's bound).
pub(crate) fn ellipsoid_distance(p: V3, semi: V3) -> f64 {
    let k0: f64 = (0..3).map(|i| (p[i] / semi[i]).powi(2)).sum::<f64>().sqrt();
    let k1: f64 = (0..3).map(|i| (p[i] / (semi[i] * semi[i])).powi(2)).sum::<f64>().sqrt();
    if k1 < 1e-9 { semi[0].min(semi[1]).min(semi[2]) } else { k0 * (1.0 - k0) / k1 }
}

pub(crate) fn smooth_min(a: f64, b: f64, k: f64) -> f64 {
    let h = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - h * h * k * 0.25
}

fn smooth_max(a: f64, b: f64, k: f64) -> f64 {
    -smooth_min(-a, -b, k)
}

/// 0 at `from`, 1 at `to` (which may lie below).
pub(crate) fn smoothstep(from: f64, to: f64, x: f64) -> f64 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// 1 at `centre`, 0 beyond `width`.
fn bump(x: f64, centre: f64, width: f64) -> f64 {
    let t = ((x - centre) / width).abs().min(1.0);
    (1.0 - t * t).powi(2)
}

fn mix(a: f64, b: f64, t: f64) -> f64 {
    a + (b - a) * t
}
