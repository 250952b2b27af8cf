//! What changed between two packages, what that makes doubtful, which tests must run again, and whether the change control plan allows it.
//! Both packages are verified first, and nothing but they is read.
use crate::failure::Failure;
use crate::package;
use crate::regulatory::sha256;
use lungai_trace::implements;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

#[derive(Debug, Serialize)]
pub struct Diff {
    /// Item -> before and after; one side is absent where the item is new or gone.
    pub changes: BTreeMap<String, (Option<String>, Option<String>)>,
    /// Claim (requirement, risk, criterion) -> the links whose ends changed.
    pub suspect: BTreeMap<String, BTreeSet<String>>,
    /// Tests of the new package that verify a suspect claim.
    pub tests_to_repeat: BTreeSet<String>,
    pub performance: Vec<Performance>,
    pub plan: Plan,
    pub questions: Vec<Question>,
}

/// What regulators ask about a change. A person answers; the facts only say where to look.
#[derive(Debug, Serialize)]
pub struct Question {
    pub basis: &'static str,
    pub question: &'static str,
    /// Changed items that bear on it.
    pub facts: Vec<String>,
}

/// A criterion's figure before and after.
#[derive(Debug, Serialize)]
pub struct Performance {
    pub criterion: String,
    pub before: Option<Figure>,
    pub after: Option<Figure>,
    pub difference: Option<f64>,
    /// Whether the two intervals share a value. Not a test: both runs may be on the same patients.
    pub intervals_overlap: Option<bool>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub value: f64,
    pub ci: Option<[f64; 2]>,
    pub synthetic: bool,
}

/// Where the change stands to the predetermined change control plan of the old package.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub inside: bool,
    /// The modification that covers everything, if one does.
    pub modification: Option<String>,
    pub reasons: Vec<String>,
}

#[implements("RR-001")]
pub fn diff(old: &Path, new: &Path) -> Result<Diff, Failure> {
    Ok(between(&report(old)?, &report(new)?))
}

/// The same, of two reports as packages hold them.
pub fn between(old: &Value, new: &Value) -> Diff {
    let (was, is) = (facts(old), facts(new));
    let items: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let changes: BTreeMap<_, _> = items
        .into_iter()
        .filter(|item| was.get(*item) != is.get(*item))
        .map(|item| (item.clone(), (was.get(item).cloned(), is.get(item).cloned())))
        .collect();
    let suspect = suspect(old, new);
    let verifies = |test: &&Value| list(&test["ids"]).iter().any(|id| suspect.contains_key(&text(id)));
    let tests_to_repeat = list(&new["tests"]).iter().filter(verifies).map(test_title).collect();
    Diff {
        performance: performance(old, new),
        plan: plan(old, new, &changes),
        questions: questions(&changes),
        changes,
        suspect,
        tests_to_repeat,
    }
}

/// The report in a package, which is verified first.
pub fn report(folder: &Path) -> Result<Value, Failure> {
    package::verify(folder, None, &BTreeMap::new())?;
    let wrong = |error: String| Failure::integrity("evidence-malformed", format!("core/evidence.json: {error}"));
    let text = std::fs::read(folder.join("core/evidence.json")).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn test_title(test: &Value) -> String {
    let module = text(&test["module"]);
    let module = module.split_once("::").map(|(_, rest)| format!("{rest}::")).unwrap_or_default();
    format!("{} {module}{}", text(&test["binary"]), text(&test["name"]))
}

/// The comparable facts of a package, each as one line. Change control plans name them by the beginning of their names.
fn facts(report: &Value) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("commit".to_owned(), text(&report["commit"]["id"])),
        ("version".to_owned(), text(&report["version"])),
        ("intended use".to_owned(), text(&report["intended_use"]["en"])),
        ("safety class".to_owned(), text(&report["classification"]["computed"])),
    ]);
    for r in list(&report["requirements"]) {
        let id = text(&r["requirement"]["id"]);
        facts.insert(format!("requirement {id}"), text(&r["normative_sha256"]));
        facts.insert(format!("state of {id}"), text(&r["state"]));
        for c in list(&r["criteria"]) {
            facts.insert(format!("criterion {}", text(&c["criterion"]["id"])), text(&c["outcome"]));
        }
    }
    for r in list(&report["risks"]) {
        let id = text(&r["risk"]["id"]);
        facts.insert(format!("risk {id}"), text(&r["risk"]["sha256"]));
        facts.insert(format!("residual of {id}"), text(&r["residual_as_evidenced"]["level"]));
    }
    for t in list(&report["tests"]) {
        facts.insert(format!("verdict of {}", test_title(t)), text(&t["verdict"]));
    }
    for t in list(&report["tests"]) {
        facts.insert(format!("test {}", test_title(t)), text(&t["sha256"]));
    }
    for link in list(&report["links"]).iter().filter(|link| link["kind"] == "implements") {
        facts.insert(format!("code {} of {}", text(&link["from"]), text(&link["to"])), text(&link["ends"]["from"]));
    }
    // The same version with another licence or digest is another component.
    let mut sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for s in list(&report["soup"]).iter().filter(|s| s["role"] == "shipped" || s["role"] == "bundled") {
        let [version, licence, sha256] = ["version", "licence", "sha256"].map(|key| text(&s[key]));
        let digest = if sha256.is_empty() { "no digest".to_owned() } else { format!("sha256 {sha256}") };
        sets.entry(format!("component {}", text(&s["name"])))
            .or_default()
            .insert(format!("{version} {licence} {digest}"));
    }
    for run in list(&report["validation"]) {
        let protocol = &run["protocol"];
        let [name, version, hash] = ["name", "version", "canonical_sha256"].map(|key| text(&protocol[key]));
        sets.entry("test set".to_owned()).or_default().insert(text(&run["manifest_sha256"]));
        sets.entry(format!("protocol {name}")).or_default().insert(format!("{version} {hash}"));
    }
    facts.extend(sets.into_iter().map(|(item, values)| (item, values.into_iter().collect::<Vec<_>>().join(", "))));
    facts.insert("matrix".to_owned(), text(&report["matrix_sha256"]));
    for kind in ["need", "threat"] {
        for item in list(&report[format!("{kind}s")]) {
            facts.insert(format!("{kind} {}", text(&item["id"])), sha256(item.to_string().as_bytes()));
        }
    }
    for m in list(&report["models"]) {
        facts.insert(format!("model {}", text(&m["name"])), format!("{} {}", text(&m["version"]), m["files"]));
    }
    for p in list(&report["problems"]) {
        facts.insert(format!("problem {}", text(&p["id"])), text(&p["state"]));
    }
    for d in list(&report["documents"]) {
        facts.insert(format!("document {}", text(&d["name"])), text(&d["sha256"]));
    }
    facts
}

/// Facts that follow from others and say nothing by themselves about what was changed.
const DERIVED: [&str; 6] = ["commit", "version", "state of ", "residual of ", "verdict of ", "safety class"];

/// Whether an item follows from others and says nothing by itself about what was changed.
pub fn is_derived(item: &str) -> bool {
    DERIVED.iter().any(|prefix| item.starts_with(prefix))
}

/// Links that are in both packages with another end, by the claims that they carry.
fn suspect(old: &Value, new: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let key = |link: &Value| (text(&link["from"]), text(&link["kind"]), text(&link["to"]));
    let before: BTreeMap<_, &Value> = list(&old["links"]).iter().map(|link| (key(link), &link["ends"])).collect();
    let mut suspect: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for link in list(&new["links"]) {
        let (from, kind, to) = key(link);
        let changed = before.get(&(from.clone(), kind.clone(), to.clone())).is_some_and(|ends| **ends != link["ends"]);
        for claim in list(&link["claims"]).iter().filter(|_| changed) {
            suspect.entry(text(claim)).or_default().insert(format!("{from} {kind} {to}"));
        }
    }
    suspect
}

fn performance(old: &Value, new: &Value) -> Vec<Performance> {
    let figures = |report: &Value| {
        let mut found: BTreeMap<String, Figure> = BTreeMap::new();
        for c in list(&report["requirements"]).iter().flat_map(|r| list(&r["criteria"])) {
            let bound = |i: usize| c["result"]["ci"][i].as_f64();
            if let Some(value) = c["result"]["value"].as_f64() {
                let ci = bound(0).zip(bound(1)).map(|(low, high)| [low, high]);
                let synthetic = text(&c["outcome"]).contains("synthetic");
                found.insert(text(&c["criterion"]["id"]), Figure { value, ci, synthetic });
            }
        }
        found
    };
    let (was, is) = (figures(old), figures(new));
    let ids: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    ids.into_iter()
        .map(|id| {
            let (before, after) = (was.get(id).cloned(), is.get(id).cloned());
            let both = before.as_ref().zip(after.as_ref());
            Performance {
                criterion: id.clone(),
                difference: both.map(|(a, b)| b.value - a.value),
                intervals_overlap: both
                    .and_then(|(a, b)| Some((a.ci?, b.ci?)))
                    .map(|(a, b)| a[0] <= b[1] && b[0] <= a[1]),
                before,
                after,
            }
        })
        .collect()
}

/// Inside only if the plan is authorised, one of its modifications covers every change, nothing that may never change did, and all
/// criteria of that modification are met in both packages on data that are not synthetic.
fn plan(old: &Value, new: &Value, changes: &BTreeMap<String, (Option<String>, Option<String>)>) -> Plan {
    let plan = &old["change_control"];
    let outside = |reasons: Vec<String>| Plan { inside: false, modification: None, reasons };
    if plan.is_null() {
        return outside(vec!["there is no change control plan".to_owned()]);
    }
    let mut reasons = Vec::new();
    if plan["authorised"].is_null() {
        reasons.push("no authority has agreed to the plan".to_owned());
    }
    if old["change_control"] != new["change_control"] {
        reasons.push("the plan itself was changed".to_owned());
    }
    let begins = |item: &str, prefixes: &[String]| prefixes.iter().any(|prefix| item.starts_with(prefix.as_str()));
    let derived = DERIVED.map(str::to_owned);
    let touched: Vec<&String> = changes.keys().filter(|item| !begins(item, &derived)).collect();
    let never: Vec<String> = plan["never"].as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
    for item in touched.iter().filter(|item| begins(item, &never)) {
        reasons.push(format!("{item} may never change under the plan"));
    }
    if touched.is_empty() {
        reasons.push("nothing was changed that the plan covers".to_owned());
        return outside(reasons);
    }
    let mut covering = None;
    for modification in list(&plan["modifications"]) {
        let may: Vec<String> = list(&modification["may_change"]).iter().map(text).collect();
        if touched.iter().all(|item| begins(item, &may)) {
            covering = Some(modification);
            break;
        }
    }
    let Some(modification) = covering else {
        reasons.push("no single modification of the plan covers every change".to_owned());
        return outside(reasons);
    };
    let met = |report: &Value, criterion: &str| {
        let judged = || list(&report["requirements"]).iter().flat_map(|r| list(&r["criteria"]));
        judged().any(|c| text(&c["criterion"]["id"]) == criterion && c["outcome"] == "criterion met")
    };
    for criterion in list(&modification["criteria"]).iter().map(text) {
        for (when, report) in [("before", old), ("after", new)] {
            if !met(report, &criterion) {
                reasons.push(format!("{criterion} is not met {when} the change on data that are not synthetic"));
            }
        }
    }
    let modification = Some(text(&modification["id"]));
    Plan { inside: reasons.is_empty(), modification, reasons }
}

/// In our own words, after FDA's guidance on software changes (2017) and MDCG 2020-3; the texts themselves decide.
const QUESTIONS: [(&str, &str, &[&str]); 11] = [
    (
        "FDA 510(k)",
        "Is the change made solely to strengthen cybersecurity, without any other effect?",
        &["component ", "threat ", "code "],
    ),
    (
        "FDA 510(k)",
        "Does it only bring the device back to the specification that was cleared last?",
        &["problem ", "code ", "requirement "],
    ),
    (
        "FDA 510(k)",
        "Does it bring or alter a cause of a hazardous situation that may lead to significant harm?",
        &["risk ", "matrix", "code ", "component ", "model "],
    ),
    ("FDA 510(k)", "Does it bring a new hazardous situation, or alter one?", &["risk ", "matrix", "intended use"]),
    (
        "FDA 510(k)",
        "Does it bring or need a new or altered risk control for such a situation?",
        &["risk ", "requirement ", "threat "],
    ),
    (
        "FDA 510(k)",
        "Could it significantly affect clinical function or performance that belongs to the intended use?",
        &["model ", "criterion ", "requirement ", "intended use", "test set", "protocol "],
    ),
    ("EU MDR", "Does the intended purpose change: patients, users, conditions of use?", &["intended use", "need "]),
    (
        "EU MDR",
        "Is an algorithm, the architecture, a data structure or the platform new or substantially altered?",
        &["model ", "code ", "component "],
    ),
    (
        "EU MDR",
        "Is there a new diagnostic feature, a new way of exchanging data, or less for the user to decide?",
        &["requirement ", "need "],
    ),
    ("EU MDR", "Are results shown in a new way, or is the user interface a new one?", &["requirement ", "code "]),
    (
        "EU MDR",
        "Does it only correct an error or close a weakness, without a new risk?",
        &["problem ", "threat ", "component ", "code "],
    ),
];

fn questions(changes: &BTreeMap<String, (Option<String>, Option<String>)>) -> Vec<Question> {
    let bears = |item: &&String, on: &[&str]| on.iter().any(|prefix| item.starts_with(prefix));
    QUESTIONS
        .into_iter()
        .map(|(basis, question, on)| {
            let facts = changes.keys().filter(|item| bears(item, on)).cloned().collect();
            Question { basis, question, facts }
        })
        .collect()
}

impl Diff {
    pub fn to_json(&self) -> Value {
        let changes = self
            .changes
            .iter()
            .map(|(item, (before, after))| json!({ "item": item, "before": before, "after": after }));
        json!({
            "ok": true,
            "changes": changes.collect::<Vec<_>>(),
            "suspect": self.suspect,
            "tests_to_repeat": self.tests_to_repeat,
            "performance": self.performance,
            "plan": self.plan,
            "questions": self.questions,
        })
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let say = |side: &Option<String>| {
            let text = side.clone().unwrap_or_else(|| "absent".to_owned());
            let is_hash = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            if is_hash { format!("{text:.12}…") } else { text }
        };
        for (item, (before, after)) in &self.changes {
            writeln!(f, "{item}: {} -> {}", say(before), say(after))?;
        }
        writeln!(f, "{} changes", self.changes.len())?;
        for (claim, links) in &self.suspect {
            writeln!(f, "suspect: {claim} ({})", links.iter().cloned().collect::<Vec<_>>().join("; "))?;
        }
        for test in &self.tests_to_repeat {
            writeln!(f, "repeat: {test}")?;
        }
        for p in &self.performance {
            let figure = |figure: &Option<Figure>| match figure {
                None => "absent".to_owned(),
                Some(Figure { value, ci, synthetic }) => {
                    let ci = ci.map(|[low, high]| format!(" ({low:.4} to {high:.4})")).unwrap_or_default();
                    format!("{value:.4}{ci}{}", if *synthetic { " SYNTHETIC" } else { "" })
                }
            };
            write!(f, "performance: {} {} -> {}", p.criterion, figure(&p.before), figure(&p.after))?;
            if let Some(difference) = p.difference {
                write!(f, ", difference {difference:+.4}")?;
            }
            writeln!(f, "{}", if p.intervals_overlap == Some(false) { ", intervals apart" } else { "" })?;
        }
        for Question { basis, question, facts } in &self.questions {
            let some = facts.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
            let more = if facts.len() > 4 { format!(" and {} more", facts.len() - 4) } else { String::new() };
            let facts = if some.is_empty() { "no changed item bears on it".to_owned() } else { some + &more };
            writeln!(f, "for a person to answer ({basis}): {question} [{facts}]")?;
        }
        match (&self.plan.modification, self.plan.inside) {
            (Some(id), true) => write!(f, "inside the change control plan: {id}"),
            _ => write!(f, "outside the change control plan: {}", self.plan.reasons.join("; ")),
        }
    }
}
