//! What the decoding process does with one order: find the bytes, examine them, decode them.

use crate::header::Header;
use crate::pixels::{Frames, Rescale};
use crate::plain::Plain;
use crate::structure::{Structure, examine, examine_start, meta_start, read_growing};
use crate::worker::{Allowance, Part, Reply, Want, contained};
use crate::{DicomError, Limits};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
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
    /// The same within what the file unpacks to. Orders come in the order of the entries, so that going forward is enough.
    TarGz(PathBuf, Box<Unpacking>, Vec<(u64, u64)>),
}

/// A gzip file on its way to unpacked byte `at`, and how far it may go.
struct Unpacking {
    source: flate2::read::MultiGzDecoder<BufReader<File>>,
    at: u64,
    limit: u64,
}

impl Unpacking {
    fn start(path: &Path, limit: u64) -> Result<Self, DicomError> {
        let source = flate2::read::MultiGzDecoder::new(BufReader::new(regular(path)?));
        Ok(Self { source, at: 0, limit })
    }
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.at += read as u64;
        if self.at > self.limit { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(read) }
    }
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
                let mut start = vec![0; START_BYTES];
                let read = fill(&mut file, &mut start)?;
                start.truncate(read);
                match kind(&start) {
                    Kind::Archive if want == Want::Header => {
                        return self.contents(&source.path, limits, allowance, send);
                    }
                    Kind::Archive => return Err(DicomError::NestedArchive),
                    Kind::Unknown => return Err(DicomError::NotDicom),
                    Kind::Dicom if want == Want::Header => {
                        let metadata = bounded(&file, limits)?;
                        if let Some(structure) = examine_start(&start, metadata.len() as usize, limits) {
                            return head(&structure, Some(&metadata), limits, send);
                        }
                        whole(file, limits)?
                    }
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
                    let name = short(&entry.name().map_err(|_| DicomError::DamagedArchive)?);
                    entries.push(Entry { index, name });
                }
            }
            Self::Zip(zip)
        } else if start.starts_with(&GZIP) {
            let limit = limits.archive_bytes.min((64 << 20).max(packed.saturating_mul(limits.archive_ratio)));
            let mut tar = tar::Archive::new(Unpacking::start(path, limit)?);
            let places = tar.entries().map(|files| table(files, limits, &mut entries));
            let end = tar.into_inner().at;
            if end > limit {
                return Err(too_large(end, packed, limits));
            }
            let places = places.map_err(|_| DicomError::DamagedArchive)??;
            Self::TarGz(path.to_owned(), Box::new(Unpacking::start(path, limit)?), places)
        } else {
            let mut tar = tar::Archive::new(file);
            let files = tar.entries_with_seek().map_err(|_| DicomError::DamagedArchive)?;
            let places = table(files, limits, &mut entries)?;
            unpacked = places.iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size));
            Self::Tar(tar.into_inner(), places)
        };
        if unpacked > limits.archive_bytes || unpacked > 64 << 20 && unpacked / packed.max(1) > limits.archive_ratio {
            return Err(too_large(unpacked, packed, limits));
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
                let (position, size) = place(places, index, limits.file_bytes)?;
                allowance.set(size, limits)?;
                file.seek(SeekFrom::Start(position))?;
                let bytes = read_growing(&mut file.take(size))?;
                if bytes.len() as u64 == size { Ok(bytes) } else { Err(DicomError::DamagedArchive) }
            }
            Self::TarGz(path, unpacking, places) => {
                let packed = std::fs::metadata(&*path)?.len();
                let (position, size) = place(places, index, limits.unpacked(packed))?;
                if position < unpacking.at {
                    **unpacking = Unpacking::start(path, unpacking.limit)?;
                }
                let damaged = |_| DicomError::DamagedArchive;
                let skip = position - unpacking.at;
                std::io::copy(&mut unpacking.take(skip), &mut std::io::sink()).map_err(damaged)?;
                let bytes = read_growing(&mut unpacking.take(size)).map_err(damaged)?;
                if bytes.len() as u64 == size { Ok(bytes) } else { Err(DicomError::DamagedArchive) }
            }
        }
    }
}

/// Lists the files of a tar, and gives position and size of everything in it.
fn table<R: Read>(
    files: tar::Entries<R>,
    limits: &Limits,
    entries: &mut Vec<Entry>,
) -> Result<Vec<(u64, u64)>, DicomError> {
    let mut places = Vec::new();
    for entry in files {
        let entry = entry.map_err(|_| DicomError::DamagedArchive)?;
        if places.len() == limits.files {
            return Err(DicomError::TooManyFiles { limit: limits.files });
        }
        if entry.header().entry_type().is_file() {
            let name = short(&String::from_utf8_lossy(&entry.path_bytes()));
            entries.push(Entry { index: places.len(), name });
        }
        places.push((entry.raw_file_position(), entry.size()));
    }
    Ok(places)
}

/// Names only serve messages, and twenty thousand of them are kept.
fn short(name: &str) -> String {
    name.chars().take(256).collect()
}

fn place(places: &[(u64, u64)], index: usize, limit: u64) -> Result<(u64, u64), DicomError> {
    let &(position, size) = places.get(index).ok_or(DicomError::DamagedArchive)?;
    if size > limit { Err(DicomError::FileTooLarge { bytes: size, limit }) } else { Ok((position, size)) }
}

fn too_large(unpacked: u64, packed: u64, limits: &Limits) -> DicomError {
    let ratio = unpacked / packed.max(1);
    if unpacked > limits.archive_bytes {
        DicomError::ArchiveTooLarge { bytes: unpacked, limit: limits.archive_bytes }
    } else {
        DicomError::CompressionRatio { ratio, limit: limits.archive_ratio }
    }
}

/// Replies with the header, and with where the pixels are in the `file` if they can be read as they are.
fn head(
    structure: &Structure,
    file: Option<&Metadata>,
    limits: &Limits,
    mut send: impl FnMut(Part),
) -> Result<(), DicomError> {
    let mut header = Header::parse(structure)?;
    header.plain = file.and_then(|file| Plain::find(structure, &header, file, limits));
    send(Part::Head(Reply::File { header: Box::new(header), frame_bytes: 0 }));
    Ok(())
}

fn dicom(file: &[u8], want: Want, limits: &Limits, mut send: impl FnMut(Part)) -> Result<(), DicomError> {
    let structure = examine(file, limits)?;
    if want == Want::Header {
        return head(&structure, None, limits, send);
    }
    let header = Header::parse(&structure)?;
    let layout = &header.layout;
    let frames = Frames::open(&structure, layout, file.len() as u64, limits)?;
    let bytes_per_value = if want == Want::Hu { 2 } else { 4 };
    let frame_bytes = u64::from(layout.rows) * u64::from(layout.columns) * u64::from(layout.samples) * bytes_per_value;
    send(Part::Head(Reply::File { header: Box::new(header.clone()), frame_bytes }));
    for frame in 0..layout.frames {
        if want == Want::Hu {
            let plane = header.planes.get(frame as usize).ok_or_else(no_planes)?;
            send(Part::Hu(&frames.hu(frame, &Rescale::of(plane, header.lut.as_ref())?)?));
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
    } else if matches!(start, [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..]) || is_tar(start) || is_tar_gz(start) {
        Kind::Archive
    } else {
        Kind::Unknown
    }
}

/// What is read of a file to see what it is: the header of nearly every slice fits.
const START_BYTES: usize = 32 << 10;
const GZIP: [u8; 3] = [0x1F, 0x8B, 8];

fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

fn is_tar_gz(start: &[u8]) -> bool {
    let mut head = Vec::new();
    // The start ends in the middle of the stream: what came out before is enough.
    let _ = start.starts_with(&GZIP) && flate2::read::GzDecoder::new(start).take(512).read_to_end(&mut head).is_ok();
    is_tar(&head)
}

/// A device or a pipe could keep us waiting for ever, even one that takes a file's place at this moment.
pub fn regular(path: &Path) -> Result<File, DicomError> {
    if std::fs::metadata(path)?.is_file() {
        let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
        if file.metadata()?.is_file() {
            return Ok(file);
        }
    }
    Err(DicomError::NotAFile)
}

fn bounded(file: &File, limits: &Limits) -> Result<Metadata, DicomError> {
    let (metadata, limit) = (file.metadata()?, limits.file_bytes);
    let bytes = metadata.len();
    if bytes > limit { Err(DicomError::FileTooLarge { bytes, limit }) } else { Ok(metadata) }
}

fn whole(mut file: File, limits: &Limits) -> Result<Vec<u8>, DicomError> {
    let bytes = bounded(&file, limits)?.len();
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
