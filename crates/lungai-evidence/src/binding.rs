//! Tags in the source, the list of tests, the runner's verdicts and the records that tests left, joined test by test.
//!
//! The verdict is the runner's alone. The other three can only take away from it: a tag without a run, a run without a record, a
//! record of another run or made from another text than today's, all are findings, and none of them is repaired here.
use crate::finding::{Finding, Severity};
use crate::junit::{Case, Verdict};
use crate::listing::{Listed, Listing};
use crate::noted;
use crate::records::{Measured, Record, Records};
use crate::regulatory::Regulatory;
use crate::scan::{SourceHash, Tag};
use lungai_trace::implements;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};

/// One tagged test and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct BoundTest {
    #[serde(flatten)]
    pub tag: Tag,
    /// None where the runner did not report it.
    pub verdict: Option<Verdict>,
    /// Ids of tagged functions that it called, itself or through programs that it started; none where no record was found.
    pub exercised: Option<BTreeSet<String>>,
    /// What it measured, with the limits.
    pub measured: Vec<Measured>,
    /// Why it passed without showing anything.
    pub not_evidenced: Vec<String>,
    /// Whether all sources agree, and the run is one of these sources. Only then does a pass count as one.
    pub sound: bool,
}

impl BoundTest {
    /// As people refer to it: binary and name.
    pub fn title(&self) -> String {
        format!("{} {}", self.tag.binary, self.tag.runner_name())
    }

    /// Does it count, and is it known to have called code that implements `id`?
    pub fn shows(&self, id: &str) -> bool {
        self.counts_as_passed() && self.exercised.as_ref().is_some_and(|ids| ids.contains(id))
    }

    pub fn counts_as_passed(&self) -> bool {
        self.verdict == Some(Verdict::Passed) && self.sound && self.not_evidenced.is_empty()
    }
}

/// What the runner and the tests left behind; each may be absent.
#[derive(Debug, Default)]
pub struct Run {
    /// As cargo-nextest numbers it, in its report and in the environment of its tests.
    pub id: Option<String>,
    pub cases: Option<Vec<Case>>,
    pub listing: Option<Listing>,
    pub records: Option<Records>,
    /// Why it is no run of these sources; where there is any, no test counts.
    pub objections: Vec<Finding>,
}

#[implements("RR-001", "SW-1101")]
pub fn bind(tags: &[Tag], run: &Run, regulatory: &Regulatory) -> (Vec<BoundTest>, Vec<Finding>) {
    let (credible, mut findings) = whole_run(run);
    let joined = Joined::new(run);
    let implemented: BTreeSet<&str> =
        tags.iter().filter(|tag| !tag.is_test_tag).flat_map(|tag| &tag.ids).map(String::as_str).collect();
    let mut seen: HashSet<(String, String)> = HashSet::new();
    let mut tests = Vec::new();
    for tag in tags.iter().filter(|tag| tag.is_test_tag) {
        let name = tag.runner_name();
        let key = (tag.binary.as_str(), name.as_str());
        let case = joined.cases.get(&key).copied();
        let record = joined.records.get(&key).copied();
        let mut test = BoundTest {
            tag: tag.clone(),
            verdict: case.map(|case| case.verdict),
            exercised: record.map(|record| joined.exercised(record)),
            measured: record.map(|record| record.measured.clone()).unwrap_or_default(),
            not_evidenced: notes(case, record),
            sound: true,
        };
        let title = test.title();
        let mut disagreements = lists_and_verdicts(tag, case, record, joined.earlier.contains(&key), run);
        if let Some(record) = record {
            disagreements.extend(record_and_source(tag, case, record, regulatory));
        }
        test.sound = credible && disagreements.is_empty();
        let all = disagreements.into_iter().chain(softer(&test, &implemented));
        findings.extend(all.map(|(severity, rule, message)| Finding::new(severity, rule, &title, message)));
        tests.push(test);
        seen.insert((tag.binary.clone(), name));
    }
    let is_tagged = |binary: &str, test: &str| seen.contains(&(binary.to_owned(), test.to_owned()));
    let strangers = joined.records.values().filter(|record| !is_tagged(&record.binary, &record.test));
    findings.extend(strangers.map(|record| {
        let item = format!("{} {}", record.binary, record.test);
        let message = "left a record, but no source carries its tag".to_owned();
        Finding::new(Severity::Red, "record-without-source", &item, message)
    }));
    let failed = joined.cases.values().filter(|case| case.verdict == Verdict::Failed);
    let untagged = failed.filter(|case| !is_tagged(&case.suite, &case.name));
    findings.extend(untagged.map(|case| {
        let item = format!("{} {}", case.suite, case.name);
        let message = "the test failed; it carries no tag, so that no requirement shows it".to_owned();
        Finding::new(Severity::Red, "test-failed", &item, message)
    }));
    (tests, findings)
}

/// Whether tests of this run may count at all, and what is to be said of it as a whole.
fn whole_run(run: &Run) -> (bool, Vec<Finding>) {
    let mut findings = run.objections.clone();
    let mut add = |severity, rule, message: &str| {
        findings.push(Finding::new(severity, rule, "tests", message.to_owned()));
    };
    match (&run.cases, &run.id) {
        (None, _) => add(Severity::Amber, "no-run", "no JUnit report was given: no test counts as run"),
        (Some(_), None) => add(Severity::Red, "runner-unknown", noted::NOT_NEXTEST),
        (Some(_), Some(_)) => (),
    }
    if run.cases.is_some() && run.records.is_none() {
        let message = "no records were given: run the tests with `cargo xtask test`";
        add(Severity::Amber, "no-records", message);
    }
    if run.cases.is_some() && run.listing.is_none() {
        let message = "no list of tests (tests.json) stands beside the JUnit report: a test that is not compiled looks like \
                       one that did not run";
        add(Severity::Amber, "no-test-list", message);
    }
    (run.objections.is_empty() && run.id.is_some(), findings)
}

/// Executable and test, as the runner names both.
type Key<'a> = (&'a str, &'a str);

struct Joined<'a> {
    cases: HashMap<Key<'a>, &'a Case>,
    /// The last attempt of each test in this run.
    records: HashMap<Key<'a>, &'a Record>,
    /// Tests of which another run left a record.
    earlier: HashSet<Key<'a>>,
    /// By binary, test and attempt: what programs called that the test started.
    programs: HashMap<(&'a str, &'a str, &'a str), BTreeSet<&'a str>>,
}

impl<'a> Joined<'a> {
    fn new(run: &'a Run) -> Self {
        let mut joined =
            Self { cases: HashMap::new(), records: HashMap::new(), earlier: HashSet::new(), programs: HashMap::new() };
        for case in run.cases.iter().flatten() {
            let known = joined.cases.entry((&case.suite, &case.name)).or_insert(case);
            if case.verdict == Verdict::Failed {
                *known = case;
            }
        }
        // Without an id no record can belong to the report; then all are looked at, and none counts.
        let of_this_run = |id: &str| run.id.as_deref().is_none_or(|this| this == id);
        let attempt = |record: &Record| record.attempt.parse::<u32>().unwrap_or(1);
        let Some(records) = &run.records else { return joined };
        for record in &records.tests {
            let key = (record.binary.as_str(), record.test.as_str());
            if !of_this_run(&record.run) {
                joined.earlier.insert(key);
                continue;
            }
            let known = joined.records.entry(key).or_insert(record);
            if attempt(record) > attempt(known) {
                *known = record;
            }
        }
        for calls in records.programs.iter().filter(|calls| of_this_run(&calls.run)) {
            let called = joined.programs.entry((&calls.binary, &calls.test, &calls.attempt)).or_default();
            called.extend(calls.exercised.iter().map(String::as_str));
        }
        joined
    }

    fn exercised(&self, record: &Record) -> BTreeSet<String> {
        let programs = self.programs.get(&(&record.binary, &record.test, &record.attempt));
        let by_programs = programs.into_iter().flatten().map(|id| (*id).to_owned());
        record.exercised.iter().cloned().chain(by_programs).collect()
    }
}

fn notes(case: Option<&Case>, record: Option<&Record>) -> Vec<String> {
    let from_case = case.into_iter().flat_map(|case| &case.not_evidenced);
    let from_record = record.into_iter().flat_map(|record| &record.not_evidenced);
    from_case.chain(from_record).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

type Disagreement = (Severity, &'static str, String);

/// What keeps a test from counting: source, list, report and folder of records do not all know it as one that passed.
fn lists_and_verdicts(
    tag: &Tag,
    case: Option<&Case>,
    record: Option<&Record>,
    of_another_run: bool,
    run: &Run,
) -> Vec<Disagreement> {
    let mut found: Vec<Disagreement> = Vec::new();
    let place = format!("{}:{}", tag.file, tag.line);
    if !tag.is_test {
        let message = format!("{place}: carries `verifies`, but is no test (the tag stands in front of `#[test]`)");
        found.push((Severity::Red, "tag-without-test", message));
    }
    if tag.empty {
        found.push((Severity::Red, "test-empty", format!("{place}: its body calls nothing, so that it cannot fail")));
    }
    if record.is_none() && of_another_run {
        let message = "left a record in another run than the one reported".to_owned();
        found.push((Severity::Red, "record-of-another-run", message));
    }
    match case {
        None if record.is_some() && run.cases.is_some() => {
            let message = "left a record, but the runner reports no such test".to_owned();
            found.push((Severity::Red, "record-without-run", message));
        }
        None if run.cases.is_some() => found.push(why_not_run(tag, run.listing.as_ref())),
        None => (),
        Some(case) => {
            match case.verdict {
                Verdict::Failed => found.push((Severity::Red, "test-failed", "the test failed".into())),
                Verdict::Skipped => found.push((Severity::Amber, "test-skipped", "the runner skipped it".into())),
                Verdict::Passed if record.is_none() && !of_another_run && run.records.is_some() => {
                    let message = "passed, but left no record although records were kept".to_owned();
                    found.push((Severity::Red, "record-missing", message));
                }
                Verdict::Passed => (),
            }
            if case.flaky {
                found.push((Severity::Red, "test-retried", "passed only after an attempt that failed".into()));
            }
            let listing = run.listing.as_ref();
            if listing.is_some_and(|listing| listing.find(&case.suite, &case.name) == Listed::Absent) {
                let message = "the runner reports it, but its list of tests does not hold it: they are of two builds";
                found.push((Severity::Red, "test-not-listed", message.to_owned()));
            }
        }
    }
    found
}

fn why_not_run(tag: &Tag, listing: Option<&Listing>) -> Disagreement {
    let condition = match tag.condition.as_slice() {
        [] => String::new(),
        all => format!(" (compiled only if {})", all.join(", ")),
    };
    let listed = listing.map(|listing| listing.find(&tag.binary, &tag.runner_name()));
    match listed {
        Some(Listed::Absent) => {
            // A condition explains it; without one the executable was built from other sources.
            let severity = if condition.is_empty() { Severity::Red } else { Severity::Amber };
            (severity, "test-not-compiled", format!("tagged in the source, but in none of the executables{condition}"))
        }
        Some(Listed::Filtered) => (Severity::Amber, "test-filtered", "a filter of the runner left it out".to_owned()),
        Some(Listed::ToRun) => {
            let message = "was to be run, but is not in the runner's report: the run was cut short".to_owned();
            (Severity::Red, "test-not-run", message)
        }
        Some(Listed::Ignored) => (Severity::Amber, "test-ignored", "marked #[ignore]: it was not run".to_owned()),
        None if tag.ignored => (Severity::Amber, "test-ignored", "marked #[ignore]: it was not run".to_owned()),
        None => {
            let message = format!("tagged in the source, but not in the runner's report{condition}");
            (Severity::Amber, "test-not-run", message)
        }
    }
}

/// What keeps a test from counting: it was compiled from other texts, or contradicts its verdict.
fn record_and_source(tag: &Tag, case: Option<&Case>, record: &Record, regulatory: &Regulatory) -> Vec<Disagreement> {
    let mut found: Vec<Disagreement> = Vec::new();
    let passed = case.is_some_and(|case| case.verdict == Verdict::Passed);
    if passed && record.panicked {
        let message = "the runner says passed, the record says that it panicked".to_owned();
        found.push((Severity::Red, "verdict-disagrees", message));
    }
    for measured in record.measured.iter().filter(|measured| passed && !measured.holds()) {
        let message = format!("passed, although it measured {}", measured.words());
        found.push((Severity::Red, "measured-beyond-limit", message));
    }
    let older = match &tag.source {
        SourceHash::Tokens(today) if *today != record.tokens_sha256 => Some("the test itself"),
        SourceHash::File(today) if *today != record.file_sha256 => Some("the file that holds the test"),
        _ => None,
    };
    if let Some(what) = older {
        let message = format!("{what} is another today than the one that ran ({}:{})", tag.file, tag.line);
        found.push((Severity::Red, "record-of-another-test", message));
    }
    let compiled: BTreeSet<&str> = record.verifies.iter().map(|c| c.id.as_str()).collect();
    let tagged: BTreeSet<&str> = tag.ids.iter().map(String::as_str).collect();
    if compiled != tagged {
        let message = format!("the source names {tagged:?}, the test that ran was compiled with {compiled:?}");
        found.push((Severity::Red, "ids-disagree", message));
    }
    for compiled in &record.verifies {
        if regulatory.sha256_of(&compiled.id).is_some_and(|today| today != compiled.sha256) {
            let message = format!("was compiled with another text of {} than today's", compiled.id);
            found.push((Severity::Red, "record-stale", message));
        }
    }
    found
}

/// Worth saying, though the test still counts.
fn softer(test: &BoundTest, implemented: &BTreeSet<&str>) -> Vec<Disagreement> {
    let absent = test
        .not_evidenced
        .iter()
        .map(|reason| (Severity::Amber, "not-evidenced", format!("not evidenced here: {reason}")));
    let exercised = test.exercised.as_ref().filter(|_| test.not_evidenced.is_empty());
    let exercised_nothing = exercised.and_then(|exercised| {
        let expected: Vec<&str> =
            test.tag.ids.iter().map(String::as_str).filter(|id| implemented.contains(id)).collect();
        let idle = !expected.is_empty() && !expected.iter().any(|id| exercised.contains(*id));
        let message = || {
            let ids = expected.join(", ");
            format!("neither it nor a program that it started called a function that implements {ids}")
        };
        idle.then(|| (Severity::Amber, "nothing-exercised", message()))
    });
    absent.chain(exercised_nothing).collect()
}
