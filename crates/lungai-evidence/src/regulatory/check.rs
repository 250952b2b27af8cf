//! References between files: each must lead somewhere, and the message says where it stands and what was probably meant.
use super::yaml::{Source, nearest};
use super::*;
use crate::failure::{Failure, fail};
use std::collections::{BTreeMap, BTreeSet};

pub fn check(all: &Regulatory, sources: &BTreeMap<String, Source>) -> Result<(), Failure> {
    let known = Known::of(all);
    let files = Files(sources);
    matrix(&all.matrix)?;
    profile(all, &files)?;
    requirements(all, &known, &files)?;
    risks(all, &known, &files)?;
    mutations(all, &files)?;
    threats_and_records(all, &known, &files)
}

/// Ids by kind.
struct Known<'a> {
    needs: BTreeSet<&'a str>,
    requirements: BTreeSet<&'a str>,
    risks: BTreeSet<&'a str>,
    criteria: BTreeSet<&'a str>,
    roles: BTreeSet<&'a str>,
    /// Crates, components and equipment that a cause or a problem may lie in.
    items: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(all: &'a Regulatory) -> Self {
        let own = all.items.iter().map(|item| item.name.as_str());
        Self {
            needs: all.needs.keys().map(String::as_str).collect(),
            requirements: all.requirements.keys().map(String::as_str).collect(),
            risks: all.risks.keys().map(String::as_str).collect(),
            criteria: all.requirements.values().flat_map(|r| &r.criteria).map(|c| c.id.as_str()).collect(),
            roles: all.profile.roles.iter().map(|role| role.id.as_str()).collect(),
            items: own.chain(["hardware", "operator"]).collect(),
        }
    }
}

struct Files<'a>(&'a BTreeMap<String, Source>);

impl Files<'_> {
    fn blame<T>(&self, file: &str, rule: &'static str, value: &str, message: String) -> Result<T, Failure> {
        match self.0.get(file) {
            Some(source) => Err(source.blame(rule, value, &message)),
            None => fail(rule, format!("regulatory/{file}: {message}")),
        }
    }

    /// Each value must be known.
    fn lead<'v>(
        &self,
        file: &str,
        field: &str,
        values: impl IntoIterator<Item = &'v String>,
        known: &BTreeSet<&str>,
    ) -> Result<(), Failure> {
        match values.into_iter().find(|value| !known.contains(value.as_str())) {
            None => Ok(()),
            Some(value) => {
                let nearest = nearest(value, known.iter().copied());
                let hint = if nearest.is_empty() { String::new() } else { format!("; nearest: {nearest}") };
                self.blame(file, "unknown-id", value, format!("`{field}` names `{value}`, which does not exist{hint}"))
            }
        }
    }
}

fn scale(n: u8) -> bool {
    (1..=5).contains(&n)
}

fn matrix(matrix: &Matrix) -> Result<(), Failure> {
    let five = |rows: usize| rows == 5;
    let combine =
        five(matrix.combine.len()) && matrix.combine.iter().all(|row| five(row.len()) && row.iter().all(|p| scale(*p)));
    if !combine || !five(matrix.levels.len()) || matrix.levels.iter().any(|row| !five(row.len())) {
        let message = "regulatory/matrix.yaml: `combine` and `levels` must be 5 by 5, with probabilities from 1 to 5";
        return fail("matrix", message.to_owned());
    }
    // A matrix in which a worse risk has a lower level would make every computed level a lie.
    let rising = |a: &[Level], b: &[Level]| a.iter().zip(b).all(|(a, b)| a <= b);
    let rows = matrix.levels.windows(2).all(|pair| rising(&pair[0], &pair[1]));
    let columns = matrix.levels.iter().all(|row| row.is_sorted()) && matrix.combine.iter().all(|row| row.is_sorted());
    let combined = matrix.combine.windows(2).all(|pair| pair[0].iter().zip(&pair[1]).all(|(a, b)| a <= b));
    let wrong = |message: &str| fail("matrix", format!("regulatory/matrix.yaml: {message}"));
    if !(rows && columns && combined) {
        return wrong("a level or a probability falls where severity or probability rises");
    }
    // Steps of ten, multiplied: certain times certain is certain, and nothing is rarer than the product of its factors.
    let fits = |(row, values): (usize, &Vec<u8>)| {
        // Rows and columns count from 0, steps from 1: (row + 1) + (column + 1) - 5.
        values.iter().enumerate().all(|(column, p)| usize::from(*p) >= (row + column).saturating_sub(3).max(1))
    };
    if !matrix.combine.iter().enumerate().all(fits) || matrix.combine[4][4] != 5 {
        return wrong("`combine` makes a harm rarer than the product of its two probabilities");
    }
    if matrix.levels[4][4] != Level::High {
        return wrong("a frequent catastrophe must be `high`");
    }
    if matrix.acceptable.contains(&Level::High) {
        return wrong("`high` is never acceptable: reduce the risk, or decide a benefit-risk analysis");
    }
    let scales = [&matrix.severity, &matrix.probability].iter().all(|names| names.keys().copied().eq(1..=5));
    if scales && scale(matrix.serious_from) {
        Ok(())
    } else {
        wrong("severity and probability have five steps, and injury is serious from one of them on")
    }
}

fn profile(all: &Regulatory, files: &Files) -> Result<(), Failure> {
    let roles: BTreeSet<&str> = all.profile.roles.iter().map(|role| role.id.as_str()).collect();
    if roles.len() != all.profile.roles.len() {
        return fail("duplicate-id", "regulatory/profile.yaml: a role is defined twice".to_owned());
    }
    let documents: BTreeSet<&str> = all.documents.keys().map(String::as_str).chain(["release"]).collect();
    for standard in all.profile.standards.iter().filter(|standard| standard.clauses.is_some()) {
        let file = format!("clauses/{}", standard.clauses.as_deref().unwrap_or_default());
        let of_it = |t: &&ClauseTable| t.standard == standard.name && t.edition == standard.edition;
        let Some(table) = all.clause_tables.iter().find(of_it) else {
            let message = format!("is not the table of {} {}, as the profile says", standard.name, standard.edition);
            return files.blame(&file, "clause-table", "edition", message);
        };
        let mut ids = BTreeSet::new();
        for clause in &table.clauses {
            if !ids.insert(&clause.id) {
                return files.blame(&file, "duplicate-id", &clause.id, format!("clause `{}` stands twice", clause.id));
            }
            if clause.check == "not-applicable" && clause.note.is_none() {
                let message = format!("clause {}: `not-applicable` needs a `note` that says why", clause.id);
                return files.blame(&file, "reason-missing", "not-applicable", message);
            }
        }
    }
    for approval in &all.profile.approvals {
        files.lead("profile.yaml", "document", [&approval.document], &documents)?;
        files.lead("profile.yaml", "roles", &approval.roles, &roles)?;
    }
    let kinds: BTreeSet<&str> = Content::ALL.iter().map(|(_, name)| *name).collect();
    files.lead("profile.yaml", "content_reasons", all.profile.content_reasons.keys(), &kinds)
}

fn requirements(all: &Regulatory, known: &Known, files: &Files) -> Result<(), Failure> {
    for (id, requirement) in &all.requirements {
        let file = format!("requirements/{id}.yaml");
        if requirement.allocation != Allocation::InScope && requirement.reason.is_none() {
            let message = "an allocation other than in_scope needs a `reason`".to_owned();
            return files.blame(&file, "reason-missing", "allocation", message);
        }
        let above = if requirement.tier == Tier::System { &known.needs } else { &known.requirements };
        files.lead(&file, "parents", &requirement.parents, above)?;
        files.lead(&file, "controls_for", &requirement.controls_for, &known.risks)?;
        let mut criteria = BTreeSet::new();
        for criterion in &requirement.criteria {
            if !criterion.id.starts_with(&format!("{id}.")) {
                let message = format!("criterion `{}` must begin with `{id}.`", criterion.id);
                return files.blame(&file, "unknown-id", &criterion.id, message);
            }
            if !criteria.insert(&criterion.id) {
                let message = format!("criterion `{}` is defined twice", criterion.id);
                return files.blame(&file, "duplicate-id", &criterion.id, message);
            }
            if !criterion.limit.is_finite() {
                return files.blame(&file, "scale", "limit", format!("the limit of {} is no number", criterion.id));
            }
            if !(criterion.diameter_at_least_mm.is_finite() && criterion.diameter_at_least_mm >= 0.0) {
                let message = format!("{}: a diameter is a number of mm from 0 on", criterion.id);
                return files.blame(&file, "scale", "diameter_at_least_mm", message);
            }
            if !(criterion.confidence_level > 0.5 && criterion.confidence_level < 1.0) {
                let message = format!("{}: a confidence level lies above 0.5 and below 1", criterion.id);
                return files.blame(&file, "scale", "confidence_level", message);
            }
        }
        if requirement.verify_by.is_empty() && requirement.allocation == Allocation::InScope {
            let message = "a requirement in scope says how it is verified".to_owned();
            return files.blame(&file, "verify-by-missing", "verify_by", message);
        }
        let measured = [VerifyBy::Validation, VerifyBy::Operation];
        if requirement.criteria.is_empty() && requirement.verify_by.iter().any(|way| measured.contains(way)) {
            let message = "what validation or operation shall show needs a criterion".to_owned();
            return files.blame(&file, "criterion-missing", "verify_by", message);
        }
        if let Some(circle) = circle(all, id) {
            return files.blame(&file, "circle", "parents", format!("`{id}` is its own ancestor, by {circle}"));
        }
    }
    Ok(())
}

/// The way from a requirement back to itself, if there is one.
fn circle(all: &Regulatory, id: &str) -> Option<String> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = all.requirements.get(id)?.parents.iter().map(String::as_str).collect();
    while let Some(next) = open.pop() {
        let Some(requirement) = all.requirements.get(next) else { continue };
        if next == id || requirement.parents.iter().any(|parent| parent == id) {
            return Some(next.to_owned());
        }
        if seen.insert(next) {
            open.extend(requirement.parents.iter().map(String::as_str));
        }
    }
    None
}

fn risks(all: &Regulatory, known: &Known, files: &Files) -> Result<(), Failure> {
    let analyses: BTreeSet<&str> = all.benefit_risk.iter().map(|analysis| analysis.id.as_str()).collect();
    for analysis in &all.benefit_risk {
        files.lead("benefit-risk.yaml", "risks", &analysis.risks, &known.risks)?;
    }
    let mut controls = BTreeSet::new();
    for (id, risk) in &all.risks {
        let file = format!("risks/{id}.yaml");
        if ![risk.initial.S, risk.initial.P1, risk.initial.P2].into_iter().all(scale) {
            return files.blame(&file, "scale", "initial", "S, P1 and P2 must be from 1 to 5".to_owned());
        }
        files.lead(&file, "benefit_risk", &risk.benefit_risk, &analyses)?;
        for control in &risk.controls {
            if !controls.insert(&control.id) {
                let message = format!("control `{}` is defined twice", control.id);
                return files.blame(&file, "duplicate-id", &control.id, message);
            }
            files.lead(&file, "requirement", &control.requirement, &known.requirements)?;
            if control.requirement.is_none() && !control.external {
                let message = format!("{}: a control in software names its requirement", control.id);
                return files.blame(&file, "control-without-requirement", &control.id, message);
            }
            if control.option == ControlOption::Information && (control.reduces.P1, control.reduces.P2) != (0, 0) {
                let message = format!("{}: information alone reduces no probability", control.id);
                return files.blame(&file, "information-reduces", &control.id, message);
            }
            if let Effectiveness::Criteria(named) = &control.effectiveness {
                files.lead(&file, "criteria", named, &known.criteria)?;
            }
        }
    }
    Ok(())
}

fn mutations(all: &Regulatory, files: &Files) -> Result<(), Failure> {
    let controls: BTreeSet<&str> = all.risks.values().flat_map(|r| &r.controls).map(|c| c.id.as_str()).collect();
    let packages: BTreeSet<&str> = all.items.iter().map(|item| item.name.as_str()).collect();
    let mut ids = BTreeSet::new();
    for mutation in &all.mutations {
        let blame = |rule, value: &str, message: String| files.blame("mutations.yaml", rule, value, message);
        if !ids.insert(&mutation.id) {
            return blame("duplicate-id", &mutation.id, format!("mutation `{}` is defined twice", mutation.id));
        }
        files.lead("mutations.yaml", "control", [&mutation.control], &controls)?;
        files.lead("mutations.yaml", "package", [&mutation.package], &packages)?;
        if mutation.from.is_empty() || mutation.from == mutation.to {
            return blame("mutation-idle", &mutation.id, format!("{}: `from` and `to` must differ", mutation.id));
        }
        let outside = |part: &str| part.is_empty() || part == "." || part == "..";
        if mutation.file.split('/').any(outside) {
            let message = format!("{}: `file` is a path below the workspace", mutation.id);
            return blame("mutation-file", &mutation.file, message);
        }
    }
    Ok(())
}

fn threats_and_records(all: &Regulatory, known: &Known, files: &Files) -> Result<(), Failure> {
    for (id, threat) in &all.threats {
        let file = format!("threats/{id}.yaml");
        files.lead(&file, "risks", &threat.risks, &known.risks)?;
        files.lead(&file, "requirements", &threat.requirements, &known.requirements)?;
    }
    let changes: BTreeSet<&str> = all.changes.keys().map(String::as_str).collect();
    let problems: BTreeSet<&str> = all.problems.keys().map(String::as_str).collect();
    for (id, problem) in &all.problems {
        let file = format!("problems/{id}.yaml");
        files.lead(&file, "item", [&problem.item], &known.items)?;
        files.lead(&file, "risks", &problem.risks, &known.risks)?;
        files.lead(&file, "requirements", &problem.requirements, &known.requirements)?;
        files.lead(&file, "change", &problem.change, &changes)?;
        if problem.state >= ProblemState::Evaluated && problem.evaluation.is_none() {
            return files.blame(
                &file,
                "evaluation-missing",
                "state",
                "an evaluated problem has an `evaluation`".to_owned(),
            );
        }
        if problem.state == ProblemState::Closed && problem.verified.is_none() {
            let message = "a closed problem says how its removal was `verified`".to_owned();
            return files.blame(&file, "closure-without-evidence", "state", message);
        }
    }
    for (id, change) in &all.changes {
        files.lead(&format!("changes/{id}.yaml"), "problems", &change.problems, &problems)?;
    }
    for (id, review) in &all.reviews {
        files.lead(&format!("reviews/{id}.yaml"), "role", [&review.role], &known.roles)?;
    }
    for (id, release) in &all.releases {
        let file = format!("releases/{id}.yaml");
        files.lead(&file, "requirements", release.requirements.keys(), &known.requirements)?;
        files.lead(&file, "approvals", release.approvals.iter().map(|approval| &approval.role), &known.roles)?;
    }
    if let Some(waiver) = all.waivers.iter().find(|waiver| waiver.expires <= waiver.approved) {
        let message = format!("the waiver of {} for {} ends before it begins", waiver.rule, waiver.item);
        return files.blame("waivers.yaml", "waiver", &waiver.expires.to_string(), message);
    }
    if let Some(plan) = &all.change_control {
        for modification in &plan.modifications {
            files.lead("change-control.yaml", "criteria", &modification.criteria, &known.criteria)?;
        }
    }
    for triage in &all.vex {
        if triage.state == TriageState::NotAffected && triage.justification.is_none() {
            let message = format!("{}: `not_affected` needs a `justification`", triage.advisory);
            return files.blame("vex.yaml", "justification-missing", &triage.advisory, message);
        }
    }
    Ok(())
}
