//! A volume as a CT series on disk: CT Image Storage (PS3.3 A.3), explicit VR little endian, one file per slice.

use crate::Limits;
use crate::series::check_axial_plane;
use crate::{DicomError, structure::EXPLICIT_LE};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use lungai_ct::{Acquisition, Volume, VoxelIndex};
use lungai_trace::implements;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// What a written series says of itself besides its voxels.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesTags {
    /// Patient ID; the Patient's Name has the same text as family name.
    pub patient_id: String,
    /// Study Instance UID.
    pub study_uid: String,
    /// Series Instance UID; SOP Instance UIDs are derived from it.
    pub series_uid: String,
    /// Frame of Reference UID.
    pub frame_of_reference_uid: String,
    /// Body Part Examined.
    pub body_part: String,
    /// Study, series and acquisition date, `YYYYMMDD`.
    pub date: String,
    /// Series Description, at most 64 characters.
    pub description: String,
    /// Whether the voxels were computed: ImageType is then `DERIVED\SECONDARY\AXIAL\SYNTHETIC`, else `DERIVED\PRIMARY\AXIAL`.
    pub synthetic: bool,
}

impl SeriesTags {
    /// Tags of a computed chest scan: all UIDs follow from the two names, so the same scan is the same series everywhere.
    pub fn synthetic(patient_id: &str, scan: &str) -> Self {
        Self {
            patient_id: patient_id.to_owned(),
            study_uid: derived_uid(&format!("study/{patient_id}/{scan}")),
            series_uid: derived_uid(&format!("series/{patient_id}/{scan}")),
            frame_of_reference_uid: derived_uid(&format!("frame/{patient_id}/{scan}")),
            body_part: "CHEST".to_owned(),
            date: "20200101".to_owned(),
            description: "SYNTHETIC digital chest phantom".to_owned(),
            synthetic: true,
        }
    }
}

/// A UID that depends on `name` alone: `2.25.` and a UUID (version 8, RFC 9562) made of its SHA-256 (PS3.5 B.2).
pub fn derived_uid(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    format!("2.25.{}", u128::from_be_bytes(bytes))
}

/// Writes `000001.dcm`, ... into `folder`, which is made if it does not exist and must be empty. Voxels
/// become signed 16-bit values with slope 1 and intercept 0, so that reading gives back the same HU. A volume whose slices
/// descend is read back ascending.
///
/// # Errors
/// [`DicomError::FolderNotEmpty`], [`DicomError::Io`], [`DicomError::TooManyPixels`] beyond 65,535 rows or columns, and
/// [`DicomError::NonAxial`] where the slices are not axial within 30 degrees, since they could not be read again.
#[implements("FR-001")]
pub fn write_series(
    volume: &Volume,
    acquisition: &Acquisition,
    series: &SeriesTags,
    folder: &Path,
) -> Result<(), DicomError> {
    let [x, y, _] = volume.geometry().direction();
    check_axial_plane(&[x, y])?;
    std::fs::create_dir_all(folder)?;
    if std::fs::read_dir(folder)?.next().is_some() {
        return Err(DicomError::FolderNotEmpty);
    }
    let [z, y, x] = volume.geometry().size();
    if y > 0xFFFF || x > 0xFFFF || (y * x) as u64 > Limits::default().file_pixels {
        return Err(DicomError::SliceTooLarge { rows: y, columns: x });
    }
    let common = common(volume, acquisition, series);
    (0..z).into_par_iter().try_for_each(|slice| {
        let instance = derived_uid(&format!("{}/{slice}", series.series_uid));
        let mut object = common.clone();
        let origin = volume.geometry().centre_of(VoxelIndex([slice, 0, 0]));
        put(&mut object, tags::SOP_INSTANCE_UID, VR::UI, &instance);
        put(&mut object, tags::INSTANCE_NUMBER, VR::IS, &(slice + 1).to_string());
        put(&mut object, tags::IMAGE_POSITION_PATIENT, VR::DS, &decimals(&origin.0));
        let mut bytes = header_bytes(object, &instance)?;
        let values = &volume.as_slice()[slice * y * x..(slice + 1) * y * x];
        // The last element by hand: the pixels are copied once, not through a tree of values.
        bytes.reserve(12 + 2 * values.len());
        bytes.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
        bytes.extend((2 * values.len() as u32).to_le_bytes());
        bytes.extend(values.iter().flat_map(|hu| hu.to_le_bytes()));
        File::create(folder.join(format!("{:06}.dcm", slice + 1)))?.write_all(&bytes)?;
        Ok(())
    })
}

/// Attributes that all slices share.
fn common(volume: &Volume, acquisition: &Acquisition, series: &SeriesTags) -> InMemDicomObject {
    let geometry = volume.geometry();
    let [_, rows, columns] = geometry.size();
    let [_, row_mm, column_mm] = geometry.spacing().zyx_mm();
    let [x, y, _] = geometry.direction();
    let kind = if series.synthetic { "DERIVED\\SECONDARY\\AXIAL\\SYNTHETIC" } else { "DERIVED\\PRIMARY\\AXIAL" };
    let mut object = InMemDicomObject::new_empty();
    let o = &mut object;
    put(o, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    put(o, tags::IMAGE_TYPE, VR::CS, kind);
    put(o, tags::SOP_CLASS_UID, VR::UI, CT_IMAGE_STORAGE);
    for tag in [tags::STUDY_DATE, tags::SERIES_DATE, tags::ACQUISITION_DATE, tags::CONTENT_DATE] {
        put(o, tag, VR::DA, &series.date);
    }
    for tag in [tags::STUDY_TIME, tags::CONTENT_TIME] {
        put(o, tag, VR::TM, ""); // type 2: empty where not known
    }
    put(o, tags::ACCESSION_NUMBER, VR::SH, "");
    put(o, tags::MODALITY, VR::CS, "CT");
    put(o, tags::MANUFACTURER, VR::LO, acquisition.manufacturer.as_deref().unwrap_or_default());
    put(o, tags::REFERRING_PHYSICIAN_NAME, VR::PN, "");
    put(o, tags::SERIES_DESCRIPTION, VR::LO, &series.description);
    if let Some(model) = &acquisition.model {
        put(o, tags::MANUFACTURER_MODEL_NAME, VR::LO, model);
    }
    put(o, tags::PATIENT_NAME, VR::PN, &format!("{}^", series.patient_id)); // family name, empty given name
    put(o, tags::PATIENT_ID, VR::LO, &series.patient_id);
    put(o, tags::PATIENT_BIRTH_DATE, VR::DA, "");
    put(o, tags::PATIENT_SEX, VR::CS, "");
    if series.body_part.is_empty() {
        put(o, tags::LATERALITY, VR::CS, ""); // type 2C: the part might be a paired one
    } else {
        put(o, tags::BODY_PART_EXAMINED, VR::CS, &series.body_part);
    }
    match acquisition.contrast {
        Some(true) => put(o, tags::CONTRAST_BOLUS_AGENT, VR::LO, "UNSPECIFIED"),
        Some(false) => put(o, tags::CONTRAST_BOLUS_AGENT, VR::LO, ""),
        None => {}
    }
    // Type 2: present, empty where not known.
    let number = |value: Option<f64>| value.map(decimal).unwrap_or_default();
    put(o, tags::SLICE_THICKNESS, VR::DS, &number(acquisition.slice_thickness_mm));
    put(o, tags::KVP, VR::DS, &number(acquisition.tube_kv));
    if let Some(mas) = acquisition.exposure_mas {
        put(o, tags::EXPOSURE, VR::IS, &mas.round().to_string());
    }
    if let Some(kernel) = &acquisition.kernel {
        put(o, tags::CONVOLUTION_KERNEL, VR::SH, kernel);
    }
    // Type 2C: empty where not known; nothing follows from it, positions are the patient's own.
    put(o, tags::PATIENT_POSITION, VR::CS, if series.synthetic { "HFS" } else { "" });
    put(o, tags::STUDY_INSTANCE_UID, VR::UI, &series.study_uid);
    put(o, tags::SERIES_INSTANCE_UID, VR::UI, &series.series_uid);
    put(o, tags::STUDY_ID, VR::SH, "");
    put(o, tags::SERIES_NUMBER, VR::IS, "1");
    put(o, tags::ACQUISITION_NUMBER, VR::IS, "1");
    put(o, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &decimals(&[x, y].concat()));
    put(o, tags::FRAME_OF_REFERENCE_UID, VR::UI, &series.frame_of_reference_uid);
    put(o, tags::POSITION_REFERENCE_INDICATOR, VR::LO, "");
    put_u16(o, tags::SAMPLES_PER_PIXEL, 1);
    put(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put_u16(o, tags::ROWS, rows as u16);
    put_u16(o, tags::COLUMNS, columns as u16);
    put(o, tags::PIXEL_SPACING, VR::DS, &decimals(&[row_mm, column_mm]));
    put_u16(o, tags::BITS_ALLOCATED, 16);
    put_u16(o, tags::BITS_STORED, 16);
    put_u16(o, tags::HIGH_BIT, 15);
    put_u16(o, tags::PIXEL_REPRESENTATION, 1);
    if let Some(padding) = acquisition.padding_hu {
        o.put(DataElement::new(tags::PIXEL_PADDING_VALUE, VR::SS, PrimitiveValue::from(padding)));
        if let Some(limit) = acquisition.padding_limit_hu {
            o.put(DataElement::new(tags::PIXEL_PADDING_RANGE_LIMIT, VR::SS, PrimitiveValue::from(limit)));
        }
    }
    put(o, tags::RESCALE_INTERCEPT, VR::DS, "0");
    put(o, tags::RESCALE_SLOPE, VR::DS, "1");
    put(o, tags::RESCALE_TYPE, VR::LO, "HU");
    object
}

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, text: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
}

fn put_u16(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

fn header_bytes(object: InMemDicomObject, instance: &str) -> Result<Vec<u8>, DicomError> {
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid(instance)
        .transfer_syntax(EXPLICIT_LE);
    let unwritable = |kind: &str| DicomError::Io { kind: kind.to_owned() };
    let object = object.with_meta(meta).map_err(|_| unwritable("file meta information cannot be built"))?;
    let mut bytes = Vec::with_capacity(4096);
    object.write_all(&mut bytes).map_err(|_| unwritable("data set cannot be encoded"))?;
    Ok(bytes)
}

fn decimals(values: &[f64]) -> String {
    values.iter().map(|value| decimal(*value)).collect::<Vec<_>>().join("\\")
}

/// Decimal string (PS3.5 6.2: at most 16 characters), to a picometre where it fits.
fn decimal(value: f64) -> String {
    let fitting = (0..=9).rev().map(|places| format!("{value:.places$}")).find(|text| text.len() <= 16);
    let text = fitting.unwrap_or_else(|| format!("{value:.8e}"));
    let trimmed = if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    if trimmed == "-0" { "0".to_owned() } else { trimmed.to_owned() }
}
