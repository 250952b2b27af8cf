//! Published vulnerabilities of what is shipped: an advisory database in RustSec's form, if one is supplied, and people's verdicts on it.
//!
//! Nothing is fetched. Without a database the answer is *unknown*, never *none*; with one its date and digest are printed.
use crate::failure::{Failure, fail};
use crate::finding::{Finding, Severity};
use crate::regulatory::{Regulatory, Triage, TriageState, sha256};
use crate::workspace::Component;
use lungai_trace::implements;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// After this many days a database says too little about what is shipped today; the maintenance plan asks for three months.
const STALE_AFTER_DAYS: i64 = 92;

#[derive(Debug, Clone, Serialize)]
pub struct Database {
    /// Date of the newest advisory.
    pub newest: String,
    pub advisories: usize,
    /// Over the names and digests of all its files.
    pub sha256: String,
    #[serde(skip)]
    all: Vec<Advisory>,
}

#[derive(Debug, Clone)]
struct Advisory {
    id: String,
    package: String,
    title: String,
    informational: Option<String>,
    aliases: Vec<String>,
    patched: Vec<VersionReq>,
    unaffected: Vec<VersionReq>,
}

#[derive(Deserialize)]
struct Front {
    advisory: FrontAdvisory,
    versions: FrontVersions,
}

#[derive(Deserialize)]
struct FrontAdvisory {
    id: String,
    package: String,
    date: String,
    #[serde(default)]
    informational: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    withdrawn: Option<String>,
}

#[derive(Deserialize)]
struct FrontVersions {
    patched: Vec<String>,
    #[serde(default)]
    unaffected: Vec<String>,
}

/// An advisory that concerns a component, with a person's verdict where there is one.
#[derive(Debug, Clone, Serialize)]
pub struct Hit {
    pub advisory: String,
    pub component: String,
    pub version: String,
    pub title: String,
    pub aliases: Vec<String>,
    /// `unmaintained`, `unsound` or such; none for a vulnerability.
    pub informational: Option<String>,
    pub triage: Option<Triage>,
}

impl Database {
    /// All `RUSTSEC-*.md` below the folder.
    pub fn load(folder: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| Failure::new("unreadable", format!("advisory database: {error}"));
        let mut files: Vec<PathBuf> = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(place) = open.pop() {
            for entry in std::fs::read_dir(&place).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type().map_err(unreadable)?.is_dir() {
                    open.push(entry.path());
                } else if name.starts_with("RUSTSEC-") && name.ends_with(".md") {
                    files.push(entry.path());
                }
            }
        }
        let mut all = Vec::new();
        let mut digests = Vec::new();
        let mut newest = String::new();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Failure::new("unreadable", format!("advisory {name}: {error}")))?;
            digests.push(format!("{}  {name}\n", sha256(text.as_bytes())));
            let (date, advisory) = parse(&name, &text)?;
            newest = newest.max(date);
            all.extend(advisory);
        }
        if digests.is_empty() {
            return fail("advisories", "advisory database: the folder holds no RUSTSEC-*.md".to_owned());
        }
        digests.sort_by_key(|line| line[64..].to_owned());
        Ok(Self { newest, advisories: digests.len(), sha256: sha256(digests.concat().as_bytes()), all })
    }
}

/// Date and advisory; none where it was withdrawn.
#[implements("RR-001")]
fn parse(name: &str, text: &str) -> Result<(String, Option<Advisory>), Failure> {
    let wrong = |what: String| Failure::new("advisories", format!("advisory {name}: {what}"));
    let (front, rest) = text
        .strip_prefix("```toml\n")
        .and_then(|text| text.split_once("\n```"))
        .ok_or_else(|| wrong("does not begin with a block of TOML".to_owned()))?;
    let front: Front = toml::from_str(front).map_err(|error| wrong(error.message().to_owned()))?;
    let reqs = |texts: &[String]| {
        texts
            .iter()
            .map(|text| VersionReq::parse(text).map_err(|error| wrong(format!("`{text}`: {error}"))))
            .collect::<Result<Vec<_>, _>>()
    };
    let Front { advisory, versions } = front;
    let title = rest.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default().trim().to_owned();
    let patched = reqs(&versions.patched)?;
    let unaffected = reqs(&versions.unaffected)?;
    let FrontAdvisory { id, package, date, informational, aliases, withdrawn } = advisory;
    let kept =
        withdrawn.is_none().then_some(Advisory { id, package, title, informational, aliases, patched, unaffected });
    Ok((date, kept))
}

impl Advisory {
    fn concerns(&self, component: &Component) -> bool {
        let Ok(version) = Version::parse(&component.version) else { return self.package == component.name };
        let covered = |reqs: &[VersionReq]| reqs.iter().any(|req| req.matches(&version));
        self.package == component.name && !covered(&self.patched) && !covered(&self.unaffected)
    }
}

/// Advisories against the components, verdicts against the advisories.
#[implements("RR-001")]
pub fn check<'a>(
    database: Option<&Database>,
    components: impl Iterator<Item = &'a Component>,
    regulatory: &Regulatory,
    commit_date: &str,
) -> (Vec<Hit>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut add =
        |severity, rule, item: &str, message: String| findings.push(Finding::new(severity, rule, item, message));
    let Some(database) = database else {
        let message = "unknown: no advisory database was given (--advisories)".to_owned();
        add(Severity::Amber, "advisories-unknown", "advisories", message);
        return (Vec::new(), findings);
    };
    if let (Some(then), Some(now)) = (days(&database.newest), days(commit_date))
        && now - then > STALE_AFTER_DAYS
    {
        let message = format!("the database ends on {}, {} days before the commit", database.newest, now - then);
        add(Severity::Red, "advisories-stale", "advisories", message);
    }
    let mut hits = Vec::new();
    for component in components {
        for advisory in database.all.iter().filter(|advisory| advisory.concerns(component)) {
            let verdict = |t: &&Triage| t.advisory == advisory.id && t.component == component.name;
            let triage = regulatory.vex.iter().find(verdict).cloned();
            let item = format!("{} {}", component.name, component.version);
            let settled =
                matches!(triage.as_ref().map(|t| t.state), Some(TriageState::NotAffected | TriageState::Resolved));
            if !settled {
                let severity = if advisory.informational.is_some() { Severity::Amber } else { Severity::Red };
                add(severity, "advisory-open", &item, format!("{}: {}", advisory.id, advisory.title));
            }
            hits.push(Hit {
                advisory: advisory.id.clone(),
                component: component.name.clone(),
                version: component.version.clone(),
                title: advisory.title.clone(),
                aliases: advisory.aliases.clone(),
                informational: advisory.informational.clone(),
                triage,
            });
        }
    }
    let used = |t: &Triage| hits.iter().any(|hit| hit.advisory == t.advisory && hit.component == t.component);
    for triage in regulatory.vex.iter().filter(|triage| !used(triage)) {
        let message = format!("vex.yaml speaks of {}, which does not concern what is shipped", triage.advisory);
        add(Severity::Amber, "vex-idle", &triage.component, message);
    }
    hits.sort_by(|a, b| (&a.component, &a.version, &a.advisory).cmp(&(&b.component, &b.version, &b.advisory)));
    (hits, findings)
}

/// Days of the calendar since 1970-01-01 of a text that begins with a date, after Howard Hinnant's `days_from_civil`.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.get(..10)?.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

/// CycloneDX 1.6 VEX beside the bill of materials of that serial. Without a database it says so instead of being empty.
pub fn vex(database: Option<&Database>, hits: &[Hit], product: &str) -> Value {
    let mut by_advisory: BTreeMap<&str, Vec<&Hit>> = BTreeMap::new();
    for hit in hits {
        by_advisory.entry(&hit.advisory).or_default().push(hit);
    }
    let vulnerabilities: Vec<Value> = by_advisory
        .into_iter()
        .flat_map(|(id, hits)| hits.into_iter().map(move |hit| (id, hit)))
        .map(|(id, hit)| {
            let analysis = match &hit.triage {
                None => json!({ "state": "in_triage", "detail": "manual - record required: nobody has evaluated it" }),
                Some(t) => {
                    let mut value = json!({ "state": t.state, "detail": format!("{} ({}, {})", t.detail, t.by, t.date) });
                    if let Some(justification) = t.justification {
                        value["justification"] = json!(justification);
                    }
                    value
                }
            };
            json!({
                "id": id,
                "source": { "name": "RustSec", "url": format!("https://rustsec.org/advisories/{id}.html") },
                "references": hit.aliases.iter().map(|alias| json!({ "id": alias, "source": { "name": alias.split('-').next() } })).collect::<Vec<_>>(),
                "description": hit.title,
                "affects": [{ "ref": format!("pkg:cargo/{}@{}", hit.component, hit.version) }],
                "analysis": analysis,
            })
        })
        .collect();
    let state = database.map_or_else(
        || "unknown: no advisory database was given".to_owned(),
        |d| format!("{} advisories up to {}, SHA-256 {}", d.advisories, d.newest, d.sha256),
    );
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": { "type": "application", "bom-ref": product, "name": product },
            "properties": [{ "name": "lungai:advisories", "value": state }],
        },
        "vulnerabilities": vulnerabilities,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    const TEXT: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2021-0001\"\npackage = \"demo\"\ndate = \"2021-01-05\"\naliases = [\"CVE-2021-1\"]\n[versions]\npatched = [\">= 1.2.3\"]\nunaffected = [\"< 1.0\"]\n```\n\n# It breaks\n\nText.\n";

    #[verifies("RR-001")]
    #[test]
    fn versions_between_unaffected_and_patched_are_concerned() {
        let (date, advisory) = parse("a", TEXT).unwrap();
        let advisory = advisory.unwrap();
        let concerns = |version: &str| advisory.concerns(&Component { name: "demo".into(), version: version.into() });
        assert_eq!((date.as_str(), advisory.title.as_str()), ("2021-01-05", "It breaks"));
        assert!(
            concerns("1.0.0") && concerns("1.2.2") && !concerns("0.9.9") && !concerns("1.2.3") && !concerns("2.0.0")
        );
        assert!(!advisory.concerns(&Component { name: "other".into(), version: "1.0.0".into() }));
    }

    #[verifies("RR-001")]
    #[test]
    fn a_withdrawn_advisory_is_none_and_a_malformed_one_is_an_error() {
        let withdrawn = TEXT.replace("aliases", "withdrawn = \"2021-02-01\"\naliases");
        assert!(parse("a", &withdrawn).unwrap().1.is_none());
        assert!(parse("a", &TEXT[8..]).is_err());
        assert!(parse("a", &TEXT.replace(">= 1.2.3", "newer")).is_err());
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        // By `date -u -d 2024-02-29 +%s` over 86,400.
        assert_eq!(days("2024-02-29"), Some(19_782));
        assert_eq!(days("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(days(""), None);
    }
}
