//! The truth that a protocol compares with: which cases count, what is in them, what readers saw; and how it is joined with
//! what a system said.

use crate::failure::Failure;
use crate::protocol::{Metric, Protocol};
use crate::record::{FlowStep, Nodule, Prediction, ReaderMark, Reading, Rejected, ScanRecord, Tally};
use crate::rows::Rows;
use lungai_datasets::{Case, Manifest, Split, Unknown};
use lungai_trace::implements;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The protocol's cases with their truth.
#[derive(Debug)]
pub struct Reference<'a> {
    protocol: &'a Protocol,
    /// Test cases of the protocol's centres whose nodules are known, in the manifest's order.
    pub cases: Vec<Truth<'a>>,
    of_other_centres: Vec<&'a Case>,
    without_reference: Vec<&'a Case>,
}

/// What is known of one case.
#[derive(Debug)]
pub struct Truth<'a> {
    /// The case in its data set.
    pub case: &'a Case,
    nodules: Vec<Nodule>,
    readings: Vec<Reading>,
    sex: Option<String>,
    age_years: Option<f64>,
}

/// Truth and predictions of every case, joined.
#[derive(Debug, Default)]
pub struct Collected {
    /// Scans that were analysed.
    pub records: Vec<ScanRecord>,
    /// Scans that the quality gate refused.
    pub rejected: Vec<Rejected>,
    /// From the test split to the scans that were analysed.
    pub flow: Vec<FlowStep>,
    /// Test scans of centres that the protocol leaves out.
    pub of_other_centres: usize,
    /// Test scans whose nodules nobody marked.
    pub without_reference: usize,
}

impl<'a> Reference<'a> {
    /// Reads the truth of every test case of the protocol's centres. No image is opened.
    ///
    /// # Errors
    /// `no-test-cases` of a centre, `no-positives`, `one-class` where a criterion needs both, `unknown-study` in a table, or
    /// a table that is not what the manifest says.
    #[implements("SW-1102")]
    pub fn load(protocol: &'a Protocol, manifest: &'a Manifest, folder: &Path) -> Result<Self, Failure> {
        let centres: BTreeSet<&str> = protocol.centres.iter().map(String::as_str).collect();
        let (here, of_other_centres): (Vec<&Case>, Vec<&Case>) =
            manifest.cases(Split::Test).partition(|case| centres.contains(case.centre.as_str()));
        if let Some(empty) = protocol.centres.iter().find(|centre| !here.iter().any(|case| case.centre == **centre)) {
            return Err(Failure::new("no-test-cases", format!("centre `{empty}` has no test case in the manifest")));
        }
        let (known, without_reference): (Vec<&Case>, Vec<&Case>) =
            here.into_iter().partition(|case| case.nodules.is_some());
        let ids: BTreeSet<&str> = manifest.cases(Split::Test).map(|case| case.id.as_str()).collect();
        let mut people = match &protocol.covariates {
            Some(table) => people(&folder.join(table), &ids)?,
            None => BTreeMap::new(),
        };
        let mut readings: BTreeMap<String, Vec<Reading>> = BTreeMap::new();
        for table in &protocol.reference_standard.readings {
            let (reader, mut marks) = reading(&folder.join(table), &ids)?;
            let every_scan = protocol.reference_standard.every_scan_read;
            for case in &known {
                let Some(marks) = marks.remove(&case.id).or(every_scan.then(Vec::new)) else { continue };
                readings.entry(case.id.clone()).or_default().push(Reading { reader: reader.clone(), marks });
            }
        }
        let cases = known
            .into_iter()
            .map(|case| {
                let (sex, age_years) = people.remove(&case.id).unwrap_or_default();
                let readings = readings.remove(&case.id).unwrap_or_default();
                Ok(Truth { case, nodules: nodules(protocol, case)?, readings, sex, age_years })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let reference = Self { protocol, cases, of_other_centres, without_reference };
        reference.check()?;
        Ok(reference)
    }

    /// What no system could be judged by.
    fn check(&self) -> Result<(), Failure> {
        let scored: Vec<&Nodule> = self.cases.iter().flat_map(|c| &c.nodules).filter(|n| !n.excluded).collect();
        if scored.is_empty() {
            let message = format!("{} test scans hold no scored nodule: there is no sensitivity", self.cases.len());
            return Err(Failure::new("no-positives", message));
        }
        let asked = self.protocol.criteria().find(|c| matches!(c.metric, Metric::Auc | Metric::AucFound));
        let malignant = scored.iter().filter(|n| n.malignant == Some(true)).count();
        let benign = scored.iter().filter(|n| n.malignant == Some(false)).count();
        match asked {
            Some(criterion) if malignant == 0 || benign == 0 => {
                let id = &criterion.id;
                let message = format!(
                    "criterion {id} is an AUC, but {malignant} scored nodules are malignant and {benign} benign"
                );
                Err(Failure::new("one-class", message))
            }
            _ => Ok(()),
        }
    }

    /// The case of that name.
    ///
    /// # Errors
    /// `unknown-study`, with what it is instead where the data set knows it.
    pub fn find(&self, id: &str, manifest: &Manifest) -> Result<usize, String> {
        if let Some(at) = self.cases.iter().position(|truth| truth.case.id == id) {
            return Ok(at);
        }
        let case = manifest.all_cases().iter().find(|case| case.id == id);
        Err(match case {
            // A name that the data set does not know may be a patient's: the line says enough.
            None => "its study is none of the data set's".into(),
            Some(case) if case.split != Split::Test => format!("study `{id}` is in the split `{}`", case.split.name()),
            Some(case) if case.nodules.is_none() => format!("study `{id}` has no reference"),
            Some(case) => format!("study `{id}` is of centre `{}`, which is none of the protocol's", case.centre),
        })
    }

    /// Joins truth and predictions; both must be of the same cases. Scans that are not eligible are counted and left out.
    ///
    /// # Errors
    /// `missing-predictions` names how many; `empty-centre` of which no scan is eligible; `no-positives` among eligible ones.
    #[implements("SW-1102", "FR-004")]
    pub fn join(self, predictions: Vec<Prediction>) -> Result<Collected, Failure> {
        let mut predictions: BTreeMap<String, Prediction> =
            predictions.into_iter().map(|prediction| (prediction.case.clone(), prediction)).collect();
        let missing: Vec<&str> =
            self.cases.iter().map(|c| c.case.id.as_str()).filter(|id| !predictions.contains_key(*id)).collect();
        if let Some(first) = missing.first() {
            let (n, all) = (missing.len(), self.cases.len());
            return Err(Failure::later(
                "missing-predictions",
                format!("{n} of {all} cases have none, first `{first}`"),
            ));
        }
        let protocol = self.protocol;
        let mut flow = first_steps(&self);
        let mut collected = Collected {
            of_other_centres: self.of_other_centres.len(),
            without_reference: self.without_reference.len(),
            ..Collected::default()
        };
        let mut left: Vec<(Truth<'_>, Prediction)> = self
            .cases
            .into_iter()
            .filter_map(|truth| {
                let mut prediction = predictions.remove(&truth.case.id)?;
                prediction.acquisition.sex = truth.sex.clone();
                prediction.acquisition.age_years = truth.age_years;
                Some((truth, prediction))
            })
            .collect();
        for rule in &protocol.eligibility {
            let eligible = |(truth, prediction): &(Truth<'_>, Prediction)| {
                let value = rule.keep.of.of_scan(&truth.case.centre, &prediction.acquisition);
                rule.keep.holds(value).unwrap_or(rule.unknown == Unknown::Keep)
            };
            let (kept, out): (Vec<_>, Vec<_>) = left.into_iter().partition(eligible);
            left = kept;
            flow.push(step(&rule.id, &rule.reason, truths(&out), truths(&left)));
        }
        if let Some(empty) = protocol.centres.iter().find(|c| !left.iter().any(|(truth, _)| truth.case.centre == **c)) {
            return Err(Failure::new("empty-centre", format!("no scan of centre `{empty}` is eligible")));
        }
        let (analysed, refused): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, p)| p.quality != "reject");
        let reason = "the quality gate refuses the scan";
        flow.push(step("quality-gate", reason, truths(&refused), truths(&analysed)));
        collected.flow = flow;
        collected.rejected = refused
            .into_iter()
            .map(|(truth, prediction)| Rejected {
                case: truth.case.id.clone(),
                centre: truth.case.centre.clone(),
                nodules: truth.nodules.iter().filter(|nodule| !nodule.excluded).count(),
                reason: prediction.quality_rules.join(", "),
            })
            .collect();
        collected.records = analysed.into_iter().map(|(truth, prediction)| record(truth, prediction)).collect();
        if !collected.records.iter().flat_map(|r| &r.nodules).any(|nodule| !nodule.excluded) {
            let message = format!("{} eligible scans hold no scored nodule", collected.records.len());
            return Err(Failure::new("no-positives", message));
        }
        Ok(collected)
    }
}

fn record(truth: Truth<'_>, prediction: Prediction) -> ScanRecord {
    ScanRecord {
        case: truth.case.id.clone(),
        patient: truth.case.patient.clone(),
        centre: truth.case.centre.clone(),
        covariates: prediction.acquisition,
        quality: prediction.quality,
        quality_rules: prediction.quality_rules,
        lungs: prediction.lungs,
        seconds: prediction.seconds,
        nodules: truth.nodules,
        readings: truth.readings,
        marks: prediction.marks,
        baseline: prediction.baseline,
    }
}

/// From the test split to the cases whose truth was read.
fn first_steps(reference: &Reference<'_>) -> Vec<FlowStep> {
    let unseen = |parts: &[&[&Case]]| {
        let cases = parts.concat();
        let patients = BTreeSet::from_iter(cases.iter().map(|case| &case.patient)).len();
        Tally { scans: cases.len(), patients, nodules: None }
    };
    let known: Vec<&Case> = reference.cases.iter().map(|truth| truth.case).collect();
    let (elsewhere, unread) = (&reference.of_other_centres, &reference.without_reference);
    vec![
        step("test-split", "every scan of the test split", Tally::default(), unseen(&[&known, elsewhere, unread])),
        step("other-centre", "of no centre of the protocol", unseen(&[elsewhere]), unseen(&[&known, unread])),
        step("no-reference", "nobody marked its nodules", unseen(&[unread]), tally(&reference.cases)),
    ]
}

fn step(id: &str, reason: &str, out: Tally, left: Tally) -> FlowStep {
    FlowStep { id: id.into(), reason: reason.into(), out, left }
}

fn truths(cases: &[(Truth<'_>, Prediction)]) -> Tally {
    tally(cases.iter().map(|(truth, _)| truth))
}

fn tally<'t, 'a: 't>(cases: impl IntoIterator<Item = &'t Truth<'a>>) -> Tally {
    let (mut scans, mut nodules, mut patients) = (0, 0, BTreeSet::new());
    for truth in cases {
        scans += 1;
        nodules += truth.nodules.iter().filter(|nodule| !nodule.excluded).count();
        patients.insert(&truth.case.patient);
    }
    Tally { scans, patients: patients.len(), nodules: Some(nodules) }
}

fn nodules(protocol: &Protocol, case: &Case) -> Result<Vec<Nodule>, Failure> {
    let [smallest, largest] = protocol.scored_diameter_mm;
    let nodules = case.nodules()?.into_iter().map(|nodule| Nodule {
        id: nodule.id,
        position_lps_mm: nodule.position.0,
        diameter_mm: nodule.diameter_mm,
        volume_mm3: nodule.volume_mm3,
        long_axis_mm: nodule.long_axis_mm,
        short_axis_mm: nodule.short_axis_mm,
        lobe: nodule.lobe.map(|lobe| lobe.name().to_owned()),
        kind: nodule.kind.map(|kind| kind.name().to_owned()),
        malignant: nodule.malignant,
        excluded: nodule.excluded || !(smallest..=largest).contains(&nodule.diameter_mm),
    });
    Ok(nodules.collect())
}

type Person = (Option<String>, Option<f64>);

/// Sex and age of each case.
fn people(path: &Path, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, Person>, Failure> {
    let rows = Rows::read(path, &[&["case"]], &[&["sex"], &["age_years"]])?;
    let mut people = BTreeMap::new();
    for row in rows.iter() {
        let case = row.known_case(ids)?;
        let sex = match row.text("sex") {
            "" => None,
            sex @ ("female" | "male" | "other") => Some(sex.to_owned()),
            sex => return Err(row.refuse("bad-value", format!("sex `{sex:.20}` is none of female, male, other"))),
        };
        let age = row.optional("age_years")?;
        if let Some(age) = age.filter(|age| !(0.0..=120.0).contains(age)) {
            return Err(row.refuse("bad-value", format!("age_years {age} is not within 0..=120")));
        }
        if people.insert(case.to_owned(), (sex, age)).is_some() {
            return Err(row.refuse("duplicated-case", format!("case `{case}` occurs twice")));
        }
    }
    Ok(people)
}

/// A reader's name, and marks by case. A line without a position says that the scan was read and nothing marked.
fn reading(path: &Path, ids: &BTreeSet<&str>) -> Result<(String, BTreeMap<String, Vec<ReaderMark>>), Failure> {
    let reader = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let rows = Rows::read(
        path,
        &[&["case"], &["x_lps_mm"], &["y_lps_mm"], &["z_lps_mm"], &["diameter_mm"]],
        &[&["malignancy"]],
    )?;
    let mut marks: BTreeMap<String, Vec<ReaderMark>> = BTreeMap::new();
    let mut places: BTreeMap<(&str, [u64; 3]), usize> = BTreeMap::new();
    for row in rows.iter() {
        let case = row.known_case(ids)?;
        if ["x_lps_mm", "y_lps_mm", "z_lps_mm", "diameter_mm", "malignancy"]
            .iter()
            .all(|name| row.text(name).is_empty())
        {
            marks.entry(case.to_owned()).or_default();
            continue;
        }
        let diameter_mm = row.number("diameter_mm")?;
        if diameter_mm <= 0.0 {
            return Err(row.refuse("bad-value", format!("diameter_mm {diameter_mm} must be positive")));
        }
        let malignancy =
            match row.text("malignancy") {
                "" => None,
                text => Some(text.parse::<u8>().ok().filter(|rating| (1..=5).contains(rating)).ok_or_else(|| {
                    row.refuse("bad-value", format!("malignancy `{text:.20}` is no rating from 1 to 5"))
                })?),
            };
        let position_lps_mm = [row.number("x_lps_mm")?, row.number("y_lps_mm")?, row.number("z_lps_mm")?];
        let place = (case, position_lps_mm.map(|mm| (mm + 0.0).to_bits()));
        if let Some(first) = places.insert(place, row.line) {
            let message = format!("the same mark as in line {first}: same study, same position");
            return Err(row.refuse("duplicated-mark", message));
        }
        marks.entry(case.to_owned()).or_default().push(ReaderMark { position_lps_mm, diameter_mm, malignancy });
    }
    Ok((reader, marks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::tests::prediction;
    use crate::protocol::{Condition, Property};
    use lungai_ct::{ReferenceNodule, WorldPoint};
    use lungai_datasets::{nodules_csv, sha256};
    use lungai_trace::verifies;

    /// Case, centre, and diameter and diagnosis of its nodules; none: nobody marked them.
    type TestCase = (&'static str, &'static str, Option<&'static [(f64, bool)]>);

    const CASES: [TestCase; 5] = [
        ("a-1", "a", Some(&[(8.0, true), (5.0, false)])),
        ("a-2", "a", Some(&[])),
        ("a-3", "a", None),
        ("b-1", "b", Some(&[(7.0, false), (2.0, true)])),
        ("c-1", "c", Some(&[(9.0, true)])),
    ];

    /// A data set without images: none is opened here.
    fn data_set(folder: &Path, cases: &[TestCase]) -> Manifest {
        let mut text =
            "name: d\nversion: \"1\"\nsynthetic: true\nlicence: CC0-1.0\ncentres: [a, b, c]\ncases:\n".to_owned();
        for (id, centre, nodules) in cases {
            let series = sha256(id.as_bytes());
            text += &format!("- id: {id}\n  patient: p-{id}\n  centre: {centre}\n  split: test\n");
            text += &format!("  series: {{ path: {id}, sha256: {series} }}\n");
            if let Some(nodules) = nodules {
                let nodule = |(i, (mm, malignant)): (usize, &(f64, bool))| ReferenceNodule {
                    id: format!("n{i}"),
                    malignant: Some(*malignant),
                    ..ReferenceNodule::at(WorldPoint([10.0 * i as f64, 0.0, 0.0]), *mm)
                };
                let table = nodules_csv(&nodules.iter().enumerate().map(nodule).collect::<Vec<_>>());
                std::fs::write(folder.join(format!("{id}.csv")), &table).unwrap();
                text += &format!("  nodules: {{ path: {id}.csv, sha256: {} }}\n", sha256(&table));
            }
        }
        std::fs::write(folder.join("manifest.yaml"), text).unwrap();
        Manifest::load(folder).unwrap()
    }

    fn protocol() -> Protocol {
        let mut protocol = crate::results::tests::protocol();
        protocol.centres = vec!["a".into(), "b".into()];
        protocol.reference_standard.readings = vec![];
        protocol
    }

    fn of(case: &str, thickness_mm: Option<f64>) -> Prediction {
        let mut prediction = prediction(case);
        prediction.acquisition.slice_thickness_mm = thickness_mm;
        prediction
    }

    #[verifies("FR-004", "SW-1102")]
    #[test]
    fn the_flow_tells_where_every_scan_went() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, protocol) = (data_set(folder.path(), &CASES), protocol());
        let reference = Reference::load(&protocol, &manifest, folder.path()).unwrap();
        let refused = Prediction { quality: "reject".into(), ..of("b-1", None) };
        // 5 mm thick: the protocol leaves a-2 out; of b-1 it is unknown, so it stays until the quality gate refuses it.
        let joined = reference.join(vec![of("a-1", Some(1.0)), of("a-2", Some(5.0)), refused]).unwrap();
        let flow: Vec<_> = joined
            .flow
            .iter()
            .map(|s| (s.id.as_str(), s.out.scans, s.left.scans, s.left.patients, s.left.nodules))
            .collect();
        assert_eq!(
            flow,
            [
                ("test-split", 0, 5, 5, None),
                ("other-centre", 1, 4, 4, None),
                ("no-reference", 1, 3, 3, Some(3)), // 8, 5 and 7 mm; 2 mm is not scored
                ("slice-thickness", 1, 2, 2, Some(3)),
                ("quality-gate", 1, 1, 1, Some(2)),
            ]
        );
        assert_eq!((joined.records.len(), joined.rejected.len(), joined.rejected[0].nodules), (1, 1, 1));
    }

    fn check_refused(cases: &[TestCase], change: impl FnOnce(&mut Protocol, &Path), rule: &str, message: &str) {
        let folder = tempfile::tempdir().unwrap();
        let mut protocol = protocol();
        change(&mut protocol, folder.path());
        let manifest = data_set(folder.path(), cases);
        let joined = Reference::load(&protocol, &manifest, folder.path())
            .and_then(|reference| reference.join(vec![of("a-1", None), of("a-2", None), of("b-1", None)]));
        let failure = joined.unwrap_err();
        assert_eq!((failure.rule.as_str(), failure.message.as_str()), (rule, message));
    }

    #[verifies("FR-004", "SW-1102")]
    #[test]
    fn what_cannot_be_judged_is_named() {
        const BENIGN: &[(f64, bool)] = &[(8.0, false)];
        let one_class = [("a-1", "a", Some(BENIGN)), ("b-1", "b", Some(BENIGN))];
        check_refused(
            &one_class,
            |_, _| (),
            "one-class",
            "criterion FR-005.1 is an AUC, but 0 scored nodules are malignant and 2 benign",
        );
        let empty = [("a-1", "a", Some(&[] as &[(f64, bool)])), ("b-1", "b", Some(&[] as &[(f64, bool)]))];
        check_refused(&empty, |_, _| (), "no-positives", "2 test scans hold no scored nodule: there is no sensitivity");
        check_refused(
            &CASES,
            |p, _| p.centres.push("d".into()),
            "no-test-cases",
            "centre `d` has no test case in the manifest",
        );
        let only_b = Condition { of: Property::Centre, at_least: None, below: None, one_of: vec!["b".into()] };
        check_refused(
            &CASES,
            |p, _| p.eligibility[0].keep = only_b,
            "empty-centre",
            "no scan of centre `a` is eligible",
        );
        let more = [CASES[0], CASES[3], ("b-2", "b", Some(BENIGN))];
        check_refused(&more, |_, _| (), "missing-predictions", "1 of 3 cases have none, first `b-2`");
    }

    #[test]
    fn tables_beside_the_manifest_are_read_or_named_with_their_line() {
        let with = |file: &'static str, text: &'static str| {
            move |p: &mut Protocol, folder: &Path| {
                std::fs::write(folder.join(file), text).unwrap();
                match file {
                    "people.csv" => p.covariates = Some(file.into()),
                    _ => p.reference_standard.readings = vec![file.into()],
                }
            }
        };
        let people = |text| with("people.csv", text);
        check_refused(
            &CASES,
            people("case,sex,age_years\na-1,male,61\nz-9,male,62\n"),
            "unknown-study",
            "people.csv, line 3: its study is no test case of the data set",
        );
        check_refused(
            &CASES,
            people("case,sex,age_years\na-1,m,61\n"),
            "bad-value",
            "people.csv, line 2: sex `m` is none of female, male, other",
        );
        check_refused(
            &CASES,
            people("case,sex,age_years\na-1,male,610\n"),
            "bad-value",
            "people.csv, line 2: age_years 610 is not within 0..=120",
        );
        check_refused(
            &CASES,
            with("r1.csv", "case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\na-1,0,0,0,6,9\n"),
            "bad-value",
            "r1.csv, line 2: malignancy `9` is no rating from 1 to 5",
        );

        check_refused(
            &CASES,
            with("r1.csv", "case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\na-1,0,1,2,6,3\na-1,0,1,2,5,4\n"),
            "duplicated-mark",
            "r1.csv, line 3: the same mark as in line 2: same study, same position",
        );

        let folder = tempfile::tempdir().unwrap();
        let (manifest, mut protocol) = (data_set(folder.path(), &CASES), protocol());
        people("case,sex,age_years\na-1,female,61\nb-1,,\n")(&mut protocol, folder.path());
        with("r1.csv", "case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\na-1,1,2,3,6,4\na-1,4,5,6,7,\n")(
            &mut protocol,
            folder.path(),
        );
        let reference = Reference::load(&protocol, &manifest, folder.path()).unwrap();
        let joined = reference.join(vec![of("a-1", None), of("a-2", None), of("b-1", None)]).unwrap();
        let [first, second, _] = &joined.records[..] else { panic!("three scans") };
        assert_eq!((first.covariates.sex.as_deref(), first.covariates.age_years), (Some("female"), Some(61.0)));
        assert_eq!((second.covariates.sex.as_deref(), second.covariates.age_years), (None, None));
        let ratings: Vec<_> = first.readings[0].marks.iter().map(|mark| mark.malignancy).collect();
        assert_eq!((first.readings[0].reader.as_str(), ratings), ("r1", vec![Some(4), None]));
        // Who looked and marked nothing is not one who did not look.
        assert_eq!((second.readings.len(), second.readings[0].marks.len()), (1, 0));

        // Where nobody declares that every scan was read, only a line says so.
        with("r1.csv", "case,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,malignancy\na-1,1,2,3,6,4\na-2,,,,,\n")(
            &mut protocol,
            folder.path(),
        );
        protocol.reference_standard.every_scan_read = false;
        let reference = Reference::load(&protocol, &manifest, folder.path()).unwrap();
        let joined = reference.join(vec![of("a-1", None), of("a-2", None), of("b-1", None)]).unwrap();
        let read: Vec<_> = joined.records.iter().map(|r| r.readings.first().map(|one| one.marks.len())).collect();
        assert_eq!(read, [Some(1), Some(0), None]);
    }
}
