//! Files that take their name only when they are complete.

use crate::DatasetError;
use crate::error::name;
use std::path::Path;

/// Writes `bytes` to a draft beside `path` and renames it: a reader sees the old file or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let draft = path.with_file_name(format!(".{}.{}.part", name(path), std::process::id()));
    std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, path)).map_err(|source| {
        // The draft may not exist; the first error is the one to tell.
        let _ = std::fs::remove_file(&draft);
        DatasetError::Io { file: name(path), source }
    })
}

/// Removes a folder that may be absent.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), DatasetError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DatasetError::io(folder)(error)),
        _ => Ok(()),
    }
}
