//! Research image formats: which one a file is, and reading and writing all of them.

mod metaimage;
mod nifti;
mod nrrd;
mod stored;

use crate::DatasetError;
use crate::error::name;
use flate2::Compression;
use lungai_ct::{Geometry, LabelMap, Volume};
use ndarray::Array3;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

pub use stored::MAX_VOXELS;
use stored::Stored;

/// An image of any number type: masks with soft edges, probability maps.
#[derive(Debug, Clone)]
pub struct FloatImage {
    /// Values after the format's own scaling, `[z, y, x]`, slices ascending towards the head.
    pub values: Array3<f32>,
    /// The grid.
    pub geometry: Geometry,
}

/// A research format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    MetaImage,
    Nifti,
    Nrrd,
}

impl Format {
    /// By the file's first bytes, else by its extension; `None` for everything else, DICOM included.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, DatasetError> {
        let mut head = Vec::new();
        let file = File::open(path).map_err(DatasetError::io(path))?;
        file.take(64).read_to_end(&mut head).map_err(DatasetError::io(path))?;
        let first = head.get(..4).map(|b| [b[0], b[1], b[2], b[3]]).unwrap_or_default();
        let nifti_size = |n| n == 348 || n == 540;
        Ok(match &head[..] {
            h if h.starts_with(b"NRRD000") => Some(Self::Nrrd),
            h if h.starts_with(b"ObjectType") || h.starts_with(b"NDims") => Some(Self::MetaImage),
            _ if nifti_size(i32::from_le_bytes(first)) || nifti_size(i32::from_be_bytes(first)) => Some(Self::Nifti),
            _ => Self::of_name(path),
        })
    }

    fn of_name(path: &Path) -> Option<Self> {
        let name = name(path).to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match () {
            () if ends(&[".mha", ".mhd"]) => Some(Self::MetaImage),
            () if ends(&[".nii", ".nii.gz"]) => Some(Self::Nifti),
            () if ends(&[".nrrd", ".nhdr"]) => Some(Self::Nrrd),
            () => None,
        }
    }
}

/// Whether [`write_volume`] and [`write_labels`] know the name's extension.
pub fn is_image_name(path: &Path) -> bool {
    Format::of_name(path).is_some()
}

fn read_stored(path: &Path) -> Result<Stored, DatasetError> {
    match Format::of(path)? {
        Some(Format::MetaImage) => metaimage::read(path),
        Some(Format::Nifti) => nifti::read(path),
        Some(Format::Nrrd) => nrrd::read(path),
        None => Err(DatasetError::UnknownFormat { file: name(path) }),
    }
}

/// Reads a research image as HU, rounded to the nearest whole number (ties to even, as NumPy does) and
/// saturated to 16 bits; also the format's short name (`metaimage`, `nifti`, `nrrd`).
///
/// The array's axes are those of the file that run nearest to left-right, front-back and foot-head;
/// rows and columns keep their stored order, slices ascend towards the head. Nothing is resampled.
///
/// # Errors
/// [`DatasetError`]; a value that is not finite is refused.
pub fn read_volume(path: &Path) -> Result<(Volume, &'static str), DatasetError> {
    let stored = read_stored(path)?;
    let (hu, geometry) = stored.convert(
        |v| v.is_finite().then(|| v.round_ties_even() as i16), // `as` saturates
        |file, index_xyz, value| DatasetError::NotFinite { file, index_xyz, value },
    )?;
    Ok((Volume::new(hu, geometry).expect("array and grid come from one header"), stored.header.format))
}

/// Reads a research image with fractional values, arranged as by [`read_volume`].
///
/// # Errors
/// [`DatasetError`]; a value that is not finite is refused.
pub fn read_image(path: &Path) -> Result<FloatImage, DatasetError> {
    let (values, geometry) = read_stored(path)?.convert(
        |v| v.is_finite().then_some(v as f32),
        |file, index_xyz, value| DatasetError::NotFinite { file, index_xyz, value },
    )?;
    Ok(FloatImage { values, geometry })
}

/// Reads a label map, arranged as by [`read_volume`].
///
/// # Errors
/// [`DatasetError`]; [`DatasetError::NotALabel`] where a value is not a whole number from 0 to 255.
pub fn read_labels(path: &Path) -> Result<LabelMap, DatasetError> {
    let (labels, geometry) = read_stored(path)?.convert(
        |v| ((0.0..=255.0).contains(&v) && v.fract() == 0.0).then_some(v as u8),
        |file, index_xyz, value| DatasetError::NotALabel { file, index_xyz, value },
    )?;
    Ok(LabelMap::new(labels, geometry).expect("array and grid come from one header"))
}

/// Writes HU as 16-bit integers, compressed, in the format that the name's extension stands for. A file of
/// that name is replaced as a whole or not at all.
///
/// # Errors
/// [`DatasetError`]
pub fn write_volume(path: &Path, volume: &Volume) -> Result<(), DatasetError> {
    let bytes: Vec<u8> = volume.as_slice().iter().flat_map(|hu| hu.to_le_bytes()).collect();
    let geometry = volume.geometry();
    match Format::of_name(path) {
        Some(Format::MetaImage) => metaimage::write(path, geometry, "MET_SHORT", &bytes),
        Some(Format::Nifti) => nifti::write(path, geometry, 4, 16, &bytes),
        Some(Format::Nrrd) => nrrd::write(path, geometry, "short", &bytes),
        None => Err(DatasetError::UnknownExtension { file: name(path) }),
    }
}

/// Writes labels as 8-bit integers; else as [`write_volume`].
///
/// # Errors
/// [`DatasetError`]
pub fn write_labels(path: &Path, labels: &LabelMap) -> Result<(), DatasetError> {
    let geometry = labels.geometry();
    match Format::of_name(path) {
        Some(Format::MetaImage) => metaimage::write(path, geometry, "MET_UCHAR", labels.as_slice()),
        Some(Format::Nifti) => nifti::write(path, geometry, 2, 8, labels.as_slice()),
        Some(Format::Nrrd) => nrrd::write(path, geometry, "unsigned char", labels.as_slice()),
        None => Err(DatasetError::UnknownExtension { file: name(path) }),
    }
}

/// The file that a header names: it must lie in the header's folder or below, however it is spelt.
fn inner_file(header: &Path, inner: &str, format: &'static str) -> Result<PathBuf, DatasetError> {
    let inner = Path::new(inner);
    if inner.as_os_str().is_empty()
        || inner.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
    {
        let reason = "the data file lies outside of the header's folder".into();
        return Err(DatasetError::Malformed { format, file: name(header), reason });
    }
    Ok(header.parent().unwrap_or(Path::new("")).join(inner))
}

/// An image file, and behind it the file of its voxels where its header names one.
pub(crate) fn inner_files(path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut files = vec![path.to_owned()];
    let (format, keys) = match path.extension().map(|e| e.to_ascii_lowercase()) {
        Some(e) if e == "mhd" => ("MetaImage", ["ElementDataFile", "ElementDataFile"]),
        Some(e) if e == "nhdr" => ("NRRD", ["data file", "datafile"]),
        _ => return Ok(files),
    };
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let mut lines = Lines::new(BufReader::new(file), path, format);
    while let Some(line) = lines.next()? {
        let value =
            line.split_once(['=', ':']).filter(|(name, _)| keys.contains(&name.trim())).map(|(_, value)| value.trim());
        if let Some(inner) = value {
            if !inner.eq_ignore_ascii_case("LOCAL") {
                files.push(inner_file(path, inner, format)?);
            }
            break;
        }
    }
    Ok(files)
}

/// Reads a text header line by line, within bounds.
struct Lines<'a> {
    source: BufReader<File>,
    path: &'a Path,
    format: &'static str,
    /// Lines read so far.
    number: usize,
    /// Bytes read so far.
    offset: u64,
}

impl<'a> Lines<'a> {
    /// Scanners' tags may be copied into a header, pixels may not.
    const MAX_HEADER_BYTES: u64 = 1 << 20;

    fn new(source: BufReader<File>, path: &'a Path, format: &'static str) -> Self {
        Self { source, path, format, number: 0, offset: 0 }
    }

    /// The next line without its end; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<String>, DatasetError> {
        let mut line = Vec::new();
        let left = Self::MAX_HEADER_BYTES - self.offset;
        let read = (&mut self.source).take(left).read_until(b'\n', &mut line).map_err(DatasetError::io(self.path))?;
        self.number += 1;
        self.offset += read as u64;
        if self.offset >= Self::MAX_HEADER_BYTES {
            let reason = format!("the header is longer than {} bytes", Self::MAX_HEADER_BYTES);
            return Err(DatasetError::Malformed { format: self.format, file: name(self.path), reason });
        }
        if read == 0 {
            return Ok(None);
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// The source, standing behind the last line.
    fn into_inner(self) -> BufReader<File> {
        self.source
    }
}

/// A file that takes its name only when it is complete.
struct Written {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
}

impl Written {
    fn create(path: &Path) -> Result<Self, DatasetError> {
        let part = path.with_file_name(format!(".{}.{}.part", name(path), std::process::id()));
        let file = File::create(&part).map_err(DatasetError::io(path))?;
        Ok(Self { file: BufWriter::new(file), part, path: path.to_owned() })
    }

    fn keep(mut self) -> Result<(), DatasetError> {
        let done = self.file.flush().and_then(|()| std::fs::rename(&self.part, &self.path));
        done.map_err(DatasetError::io(&self.path))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // After `keep` there is nothing left to remove, and that is no error.
        let _ = std::fs::remove_file(&self.part);
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Level 1 packs CT nearly as tightly as level 6, in a third of the time. No time stamp: same voxels, same bytes.
fn finish_gzip(parts: &[&[u8]]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    for part in parts {
        encoder.write_all(part)?;
    }
    encoder.finish()
}

fn finish_deflate(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}
