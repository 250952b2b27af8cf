//! Files that are read within bounds, and take their name only when they are complete.

use crate::DatasetError;
use crate::error::name;
use std::io::Read;
use std::path::Path;

/// Longest table or description that is read: LUNA16's candidates have 20 MB.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// A whole file of at most [`MAX_BYTES`], unpacked where its name ends in `.gz`. What is longer, or unpacks to more, is refused
/// before it fills the memory.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>, DatasetError> {
    let file = std::fs::File::open(path).map_err(DatasetError::io(path))?;
    let mut bytes = Vec::new();
    let limited = file.take(MAX_BYTES + 1);
    let read = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz")) {
        flate2::read::MultiGzDecoder::new(limited).take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        { limited }.read_to_end(&mut bytes)
    };
    read.map_err(DatasetError::io(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        let reason = format!("the file is longer than {MAX_BYTES} bytes");
        return Err(DatasetError::Config { file: name(path), line: 1, reason });
    }
    Ok(bytes)
}

/// [`read_whole`] of a text in UTF-8 that a person named: a manifest, a recipe, a configuration, a table. Where it cannot be
/// opened, the message has the path as it was given.
pub(crate) fn read_text(path: &Path) -> Result<String, DatasetError> {
    let bytes = read_whole(path).map_err(|error| match error {
        DatasetError::Io { source, .. } => DatasetError::Io { file: path.display().to_string(), source },
        other => other,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let read = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        DatasetError::Config { file: name(path), line, reason: "not a text in UTF-8".into() }
    })
}

/// Writes `bytes` to a draft beside `path` and renames it: a reader sees the old file or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let draft = path.with_file_name(format!(".{}.{}.part", name(path), std::process::id()));
    std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, path)).map_err(|source| {
        // The draft may not exist; the first error is the one to tell.
        let _ = std::fs::remove_file(&draft);
        DatasetError::Io { file: name(path), source }
    })
}

/// Removes a file that may be absent.
pub(crate) fn remove_file(file: &Path) -> Result<(), DatasetError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DatasetError::io(file)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder that may be absent.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), DatasetError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DatasetError::io(folder)(error)),
        _ => Ok(()),
    }
}
