//! Every link of the trace with the hashes of both its ends, and what `trace.lock` says about it.
//!
//! A person reviews a link as its ends were then: the lock keeps both hashes, the name and the day. When an end changes, the links at
//! that end are suspect until somebody has looked again, and no others. Texts stay free of hashes; white space, comments, titles and
//! translations change no normative hash, a limit does. A translation is a link of its own. A function that a test merely calls is not
//! part of the test's hash: such a change shows through the code that is tagged.
mod lock;

pub use lock::Lock;

use crate::binding::BoundTest;
use crate::finding::{Finding, Severity};
use crate::regulatory::{Effectiveness, Regulatory, normative, sha256};
use crate::results::ValidationRun;
use crate::scan::Tag;
use lungai_trace::implements;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// From a criterion to the model, the test set or the protocol of a run that decides it.
const STANDS_ON: &str = "stands-on";

/// What a link is; its ends say the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    pub kind: String,
    pub from: String,
    pub to: String,
}

/// Hashes of both ends today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ends {
    pub from: String,
    pub to: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum LinkState {
    #[serde(rename = "suspect")]
    Suspect,
    #[serde(rename = "not reviewed")]
    NotReviewed,
    #[serde(rename = "current")]
    Current,
}

#[derive(Debug, Clone, Serialize)]
pub struct Link {
    #[serde(flatten)]
    pub key: Key,
    pub ends: Ends,
    pub state: LinkState,
    /// Ids of the requirement or risk, and of the criterion or control, whose claim it carries.
    pub claims: Vec<String>,
    /// Which end changed, and since whose review; empty unless suspect.
    pub why: String,
}

impl Link {
    pub fn title(&self) -> String {
        format!("{} {} {}", self.key.from, self.key.kind, self.key.to)
    }
}

/// Links as they follow from everything that was read; the lock is not asked yet.
pub struct Drawn {
    links: BTreeMap<Key, (Ends, Vec<String>)>,
    /// Whether results of a validation run were given; without any, what stands on them is not gone but out of sight.
    with_results: bool,
}

#[implements("RR-001", "SW-1105")]
pub fn draw(regulatory: &Regulatory, tags: &[Tag], runs: &[ValidationRun]) -> Drawn {
    let language = regulatory.profile.normative_language;
    let mut drawn = Drawn { links: BTreeMap::new(), with_results: !runs.is_empty() };
    let mut hashes: BTreeMap<&str, String> = BTreeMap::new();
    for (id, need) in &regulatory.needs {
        hashes.insert(id, normative::hash(need, language));
        drawn.translated(id, normative::translation(need, language), &hashes);
    }
    for (id, requirement) in &regulatory.requirements {
        hashes.insert(id, normative::of_requirement(requirement, language));
        drawn.translated(id, normative::translation(requirement, language), &hashes);
        for criterion in &requirement.criteria {
            hashes.insert(&criterion.id, normative::hash(criterion, language));
        }
    }
    for (id, risk) in &regulatory.risks {
        hashes.insert(id, normative::of_risk(risk, &regulatory.matrix, language));
        drawn.translated(id, normative::translation(risk, language), &hashes);
        for control in &risk.controls {
            hashes.insert(&control.id, normative::hash(control, language));
        }
    }
    for (id, threat) in &regulatory.threats {
        hashes.insert(id, normative::hash(threat, language));
        drawn.translated(id, normative::translation(threat, language), &hashes);
    }
    for (id, requirement) in &regulatory.requirements {
        for parent in &requirement.parents {
            drawn.between("refines", id, parent, &[id], &hashes);
        }
        for criterion in &requirement.criteria {
            drawn.results(&criterion.id, id, runs, &hashes);
        }
    }
    for (id, risk) in &regulatory.risks {
        for control in &risk.controls {
            drawn.between("reduces", &control.id, id, &[id], &hashes);
            if let Some(requirement) = &control.requirement {
                drawn.between("is-done-by", &control.id, requirement, &[id, requirement], &hashes);
            }
            if let Effectiveness::Criteria(named) = &control.effectiveness {
                for criterion in named {
                    drawn.between("is-shown-by", &control.id, criterion, &[id], &hashes);
                }
            }
        }
    }
    for (id, threat) in &regulatory.threats {
        for requirement in &threat.requirements {
            drawn.between("counters", requirement, id, &[requirement], &hashes);
        }
    }
    for tag in tags {
        let kind = if tag.is_test_tag { "verifies" } else { "implements" };
        let from = format!("{} {}", tag.binary, tag.runner_name());
        for id in &tag.ids {
            let Some(to) = hashes.get(id.as_str()) else { continue };
            drawn.add(kind, &from, id, Ends { from: tag.sha256.clone(), to: to.clone() }, &[id]);
        }
    }
    drawn
}

impl Drawn {
    fn between(&mut self, kind: &str, from: &str, to: &str, claims: &[&String], hashes: &BTreeMap<&str, String>) {
        if let (Some(a), Some(b)) = (hashes.get(from), hashes.get(to)) {
            self.add(kind, from, to, Ends { from: a.clone(), to: b.clone() }, claims);
        }
    }

    fn translated(&mut self, id: &String, translation: String, hashes: &BTreeMap<&str, String>) {
        let to = hashes.get(id.as_str()).cloned().unwrap_or_default();
        // A translation carries no claim about the product: it makes itself suspect and nothing else.
        self.add("translates", &format!("{id} (translation)"), id, Ends { from: translation, to }, &[]);
    }

    /// A criterion stands on a model, a test set and a protocol; whichever changes, the claim must be looked at again.
    fn results(
        &mut self,
        criterion: &str,
        requirement: &String,
        runs: &[ValidationRun],
        hashes: &BTreeMap<&str, String>,
    ) {
        let Some(from) = hashes.get(criterion) else { return };
        for run in runs.iter().filter(|run| run.results.criteria.iter().any(|result| result.id == criterion)) {
            let results = &run.results;
            let kind = if results.synthetic { "synthetic " } else { "" };
            let grounds = [
                results.model.as_ref().map(|model| ("model", model.sha256.clone())),
                results.manifest_sha256.clone().map(|hash| ("test set", hash)),
                // Of what it says: a comment in its file is no other protocol.
                results
                    .protocol
                    .as_ref()
                    .and_then(|protocol| protocol.canonical_sha256.clone())
                    .map(|hash| ("protocol", hash)),
            ];
            for (what, hash) in grounds.into_iter().flatten() {
                // Hashed again, since a run may state anything.
                let ends = Ends { from: from.clone(), to: sha256(hash.as_bytes()) };
                self.add(STANDS_ON, criterion, &format!("{kind}{what}"), ends, &[requirement, &criterion.to_owned()]);
            }
        }
    }

    /// Two functions of one name in one module are one end: both count.
    fn add(&mut self, kind: &str, from: &str, to: &str, ends: Ends, claims: &[&String]) {
        let key = Key { kind: kind.to_owned(), from: from.to_owned(), to: to.to_owned() };
        let claims = claims.iter().map(|claim| (*claim).clone()).collect();
        let both = |a: &str, b: &str| if a == b { a.to_owned() } else { sha256(format!("{a}{b}").as_bytes()) };
        match self.links.get_mut(&key) {
            Some((known, _)) => *known = Ends { from: both(&known.from, &ends.from), to: both(&known.to, &ends.to) },
            None => _ = self.links.insert(key, (ends, claims)),
        }
    }

    fn is_gone(&self, key: &Key) -> bool {
        !self.links.contains_key(key) && (self.with_results || key.kind != STANDS_ON)
    }

    /// Against the lock.
    pub fn compare(self, lock: &Lock) -> (Vec<Link>, Vec<Finding>) {
        let mut findings = Vec::new();
        for gone in lock.entries.keys().filter(|key| self.is_gone(key)) {
            let message = format!("was reviewed as `{}` of `{}`, and is gone", gone.kind, gone.to);
            findings.push(Finding::new(Severity::Amber, "link-gone", &gone.from, message));
        }
        let links: Vec<Link> =
            self.links.into_iter().map(|(key, (ends, claims))| judge(key, ends, claims, lock)).collect();
        for link in links.iter().filter(|link| link.state == LinkState::Suspect) {
            findings.push(Finding::new(Severity::Amber, "suspect-link", &link.title(), link.why.clone()));
        }
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        for link in links.iter().filter(|link| link.state == LinkState::NotReviewed) {
            *waiting.entry(link.claims.first().map_or("translations", String::as_str)).or_default() += 1;
        }
        for (item, n) in waiting {
            let message = format!("manual - record required: nobody has reviewed {n} of its links");
            findings.push(Finding::new(Severity::Grey, "link-not-reviewed", item, message));
        }
        (links, findings)
    }
}

fn judge(key: Key, ends: Ends, claims: Vec<String>, lock: &Lock) -> Link {
    let (state, why) = match lock.entries.get(&key) {
        None => (LinkState::NotReviewed, String::new()),
        Some(reviewed) => {
            let changed: Vec<&str> = [(&key.from, &ends.from, &reviewed.from), (&key.to, &ends.to, &reviewed.to)]
                .into_iter()
                .filter(|(_, today, then)| today != then)
                .map(|(name, _, _)| name.as_str())
                .collect();
            if changed.is_empty() {
                (LinkState::Current, String::new())
            } else {
                let who = &reviewed.reviewer;
                (
                    LinkState::Suspect,
                    format!("{} changed since {who} reviewed it on {}", changed.join(" and "), reviewed.date),
                )
            }
        }
    };
    Link { key, ends, state, claims, why }
}

/// The links that carry a claim of each requirement, risk, criterion or control.
pub fn by_claim(links: &[Link]) -> BTreeMap<&str, Vec<&Link>> {
    let mut found: BTreeMap<&str, Vec<&Link>> = BTreeMap::new();
    for link in links {
        link.claims.iter().for_each(|claim| found.entry(claim).or_default().push(link));
    }
    found
}

/// How many links are in each state; for the terminal.
pub fn counts(links: &[Link]) -> [(LinkState, usize); 3] {
    [LinkState::Suspect, LinkState::NotReviewed, LinkState::Current]
        .map(|state| (state, links.iter().filter(|link| link.state == state).count()))
}

/// Tests that verify something suspect: these must run again after a change.
pub fn tests_to_repeat<'a>(links: &[Link], tests: &'a [BoundTest]) -> Vec<&'a BoundTest> {
    let suspect = links.iter().filter(|link| link.state == LinkState::Suspect).flat_map(|link| &link.claims);
    let suspect: BTreeSet<&str> = suspect.map(String::as_str).collect();
    tests.iter().filter(|test| test.tag.ids.iter().any(|id| suspect.contains(id.as_str()))).collect()
}
