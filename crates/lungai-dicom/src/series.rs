//! From files' headers to the plan of a volume: which frame becomes which slice.
//!
//! Geometry comes from ImagePositionPatient and ImageOrientationPatient alone (PS3.3 C.7.6.2.1.1).
//! SliceThickness, SpacingBetweenSlices, SliceLocation, InstanceNumber and file order are not looked at.

use crate::DicomError;
use crate::header::{Header, Plane};
use crate::job::no_planes;
use lungai_ct::{Geometry, Spacing, WorldPoint};
use lungai_trace::implements;
use std::collections::BTreeSet;

/// CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage.
const CT_CLASSES: [&str; 3] =
    ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"];

/// Slices whose normal is further than this from the body's axis are not axial.
const AXIAL_DEGREES: f64 = 30.0;
/// Gap to mean gap: positions are often written with one decimal, which is 8 % of a 0.625 mm gap. A missing slice is 50 % and more.
const GAP_TOLERANCE: f64 = 0.1;
/// Furthest that a slice may lie from its place in the regular grid: small beside the smallest nodule of interest. Gaps that
/// each differ little may add up to more.
const STRAY_MM: f64 = 0.5;
/// Largest difference of one direction cosine within a series.
const COSINE_TOLERANCE: f64 = 1e-3;
/// Slices closer than this share their position.
const SAME_POSITION_MM: f64 = 0.01;
/// The stack may lean by at most this share of a pixel from its first to its last slice.
const LEAN_PIXELS: f64 = 0.5;

/// What all slices of a volume share.
fn identity(header: &Header) -> [(&'static str, &Option<String>); 3] {
    [
        ("PatientID", &header.patient_id),
        ("StudyInstanceUID", &header.study_uid),
        ("FrameOfReferenceUID", &header.frame_of_reference_uid),
    ]
}

/// One frame of one file of a series.
pub struct Slice<'a> {
    /// Number of the file, as the caller counts.
    pub file: usize,
    /// Frame within the file.
    pub frame: u32,
    header: &'a Header,
    plane: &'a Plane,
}

/// A series that makes a volume: slices ascend towards the head.
pub struct Plan<'a> {
    pub geometry: Geometry,
    pub slices: Vec<Slice<'a>>,
}

/// Why a series makes no volume, and which file alone is to blame, if one is.
pub struct Broken {
    pub file: Option<usize>,
    pub rule: DicomError,
}

impl From<DicomError> for Broken {
    fn from(rule: DicomError) -> Self {
        Self { file: None, rule }
    }
}

/// Whether a file is a CT image at all; who fails this is set aside without harm to its series.
///
/// # Errors
/// [`DicomError`] names the first reason.
pub fn check_kind(header: &Header) -> Result<(), DicomError> {
    if header.modality != "CT" {
        let known = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit(); // a code, not free text
        let modality: String = header.modality.chars().filter(known).take(16).collect();
        let modality = if modality.is_empty() { "unknown".to_owned() } else { modality };
        return Err(DicomError::NotCt { modality });
    }
    if !CT_CLASSES.contains(&header.sop_class.as_str()) {
        let sop_class = header.sop_class.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(64).collect();
        return Err(DicomError::NotCtImage { sop_class });
    }
    if header.localizer {
        return Err(DicomError::Localizer);
    }
    let layout = &header.layout;
    if layout.samples != 1 || layout.photometric != "MONOCHROME2" {
        let photometric =
            layout.photometric.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(16).collect();
        return Err(DicomError::NotGreyscale { photometric, samples: layout.samples });
    }
    Ok(())
}

/// Whether a frame is axial, by its own orientation.
///
/// # Errors
/// [`DicomError::NonAxial`], or [`DicomError::MissingTag`] without orientation.
pub fn check_axial(header: &Header) -> Result<(), DicomError> {
    check_axial_plane(&axes(header.planes.first().ok_or_else(no_planes)?)?)
}

/// [`check_axial`] by the directions of growing column and of growing row.
///
/// # Errors
/// [`DicomError::NonAxial`].
pub fn check_axial_plane(axes: &[[f64; 3]; 2]) -> Result<(), DicomError> {
    let normal = unit(normal(axes));
    let degrees = normal[2].abs().min(1.0).acos().to_degrees();
    if degrees <= AXIAL_DEGREES {
        return Ok(());
    }
    let name = if normal[1].abs() >= AXIAL_DEGREES.to_radians().cos() {
        "coronal"
    } else if normal[0].abs() >= AXIAL_DEGREES.to_radians().cos() {
        "sagittal"
    } else {
        "oblique"
    };
    Err(DicomError::NonAxial { plane: name.to_owned(), degrees })
}

/// Plans a series from the headers of its files, which passed [`check_kind`].
///
/// # Errors
/// The first broken rule of a regular grid of axial slices.
#[implements("FR-001", "FR-002", "SW-102", "SW-104")]
pub fn plan<'a>(files: &[(usize, &'a Header)]) -> Result<Plan<'a>, Broken> {
    let mut slices = Vec::new();
    for (file, header) in files {
        check_axial(header).map_err(|rule| Broken { file: Some(*file), rule })?;
        for (frame, plane) in header.planes.iter().enumerate() {
            slices.push(Slice { file: *file, frame: frame as u32, header, plane });
        }
    }
    let Some(first) = slices.first() else { return Err(no_planes().into()) };
    for slice in &slices {
        check_alike(slice, first).map_err(|rule| Broken { file: Some(slice.file), rule })?;
    }
    let (rows, columns) = (first.header.layout.rows, first.header.layout.columns);
    let first_axes = axes(first.plane)?;
    let first_spacing = pixel_spacing(first.plane)?;
    if slices.len() < 2 {
        return Err(DicomError::SingleSlice.into());
    }
    let stacks: BTreeSet<&str> = slices.iter().filter_map(|slice| slice.plane.stack.as_deref()).collect();
    if stacks.len() > 1 {
        return Err(DicomError::SeveralStacks { stacks: stacks.len() }.into());
    }
    let [x, y] = first_axes.map(unit);
    let mut up = unit(normal(&[x, y]));
    if up[2] < 0.0 {
        up = up.map(|v| -v);
    }
    let mut placed = Vec::with_capacity(slices.len());
    for slice in slices {
        placed.push((dot(&position(slice.plane)?, &up), slice));
    }
    // Files of equal position would be refused below: the order between them does not matter.
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let heights: Vec<f64> = placed.iter().map(|(height, _)| *height).collect();
    let slices: Vec<Slice> = placed.into_iter().map(|(_, slice)| slice).collect();
    let step = check_gaps(&heights)?;
    check_straight(&slices, &heights, &up, first_spacing)?;

    let spacing = Spacing::new([step, first_spacing[0], first_spacing[1]]).map_err(geometry)?;
    let size = [slices.len(), rows as usize, columns as usize];
    let origin = WorldPoint(position(slices[0].plane)?);
    let geometry = Geometry::new(size, spacing, origin, [x, y, up]).map_err(geometry)?;
    Ok(Plan { geometry, slices })
}

/// What every slice of a series must have, and share with the first.
fn check_alike(slice: &Slice, first: &Slice) -> Result<(), DicomError> {
    // An anonymiser's one UID for all must not make one chest of two patients.
    let pairs = identity(slice.header).into_iter().zip(identity(first.header));
    if let Some(((name, _), _)) = pairs.into_iter().find(|(a, b)| a != b) {
        return Err(DicomError::MixedSeries { name: name.to_owned() });
    }
    let [first_size, other] = [first, slice].map(|s| [s.header.layout.rows, s.header.layout.columns]);
    if other != first_size {
        return Err(DicomError::MixedSizes { first: first_size, other });
    }
    let [first_mm, other] = [pixel_spacing(first.plane)?, pixel_spacing(slice.plane)?];
    if (0..2).any(|i| (other[i] / first_mm[i] - 1.0).abs() > 1e-3) {
        return Err(DicomError::MixedSpacing { first: first_mm, other });
    }
    let [first_axes, other] = [axes(first.plane)?, axes(slice.plane)?];
    let deviation = (0..6).map(|i| (first_axes[i / 3][i % 3] - other[i / 3][i % 3]).abs()).fold(0.0, f64::max);
    if deviation > COSINE_TOLERANCE {
        return Err(DicomError::MixedOrientation { deviation });
    }
    position(slice.plane).map(|_| ())
}

/// Mean gap in mm, rounded to 1e-9 mm: positions are decimal numbers, their differences are not.
fn check_gaps(heights: &[f64]) -> Result<f64, DicomError> {
    let gaps: Vec<f64> = heights.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let same = |gap: &f64| *gap < SAME_POSITION_MM;
    if let Some(first) = gaps.iter().position(same) {
        let count = gaps.iter().filter(|gap| same(gap)).count();
        return Err(DicomError::DuplicateSlices { count, at_mm: heights[first] });
    }
    let mean = (heights[heights.len() - 1] - heights[0]) / gaps.len() as f64;
    let min_mm = gaps.iter().copied().fold(f64::INFINITY, f64::min);
    let max_mm = gaps.iter().copied().fold(0.0, f64::max);
    let in_place =
        heights.iter().enumerate().all(|(k, height)| (height - heights[0] - k as f64 * mean).abs() <= STRAY_MM);
    if in_place && gaps.iter().all(|gap| (gap / mean - 1.0).abs() <= GAP_TOLERANCE) {
        return Ok((mean * 1e9).round() / 1e9);
    }
    let steps: Vec<f64> = gaps.iter().map(|gap| (gap / min_mm).round()).collect();
    let whole = gaps.iter().zip(&steps).all(|(gap, n)| (gap / min_mm - n).abs() <= GAP_TOLERANCE);
    let single = steps.iter().filter(|n| **n == 1.0).count();
    if whole && single < gaps.len() && 2 * single >= gaps.len() {
        let missing = (steps.iter().sum::<f64>() as usize).saturating_sub(steps.len());
        return Err(DicomError::MissingSlices { missing, min_mm, max_mm });
    }
    Err(DicomError::UnevenGaps { min_mm, max_mm })
}

/// Slices stacked at right angles: a tilted gantry shears the stack.
fn check_straight(slices: &[Slice], heights: &[f64], up: &[f64; 3], pixel_mm: [f64; 2]) -> Result<(), DicomError> {
    let origin = position(slices[0].plane)?;
    let tolerance_mm = LEAN_PIXELS * pixel_mm[0].min(pixel_mm[1]);
    let mut beside = Vec::with_capacity(slices.len());
    for (slice, height) in slices.iter().zip(heights) {
        let at = position(slice.plane)?;
        let rise = height - heights[0];
        beside.push(std::array::from_fn(|i| at[i] - origin[i] - rise * up[i]));
    }
    let last: [f64; 3] = beside[beside.len() - 1];
    let rise = heights[heights.len() - 1] - heights[0];
    for (off, height) in beside.iter().zip(heights) {
        let share = (height - heights[0]) / rise;
        let from_line: [f64; 3] = std::array::from_fn(|i| off[i] - share * last[i]);
        let off_mm = length(&from_line);
        if off_mm > tolerance_mm {
            return Err(DicomError::Misaligned { off_mm });
        }
    }
    if length(&last) > tolerance_mm {
        return Err(DicomError::GantryTilt { degrees: length(&last).atan2(rise).to_degrees() });
    }
    Ok(())
}

fn geometry(error: lungai_ct::GeometryError) -> DicomError {
    DicomError::Geometry { reason: error.to_string() }
}

fn position(plane: &Plane) -> Result<[f64; 3], DicomError> {
    plane.position.ok_or_else(|| DicomError::missing("ImagePositionPatient"))
}

fn pixel_spacing(plane: &Plane) -> Result<[f64; 2], DicomError> {
    let spacing = plane.spacing.ok_or_else(|| DicomError::missing("PixelSpacing"))?;
    if spacing.iter().all(|mm| *mm > 0.0) { Ok(spacing) } else { Err(DicomError::bad("PixelSpacing")) }
}

/// Directions of growing column and of growing row.
fn axes(plane: &Plane) -> Result<[[f64; 3]; 2], DicomError> {
    let [a, b, c, d, e, f] = plane.orientation.ok_or_else(|| DicomError::missing("ImageOrientationPatient"))?;
    let (x, y) = ([a, b, c], [d, e, f]);
    let sound = (length(&x) - 1.0).abs() < 0.01 && (length(&y) - 1.0).abs() < 0.01 && dot(&x, &y).abs() < 0.01;
    if sound { Ok([x, y]) } else { Err(DicomError::bad("ImageOrientationPatient")) }
}

fn normal([x, y]: &[[f64; 3]; 2]) -> [f64; 3] {
    std::array::from_fn(|i| x[(i + 1) % 3] * y[(i + 2) % 3] - x[(i + 2) % 3] * y[(i + 1) % 3])
}

fn unit(v: [f64; 3]) -> [f64; 3] {
    let length = length(&v);
    // Leaves exact axes exactly as they are.
    if (length - 1.0).abs() < 1e-12 { v } else { v.map(|c| c / length) }
}

fn length(v: &[f64; 3]) -> f64 {
    dot(v, v).sqrt()
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
