//! The limits of the gate, which are data: `validation/quality.yaml`.

use serde::Deserialize;
use std::sync::LazyLock;

/// Two limits of one value.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Beyond it the value is reported.
    pub warn: Option<f64>,
    /// Beyond it the scan is not analysed.
    pub reject: Option<f64>,
}

/// Names of reconstruction kernels.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelNames {
    /// Whole names, in capitals.
    pub names: Vec<String>,
    /// Vendors' numbered families: letters before the number, lowest and highest number.
    pub families: Vec<(String, u32, u32)>,
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
    /// Upper, degrees.
    pub tilt_degrees: Limit,
    /// Upper, pairs.
    pub equal_neighbours: Limit,
    /// Upper, times.
    pub step_over_neighbours: Limit,
    /// Lower, ml.
    pub lung_volume_ml: Limit,
    /// Upper, cm2.
    pub cut_by_first_slice_cm2: Limit,
    /// Upper, cm2.
    pub cut_by_last_slice_cm2: Limit,
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
    /// Upper, HU.
    pub air_noise_hu: Limit,
    /// Upper, line pairs per mm.
    pub noise_frequency_per_mm: Limit,
    /// What counts as declared sharp.
    pub sharp_kernels: KernelNames,
    /// Upper, HU.
    pub blood_hu: Limit,
    /// Upper, mm.
    pub jump_mm: Limit,
    /// Upper, mm per mm.
    pub sway_mm_per_mm: Limit,
    /// Upper, share.
    pub uneven_pace: Limit,
    /// Upper, mm.
    pub edge_blur_mm: Limit,
    /// Upper, ml.
    pub metal_ml: Limit,
    /// Upper, cm2.
    pub padding_on_body_cm2: Limit,
}

/// The limits could not be read.
#[derive(Debug, thiserror::Error)]
#[error("quality limits: {0}")]
pub struct LimitsError(#[from] serde_yaml::Error);

static SHIPPED: LazyLock<Limits> = LazyLock::new(|| {
    Limits::from_yaml(include_str!("../../../../validation/quality.yaml")).expect("the shipped limits are tested")
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

impl KernelNames {
    /// Whether a DICOM Convolution Kernel is one of these: `BONEPLUS` by its name, `B70f\3` by family `B` and number 70.
    pub fn holds(&self, declared: &str) -> bool {
        let first = declared.split('\\').next().unwrap_or_default().trim().to_ascii_uppercase();
        if self.names.contains(&first) {
            return true;
        }
        let digits = first.find(|c: char| c.is_ascii_digit()).unwrap_or(first.len());
        let (letters, rest) = first.split_at(digits);
        let number = rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<u32>().ok());
        number.is_some_and(|number| {
            self.families.iter().any(|(family, low, high)| family == letters && (*low..=*high).contains(&number))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[test]
    fn limits_with_an_unknown_key_are_refused() {
        let text = include_str!("../../../../validation/quality.yaml");
        assert!(Limits::from_yaml(text).is_ok());
        let error = Limits::from_yaml(&text.replace("\nnoise_hu", "\nnose_hu")).unwrap_err();
        assert!(error.to_string().contains("nose_hu"), "{error}");
    }

    #[verifies("FR-002")]
    #[test]
    fn sharp_kernels_of_every_vendor_are_known_by_name_or_number() {
        let sharp = &Limits::shipped().sharp_kernels;
        for name in ["LUNG", "BONEPLUS", "Bone", "B70f", "B60s", "Bl64d\\3", "I70f\\2", "FC52", "FC86", "YC", "L"] {
            assert!(sharp.holds(name), "{name}");
        }
        for name in ["STANDARD", "SOFT", "B30f", "B45f", "Br40d\\3", "I31f\\3", "FC08", "FC18", "C", "B", "", "7"] {
            assert!(!sharp.holds(name), "{name}");
        }
    }
}
