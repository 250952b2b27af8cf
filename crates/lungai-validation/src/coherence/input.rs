//! Other people's tables, written down as statements.
//!
//! JSON: `{"statements": [{"table": "Table 2", "figure": "sensitivity", "kind": "proportion", "population": "nodules of 3
//! to 6 mm", "value": "88.7 %", "n": 1245, "part_of": ["all nodules"]}, ...]}`. Required are `table`, `figure`, `kind`
//! (`size`, `count`, `proportion`, `rate`, `mean`, `other`) and `population`. `value` is a number or, with its zeros at the
//! end or a percent sign, a text. `n` and `count` are whole numbers, `ci` is `[low, high]`, `part_of` and `among` are lists
//! of populations, `x` is a place on a curve, `verdict` is `{"limit": 0.95, "op": ">=", "on": "ci_lower", "met": true}`.
//!
//! CSV: the same, one statement a line, with the columns `table, figure, kind, population` and any of `value, n, count,
//! ci_low, ci_high, part_of, among, x, limit, op, on, met`; several populations in one cell stand apart by `;`.

use super::Statement;
use crate::failure::{Failure, file_name, io};
use lungai_datasets::separated;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    statements: Vec<Statement>,
    /// What the file says of itself; not looked at.
    #[serde(default, rename = "notice")]
    _notice: Option<String>,
}

/// Reads a `.json` or `.csv` file.
///
/// # Errors
/// `statements-malformed` with line and reason; `statements-empty`.
pub fn read(path: &Path) -> Result<Vec<Statement>, Failure> {
    let bytes = std::fs::read(path).map_err(io(path))?;
    let text = String::from_utf8(bytes).map_err(|_| malformed(path, "not UTF-8"))?;
    let is_csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let statements = if is_csv {
        csv(path, text.trim_start_matches('\u{feff}'))?
    } else {
        let file: File = serde_json::from_str(&text).map_err(|error| malformed(path, &error.to_string()))?;
        file.statements
    };
    if statements.is_empty() {
        return Err(Failure::new("statements-empty", format!("{}: no statement", file_name(path))));
    }
    Ok(statements)
}

fn csv(path: &Path, text: &str) -> Result<Vec<Statement>, Failure> {
    let (columns, rows) =
        separated(path, text, b',').map_err(|error| Failure::new("statements-malformed", error.to_string()))?;
    let mut statements = Vec::new();
    for (line, cells) in rows {
        let wrong = |reason: &str| malformed(path, &format!("line {line}: {reason}"));
        let mut fields = Map::new();
        let (mut ci, mut verdict) = ([None, None], Map::new());
        for (column, cell) in columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty()) {
            let number = || {
                let number: Value = cell.parse::<f64>().map_err(|_| wrong(&format!("{column}: `{cell}`")))?.into();
                Ok::<Value, Failure>(number)
            };
            match column.as_str() {
                "n" | "count" => {
                    let whole: u64 =
                        cell.parse().map_err(|_| wrong(&format!("{column}: `{cell}` is no whole number")))?;
                    fields.insert(column.to_owned(), json!(whole));
                }
                "ci_low" => ci[0] = Some(json!(cell)),
                "ci_high" => ci[1] = Some(json!(cell)),
                "part_of" | "among" => {
                    let names: Vec<&str> = cell.split(';').map(str::trim).filter(|n| !n.is_empty()).collect();
                    fields.insert(column.to_owned(), json!(names));
                }
                "x" => _ = fields.insert(column.to_owned(), number()?),
                "limit" => _ = verdict.insert(column.to_owned(), number()?),
                "op" | "on" => _ = verdict.insert(column.to_owned(), json!(cell)),
                "met" => {
                    let met: bool =
                        cell.parse().map_err(|_| wrong(&format!("met: `{cell}` is neither true nor false")))?;
                    verdict.insert(column.to_owned(), json!(met));
                }
                _ => _ = fields.insert(column.to_owned(), json!(cell)),
            }
        }
        match ci {
            [Some(low), Some(high)] => _ = fields.insert("ci".to_owned(), json!([low, high])),
            [None, None] => (),
            _ => return Err(wrong("ci_low and ci_high go together")),
        }
        if !verdict.is_empty() {
            fields.insert("verdict".to_owned(), Value::Object(verdict));
        }
        let statement = serde_json::from_value(Value::Object(fields)).map_err(|error| wrong(&error.to_string()))?;
        statements.push(statement);
    }
    Ok(statements)
}

fn malformed(path: &Path, reason: &str) -> Failure {
    Failure::new("statements-malformed", format!("{}: {reason}", file_name(path)))
}
