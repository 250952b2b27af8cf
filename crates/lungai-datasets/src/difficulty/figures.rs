//! The set beside published figures: tissues, sizes, kinds and numbers of nodules.

use crate::recipe::Recipe;
use lungai_ct::NoduleKind;
use lungai_imaging::morphology::{dilate_mm, erode_mm};
use lungai_phantom::Rendered;
use ndarray::Zip;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Published figures, each with its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// HU of the voxels of a lung.
    pub lung_hu: Percentiles,
    /// HU of lung vessels without contrast agent, lowest and highest.
    pub vessel_hu: Range,
    /// HU of muscle without contrast agent, lowest and highest.
    pub muscle_hu: Range,
    /// Diameters of nodules in mm.
    pub diameter_mm: Percentiles,
    /// Share of scans with 0, 1, 2, ... nodules, the last entry for as many and more.
    pub nodules_per_scan: Shares,
    /// Shares of solid, part-solid and ground-glass nodules; calcified ones count as solid.
    pub kinds: Shares,
}

/// A distribution by five of its percentiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Percentiles {
    /// The values below which 5, 25, 50, 75 and 95 % lie.
    pub at_5_25_50_75_95: [f64; 5],
    /// Where they come from.
    pub source: String,
}

/// A range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Lowest and highest.
    pub range: [f64; 2],
    /// Where it comes from.
    pub source: String,
}

/// A distribution over classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// One for each class; they are divided by their sum.
    pub shares: Vec<f64>,
    /// Where they come from.
    pub source: String,
}

/// A figure of the set beside its anchor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// What is compared.
    pub what: String,
    /// Of the set.
    pub here: Vec<f64>,
    /// Of the anchor.
    pub published: Vec<f64>,
    /// How far apart they are, and in which measure.
    pub distance: f64,
    /// The measure of `distance`.
    pub measure: &'static str,
    /// Where the anchor comes from.
    pub source: String,
}

const AT: [f64; 5] = [0.05, 0.25, 0.50, 0.75, 0.95];

/// HU of tissues, gathered over scans.
#[derive(Default)]
pub(super) struct Tissues {
    lung: Vec<f64>,
    vessel: Vec<f64>,
    muscle: Vec<f64>,
}

impl Tissues {
    /// Every so many voxels, so that a dozen scans stay small.
    const EVERY: usize = 37;

    pub fn add(&mut self, scan: &Rendered) {
        let (hu, spacing) = (scan.volume.hu(), scan.volume.geometry().spacing());
        let lungs = scan.lungs.labels().mapv(|label| label > 0);
        let inner = erode_mm(lungs.view(), spacing, 1.5);
        let sample = |mask: &ndarray::Array3<bool>, every: usize, into: &mut Vec<f64>| {
            let set = hu.iter().zip(mask).filter(|(_, set)| **set).step_by(every);
            into.extend(set.map(|(hu, _)| f64::from(*hu)));
        };
        sample(&inner, Self::EVERY, &mut self.lung);
        if let Some(vessels) = &scan.vessels {
            // Wide ones only, without the voxels that they share with lung.
            let vessels = vessels.labels().mapv(|label| label > 0);
            sample(&erode_mm(vessels.view(), spacing, 2.2), 1, &mut self.vessel);
        }
        // Between the ribs and around them: what lies within 25 mm of a lung on the side of the back, and within the window
        // that body-composition studies take muscle from, which leaves out fat and bone.
        let near = dilate_mm(lungs.view(), spacing, 25.0);
        let back = scan.volume.geometry();
        let mut muscle = Zip::from(&near).and(&lungs).map_collect(|near, lung| *near && !*lung);
        Zip::indexed(&mut muscle).and(hu).for_each(|(z, y, x), set, hu| {
            let behind = *set && back.centre_of(lungai_ct::VoxelIndex([z, y, x])).0[1] > 60.0;
            *set = behind && (-29..=150).contains(hu);
        });
        sample(&muscle, Self::EVERY, &mut self.muscle);
    }
}

pub(super) fn compare(recipe: &Recipe, anchors: &Anchors, tissues: &Tissues) -> Vec<Compared> {
    let patients: Vec<_> = recipe.patients().take(400).collect();
    let scenes: Vec<Vec<(f64, NoduleKind)>> = patients
        .par_iter()
        .map(|patient| patient.scene().nodules.iter().map(|n| (n.traits.diameter_mm, n.traits.kind)).collect())
        .collect();
    let diameters: Vec<f64> = scenes.iter().flatten().map(|n| n.0).collect();
    let share = |kinds: &[NoduleKind]| {
        scenes.iter().flatten().filter(|n| kinds.contains(&n.1)).count() as f64 / diameters.len().max(1) as f64
    };
    let kinds = vec![
        share(&[NoduleKind::Solid, NoduleKind::Calcified]),
        share(&[NoduleKind::PartSolid]),
        share(&[NoduleKind::GroundGlass]),
    ];
    let classes = anchors.nodules_per_scan.shares.len();
    let mut counts = vec![0.0; classes];
    for nodules in &scenes {
        counts[nodules.len().min(classes.saturating_sub(1))] += 1.0 / scenes.len() as f64;
    }
    vec![
        by_percentiles("lung, HU at 5, 25, 50, 75, 95 %", tissues.lung.clone(), &anchors.lung_hu),
        by_range("lung vessels of 5 mm and more, median HU", &tissues.vessel, &anchors.vessel_hu),
        by_range("muscle, median HU within -29 to 150", &tissues.muscle, &anchors.muscle_hu),
        by_percentiles("nodule diameters, mm at 5, 25, 50, 75, 95 %", diameters, &anchors.diameter_mm),
        by_shares("nodules per scan, shares of 0, 1, 2, ...", counts, &anchors.nodules_per_scan),
        by_shares("solid, part-solid, ground glass", kinds, &anchors.kinds),
    ]
}

/// Wasserstein's distance of the two distributions, each taken as linear between its percentiles: the mean distance of
/// percentiles, weighted by what lies between them.
fn by_percentiles(what: &str, mut values: Vec<f64>, anchor: &Percentiles) -> Compared {
    values.sort_by(f64::total_cmp);
    let here: Vec<f64> =
        AT.iter().map(|p| values.get((p * values.len() as f64) as usize).copied().unwrap_or(f64::NAN)).collect();
    let apart: Vec<f64> = here.iter().zip(anchor.at_5_25_50_75_95).map(|(a, b)| (a - b).abs()).collect();
    let between: f64 = apart.windows(2).zip(AT.windows(2)).map(|(d, p)| 0.5 * (d[0] + d[1]) * (p[1] - p[0])).sum();
    Compared {
        what: what.to_owned(),
        here,
        published: anchor.at_5_25_50_75_95.to_vec(),
        distance: between / 0.9,
        measure: "Wasserstein distance from the 5th to the 95th percentile",
        source: anchor.source.clone(),
    }
}

fn by_range(what: &str, values: &[f64], anchor: &Range) -> Compared {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let [low, high] = anchor.range;
    Compared {
        what: what.to_owned(),
        here: vec![median],
        published: anchor.range.to_vec(),
        distance: (low - median).max(median - high).max(0.0),
        measure: "HU outside of the range",
        source: anchor.source.clone(),
    }
}

/// Half of the sum of differences: the share that would have to be of another class.
fn by_shares(what: &str, here: Vec<f64>, anchor: &Shares) -> Compared {
    let sum: f64 = anchor.shares.iter().sum();
    let published: Vec<f64> = anchor.shares.iter().map(|share| share / sum).collect();
    let distance = 0.5 * here.iter().zip(&published).map(|(a, b)| (a - b).abs()).sum::<f64>();
    let (what, source) = (what.to_owned(), anchor.source.clone());
    Compared { what, here, published, distance, measure: "total variation distance", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        let anchor = Percentiles { at_5_25_50_75_95: [5.0, 25.0, 50.0, 75.0, 95.0], source: String::new() };
        let uniform: Vec<f64> = (0..1000).map(|i| 0.1 * f64::from(i)).collect();
        assert!(by_percentiles("", uniform.clone(), &anchor).distance < 1e-9);
        let shifted = uniform.iter().map(|v| v + 3.0).collect();
        assert!((by_percentiles("", shifted, &anchor).distance - 3.0).abs() < 1e-9);
        let anchor = Shares { shares: vec![3.0, 1.0], source: String::new() };
        assert_eq!(by_shares("", vec![0.5, 0.5], &anchor).distance, 0.25);
        let anchor = Range { range: [30.0, 50.0], source: String::new() };
        assert_eq!(by_range("", &[0.0, 25.0, 99.0], &anchor).distance, 5.0);
    }
}
