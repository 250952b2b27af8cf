//! CSV files, plain or gzipped, with errors that name file and line.

use crate::Failure;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// More than this after unpacking is no table of readings but a mistake or a bomb.
const MAX_BYTES: u64 = 1 << 30;

/// Where cases and their truth are: common to all verbs that judge a score of cases.
#[derive(clap::Args)]
pub struct Cases {
    /// One line for each case; may be gzipped.
    #[arg(long)]
    pub csv: PathBuf,
    /// Column with the truth.
    #[arg(long)]
    pub label: String,
    /// The truth's value for positive cases; any other value is negative.
    #[arg(long)]
    pub positive: String,
}

impl Cases {
    /// Whether the case is positive; `None` where the cell is empty or `NA`.
    pub fn truth(&self, row: &Row, label: usize) -> Option<bool> {
        let cell = &row.cells[label];
        (!cell.is_empty() && cell != "NA").then(|| cell == self.positive)
    }
}

/// A CSV file in memory.
pub struct Table {
    file: String,
    header: Vec<String>,
    rows: Vec<Row>,
}

/// One line's cells.
pub struct Row {
    /// Line in the file, from 1.
    pub line: u64,
    /// Cells, without surrounding blanks.
    pub cells: csv::StringRecord,
}

impl Table {
    /// Reads a file whose first line names the columns; every line must have as many cells.
    pub fn with_header(path: &Path) -> Result<Self, Failure> {
        let mut table = Self::read(path, false)?;
        if table.rows.is_empty() {
            return Err(Failure { rule: "csv-empty".into(), message: format!("{}: no header line", table.file) });
        }
        table.header = table.rows.remove(0).cells.iter().map(str::to_owned).collect();
        Ok(table)
    }

    /// Reads a list: only the first cell of each line matters, and there need be no header.
    pub fn list(path: &Path) -> Result<Self, Failure> {
        Self::read(path, true)
    }

    fn read(path: &Path, flexible: bool) -> Result<Self, Failure> {
        let file = path.display().to_string();
        let unreadable = |error: &dyn std::fmt::Display| Failure {
            rule: "file-unreadable".into(),
            message: format!("{file}: {error}"),
        };
        let mut start = [0; 2];
        let length = File::open(path).and_then(|mut f| read_start(&mut f, &mut start)).map_err(|e| unreadable(&e))?;
        let raw = BufReader::new(File::open(path).map_err(|e| unreadable(&e))?);
        let mut bytes = Vec::new();
        let source: Box<dyn Read> = if length == 2 && start == [0x1f, 0x8b] {
            Box::new(flate2::bufread::MultiGzDecoder::new(raw))
        } else {
            Box::new(raw)
        };
        source.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(unreadable(&"larger than 1 GiB"));
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes); // a byte order mark is no part of a column's name
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(flexible).trim(csv::Trim::All).from_reader(text);
        let mut rows = Vec::new();
        for record in reader.records() {
            let cells = record.map_err(|error| malformed(&file, &error))?;
            rows.push(Row { line: cells.position().map_or(0, csv::Position::line), cells });
        }
        Ok(Self { file, header: Vec::new(), rows })
    }

    /// The file's name, as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The lines below the header.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Position of a column.
    pub fn column(&self, name: &str) -> Result<usize, Failure> {
        self.header.iter().position(|column| column == name).ok_or_else(|| Failure {
            rule: "csv-missing-column".into(),
            message: format!("{}: no column \"{name}\"; there are: {}", self.file, self.header.join(", ")),
        })
    }

    /// A finite number; `None` where the cell is empty or `NA`.
    pub fn number(&self, row: &Row, column: usize) -> Result<Option<f64>, Failure> {
        let cell = &row.cells[column];
        if cell.is_empty() || cell == "NA" {
            return Ok(None);
        }
        // The cell itself is not repeated: it may be anything, also a name.
        cell.parse::<f64>().ok().filter(|number| number.is_finite()).map(Some).ok_or_else(|| {
            self.failure(row, "csv-bad-number", &format!("column \"{}\" is not a finite number", self.header[column]))
        })
    }

    /// A finite number that must be there.
    pub fn required_number(&self, row: &Row, column: usize) -> Result<f64, Failure> {
        self.number(row, column)?.ok_or_else(|| {
            self.failure(row, "csv-missing-value", &format!("column \"{}\" is empty", self.header[column]))
        })
    }

    /// A cell that must not be empty.
    pub fn required<'a>(&self, row: &'a Row, column: usize) -> Result<&'a str, Failure> {
        let cell = &row.cells[column];
        if cell.is_empty() {
            let message = format!("column \"{}\" is empty", self.header[column]);
            return Err(self.failure(row, "csv-missing-value", &message));
        }
        Ok(cell)
    }

    /// A failure of one line.
    pub fn failure(&self, row: &Row, rule: &str, message: &str) -> Failure {
        Failure { rule: rule.into(), message: format!("{} line {}: {message}", self.file, row.line) }
    }
}

fn read_start(file: &mut File, start: &mut [u8; 2]) -> std::io::Result<usize> {
    let first = file.read(start)?;
    if first == 1 { Ok(1 + file.read(&mut start[1..])?) } else { Ok(first) }
}

fn malformed(file: &str, error: &csv::Error) -> Failure {
    let line = |pos: &Option<csv::Position>| pos.as_ref().map_or(0, csv::Position::line);
    let (line, message) = match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            (line(pos), format!("{len} cells, where the header has {expected_len}"))
        }
        csv::ErrorKind::Utf8 { pos, .. } => (line(pos), "not UTF-8 text".to_owned()),
        _ => (error.position().map_or(0, csv::Position::line), error.to_string()),
    };
    Failure { rule: "csv-malformed".into(), message: format!("{file} line {line}: {message}") }
}
