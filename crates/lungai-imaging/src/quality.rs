//! The image quality gate: is this a chest CT that the networks were made for?
//!
//! It measures, compares with limits that are data (`validation/quality.yaml`) and reports what lies beyond
//! them. A DICOM series with uneven, missing or doubled slices or a tilted gantry never comes here: its reader refuses it
//! by that name. Formats without slice positions hide such faults; here their voxels tell.

mod blood;
mod coverage;
mod edges;
mod foreign;
mod limits;
mod noise;
mod slices;

pub use limits::{KernelNames, Limit, Limits, LimitsError};

use crate::orient::{axial, axial_labels};
use lungai_ct::{Acquisition, LabelMap, Scan, Volume};
use lungai_trace::implements;
use rayon::prelude::*;
use std::ops::RangeInclusive;

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

/// What it means for a scan to break `rule`, in a sentence; empty for an unknown rule.
pub fn meaning(rule: &str) -> &'static str {
    match rule {
        "not-ct" => "the header says another modality",
        "slice-distance" => "small nodules may lie between slices",
        "slice-thickness" => "small nodules are blurred by thick slices",
        "in-plane-spacing" => "pixels are large for small nodules",
        "tilt" => "slices lean against the patient's long axis",
        "duplicate-slices" => "neighbouring slices are equal: positions behind them are wrong",
        "missing-slices" => "two neighbours differ as if slices between them were left out",
        "not-a-chest" => "too little lung for a chest CT",
        "lung-volume" => "little lung: part of it may be missing or collapsed",
        "lung-base-missing" => "the lowest slice still shows lung: the scan does not reach its base",
        "lung-apex-missing" => "the highest slice still shows lung: the scan does not reach its apex",
        "field-of-view" => "lung is cut off at the sides of the image",
        "padding" => "voxels that were not measured touch the body",
        "hu-range" => "values are not those of a chest in HU: is the rescale missing?",
        "tissue-over-lung" => "lung and soft tissue differ too little for HU, or the lung is not aerated",
        "contrast-agent" => "contrast agent in heart and vessels",
        "noise" => "soft tissue is noisier than a low-dose scan",
        "noise-in-air" => "air is noisier than in a low-dose scan",
        "kernel" => "a sharp kernel for lung or bone: edges and noise are enhanced",
        "motion" => "slices are shifted or doubled as by breathing or heartbeat",
        "metal" => "metal, whose streaks may hide or feign nodules",
        _ => "",
    }
}

/// A value that a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The rule's stable name; several values may serve one rule.
    pub rule: &'static str,
    /// What was measured.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// The gate's answer: the worst finding decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Worst verdict of the findings, [`Verdict::Accept`] without any.
    pub verdict: Verdict,
    /// Only what lies beyond a limit.
    pub findings: Vec<QualityFinding>,
    /// Everything that was measured.
    pub measured: Vec<Measured>,
}

/// Measures `scan` against the shipped limits. `lungs` labels its lungs ([`crate::lungs::segment`] or a network's).
///
/// # Panics
/// If `lungs` is not on the scan's grid.
#[implements("FR-002", "SW-202")]
pub fn assess(scan: &Scan, lungs: &LabelMap) -> Quality {
    assert_eq!(scan.volume.geometry(), lungs.geometry(), "lungs are labelled on the scan's grid");
    let limits = Limits::shipped();
    let mut gate = Gate::default();
    let other_modality = f64::from(u8::from(scan.modality != "CT"));
    gate.upper("not-ct", other_modality, "other modality", Limit { warn: None, reject: Some(0.0) });
    let (volume, lungs) = (axial(&scan.volume), axial_labels(lungs));
    let acquisition = &scan.acquisition;

    let [slice_mm, row_mm, column_mm] = volume.geometry().spacing().zyx_mm();
    gate.upper("slice-distance", slice_mm, "mm", limits.slice_distance_mm);
    if let Some(thickness) = acquisition.slice_thickness_mm {
        gate.upper("slice-thickness", thickness, "mm", limits.slice_thickness_mm);
    }
    gate.upper("in-plane-spacing", row_mm.max(column_mm), "mm", limits.in_plane_spacing_mm);
    gate.upper("tilt", tilt_degrees(&volume), "degrees", limits.tilt_degrees);

    let (all, in_lungs) = Histogram::of(&volume, &lungs);
    gate.upper("hu-range", all.quantile(0.01, ANY_HU), "HU", limits.darkest_hu);
    gate.lower("hu-range", all.quantile(0.95, ANY_HU), "HU", limits.brightest_hu);

    let patient = foreign::Patient::of(&volume, &lungs);
    gate.upper("metal", patient.metal_ml(&volume), "ml", limits.metal_ml);
    gate.upper(
        "padding",
        patient.padding_cm2(declared_padding(acquisition).as_ref()),
        "cm2",
        limits.padding_on_body_cm2,
    );

    let ml = in_lungs.count(ANY_HU) as f64 * volume.geometry().spacing().voxel_mm3() / 1000.0;
    if gate.lower("not-a-chest", ml, "ml", Limit { warn: None, ..limits.lung_volume_ml }) == Verdict::Reject {
        return gate.quality();
    }
    gate.lower("lung-volume", ml, "ml", Limit { reject: None, ..limits.lung_volume_ml });
    let [first, last] = coverage::cut_cm2(&volume, &lungs, 0);
    gate.upper("lung-base-missing", first, "cm2", limits.cut_by_first_slice_cm2);
    gate.upper("lung-apex-missing", last, "cm2", limits.cut_by_last_slice_cm2);
    let sides = [1, 2].map(|axis| coverage::cut_cm2(&volume, &lungs, axis).iter().sum::<f64>());
    gate.upper("field-of-view", sides[0] + sides[1], "cm2", limits.cut_by_field_of_view_cm2);

    let difference = all.quantile(0.5, -150..=199) - in_lungs.quantile(0.5, ANY_HU);
    gate.lower("tissue-over-lung", difference, "HU", limits.tissue_over_lung_hu);

    let noise = noise::noise(&volume, &lungs);
    if let Some(hu) = noise.tissue_hu {
        gate.upper("noise", hu, "HU", limits.noise_hu);
    }
    if let Some(hu) = noise.air_hu {
        gate.upper("noise-in-air", hu, "HU", limits.air_noise_hu);
    }
    // Where even white noise stays below the limit, the pixels hide what a sharp kernel adds.
    let told_by_noise = limits.noise_frequency_per_mm.warn.is_none_or(|limit| noise::white_per_mm(&volume) > limit);
    if let Some(frequency) = noise.frequency_per_mm.filter(|_| told_by_noise) {
        gate.upper("kernel", frequency, "line pairs per mm", limits.noise_frequency_per_mm);
    }
    if let Some(kernel) = &acquisition.kernel {
        let sharp = f64::from(u8::from(limits.sharp_kernels.holds(kernel)));
        gate.upper("kernel", sharp, "declared sharp", Limit { warn: Some(0.0), reject: None });
    }
    if let Some(hu) = blood::blood_hu(&volume, &lungs) {
        gate.upper("contrast-agent", hu, "HU", limits.blood_hu);
    }
    if let Some(declared) = acquisition.contrast {
        let declared = f64::from(u8::from(declared));
        gate.upper("contrast-agent", declared, "declared", Limit { warn: Some(0.0), reject: None });
    }

    gate.upper("duplicate-slices", slices::equal_neighbours(&volume) as f64, "pairs", limits.equal_neighbours);
    if let Some(steps) = slices::steps(&volume, &lungs) {
        // A reader that saw the position of every slice refused gaps. From one thick slice to the next anatomy changes as
        // much as over a gap.
        if !scan.has_slice_positions() && slice_mm <= 3.0 {
            gate.upper("missing-slices", steps.largest, "times its neighbours", limits.step_over_neighbours);
        }
        gate.upper("motion", steps.jump_mm, "mm jump", limits.jump_mm);
        gate.upper("motion", steps.sway, "mm sway per mm", limits.sway_mm_per_mm);
        gate.upper("motion", steps.pace, "share of uneven pace", limits.uneven_pace);
    }
    if let Some(blur) = edges::blur_mm(&volume, &lungs) {
        gate.upper("motion", blur, "mm blur", limits.edge_blur_mm);
    }
    gate.quality()
}

/// The HU that the source declares as padding: from Pixel Padding Value to Pixel Padding Range Limit, whichever is higher
/// (DICOM PS3.3 C.7.5.1.1.2).
fn declared_padding(acquisition: &Acquisition) -> Option<RangeInclusive<i16>> {
    let value = acquisition.padding_hu?;
    let limit = acquisition.padding_limit_hu.unwrap_or(value);
    Some(value.min(limit)..=value.max(limit))
}

/// Angle between the slices' normal and the patient's long axis.
fn tilt_degrees(volume: &Volume) -> f64 {
    volume.geometry().direction()[2][2].abs().min(1.0).acos().to_degrees()
}

#[derive(Default)]
struct Gate {
    findings: Vec<QualityFinding>,
    measured: Vec<Measured>,
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
        self.measured.push(Measured { rule, value, unit });
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
        Quality { verdict, findings: self.findings, measured: self.measured }
    }
}

const ANY_HU: RangeInclusive<i16> = i16::MIN..=i16::MAX;

/// Counts per HU.
struct Histogram(Vec<u64>);

impl Histogram {
    /// Of all voxels, and of those with a label.
    fn of(volume: &Volume, labels: &LabelMap) -> (Self, Self) {
        let zero = || (Self(vec![0; 1 << 16]), Self(vec![0; 1 << 16]));
        let place = |hu: i16| (i32::from(hu) - i32::from(i16::MIN)) as usize;
        // Few parts: each has its own counts.
        let part = volume.as_slice().len().div_ceil(4 * rayon::current_num_threads());
        volume
            .as_slice()
            .par_chunks(part)
            .zip(labels.as_slice().par_chunks(part))
            .map(|(hu, labels)| {
                let (mut all, mut labelled) = zero();
                for (hu, label) in hu.iter().zip(labels) {
                    all.0[place(*hu)] += 1;
                    labelled.0[place(*hu)] += u64::from(*label > 0);
                }
                (all, labelled)
            })
            .reduce(zero, |mut a, b| {
                for (a, b) in [(&mut a.0, b.0), (&mut a.1, b.1)] {
                    a.0.iter_mut().zip(b.0).for_each(|(a, b)| *a += b);
                }
                a
            })
    }

    fn within(&self, range: &RangeInclusive<i16>) -> &[u64] {
        let place = |hu: &i16| (i32::from(*hu) - i32::from(i16::MIN)) as usize;
        &self.0[place(range.start())..=place(range.end())]
    }

    fn count(&self, range: RangeInclusive<i16>) -> u64 {
        self.within(&range).iter().sum()
    }

    /// Smallest HU that at least this share of the values within `range` does not exceed; the range's end without any.
    fn quantile(&self, share: f64, range: RangeInclusive<i16>) -> f64 {
        let count = self.count(range.clone());
        let wanted = (share * count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (hu, n) in range.clone().zip(self.within(&range)) {
            seen += n;
            if seen >= wanted {
                return f64::from(hu);
            }
        }
        f64::from(*range.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Chest, box_grid, grid};
    use lungai_ct::{Geometry, Spacing, WorldPoint};
    use lungai_trace::verifies;
    use ndarray::{Axis, s};

    fn scan(volume: Volume) -> Scan {
        Scan::of_image("1.2.3", "nifti", volume)
    }

    fn chest(grid: &Geometry) -> (Scan, LabelMap) {
        (scan(Chest::plain().render(grid)), Chest::plain().lungs(grid))
    }

    fn rules(quality: &Quality, verdict: Verdict) -> Vec<&'static str> {
        quality.findings.iter().filter(|f| f.verdict == verdict).map(|f| f.rule).collect()
    }

    #[verifies("FR-002")]
    #[test]
    fn a_thin_whole_chest_is_accepted_with_every_value_measured() {
        let (scan, lungs) = chest(&grid([1.5, 1.0, 1.0]));
        let quality = assess(&scan, &lungs);
        assert_eq!((quality.verdict, &quality.findings[..]), (Verdict::Accept, &[][..]));
        let value = |rule: &str| quality.measured.iter().find(|m| m.rule == rule).map(|m| (m.value, m.unit));
        assert_eq!(value("slice-distance"), Some((1.5, "mm")));
        assert_eq!(value("lung-apex-missing"), Some((0.0, "cm2")));
        assert_eq!(value("metal"), Some((0.0, "ml")));
        assert_eq!(value("slice-thickness"), None); // not declared
    }

    #[verifies("FR-002", "SW-202", "R-001", "R-007")]
    #[test]
    fn slice_distance_warns_then_rejects_with_value_and_limit() {
        let (thick, lungs) = chest(&grid([2.0, 1.0, 1.0]));
        let quality = assess(&thick, &lungs);
        assert_eq!(rules(&quality, Verdict::Warn), ["slice-distance"]);
        assert_eq!((quality.findings[0].value, quality.findings[0].limit, quality.findings[0].unit), (2.0, 1.5, "mm"));
        let (thick, lungs) = chest(&grid([4.0, 1.0, 1.0]));
        assert_eq!(rules(&assess(&thick, &lungs), Verdict::Reject), ["slice-distance"]);
    }

    #[verifies("FR-002", "SW-202")]
    #[test]
    fn what_the_scanner_declares_is_reported() {
        let (plain, lungs) = chest(&grid([1.5, 1.0, 1.0]));
        let with = |change: fn(&mut Acquisition)| {
            let mut scan = plain.clone();
            change(&mut scan.acquisition);
            rules(&assess(&scan, &lungs), Verdict::Warn)
        };
        assert_eq!(with(|a| a.slice_thickness_mm = Some(2.0)), ["slice-thickness"]);
        assert_eq!(with(|a| a.kernel = Some("B70f".into())), ["kernel"]);
        assert_eq!(with(|a| a.contrast = Some(true)), ["contrast-agent"]);
        let harmless = |a: &mut Acquisition| {
            (a.slice_thickness_mm, a.kernel, a.contrast) = (Some(1.5), Some("unheard of".into()), Some(false));
        };
        assert_eq!(with(harmless), [""; 0]);
    }

    #[verifies("FR-002")]
    #[test]
    fn cut_lungs_are_reported_by_where_they_are_cut() {
        // The toy's bronchi end within a slice, which may look like a gap: only what is said of the lungs' ends counts.
        let ends = |low: f64, high: f64| {
            let (part, lungs) = chest(&box_grid([1.5, 1.0, 1.0], [-150.0, -105.0, low], [150.0, 135.0, high]));
            let mut said = rules(&assess(&part, &lungs), Verdict::Warn);
            said.retain(|rule| rule.starts_with("lung-"));
            said
        };
        assert_eq!(ends(0.0, 140.0), ["lung-base-missing"]);
        assert_eq!(ends(-140.0, 0.0), ["lung-apex-missing"]);
        assert_eq!(ends(-60.0, 60.0), ["lung-base-missing", "lung-apex-missing"]);
        let (narrow, lungs) = chest(&box_grid([1.5, 1.0, 1.0], [-100.0, -105.0, -140.0], [100.0, 100.0, 140.0]));
        assert_eq!(rules(&assess(&narrow, &lungs), Verdict::Warn), ["field-of-view"]);
    }

    #[verifies("FR-002")]
    #[test]
    fn the_order_of_the_axes_does_not_change_what_is_measured() {
        let axial_grid = box_grid([1.5, 1.0, 1.0], [-150.0, -105.0, 0.0], [150.0, 135.0, 140.0]);
        let (upright, lungs) = chest(&axial_grid);
        // The same voxels listed from the head down and from left to right.
        let mut hu = upright.volume.hu().to_owned();
        let mut labels = lungs.labels().to_owned();
        for axis in [0, 2] {
            hu.invert_axis(Axis(axis));
            labels.invert_axis(Axis(axis));
        }
        let [nz, ny, nx] = axial_grid.size();
        let origin = WorldPoint([-150.0 + (nx - 1) as f64, -105.0, 1.5 * (nz - 1) as f64]);
        let direction = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
        let turned = Geometry::new([nz, ny, nx], axial_grid.spacing(), origin, direction).unwrap();
        let turned_scan = scan(Volume::new(hu, turned.clone()).unwrap());
        assert_eq!(assess(&turned_scan, &LabelMap::new(labels, turned).unwrap()), assess(&upright, &lungs));
    }

    #[verifies("FR-002")]
    #[test]
    fn gaps_are_looked_for_where_no_slice_position_rules_them_out() {
        let (mut scan, lungs) = chest(&grid([2.0, 2.0, 2.0]));
        let looked = |scan: &Scan| assess(scan, &lungs).measured.iter().any(|m| m.rule == "missing-slices");
        assert!(looked(&scan));
        scan.transfer_syntax = "1.2.840.10008.1.2.1".into();
        assert!(!looked(&scan));
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (scan, lungs) = chest(&grid([2.0, 2.0, 2.0]));
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| assess(&scan, &lungs))
        };
        assert_eq!(with(1), with(3));
    }

    #[verifies("FR-002")]
    #[test]
    fn a_tilted_stack_is_reported() {
        let (sin, cos) = 10f64.to_radians().sin_cos();
        let direction = [[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]];
        let spacing = Spacing::new([1.0; 3]).unwrap();
        let grid = Geometry::new([4, 4, 4], spacing, WorldPoint([0.0; 3]), direction).unwrap();
        let volume = Volume::new(ndarray::Array3::zeros((4, 4, 4)), grid).unwrap();
        assert!((tilt_degrees(&volume) - 10.0).abs() < 1e-9);
    }

    #[verifies("FR-002")]
    #[test]
    fn a_doubled_slice_is_rejected() {
        let (plain, lungs) = chest(&grid([1.5, 2.0, 2.0]));
        let mut hu = plain.volume.hu().to_owned();
        let copy = hu.slice(s![80, .., ..]).to_owned();
        hu.slice_mut(s![81, .., ..]).assign(&copy);
        let doubled = scan(Volume::new(hu, lungs.geometry().clone()).unwrap());
        assert_eq!(rules(&assess(&doubled, &lungs), Verdict::Reject), ["duplicate-slices"]);
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
    fn the_noise_tells_of_the_kernel_where_the_pixels_can_show_it() {
        // The toy's noise is white: 0.25 line pairs per pixel, so 0.36 per mm on 0.7 mm and 0.32 on 0.78 mm.
        let said = |pixel_mm: f64| {
            let ends = ([-150.0, -105.0, -60.0], [150.0, 135.0, 60.0]);
            let (scan, lungs) = chest(&box_grid([10.0, pixel_mm, pixel_mm], ends.0, ends.1));
            let quality = assess(&scan, &lungs);
            let measured = quality.measured.iter().any(|m| m.rule == "kernel");
            (measured, rules(&quality, Verdict::Warn).contains(&"kernel"))
        };
        assert_eq!(said(0.7), (true, true));
        assert_eq!(said(0.78), (false, false));
    }

    #[verifies("FR-002", "R-002")]
    #[test]
    fn noise_is_reported() {
        let grid = grid([1.5, 1.0, 1.0]);
        let (clean, lungs) = chest(&grid);
        let mut state = 7u64;
        let noisy = clean.volume.hu().mapv(|hu| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            hu + ((state >> 40) % 401) as i16 - 200 // standard deviation 116
        });
        let quality = assess(&scan(Volume::new(noisy, grid).unwrap()), &lungs);
        let found = rules(&quality, Verdict::Warn);
        assert!(found.contains(&"noise") && found.contains(&"noise-in-air"), "{found:?}");
    }
}
