//! Whether the tests of a risk control would notice its loss: the record of a mutation run, judged.
//!
//! That tests pass shows nothing if they also pass without the control. So the effect of a control counts as shown by tests only
//! where each change that takes it away made one of those tests fail, in a run of this commit.
use crate::binding::BoundTest;
use crate::failure::{Failure, fail};
use crate::finding::{Finding, Severity};
use crate::regulatory::{Control, Effectiveness, Mutation, Regulatory, Text};
use crate::workspace::{Commit, Foreign};
use lungai_trace::implements;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const FORMAT: &str = "lungai-mutation/1";

/// What `mutate` writes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub format: String,
    /// Commit of the tree that was copied.
    pub commit: String,
    /// Files that were not as committed.
    pub changed: Vec<String>,
    pub mutants: Vec<Mutant>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Id of the mutation.
    pub mutation: String,
    /// [`Mutation::sha256`].
    pub sha256: String,
    pub verdict: Verdict,
    /// Tests that passed on the unmutated tree, each as executable and name.
    pub twin_passed: Vec<String>,
    /// Of these, the ones that failed on the mutant.
    pub killed_by: Vec<String>,
    /// Building and running the mutant.
    pub seconds: f64,
}

impl Mutant {
    /// For the terminal.
    pub fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Killed => format!("killed by {}", self.killed_by.join(", ")),
            Verdict::Survived => "SURVIVED".to_owned(),
            Verdict::DoesNotBuild => "does not build".to_owned(),
            Verdict::TwinFailed => "its tests do not pass without it".to_owned(),
        };
        format!("{:10} {:6.1} s  {verdict}", self.mutation, self.seconds)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Killed,
    Survived,
    DoesNotBuild,
    /// The tests do not pass without the mutation either, or there are none.
    TwinFailed,
}

pub fn read(file: &Path) -> Result<(Record, Vec<u8>), Failure> {
    let bytes =
        std::fs::read(file).map_err(|error| Failure::new("unreadable", format!("the record of mutations: {error}")))?;
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new("mutations-malformed", format!("the record of mutations: {error}")))?;
    if record.format != FORMAT {
        return fail("mutations-malformed", format!("the record of mutations: unknown format `{}`", record.format));
    }
    Ok((record, bytes))
}

/// What is known of one mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Outcome {
    #[serde(rename = "killed")]
    Killed,
    #[serde(rename = "survived")]
    Survived,
    #[serde(rename = "killed by other tests only")]
    KilledElsewhere,
    #[serde(rename = "does not build")]
    DoesNotBuild,
    #[serde(rename = "tests fail without it")]
    TwinFailed,
    #[serde(rename = "text no longer there")]
    Stale,
    #[serde(rename = "not run")]
    NotRun,
}

impl Outcome {
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Killed => "killed",
            Outcome::Survived => "survived",
            Outcome::KilledElsewhere => "killed by other tests only",
            Outcome::DoesNotBuild => "does not build",
            Outcome::TwinFailed => "tests fail without it",
            Outcome::Stale => "text no longer there",
            Outcome::NotRun => "not run",
        }
    }

    pub fn severity(self) -> Option<Severity> {
        match self {
            Outcome::Killed => None,
            Outcome::Survived | Outcome::TwinFailed | Outcome::Stale => Some(Severity::Red),
            Outcome::KilledElsewhere | Outcome::DoesNotBuild | Outcome::NotRun => Some(Severity::Amber),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct MutantStatus {
    pub id: String,
    pub control: String,
    pub breaks: Text,
    pub file: String,
    pub outcome: Outcome,
    pub killed_by: Vec<String>,
}

/// Would the tests of this control notice its loss, as far as is known?
pub fn all_killed(control: &Control, mutants: &[MutantStatus]) -> bool {
    let mut ours = mutants.iter().filter(|mutant| mutant.control == control.id).peekable();
    ours.peek().is_some() && ours.all(|mutant| mutant.outcome == Outcome::Killed)
}

#[implements("RR-001", "SW-1104")]
pub fn judge(
    root: &Path,
    regulatory: &Regulatory,
    tests: &[BoundTest],
    record: Option<&Record>,
    commit: &Commit,
) -> (Vec<MutantStatus>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut add = |severity, rule, item: &str, message| findings.push(Finding::new(severity, rule, item, message));
    let made = record.map(|record| commit.made("the mutation run is", &record.commit, &record.changed));
    let usable = record.filter(|_| matches!(made, Some(Ok(()))));
    match made {
        Some(Err(Foreign::Commit(message))) => {
            add(Severity::Red, "mutations-of-another-commit", "mutations", message);
        }
        Some(Err(Foreign::Changed(message))) => {
            add(Severity::Red, "mutations-of-changed-sources", "mutations", message);
        }
        Some(Ok(())) | None => (),
    }
    for mutant in usable.into_iter().flat_map(|record| &record.mutants) {
        if !regulatory.mutations.iter().any(|mutation| mutation.id == mutant.mutation) {
            let message = "is on record, but regulatory/mutations.yaml does not hold it".to_owned();
            add(Severity::Amber, "mutant-unknown", &mutant.mutation, message);
        }
    }
    let mut all = Vec::new();
    for mutation in &regulatory.mutations {
        let ours = |m: &&Mutant| m.mutation == mutation.id && m.sha256 == mutation.sha256();
        let found = usable.and_then(|record| record.mutants.iter().find(ours));
        let text = std::fs::read_to_string(root.join(&mutation.file)).unwrap_or_default();
        let outcome = match found {
            _ if mutation.applied(&text).is_none() => Outcome::Stale,
            None => Outcome::NotRun,
            Some(mutant) => outcome(mutant, mutation, regulatory, tests),
        };
        let message = match outcome {
            Outcome::Killed => String::new(),
            Outcome::Survived => format!("no test failed without the control: {}", mutation.breaks.en),
            Outcome::KilledElsewhere => {
                "only tests failed that are not tagged with the control's requirement and its risk".to_owned()
            }
            Outcome::DoesNotBuild => "does not build, so that it shows nothing".to_owned(),
            Outcome::TwinFailed => format!("no test `{}` passes without the mutation", mutation.tests),
            Outcome::Stale => {
                let times = text.matches(&mutation.from).count();
                format!("{} holds the text that it replaces {times} times, not once", mutation.file)
            }
            Outcome::NotRun => "was not run on these sources: cargo xtask mutate".to_owned(),
        };
        let rule = match outcome {
            Outcome::Killed => "",
            Outcome::Survived => "mutant-survived",
            Outcome::KilledElsewhere => "mutant-killed-elsewhere",
            Outcome::DoesNotBuild => "mutant-does-not-build",
            Outcome::TwinFailed => "mutant-twin-failed",
            Outcome::Stale => "mutation-stale",
            Outcome::NotRun => "mutant-not-run",
        };
        if let Some(severity) = outcome.severity() {
            let item = format!("{} {}", mutation.control, mutation.id);
            add(severity, rule, &item, message);
        }
        all.push(MutantStatus {
            id: mutation.id.clone(),
            control: mutation.control.clone(),
            breaks: mutation.breaks.clone(),
            file: mutation.file.clone(),
            outcome,
            killed_by: found.map(|mutant| mutant.killed_by.clone()).unwrap_or_default(),
        });
    }
    let by_tests = |c: &&Control| matches!(c.effectiveness, Effectiveness::Tests) && !c.planned;
    for control in regulatory.risks.values().flat_map(|risk| &risk.controls).filter(by_tests) {
        if !all.iter().any(|mutant| mutant.control == control.id) {
            let message = "its tests were never tried against its loss: regulatory/mutations.yaml holds no mutation";
            add(Severity::Amber, "mutation-missing", &control.id, message.to_owned());
        }
    }
    (all, findings)
}

fn outcome(mutant: &Mutant, mutation: &Mutation, regulatory: &Regulatory, tests: &[BoundTest]) -> Outcome {
    match mutant.verdict {
        Verdict::DoesNotBuild => return Outcome::DoesNotBuild,
        Verdict::TwinFailed => return Outcome::TwinFailed,
        // A killer must have passed before: a verdict against its own figures is none.
        _ if !mutant.killed_by.iter().any(|test| mutant.twin_passed.contains(test)) => return Outcome::Survived,
        Verdict::Survived | Verdict::Killed => (),
    }
    let controls = |risk: &&crate::regulatory::Risk| risk.controls.iter().any(|c| c.id == mutation.control);
    let bound = regulatory.risks.values().filter(controls).any(|risk| {
        let requirement = risk.controls.iter().find(|c| c.id == mutation.control).and_then(|c| c.requirement.as_ref());
        let of_control = |test: &&BoundTest| {
            test.tag.ids.contains(&risk.id) && requirement.is_some_and(|id| test.tag.ids.contains(id))
        };
        tests.iter().filter(of_control).any(|test| mutant.killed_by.contains(&test.title()))
    });
    if bound { Outcome::Killed } else { Outcome::KilledElsewhere }
}
