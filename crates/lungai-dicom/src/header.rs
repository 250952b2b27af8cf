//! What the series builder needs to know of a file: attributes without their pixels.

use crate::DicomError;
use crate::structure::Structure;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use lungai_ct::Acquisition;
use serde::{Deserialize, Serialize};

/// One file's attributes; a type 2 or absent one is `None` or empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    pub transfer_syntax: String,
    pub sop_class: String,
    pub modality: String,
    pub series_uid: String,
    pub study_uid: Option<String>,
    pub frame_of_reference_uid: Option<String>,
    pub patient_id: Option<String>,
    pub localizer: bool,
    pub layout: Layout,
    /// PixelPaddingValue as a stored value.
    pub padding: Option<i32>,
    /// One per frame; none where a multi-frame file lacks per-frame groups.
    pub planes: Vec<Plane>,
    pub acquired: Acquired,
}

/// How the pixels are stored. Zeros where the file has no image attributes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    pub frames: u32,
    pub rows: u32,
    pub columns: u32,
    pub samples: u16,
    pub planar: bool,
    pub allocated: u16,
    pub stored: u16,
    pub high_bit: u16,
    pub signed: bool,
    pub photometric: String,
}

/// Where one frame lies, and how its stored values become HU.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plane {
    /// ImagePositionPatient.
    pub position: Option<[f64; 3]>,
    /// ImageOrientationPatient.
    pub orientation: Option<[f64; 6]>,
    /// PixelSpacing: between rows, between columns.
    pub spacing: Option<[f64; 2]>,
    pub slope: Option<f64>,
    pub intercept: Option<f64>,
}

/// [`Acquisition`] on its way between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Acquired {
    slice_thickness_mm: Option<f64>,
    kernel: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    tube_kv: Option<f64>,
    exposure_mas: Option<f64>,
    contrast: Option<bool>,
}

impl Header {
    /// # Errors
    /// [`DicomError`] where the data set cannot be parsed or a value is not of its type.
    pub fn parse(structure: &Structure) -> Result<Self, DicomError> {
        let syntax = TransferSyntaxRegistry
            .get(&structure.data_syntax)
            .filter(|syntax| syntax.can_decode_dataset())
            .ok_or_else(|| DicomError::TransferSyntax { uid: structure.transfer_syntax.clone() })?;
        let bytes = &structure.data[structure.header.clone()];
        let object = InMemDicomObject::read_dataset_with_ts(bytes, syntax).map_err(|_| DicomError::DamagedDataSet)?;
        let view = View { frame: None, shared: item(&object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE), top: &object };
        let layout = Layout {
            frames: view.int(tags::NUMBER_OF_FRAMES, "NumberOfFrames")?.unwrap_or(1),
            rows: view.int(tags::ROWS, "Rows")?.unwrap_or(0),
            columns: view.int(tags::COLUMNS, "Columns")?.unwrap_or(0),
            samples: view.int(tags::SAMPLES_PER_PIXEL, "SamplesPerPixel")?.unwrap_or(1),
            planar: view.int(tags::PLANAR_CONFIGURATION, "PlanarConfiguration")?.unwrap_or(0) == 1,
            allocated: view.int(tags::BITS_ALLOCATED, "BitsAllocated")?.unwrap_or(0),
            stored: view.int(tags::BITS_STORED, "BitsStored")?.unwrap_or(0),
            high_bit: view.int(tags::HIGH_BIT, "HighBit")?.unwrap_or(0),
            signed: view.int(tags::PIXEL_REPRESENTATION, "PixelRepresentation")?.unwrap_or(0) == 1,
            photometric: view.text(tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default(),
        };
        let padding = view.int::<i64>(tags::PIXEL_PADDING_VALUE, "PixelPaddingValue")?.map(|value| {
            // Implicit VR does not tell US from SS: the pixels' sign decides.
            if layout.signed { i32::from(value as i16) } else { i32::from(value as u16) }
        });
        let planes = if layout.frames > 1 {
            let frames = items(&object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
            let whole = frames.len() == layout.frames as usize;
            let planes = frames.iter().map(|frame| View { frame: Some(frame), ..view }.plane());
            if whole { planes.collect::<Result<_, _>>()? } else { Vec::new() }
        } else {
            let frame = item(&object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
            vec![View { frame, ..view }.plane()?]
        };
        let image_type = view.text(tags::IMAGE_TYPE).unwrap_or_default();
        Ok(Self {
            transfer_syntax: structure.transfer_syntax.clone(),
            sop_class: view.text(tags::SOP_CLASS_UID).unwrap_or_default(),
            modality: view.text(tags::MODALITY).unwrap_or_default(),
            series_uid: view.text(tags::SERIES_INSTANCE_UID).unwrap_or_default(),
            study_uid: view.text(tags::STUDY_INSTANCE_UID),
            frame_of_reference_uid: view.text(tags::FRAME_OF_REFERENCE_UID),
            patient_id: view.text(tags::PATIENT_ID),
            localizer: image_type.split('\\').any(|word| word.trim() == "LOCALIZER"),
            padding,
            planes,
            acquired: view.acquired()?,
            layout,
        })
    }
}

impl Acquired {
    pub fn into_acquisition(self, padding_hu: Option<i16>) -> Acquisition {
        Acquisition {
            slice_thickness_mm: self.slice_thickness_mm,
            kernel: self.kernel,
            manufacturer: self.manufacturer,
            model: self.model,
            tube_kv: self.tube_kv,
            exposure_mas: self.exposure_mas,
            contrast: self.contrast,
            padding_hu,
        }
    }
}

/// Looks an attribute up in a frame's functional groups, then in the shared ones, then at the top
/// (PS3.3 C.7.6.16); a single-frame file has only the top.
#[derive(Clone, Copy)]
struct View<'a> {
    frame: Option<&'a InMemDicomObject>,
    shared: Option<&'a InMemDicomObject>,
    top: &'a InMemDicomObject,
}

impl View<'_> {
    fn plane(&self) -> Result<Plane, DicomError> {
        Ok(Plane {
            position: self.numbers(tags::IMAGE_POSITION_PATIENT, "ImagePositionPatient")?,
            orientation: self.numbers(tags::IMAGE_ORIENTATION_PATIENT, "ImageOrientationPatient")?,
            spacing: self.numbers(tags::PIXEL_SPACING, "PixelSpacing")?,
            slope: self.number(tags::RESCALE_SLOPE, "RescaleSlope")?,
            intercept: self.number(tags::RESCALE_INTERCEPT, "RescaleIntercept")?,
        })
    }

    fn acquired(&self) -> Result<Acquired, DicomError> {
        let exposure = match self.number(tags::EXPOSURE, "Exposure")? {
            Some(mas) => Some(mas),
            None => {
                let ma = self.number(tags::X_RAY_TUBE_CURRENT, "XRayTubeCurrent")?;
                let ms = self.number(tags::EXPOSURE_TIME, "ExposureTime")?;
                ma.zip(ms).map(|(ma, ms)| ma * ms / 1000.0)
            }
        };
        Ok(Acquired {
            slice_thickness_mm: self.number(tags::SLICE_THICKNESS, "SliceThickness")?,
            kernel: self.text(tags::CONVOLUTION_KERNEL),
            manufacturer: self.text(tags::MANUFACTURER),
            model: self.text(tags::MANUFACTURER_MODEL_NAME),
            tube_kv: self.number(tags::KVP, "KVP")?,
            exposure_mas: exposure,
            // Present but empty says that none was given.
            contrast: self.top.get(tags::CONTRAST_BOLUS_AGENT).map(|_| self.text(tags::CONTRAST_BOLUS_AGENT).is_some()),
        })
    }

    fn raw(&self, tag: Tag) -> Option<String> {
        let in_groups = [self.frame, self.shared].into_iter().flatten().find_map(|groups| {
            let mut sequences = groups.iter().filter_map(|group| group.items()?.first());
            sequences.find_map(|group| group.get(tag))
        });
        let value = in_groups.or_else(|| self.top.get(tag))?.to_str().ok()?;
        let trimmed = value.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if trimmed.is_empty() { None } else { Some(trimmed.to_owned()) }
    }

    /// At most 256 characters, so that a reply stays small.
    fn text(&self, tag: Tag) -> Option<String> {
        self.raw(tag).map(|text| text.chars().take(256).collect())
    }

    fn numbers<const N: usize>(&self, tag: Tag, name: &str) -> Result<Option<[f64; N]>, DicomError> {
        let Some(text) = self.raw(tag) else { return Ok(None) };
        let mut values = [0.0; N];
        let mut parts = text.split('\\');
        for value in &mut values {
            let parsed = parts.next().and_then(|part| part.trim().parse::<f64>().ok());
            *value = parsed.filter(|v| v.is_finite()).ok_or_else(|| DicomError::bad(name))?;
        }
        if parts.next().is_some() { Err(DicomError::bad(name)) } else { Ok(Some(values)) }
    }

    fn number(&self, tag: Tag, name: &str) -> Result<Option<f64>, DicomError> {
        Ok(self.numbers::<1>(tag, name)?.map(|[value]| value))
    }

    fn int<T: TryFrom<i64>>(&self, tag: Tag, name: &str) -> Result<Option<T>, DicomError> {
        let Some(text) = self.raw(tag) else { return Ok(None) };
        let value = text.parse::<i64>().ok().and_then(|value| T::try_from(value).ok());
        Ok(Some(value.ok_or_else(|| DicomError::bad(name))?))
    }
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|element| element.items()).unwrap_or_default()
}

fn item(object: &InMemDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    items(object, tag).first()
}
