//! What `regulatory/` says, as written by people.
//!
//! Every file is read completely: an unknown key, an id that differs from its file name or a reference that leads nowhere is an
//! error, because a silent default here would become a claim in the evidence.
mod clause;
mod document;
mod mutation;
mod profile;
mod record;
mod requirement;
mod risk;
mod soup;
mod threat;

mod check;
mod files;
pub mod normative;
pub mod schema;
mod yaml;

pub use clause::{Clause, ClauseTable};
pub use document::Document;
pub use mutation::Mutation;
pub use profile::{Language, Profile, Role, SafetyClass};
pub use record::{
    Change, Date, Problem, ProblemSeverity, ProblemState, Release, Review, ReviewOutcome, Settled, Waiver,
};
pub use requirement::{Allocation, Content, Criterion, Need, On, Op, Requirement, Text, Tier, VerifyBy};
pub use risk::{BenefitRisk, Control, ControlOption, Effectiveness, Level, Matrix, Risk};
pub use soup::{Bundled, ChangeControl, Item, Soup, Triage, TriageState};
pub use threat::Threat;
pub use yaml::nearest;

use crate::failure::Failure;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use yaml::Source;

/// All of `regulatory/`.
#[derive(Debug)]
pub struct Regulatory {
    pub profile: Profile,
    pub needs: BTreeMap<String, Need>,
    pub requirements: BTreeMap<String, Requirement>,
    pub risks: BTreeMap<String, Risk>,
    pub benefit_risk: Vec<BenefitRisk>,
    pub matrix: Matrix,
    pub mutations: Vec<Mutation>,
    pub threats: BTreeMap<String, Threat>,
    pub problems: BTreeMap<String, Problem>,
    pub changes: BTreeMap<String, Change>,
    pub reviews: BTreeMap<String, Review>,
    pub releases: BTreeMap<String, Release>,
    pub waivers: Vec<Waiver>,
    pub settled: Vec<Settled>,
    pub clause_tables: Vec<ClauseTable>,
    pub soup: Vec<Soup>,
    pub bundled: Vec<Bundled>,
    pub vex: Vec<Triage>,
    pub change_control: Option<ChangeControl>,
    pub items: Vec<Item>,
    /// Plans and manuals by name.
    pub documents: BTreeMap<String, Document>,
}

impl Regulatory {
    pub fn load(folder: &Path) -> Result<Self, Failure> {
        let mut read = Reading { folder, sources: BTreeMap::new() };
        let profile: Profile = read.file("profile.yaml")?;
        let mut clause_tables: Vec<ClauseTable> = Vec::new();
        files::check(folder, &profile)?;
        for file in profile.standards.iter().filter_map(|standard| standard.clauses.as_ref()) {
            clause_tables.push(read.file(&format!("clauses/{file}"))?);
        }
        let mut requirements: BTreeMap<String, Requirement> = read.items("requirements", |r: &Requirement| &r.id)?;
        for requirement in requirements.values_mut() {
            requirement.sha256 = read.sha256(&format!("requirements/{}.yaml", requirement.id));
        }
        let mut risks: BTreeMap<String, Risk> = read.items("risks", |r: &Risk| &r.id)?;
        for risk in risks.values_mut() {
            risk.sha256 = read.sha256(&format!("risks/{}.yaml", risk.id));
        }
        let mut documents = BTreeMap::new();
        for (name, text) in texts(&folder.join("plans"), "md")? {
            let name = name.trim_end_matches(".md");
            documents.insert(name.to_owned(), Document::parse(name, &text)?);
        }
        let all = Self {
            requirements,
            risks,
            clause_tables,
            documents,
            needs: read.items("needs", |n: &Need| &n.id)?,
            threats: read.items("threats", |t: &Threat| &t.id)?,
            problems: read.items("problems", |p: &Problem| &p.id)?,
            changes: read.items("changes", |c: &Change| &c.id)?,
            reviews: read.items("reviews", |r: &Review| &r.id)?,
            releases: read.items("releases", |r: &Release| &r.id)?,
            benefit_risk: read.optional("benefit-risk.yaml")?,
            mutations: read.optional("mutations.yaml")?,
            waivers: read.optional("waivers.yaml")?,
            settled: read.optional("settled.yaml")?,
            vex: read.optional("vex.yaml")?,
            change_control: read.optional("change-control.yaml")?,
            matrix: read.file("matrix.yaml")?,
            soup: read.file("soup.yaml")?,
            bundled: read.optional("bundled.yaml")?,
            items: read.file("items.yaml")?,
            profile,
        };
        check::check(&all, &read.sources)?;
        Ok(all)
    }

    /// Is it the id of a requirement or of a risk?
    pub fn knows(&self, id: &str) -> bool {
        self.requirements.contains_key(id) || self.risks.contains_key(id)
    }

    /// Hash of the file that an id names.
    pub fn sha256_of(&self, id: &str) -> Option<&str> {
        let requirement = self.requirements.get(id).map(|r| r.sha256.as_str());
        requirement.or_else(|| self.risks.get(id).map(|r| r.sha256.as_str()))
    }

    /// The known ids that are most like an unknown one.
    pub fn nearest(&self, id: &str) -> String {
        nearest(id, self.requirements.keys().chain(self.risks.keys()).map(String::as_str))
    }

    /// The review by which an item with this hash stands accepted; `-` for what has no text here. The latest word counts, and of one
    /// day the rejection.
    pub fn review_of(&self, item: &str, sha256: &str) -> Option<&Review> {
        self.accepted(item, sha256, |_| true)
    }

    /// The same, by a role alone.
    pub fn approval_of(&self, item: &str, sha256: &str, role: &str) -> Option<&Review> {
        self.accepted(item, sha256, |review| review.role == role)
    }

    fn accepted(&self, item: &str, sha256: &str, is_asked: impl Fn(&Review) -> bool) -> Option<&Review> {
        let of_item = |r: &&Review| r.items.get(item).is_some_and(|then| then == sha256) && is_asked(r);
        let latest = self.reviews.values().filter(of_item).filter(|r| self.why_void(r).is_none());
        latest.max_by_key(|r| (&r.date, r.outcome)).filter(|r| r.outcome == ReviewOutcome::Accepted)
    }

    /// Why a review accepts nothing, whatever its outcome; a rejection needs no standing.
    pub fn why_void(&self, review: &Review) -> Option<String> {
        if review.outcome == ReviewOutcome::Rejected {
            return None;
        }
        let dependent = || (!review.independent).then(|| "whoever reviewed it wrote it".to_owned());
        self.why_not_held(&review.role, &review.reviewer).or_else(dependent)
    }

    /// Why a person cannot speak in a role, as the profile has it.
    pub fn why_not_held(&self, role: &str, name: &str) -> Option<String> {
        match self.profile.roles.iter().find(|known| known.id == role) {
            None => Some(format!("there is no role `{role}`")),
            Some(Role { holder: None, .. }) => Some(format!("nobody is named as {role}")),
            Some(Role { holder: Some(holder), .. }) if holder.trim() != name.trim() => {
                Some(format!("{role} is {holder}, not {name}"))
            }
            Some(_) => None,
        }
    }

    /// Roles whose approval a release lacks; at least one person approves, whatever the profile says.
    pub fn missing_approvals(&self, release: &Release) -> Vec<String> {
        let given =
            |role: &str| release.approvals.iter().any(|a| a.role == role && self.why_not_held(role, &a.name).is_none());
        let wanted = self.profile.approvals.iter().filter(|a| a.document == "release").flat_map(|a| &a.roles);
        let missing: Vec<String> = wanted.filter(|role| !given(role)).cloned().collect();
        if missing.is_empty() && !release.approvals.iter().any(|a| given(&a.role)) {
            return vec!["anybody".to_owned()];
        }
        missing
    }
}

/// Reads files and keeps their texts, so that a later error can name a line.
struct Reading<'a> {
    folder: &'a Path,
    sources: BTreeMap<String, Source>,
}

impl Reading<'_> {
    fn file<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        let source = Source::read(self.folder, name)?;
        let value = source.parse()?;
        self.sources.insert(name.to_owned(), source);
        Ok(value)
    }

    /// A file that may be absent: then there is none of what it would hold.
    fn optional<T: DeserializeOwned + Default>(&mut self, name: &str) -> Result<T, Failure> {
        if self.folder.join(name).exists() { self.file(name) } else { Ok(T::default()) }
    }

    /// One item a file, under the file's name.
    fn items<T: DeserializeOwned>(
        &mut self,
        kind: &str,
        id: fn(&T) -> &String,
    ) -> Result<BTreeMap<String, T>, Failure> {
        let mut found = BTreeMap::new();
        for (name, text) in texts(&self.folder.join(kind), "yaml")? {
            let source = Source { name: format!("{kind}/{name}"), text };
            let item: T = source.parse()?;
            let id = id(&item).clone();
            if name.strip_suffix(".yaml") != Some(id.as_str()) {
                let message = format!("the file {name} holds the id `{id}`; both must be equal");
                return Err(source.blame("id-differs-from-file", &id, &message));
            }
            self.sources.insert(source.name.clone(), source);
            found.insert(id, item);
        }
        Ok(found)
    }

    fn sha256(&self, name: &str) -> String {
        self.sources.get(name).map(|source| sha256(source.text.as_bytes())).unwrap_or_default()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name and text of each file with this ending, sorted; none where the folder is absent.
fn texts(folder: &Path, ending: &str) -> Result<BTreeMap<String, String>, Failure> {
    let place = format!("regulatory/{}", folder.file_name().unwrap_or_default().to_string_lossy());
    let mut found = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    let unreadable = |error: std::io::Error| Failure::new("unreadable", format!("{place}: {error}"));
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|e| e == ending) {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::new("unreadable", format!("{place}/{name}: {error}")))?;
            found.insert(name, text);
        }
    }
    Ok(found)
}
