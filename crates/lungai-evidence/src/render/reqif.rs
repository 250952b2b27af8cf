//! ReqIF 1.2: needs, requirements, risks, threats and tests with the links between them, for other requirement tools.
use super::html::Esc;
use crate::build::Report;
use crate::regulatory::{Regulatory, Text};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = write!($out, $($text)*); };
}

/// Attributes of every object, all plain text.
const ATTRIBUTES: [&str; 6] = ["ReqIF.ForeignID", "ReqIF.Name", "ReqIF.Text", "Text (zh)", "State", "Hash"];
const TYPES: [&str; 5] = ["need", "requirement", "risk", "threat", "test"];

struct Object {
    kind: &'static str,
    /// In the order of [`ATTRIBUTES`].
    values: [String; 6],
    parent: Option<String>,
}

pub fn reqif(report: &Report, regulatory: &Regulatory) -> String {
    let objects = objects(report, regulatory);
    let utc = if report.commit.utc.is_empty() { "1970-01-01T00:00:00Z" } else { &report.commit.utc };
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<REQ-IF xmlns=\"http://www.omg.org/spec/ReqIF/20110401/reqif.xsd\">\n<THE-HEADER><REQ-IF-HEADER IDENTIFIER=\"header\">",
    );
    put!(
        out,
        "<COMMENT>commit {}</COMMENT><CREATION-TIME>{utc}</CREATION-TIME><REQ-IF-TOOL-ID>lungai-evidence</REQ-IF-TOOL-ID><REQ-IF-VERSION>1.2</REQ-IF-VERSION>\
         <SOURCE-TOOL-ID>lungai-evidence {}</SOURCE-TOOL-ID><TITLE>{} {}</TITLE></REQ-IF-HEADER></THE-HEADER>\n<CORE-CONTENT><REQ-IF-CONTENT>\n<DATATYPES>",
        Esc(&report.commit.id),
        env!("CARGO_PKG_VERSION"),
        Esc(&report.product),
        Esc(&report.version)
    );
    put!(
        out,
        "<DATATYPE-DEFINITION-STRING IDENTIFIER=\"string\" LONG-NAME=\"string\" MAX-LENGTH=\"32000\" LAST-CHANGE=\"{utc}\"/></DATATYPES>\n<SPEC-TYPES>\n"
    );
    for kind in TYPES {
        put!(
            out,
            "<SPEC-OBJECT-TYPE IDENTIFIER=\"type-{kind}\" LONG-NAME=\"{kind}\" LAST-CHANGE=\"{utc}\"><SPEC-ATTRIBUTES>"
        );
        for (i, name) in ATTRIBUTES.iter().enumerate() {
            put!(
                out,
                "<ATTRIBUTE-DEFINITION-STRING IDENTIFIER=\"{kind}-{i}\" LONG-NAME=\"{name}\" LAST-CHANGE=\"{utc}\"><TYPE><DATATYPE-DEFINITION-STRING-REF>string</DATATYPE-DEFINITION-STRING-REF></TYPE></ATTRIBUTE-DEFINITION-STRING>"
            );
        }
        put!(out, "</SPEC-ATTRIBUTES></SPEC-OBJECT-TYPE>\n");
    }
    let known: BTreeSet<&str> = objects.iter().map(|o| o.values[0].as_str()).collect();
    let links: Vec<_> = report
        .links
        .iter()
        .filter(|link| known.contains(link.key.from.as_str()) && known.contains(link.key.to.as_str()))
        .collect();
    let kinds: BTreeSet<&str> = links.iter().map(|link| link.key.kind.as_str()).collect();
    for kind in &kinds {
        put!(out, "<SPEC-RELATION-TYPE IDENTIFIER=\"link-{kind}\" LONG-NAME=\"{kind}\" LAST-CHANGE=\"{utc}\"/>\n");
    }
    put!(
        out,
        "<SPECIFICATION-TYPE IDENTIFIER=\"type-specification\" LONG-NAME=\"specification\" LAST-CHANGE=\"{utc}\"/>\n</SPEC-TYPES>\n<SPEC-OBJECTS>\n"
    );
    let place: BTreeMap<&str, usize> = objects.iter().enumerate().map(|(i, o)| (o.values[0].as_str(), i)).collect();
    for (n, object) in objects.iter().enumerate() {
        put!(
            out,
            "<SPEC-OBJECT IDENTIFIER=\"object-{n}\" LAST-CHANGE=\"{utc}\"><TYPE><SPEC-OBJECT-TYPE-REF>type-{0}</SPEC-OBJECT-TYPE-REF></TYPE><VALUES>",
            object.kind
        );
        for (i, value) in object.values.iter().enumerate() {
            put!(
                out,
                "<ATTRIBUTE-VALUE-STRING THE-VALUE=\"{}\"><DEFINITION><ATTRIBUTE-DEFINITION-STRING-REF>{}-{i}</ATTRIBUTE-DEFINITION-STRING-REF></DEFINITION></ATTRIBUTE-VALUE-STRING>",
                Esc(value),
                object.kind
            );
        }
        put!(out, "</VALUES></SPEC-OBJECT>\n");
    }
    put!(out, "</SPEC-OBJECTS>\n<SPEC-RELATIONS>\n");
    for (n, link) in links.iter().enumerate() {
        put!(
            out,
            "<SPEC-RELATION IDENTIFIER=\"relation-{n}\" LAST-CHANGE=\"{utc}\"><TYPE><SPEC-RELATION-TYPE-REF>link-{}</SPEC-RELATION-TYPE-REF></TYPE>\
             <SOURCE><SPEC-OBJECT-REF>object-{}</SPEC-OBJECT-REF></SOURCE><TARGET><SPEC-OBJECT-REF>object-{}</SPEC-OBJECT-REF></TARGET></SPEC-RELATION>\n",
            link.key.kind,
            place[link.key.from.as_str()],
            place[link.key.to.as_str()]
        );
    }
    let mut below: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (n, object) in objects.iter().enumerate() {
        if let Some(parent) = &object.parent {
            below.entry(parent).or_default().push(n);
        }
    }
    put!(out, "</SPEC-RELATIONS>\n<SPECIFICATIONS>\n");
    for kind in TYPES {
        put!(
            out,
            "<SPECIFICATION IDENTIFIER=\"specification-{kind}\" LONG-NAME=\"{kind}s\" LAST-CHANGE=\"{utc}\"><TYPE><SPECIFICATION-TYPE-REF>type-specification</SPECIFICATION-TYPE-REF></TYPE><CHILDREN>"
        );
        for (n, _) in objects.iter().enumerate().filter(|(_, o)| o.kind == kind && o.parent.is_none()) {
            hierarchy(&mut out, &objects, &below, n, utc);
        }
        put!(out, "</CHILDREN></SPECIFICATION>\n");
    }
    put!(out, "</SPECIFICATIONS>\n</REQ-IF-CONTENT></CORE-CONTENT>\n</REQ-IF>\n");
    out
}

fn hierarchy(out: &mut String, objects: &[Object], below: &BTreeMap<&str, Vec<usize>>, n: usize, utc: &str) {
    put!(
        out,
        "<SPEC-HIERARCHY IDENTIFIER=\"hierarchy-{n}\" LAST-CHANGE=\"{utc}\"><OBJECT><SPEC-OBJECT-REF>object-{n}</SPEC-OBJECT-REF></OBJECT>"
    );
    if let Some(children) = below.get(objects[n].values[0].as_str()) {
        put!(out, "<CHILDREN>");
        for child in children {
            hierarchy(out, objects, below, *child, utc);
        }
        put!(out, "</CHILDREN>");
    }
    put!(out, "</SPEC-HIERARCHY>");
}

fn objects(report: &Report, regulatory: &Regulatory) -> Vec<Object> {
    let one = |kind, id: &str, name: &Text, text: &Text, state: &str, hash: &str, parent: Option<String>| Object {
        kind,
        values: [id, &name.en, &text.en, &text.zh, state, hash].map(str::to_owned),
        parent,
    };
    let needs = regulatory.needs.iter().map(|(id, n)| one("need", id, &n.title, &n.statement, "", "", None));
    let requirements = report.requirements.iter().map(|status| {
        let r = &status.requirement;
        let parent = r.parents.iter().find(|parent| regulatory.requirements.contains_key(*parent)).cloned();
        one("requirement", &r.id, &r.title, &r.statement, status.state.words(), &status.normative_sha256, parent)
    });
    let risks = report.risks.iter().map(|status| {
        let r = &status.risk;
        let level = format!("residual {:?}", status.residual_as_evidenced.level).to_lowercase();
        one("risk", &r.id, &r.title, &r.hazard, &level, &r.sha256, None)
    });
    let threats = regulatory.threats.iter().map(|(id, t)| one("threat", id, &t.title, &t.attack, "", "", None));
    let mut tests: BTreeMap<String, Object> = BTreeMap::new();
    for test in &report.tests {
        let place = format!("{}:{}", test.tag.file, test.tag.line);
        let values = [
            test.title(),
            test.tag.name.clone(),
            place,
            String::new(),
            super::html::verdict(test).to_owned(),
            test.tag.sha256.clone(),
        ];
        tests.insert(test.title(), Object { kind: "test", values, parent: None });
    }
    needs.chain(requirements).chain(risks).chain(threats).chain(tests.into_values()).collect()
}
