//! Ribs, sternum, shoulder blades and the spine.

use crate::chest::{APEX_Z, BASE_Z, Chest, SPINE_Y, cage_at, gutter, smoothstep};
use crate::trees::Tube;
use crate::vector::V3;

/// A bone drawn as a chain of tubes.
#[derive(Debug, Clone, Copy)]
pub struct BonePart {
    pub tube: Tube,
    /// HU of the shell and of the inside.
    pub shell_hu: f64,
    pub core_hu: f64,
}

/// Ribs are higher than thick: their tubes are round after z has been multiplied with this.
pub const RIB_SQUASH: f64 = 0.62;
/// Thickness of the shell in mm.
pub const SHELL_MM: f64 = 1.4;
/// Distance between vertebrae.
const VERTEBRA: f64 = 24.0;

/// Ribs with their cartilage, sternum, shoulder blades, collar bones.
pub fn bones(chest: &Chest) -> Vec<BonePart> {
    let mut parts = Vec::new();
    let s = chest.mean_scale();
    let mut chain = |points: &[V3], radius: f64, shell_hu: f64, core_hu: f64| {
        for pair in points.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|p| chest.to_patient(p));
            let tube = Tube { a, b, radius: [radius * s; 2], generation: 0 };
            parts.push(BonePart { tube, shell_hu, core_hu });
        }
    };
    for side in [-1.0, 1.0] {
        for rib in 0..12 {
            let top = APEX_Z + 12.0 - VERTEBRA * rib as f64;
            let drop = [34.0, 55.0, 70.0, 80.0, 88.0, 92.0, 92.0, 88.0, 80.0, 70.0, 50.0, 30.0][rib];
            // How far round it reaches: to the sternum, below not even to the front.
            let reach = [0.93, 0.93, 0.93, 0.93, 0.92, 0.91, 0.90, 0.82, 0.74, 0.66, 0.45, 0.32][rib];
            let on_cage = |t: f64| {
                let angle = std::f64::consts::PI * (0.14 + (reach - 0.14) * t);
                let z = top - drop * smoothstep(-0.25, 1.15, t);
                let [a, b, cy] = cage_at(z.clamp(BASE_Z, APEX_Z - 22.0));
                let (sin, cos) = angle.sin_cos();
                let n = 2.5;
                let r = ((sin / (a + 5.5)).powf(n) + (cos.abs() / (b + 5.5)).powf(n)).powf(-1.0 / n);
                let y = cy + r * cos;
                [side * r * sin, y + gutter(r * sin, y), z]
            };
            let neck =
                [[side * 13.0, SPINE_Y + 19.0, top + 4.0], [side * 24.0, SPINE_Y + 33.0, top + 1.0], on_cage(0.0)];
            chain(&neck, 4.3, 520.0, 170.0);
            let bony: Vec<V3> = (0..=22).map(|i| on_cage(0.8 * i as f64 / 22.0)).collect();
            chain(&bony, 4.8, 620.0, 140.0);
            let cartilage: Vec<V3> = (0..=6).map(|i| on_cage(0.8 + 0.2 * i as f64 / 6.0)).collect();
            chain(&cartilage, 4.6, 120.0, 95.0);
        }
        let front = |z: f64| {
            let [_, b, cy] = cage_at(z.min(APEX_Z - 22.0));
            cy - b - 8.0
        };
        for x in [3.0, 9.0, 14.0] {
            let body: Vec<V3> = (0..=8).map(|i| -35.0 + 11.0 * i as f64).map(|z| [side * x, front(z), z]).collect();
            chain(&body, 5.0, 260.0, 110.0);
        }
        // Shoulder blade: a fan of thin bars behind the ribs.
        for bar in 0..12 {
            let t = bar as f64 / 11.0;
            let top = [side * (172.0 - 62.0 * t), 40.0 + 58.0 * t, 126.0 - 8.0 * t];
            let tip = [side * (122.0 - 14.0 * t), 92.0 + 12.0 * t, 14.0 + 18.0 * t];
            chain(&[top, tip], 3.0, 420.0, 240.0);
        }
        let ridge = [[side * 170.0, 44.0, 128.0], [side * 140.0, 92.0, 122.0], [side * 108.0, 108.0, 112.0]];
        chain(&ridge, 5.0, 480.0, 220.0);
        let collar = [[side * 16.0, -84.0, 112.0], [side * 60.0, -82.0, 122.0], [side * 105.0, -52.0, 133.0]];
        chain(&collar, 5.2, 650.0, 160.0);
    }
    parts
}

/// HU of the spine at `p` with how much of it covers a voxel of `width` mm; `None` away from it.
pub fn spine(chest: &Chest, p: V3, width: f64) -> Option<(f64, f64)> {
    let [x, y, z] = chest.to_nominal(p);
    if x.abs() > 34.0 || !(SPINE_Y - 24.0..SPINE_Y + 62.0).contains(&y) {
        return None;
    }
    let cover = |d: f64| (d / width + 0.5).clamp(0.0, 1.0);
    let phase = (z - APEX_Z).rem_euclid(VERTEBRA) - 0.5 * VERTEBRA; // 0 in the middle of a vertebra
    // Waisted body.
    let waist = 1.0 - 0.08 * (1.0 - (phase / 10.0).powi(2)).max(0.0);
    let body = 17.5 * waist - (x * x + ((y - SPINE_Y) * 1.18).powi(2)).sqrt();
    let disc = 3.0 - (0.5 * VERTEBRA - phase.abs());
    let canal = 8.5 - (x * x + (y - SPINE_Y - 23.0).powi(2)).sqrt();
    let lamina = (5.0 - (canal + 3.5).abs()).min(7.0 - phase.abs());
    let process =
        (3.6 - x.abs()).min(13.0 - (y - SPINE_Y - 44.0).abs()).min(8.0 - (phase + 0.35 * (y - SPINE_Y - 40.0)).abs());
    let transverse = (5.0 - ((y - SPINE_Y - 27.0).powi(2) + phase * phase).sqrt()).min(25.0 - x.abs());
    let behind = lamina.max(process).max(transverse).min(-canal);
    let bone = body.max(behind);
    let total = cover(bone);
    if total <= 0.0 {
        return None;
    }
    let end_plate = 1.2 - disc.abs();
    let mut hu = 170.0 + (380.0 - 170.0) * cover(1.3 - bone);
    if body > 0.0 {
        hu += (330.0 - hu) * cover(end_plate);
        hu += (75.0 - hu) * cover(disc);
    }
    Some((hu, total))
}
