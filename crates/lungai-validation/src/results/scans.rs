//! Figures of scans: lungs and seconds.

use super::spread::Spread;
use super::{Evaluation, Figure};
use crate::record::{ScanRecord, Seconds, Side};
use serde::Serialize;

/// Mean figures over scans with a reference mask.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Lungs {
    /// Right lung.
    pub dice_right: Figure,
    /// Left lung.
    pub dice_left: Figure,
    /// Larger of both sides, in mm.
    pub hd95_mm: Figure,
    /// Smaller of both sides.
    pub surface_dice: Figure,
}

/// 95th percentiles over scans, in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SecondsFigures {
    /// Lung segmentation.
    pub segment: Figure,
    /// Candidates.
    pub detect: Figure,
    /// Measurement and malignancy, for one mark.
    pub classify: Figure,
    /// Whole scan, where its files were read.
    pub total: Figure,
}

impl Evaluation<'_> {
    pub(super) fn lungs(&self) -> Lungs {
        Lungs {
            dice_right: self.mean_over_scans(&|r| Some(r.lungs?[0].dice)),
            dice_left: self.mean_over_scans(&|r| Some(r.lungs?[1].dice)),
            hd95_mm: self.mean_over_scans(&|r| {
                let [right, left] = r.lungs?;
                Some(right.hd95_mm?.max(left.hd95_mm?))
            }),
            surface_dice: self.mean_over_scans(&|r| {
                let [right, left] = r.lungs?;
                Some(right.surface_dice.min(left.surface_dice))
            }),
        }
    }

    pub(super) fn seconds(&self) -> SecondsFigures {
        SecondsFigures {
            segment: self.slow(&|r| Some(r.seconds?.segment)),
            detect: self.slow(&|r| Some(r.seconds?.detect)),
            classify: self.slow(&classify_seconds),
            total: self.slow(&|r| r.seconds?.total),
        }
    }

    /// Of each stage, in the order of processing, and of all; empty where nothing was measured.
    pub(super) fn times(&self) -> Vec<(&'static str, Spread)> {
        let spread = |name, of: fn(&Seconds) -> Option<f64>| {
            Some((name, Spread::of(self.records.iter().filter_map(|r| of(&r.seconds?)))?))
        };
        let stages = [
            spread("load", |s| s.load),
            spread("preprocess", |s| Some(s.preprocess)),
            spread("segment", |s| Some(s.segment)),
            spread("detect", |s| Some(s.detect)),
            spread("classify", |s| Some(s.classify)),
            spread("total", |s| s.total),
        ];
        stages.into_iter().flatten().collect()
    }

    /// Dice of the right and left lung, HD95 of the right and left lung.
    pub(super) fn lung_spread(&self) -> [Option<Spread>; 4] {
        let spread = |side: usize, of: fn(&Side) -> Option<f64>| {
            Spread::of(self.records.iter().filter_map(|r| of(&r.lungs?[side])))
        };
        [spread(0, |s| Some(s.dice)), spread(1, |s| Some(s.dice)), spread(0, |s| s.hd95_mm), spread(1, |s| s.hd95_mm)]
    }
}

/// Seconds of classification for one mark.
pub fn classify_seconds(r: &ScanRecord) -> Option<f64> {
    let classify = r.seconds?.classify;
    (!r.marks.is_empty()).then(|| classify / r.marks.len() as f64)
}
