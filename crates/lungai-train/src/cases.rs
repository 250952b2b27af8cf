//! Which cases a run learns from and which it is judged by.

use crate::config::Fold;
use anyhow::ensure;
use lungai_datasets::{Case, Manifest, Split};
use std::collections::{BTreeMap, BTreeSet};

/// The cases of a run; nobody is on both sides.
pub struct Cases {
    /// Batches are cut from these.
    pub train: Vec<Case>,
    /// The figures come from these.
    pub tune: Vec<Case>,
}

impl Cases {
    /// The data set's own split or, of its training and tuning cases together, one fold held out. The test cases are never
    /// touched.
    pub fn of(manifest: &Manifest, fold: Option<Fold>) -> anyhow::Result<Self> {
        let split = |split| manifest.cases(split).cloned().collect::<Vec<Case>>();
        let (mut train, mut tune) = (split(Split::Train), split(Split::Tune));
        if let Some(fold) = fold {
            let all: Vec<Case> = train.into_iter().chain(tune).collect();
            let held_out = held_out(all.iter().map(|case| (case.centre.as_str(), case.patient.as_str())), fold);
            let held_out: BTreeSet<String> = held_out.into_iter().map(str::to_owned).collect();
            (tune, train) = all.into_iter().partition(|case| held_out.contains(&case.patient));
        }
        ensure!(!train.is_empty() && !tune.is_empty(), "the data set needs cases of the splits `train` and `tune`");
        Ok(Self { train, tune })
    }
}

/// The patients of a fold. Each centre's patients, in the order of their names, are dealt to the folds in turn, so that every
/// fold has its share of every centre.
fn held_out<'a>(cases: impl Iterator<Item = (&'a str, &'a str)>, fold: Fold) -> BTreeSet<&'a str> {
    // A patient who was scanned at two centres goes with the first.
    let mut centre_of = BTreeMap::new();
    for (centre, patient) in cases {
        centre_of.entry(patient).or_insert(centre);
    }
    let mut by_centre: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (patient, centre) in centre_of {
        by_centre.entry(centre).or_default().push(patient);
    }
    let dealt = by_centre.into_values().flatten().enumerate();
    dealt.filter(|(place, _)| place % fold.of == fold.index).map(|(_, patient)| patient).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patient_is_held_out_once_and_each_centre_is_in_every_fold() {
        let cases: Vec<(String, String)> =
            (0..2).flat_map(|c| (0..10).map(move |p| (format!("c{c}"), format!("c{c}-p{}", p / 2)))).collect();
        let folds: Vec<BTreeSet<&str>> = (0..5)
            .map(|index| held_out(cases.iter().map(|(c, p)| (c.as_str(), p.as_str())), Fold { index, of: 5 }))
            .collect();
        assert_eq!(folds.iter().map(BTreeSet::len).sum::<usize>(), 10);
        assert_eq!(folds.iter().flatten().collect::<BTreeSet<_>>().len(), 10);
        for fold in &folds {
            // Both scans of a patient are one name here: two patients, one of each centre.
            assert_eq!(fold.iter().map(|p| &p[..2]).collect::<Vec<_>>(), ["c0", "c1"]);
        }
    }
}
