//! Nothing half-written: files come into being out of sight and move to their place together.

use crate::analysis::hash;
use crate::failure::{Failure, io};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Component, Path, PathBuf};

/// A folder inside of the one for results, in which everything is written before anything of it counts.
pub struct Staging {
    /// Where to write.
    pub folder: PathBuf,
    out: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl Staging {
    /// Makes the folder, and `out` where it does not exist.
    ///
    /// # Errors
    /// `busy` (exit code 75) where another program writes there; what the file system says.
    pub fn new(out: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(out).map_err(io(out))?;
        let path = out.join(".lock");
        let lock = File::options().create(true).write(true).truncate(false).open(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::later("busy", "another program writes results into this folder"));
            }
            Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
        }
        let folder = out.join(".unfinished");
        // What was left by a program that was ended by force.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        Ok(Self { folder, out: out.to_owned(), _lock: lock })
    }

    /// SHA-256 of every file that was written so far, by its path below the folder. Kept as `files` in the file that is
    /// published last, they tell what belongs to it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn files(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(io(&folder))? {
                let path = entry.map_err(io(&folder))?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&self.folder).expect("below it").to_string_lossy().into_owned();
                files.insert(name, hash(&path)?);
            }
        }
        Ok(files)
    }

    /// Moves every file to its place, `last` last; an earlier one of that name goes first, so that it never speaks of files
    /// that came later, and so do the files that it named.
    ///
    /// # Errors
    /// What the file system says.
    pub fn publish(self, last: &str) -> Result<(), Failure> {
        let old = self.out.join(last);
        let stale = named(&old);
        if old.exists() {
            std::fs::remove_file(&old).map_err(io(&old))?;
        }
        for file in stale {
            let path = self.out.join(file);
            if path.is_file() {
                std::fs::remove_file(&path).map_err(io(&path))?;
            }
            // Only where nothing else is in it.
            _ = path.parent().filter(|folder| *folder != self.out).map(std::fs::remove_dir);
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

/// The files that an earlier result names; none where it cannot be read.
fn named(path: &Path) -> Vec<PathBuf> {
    let value: Option<serde_json::Value> = std::fs::read(path).ok().and_then(|b| serde_json::from_slice(&b).ok());
    let files = value.iter().filter_map(|value| value["files"].as_object()).flatten();
    let inside = |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_)));
    files.map(|(name, _)| PathBuf::from(name)).filter(inside).collect()
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a failure; nobody can be told more. The lock's file stays: who removes it takes it from who waits for it.
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

    #[test]
    fn two_programs_do_not_write_the_same_results_at_a_time() {
        let out = tempfile::tempdir().unwrap();
        let first = Staging::new(out.path()).unwrap();
        let second = Staging::new(out.path()).err().unwrap();
        assert_eq!((second.exit, second.rule.as_str()), (75, "busy"));
        drop(first);
        assert!(Staging::new(out.path()).is_ok());
    }

    #[test]
    fn files_of_an_earlier_analysis_go_and_those_of_others_stay() {
        let out = tempfile::tempdir().unwrap();
        let publish = |names: &[&str]| {
            let staging = Staging::new(out.path()).unwrap();
            for name in names {
                let path = staging.folder.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
            let files = staging.files().unwrap();
            std::fs::write(staging.folder.join("results.json"), serde_json::json!({ "files": files }).to_string())
                .unwrap();
            staging.publish("results.json").unwrap();
            files
        };
        let files = publish(&["a.csv", "readers.svg", "failures/01.png"]);
        assert_eq!(files["failures/01.png"], lungai_datasets::sha256(b"failures/01.png"));
        std::fs::write(out.path().join("notes.txt"), "mine").unwrap();
        publish(&["a.csv"]);
        let exists = |name: &str| out.path().join(name).exists();
        assert!(exists("a.csv") && exists("notes.txt"));
        assert!(!exists("readers.svg") && !exists("failures"));
    }
}
