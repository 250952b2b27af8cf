//! Tables that other people made: named columns, and every refusal with file and line.

use crate::error::{Fault, name};
use crate::write::read_text;
use crate::{DatasetError, yaml};
use std::path::{Path, PathBuf};

/// A table whose header was checked.
#[derive(Debug)]
pub(crate) struct Table {
    path: PathBuf,
    columns: Vec<String>,
    rows: Vec<(usize, Vec<String>)>,
}

/// One line of a [`Table`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    table: &'a Table,
    /// Counted from 1; the header is line 1.
    pub line: usize,
    cells: &'a [String],
}

impl Table {
    /// Reads a `.csv` or `.csv.gz`. Cells are divided by commas, where the header has none by tabs, else by spaces.
    ///
    /// # Errors
    /// [`Fault::UnknownColumn`] where a column is neither in `required` nor in `known`, or a required one is absent:
    /// a column that nobody asked about may hold what would have mattered.
    pub(crate) fn read(path: &Path, required: &[&str], known: &[&str]) -> Result<Self, DatasetError> {
        Self::parse(path, &read_text(path)?, required, known)
    }

    fn parse(path: &Path, text: &str, required: &[&str], known: &[&str]) -> Result<Self, DatasetError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let header = text.lines().next().unwrap_or_default();
        let (columns, rows) = match header {
            h if h.contains(',') => separated(path, text, b',')?,
            h if h.contains('\t') => separated(path, text, b'\t')?,
            _ => spaced(path, text)?,
        };
        for column in &columns {
            if !required.iter().chain(known).any(|name| name == column) {
                let names = || required.iter().chain(known).copied();
                let hint =
                    yaml::nearest(column, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let all: Vec<&str> = names().collect();
                let reason = format!("column `{column}` is none of {}{hint}", all.join(", "));
                return Err(DatasetError::fault(Fault::UnknownColumn, path, 1, reason));
            }
        }
        if let Some(missing) = required.iter().find(|name| !columns.iter().any(|column| column == **name)) {
            let reason = format!("column `{missing}` is missing");
            return Err(DatasetError::fault(Fault::UnknownColumn, path, 1, reason));
        }
        Ok(Self { path: path.to_owned(), columns, rows })
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, cells)| Row { table: self, line: *line, cells })
    }
}

/// Columns, and of each row its line, counted from 1 as an editor counts, and its cells without surrounding blanks.
pub type Parsed = (Vec<String>, Vec<(usize, Vec<String>)>);

/// Divides a table into cells.
///
/// - `path`: for messages, which name the file without its folder
///
/// # Errors
/// A row with more or fewer cells than the header, with its line.
pub fn separated(path: &Path, text: &str, delimiter: u8) -> Result<Parsed, DatasetError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).delimiter(delimiter).from_reader(text.as_bytes());
    let refuse = |error: csv::Error| {
        let line = error.position().map_or(1, |at| line_at(text, at));
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} cells where the header has {expected_len}")
            }
            _ => "not a CSV line".into(),
        };
        refuse(path, line, reason)
    };
    let columns = reader.headers().map_err(refuse)?.iter().map(str::to_owned).collect();
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    // Lines are counted once over the whole table, not from its beginning for each row.
    let (mut line, mut counted) = (1, 0);
    while reader.read_record(&mut record).map_err(refuse)? {
        let start = record.position().map_or(counted, |at| row_start(text, at));
        line += newlines(&text[counted..start]);
        counted = start;
        rows.push((line, record.iter().map(str::to_owned).collect()));
    }
    Ok((columns, rows))
}

/// The line of a row, counted from 1.
pub(crate) fn line_at(text: &str, at: &csv::Position) -> usize {
    1 + newlines(&text[..row_start(text, at)])
}

/// The csv reader places a row behind the CR of the row before, and its line number one too low then.
fn row_start(text: &str, at: &csv::Position) -> usize {
    let bytes = text.as_bytes();
    let mut start = (at.byte() as usize).min(bytes.len());
    while bytes.get(start).is_some_and(|b| matches!(b, b'\r' | b'\n')) {
        start += 1;
    }
    start
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

fn spaced(path: &Path, text: &str) -> Result<Parsed, DatasetError> {
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = text.lines().enumerate();
    let columns = lines.next().map(|(_, line)| cells(line)).unwrap_or_default();
    let mut rows = Vec::new();
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let row = cells(line);
        if row.len() != columns.len() {
            return Err(refuse(path, at + 1, format!("{} cells where the header has {}", row.len(), columns.len())));
        }
        rows.push((at + 1, row));
    }
    Ok((columns, rows))
}

fn refuse(path: &Path, line: usize, reason: String) -> DatasetError {
    DatasetError::Config { file: name(path), line, reason }
}

impl<'a> Row<'a> {
    /// The cell of a column that was declared to [`Table::read`]; empty where the table has no such column.
    pub(crate) fn text(&self, column: &str) -> &'a str {
        let at = self.table.columns.iter().position(|name| name == column);
        at.map_or("", |at| &self.cells[at])
    }

    /// The cell as a finite number.
    pub(crate) fn number(&self, column: &str) -> Result<f64, DatasetError> {
        let text = self.text(column);
        text.parse::<f64>()
            .ok()
            .filter(|v| v.is_finite())
            .ok_or_else(|| self.refuse(format!("{column} `{text:.40}` is not a finite number")))
    }

    /// The cell as a number where it is not empty.
    pub(crate) fn optional(&self, column: &str) -> Result<Option<f64>, DatasetError> {
        if self.text(column).is_empty() { Ok(None) } else { self.number(column).map(Some) }
    }

    pub(crate) fn refuse(&self, reason: String) -> DatasetError {
        refuse(&self.table.path, self.line, reason)
    }

    pub(crate) fn fault(&self, fault: Fault, reason: String) -> DatasetError {
        DatasetError::fault(fault, &self.table.path, self.line, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Table, DatasetError> {
        Table::parse(Path::new("/secret/t.csv"), text, &["seriesuid", "coordX"], &["class"])
    }

    #[test]
    fn commas_tabs_and_spaces_divide_cells() {
        for text in ["seriesuid,coordX\na,1.5\n", "seriesuid\tcoordX\na\t1.5\n", "seriesuid  coordX \n\na 1.5 \r\n"] {
            let table = parse(text).unwrap();
            let row = table.rows().next().unwrap();
            assert_eq!((row.text("seriesuid"), row.number("coordX").unwrap(), row.text("class")), ("a", 1.5, ""));
        }
    }

    #[test]
    fn lines_count_as_an_editor_counts_them_whatever_ends_them() {
        for text in [
            "seriesuid,coordX\r\na,1\r\n\r\nb,2\r\n",
            "seriesuid,coordX\na,1\n\nb,2",
            "seriesuid coordX\r\na 1\r\n\r\nb 2",
        ] {
            assert_eq!(parse(text).unwrap().rows().map(|row| row.line).collect::<Vec<_>>(), [2, 4], "{text:?}");
        }
        let error = parse("seriesuid,coordX\r\na,1\r\nb\r\n").unwrap_err();
        assert_eq!(error.to_string(), "t.csv, line 3: 1 cells where the header has 2");
    }

    #[test]
    fn an_unknown_column_is_named_with_the_nearest_known_one() {
        let check = |text: &str, rule: &str, expected: &str| {
            let error = parse(text).unwrap_err();
            assert_eq!((error.rule().as_str(), error.to_string().as_str()), (rule, expected));
        };
        check(
            "seriesuid,coordx\na,1\n",
            "unknown-column",
            "t.csv, line 1: column `coordx` is none of seriesuid, coordX, class; did you mean `coordX`?",
        );
        check("seriesuid,class\na,1\n", "unknown-column", "t.csv, line 1: column `coordX` is missing");
        check("seriesuid,coordX\na\n", "bad-configuration", "t.csv, line 2: 1 cells where the header has 2");
        check("seriesuid coordX\na 1\n\nb\n", "bad-configuration", "t.csv, line 4: 1 cells where the header has 2");
    }

    #[test]
    fn a_cell_that_is_no_number_is_named_with_its_line() {
        let table = parse("seriesuid,coordX\na,1\nb,\"1,5\"\nc,inf\n").unwrap();
        let errors: Vec<String> =
            table.rows().filter_map(|row| row.number("coordX").err()).map(|error| error.to_string()).collect();
        assert_eq!(
            errors,
            [
                "t.csv, line 3: coordX `1,5` is not a finite number",
                "t.csv, line 4: coordX `inf` is not a finite number"
            ]
        );
    }
}
