//! Software of unknown provenance: what is shipped, what only builds it, and whether people have said what it is for.
use crate::advisories::{self, Database, Hit};
use crate::failure::Failure;
use crate::finding::{Finding, Severity};
use crate::regulatory::{Bundled, Regulatory, Soup};
use crate::sbom::{self, Parts};
use crate::workspace::{self, Closure, Commit, Component, Package};
use lungai_trace::implements;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Debug, Clone, Serialize)]
pub struct SoupItem {
    pub name: String,
    pub version: String,
    /// `shipped` (linked into the program), `bundled` (foreign code that a shipped crate carries), `build` (runs while it is built) or
    /// `tool` (tests, training, statistics).
    pub role: &'static str,
    pub source: String,
    pub sha256: String,
    /// Empty for tools: only the shipped closure is resolved with its licences.
    pub licence: String,
    /// Crates of the shipped part that name it directly.
    pub used_by: Vec<String>,
    pub purpose: String,
    pub requires: String,
    pub needs: String,
    /// Where its makers keep it, as it says itself.
    pub supplier: String,
    /// How it is kept up, as a person found it; empty: not stated.
    pub support: String,
    /// Where its anomalies are published.
    pub anomalies_at: String,
    /// Features with which it is compiled.
    pub features: String,
    /// Known anomalies as a person evaluated them: `unknown`, `none known on ..` or how many.
    pub anomalies: String,
}

/// One of our own crates as cargo sees it.
#[derive(Debug, Clone, Serialize)]
pub struct ItemStatus {
    pub name: String,
    /// As declared; empty where it is not.
    pub is: String,
    /// Linked into the shipped program.
    pub shipped: bool,
    /// Our crates that it uses.
    pub uses: Vec<String>,
}

pub struct Bill {
    pub own: Vec<ItemStatus>,
    pub items: Vec<SoupItem>,
    /// Advisories that concern what is shipped.
    pub hits: Vec<Hit>,
    pub cyclonedx: Value,
    pub spdx: Value,
    pub vex: Value,
    pub findings: Vec<Finding>,
}

#[implements("RR-001")]
pub fn bill(
    root: &Path,
    packages: &[Package],
    closure: &Closure,
    regulatory: &Regulatory,
    database: Option<&Database>,
    commit: &Commit,
) -> Result<Bill, Failure> {
    let shipped = &regulatory.profile.shipped;
    let Some(program) = packages.iter().find(|package| package.name == *shipped) else {
        return Err(Failure::new(
            "profile",
            format!("profile.yaml: the shipped package `{shipped}` is not in the workspace"),
        ));
    };
    let lock = workspace::lock(root)?;
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let shipped_crates: Vec<&Package> = packages
        .iter()
        .filter(|p| closure.linked.keys().chain(closure.build.keys()).any(|c| c.name == p.name))
        .collect();
    let mut direct: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &shipped_crates {
        let shipped_kinds =
            package.dependencies.iter().filter(|d| d.path.is_none() && d.kind.as_deref() != Some("dev"));
        // An optional dependency that the default features leave out is not shipped.
        for dependency in
            shipped_kinds.filter(|d| closure.linked.keys().chain(closure.build.keys()).any(|c| c.name == d.name))
        {
            direct.entry(&dependency.name).or_default().insert(&package.name);
        }
    }
    let known: BTreeMap<&str, &Soup> = regulatory.soup.iter().map(|soup| (soup.name.as_str(), soup)).collect();
    let mut findings = Vec::new();
    for (name, users) in &direct {
        if !known.contains_key(name) {
            let users = users.iter().copied().collect::<Vec<_>>().join(", ");
            let message = format!("direct dependency of {users}: soup.yaml does not say what it is for");
            findings.push(Finding::new(Severity::Amber, "soup-missing", name, message));
        }
    }
    for name in known.keys().filter(|name| !direct.contains_key(*name)) {
        findings.push(Finding::new(
            Severity::Amber,
            "soup-surplus",
            name,
            "in soup.yaml, but no direct dependency of the shipped program".to_owned(),
        ));
    }
    let mut items = Vec::new();
    for (component, (source, sha256)) in lock.iter().filter(|(c, _)| !ours.contains(c.name.as_str())) {
        let (role, licence) = match (closure.linked.get(component), closure.build.get(component)) {
            (Some(licence), _) => ("shipped", licence.as_str()),
            (None, Some(licence)) => ("build", licence.as_str()),
            (None, None) => ("tool", ""),
        };
        if role == "shipped" && licence.is_empty() {
            findings.push(Finding::new(
                Severity::Amber,
                "licence-missing",
                &component.name,
                "states no licence".to_owned(),
            ));
        }
        let users: BTreeSet<&str> = direct.get(component.name.as_str()).into_iter().flatten().copied().collect();
        // Another version of the same name may come in further down the tree: only the one that our crates use is direct.
        let users: Vec<String> = closure
            .edges
            .iter()
            .filter(|(user, used)| used == component && users.contains(user.name.as_str()))
            .map(|(user, _)| user.name.clone())
            .collect();
        let supplier = closure.repositories.get(component).cloned().unwrap_or_default();
        let supplier = &supplier;
        let is_direct = role != "tool" && !users.is_empty();
        let entry = known.get(component.name.as_str()).filter(|_| is_direct);
        let text = |pick: fn(&Soup) -> &String| entry.map(|soup| pick(soup).clone()).unwrap_or_default();
        items.push(SoupItem {
            name: component.name.clone(),
            version: component.version.clone(),
            role,
            source: source.trim_start_matches("registry+").to_owned(),
            sha256: sha256.clone(),
            licence: licence.to_owned(),
            used_by: users,
            purpose: text(|soup| &soup.purpose),
            requires: text(|soup| &soup.requires),
            needs: text(|soup| &soup.needs),
            supplier: supplier.clone(),
            support: entry.and_then(|soup| soup.support.clone()).unwrap_or_default(),
            anomalies_at: if role == "tool" { String::new() } else { published_at(&component.name, supplier) },
            features: closure.features.get(component).cloned().unwrap_or_default(),
            anomalies: evaluated(entry.copied()),
        });
    }
    let (foreign, new) = bundled(closure, &regulatory.bundled);
    items.extend(foreign);
    findings.extend(new);
    let order = |role: &str| ["shipped", "bundled", "build", "tool"].iter().position(|r| *r == role);
    items.sort_by(|a, b| (order(a.role), &a.name, &a.version).cmp(&(order(b.role), &b.name, &b.version)));
    findings.extend(anomalies(&items, regulatory));
    let shipped: Vec<Component> = closure
        .linked
        .keys()
        .chain(closure.build.keys())
        .filter(|component| !ours.contains(component.name.as_str()))
        .cloned()
        .collect();
    let (hits, new) = advisories::check(database, shipped.iter(), regulatory, &commit.date);
    findings.extend(new);
    let root = Component { name: program.name.clone(), version: program.version.clone() };
    let parts = Parts { root: &root, closure, lock: &lock, ours: &ours };
    let own = |package: &Package| ItemStatus {
        name: package.name.clone(),
        is: regulatory.items.iter().find(|item| item.name == package.name).map(|i| i.is.clone()).unwrap_or_default(),
        shipped: closure.linked.keys().any(|component| component.name == package.name),
        uses: uses(package).into_iter().map(str::to_owned).collect(),
    };
    Ok(Bill {
        own: packages.iter().map(own).collect(),
        items,
        cyclonedx: sbom::cyclonedx(&parts, &regulatory.bundled),
        spdx: sbom::spdx(&parts, commit),
        vex: advisories::vex(database, &hits, &format!("pkg:cargo/{}@{}", root.name, root.version)),
        hits,
        findings,
    })
}

/// RustSec has a page for every crate that an advisory names; the makers' own list is where they keep the sources.
fn published_at(name: &str, supplier: &str) -> String {
    let rustsec = format!("https://rustsec.org/packages/{name}.html");
    match supplier.trim_end_matches('/').trim_end_matches(".git") {
        own if own.starts_with("https://github.com/") && own.split('/').count() == 5 => {
            format!("{own}/issues {rustsec}")
        }
        _ => rustsec,
    }
}

/// Foreign code in shipped crates, as `bundled.yaml` states it of the very version that is shipped.
fn bundled(closure: &Closure, entries: &[Bundled]) -> (Vec<SoupItem>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut amber =
        |rule, item: &str, message: String| findings.push(Finding::new(Severity::Amber, rule, item, message));
    let mut items = Vec::new();
    let shipped = |name: &str| closure.linked.keys().find(|component| component.name == name);
    for component in closure.linked.keys().filter(|c| c.name.ends_with("-sys")) {
        if !entries.iter().any(|entry| entry.carrier == component.name) {
            let message = "builds or binds code in another language; bundled.yaml does not say which".to_owned();
            amber("bundled-missing", &component.name, message);
        }
    }
    for entry in entries {
        let Some(component) = shipped(&entry.carrier) else {
            amber("bundled-surplus", &entry.carrier, "in bundled.yaml, but not shipped".to_owned());
            continue;
        };
        if component.version != entry.carrier_version {
            let message = format!("bundled.yaml is of {}, shipped is {}", entry.carrier_version, component.version);
            amber("bundled-stale", &entry.carrier, message);
        }
        let Some(name) = &entry.name else { continue };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        items.push(SoupItem {
            name: name.clone(),
            version: text(&entry.version),
            role: "bundled",
            source: format!("{} {}: {}", component.name, component.version, entry.found_in),
            sha256: String::new(),
            licence: text(&entry.licence),
            used_by: Vec::new(),
            purpose: String::new(),
            requires: String::new(),
            needs: String::new(),
            supplier: text(&entry.supplier),
            support: String::new(),
            anomalies_at: text(&entry.anomalies_at),
            features: String::new(),
            anomalies: "unknown".to_owned(),
        });
    }
    (items, findings)
}

fn evaluated(entry: Option<&Soup>) -> String {
    match entry.and_then(|soup| soup.anomalies.as_ref()) {
        None => "unknown".to_owned(),
        Some(a) if a.known.is_empty() => format!("none known on {} for {}", a.checked, a.version),
        Some(a) => format!("{} known on {} for {}", a.known.len(), a.checked, a.version),
    }
}

/// IEC 62304 7.1.3: each direct component's published anomalies must have been evaluated, for the version that is shipped.
fn anomalies(items: &[SoupItem], regulatory: &Regulatory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for item in items.iter().filter(|item| !item.used_by.is_empty()) {
        let Some(entry) = regulatory.soup.iter().find(|soup| soup.name == item.name) else { continue };
        match &entry.anomalies {
            None => {
                let message = "unknown: nobody has evaluated its published anomalies".to_owned();
                findings.push(Finding::new(Severity::Amber, "anomalies-unknown", &item.name, message));
            }
            Some(a) if a.version != item.version => {
                let message = format!("evaluated for {} on {}, shipped is {}", a.version, a.checked, item.version);
                findings.push(Finding::new(Severity::Amber, "anomalies-stale", &item.name, message));
            }
            Some(_) => (),
        }
    }
    findings
}

/// Our own crates that a crate uses, tests and build scripts aside.
fn uses(package: &Package) -> BTreeSet<&str> {
    package.dependencies.iter().filter(|d| d.path.is_some() && d.kind.is_none()).map(|d| d.name.as_str()).collect()
}

/// Declared items and edges of the architecture against those that cargo sees (IEC 62304 5.3.1).
pub fn check_items(packages: &[Package], regulatory: &Regulatory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |rule, item: &str, message: String| findings.push(Finding::new(Severity::Amber, rule, item, message));
    for package in packages {
        let Some(item) = regulatory.items.iter().find(|item| item.name == package.name) else {
            add("item-undeclared", &package.name, "a crate that items.yaml does not declare".to_owned());
            continue;
        };
        let edges = uses(package);
        for edge in
            edges.into_iter().filter(|edge| !item.may_use.iter().any(|allowed| allowed == edge || allowed == "*"))
        {
            add("edge-undeclared", &package.name, format!("uses {edge}, which items.yaml does not allow"));
        }
    }
    for item in regulatory.items.iter().filter(|item| !packages.iter().any(|package| package.name == item.name)) {
        add("item-gone", &item.name, "declared in items.yaml, but no crate".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    #[verifies("RR-001")]
    #[test]
    fn foreign_code_is_stated_of_the_very_version_of_the_crate_that_carries_it() {
        let component = |name: &str| Component { name: name.to_owned(), version: "2.0.0".to_owned() };
        let linked = ["a-sys", "b-sys", "pure"].map(|name| (component(name), String::new()));
        let closure = Closure { linked: linked.into(), ..Closure::default() };
        let entry = |version: &str| Bundled {
            carrier: "a-sys".to_owned(),
            carrier_version: version.to_owned(),
            name: Some("A".to_owned()),
            version: Some("7.1".to_owned()),
            licence: None,
            supplier: None,
            anomalies_at: None,
            found_in: "a.h".to_owned(),
        };
        let (items, findings) = bundled(&closure, &[entry("2.0.0")]);
        assert_eq!((items[0].name.as_str(), items[0].version.as_str(), items[0].role), ("A", "7.1", "bundled"));
        let found: Vec<_> = findings.iter().map(|f| (f.rule, f.item.as_str())).collect();
        assert_eq!(found, [("bundled-missing", "b-sys")]);
        let (_, findings) = bundled(&closure, &[entry("1.9.0")]);
        assert!(findings.iter().any(|f| f.rule == "bundled-stale" && f.item == "a-sys"), "{findings:?}");
    }

    #[verifies("RR-001")]
    #[test]
    fn anomalies_are_published_where_the_makers_and_rustsec_say() {
        let rustsec = "https://rustsec.org/packages/a.html";
        let at = |supplier| published_at("a", supplier);
        assert_eq!(at("https://github.com/x/a.git"), format!("https://github.com/x/a/issues {rustsec}"));
        assert_eq!(at("https://github.com/x/a/tree/main/b"), rustsec, "no list of its own is known");
        assert_eq!(at(""), rustsec);
    }
}
