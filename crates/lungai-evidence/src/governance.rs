//! What people keep beside the requirements and risks: needs, documents, threats, problems, changes, approvals. Each gap is a finding.
use crate::finding::{Finding, Severity};
use crate::regulatory::{
    Allocation, ClauseTable, Date, Document, ProblemSeverity, ProblemState, Regulatory, ReviewOutcome, Tier, nearest,
    normative,
};
use serde::Serialize;
use std::collections::BTreeSet;

/// How far a document has come.
#[derive(Debug, Clone, Serialize)]
pub struct DocumentStatus {
    pub name: String,
    pub sha256: String,
    /// Id of the accepted review of this very text.
    pub review: Option<String>,
    /// Roles that must approve it and have not reviewed this text.
    pub approvals_open: Vec<String>,
    /// An earlier text was reviewed, this one was not.
    pub stale: bool,
}

pub fn documents(regulatory: &Regulatory) -> Vec<DocumentStatus> {
    let status = |document: &Document| {
        let item = format!("plans/{}.md", document.name);
        let wanted = regulatory.profile.approvals.iter().filter(|a| a.document == document.name).flat_map(|a| &a.roles);
        let by_role = |role: &String| regulatory.approval_of(&item, &document.sha256, role).is_some();
        let review = regulatory.review_of(&item, &document.sha256);
        let then = || regulatory.reviews.values().filter_map(|r| r.items.get(&item));
        DocumentStatus {
            name: document.name.clone(),
            sha256: document.sha256.clone(),
            review: review.map(|r| r.id.clone()),
            approvals_open: wanted.filter(|role| !by_role(role)).cloned().collect(),
            stale: review.is_none() && !then().any(|then| *then == document.sha256) && then().next().is_some(),
        }
    };
    regulatory.documents.values().map(status).collect()
}

pub fn findings(regulatory: &Regulatory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, rule, item: &str, message: String| {
        findings.push(Finding::new(severity, rule, item, message));
    };
    for (id, need) in &regulatory.needs {
        if !regulatory.requirements.values().any(|r| r.parents.contains(id)) {
            add(Severity::Amber, "need-unmet", id, format!("no requirement follows from it: {}", need.title.en));
        }
    }
    for (id, requirement) in &regulatory.requirements {
        if requirement.parents.is_empty() && requirement.allocation == Allocation::InScope {
            let above = if requirement.tier == Tier::System { "need" } else { "system requirement" };
            add(Severity::Amber, "no-parent", id, format!("follows from no {above}"));
        }
        let text = requirement.statement.en.to_lowercase();
        let vague: Vec<&str> = VAGUE.into_iter().filter(|word| has_word(&text, word)).collect();
        if !vague.is_empty() {
            add(Severity::Amber, "vague-words", id, format!("cannot be tested as worded: {}", vague.join(", ")));
        }
    }
    for status in documents(regulatory) {
        let item = format!("plans/{}.md", status.name);
        if status.stale {
            let message = "changed since its review: the review is of another text".to_owned();
            add(Severity::Amber, "review-stale", &item, message);
        } else if status.review.is_none() {
            add(Severity::Grey, "manual", &item, "manual - record required: no review accepts it".to_owned());
        }
        if !status.approvals_open.is_empty() {
            let message = format!("manual - record required: not approved by {}", status.approvals_open.join(", "));
            add(Severity::Grey, "approval-missing", &item, message);
        }
    }
    for document in regulatory.documents.values() {
        for section in document.untranslated() {
            let item = format!("plans/{}.md", document.name);
            let message = format!("section `{section}`: the two languages do not hold the same");
            add(Severity::Amber, "translation-missing", &item, message);
        }
    }
    for role in regulatory.profile.roles.iter().filter(|role| role.holder.is_none()) {
        let message = format!("manual - record required: nobody is named as {}", role.title.en);
        add(Severity::Grey, "role-vacant", &role.id, message);
    }
    for (id, threat) in &regulatory.threats {
        if threat.requirements.is_empty() && threat.operator.is_none() {
            add(Severity::Red, "threat-uncontrolled", id, format!("nothing counters it: {}", threat.title.en));
        }
    }
    problems(regulatory, &mut add);
    people(regulatory, &mut add);
    for analysis in regulatory.benefit_risk.iter().filter(|analysis| analysis.decided.is_none()) {
        let message = "manual - record required: nobody has decided this benefit-risk analysis".to_owned();
        add(Severity::Grey, "benefit-risk-open", &analysis.id, message);
    }
    for (id, change) in regulatory.changes.iter().filter(|(_, change)| change.approved.is_none()) {
        add(Severity::Amber, "change-not-approved", id, format!("nobody has approved it: {}", change.title.en));
    }
    if regulatory.change_control.as_ref().is_some_and(|plan| plan.authorised.is_none()) {
        let message =
            "manual - record required: no authority has agreed to the plan; every change is outside it".to_owned();
        add(Severity::Grey, "change-control-not-authorised", "change-control", message);
    }
    findings
}

fn problems(regulatory: &Regulatory, add: &mut impl FnMut(Severity, &'static str, &str, String)) {
    for (id, problem) in &regulatory.problems {
        let open = problem.is_open(regulatory);
        if open && problem.state >= ProblemState::Resolved {
            let message = "called resolved, without an approved change and a verification: it stays open".to_owned();
            add(Severity::Red, "problem-not-resolved", id, message);
        }
        if open && problem.severity == ProblemSeverity::Critical {
            add(Severity::Red, "problem-critical", id, format!("a critical problem is open: {}", problem.title.en));
        } else if open {
            add(Severity::Amber, "problem-open", id, format!("known and not removed: {}", problem.title.en));
        }
        if problem.state == ProblemState::Open {
            add(Severity::Amber, "problem-not-evaluated", id, "nobody has evaluated its effect on safety".to_owned());
        }
    }
}

/// Reviews, approvals and decisions by people who do not hold the role in which they speak, or who judge their own work.
fn people(regulatory: &Regulatory, add: &mut impl FnMut(Severity, &'static str, &str, String)) {
    for (id, review) in &regulatory.reviews {
        if let Some(why) = regulatory.why_void(review) {
            add(Severity::Amber, "review-void", id, format!("accepts nothing: {why}"));
        }
        if review.outcome == ReviewOutcome::Rejected {
            let items: Vec<&str> = review.items.keys().map(String::as_str).collect();
            add(Severity::Amber, "review-rejected", id, format!("{} rejected {}", review.reviewer, items.join(", ")));
        }
    }
    for (id, release) in &regulatory.releases {
        let missing = regulatory.missing_approvals(release);
        if !missing.is_empty() {
            let message = format!("nothing is released by it: not approved by {}", missing.join(", "));
            add(Severity::Red, "release-not-approved", id, message);
        }
    }
    let analyses = regulatory.benefit_risk.iter().map(|a| (&a.id, &a.decided));
    for (id, decision) in analyses.chain(regulatory.changes.iter().map(|(id, change)| (id, &change.approved))) {
        let why = decision.as_ref().and_then(|d| regulatory.why_not_held(&d.role, &d.name));
        if let Some(why) = why {
            add(Severity::Amber, "decision-void", id, format!("its decision does not count: {why}"));
        }
    }
}

/// Records dated after the commit that holds them: such a word would outlast every later one.
///
/// - `today`: date of the commit; empty: nothing can be said
pub fn from_the_future(regulatory: &Regulatory, today: &str) -> Vec<Finding> {
    let reviews = regulatory.reviews.iter().map(|(id, review)| (id, &review.date));
    let releases = regulatory.releases.iter().map(|(id, release)| (id, &release.date));
    let today = today.get(..10).unwrap_or_default();
    let later = reviews.chain(releases).filter(|(_, date)| !today.is_empty() && date.to_string().as_str() > today);
    let say = |(id, date): (&String, &Date)| {
        let message = format!("is dated {date}, after the commit of {today} that holds it");
        Finding::new(Severity::Red, "record-from-the-future", id, message)
    };
    later.map(say).collect()
}

/// Words that no test can decide; a subset of those that guides on requirements warn of.
const VAGUE: [&str; 16] = [
    "adequate",
    "and/or",
    "appropriate",
    "as far as possible",
    "easy",
    "easily",
    "efficient",
    "etc",
    "fast",
    "flexible",
    "robust",
    "state of the art",
    "sufficient",
    "suitable",
    "tbd",
    "user-friendly",
];

fn has_word(text: &str, word: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric();
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(letter);
        !before && !text[at + word.len()..].chars().next().is_some_and(letter)
    })
}

/// Today's hash of anything that a review may name; none for what has no text here, such as a clause.
pub fn hash_of(regulatory: &Regulatory, item: &str) -> Option<String> {
    let language = regulatory.profile.normative_language;
    if let Some(requirement) = regulatory.requirements.get(item) {
        return Some(normative::of_requirement(requirement, language));
    }
    if let Some(risk) = regulatory.risks.get(item) {
        return Some(normative::of_risk(risk, &regulatory.matrix, language));
    }
    if let Some(control) = regulatory.risks.values().flat_map(|risk| &risk.controls).find(|c| c.id == item) {
        return Some(normative::hash(control, language));
    }
    if let Some(threat) = regulatory.threats.get(item) {
        return Some(normative::hash(threat, language));
    }
    let name = item.strip_prefix("plans/")?.strip_suffix(".md")?;
    regulatory.documents.get(name).map(|document| document.sha256.clone())
}

/// The clauses that a review may name: with standard and edition, since another edition is another text.
fn clauses(regulatory: &Regulatory) -> BTreeSet<String> {
    let of = |table: &ClauseTable| -> Vec<String> { table.clauses.iter().map(|clause| table.item(clause)).collect() };
    regulatory.clause_tables.iter().flat_map(of).collect()
}

/// Reviews of texts that have changed since, and of things that are gone.
pub fn stale_reviews(regulatory: &Regulatory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let clauses = clauses(regulatory);
    for (id, review) in &regulatory.reviews {
        for item in review.items.iter().filter(|(_, then)| *then == "-").map(|(item, _)| item) {
            if !clauses.contains(item) {
                let nearest = nearest(item, clauses.iter().map(String::as_str));
                let message =
                    format!("claims `{item}`, which is no clause with its standard and edition; nearest: {nearest}");
                findings.push(Finding::new(Severity::Red, "clause-unknown", id, message));
            }
        }
        for (item, then) in review.items.iter().filter(|(_, then)| *then != "-") {
            let message = match hash_of(regulatory, item) {
                Some(today) if today == *then => continue,
                // Said of the document itself, where no later review covers it.
                Some(_) if item.starts_with("plans/") => continue,
                Some(_) => format!("{item} has changed since this review"),
                None => format!("reviews {item}, which does not exist"),
            };
            findings.push(Finding::new(Severity::Amber, "review-stale", id, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vague_word_is_a_whole_word() {
        assert!(has_word("it shall be fast.", "fast"));
        assert!(!has_word("breakfast", "fast") && !has_word("etching", "etc"));
    }
}
