//! The image quality gate: is this a chest CT that the networks were made for?
//!
//! It measures, compares with limits that are data (`validation/quality.yaml`) and reports what lies beyond
//! them. What the reader of the files refuses already (uneven gaps, missing slices, tilt) never comes here.

use lungai_ct::{LabelMap, Lung, Scan};
use lungai_trace::implements;
use ndarray::{Axis, s};
use rayon::prelude::*;
use serde::Deserialize;
use std::sync::LazyLock;

/// What to do with a scan; the greater, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every measured value is within its limits.
    Accept,
    /// Analysed, with the findings on the result.
    Warn,
    /// Not analysed.
    Reject,
}

impl Verdict {
    /// `accept`, `warn` or `reject`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Warn => "warn",
            Self::Reject => "reject",
        }
    }
}

/// A value beyond a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityFinding {
    /// Stable name of the rule, in kebab case.
    pub rule: &'static str,
    /// What was measured.
    pub value: f64,
    /// The limit that it passed.
    pub limit: f64,
    /// Unit of both.
    pub unit: &'static str,
    /// [`Verdict::Warn`] or [`Verdict::Reject`].
    pub verdict: Verdict,
}

/// The gate's answer: the worst finding decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Worst verdict of the findings, [`Verdict::Accept`] without any.
    pub verdict: Verdict,
    /// Only what lies beyond a limit.
    pub findings: Vec<QualityFinding>,
}

/// Two limits of one value.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Beyond it the value is reported.
    pub warn: Option<f64>,
    /// Beyond it the scan is not analysed.
    pub reject: Option<f64>,
}

/// Every limit of the gate; units and reasons are in `validation/quality.yaml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Upper, mm.
    pub slice_distance_mm: Limit,
    /// Upper, mm.
    pub slice_thickness_mm: Limit,
    /// Upper, mm.
    pub in_plane_spacing_mm: Limit,
    /// Lower, ml.
    pub lung_volume_ml: Limit,
    /// Upper, cm2.
    pub cut_by_end_slices_cm2: Limit,
    /// Upper, cm2.
    pub cut_by_field_of_view_cm2: Limit,
    /// Upper, HU.
    pub darkest_hu: Limit,
    /// Lower, HU.
    pub brightest_hu: Limit,
    /// Lower, HU.
    pub tissue_over_lung_hu: Limit,
    /// Upper, HU.
    pub noise_hu: Limit,
}

/// The limits could not be read.
#[derive(Debug, thiserror::Error)]
#[error("quality limits: {0}")]
pub struct LimitsError(#[from] serde_yaml::Error);

static SHIPPED: LazyLock<Limits> = LazyLock::new(|| {
    Limits::from_yaml(include_str!("../../../validation/quality.yaml")).expect("the shipped limits are tested")
});

impl Limits {
    /// The limits of `validation/quality.yaml` at the time of the build.
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// # Errors
    /// [`LimitsError`] names the unknown or missing key and its line.
    pub fn from_yaml(text: &str) -> Result<Self, LimitsError> {
        Ok(serde_yaml::from_str(text)?)
    }
}

/// Measures `scan` against the shipped limits. `lungs` labels its lungs ([`crate::lungs::segment`] or a network's).
///
/// # Panics
/// If `lungs` is not on the scan's grid.
#[implements("FR-002")]
pub fn assess(scan: &Scan, lungs: &LabelMap) -> Quality {
    assess_with(scan, lungs, Limits::shipped())
}

/// [`assess`] against other limits.
///
/// # Panics
/// If `lungs` is not on the scan's grid.
pub fn assess_with(scan: &Scan, lungs: &LabelMap, limits: &Limits) -> Quality {
    assert_eq!(scan.volume.geometry(), lungs.geometry(), "lungs are labelled on the scan's grid");
    let mut gate = Gate::default();
    if scan.modality != "CT" {
        gate.findings.push(QualityFinding {
            rule: "not-ct",
            value: 1.0,
            limit: 0.0,
            unit: "other modality",
            verdict: Verdict::Reject,
        });
    }
    let axial = axial_axis(scan);
    let spacing = scan.volume.geometry().spacing().zyx_mm();
    let in_plane: Vec<usize> = (0..3).filter(|axis| *axis != axial).collect();
    gate.upper("slice-distance", spacing[axial], "mm", limits.slice_distance_mm);
    if let Some(thickness) = scan.acquisition.slice_thickness_mm.filter(|t| *t > 1.1 * spacing[axial]) {
        gate.upper("slice-thickness", thickness, "mm", limits.slice_thickness_mm);
    }
    gate.upper("in-plane-spacing", spacing[in_plane[0]].max(spacing[in_plane[1]]), "mm", limits.in_plane_spacing_mm);

    let histogram = Histogram::of(scan.volume.as_slice().par_iter().copied());
    gate.upper("hu-range", histogram.quantile(0.01), "HU", limits.darkest_hu);
    gate.lower("hu-range", histogram.quantile(0.95), "HU", limits.brightest_hu);

    let ml = [Lung::Right, Lung::Left].iter().map(|lung| lungs.volume_ml(*lung as u8)).sum::<f64>();
    let chest = gate.lower("not-a-chest", ml, "ml", limits.lung_volume_ml);
    if chest == Verdict::Reject {
        return gate.quality();
    }
    if let Some(small) = gate.findings.iter_mut().find(|f| f.rule == "not-a-chest") {
        small.rule = "lung-volume"; // little lung, but lung
    }
    gate.upper("lung-coverage", cut_cm2(lungs, axial), "cm2", limits.cut_by_end_slices_cm2);
    let sides = in_plane.iter().map(|axis| cut_cm2(lungs, *axis)).sum();
    gate.upper("field-of-view", sides, "cm2", limits.cut_by_field_of_view_cm2);

    let inside = Histogram::of(
        scan.volume.as_slice().par_iter().zip(lungs.as_slice()).filter(|(_, label)| **label > 0).map(|(hu, _)| *hu),
    );
    let tissue = Histogram::of(scan.volume.as_slice().par_iter().copied().filter(|hu| (-150..200).contains(hu)));
    if inside.count > 0 && tissue.count > 0 {
        gate.lower("contrast", tissue.quantile(0.5) - inside.quantile(0.5), "HU", limits.tissue_over_lung_hu);
    }
    if let Some(noise) = noise_hu(scan, axial) {
        gate.upper("noise", noise, "HU", limits.noise_hu);
    }
    gate.quality()
}

#[derive(Default)]
struct Gate {
    findings: Vec<QualityFinding>,
}

impl Gate {
    fn upper(&mut self, rule: &'static str, value: f64, unit: &'static str, limit: Limit) -> Verdict {
        self.judge(rule, value, unit, limit, |value, limit| value > limit)
    }

    fn lower(&mut self, rule: &'static str, value: f64, unit: &'static str, limit: Limit) -> Verdict {
        self.judge(rule, value, unit, limit, |value, limit| value < limit)
    }

    fn judge(
        &mut self,
        rule: &'static str,
        value: f64,
        unit: &'static str,
        limit: Limit,
        beyond: fn(f64, f64) -> bool,
    ) -> Verdict {
        for (limit, verdict) in [(limit.reject, Verdict::Reject), (limit.warn, Verdict::Warn)] {
            if let Some(limit) = limit.filter(|limit| beyond(value, *limit)) {
                self.findings.push(QualityFinding { rule, value, limit, unit, verdict });
                return verdict;
            }
        }
        Verdict::Accept
    }

    fn quality(self) -> Quality {
        let verdict = self.findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Accept);
        Quality { verdict, findings: self.findings }
    }
}

/// The array axis that runs along the patient.
fn axial_axis(scan: &Scan) -> usize {
    let direction = scan.volume.geometry().direction();
    (0..3).max_by(|a, b| direction[2 - a][2].abs().total_cmp(&direction[2 - b][2].abs())).unwrap_or(0)
}

/// Lung area on the first and the last plane along `axis`.
fn cut_cm2(lungs: &LabelMap, axis: usize) -> f64 {
    let labels = lungs.labels();
    let spacing = lungs.geometry().spacing();
    let pixel_cm2 = spacing.voxel_mm3() / spacing.zyx_mm()[axis] / 100.0;
    let last = labels.shape()[axis] - 1;
    let on = |index| labels.index_axis(Axis(axis), index).iter().filter(|l| **l > 0).count();
    (on(0) + if last > 0 { on(last) } else { 0 }) as f64 * pixel_cm2
}

/// Noise in soft tissue: standard deviations within squares of 5 x 5 voxels in the slice, of which the lower
/// quartile counts, since the others hold structure. `None` without tissue.
fn noise_hu(scan: &Scan, axial: usize) -> Option<f64> {
    let hu = scan.volume.hu();
    let mut deviations: Vec<f32> = (0..hu.shape()[axial])
        .into_par_iter()
        .flat_map_iter(|index| {
            let slice = hu.index_axis(Axis(axial), index);
            let (ny, nx) = slice.dim();
            let mut found = Vec::new();
            for y in (0..ny.saturating_sub(4)).step_by(5) {
                for x in (0..nx.saturating_sub(4)).step_by(5) {
                    let square = slice.slice(s![y..y + 5, x..x + 5]);
                    let mean = square.iter().map(|v| f32::from(*v)).sum::<f32>() / 25.0;
                    if (-20.0..120.0).contains(&mean) {
                        let variance = square.iter().map(|v| (f32::from(*v) - mean).powi(2)).sum::<f32>() / 24.0;
                        found.push(variance.sqrt());
                    }
                }
            }
            found
        })
        .collect();
    if deviations.len() < 20 {
        return None;
    }
    deviations.sort_by(f32::total_cmp);
    Some(f64::from(deviations[deviations.len() / 4]))
}

/// Counts per HU.
struct Histogram {
    counts: Vec<u64>,
    count: u64,
}

impl Histogram {
    fn of(values: impl ParallelIterator<Item = i16>) -> Self {
        let zero = || vec![0u64; 1 << 16];
        let counts = values
            .fold(zero, |mut counts, hu| {
                counts[(i32::from(hu) + 32768) as usize] += 1;
                counts
            })
            .reduce(zero, |mut a, b| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                a
            });
        let count = counts.iter().sum();
        Self { counts, count }
    }

    /// Smallest HU that at least this share of the values does not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= wanted {
                return i as f64 - 32768.0;
            }
        }
        f64::from(i16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Chest, box_grid, grid};
    use lungai_ct::{Acquisition, Geometry, Volume};
    use lungai_trace::verifies;
    use ndarray::Array3;

    fn scan(volume: Volume) -> Scan {
        Scan {
            series_uid: "1.2.3".into(),
            study_uid: None,
            frame_of_reference_uid: None,
            patient_id: None,
            modality: "CT".into(),
            transfer_syntax: "nifti".into(),
            acquisition: Acquisition::default(),
            volume,
        }
    }

    fn chest(grid: &Geometry) -> (Scan, LabelMap) {
        (scan(Chest::plain().render(grid)), Chest::plain().lungs(grid))
    }

    fn rules(quality: &Quality, verdict: Verdict) -> Vec<&'static str> {
        quality.findings.iter().filter(|f| f.verdict == verdict).map(|f| f.rule).collect()
    }

    #[verifies("FR-002")]
    #[test]
    fn a_thin_whole_chest_is_accepted() {
        let (scan, lungs) = chest(&grid([1.5, 1.0, 1.0]));
        assert_eq!(assess(&scan, &lungs), Quality { verdict: Verdict::Accept, findings: vec![] });
    }

    #[verifies("FR-002")]
    #[test]
    fn slice_distance_warns_then_rejects_with_value_and_limit() {
        let (thick, lungs) = chest(&grid([2.0, 1.0, 1.0]));
        let quality = assess(&thick, &lungs);
        assert_eq!(rules(&quality, Verdict::Warn), ["slice-distance"]);
        assert_eq!((quality.findings[0].value, quality.findings[0].limit, quality.findings[0].unit), (2.0, 1.5, "mm"));
        let (thick, lungs) = chest(&grid([4.0, 1.0, 1.0]));
        assert_eq!(rules(&assess(&thick, &lungs), Verdict::Reject), ["slice-distance"]);
    }

    #[verifies("FR-002")]
    #[test]
    fn thick_overlapping_slices_are_reported() {
        let (mut scan, lungs) = chest(&grid([1.5, 1.0, 1.0]));
        scan.acquisition.slice_thickness_mm = Some(2.0);
        assert_eq!(rules(&assess(&scan, &lungs), Verdict::Warn), ["slice-thickness"]);
        scan.acquisition.slice_thickness_mm = Some(1.5);
        assert_eq!(assess(&scan, &lungs).verdict, Verdict::Accept);
    }

    #[verifies("FR-002")]
    #[test]
    fn cut_lungs_are_reported_by_where_they_are_cut() {
        let (upper, lungs) = chest(&box_grid([1.5, 1.0, 1.0], [-150.0, -105.0, 0.0], [150.0, 135.0, 140.0]));
        assert_eq!(rules(&assess(&upper, &lungs), Verdict::Warn), ["lung-coverage"]);
        let (narrow, lungs) = chest(&box_grid([1.5, 1.0, 1.0], [-100.0, -105.0, -140.0], [100.0, 100.0, 140.0]));
        assert_eq!(rules(&assess(&narrow, &lungs), Verdict::Warn), ["field-of-view"]);
    }

    #[verifies("FR-002")]
    #[test]
    fn what_is_no_chest_is_rejected() {
        let (mut scan, lungs) = chest(&box_grid([1.5, 1.0, 1.0], [-150.0, -105.0, -250.0], [150.0, 135.0, -130.0]));
        assert_eq!(rules(&assess(&scan, &lungs), Verdict::Reject), ["not-a-chest"]);
        scan.modality = "MR".into();
        assert!(rules(&assess(&scan, &lungs), Verdict::Reject).contains(&"not-ct"));
    }

    #[verifies("FR-002")]
    #[test]
    fn stored_values_without_rescale_are_rejected() {
        let (chest, lungs) = chest(&grid([1.5, 2.0, 2.0]));
        let shifted = Volume::new(chest.volume.hu().mapv(|hu| hu + 1024), chest.volume.geometry().clone()).unwrap();
        assert!(rules(&assess(&scan(shifted), &lungs), Verdict::Reject).contains(&"hu-range"));
    }

    #[verifies("FR-002")]
    #[test]
    fn noise_is_measured_in_tissue() {
        let grid = grid([1.5, 1.0, 1.0]);
        let (clean, lungs) = chest(&grid);
        let measured = noise_hu(&clean, 0).unwrap();
        assert!((measured - 14.7).abs() < 3.0, "{measured}"); // uniform on 51 values: sqrt((51^2 - 1) / 12)
        let mut state = 7u64;
        let noisy: Array3<i16> = clean.volume.hu().mapv(|hu| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            hu + ((state >> 40) % 401) as i16 - 200 // standard deviation 116
        });
        let quality = assess(&scan(Volume::new(noisy, grid).unwrap()), &lungs);
        assert_eq!(rules(&quality, Verdict::Warn), ["noise"]);
    }

    #[test]
    fn limits_with_an_unknown_key_are_refused() {
        let text = include_str!("../../../validation/quality.yaml");
        assert!(Limits::from_yaml(text).is_ok());
        let error = Limits::from_yaml(&text.replace("noise_hu", "nose_hu")).unwrap_err();
        assert!(error.to_string().contains("nose_hu"), "{error}");
    }
}
