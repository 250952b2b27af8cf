//! A CT series as it came from a scanner.

use crate::Volume;

/// How a series was acquired; what the source does not state is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Acquisition {
    /// DICOM Slice Thickness in mm. Not the slice distance: that is in the geometry.
    pub slice_thickness_mm: Option<f64>,
    /// DICOM Convolution Kernel.
    pub kernel: Option<String>,
    /// DICOM Manufacturer.
    pub manufacturer: Option<String>,
    /// DICOM Manufacturer's Model Name.
    pub model: Option<String>,
    /// Tube voltage in kV.
    pub tube_kv: Option<f64>,
    /// Tube current times exposure time in mAs.
    pub exposure_mas: Option<f64>,
    /// Whether a contrast agent is declared.
    pub contrast: Option<bool>,
    /// DICOM Pixel Padding Value after rescale, in HU.
    pub padding_hu: Option<i16>,
    /// DICOM Pixel Padding Range Limit after rescale, in HU: padding has any value from `padding_hu` to this.
    pub padding_limit_hu: Option<i16>,
}

/// A volume with the identifiers that results must carry back.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// DICOM Series Instance UID; for other formats `sha256:` and the first 16 hex digits of the HU hash.
    pub series_uid: String,
    /// DICOM Study Instance UID.
    pub study_uid: Option<String>,
    /// DICOM Frame of Reference UID.
    pub frame_of_reference_uid: Option<String>,
    /// DICOM Patient ID. Personal data: never in messages, logs or URLs.
    pub patient_id: Option<String>,
    /// DICOM Modality; `CT` is assumed for formats without one.
    pub modality: String,
    /// DICOM Transfer Syntax UID, or the research format's name (`nifti`, `metaimage`, `nrrd`).
    pub transfer_syntax: String,
    /// How it was acquired.
    pub acquisition: Acquisition,
    /// The voxels; for an axial series slices ascend towards the head.
    pub volume: Volume,
}

impl Scan {
    /// A CT of which nothing is known but its voxels: a research image. `format` is its [`Scan::transfer_syntax`].
    pub fn of_image(series_uid: &str, format: &str, volume: Volume) -> Self {
        Self {
            series_uid: series_uid.to_owned(),
            study_uid: None,
            frame_of_reference_uid: None,
            patient_id: None,
            modality: "CT".to_owned(),
            transfer_syntax: format.to_owned(),
            acquisition: Acquisition::default(),
            volume,
        }
    }

    /// Whether the source states where each slice lies, so that its reader compared the slice distances: so in DICOM, whose
    /// transfer syntax is a UID of digits and dots. Research formats state one distance for all slices.
    pub fn has_slice_positions(&self) -> bool {
        let uid = &self.transfer_syntax;
        uid.starts_with(|c: char| c.is_ascii_digit()) && uid.bytes().all(|c| c.is_ascii_digit() || c == b'.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Geometry, Spacing, WorldPoint};
    use lungai_trace::verifies;
    use ndarray::Array3;

    #[verifies("FR-002")]
    #[test]
    fn dicom_states_slice_positions_and_research_formats_do_not() {
        let spacing = Spacing::new([1.0; 3]).unwrap();
        let grid = Geometry::new([1, 1, 1], spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).unwrap();
        let volume = Volume::new(Array3::zeros((1, 1, 1)), grid).unwrap();
        let from = |transfer_syntax: &str| Scan::of_image("1.2.3", transfer_syntax, volume.clone());
        for dicom in ["1.2.840.10008.1.2", "1.2.840.10008.1.2.4.70"] {
            assert!(from(dicom).has_slice_positions(), "{dicom}");
        }
        for other in ["nifti", "metaimage", "nrrd", "3d-tiff", ""] {
            assert!(!from(other).has_slice_positions(), "{other}");
        }
    }
}
