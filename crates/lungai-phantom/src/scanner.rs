//! How a scene is seen: sampling, blur, noise.

use crate::{ConfigError, Scene, require};
use lungai_ct::{Acquisition, Geometry, Spacing, WorldPoint};
use serde::{Deserialize, Serialize};

/// A scanner with its protocol. Complete: no field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scanner {
    /// DICOM Manufacturer.
    pub manufacturer: String,
    /// DICOM Manufacturer's Model Name.
    pub model: String,
    /// Columns and rows, 16..=1024.
    pub matrix: usize,
    /// Distance between pixel centres in mm, 0.3..=4.
    pub pixel_spacing_mm: f64,
    /// Distance between slice centres in mm, 0.3..=10.
    pub slice_spacing_mm: f64,
    /// Full width at half maximum of the slice profile in mm, 0.3..=10.
    pub slice_thickness_mm: f64,
    /// Distance from the lungs' lowest and highest point to the scan's ends in mm, -200..=100; negative cuts lung.
    pub coverage_margin_mm: f64,
    /// Centre of the image relative to the patient's midline, `[x, y]` in mm towards left and posterior, -100..=100.
    pub centre_mm: [f64; 2],
    /// Reconstruction kernel: blur in the plane and texture of the noise.
    pub kernel: Kernel,
    /// DICOM Convolution Kernel: the vendor's name for it.
    pub kernel_name: String,
    /// Tube voltage in kV; recorded only.
    pub tube_kv: f64,
    /// Tube current times exposure time in mAs, 1..=1000.
    pub exposure_mas: f64,
    /// Standard deviation of the noise in HU in the middle of the body at 100 mAs and 1 mm slices, 0..=200.
    pub noise_sd_hu: f64,
    /// Calibration error in HU, -50..=50.
    pub bias_hu: f64,
    /// What physics and the patient add; left out of a file, none.
    #[serde(default = "Artefacts::none", skip_serializing_if = "Artefacts::are_none")]
    pub artefacts: Artefacts,
}

/// Faults of real scans that are no noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefacts {
    /// HU lost in the middle of a nominal chest to the hardening of the beam, less towards the skin, 0..=40.
    pub cupping_hu: f64,
    /// HU lost between the shoulders of a nominal chest along the longest paths, less around other bone, 0..=100.
    pub band_hu: f64,
    /// Travel of the diaphragm during the scan in mm, 0..=15: 0 is a held breath.
    pub breath_mm: f64,
}

impl Artefacts {
    /// A perfect scanner and a patient who holds their breath.
    pub const NONE: Self = Self { cupping_hu: 0.0, band_hu: 0.0, breath_mm: 0.0 };

    fn none() -> Self {
        Self::NONE
    }

    fn are_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Reconstruction kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// Mediastinal: 1.4 mm blur, coarse noise.
    Soft,
    /// 1.0 mm blur.
    Standard,
    /// Lung or bone: 0.7 mm blur with edge enhancement, fine noise.
    Sharp,
}

/// What a kernel does, in the units of the patient.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KernelShape {
    /// Full width at half maximum of the point spread in mm.
    pub fwhm_mm: f64,
    /// Weight of the unsharp mask (point spread minus one 2.2 times as wide).
    pub enhancement: f64,
    /// Standard deviation in mm of the Gaussian that passes the noise.
    pub noise_low_mm: f64,
    /// Share of the Gaussian 2.5 times as wide that is taken off again: the ramp filter leaves little slow noise.
    pub noise_cut: f64,
}

impl KernelShape {
    /// No blur.
    pub const NONE: Self = Self { fwhm_mm: 0.0, enhancement: 0.0, noise_low_mm: 0.0, noise_cut: 0.0 };
}

impl Kernel {
    pub(crate) fn shape(self) -> KernelShape {
        match self {
            Self::Soft => KernelShape { fwhm_mm: 1.4, enhancement: 0.0, noise_low_mm: 0.75, noise_cut: 0.6 },
            Self::Standard => KernelShape { fwhm_mm: 1.0, enhancement: 0.0, noise_low_mm: 0.5, noise_cut: 0.7 },
            Self::Sharp => KernelShape { fwhm_mm: 0.7, enhancement: 0.35, noise_low_mm: 0.3, noise_cut: 0.8 },
        }
    }
}

impl Scanner {
    /// A low-dose screening protocol on the usual grid: 512 x 512 of 0.7 mm, slices of 1.25 mm.
    pub fn screening() -> Self {
        Self {
            manufacturer: "LungAI".into(),
            model: "Phantom".into(),
            matrix: 512,
            pixel_spacing_mm: 0.7,
            slice_spacing_mm: 1.25,
            slice_thickness_mm: 1.25,
            coverage_margin_mm: 12.0,
            centre_mm: [0.0, 0.0],
            kernel: Kernel::Standard,
            kernel_name: "STANDARD".into(),
            tube_kv: 120.0,
            exposure_mas: 40.0,
            noise_sd_hu: 22.0,
            bias_hu: 0.0,
            artefacts: Artefacts::NONE,
        }
    }

    /// As [`Scanner::screening`], but 256 x 256 of 1.4 mm and slices of 1.4 mm: a tenth of the voxels.
    pub fn small() -> Self {
        Self { matrix: 256, pixel_spacing_mm: 1.4, slice_spacing_mm: 1.4, slice_thickness_mm: 1.4, ..Self::screening() }
    }

    /// # Errors
    /// [`ConfigError`] names the first field out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        require((16..=1024).contains(&self.matrix), "matrix", self.matrix as f64, "within 16..=1024")?;
        for (field, mm, range) in [
            ("pixel_spacing_mm", self.pixel_spacing_mm, 0.3..=4.0),
            ("slice_spacing_mm", self.slice_spacing_mm, 0.3..=10.0),
            ("slice_thickness_mm", self.slice_thickness_mm, 0.3..=10.0),
        ] {
            require(range.contains(&mm), field, mm, "within 0.3..=10 (pixels 0.3..=4)")?;
        }
        let margin = self.coverage_margin_mm;
        require((-200.0..=100.0).contains(&margin), "coverage_margin_mm", margin, "within -200..=100")?;
        for at in self.centre_mm {
            require((-100.0..=100.0).contains(&at), "centre_mm", at, "within -100..=100")?;
        }
        require((1.0..=1000.0).contains(&self.exposure_mas), "exposure_mas", self.exposure_mas, "within 1..=1000")?;
        require((0.0..=200.0).contains(&self.noise_sd_hu), "noise_sd_hu", self.noise_sd_hu, "within 0..=200")?;
        require((-50.0..=50.0).contains(&self.bias_hu), "bias_hu", self.bias_hu, "within -50..=50")?;
        let Artefacts { cupping_hu, band_hu, breath_mm } = self.artefacts;
        require((0.0..=40.0).contains(&cupping_hu), "artefacts.cupping_hu", cupping_hu, "within 0..=40")?;
        require((0.0..=100.0).contains(&band_hu), "artefacts.band_hu", band_hu, "within 0..=100")?;
        require((0.0..=15.0).contains(&breath_mm), "artefacts.breath_mm", breath_mm, "within 0..=15")?;
        require(self.tube_kv.is_finite(), "tube_kv", self.tube_kv, "a number")
    }

    /// The grid on which this scanner sees the patient: axial, slices ascending towards the head.
    ///
    /// # Panics
    /// If [`Scanner::check`] refuses the scanner.
    pub fn geometry(&self, scene: &Scene) -> Geometry {
        let [low, high] = scene.chest.lung_extent_z();
        let length = (high - low + 2.0 * self.coverage_margin_mm).max(self.slice_spacing_mm);
        let slices = (length / self.slice_spacing_mm).ceil() as usize;
        let half = 0.5 * (self.matrix as f64 - 1.0) * self.pixel_spacing_mm;
        let z = 0.5 * (low + high) - 0.5 * (slices as f64 - 1.0) * self.slice_spacing_mm;
        let spacing = Spacing::new([self.slice_spacing_mm, self.pixel_spacing_mm, self.pixel_spacing_mm])
            .expect("the scanner was checked");
        let origin = WorldPoint([self.centre_mm[0] - half, self.centre_mm[1] - half, z]);
        Geometry::new([slices, self.matrix, self.matrix], spacing, origin, Geometry::AXIAL)
            .expect("the scanner was checked")
    }

    /// Standard deviation of the noise in HU in the middle of the body: proportional to one over the root of dose and of
    /// thickness, as counts of photons are.
    pub fn noise_at_centre_hu(&self) -> f64 {
        self.noise_sd_hu * (100.0 / self.exposure_mas).sqrt() / self.slice_thickness_mm.sqrt()
    }

    /// What a DICOM header would say.
    pub fn acquisition(&self) -> Acquisition {
        Acquisition {
            slice_thickness_mm: Some(self.slice_thickness_mm),
            kernel: Some(self.kernel_name.clone()),
            manufacturer: Some(self.manufacturer.clone()),
            model: Some(self.model.clone()),
            tube_kv: Some(self.tube_kv),
            exposure_mas: Some(self.exposure_mas),
            contrast: Some(false),
            padding_hu: None,
            padding_limit_hu: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_follows_dose_and_thickness() {
        let mut scanner = Scanner { exposure_mas: 100.0, slice_thickness_mm: 1.0, ..Scanner::screening() };
        assert_eq!(scanner.noise_at_centre_hu(), 22.0);
        scanner.exposure_mas = 25.0;
        assert_eq!(scanner.noise_at_centre_hu(), 44.0);
        scanner.slice_thickness_mm = 4.0;
        assert_eq!(scanner.noise_at_centre_hu(), 22.0);
    }

    #[test]
    fn the_shipped_scanners_are_valid_and_a_wrong_one_names_its_field() {
        assert_eq!(Scanner::screening().check(), Ok(()));
        assert_eq!(Scanner::small().check(), Ok(()));
        let wrong = Scanner { exposure_mas: 0.0, ..Scanner::small() };
        assert_eq!(wrong.check().unwrap_err().to_string(), "exposure_mas is 0; it must be within 1..=1000");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut value = serde_json::to_value(Scanner::small()).unwrap();
        assert!(serde_json::from_value::<Scanner>(value.clone()).is_ok());
        value["dose"] = 3.0.into();
        assert!(serde_json::from_value::<Scanner>(value).is_err());
    }
}
