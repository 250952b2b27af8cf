//! Tags in the source, the runner's verdicts and the records that tests left, joined test by test.
//!
//! The verdict is the runner's alone. The other two can only take away from it: a tag without a run, a run without a record, a
//! record made from another text than today's, all are findings, and none of them is repaired here.
use crate::finding::{Finding, Severity};
use crate::junit::{Case, Verdict};
use crate::records::Record;
use crate::regulatory::Regulatory;
use crate::scan::Tag;
use lungai_trace::implements;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One tagged test and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct BoundTest {
    #[serde(flatten)]
    pub tag: Tag,
    /// None where the runner did not report it.
    pub verdict: Option<Verdict>,
    /// Ids of tagged functions that it called; none where no record was found.
    pub exercised: Option<BTreeSet<String>>,
    /// Why it passed without showing anything.
    pub not_evidenced: Vec<String>,
    /// Whether its executable calls tagged code in its own process, where records reach.
    pub in_process: bool,
    /// Whether all three sources agree. Only then does a pass count as one.
    pub sound: bool,
}

impl BoundTest {
    /// As people refer to it: binary and name.
    pub fn title(&self) -> String {
        format!("{} {}", self.tag.binary, self.tag.runner_name())
    }

    /// Does it count, and is it known to have called code that implements `id`? A test of whole programs calls them in processes of
    /// their own, where its record does not reach.
    pub fn shows(&self, id: &str) -> bool {
        let called = self.exercised.as_ref().is_some_and(|ids| !self.in_process || ids.contains(id));
        self.counts_as_passed() && called
    }

    pub fn counts_as_passed(&self) -> bool {
        self.verdict == Some(Verdict::Passed) && self.sound && self.not_evidenced.is_empty()
    }
}

/// What the runner and the tests left behind; each may be absent.
#[derive(Debug, Default)]
pub struct Run {
    pub cases: Option<Vec<Case>>,
    pub records: Option<Vec<Record>>,
}

#[implements("RR-001", "SW-1101")]
pub fn bind(tags: &[Tag], run: &Run, regulatory: &Regulatory) -> (Vec<BoundTest>, Vec<Finding>) {
    let mut findings = Vec::new();
    if run.cases.is_none() {
        findings.push(Finding::new(
            Severity::Amber,
            "no-run",
            "tests",
            "no JUnit report was given: no test counts as run".into(),
        ));
    }
    if run.cases.is_some() && run.records.is_none() {
        let message = "no records were given: run the tests with LUNGAI_TRACE_DIR set".to_owned();
        findings.push(Finding::new(Severity::Amber, "no-records", "tests", message));
    }
    let implemented: BTreeSet<&str> =
        tags.iter().filter(|tag| !tag.is_test_tag).flat_map(|tag| &tag.ids).map(String::as_str).collect();
    let records = last_attempts(run.records.as_deref().unwrap_or_default());
    let calls = calling_binaries(tags, &records);
    let mut seen = BTreeSet::new();
    let mut tests = Vec::new();
    for tag in tags.iter().filter(|tag| tag.is_test_tag) {
        let key = (tag.package.as_str(), tag.module.as_str(), tag.name.as_str());
        seen.insert(key);
        let case = run.cases.as_ref().and_then(|cases| find_case(cases, tag));
        let record = records.get(&key).copied();
        let mut test = BoundTest {
            tag: tag.clone(),
            verdict: case.map(|case| case.verdict),
            exercised: record.map(|record| record.exercised.iter().cloned().collect()),
            not_evidenced: notes(case, record),
            in_process: calls.contains(tag.binary.as_str()),
            sound: true,
        };
        let title = test.title();
        let disagreements = disagreements(tag, case, record, run, regulatory);
        test.sound = disagreements.is_empty();
        let new =
            disagreements.into_iter().map(|(severity, rule, message)| Finding::new(severity, rule, &title, message));
        findings.extend(new);
        findings.extend(
            softer(&test, &implemented).map(|(severity, rule, message)| Finding::new(severity, rule, &title, message)),
        );
        tests.push(test);
    }
    for (package, module, name) in records.keys().filter(|key| !seen.contains(*key)) {
        let message = "left a record, but no source carries its tag".to_owned();
        findings.push(Finding::new(
            Severity::Red,
            "record-without-source",
            &format!("{package} {module}::{name}"),
            message,
        ));
    }
    (tests, findings)
}

type Key<'a> = (&'a str, &'a str, &'a str);

/// Executables whose tests call tagged code themselves: all unit tests, and integration tests of which at least one was seen to.
fn calling_binaries<'a>(tags: &'a [Tag], records: &BTreeMap<Key<'_>, &Record>) -> BTreeSet<&'a str> {
    let calls = |tag: &&Tag| {
        let key = (tag.package.as_str(), tag.module.as_str(), tag.name.as_str());
        let is_unit = !tag.binary.contains("::") || tag.binary.contains("::bin/");
        is_unit || records.get(&key).is_some_and(|record| !record.exercised.is_empty())
    };
    tags.iter().filter(|tag| tag.is_test_tag).filter(calls).map(|tag| tag.binary.as_str()).collect()
}

fn last_attempts(records: &[Record]) -> BTreeMap<Key<'_>, &Record> {
    let mut last: BTreeMap<Key<'_>, &Record> = BTreeMap::new();
    let attempt = |record: &Record| record.attempt.parse::<u32>().unwrap_or(1);
    for record in records {
        let key = (record.package.as_str(), record.module.as_str(), record.test.as_str());
        if last.get(&key).is_none_or(|earlier| attempt(earlier) <= attempt(record)) {
            last.insert(key, record);
        }
    }
    last
}

/// The runner's case for a tag. The suite or class should be the binary's id as cargo-nextest writes it; a runner that names
/// them otherwise must at least name the package, and the test's name must be the only one of its kind there.
fn find_case<'a>(cases: &'a [Case], tag: &Tag) -> Option<&'a Case> {
    let name = tag.runner_name();
    let named: Vec<&Case> = cases.iter().filter(|case| case.name == name).collect();
    let exact: Vec<&&Case> =
        named.iter().filter(|case| case.suite == tag.binary || case.classname == tag.binary).collect();
    if let Some(case) = exact.iter().find(|case| case.verdict == Verdict::Failed).or(exact.first()) {
        return Some(case);
    }
    let plain = |text: &str| text.replace('-', "_");
    let package = plain(&tag.package);
    let binary_crate = tag.module.split("::").next().unwrap_or_default();
    let of_package = |text: &str| {
        let text = plain(text);
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == package || word == binary_crate)
    };
    let mut near = named.into_iter().filter(|case| of_package(&case.suite) || of_package(&case.classname));
    match (near.next(), near.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

fn notes(case: Option<&Case>, record: Option<&Record>) -> Vec<String> {
    let from_case = case.into_iter().flat_map(|case| &case.not_evidenced);
    let from_record = record.into_iter().flat_map(|record| &record.not_evidenced);
    from_case.chain(from_record).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

type Disagreement = (Severity, &'static str, String);

/// What keeps a test from counting.
fn disagreements(
    tag: &Tag,
    case: Option<&Case>,
    record: Option<&Record>,
    run: &Run,
    regulatory: &Regulatory,
) -> Vec<Disagreement> {
    let mut found: Vec<Disagreement> = Vec::new();
    if !tag.is_test {
        let place = format!("{}:{}", tag.file, tag.line);
        found.push((Severity::Red, "tag-without-test", format!("{place}: carries `verifies` but is no test")));
    }
    if tag.empty {
        let place = format!("{}:{}", tag.file, tag.line);
        found.push((Severity::Red, "test-empty", format!("{place}: its body calls nothing, so that it cannot fail")));
    }
    match (case.map(|case| case.verdict), record) {
        (Some(Verdict::Failed), _) => found.push((Severity::Red, "test-failed", "the test failed".into())),
        (Some(Verdict::Skipped), _) => found.push((Severity::Amber, "test-skipped", "the runner skipped it".into())),
        (None, Some(_)) if run.cases.is_some() => {
            found.push((
                Severity::Red,
                "record-without-run",
                "left a record, but the runner reports no such test".into(),
            ));
        }
        (None, _) if tag.ignored => {
            found.push((Severity::Amber, "test-ignored", "marked #[ignore]: it was not run".into()))
        }
        (None, _) if run.cases.is_some() => {
            let when = if tag.condition.is_empty() {
                String::new()
            } else {
                format!(" (compiled only if {})", tag.condition.join(", "))
            };
            found.push((
                Severity::Amber,
                "test-not-run",
                format!("tagged in the source, but not in the runner's report{when}"),
            ));
        }
        (Some(Verdict::Passed), None) if run.records.is_some() => {
            found.push((
                Severity::Red,
                "record-missing",
                "passed, but left no record although records were kept".into(),
            ));
        }
        _ => (),
    }
    if case.is_some_and(|case| case.flaky) {
        found.push((Severity::Red, "test-flaky", "passed only after an attempt that failed".into()));
    }
    let Some(record) = record else { return found };
    if case.is_some_and(|case| case.verdict == Verdict::Passed) && record.panicked {
        found.push((
            Severity::Red,
            "verdict-disagrees",
            "the runner says passed, the record says that it panicked".into(),
        ));
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
fn softer<'a>(test: &'a BoundTest, implemented: &'a BTreeSet<&str>) -> impl Iterator<Item = Disagreement> + 'a {
    let absent = test
        .not_evidenced
        .iter()
        .map(|reason| (Severity::Amber, "not-evidenced", format!("not evidenced here: {reason}")));
    let exercised = test.exercised.as_ref().filter(|_| test.in_process && test.not_evidenced.is_empty());
    let exercised_nothing = exercised.and_then(|exercised| {
        let expected: Vec<&str> =
            test.tag.ids.iter().map(String::as_str).filter(|id| implemented.contains(id)).collect();
        let idle = !expected.is_empty() && !expected.iter().any(|id| exercised.contains(*id));
        let message = || format!("called no function that implements {}", expected.join(", "));
        idle.then(|| (Severity::Amber, "nothing-exercised", message()))
    });
    absent.chain(exercised_nothing)
}
