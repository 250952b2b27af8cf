//! Breathing during the scan: tissue near the diaphragm moves along z while the table passes.
//!
//! A slice is taken over half a turn of the gantry, so that it shows two places at once: contours are doubled where the
//! diaphragm is fast and merely shifted where it turns.

use crate::chest::{Chest, smoothstep};
use crate::scanner::Scanner;
use crate::vector::{V3, hash};
use std::f64::consts::TAU;

/// Table travel per breath in mm: 40 mm/s at 15 breaths a minute would be 160; patients who fail to hold take quick,
/// shallow breaths.
const WAVE_MM: f64 = 70.0;
/// Table travel during half a turn in mm.
const HALF_TURN_MM: f64 = 10.0;

/// Displacement along z, a function of the place in the image alone.
#[derive(Debug, Clone, Copy)]
pub struct Breath {
    amplitude_mm: f64,
    phase: f64,
    /// Heights between which the movement fades out.
    base: f64,
    still: f64,
}

impl Breath {
    /// No movement.
    pub const HELD: Self = Self { amplitude_mm: 0.0, phase: 0.0, base: 0.0, still: 1.0 };

    pub fn new(scanner: &Scanner, chest: &Chest, seed: u64) -> Self {
        let [low, high] = chest.lung_extent_z();
        let phase = hash(seed, 0x6272_6561) as f64 / u64::MAX as f64 * TAU;
        let amplitude_mm = 0.5 * scanner.artefacts.breath_mm;
        Self { amplitude_mm, phase, base: low, still: low + 0.75 * (high - low) }
    }

    /// Displacement towards the head in mm of what is shown at `z`, seen `lag` mm of table travel later.
    fn moved(&self, z: f64, lag: f64) -> f64 {
        let near_diaphragm = smoothstep(self.still, self.base, z);
        self.amplitude_mm * near_diaphragm * (TAU * (z + lag) / WAVE_MM + self.phase).sin()
    }

    /// Nothing moves farther than this.
    pub fn reach_mm(&self) -> f64 {
        self.amplitude_mm
    }

    /// Heights in the resting patient that the image shows at height `z`: one, or two half and half.
    pub fn heights(&self, z: f64) -> ([f64; 2], usize) {
        let heights = [-0.5, 0.5].map(|turn| z - self.moved(z, turn * HALF_TURN_MM));
        if (heights[0] - heights[1]).abs() < 0.1 { ([0.5 * (heights[0] + heights[1]); 2], 1) } else { (heights, 2) }
    }

    /// Their mean: where in the resting patient the truth at height `z` lies.
    pub fn rest(&self, z: f64) -> f64 {
        z - 0.5 * (self.moved(z, -0.5 * HALF_TURN_MM) + self.moved(z, 0.5 * HALF_TURN_MM))
    }

    /// Where the image shows a point of the resting patient: the inverse of [`Breath::rest`], which rises everywhere as
    /// long as a breath is at most 15 mm deep.
    pub fn seen(&self, p: V3) -> V3 {
        let reach = self.amplitude_mm;
        let (mut low, mut high) = (p[2] - reach, p[2] + reach);
        for _ in 0..40 {
            let middle = 0.5 * (low + high);
            if self.rest(middle) < p[2] { low = middle } else { high = middle }
        }
        if reach == 0.0 { p } else { [p[0], p[1], 0.5 * (low + high)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Artefacts, CaseMix, Difficulty, Scene};

    fn breath(mm: f64) -> (Breath, Chest) {
        let chest = Scene::draw(&CaseMix::preset(Difficulty::Easy), 1).chest;
        let scanner = Scanner { artefacts: Artefacts { breath_mm: mm, ..Artefacts::NONE }, ..Scanner::small() };
        (Breath::new(&scanner, &chest, 5), chest)
    }

    #[test]
    fn a_held_breath_moves_nothing() {
        let (still, _) = breath(0.0);
        assert_eq!(still.heights(-100.0), ([-100.0; 2], 1));
        assert_eq!(still.seen([1.0, 2.0, -100.0]), [1.0, 2.0, -100.0]);
    }

    #[test]
    fn the_deepest_breath_folds_nothing_over_and_spares_the_apex() {
        let (deep, chest) = breath(15.0);
        let [low, high] = chest.lung_extent_z();
        let heights: Vec<f64> = (0..).map(|i| low - 40.0 + i as f64).take_while(|z| *z < high).collect();
        for pair in heights.windows(2) {
            assert!(deep.rest(pair[1]) > deep.rest(pair[0]), "folded at {} mm", pair[0]);
        }
        let travel = heights.iter().map(|z| (deep.rest(*z) - z).abs()).fold(0.0, f64::max);
        assert!((6.5..=7.5).contains(&travel), "half of 15 mm at the base, not {travel}");
        assert_eq!(deep.rest(high - 20.0), high - 20.0);
        for z in heights {
            let seen = deep.seen([0.0, 0.0, deep.rest(z)]);
            assert!((seen[2] - z).abs() < 1e-6);
        }
    }
}
