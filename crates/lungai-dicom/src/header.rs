//! What the series builder needs to know of a file: attributes without their pixels.

use crate::DicomError;
use crate::identity::Marks;
use crate::pixels::Rescale;
use crate::structure::Structure;
use crate::worker::contained;
use dicom_core::{Tag, VR};
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
    pub marks: Marks,
    pub layout: Layout,
    /// PixelPaddingValue and PixelPaddingRangeLimit in HU.
    padding_hu: [Option<i16>; 2],
    /// Instead of slope and intercept. Stays in the decoding process.
    #[serde(skip)]
    pub lut: Option<ModalityLut>,
    /// One per frame; none where a multi-frame file lacks per-frame groups.
    pub planes: Vec<Plane>,
    acquired: Acquired,
}

impl Header {
    /// How the file was acquired.
    pub fn acquisition(&self) -> Acquisition {
        let acquired = self.acquired.clone();
        let [padding_hu, padding_limit_hu] = self.padding_hu;
        Acquisition {
            slice_thickness_mm: acquired.slice_thickness_mm,
            kernel: acquired.kernel,
            manufacturer: acquired.manufacturer,
            model: acquired.model,
            tube_kv: acquired.tube_kv,
            exposure_mas: acquired.exposure_mas,
            contrast: acquired.contrast,
            padding_hu,
            padding_limit_hu,
        }
    }
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
    /// StackID and TemporalPositionIndex of a multi-frame file: frames of one volume share them.
    pub stack: Option<String>,
}

/// Modality LUT (PS3.3 C.11.1): stored value to HU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModalityLut {
    /// The stored value that the first entry stands for.
    pub first: i32,
    /// Output, at least one.
    pub entries: Vec<i32>,
}

/// [`Acquisition`] on its way between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Acquired {
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
        let read = || InMemDicomObject::read_dataset_with_ts(&structure.header[..], syntax).ok();
        let object = contained(read).ok_or(DicomError::DamagedDataSet)?;
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
        // Implicit VR does not tell US from SS: the pixels' sign decides.
        let as_pixel = |value: i64| if layout.signed { i32::from(value as i16) } else { i32::from(value as u16) };
        let padding = [
            view.int(tags::PIXEL_PADDING_VALUE, "PixelPaddingValue")?.map(as_pixel),
            view.int(tags::PIXEL_PADDING_RANGE_LIMIT, "PixelPaddingRangeLimit")?.map(as_pixel),
        ];
        let lut = item(&object, tags::MODALITY_LUT_SEQUENCE).map(|item| modality_lut(item, as_pixel)).transpose()?;
        let planes = if layout.frames > 1 {
            let frames = items(&object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
            let whole = frames.len() == layout.frames as usize;
            let planes = frames.iter().map(|frame| View { frame: Some(frame), ..view }.plane());
            if whole { planes.collect::<Result<_, _>>()? } else { Vec::new() }
        } else {
            let frame = item(&object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
            vec![View { frame, ..view }.plane()?]
        };
        let hu = planes.first().and_then(|plane| Rescale::of(plane, lut.as_ref()).ok());
        let padding_hu = padding.map(|stored| hu.as_ref().zip(stored).map(|(hu, stored)| hu.hu(stored)));
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
            marks: structure.marks.clone(),
            padding_hu,
            lut,
            planes,
            acquired: view.acquired()?,
            layout,
        })
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
            stack: self.frame.and_then(|frame| {
                let content = item(frame, tags::FRAME_CONTENT_SEQUENCE)?;
                let text = |tag| content.get(tag)?.to_str().ok().map(|text| text.trim().to_owned());
                let stack = text(tags::STACK_ID).unwrap_or_default();
                let time = text(tags::TEMPORAL_POSITION_INDEX).unwrap_or_default();
                Some(format!("{stack:.16}/{time:.16}"))
            }),
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

/// PS3.3 C.11.1.1: how many entries, the first value they stand for, and their bits; entries are unsigned, unless an old
/// writer gave them a signed VR.
fn modality_lut(item: &InMemDicomObject, as_pixel: impl Fn(i64) -> i32) -> Result<ModalityLut, DicomError> {
    let bad = |reason: String| DicomError::ModalityLut { reason };
    let kind = item.get(tags::MODALITY_LUT_TYPE).and_then(|e| e.to_str().ok()).unwrap_or_default();
    if kind.trim_matches(['\0', ' ']) != "HU" {
        return Err(bad("ModalityLUTType is not HU".into())); // free text: it could hold a name
    }
    let descriptor = item.get(tags::LUT_DESCRIPTOR).and_then(|e| e.to_multi_int::<i64>().ok()).unwrap_or_default();
    let &[count, first, bits] = &descriptor[..] else {
        return Err(bad(format!("LUTDescriptor has {} values, not 3", descriptor.len())));
    };
    // Read as signed or as unsigned, the count is a 16-bit word in which 0 stands for 65,536.
    let count = match count as u16 {
        0 => 65_536,
        count => usize::from(count),
    };
    if !matches!(bits, 8 | 16) {
        return Err(bad(format!("entries of {bits} bits; 8 or 16 are allowed")));
    }
    let data = item.get(tags::LUT_DATA).ok_or_else(|| bad("no LUTData".into()))?;
    let signed = data.vr() == VR::SS;
    let words: Vec<i32> = match data.vr() {
        VR::OB | VR::UN => {
            let bytes = data.to_bytes().unwrap_or_default();
            bytes.as_chunks().0.iter().map(|two| u16::from_le_bytes(*two).into()).collect()
        }
        _ => data.to_multi_int().unwrap_or_default(),
    };
    let entries: Vec<i32> = if bits == 8 && words.len() == count.div_ceil(2) && count > 1 {
        // Two entries in one word, the first in the low byte.
        words.iter().flat_map(|word| [word & 0xFF, word >> 8 & 0xFF]).take(count).collect()
    } else {
        let mask = if bits == 8 { 0xFF } else { 0xFFFF };
        words.iter().map(|word| if signed { *word } else { word & mask }).collect()
    };
    if entries.len() != count {
        return Err(bad(format!("{} entries where LUTDescriptor says {count}", entries.len())));
    }
    Ok(ModalityLut { first: as_pixel(first), entries })
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|element| element.items()).unwrap_or_default()
}

fn item(object: &InMemDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    items(object, tag).first()
}
