//! Tables that others made, CSV or Parquet: named columns, and every refusal with file and line.

use crate::failure::{Failure, file_name, io};
use lungai_datasets::separated;
use polars::prelude::{AnyValue, DataFrame};
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use std::collections::BTreeSet;
use std::path::Path;

/// A table whose header was checked; every cell is text.
#[derive(Debug)]
pub struct Rows {
    file: String,
    /// Our names of the columns.
    columns: Vec<&'static str>,
    /// Line in the file (row of a Parquet file, counted from 1) and cells.
    rows: Vec<(usize, Vec<String>)>,
    /// `line` or `row`.
    unit: &'static str,
}

/// One line of [`Rows`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    rows: &'a Rows,
    /// As a person would count it.
    pub line: usize,
    cells: &'a [String],
}

/// Names of one column: ours first, then others that mean the same.
pub type Names = &'static [&'static str];

impl Rows {
    /// Reads a `.csv` or `.parquet` file.
    ///
    /// # Errors
    /// `unknown-column` where a column is neither in `required` nor in `known`, twice there, or a required one is absent: a
    /// column that nobody asked about may hold what would have mattered. `not-a-table`.
    pub fn read(path: &Path, required: &[Names], known: &[Names]) -> Result<Self, Failure> {
        let file = file_name(path);
        let is_parquet = path.extension().is_some_and(|extension| extension == "parquet");
        let (header, rows, unit) = if is_parquet { parquet(path, &file)? } else { csv(path)? };
        let at = format!("{file}{}", if is_parquet { "" } else { ", line 1" });
        let all = || required.iter().chain(known).copied();
        let mut columns = Vec::new();
        for column in &header {
            let Some(names) = all().find(|names| names.contains(&column.as_str())) else {
                let names: Vec<&str> = all().map(|names| names[0]).collect();
                let message = format!("{at}: column `{column:.40}` is none of {}", names.join(", "));
                return Err(Failure::new("unknown-column", message));
            };
            if columns.contains(&names[0]) {
                return Err(Failure::new("unknown-column", format!("{at}: column `{}` is there twice", names[0])));
            }
            columns.push(names[0]);
        }
        if let Some(missing) = required.iter().find(|names| !columns.contains(&names[0])) {
            let names = missing.join("` or `");
            return Err(Failure::new("unknown-column", format!("{at}: column `{names}` is missing")));
        }
        Ok(Self { file, columns, rows, unit })
    }

    /// Its lines.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, cells)| Row { rows: self, line: *line, cells })
    }

    /// Whether the table has the column.
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains(&column)
    }
}

impl<'a> Row<'a> {
    /// The cell of a column by our name; empty where the table has no such column.
    pub fn text(&self, column: &str) -> &'a str {
        let at = self.rows.columns.iter().position(|name| *name == column);
        at.map_or("", |at| self.cells[at].as_str())
    }

    /// The cell as a finite number.
    ///
    /// # Errors
    /// `not-finite` or `not-a-number`.
    pub fn number(&self, column: &str) -> Result<f64, Failure> {
        let text = self.text(column);
        let number = text
            .parse::<f64>()
            .map_err(|_| self.refuse("not-a-number", format!("{column} `{text:.40}` is no number")))?;
        if number.is_finite() {
            Ok(number)
        } else {
            Err(self.refuse("not-finite", format!("{column} is {number}, which is no finite number")))
        }
    }

    /// The cell as a number where it is not empty.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn optional(&self, column: &str) -> Result<Option<f64>, Failure> {
        if self.text(column).is_empty() { Ok(None) } else { self.number(column).map(Some) }
    }

    /// The cell of `case`, which must be one of `ids`.
    ///
    /// # Errors
    /// `unknown-study`.
    pub fn known_case(&self, ids: &BTreeSet<&str>) -> Result<&'a str, Failure> {
        let case = self.text("case");
        if ids.contains(case) {
            return Ok(case);
        }
        // What nobody knows here may be a patient's name.
        Err(self.refuse("unknown-study", "its study is no test case of the data set".into()))
    }

    /// A failure that names file and line.
    pub fn refuse(&self, rule: &str, message: String) -> Failure {
        Failure::new(rule, format!("{}, {} {}: {message}", self.rows.file, self.rows.unit, self.line))
    }
}

type Read = (Vec<String>, Vec<(usize, Vec<String>)>, &'static str);

fn csv(path: &Path) -> Result<Read, Failure> {
    let text = std::fs::read_to_string(path).map_err(io(path))?;
    let (header, rows) = separated(path, text.strip_prefix('\u{feff}').unwrap_or(&text), b',')
        .map_err(|error| Failure::new("not-a-table", error.to_string()))?;
    Ok((header, rows, "line"))
}

fn parquet(path: &Path, file: &str) -> Result<Read, Failure> {
    let broken = |error: polars::error::PolarsError| Failure::new("not-a-table", format!("{file}: {error}"));
    let frame: DataFrame = ParquetReader::new(std::fs::File::open(path).map_err(io(path))?).finish().map_err(broken)?;
    let header: Vec<String> = frame.get_column_names().iter().map(|name| name.to_string()).collect();
    let cell = |value: AnyValue<'_>| match value {
        AnyValue::Null => String::new(),
        AnyValue::String(text) => text.to_owned(),
        AnyValue::StringOwned(text) => text.to_string(),
        // The shortest text that reads back as the same number; polars' own is cut.
        AnyValue::Float64(number) => number.to_string(),
        AnyValue::Float32(number) => number.to_string(),
        other => other.to_string(),
    };
    let mut rows: Vec<(usize, Vec<String>)> = (1..=frame.height()).map(|row| (row, Vec::new())).collect();
    for column in frame.columns() {
        for (at, (_, cells)) in rows.iter_mut().enumerate() {
            cells.push(cell(column.get(at).map_err(broken)?));
        }
    }
    Ok((header, rows, "row"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, rule: &str, message: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let read = Rows::read(&path, &[&["case", "seriesuid"], &["score", "probability"]], &[&["diameter_mm"]]);
        let failure = match read {
            Ok(rows) => rows.iter().find_map(|row| row.number("score").err()).expect("an error"),
            Err(failure) => failure,
        };
        assert_eq!((failure.rule.as_str(), failure.message.as_str()), (rule, message));
    }

    #[test]
    fn what_is_wrong_with_a_table_is_named_with_its_line() {
        check(
            "case,score,colour\n",
            "unknown-column",
            "t.csv, line 1: column `colour` is none of case, score, diameter_mm",
        );
        check("case\n", "unknown-column", "t.csv, line 1: column `score` or `probability` is missing");
        check("case,seriesuid,score\n", "unknown-column", "t.csv, line 1: column `case` is there twice");
        check(
            "seriesuid,probability\na,0.5\nb,NaN\n",
            "not-finite",
            "t.csv, line 3: score is NaN, which is no finite number",
        );
        check("case,score\na,0.5\n\nb,\"0,5\"\n", "not-a-number", "t.csv, line 4: score `0,5` is no number");
        check("case,score\na\n", "not-a-table", "t.csv, line 2: 1 cells where the header has 2");
    }

    #[test]
    fn a_parquet_file_says_the_same_as_a_csv() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let mut frame = polars::prelude::df!(
            "case" => ["a", "b"],
            "score" => [1.0 / 3.0, f64::NAN],
            "diameter_mm" => [None, Some(5.5)],
        )
        .unwrap();
        let file = std::fs::File::create(&path).unwrap();
        polars_io::parquet::write::ParquetWriter::new(file).finish(&mut frame).unwrap();
        let rows = Rows::read(&path, &[&["case"], &["score"]], &[&["diameter_mm"]]).unwrap();
        let [first, second] = rows.iter().collect::<Vec<_>>()[..] else { panic!("two rows") };
        assert_eq!((first.text("case"), first.number("score").unwrap()), ("a", 1.0 / 3.0));
        assert_eq!(
            (first.optional("diameter_mm").unwrap(), second.optional("diameter_mm").unwrap()),
            (None, Some(5.5))
        );
        let failure = second.number("score").unwrap_err();
        assert_eq!(failure.rule, "not-finite");
        assert_eq!(failure.message, "t.parquet, row 2: score is NaN, which is no finite number");
    }
}
