//! Uploads become numbered files in a folder of ours. Names that a client sends are never looked at: they can be
//! paths, and they can hold a patient's name. Sizes, counts and ratios are limited while writing, not afterwards.

use crate::config::Limits;
use axum::body::Bytes;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A study on disk that nobody has promised to keep yet; dropping it removes the folder.
#[derive(Debug)]
pub struct Received {
    folder: PathBuf,
    kept: bool,
    /// Files after unpacking, at least 1.
    pub files: usize,
    /// Bytes after unpacking.
    pub bytes: u64,
    /// SHA-256 of what was sent, part by part, in hex.
    pub sha256: String,
}

/// How the body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One file per part; a part that is a zip archive is unpacked.
    Files,
    /// One zip archive.
    Zip,
    /// One tar archive, not compressed.
    Tar,
}

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Nothing to analyse in it.
    #[error("no file in the request")]
    NoFiles,
    /// More files than allowed.
    #[error("more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// More bytes than allowed, as sent.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// More bytes than allowed, after unpacking.
    #[error("unpacks to more than {limit} bytes")]
    UnpackedTooLarge {
        /// The limit.
        limit: u64,
    },
    /// Unpacks to suspiciously much.
    #[error("unpacks to more than {limit} times its size")]
    Ratio {
        /// The limit.
        limit: u64,
    },
    /// Not an archive, damaged, encrypted or packed in a way that is not supported.
    #[error("not a readable {kind} archive")]
    BadArchive {
        /// `zip` or `tar`.
        kind: &'static str,
    },
    /// An archive with something else than files and folders.
    #[error("the archive holds a link or a special file")]
    NotAFile,
    /// The client went away before the end.
    #[error("the upload ended early")]
    Incomplete,
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] std::io::Error),
}

/// The way into a folder: pieces go in from the async side, one blocking thread writes them.
pub struct Intake {
    pieces: mpsc::Sender<Piece>,
    writer: JoinHandle<Result<Received, IntakeError>>,
}

enum Piece {
    NewFile,
    Data(Bytes),
    End,
}

impl Intake {
    /// Starts to receive into `folder`, which must not exist yet.
    pub fn start(folder: PathBuf, packing: Packing, limits: Limits) -> Self {
        // A handful of pieces in flight: a slow disk slows the client down and costs no memory.
        let (pieces, inbox) = mpsc::channel(8);
        let writer = tokio::task::spawn_blocking(move || receive(&folder, packing, limits, inbox));
        Self { pieces, writer }
    }

    /// The next data belongs to a new file. `false`: the writer has refused; [`Intake::finish`] says why.
    pub async fn new_file(&self) -> bool {
        self.pieces.send(Piece::NewFile).await.is_ok()
    }

    /// Data of the current file; `false` as above.
    pub async fn data(&self, data: Bytes) -> bool {
        self.pieces.send(Piece::Data(data)).await.is_ok()
    }

    /// Everything has been sent: unpacks, and waits for the disk.
    ///
    /// # Errors
    /// [`IntakeError`]; nothing is left on disk then.
    pub async fn finish(self) -> Result<Received, IntakeError> {
        let _ = self.pieces.send(Piece::End).await; // where the writer has refused, its error comes next
        drop(self.pieces);
        // The text of a panic may hold anything; it goes nowhere.
        self.writer.await.map_err(|_| IntakeError::Disk(std::io::Error::other("the writer broke down")))?
    }
}

impl Received {
    /// The folder stays from now on.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing to do about a failure here: the next start removes folders that no study belongs to.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn receive(
    folder: &Path,
    packing: Packing,
    limits: Limits,
    mut inbox: mpsc::Receiver<Piece>,
) -> Result<Received, IntakeError> {
    std::fs::create_dir_all(folder)?;
    // From here on every early return removes the folder.
    let mut received = Received { folder: folder.into(), kept: false, files: 0, bytes: 0, sha256: String::new() };
    let mut shelf = Shelf { folder, limits, next: 0, files: 0, bytes: 0 };
    let mut sent = 0u64;
    let mut digest = Sha256::new();
    let mut parts: Vec<PathBuf> = Vec::new();
    let mut current: Option<BufWriter<File>> = None;
    loop {
        match inbox.blocking_recv() {
            None => return Err(IntakeError::Incomplete),
            Some(Piece::End) => break,
            Some(Piece::NewFile) => {
                close(current.take())?;
                if parts.len() == limits.files {
                    return Err(IntakeError::TooManyFiles { limit: limits.files });
                }
                // Where one part ends matters: "ab" and "a", "b" are different requests.
                digest.update(sent.to_le_bytes());
                let (path, file) = shelf.create()?;
                parts.push(path);
                current = Some(file);
            }
            Some(Piece::Data(data)) => {
                sent += data.len() as u64;
                if sent > limits.upload_bytes {
                    return Err(IntakeError::TooLarge { limit: limits.upload_bytes });
                }
                digest.update(&data);
                current.as_mut().ok_or(IntakeError::NoFiles)?.write_all(&data)?;
            }
        }
    }
    close(current.take())?;
    for part in parts {
        match packing {
            Packing::Tar => shelf.unpack_tar(&part)?,
            Packing::Zip => shelf.unpack_zip(&part)?,
            Packing::Files if is_zip(&part)? => shelf.unpack_zip(&part)?,
            Packing::Files => {
                let bytes = std::fs::metadata(&part)?.len();
                shelf.count(1, bytes)?;
                continue;
            }
        }
        std::fs::remove_file(&part)?;
    }
    if shelf.files == 0 {
        return Err(IntakeError::NoFiles);
    }
    File::open(folder)?.sync_all()?; // the names, too, must survive a power failure
    received.files = shelf.files;
    received.bytes = shelf.bytes;
    received.sha256 = hex(&digest.finalize());
    Ok(received)
}

/// The folder with what it still may take.
struct Shelf<'a> {
    folder: &'a Path,
    limits: Limits,
    next: usize,
    files: usize,
    bytes: u64,
}

impl Shelf<'_> {
    #[lungai_trace::implements("SW-906")]
    fn create(&mut self) -> Result<(PathBuf, BufWriter<File>), IntakeError> {
        let path = self.folder.join(format!("{:06}", self.next));
        self.next += 1;
        let file = File::create_new(&path)?;
        Ok((path, BufWriter::with_capacity(256 * 1024, file)))
    }

    fn count(&mut self, files: usize, bytes: u64) -> Result<(), IntakeError> {
        self.files += files;
        self.bytes += bytes;
        if self.files > self.limits.files {
            return Err(IntakeError::TooManyFiles { limit: self.limits.files });
        }
        if self.bytes > self.limits.unpacked_bytes {
            return Err(IntakeError::UnpackedTooLarge { limit: self.limits.unpacked_bytes });
        }
        Ok(())
    }

    /// Writes one archive entry, stopping at the first byte beyond a limit. `archive` is its archive's size and what
    /// has come out of it so far.
    fn unpack(&mut self, entry: &mut impl Read, archive: &mut Archive) -> Result<(), IntakeError> {
        self.count(1, 0)?;
        let (_, mut file) = self.create()?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = entry.read(&mut buffer).map_err(|_| IntakeError::BadArchive { kind: archive.kind })?;
            if n == 0 {
                return close(Some(file));
            }
            archive.unpacked += n as u64;
            if archive.unpacked > archive.packed.saturating_mul(self.limits.ratio) {
                return Err(IntakeError::Ratio { limit: self.limits.ratio });
            }
            self.count(0, n as u64)?;
            file.write_all(&buffer[..n])?;
        }
    }

    fn unpack_zip(&mut self, path: &Path) -> Result<(), IntakeError> {
        let bad = |_| IntakeError::BadArchive { kind: "zip" };
        let mut file = BufReader::new(File::open(path)?);
        // The directory is read into memory; each of its entries begins with this signature, so their number is
        // known to be bounded before anything is allocated for them. Few more can be chance matches.
        let entries = count_signature(&mut file, *b"PK\x01\x02")?;
        if entries > self.limits.files.saturating_add(64) as u64 {
            return Err(IntakeError::TooManyFiles { limit: self.limits.files });
        }
        file.rewind()?;
        let mut zip = zip::ZipArchive::new(file).map_err(bad)?;
        let mut archive = Archive { kind: "zip", packed: std::fs::metadata(path)?.len(), unpacked: 0 };
        for i in 0..zip.len() {
            let mut entry = zip.by_index(i).map_err(bad)?;
            if entry.is_symlink() {
                return Err(IntakeError::NotAFile);
            }
            if entry.is_dir() {
                continue;
            }
            self.unpack(&mut entry, &mut archive)?;
        }
        Ok(())
    }

    fn unpack_tar(&mut self, path: &Path) -> Result<(), IntakeError> {
        use tar::EntryType;
        let bad = |_| IntakeError::BadArchive { kind: "tar" };
        let mut tar = tar::Archive::new(BufReader::new(File::open(path)?));
        let mut archive = Archive { kind: "tar", packed: std::fs::metadata(path)?.len(), unpacked: 0 };
        // Raw: long names are entries to skip, not strings to collect in memory.
        for entry in tar.entries().map_err(bad)?.raw(true) {
            let mut entry = entry.map_err(bad)?;
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => self.unpack(&mut entry, &mut archive)?,
                EntryType::Directory
                | EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader => (),
                _ => return Err(IntakeError::NotAFile),
            }
        }
        Ok(())
    }
}

struct Archive {
    kind: &'static str,
    packed: u64,
    unpacked: u64,
}

/// An accepted study must survive a power failure, so its bytes are on the disk before the client hears of it.
fn close(file: Option<BufWriter<File>>) -> Result<(), IntakeError> {
    if let Some(file) = file {
        file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    }
    Ok(())
}

fn is_zip(path: &Path) -> Result<bool, IntakeError> {
    let mut magic = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(magic == b"PK\x03\x04")
}

fn count_signature(reader: &mut impl Read, signature: [u8; 4]) -> Result<u64, IntakeError> {
    let mut buffer = vec![0; 64 * 1024];
    let (mut window, mut count) = (0u32, 0);
    let wanted = u32::from_be_bytes(signature);
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok(count);
        }
        for byte in &buffer[..n] {
            window = window << 8 | u32::from(*byte);
            count += u64::from(window == wanted);
        }
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use zip::write::SimpleFileOptions;

    fn limits() -> Limits {
        Limits {
            files: 8,
            ratio: 50,
            unpacked_bytes: 1 << 20,
            upload_bytes: 1 << 20,
            ..crate::Config::example().limits
        }
    }

    /// The names and contents that a request leaves behind.
    fn check(packing: Packing, parts: &[&[u8]], limits: Limits) -> Result<Vec<(String, Vec<u8>)>, IntakeError> {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("study");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let received = runtime.block_on(async {
            let intake = Intake::start(folder.clone(), packing, limits);
            for part in parts {
                intake.new_file().await;
                for piece in part.chunks(1000) {
                    intake.data(Bytes::copy_from_slice(piece)).await;
                }
            }
            intake.finish().await
        });
        match received {
            Ok(received) => {
                let mut files: Vec<_> = std::fs::read_dir(&folder)
                    .unwrap()
                    .map(|entry| entry.unwrap())
                    .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
                    .collect();
                files.sort();
                assert_eq!(received.files, files.len());
                assert_eq!(received.bytes, files.iter().map(|(_, data)| data.len() as u64).sum::<u64>());
                drop(received);
                assert!(!folder.exists(), "a study that nobody keeps goes");
                Ok(files)
            }
            Err(error) => {
                assert!(!folder.exists(), "a refused upload leaves nothing behind");
                assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
                Err(error)
            }
        }
    }

    fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, data) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(data).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[verifies("SR-003", "SW-906")]
    #[test]
    fn names_in_archives_are_not_used() {
        let archive = zip_of(&[("../../etc/passwd", b"one"), ("/DOE^JOHN.dcm", b"two"), ("a/../../b", b"three")]);
        let files = check(Packing::Zip, &[&archive], limits()).unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["000001", "000002", "000003"]);
        assert_eq!(files[2].1, b"three");
    }

    #[test]
    fn a_tar_unpacks_to_its_files() {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in [("x/1", b"one"), ("x/2", b"two")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(3);
            tar.append_data(&mut header, name, &data[..]).unwrap();
        }
        let archive = tar.into_inner().unwrap();
        let files = check(Packing::Tar, &[&archive], limits()).unwrap();
        assert_eq!(files.iter().map(|(_, data)| &data[..]).collect::<Vec<_>>(), [b"one", b"two"]);
        assert!(matches!(
            check(Packing::Tar, &[&archive[..700]], limits()),
            Err(IntakeError::BadArchive { kind: "tar" })
        ));
    }

    #[test]
    fn a_link_in_an_archive_is_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "x", "/etc/passwd").unwrap();
        assert!(matches!(check(Packing::Tar, &[&tar.into_inner().unwrap()], limits()), Err(IntakeError::NotAFile)));

        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.add_symlink("x", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        let archive = zip.finish().unwrap().into_inner();
        assert!(matches!(check(Packing::Zip, &[&archive], limits()), Err(IntakeError::NotAFile)));
    }

    #[test]
    fn a_zip_among_files_is_unpacked_and_one_inside_a_zip_is_not() {
        let inner = zip_of(&[("slice", b"pixels")]);
        let outer = zip_of(&[("inner.zip", &inner)]);
        let files = check(Packing::Files, &[b"plain", &outer], limits()).unwrap();
        assert_eq!(files.iter().map(|(_, data)| &data[..]).collect::<Vec<_>>(), [b"plain", &inner[..]]);
    }

    #[test]
    fn a_zip_bomb_is_stopped_by_ratio_and_by_size() {
        let bomb = zip_of(&[("zeros", &vec![0; 900_000])]);
        assert!(bomb.len() < 900_000 / 50);
        assert!(matches!(check(Packing::Zip, &[&bomb], limits()), Err(IntakeError::Ratio { limit: 50 })));
        let roomy = Limits { ratio: 10_000, unpacked_bytes: 500_000, ..limits() };
        assert!(matches!(check(Packing::Zip, &[&bomb], roomy), Err(IntakeError::UnpackedTooLarge { limit: 500_000 })));
    }

    #[test]
    fn counts_are_limited_for_parts_and_for_entries() {
        let nine: Vec<&[u8]> = vec![b"x"; 9];
        assert!(matches!(check(Packing::Files, &nine, limits()), Err(IntakeError::TooManyFiles { limit: 8 })));
        let names: Vec<String> = (0..200).map(|i| format!("f{i}")).collect();
        let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
        for n in [9, 200] {
            let archive = zip_of(&entries[..n]);
            assert!(matches!(check(Packing::Zip, &[&archive], limits()), Err(IntakeError::TooManyFiles { limit: 8 })));
        }
        assert_eq!(check(Packing::Zip, &[&zip_of(&entries[..8])], limits()).unwrap().len(), 8);
    }

    #[test]
    fn damaged_and_empty_archives_are_refused() {
        let mut archive = zip_of(&[("slice", &(0..5000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())]);
        assert!(matches!(check(Packing::Zip, &[b"no zip"], limits()), Err(IntakeError::BadArchive { kind: "zip" })));
        assert!(matches!(
            check(Packing::Zip, &[&archive[..archive.len() / 2]], limits()),
            Err(IntakeError::BadArchive { kind: "zip" })
        ));
        archive[1000] ^= 0xff;
        assert!(matches!(check(Packing::Zip, &[&archive], limits()), Err(IntakeError::BadArchive { kind: "zip" })));
        assert!(matches!(check(Packing::Zip, &[&zip_of(&[])], limits()), Err(IntakeError::NoFiles)));
        assert!(matches!(check(Packing::Files, &[], limits()), Err(IntakeError::NoFiles)));
    }

    #[test]
    fn too_many_bytes_are_refused() {
        let big = vec![7; (1 << 20) + 1];
        assert!(matches!(check(Packing::Files, &[&big], limits()), Err(IntakeError::TooLarge { limit: 0x100000 })));
    }

    #[tokio::test]
    async fn an_upload_that_breaks_off_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let intake = Intake::start(base.path().join("study"), Packing::Files, limits());
        intake.new_file().await;
        intake.data(Bytes::from_static(b"half")).await;
        let Intake { pieces, writer } = intake;
        drop(pieces);
        assert!(matches!(writer.await.unwrap(), Err(IntakeError::Incomplete)));
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
