//! What changed between two packages: states, criteria, risks, components. Both are verified first.
use crate::failure::Failure;
use crate::package;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

pub struct Diff {
    /// Item -> before and after; one side is absent where the item is new or gone.
    changes: BTreeMap<String, (Option<String>, Option<String>)>,
}

pub fn diff(old: &Path, new: &Path) -> Result<Diff, Failure> {
    let (old, new) = (facts(old)?, facts(new)?);
    let items: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = items.into_iter().filter(|item| old.get(*item) != new.get(*item));
    Ok(Diff { changes: changes.map(|item| (item.clone(), (old.get(item).cloned(), new.get(item).cloned()))).collect() })
}

/// The comparable facts of a package, each as one line.
fn facts(folder: &Path) -> Result<BTreeMap<String, String>, Failure> {
    package::verify(folder, None, &BTreeMap::new())?;
    let wrong = |error: String| Failure::integrity("evidence-malformed", format!("core/evidence.json: {error}"));
    let text = std::fs::read(folder.join("core/evidence.json")).map_err(|e| wrong(e.to_string()))?;
    let report: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut facts = BTreeMap::from([("commit".to_owned(), text(&report["commit"]["id"]))]);
    for r in list(&report["requirements"]) {
        let id = text(&r["requirement"]["id"]);
        facts.insert(format!("requirement {id}: text"), text(&r["requirement"]["sha256"]));
        facts.insert(format!("requirement {id}: state"), text(&r["state"]));
        for c in list(&r["criteria"]) {
            let value =
                format!("{} (value {}, interval {})", text(&c["outcome"]), c["result"]["value"], c["result"]["ci"]);
            facts.insert(format!("criterion {}", text(&c["criterion"]["id"])), value);
        }
    }
    for r in list(&report["risks"]) {
        let id = text(&r["risk"]["id"]);
        facts.insert(format!("risk {id}: text"), text(&r["risk"]["sha256"]));
        facts.insert(format!("risk {id}: residual as evidenced"), text(&r["residual_as_evidenced"]["level"]));
    }
    for t in list(&report["tests"]) {
        facts.insert(
            format!("test {} {}::{}", text(&t["binary"]), text(&t["module"]), text(&t["name"])),
            text(&t["verdict"]),
        );
    }
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for s in list(&report["soup"]).iter().filter(|s| s["role"] == "shipped") {
        versions.entry(text(&s["name"])).or_default().insert(text(&s["version"]));
    }
    facts.extend(
        versions
            .into_iter()
            .map(|(name, v)| (format!("component {name}"), v.into_iter().collect::<Vec<_>>().join(", "))),
    );
    for m in list(&report["models"]) {
        facts.insert(format!("model {} {}", text(&m["name"]), text(&m["version"])), m["files"].to_string());
    }
    Ok(facts)
}

impl Diff {
    pub fn to_json(&self) -> Value {
        let changes = self
            .changes
            .iter()
            .map(|(item, (before, after))| json!({ "item": item, "before": before, "after": after }));
        json!({ "ok": true, "changes": changes.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let say = |side: &Option<String>| side.clone().unwrap_or_else(|| "absent".to_owned());
        for (item, (before, after)) in &self.changes {
            writeln!(f, "{item}: {} -> {}", say(before), say(after))?;
        }
        write!(f, "{} changes", self.changes.len())
    }
}
