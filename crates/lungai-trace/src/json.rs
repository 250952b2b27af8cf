//! The little JSON that a record needs.

pub fn string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Null for what JSON cannot say: not a number, or infinite.
pub fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:?}") } else { "null".to_owned() }
}

/// Keys are our own plain words; values are JSON already.
pub fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

pub fn array(elements: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", elements.into_iter().collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_quotes_are_escaped() {
        assert_eq!(string("a\"b\\c\n肺"), "\"a\\\"b\\\\c\\u000a肺\"");
        assert_eq!([number(1.0), number(-2.5e-9), number(f64::INFINITY)], ["1.0", "-2.5e-9", "null"]);
        assert_eq!(object(&[("k", array(["1".into(), "2".into()]))]), r#"{"k":[1,2]}"#);
    }
}
