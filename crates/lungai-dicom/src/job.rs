//! What the decoding process does with one order: find the bytes, examine them, decode them.

use crate::header::Header;
use crate::pixels::Frames;
use crate::structure::{examine, meta_start, read_growing};
use crate::worker::{Allowance, Part, Reply, Want, contained};
use crate::{DicomError, Limits};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where a DICOM file is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The file, or the archive that holds it.
    #[serde(with = "path_bytes")]
    pub path: PathBuf,
    /// Its number within the archive.
    pub entry: Option<usize>,
}

/// One file in an archive's table of contents. The name only serves messages: nothing is ever unpacked
/// to a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Number for [`Source::entry`].
    pub index: usize,
    /// Name as the archive spells it.
    pub name: String,
}

/// The archive of the last order, kept open: its table is read once, not once per entry.
#[derive(Default)]
pub struct Opened {
    archive: Option<(PathBuf, Archive)>,
}

enum Archive {
    Zip(zip::ZipArchive<File>),
    /// Position and size of each entry.
    Tar(File, Vec<(u64, u64)>),
}

impl Opened {
    /// Gives the reply to `send`, then the frames if they are wanted.
    ///
    /// # Errors
    /// [`DicomError`] names the broken rule; it may come behind some frames.
    pub fn run(
        &mut self,
        source: &Source,
        want: Want,
        limits: &Limits,
        allowance: &mut Allowance,
        send: impl FnMut(Part),
    ) -> Result<(), DicomError> {
        let bytes = match source.entry {
            Some(index) => self.entry(&source.path, index, limits, allowance)?,
            None => {
                let mut file = regular(&source.path)?;
                let mut start = [0; 512];
                let length = fill(&mut file, &mut start)?;
                match kind(&start[..length]) {
                    Kind::Archive if want == Want::Header => {
                        return self.contents(&source.path, limits, allowance, send);
                    }
                    Kind::Archive => return Err(DicomError::NestedArchive),
                    Kind::Unknown => return Err(DicomError::NotDicom),
                    Kind::Dicom => whole(file, limits)?,
                }
            }
        };
        dicom(&bytes, want, limits, send)
    }

    fn open(
        &mut self,
        path: &Path,
        limits: &Limits,
        allowance: &mut Allowance,
    ) -> Result<(&mut Archive, Vec<Entry>), DicomError> {
        self.archive = None;
        let (archive, entries) = Archive::open(path, limits)?;
        allowance.keep_what_is_held();
        Ok((&mut self.archive.insert((path.to_owned(), archive)).1, entries))
    }

    fn contents(
        &mut self,
        path: &Path,
        limits: &Limits,
        allowance: &mut Allowance,
        mut send: impl FnMut(Part),
    ) -> Result<(), DicomError> {
        let entries = self.open(path, limits, allowance)?.1;
        send(Part::Head(Reply::Archive(entries)));
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        index: usize,
        limits: &Limits,
        allowance: &mut Allowance,
    ) -> Result<Vec<u8>, DicomError> {
        if self.archive.as_ref().is_none_or(|(open, _)| open != path) {
            self.open(path, limits, allowance)?;
        }
        let (_, archive) = self.archive.as_mut().ok_or(DicomError::DamagedArchive)?;
        let bytes = archive.unpack(index, limits, allowance)?;
        match kind(&bytes) {
            Kind::Dicom => Ok(bytes),
            Kind::Archive => Err(DicomError::NestedArchive),
            Kind::Unknown => Err(DicomError::NotDicom),
        }
    }
}

impl Archive {
    /// Opens and bounds an archive: number of entries, unpacked size, ratio.
    fn open(path: &Path, limits: &Limits) -> Result<(Self, Vec<Entry>), DicomError> {
        let mut file = regular(path)?;
        let packed = file.metadata()?.len();
        let mut start = [0; 4];
        fill(&mut file, &mut start)?;
        file.rewind()?;
        let mut entries = Vec::new();
        let mut unpacked = 0u64;
        let archive = if start.starts_with(b"PK") {
            let mut zip = contained(|| zip::ZipArchive::new(file).ok()).ok_or(DicomError::DamagedArchive)?;
            if zip.len() > limits.files {
                return Err(DicomError::TooManyFiles { limit: limits.files });
            }
            for index in 0..zip.len() {
                let entry = zip.by_index_raw(index).map_err(|_| DicomError::DamagedArchive)?;
                unpacked = unpacked.saturating_add(entry.size());
                if !entry.is_dir() {
                    let name = entry.name().map_err(|_| DicomError::DamagedArchive)?.into_owned();
                    entries.push(Entry { index, name });
                }
            }
            Self::Zip(zip)
        } else {
            let mut places = Vec::new();
            let mut tar = tar::Archive::new(file);
            for entry in tar.entries_with_seek().map_err(|_| DicomError::DamagedArchive)? {
                let entry = entry.map_err(|_| DicomError::DamagedArchive)?;
                if places.len() == limits.files {
                    return Err(DicomError::TooManyFiles { limit: limits.files });
                }
                unpacked = unpacked.saturating_add(entry.size());
                if entry.header().entry_type().is_file() {
                    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                    entries.push(Entry { index: places.len(), name });
                }
                places.push((entry.raw_file_position(), entry.size()));
            }
            Self::Tar(tar.into_inner(), places)
        };
        if unpacked > limits.archive_bytes {
            return Err(DicomError::ArchiveTooLarge { bytes: unpacked, limit: limits.archive_bytes });
        }
        let ratio = unpacked / packed.max(1);
        if unpacked > 64 << 20 && ratio > limits.archive_ratio {
            return Err(DicomError::CompressionRatio { ratio, limit: limits.archive_ratio });
        }
        Ok((archive, entries))
    }

    fn unpack(&mut self, index: usize, limits: &Limits, allowance: &Allowance) -> Result<Vec<u8>, DicomError> {
        match self {
            Self::Zip(zip) => {
                let mut entry = zip.by_index(index).map_err(|error| match error {
                    zip::result::ZipError::UnsupportedArchive(zip::result::ZipError::PASSWORD_REQUIRED) => {
                        DicomError::EncryptedEntry
                    }
                    _ => DicomError::DamagedArchive,
                })?;
                let (declared, packed) = (entry.size(), entry.compressed_size());
                allowance.set(packed, limits)?;
                let limit = limits.unpacked(packed);
                if declared > limit {
                    return Err(DicomError::FileTooLarge { bytes: declared, limit });
                }
                // The sum of declared sizes was bounded above: none may grow beyond its own.
                let bytes = contained(|| read_growing(&mut (&mut entry).take(declared + 1)).ok());
                let bytes = bytes.ok_or(DicomError::DamagedArchive)?;
                if bytes.len() as u64 > declared {
                    return Err(DicomError::EntryLongerThanDeclared { declared });
                }
                Ok(bytes)
            }
            Self::Tar(file, places) => {
                let &(position, size) = places.get(index).ok_or(DicomError::DamagedArchive)?;
                if size > limits.file_bytes {
                    return Err(DicomError::FileTooLarge { bytes: size, limit: limits.file_bytes });
                }
                allowance.set(size, limits)?;
                file.seek(SeekFrom::Start(position))?;
                let bytes = read_growing(&mut file.take(size))?;
                if bytes.len() as u64 == size { Ok(bytes) } else { Err(DicomError::DamagedArchive) }
            }
        }
    }
}

fn dicom(file: &[u8], want: Want, limits: &Limits, mut send: impl FnMut(Part)) -> Result<(), DicomError> {
    let structure = examine(file, limits)?;
    let header = Header::parse(&structure)?;
    if want == Want::Header {
        send(Part::Head(Reply::File { header: Box::new(header), frame_bytes: 0 }));
        return Ok(());
    }
    let layout = &header.layout;
    let frames = Frames::open(&structure, layout, file.len() as u64, limits)?;
    let bytes_per_value = if want == Want::Hu { 2 } else { 4 };
    let frame_bytes = u64::from(layout.rows) * u64::from(layout.columns) * u64::from(layout.samples) * bytes_per_value;
    send(Part::Head(Reply::File { header: Box::new(header.clone()), frame_bytes }));
    for frame in 0..layout.frames {
        if want == Want::Hu {
            let plane = header.planes.get(frame as usize).ok_or_else(no_planes)?;
            send(Part::Hu(&frames.hu(frame, plane, header.lut.as_ref())?));
        } else {
            send(Part::Stored(&frames.stored(frame)?));
        }
    }
    Ok(())
}

/// A multi-frame file that does not say where its frames are.
pub fn no_planes() -> DicomError {
    DicomError::missing("PerFrameFunctionalGroupsSequence")
}

/// A file's name need not be text.
mod path_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(from)?).into())
    }
}

enum Kind {
    Dicom,
    Archive,
    Unknown,
}

/// By content: names and suffixes say nothing.
fn kind(start: &[u8]) -> Kind {
    if meta_start(start).is_some() {
        Kind::Dicom
    } else if matches!(start, [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..]) || start.get(257..262) == Some(b"ustar")
    {
        Kind::Archive
    } else {
        Kind::Unknown
    }
}

/// A device or a pipe could keep us waiting for ever.
fn regular(path: &Path) -> Result<File, DicomError> {
    if std::fs::metadata(path)?.is_file() { Ok(File::open(path)?) } else { Err(DicomError::NotAFile) }
}

fn whole(mut file: File, limits: &Limits) -> Result<Vec<u8>, DicomError> {
    let bytes = file.metadata()?.len();
    if bytes > limits.file_bytes {
        return Err(DicomError::FileTooLarge { bytes, limit: limits.file_bytes });
    }
    file.rewind()?;
    let mut data = Vec::with_capacity(bytes as usize);
    file.take(limits.file_bytes).read_to_end(&mut data)?;
    Ok(data)
}

fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize, DicomError> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            n => length += n,
        }
    }
    Ok(length)
}
