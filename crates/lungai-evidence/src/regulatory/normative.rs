//! The part of an item that binds: what a translation, a title or a line break does not change, and a limit does.
use super::{Language, Matrix, Requirement, Risk, sha256};
use serde::Serialize;
use serde_json::{Value, json};

/// SHA-256 of an item's normative fields as canonical JSON (sorted keys, no white space).
pub fn hash(item: &impl Serialize, language: Language) -> String {
    // Our own types always become JSON.
    let mut value = serde_json::to_value(item).unwrap_or_default();
    keep_normative(&mut value, language);
    sha256(value.to_string().as_bytes())
}

/// Of a requirement what it demands, how that is to be verified and which risks it controls: other links are edges of their own.
pub fn of_requirement(requirement: &Requirement, language: Language) -> String {
    hash(
        &json!({
            "statement": requirement.statement,
            "allocation": requirement.allocation,
            "content": requirement.content,
            "controls_for": requirement.controls_for,
            "verify_by": requirement.verify_by,
            "criteria": requirement.criteria,
        }),
        language,
    )
}

/// Of a risk together with the policy by which it is judged: another matrix makes other levels of the same estimates.
pub fn of_risk(risk: &Risk, matrix: &Matrix, language: Language) -> String {
    hash(&json!({ "risk": risk, "matrix": matrix }), language)
}

/// SHA-256 of the translations that an item holds.
pub fn translation(item: &impl Serialize, language: Language) -> String {
    let value = serde_json::to_value(item).unwrap_or_default();
    let mut texts = Vec::new();
    collect(&value, language.translation(), &mut texts);
    sha256(json!(texts).to_string().as_bytes())
}

fn keep_normative(value: &mut Value, language: Language) {
    match value {
        Value::Object(fields) => {
            for key in ["title", "sha256", "basis", language.translation()] {
                fields.remove(key);
            }
            fields.values_mut().for_each(|field| keep_normative(field, language));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| keep_normative(element, language)),
        _ => (),
    }
}

fn collect(value: &Value, key: &str, texts: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == key && field.is_string() {
                    texts.push(field.clone());
                } else {
                    collect(field, key, texts);
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, key, texts)),
        _ => (),
    }
}
