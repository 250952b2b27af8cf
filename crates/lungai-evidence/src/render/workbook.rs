//! The tables as one workbook. Its times are the commit's, so that equal inputs give equal bytes.
use crate::build::Report;
use crate::failure::Failure;
use rust_xlsxwriter::{Color, DocProperties, ExcelDateTime, Format, Workbook, XlsxError};

/// Sheets from tables in CSV, the first row of each being its heads.
pub fn xlsx(report: &Report, tables: &[(&str, &[u8])]) -> Result<Vec<u8>, Failure> {
    write(report, tables).map_err(|error| Failure::new("unwritable", format!("trace.xlsx: {error}")))
}

fn write(report: &Report, tables: &[(&str, &[u8])]) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let date = if report.commit.utc.is_empty() { "1980-01-01T00:00:00Z" } else { &report.commit.utc };
    let title = format!("{} {}: evidence", report.product, report.version);
    let created = ExcelDateTime::parse_from_str(date.trim_end_matches('Z'))?;
    book.set_properties(&DocProperties::new().set_title(&title).set_creation_datetime(&created));
    let head = Format::new().set_bold().set_background_color(Color::RGB(0xE9EDF0)).set_text_wrap();
    let red = Format::new().set_font_color(Color::RGB(0xA3161F)).set_bold();
    let amber = Format::new().set_font_color(Color::RGB(0x7A4B00));
    for (name, table) in tables {
        let sheet = book.add_worksheet().set_name(*name)?;
        let text = table.strip_prefix("\u{feff}".as_bytes()).unwrap_or(table);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
        let mut widths: Vec<usize> = Vec::new();
        let mut last = 0;
        for (row, record) in (0u32..).zip(reader.records().filter_map(Result::ok)) {
            for (column, cell) in (0u16..).zip(record.iter()) {
                match cell {
                    _ if row == 0 => sheet.write_string_with_format(row, column, cell, &head)?,
                    "red" | "failed" | "suspect" => sheet.write_string_with_format(row, column, cell, &red)?,
                    "amber" | "gap" => sheet.write_string_with_format(row, column, cell, &amber)?,
                    _ => sheet.write_string(row, column, cell)?,
                };
                let width = cell.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>().clamp(8, 60);
                match widths.get_mut(usize::from(column)) {
                    Some(known) => *known = width.max(*known),
                    None => widths.push(width),
                }
            }
            last = row;
        }
        for (column, width) in (0u16..).zip(&widths) {
            sheet.set_column_width(column, *width as f64 + 1.0)?;
        }
        sheet.set_freeze_panes(1, 1)?;
        if let Some(columns) = u16::try_from(widths.len()).ok().and_then(|n| n.checked_sub(1)).filter(|_| last > 0) {
            sheet.autofilter(0, 0, last, columns)?;
        }
    }
    book.save_to_buffer()
}
