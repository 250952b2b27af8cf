//! ReqIF 1.2: needs, requirements with their criteria, risks with their controls, threats and tests, and the links between them, for other
//! requirement tools. Every identifier follows from the ids of what it names, so that a tool that has read one package knows the
//! same things again in the next.
use super::html::Esc;
use crate::build::Report;
use crate::regulatory::{Language, Regulatory, Text, sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = write!($out, $($text)*); };
}

/// Attributes of every object, all plain text.
const ATTRIBUTES: [&str; 6] = ["ReqIF.ForeignID", "ReqIF.Name", "ReqIF.Text", "Text (zh)", "State", "Hash"];
const TYPES: [&str; 7] = ["need", "requirement", "criterion", "risk", "control", "threat", "test"];
/// Those that stand within others have no specification of their own.
const WITHIN: [&str; 2] = ["criterion", "control"];

struct Object {
    kind: &'static str,
    /// In the order of [`ATTRIBUTES`].
    values: [String; 6],
    parent: Option<String>,
}

impl Object {
    /// An XML name: ids of ours are such already, titles of tests are not.
    fn identifier(&self) -> String {
        let id = &self.values[0];
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if plain { format!("{}-{id}", self.kind) } else { format!("{}-{:.32}", self.kind, sha256(id.as_bytes())) }
    }
}

pub fn reqif(report: &Report, regulatory: &Regulatory) -> String {
    let objects = objects(report, regulatory);
    let utc = if report.commit.utc.is_empty() { "1970-01-01T00:00:00Z" } else { &report.commit.utc };
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<REQ-IF xmlns=\"http://www.omg.org/spec/ReqIF/20110401/reqif.xsd\">\n<THE-HEADER><REQ-IF-HEADER IDENTIFIER=\"header\">",
    );
    put!(
        out,
        "<COMMENT>commit {}</COMMENT><CREATION-TIME>{utc}</CREATION-TIME><REQ-IF-TOOL-ID>lungai-evidence</REQ-IF-TOOL-ID><REQ-IF-VERSION>1.0</REQ-IF-VERSION>\
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
    // A criterion decides its requirement by standing in it: no link that is reviewed for itself.
    let kinds: BTreeSet<&str> = links.iter().map(|link| link.key.kind.as_str()).chain(["decides"]).collect();
    for kind in &kinds {
        put!(out, "<SPEC-RELATION-TYPE IDENTIFIER=\"link-{kind}\" LONG-NAME=\"{kind}\" LAST-CHANGE=\"{utc}\"/>\n");
    }
    put!(
        out,
        "<SPECIFICATION-TYPE IDENTIFIER=\"type-specification\" LONG-NAME=\"specification\" LAST-CHANGE=\"{utc}\"/>\n</SPEC-TYPES>\n<SPEC-OBJECTS>\n"
    );
    let place: BTreeMap<&str, String> = objects.iter().map(|o| (o.values[0].as_str(), o.identifier())).collect();
    for object in &objects {
        let identifier = object.identifier();
        put!(
            out,
            "<SPEC-OBJECT IDENTIFIER=\"{identifier}\" LAST-CHANGE=\"{utc}\"><TYPE><SPEC-OBJECT-TYPE-REF>type-{0}</SPEC-OBJECT-TYPE-REF></TYPE><VALUES>",
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
    for link in &links {
        let key = sha256(format!("{}\n{}\n{}", link.key.kind, link.key.from, link.key.to).as_bytes());
        put!(
            out,
            "<SPEC-RELATION IDENTIFIER=\"relation-{key:.32}\" LAST-CHANGE=\"{utc}\"><TYPE><SPEC-RELATION-TYPE-REF>link-{}</SPEC-RELATION-TYPE-REF></TYPE>\
             <SOURCE><SPEC-OBJECT-REF>{}</SPEC-OBJECT-REF></SOURCE><TARGET><SPEC-OBJECT-REF>{}</SPEC-OBJECT-REF></TARGET></SPEC-RELATION>\n",
            link.key.kind,
            place[link.key.from.as_str()],
            place[link.key.to.as_str()]
        );
    }
    for object in objects.iter().filter(|o| o.kind == "criterion") {
        let (identifier, parent) = (object.identifier(), object.parent.as_deref().and_then(|id| place.get(id)));
        let Some(parent) = parent else { continue };
        put!(
            out,
            "<SPEC-RELATION IDENTIFIER=\"relation-{identifier}\" LAST-CHANGE=\"{utc}\"><TYPE><SPEC-RELATION-TYPE-REF>link-decides</SPEC-RELATION-TYPE-REF></TYPE>\
             <SOURCE><SPEC-OBJECT-REF>{identifier}</SPEC-OBJECT-REF></SOURCE><TARGET><SPEC-OBJECT-REF>{parent}</SPEC-OBJECT-REF></TARGET></SPEC-RELATION>\n"
        );
    }
    let mut below: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
    for object in &objects {
        if let Some(parent) = &object.parent {
            below.entry(parent).or_default().push(object);
        }
    }
    put!(out, "</SPEC-RELATIONS>\n<SPECIFICATIONS>\n");
    for kind in TYPES.into_iter().filter(|kind| !WITHIN.contains(kind)) {
        put!(
            out,
            "<SPECIFICATION IDENTIFIER=\"specification-{kind}\" LONG-NAME=\"{kind}s\" LAST-CHANGE=\"{utc}\"><TYPE><SPECIFICATION-TYPE-REF>type-specification</SPECIFICATION-TYPE-REF></TYPE><CHILDREN>"
        );
        for object in objects.iter().filter(|o| o.kind == kind && o.parent.is_none()) {
            hierarchy(&mut out, &below, object, utc);
        }
        put!(out, "</CHILDREN></SPECIFICATION>\n");
    }
    put!(out, "</SPECIFICATIONS>\n</REQ-IF-CONTENT></CORE-CONTENT>\n</REQ-IF>\n");
    out
}

fn hierarchy(out: &mut String, below: &BTreeMap<&str, Vec<&Object>>, object: &Object, utc: &str) {
    let identifier = object.identifier();
    put!(
        out,
        "<SPEC-HIERARCHY IDENTIFIER=\"in-{identifier}\" LAST-CHANGE=\"{utc}\"><OBJECT><SPEC-OBJECT-REF>{identifier}</SPEC-OBJECT-REF></OBJECT>"
    );
    if let Some(children) = below.get(object.values[0].as_str()) {
        put!(out, "<CHILDREN>");
        for child in children {
            hierarchy(out, below, child, utc);
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
    let criteria = report.requirements.iter().flat_map(|status| status.criteria.iter().map(move |c| (status, c)));
    let criteria = criteria.map(|(status, judged)| {
        let c = &judged.criterion;
        let rule =
            |language: Language| format!("{} {} {} ({})", language.word(c.on.words()), c.op.sign(), c.limit, c.of());
        let (name, state) = (c.metric.clone(), judged.outcome.words().to_owned());
        let values =
            [c.id.clone(), name, rule(Language::En), rule(Language::Zh), state, status.normative_sha256.clone()];
        Object { kind: "criterion", values, parent: Some(status.requirement.id.clone()) }
    });
    let controls = report.risks.iter().flat_map(|status| status.controls.iter().map(move |c| (status, c)));
    let controls = controls.map(|(status, c)| {
        let option = format!("{:?}", c.control.option).to_lowercase();
        let state = format!("implementation {}, effectiveness {}", c.implementation.words(), c.effectiveness.words());
        let (en, zh) = (c.control.en.clone(), c.control.zh.clone());
        let values = [c.control.id.clone(), option, en, zh, state, status.risk.sha256.clone()];
        Object { kind: "control", values, parent: Some(status.risk.id.clone()) }
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
    needs
        .chain(requirements)
        .chain(criteria)
        .chain(risks)
        .chain(controls)
        .chain(threats)
        .chain(tests.into_values())
        .collect()
}
