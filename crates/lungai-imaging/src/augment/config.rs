//! How far draws may go, as data: a part that is absent is not applied.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What a draw may do. Every part has its own probability; `None` (the key absent) switches it off.
///
/// The functions named `random_…` give the six augmentations of the requirement's source one by one, and
/// [`AugmentConfig::and`] puts parts together.
///
/// Whatever is read is checked, see [`AugmentConfig::check`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")] // derives the reading, to which the checks are added below
pub struct AugmentConfig {
    /// Mirror images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip: Option<Flip>,
    /// Rotation about the middle of the patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Magnification about the middle of the patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<Shift>,
    /// Smooth, invertible deformation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
    /// Another reconstruction kernel: blurred or sharpened within the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelChange>,
    /// Quantum noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// Thicker slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thickness: Option<Thickness>,
    /// Change of HU differences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Offset of all HU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brightness: Option<Brightness>,
    /// Bent grey scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<Gamma>,
}

/// Mirror images. Along x the right lung becomes the left one, see [`super::Augmentation::lungs`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// Probability of mirroring along `[z, y, x]`, `0..=1` each.
    pub probability: [f64; 3],
}

/// Rotation about the patch's z-, then y-, then x-axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Largest angle either way about the axis along `[z, y, x]`, degrees, `0..=180`; uniform.
    pub max_deg: [f64; 3],
}

/// Magnification: one factor for all axes times a smaller one for each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Smallest and largest common magnification, `0.1..=10`, 1 = none; uniform in the logarithm.
    pub range: [f64; 2],
    /// Each axis is magnified further by up to this factor or its inverse, `1..=2`; 1 keeps shapes.
    pub anisotropy: f64,
}

/// Shift of the contents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Largest shift either way along `[z, y, x]`, mm, `0..=1000`; uniform.
    pub max_mm: [f64; 3],
}

/// Cubic B-spline displacement on a coarse lattice about the middle of the patch; it fades to zero outside the lattice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Control points along `[z, y, x]`, `1..=32` each. Together with `spacing_mm` they should span the patch.
    pub control: [usize; 3],
    /// Distance between control points along `[z, y, x]`, mm, `1..=1000`.
    pub spacing_mm: [f64; 3],
    /// Largest displacement of a control point along each axis, mm, `0..=` the least `spacing_mm`; uniform. A draw that
    /// would come near to folding tissue over is made weaker as a whole, see [`super::elastic`].
    pub amplitude_mm: f64,
}

/// `I + amount * (I - G I)` with a Gaussian `G` within the slice, as a softer or sharper kernel would show the image `I`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelChange {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Smallest and largest standard deviation of `G`, mm, within `0.05..=20`; uniform.
    pub sigma_mm: [f64; 2],
    /// Smallest and largest amount, within `-1..=5`: -1 is `G`'s blur, 0 changes nothing, above 0 sharpens; uniform.
    pub amount: [f64; 2],
}

/// Noise of a scan. The patch gets noise of standard deviation `sd_hu * sqrt(slice_mm / (dose * spacing))`, with
/// `spacing` the patch's own along z: photons are shared by dose and slice. A drawn [`Thickness`] averages it further.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Textures to choose from, one at least.
    pub kernels: Vec<NoiseKernel>,
    /// Smallest and largest standard deviation at dose 1 and slices of `slice_mm`, HU, within `0..=500`; uniform.
    pub sd_hu: [f64; 2],
    /// Smallest and largest relative dose, within `0.001..=1000`; uniform in the logarithm.
    pub dose: [f64; 2],
    /// Slice thickness for which `sd_hu` holds, mm, `0.05..=50`.
    pub slice_mm: f64,
}

/// Texture of noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoiseKernel {
    /// No kernel: white noise.
    #[serde(rename = "none")]
    White,
    /// Mediastinal: coarse noise.
    Soft,
    /// Between the two.
    Standard,
    /// Lung or bone: fine noise.
    Sharp,
}

/// Slices of a stated thickness, one beside the other, interpolated linearly back to the patch's grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thickness {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Smallest and largest thickness, mm, within `0.05..=50`; uniform. No effect up to the patch's own slice spacing.
    pub range_mm: [f64; 2],
    /// How a slice weighs what it holds.
    pub profile: Profile,
}

/// Slice sensitivity profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Even over the thickness.
    Box,
    /// Gaussian with the thickness as full width at half maximum.
    Gaussian,
}

/// `HU + 1000` times a factor: air stays, HU differences change. HU are calibrated, so keep the range small.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Smallest and largest factor, within `0.1..=10`, 1 = none; uniform.
    pub range: [f64; 2],
}

/// An offset of all HU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brightness {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Largest offset either way, HU, `0..=1000`; uniform.
    pub max_hu: f64,
}

/// `t -> t^exponent` where `t` is 0 at the lower and 1 at the upper end of a window; HU outside the window stay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gamma {
    /// Probability, `0..=1`.
    pub probability: f64,
    /// Smallest and largest exponent, within `0.1..=10`, 1 = none; uniform in the logarithm.
    pub range: [f64; 2],
    /// Lower and upper end, HU, within `-32768..=32767`.
    pub window_hu: [f64; 2],
}

/// Why a configuration or a recorded draw is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AugmentError {
    /// A number lies outside of its range.
    #[error("{field} is {value}, not within {least}..={most}")]
    Range {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: f64,
        /// Least allowed value.
        least: f64,
        /// Largest allowed value.
        most: f64,
    },
    /// A range whose ends are swapped.
    #[error("{field} is [{low}, {high}]: the first must not be above the second")]
    Order {
        /// Path of the field.
        field: String,
        /// First value.
        low: f64,
        /// Second value.
        high: f64,
    },
    /// A list without a choice.
    #[error("{field} is empty: it must name at least one")]
    Empty {
        /// Path of the field.
        field: String,
    },
    /// A recorded deformation that could fold tissue over.
    #[error("elastic: the steepest displacement may change by {steepness:.3} mm per mm, not more than 0.5")]
    Folds {
        /// Bound of the displacement's gradient, mm per mm.
        steepness: f64,
    },
}

impl Serialize for AugmentConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for AugmentConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = Self::deserialize(from)?;
        read.check().map_err(D::Error::custom)?;
        Ok(read)
    }
}

impl AugmentConfig {
    /// Nothing is changed.
    pub const NONE: Self = Self {
        flip: None,
        rotation: None,
        scale: None,
        shift: None,
        elastic: None,
        kernel: None,
        noise: None,
        thickness: None,
        contrast: None,
        brightness: None,
        gamma: None,
    };

    /// The source's `random_flip`: left and right change places, and so do the names of the lungs.
    pub fn random_flip(probability: f64) -> Self {
        Self { flip: Some(Flip { probability: [0.0, 0.0, probability] }), ..Self::NONE }
    }

    /// The source's `random_rotation`, within the slice; here points, boxes and masks turn as well. It uses 15 degrees.
    pub fn random_rotation(probability: f64, max_deg: f64) -> Self {
        Self { rotation: Some(Rotation { probability, max_deg: [max_deg, 0.0, 0.0] }), ..Self::NONE }
    }

    /// The source's `random_scale`; here points move and radii change as well. It uses 0.9 to 1.1.
    pub fn random_scale(probability: f64, range: [f64; 2]) -> Self {
        Self { scale: Some(Scale { probability, range, anisotropy: 1.0 }), ..Self::NONE }
    }

    /// The source's `random_noise`, with the texture of a reconstruction kernel instead of white noise.
    /// `sd_hu` is the largest standard deviation in slices of 1 mm.
    pub fn random_noise(probability: f64, sd_hu: f64) -> Self {
        let kernels = vec![NoiseKernel::Soft, NoiseKernel::Standard, NoiseKernel::Sharp];
        let noise = Noise { probability, kernels, sd_hu: [0.0, sd_hu], dose: [1.0, 1.0], slice_mm: 1.0 };
        Self { noise: Some(noise), ..Self::NONE }
    }

    /// The source's `random_contrast`, about air instead of the patch's mean, so that the same tissue gets the same HU in
    /// every patch. The source's 0.8 to 1.2 is far beyond what calibrated scanners differ by; 0.95 to 1.05 is not.
    pub fn random_contrast(probability: f64, range: [f64; 2]) -> Self {
        Self { contrast: Some(Contrast { probability, range }), ..Self::NONE }
    }

    /// The source's `random_brightness`, as an offset in HU and without clipping.
    pub fn random_brightness(probability: f64, max_hu: f64) -> Self {
        Self { brightness: Some(Brightness { probability, max_hu }), ..Self::NONE }
    }

    /// The parts of both; where both have one, that of `other`.
    pub fn and(self, other: Self) -> Self {
        Self {
            flip: other.flip.or(self.flip),
            rotation: other.rotation.or(self.rotation),
            scale: other.scale.or(self.scale),
            shift: other.shift.or(self.shift),
            elastic: other.elastic.or(self.elastic),
            kernel: other.kernel.or(self.kernel),
            noise: other.noise.or(self.noise),
            thickness: other.thickness.or(self.thickness),
            contrast: other.contrast.or(self.contrast),
            brightness: other.brightness.or(self.brightness),
            gamma: other.gamma.or(self.gamma),
        }
    }

    /// Ranges that the types do not express.
    ///
    /// # Errors
    /// [`AugmentError`] names the field, its value and the rule.
    pub fn check(&self) -> Result<(), AugmentError> {
        if let Some(flip) = &self.flip {
            each("flip.probability", flip.probability, 0.0, 1.0)?;
        }
        if let Some(rotation) = &self.rotation {
            within("rotation.probability", rotation.probability, 0.0, 1.0)?;
            each("rotation.max_deg", rotation.max_deg, 0.0, 180.0)?;
        }
        if let Some(scale) = &self.scale {
            within("scale.probability", scale.probability, 0.0, 1.0)?;
            range("scale.range", scale.range, 0.1, 10.0)?;
            within("scale.anisotropy", scale.anisotropy, 1.0, 2.0)?;
        }
        if let Some(shift) = &self.shift {
            within("shift.probability", shift.probability, 0.0, 1.0)?;
            each("shift.max_mm", shift.max_mm, 0.0, 1000.0)?;
        }
        if let Some(elastic) = &self.elastic {
            within("elastic.probability", elastic.probability, 0.0, 1.0)?;
            elastic_lattice(elastic.control, elastic.spacing_mm)?;
            let least = elastic.spacing_mm.into_iter().fold(f64::INFINITY, f64::min);
            within("elastic.amplitude_mm", elastic.amplitude_mm, 0.0, least)?;
        }
        if let Some(kernel) = &self.kernel {
            within("kernel.probability", kernel.probability, 0.0, 1.0)?;
            range("kernel.sigma_mm", kernel.sigma_mm, 0.05, 20.0)?;
            range("kernel.amount", kernel.amount, -1.0, 5.0)?;
        }
        if let Some(noise) = &self.noise {
            within("noise.probability", noise.probability, 0.0, 1.0)?;
            if noise.kernels.is_empty() {
                return Err(AugmentError::Empty { field: "noise.kernels".into() });
            }
            range("noise.sd_hu", noise.sd_hu, 0.0, 500.0)?;
            range("noise.dose", noise.dose, 0.001, 1000.0)?;
            within("noise.slice_mm", noise.slice_mm, 0.05, 50.0)?;
        }
        if let Some(thickness) = &self.thickness {
            within("thickness.probability", thickness.probability, 0.0, 1.0)?;
            range("thickness.range_mm", thickness.range_mm, 0.05, 50.0)?;
        }
        if let Some(contrast) = &self.contrast {
            within("contrast.probability", contrast.probability, 0.0, 1.0)?;
            range("contrast.range", contrast.range, 0.1, 10.0)?;
        }
        if let Some(brightness) = &self.brightness {
            within("brightness.probability", brightness.probability, 0.0, 1.0)?;
            within("brightness.max_hu", brightness.max_hu, 0.0, 1000.0)?;
        }
        if let Some(gamma) = &self.gamma {
            within("gamma.probability", gamma.probability, 0.0, 1.0)?;
            range("gamma.range", gamma.range, 0.1, 10.0)?;
            window("gamma.window_hu", gamma.window_hu)?;
        }
        Ok(())
    }
}

/// What the lattice of a configuration and of a record must keep.
pub(super) fn elastic_lattice(control: [usize; 3], spacing_mm: [f64; 3]) -> Result<(), AugmentError> {
    each("elastic.control", control.map(|n| n as f64), 1.0, 32.0)?;
    each("elastic.spacing_mm", spacing_mm, 1.0, 1000.0)
}

pub(super) fn within(field: &str, value: f64, least: f64, most: f64) -> Result<(), AugmentError> {
    // Not a number is in no range.
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(AugmentError::Range { field: field.into(), value, least, most })
}

pub(super) fn each(field: &str, values: [f64; 3], least: f64, most: f64) -> Result<(), AugmentError> {
    values
        .iter()
        .zip(["[z]", "[y]", "[x]"])
        .try_for_each(|(v, axis)| within(&format!("{field}{axis}"), *v, least, most))
}

fn range(field: &str, [low, high]: [f64; 2], least: f64, most: f64) -> Result<(), AugmentError> {
    within(field, low, least, most)?;
    within(field, high, least, most)?;
    if low > high {
        return Err(AugmentError::Order { field: field.into(), low, high });
    }
    Ok(())
}

/// A window has a width.
pub(super) fn window(field: &str, [low, high]: [f64; 2]) -> Result<(), AugmentError> {
    range(field, [low, high], -32768.0, 32767.0)?;
    within(&format!("the width of {field}"), high - low, 1.0, 65535.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    const FULL: &str = "
flip: {probability: [0, 0, 0.5]}
rotation: {probability: 1, max_deg: [20, 10, 10]}
scale: {probability: 0.5, range: [0.8, 1.25], anisotropy: 1.1}
shift: {probability: 1, max_mm: [3, 3, 3]}
elastic: {probability: 0.3, control: [7, 7, 7], spacing_mm: [21, 21, 21], amplitude_mm: 4}
kernel: {probability: 0.3, sigma_mm: [0.4, 1.2], amount: [-1, 1]}
noise: {probability: 0.5, kernels: [none, soft, standard, sharp], sd_hu: [5, 30], dose: [0.2, 1], slice_mm: 1}
thickness: {probability: 0.2, range_mm: [1.5, 5], profile: box}
contrast: {probability: 0.5, range: [0.95, 1.05]}
brightness: {probability: 0.5, max_hu: 20}
gamma: {probability: 0.2, range: [0.7, 1.4], window_hu: [-1200, 600]}
";

    #[verifies("FR-002")]
    #[test]
    fn a_configuration_is_data_and_survives_being_written() {
        let config: AugmentConfig = serde_yaml::from_str(FULL).unwrap();
        assert_eq!(config.noise.as_ref().unwrap().kernels[0], NoiseKernel::White);
        let written = serde_yaml::to_string(&config).unwrap();
        assert_eq!(serde_yaml::from_str::<AugmentConfig>(&written).unwrap(), config);
        assert_eq!(serde_yaml::from_str::<AugmentConfig>("{}").unwrap(), AugmentConfig::NONE);
    }

    #[verifies("FR-002")]
    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let refused = |from: &str, to: &str| {
            assert!(FULL.contains(from), "{from}");
            serde_yaml::from_str::<AugmentConfig>(&FULL.replace(from, to)).unwrap_err().to_string()
        };
        for (from, to, message) in [
            ("[0, 0, 0.5]", "[0, 0, 1.5]", "flip.probability[x] is 1.5, not within 0..=1"),
            ("[20, 10, 10]", "[20, -1, 10]", "rotation.max_deg[y] is -1, not within 0..=180"),
            ("[0.8, 1.25]", "[0.0, 1.25]", "scale.range is 0, not within 0.1..=10"),
            ("[0.8, 1.25]", "[1.25, 0.8]", "scale.range is [1.25, 0.8]: the first must not be above the second"),
            ("[0.2, 1]", "[.nan, 1]", "noise.dose is NaN, not within 0.001..=1000"),
            ("[none, soft, standard, sharp]", "[]", "noise.kernels is empty: it must name at least one"),
            ("amplitude_mm: 4", "amplitude_mm: 22", "elastic.amplitude_mm is 22, not within 0..=21"),
            ("[7, 7, 7]", "[7, 0, 7]", "elastic.control[y] is 0, not within 1..=32"),
            ("[-1200, 600]", "[600, 600]", "the width of gamma.window_hu is 0, not within 1..=65535"),
        ] {
            let error = refused(from, to);
            assert!(error.contains(message), "{error}");
        }
        let unknown = serde_yaml::from_str::<AugmentConfig>("rotate: {probability: 1}").unwrap_err().to_string();
        assert!(unknown.contains("unknown field `rotate`"), "{unknown}");
    }
}
