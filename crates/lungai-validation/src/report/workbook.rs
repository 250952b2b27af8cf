//! The tables for machines and for spreadsheets: figures unrounded, bounds in columns of their own.

use super::document::{Cell, Document, Table};
use crate::failure::Failure;
use rust_xlsxwriter::{Color, DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

/// What stands in a cell.
enum Value {
    Text(String),
    Number(f64),
    Nothing,
}

/// Names of the columns, and the rows under them.
fn columns(document: &Document, table: &Table) -> (Vec<String>, Vec<Vec<Value>>) {
    let language = document.language;
    let bounds = table.with_bounds();
    let mut head = Vec::new();
    for (name, bounded) in table.head.iter().zip(&bounds) {
        head.push(name.clone());
        if *bounded {
            head.push(format!("{name}{}", language.of(", lower bound", "，下界")));
            head.push(format!("{name}{}", language.of(", upper bound", "，上界")));
        }
    }
    let row = |cells: &Vec<Cell>| {
        let mut row = Vec::new();
        for (cell, bounded) in cells.iter().zip(&bounds) {
            row.push(match (cell.figure.and_then(|f| f.value), cell.text.as_str()) {
                (Some(value), _) => Value::Number(value),
                (None, "") => Value::Nothing,
                (None, text) => Value::Text(text.to_owned()),
            });
            if *bounded {
                let ci = cell.figure.and_then(|f| f.ci);
                row.extend([0, 1].map(|side| ci.map_or(Value::Nothing, |ci| Value::Number(ci[side]))));
            }
        }
        row
    };
    (head, table.rows.iter().map(row).collect())
}

/// A table as CSV. Where the data are synthetic, every line says so.
///
/// # Errors
/// None that a table of ours can have.
pub fn csv(document: &Document, table: &Table, synthetic: bool) -> Result<Vec<u8>, Failure> {
    let (mut head, rows) = columns(document, table);
    let mark = synthetic.then_some("SYNTHETIC");
    head.extend(mark.map(|_| document.language.of("data", "数据").to_owned()));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let wrong = |error: csv::Error| Failure::new("table", error.to_string());
    writer.write_record(head.into_iter().map(no_formula)).map_err(wrong)?;
    for row in rows {
        let cells = row.into_iter().map(|value| match value {
            Value::Text(text) => no_formula(text),
            Value::Number(number) => number.to_string(),
            Value::Nothing => String::new(),
        });
        writer.write_record(cells.chain(mark.map(str::to_owned))).map_err(wrong)?;
    }
    writer.into_inner().map_err(|error| Failure::new("table", error.to_string()))
}

/// Programs that open a CSV file take some words for formulas, and would run them; behind an apostrophe they are words.
pub fn no_formula(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

/// All tables as a workbook, one sheet each. It holds no time, so that equal results give equal bytes.
///
/// # Errors
/// A table with more rows than a sheet can have.
pub fn xlsx(document: &Document) -> Result<Vec<u8>, Failure> {
    write(document).map_err(|error| Failure::new("table", format!("workbook: {error}")))
}

fn write(document: &Document) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let created = ExcelDateTime::parse_from_str("1980-01-01T00:00:00")?;
    let properties = DocProperties::new().set_title(&document.title).set_comment(&document.notice);
    book.set_properties(&properties.set_creation_datetime(&created));
    for table in document.tables() {
        let sheet = book.add_worksheet().set_name(table.name)?;
        sheet.set_header(format!("&C{}", document.notice.replace('&', "&&")));
        fill(sheet, document, table)?;
    }
    book.save_to_buffer()
}

fn fill(sheet: &mut Worksheet, document: &Document, table: &Table) -> Result<(), XlsxError> {
    const HEAD: u32 = 2;
    let notice = Format::new().set_bold().set_font_color(Color::RGB(0x7A3B00));
    let bold = Format::new().set_bold().set_background_color(Color::RGB(0xE9EDF0)).set_text_wrap();
    sheet.write_string_with_format(0, 0, &document.notice, &notice)?;
    sheet.write_string(1, 0, &table.caption)?;
    let (head, rows) = columns(document, table);
    // Chinese letters are twice as wide.
    let wide = |text: &str| text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
    let mut widths: Vec<usize> = head.iter().map(|name| wide(name).clamp(8, 24)).collect();
    for (column, name) in (0u16..).zip(&head) {
        sheet.write_string_with_format(HEAD, column, name, &bold)?;
    }
    let mut last = HEAD;
    for (row, cells) in (HEAD + 1..).zip(rows) {
        for ((column, value), width) in (0u16..).zip(cells).zip(&mut widths) {
            match value {
                Value::Text(text) => {
                    *width = wide(&text).clamp(*width, 60);
                    sheet.write_string(row, column, &text)?;
                }
                Value::Number(number) if number.is_finite() => _ = sheet.write_number(row, column, number)?,
                Value::Number(_) | Value::Nothing => (),
            }
        }
        last = row;
    }
    for (column, width) in (0u16..).zip(&widths) {
        sheet.set_column_width(column, *width as f64 + 1.0)?;
    }
    sheet.set_freeze_panes(HEAD + 1, 1)?;
    if last > HEAD && !head.is_empty() {
        sheet.autofilter(HEAD, 0, last, head.len() as u16 - 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::Tone;
    use crate::report::language::Language;

    #[test]
    fn no_cell_of_a_csv_file_is_a_formula() {
        let mut table = Table::new("t", "t", &["a", "b"]);
        let number = Cell::number(Language::En, Some(-1.5), 2, None);
        table.row(vec![Cell::toned("=1+1", Tone::Plain), number]);
        let document = Document { language: Language::En, title: String::new(), notice: String::new(), blocks: vec![] };
        let text = String::from_utf8(csv(&document, &table, false).unwrap()).unwrap();
        assert_eq!(text, "a,b\n'=1+1,-1.5\n");
    }
}
