//! Nothing half-written: files come into being out of sight and move to their place together.

use crate::failure::{Failure, io};
use std::path::{Path, PathBuf};

/// A folder inside of the one for results, in which everything is written before anything of it counts.
pub struct Staging {
    /// Where to write.
    pub folder: PathBuf,
    out: PathBuf,
}

impl Staging {
    /// Makes the folder, and `out` where it does not exist.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(out: &Path) -> Result<Self, Failure> {
        let folder = out.join(".unfinished");
        // What was left by a program that was ended by force.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        Ok(Self { folder, out: out.to_owned() })
    }

    /// Moves every file to its place, `last` last; an earlier one of that name goes first, so that it never speaks of files
    /// that came later.
    ///
    /// # Errors
    /// What the file system says.
    pub fn publish(self, last: &str) -> Result<(), Failure> {
        let old = self.out.join(last);
        if old.exists() {
            std::fs::remove_file(&old).map_err(io(&old))?;
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(io(&self.folder))? {
            names.push(entry.map_err(io(&self.folder))?.file_name());
        }
        names.sort_by_key(|name| (name == last, name.clone()));
        for name in names {
            let to = self.out.join(&name);
            if to.is_dir() {
                std::fs::remove_dir_all(&to).map_err(io(&to))?;
            }
            std::fs::rename(self.folder.join(&name), &to).map_err(io(&to))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a failure; nobody can be told more.
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_together_or_not_at_all() {
        let out = tempfile::tempdir().unwrap();
        let at = |name: &str| out.path().join(name);
        std::fs::write(at("results.json"), "old").unwrap();
        let staging = Staging::new(out.path()).unwrap();
        std::fs::write(staging.folder.join("a.csv"), "new").unwrap();
        drop(staging);
        assert_eq!(std::fs::read_to_string(at("results.json")).unwrap(), "old");
        assert!(!at("a.csv").exists() && !at(".unfinished").exists());

        let staging = Staging::new(out.path()).unwrap();
        std::fs::write(staging.folder.join("a.csv"), "new").unwrap();
        std::fs::write(staging.folder.join("results.json"), "new").unwrap();
        staging.publish("results.json").unwrap();
        assert_eq!(std::fs::read_to_string(at("results.json")).unwrap(), "new");
        assert!(at("a.csv").exists() && !at(".unfinished").exists());
    }
}
