//! Bills of materials of the shipped program: CycloneDX 1.6 and SPDX 2.3, of the linked closure and what builds it.
use crate::regulatory::Bundled;
use crate::workspace::{Closure, Commit, Component};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What both forms are made of.
pub struct Parts<'a> {
    pub root: &'a Component,
    pub closure: &'a Closure,
    /// Source and SHA-256 by component.
    pub lock: &'a BTreeMap<Component, (String, String)>,
    /// Names of our own crates.
    pub ours: &'a BTreeSet<&'a str>,
}

fn purl(c: &Component) -> String {
    format!("pkg:cargo/{}@{}", c.name, c.version)
}

/// CycloneDX 1.6 of the shipped program: linked components as `required`, those that only build it as `excluded`.
pub fn cyclonedx(parts: &Parts, bundled: &[Bundled]) -> Value {
    let Parts { root, closure, lock, ours } = *parts;
    let component = |c: &Component, licence: &str, scope: &str| {
        let mut value = json!({ "type": "library", "bom-ref": purl(c), "name": c.name, "version": c.version, "scope": scope, "purl": purl(c) });
        if let Some((_, sha256)) = lock.get(c).filter(|(_, sha256)| !sha256.is_empty()) {
            value["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        }
        if !licence.is_empty() {
            value["licenses"] = json!([{ "expression": licence }]);
        }
        let mut properties = Vec::new();
        if ours.contains(c.name.as_str()) {
            properties.push(json!({ "name": "lungai:own", "value": "true" }));
        }
        if let Some(features) = closure.features.get(c).filter(|features| !features.is_empty()) {
            properties.push(json!({ "name": "cargo:features", "value": features }));
        }
        if !properties.is_empty() {
            value["properties"] = json!(properties);
        }
        value
    };
    let linked =
        closure.linked.iter().filter(|(c, _)| *c != root).map(|(c, licence)| component(c, licence, "required"));
    let build = closure.build.iter().map(|(c, licence)| component(c, licence, "excluded"));
    let carried = bundled.iter().filter_map(|entry| {
        let carrier = closure.linked.keys().find(|c| c.name == entry.carrier)?;
        let (name, version) = (entry.name.as_ref()?, entry.version.as_ref()?);
        let mut value = json!({ "type": "library", "bom-ref": format!("{}#{name}", purl(carrier)), "name": name, "version": version, "scope": "required" });
        if let Some(supplier) = &entry.supplier {
            value["supplier"] = json!({ "name": name, "url": [supplier] });
        }
        value["properties"] = json!([{ "name": "lungai:carried-by", "value": purl(carrier) }]);
        Some(value)
    });
    let components: Vec<Value> = linked.chain(build).chain(carried).collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for c in closure.linked.keys().chain(closure.build.keys()) {
        uses.entry(purl(c)).or_default();
    }
    for (user, used) in &closure.edges {
        uses.entry(purl(user)).or_default().insert(purl(used));
    }
    let dependencies: Vec<Value> =
        uses.into_iter().map(|(user, used)| json!({ "ref": user, "dependsOn": used })).collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": { "type": "application", "bom-ref": purl(root), "name": root.name, "version": root.version } },
        "components": components,
        "dependencies": dependencies,
    })
}

/// SPDX 2.3. The time of creation is the commit's, so that equal commits give equal bytes.
pub fn spdx(parts: &Parts, commit: &Commit) -> Value {
    let Parts { root, closure, lock, ours } = *parts;
    let id = |c: &Component| {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        format!("SPDXRef-{}", format!("{}-{}", c.name, c.version).chars().map(plain).collect::<String>())
    };
    let all: BTreeMap<&Component, &String> = closure.linked.iter().chain(&closure.build).collect();
    let packages: Vec<Value> = all
        .iter()
        .map(|(c, licence)| {
            let known = lock.get(*c);
            let licence = if licence.is_empty() { "NOASSERTION" } else { licence };
            let own = ours.contains(c.name.as_str());
            let download = if own {
                "NOASSERTION".to_owned()
            } else {
                format!("https://crates.io/api/v1/crates/{}/{}/download", c.name, c.version)
            };
            let mut value = json!({
                "SPDXID": id(c),
                "name": c.name,
                "versionInfo": c.version,
                "downloadLocation": download,
                "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": licence,
                "copyrightText": "NOASSERTION",
                "externalRefs": [{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl(c) }],
            });
            if let Some((_, sha256)) = known.filter(|(_, sha256)| !sha256.is_empty()) {
                value["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
            }
            value
        })
        .collect();
    let mut relationships = vec![
        json!({ "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": id(root) }),
    ];
    for (user, used) in &closure.edges {
        let (from, to, kind) = if closure.linked.contains_key(used) {
            (id(user), id(used), "DEPENDS_ON")
        } else {
            (id(used), id(user), "BUILD_DEPENDENCY_OF")
        };
        relationships.push(json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to }));
    }
    let commit_id = if commit.id.is_empty() { "uncommitted" } else { &commit.id };
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}-{}", root.name, root.version),
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}-{commit_id}", root.name, root.version),
        "creationInfo": {
            "created": if commit.utc.is_empty() { "1970-01-01T00:00:00Z" } else { &commit.utc },
            "creators": [format!("Tool: lungai-evidence-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
    })
}
