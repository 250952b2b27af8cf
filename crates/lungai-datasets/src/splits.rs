//! Which patient is in which split: by a keyed hash, evenly at every centre, and for ever.

use crate::DatasetError;
use crate::error::Fault;
use crate::hash::hex;
use crate::manifest::Split;
use crate::table::Table;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::path::Path;

/// How patients are divided. A held-out centre is tested on and never trained on; the others train and tune.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRule {
    /// Key of the hash that orders patients, at least 16 characters. Another key gives another, equally arbitrary split;
    /// who does not know it cannot tell beforehand where a patient will fall.
    pub key: String,
    /// Share of each training centre's patients that tune, `0..=0.5`.
    pub tune_share: f64,
    /// Centres of the test split. None: the set has no test cases.
    pub held_out_centres: Vec<String>,
}

/// A patient's line of `splits.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub centre: String,
    pub split: Split,
}

const COLUMNS: [&str; 3] = ["patient", "centre", "split"];

/// HMAC-SHA256 in hex (RFC 2104, FIPS 198-1).
pub(crate) fn keyed_hash(key: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// A centre's name as sets spell it: lower-case letters and digits, with hyphens between words.
pub(crate) fn centre_name(given: &str) -> String {
    let words = given.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

impl SplitRule {
    /// The broken rule with its key and value, for the line in the file.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String, String)> {
        if self.key.len() < 16 {
            return Err(("key", self.key.clone(), "splits: the key needs at least 16 characters".into()));
        }
        if !(0.0..=0.5).contains(&self.tune_share) {
            let value = self.tune_share.to_string();
            return Err(("tune_share", value.clone(), format!("splits: tune_share {value} must be within 0..=0.5")));
        }
        // Spelt otherwise it would hold nobody out, without a word.
        if let Some(centre) = self.held_out_centres.iter().find(|centre| **centre != centre_name(centre)) {
            let reason = format!("splits: held-out centre `{centre}` must be spelt `{}`", centre_name(centre));
            return Err(("held_out_centres", format!("[{}]", self.held_out_centres.join(", ")), reason));
        }
        Ok(())
    }

    /// Gives every patient of `centres` (patient to centre) a split, and keeps what `frozen` says.
    ///
    /// At a training centre the patients with the smallest hashes tune until the centre has its share, rounded to the
    /// nearest patient; so the share holds at each centre and not only on average. Patients that come later fill up what is
    /// missing and move nobody.
    ///
    /// # Errors
    /// [`Fault::DuplicatedPatient`] where a frozen patient would be seen by both training and test.
    pub(crate) fn assign(
        &self,
        centres: &BTreeMap<String, String>,
        frozen: &BTreeMap<String, Assigned>,
        file: &Path,
    ) -> Result<BTreeMap<String, Assigned>, DatasetError> {
        let held_out = |centre: &String| self.held_out_centres.contains(centre);
        for (line, (patient, was)) in (2..).zip(frozen) {
            let refuse = |reason| Err(DatasetError::fault(Fault::DuplicatedPatient, file, line, reason));
            if held_out(&was.centre) != (was.split == Split::Test) {
                let (split, centre) = (was.split.name(), &was.centre);
                let now = if held_out(&was.centre) { "held out now" } else { "no longer held out" };
                return refuse(format!(
                    "a patient of centre {centre} is frozen to {split}, but the centre is {now}; give the set another \
                     version in another folder"
                ));
            }
            if let Some(centre) = centres.get(patient).filter(|centre| **centre != was.centre) {
                return refuse(format!("a patient of centre {} is seen at centre {centre} now", was.centre));
            }
        }
        let mut assigned = frozen.clone();
        let mut fresh: BTreeMap<&String, Vec<(String, &String)>> = BTreeMap::new();
        for (patient, centre) in centres.iter().filter(|(patient, _)| !frozen.contains_key(*patient)) {
            fresh.entry(centre).or_default().push((keyed_hash(&self.key, &format!("split:{patient}")), patient));
        }
        for (centre, mut patients) in fresh {
            patients.sort();
            let known = |split| frozen.values().filter(|a| a.centre == *centre && a.split == split).count();
            let (tuning, training) = (known(Split::Tune), known(Split::Train));
            let due = (self.tune_share * (tuning + training + patients.len()) as f64).round() as usize;
            let more = due.saturating_sub(tuning);
            for (rank, (_, patient)) in patients.into_iter().enumerate() {
                let split = match () {
                    () if held_out(centre) => Split::Test,
                    () if rank < more => Split::Tune,
                    () => Split::Train,
                };
                assigned.insert(patient.clone(), Assigned { centre: centre.clone(), split });
            }
        }
        Ok(assigned)
    }
}

/// Reads a frozen `splits.csv`; an absent one is empty.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Assigned>, DatasetError> {
    let mut assigned = BTreeMap::new();
    if !path.exists() {
        return Ok(assigned);
    }
    for row in Table::read(path, &COLUMNS, &[])?.rows() {
        let split = match row.text("split") {
            "train" => Split::Train,
            "tune" => Split::Tune,
            "test" => Split::Test,
            other => return Err(row.refuse(format!("split `{other:.20}` is none of train, tune, test"))),
        };
        let patient = row.text("patient");
        if assigned.contains_key(patient) {
            return Err(row.fault(Fault::DuplicatedPatient, "this patient has a line already".into()));
        }
        // So that a patient's place in the map is the line in the file.
        if assigned.last_key_value().is_some_and(|(last, _)| last.as_str() > patient) {
            return Err(row.refuse("lines must be in the order of the patients".into()));
        }
        assigned.insert(patient.to_owned(), Assigned { centre: row.text("centre").to_owned(), split });
    }
    Ok(assigned)
}

/// The table that [`read`] reads, in order of the patients.
pub(crate) fn csv(assigned: &BTreeMap<String, Assigned>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(COLUMNS).and_then(|()| {
        assigned.iter().try_for_each(|(patient, a)| writer.write_record([patient, &a.centre, a.split.name()]))
    });
    written.expect("memory takes every row");
    writer.into_inner().expect("memory takes every row")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn rule() -> SplitRule {
        SplitRule { key: "0123456789abcdef".into(), tune_share: 0.2, held_out_centres: vec!["west".into()] }
    }

    fn patients(counts: &[(&str, usize)]) -> BTreeMap<String, String> {
        let each = |(centre, n): &(&str, usize)| {
            let centre = centre.to_string();
            (0..*n).map(move |i| (format!("{centre}-{i}"), centre.clone()))
        };
        counts.iter().flat_map(each).collect()
    }

    fn count(assigned: &BTreeMap<String, Assigned>, centre: &str) -> [usize; 3] {
        [Split::Train, Split::Tune, Split::Test]
            .map(|split| assigned.values().filter(|a| a.centre == centre && a.split == split).count())
    }

    #[test]
    fn the_hash_is_that_of_rfc_4231() {
        // Test case 2 of RFC 4231.
        let mac = keyed_hash("Jefe", "what do ya want for nothing?");
        assert_eq!(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[verifies("FR-001")]
    #[test]
    fn every_training_centre_gives_its_share_and_held_out_centres_are_tested_on() {
        let all = patients(&[("north", 100), ("south", 9), ("west", 7)]);
        let assigned = rule().assign(&all, &BTreeMap::new(), Path::new("splits.csv")).unwrap();
        assert_eq!(count(&assigned, "north"), [80, 20, 0]);
        assert_eq!(count(&assigned, "south"), [7, 2, 0]); // 0.2 * 9 = 1.8
        assert_eq!(count(&assigned, "west"), [0, 0, 7]);
        let other = SplitRule { key: "another key, also long".into(), ..rule() };
        assert_ne!(other.assign(&all, &BTreeMap::new(), Path::new("s")).unwrap(), assigned);
    }

    #[test]
    fn later_patients_move_nobody() {
        let first = rule().assign(&patients(&[("north", 10)]), &BTreeMap::new(), Path::new("s")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("splits.csv");
        std::fs::write(&file, csv(&first)).unwrap();
        let frozen = read(&file).unwrap();
        assert_eq!(frozen, first);
        // Twice the patients, and the first five gone: they keep their lines for the day they come back.
        let mut all = patients(&[("north", 20)]);
        all.retain(|patient, _| !["north-0", "north-1", "north-2", "north-3", "north-4"].contains(&patient.as_str()));
        let second = rule().assign(&all, &frozen, &file).unwrap();
        assert!(first.iter().all(|(patient, a)| second[patient] == *a));
        assert_eq!(count(&second, "north"), [16, 4, 0]);
    }

    #[test]
    fn a_frozen_patient_cannot_change_sides() {
        let first = rule().assign(&patients(&[("north", 3)]), &BTreeMap::new(), Path::new("s")).unwrap();
        let check = |rule: SplitRule, all: BTreeMap<String, String>, expected: &str| {
            let error = rule.assign(&all, &first, Path::new("splits.csv")).unwrap_err();
            assert_eq!((error.rule().as_str(), error.to_string().as_str()), ("duplicated-patient", expected));
        };
        assert_eq!(first["north-0"].split, Split::Tune);
        check(
            SplitRule { held_out_centres: vec!["north".into()], ..rule() },
            BTreeMap::new(),
            "splits.csv, line 2: a patient of centre north is frozen to tune, but the centre is held out now; give the \
             set another version in another folder",
        );
        check(
            rule(),
            BTreeMap::from([("north-1".to_owned(), "west".to_owned())]),
            "splits.csv, line 3: a patient of centre north is seen at centre west now",
        );
    }

    #[test]
    fn a_patient_twice_in_the_frozen_table_is_refused_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("splits.csv");
        std::fs::write(&file, "patient,centre,split\np1,north,train\np2,north,tune\np1,north,tune\n").unwrap();
        let error = read(&file).unwrap_err();
        assert_eq!(error.rule(), "duplicated-patient");
        assert_eq!(error.to_string(), "splits.csv, line 4: this patient has a line already");
    }
}
