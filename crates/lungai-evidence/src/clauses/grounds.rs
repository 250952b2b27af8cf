//! Checks of a clause that point at one thing: `requirement:ID,..`, `threat:ID,..`, `protocol:FIELD`, `result:FIELD`, `card:SECTION`.
//! A field counts where it is there and says something; a result on synthetic data is reported and shows nothing about patients.
use super::{ClauseState, Evidence, Outcome, fulfilled, gap};
use crate::build::Inputs;
use crate::results::ValidationRun;
use lungai_trace::implements;
use serde_json::Value;

#[implements("RR-001")]
pub fn pointed_at(kind: &str, named: &str, evidence: &Evidence) -> Option<Outcome> {
    match kind {
        "requirement" => requirements(named, evidence),
        "threat" => threats(named, evidence),
        "protocol" => Some(protocol(named, evidence.inputs)),
        "result" => Some(result(named, evidence.inputs)),
        "card" => Some(card(named, evidence.inputs)),
        _ => None,
    }
}

fn requirements(ids: &str, evidence: &Evidence) -> Option<Outcome> {
    let named = ids.split(',').map(|id| evidence.requirements.iter().find(|r| r.requirement.id == id));
    let named = named.collect::<Option<Vec<_>>>()?;
    let open: Vec<String> = named
        .iter()
        .filter(|status| !fulfilled(status))
        .map(|status| format!("{} {}", status.requirement.id, status.state.words()))
        .collect();
    let all: Vec<&str> = named.iter().map(|status| status.requirement.id.as_str()).collect();
    Some(if open.is_empty() {
        (ClauseState::Shown, format!("{}: verified", all.join(", ")))
    } else {
        gap(format!("not verified: {}", open.join(", ")))
    })
}

/// A threat is answered where every requirement that counters it is verified.
fn threats(ids: &str, evidence: &Evidence) -> Option<Outcome> {
    let named = ids.split(',').map(|id| evidence.regulatory.threats.get(id)).collect::<Option<Vec<_>>>()?;
    let verified = |id: &str| evidence.requirements.iter().find(|r| r.requirement.id == id).is_some_and(fulfilled);
    let mut open = Vec::new();
    let mut shown = Vec::new();
    for threat in named {
        let missing: Vec<&str> = threat.requirements.iter().map(String::as_str).filter(|id| !verified(id)).collect();
        match missing.is_empty() {
            true => shown.push(format!("{} countered by {}", threat.id, threat.requirements.join(", "))),
            false => open.push(format!("{} ({} not verified)", threat.id, missing.join(", "))),
        }
    }
    Some(if open.is_empty() {
        (ClauseState::Shown, shown.join("; "))
    } else {
        gap(format!("not countered: {}", open.join(", ")))
    })
}

fn field<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let found = path.split('.').try_fold(value, |value, key| value.get(key))?;
    let says_nothing = match found {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    (!says_nothing).then_some(found)
}

/// The runs in which something was found, or why there is none.
fn in_runs(inputs: &Inputs, holds: impl Fn(&ValidationRun) -> bool) -> Result<Vec<&ValidationRun>, Outcome> {
    if inputs.validation.is_empty() {
        return Err(gap("not evidenced here: no validation run was given".to_owned()));
    }
    Ok(inputs.validation.iter().filter(|run| holds(run)).collect())
}

fn protocol(path: &str, inputs: &Inputs) -> Outcome {
    let of = |run: &ValidationRun| run.protocol.as_ref().is_some_and(|p| field(&p.says, path).is_some());
    let runs = match in_runs(inputs, of) {
        Ok(runs) => runs,
        Err(outcome) => return outcome,
    };
    let named: Vec<String> =
        runs.iter().map(|run| format!("`{path}` in validation/{}/protocol.yaml", run.name)).collect();
    if !named.is_empty() {
        return (ClauseState::Shown, named.join(", "));
    }
    match inputs.validation.iter().any(|run| run.protocol.is_some()) {
        true => gap(format!("not reported: the protocol says nothing of `{path}`")),
        false => gap("not evidenced here: no protocol lies beside the results that name it by its hash".to_owned()),
    }
}

fn result(path: &str, inputs: &Inputs) -> Outcome {
    let runs = match in_runs(inputs, |run| field(&run.all, path).is_some()) {
        Ok(runs) => runs,
        Err(outcome) => return outcome,
    };
    let named = |runs: &[&ValidationRun]| {
        let places = runs.iter().map(|run| format!("`{path}` in validation/{}/results.json", run.name));
        places.collect::<Vec<_>>().join(", ")
    };
    let real: Vec<&ValidationRun> = runs.iter().copied().filter(|run| !run.results.synthetic).collect();
    match (real.is_empty(), runs.is_empty()) {
        (false, _) => (ClauseState::Shown, named(&real)),
        (true, false) => {
            gap(format!("reported on SYNTHETIC data only, which say nothing about patients: {}", named(&runs)))
        }
        (true, true) => gap(format!("not reported: no run gives `{path}`")),
    }
}

fn card(section: &str, inputs: &Inputs) -> Outcome {
    if inputs.models.is_empty() {
        return gap("not evidenced here: no frozen model was given".to_owned());
    }
    let heading = format!("### {section}");
    let holds = |card: &[u8]| String::from_utf8_lossy(card).lines().any(|line| line.trim_end() == heading);
    let named: Vec<String> = (1..)
        .zip(&inputs.models)
        .filter(|(_, model)| model.card.as_deref().is_some_and(holds))
        .map(|(i, _)| format!("`{section}` in models/{i}/MODEL_CARD.md"))
        .collect();
    if named.is_empty() {
        gap(format!("not reported: no model card has a section `{section}`"))
    } else {
        (ClauseState::Shown, named.join(", "))
    }
}

/// The datasheets that follow from recipes of the sets that runs name.
pub fn data_set(inputs: &Inputs) -> Outcome {
    let described = |run: &ValidationRun| run.recipe.is_some();
    match in_runs(inputs, described) {
        Err(outcome) => outcome,
        Ok(runs) if runs.is_empty() => {
            gap("not evidenced here: no recipe in datasets/ is of the set that a run names".to_owned())
        }
        Ok(runs) if runs.iter().all(|run| run.results.synthetic) => {
            gap("described in documents/datasheet.html, of SYNTHETIC data only".to_owned())
        }
        Ok(_) => (ClauseState::Manual, "documents/datasheet.html; manual - record of its review required".to_owned()),
    }
}
