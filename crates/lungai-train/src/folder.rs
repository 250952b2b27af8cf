//! Folders that are there whole or not at all.

use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;

/// Makes `folder` of what `write` puts into a draft beside it. Nothing is left where `write` fails.
pub fn whole(folder: &Path, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    ensure!(!folder.exists(), "{} exists already; choose another folder", folder.display());
    let name = folder.file_name().with_context(|| format!("{} names no folder", folder.display()))?;
    let draft = folder.with_file_name(format!(".{}.draft-{}", name.to_string_lossy(), std::process::id()));
    fs::create_dir_all(&draft).with_context(|| format!("{}", draft.display()))?;
    let written =
        write(&draft).and_then(|()| fs::rename(&draft, folder).with_context(|| format!("{}", folder.display())));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_dir_all(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_half_way_leaves_nothing() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("out");
        let error = whole(&folder, |draft| {
            fs::write(draft.join("first"), "")?;
            anyhow::bail!("disk full")
        });
        assert_eq!(error.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read_dir(around.path()).unwrap().count(), 0);
        whole(&folder, |draft| Ok(fs::write(draft.join("first"), "")?)).unwrap();
        assert!(folder.join("first").exists());
        assert!(whole(&folder, |_| Ok(())).unwrap_err().to_string().contains("exists already"));
    }
}
