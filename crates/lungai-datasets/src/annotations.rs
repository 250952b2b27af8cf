//! Nodules of the reference standard as a table: one CSV per case, positions in patient LPS mm.

use crate::DatasetError;
use crate::error::name;
use crate::table::line_at;
use lungai_ct::{Lobe, NoduleKind, ReferenceNodule, WorldPoint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// A line of the table; an empty cell is unknown.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    x_lps_mm: f64,
    y_lps_mm: f64,
    z_lps_mm: f64,
    diameter_mm: f64,
    volume_mm3: Option<f64>,
    kind: Option<String>,
    malignant: Option<bool>,
    spiculation: Option<f64>,
    excluded: bool,
    malignancy_probability: Option<f64>,
    lobe: Option<String>,
    long_axis_mm: Option<f64>,
    short_axis_mm: Option<f64>,
    doubling_days: Option<f64>,
}

/// Header line of the table; the columns from [`REQUIRED`] on may be absent, as they are in older tables.
const COLUMNS: [&str; 15] = [
    "id",
    "x_lps_mm",
    "y_lps_mm",
    "z_lps_mm",
    "diameter_mm",
    "volume_mm3",
    "kind",
    "malignant",
    "spiculation",
    "excluded",
    "malignancy_probability",
    "lobe",
    "long_axis_mm",
    "short_axis_mm",
    "doubling_days",
];
const REQUIRED: usize = 10;

/// The nodules of one case.
///
/// # Errors
/// [`DatasetError::Config`] names the line: unknown or missing column, a value out of range, an id twice.
pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Vec<ReferenceNodule>, DatasetError> {
    Ok(parse_lines(path, text)?.into_iter().map(|(_, nodule)| nodule).collect())
}

/// [`parse`], each nodule with its line.
pub(crate) fn parse_lines(path: &Path, text: &[u8]) -> Result<Vec<(usize, ReferenceNodule)>, DatasetError> {
    let refuse = |line: usize, reason: String| DatasetError::Config { file: name(path), line, reason };
    let text = std::str::from_utf8(text).map_err(|_| refuse(1, "not a table in UTF-8".into()))?;
    let csv = |error: csv::Error| {
        let line = error.position().map_or(1, |at| line_at(text, at));
        let reason = match error.kind() {
            csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} cells where the header has {expected_len}")
            }
            _ => "not a CSV line".into(),
        };
        refuse(line, reason)
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(csv)?.clone();
    if let Some(missing) = COLUMNS[..REQUIRED].iter().find(|column| !headers.iter().any(|h| h == **column)) {
        return Err(refuse(1, format!("column `{missing}` is missing")));
    }
    let mut ids = BTreeSet::new();
    let mut nodules = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(csv)? {
        let line = record.position().map_or(1, |at| line_at(text, at));
        let row: Row = record.deserialize(Some(&headers)).map_err(csv)?;
        let in_range = [row.x_lps_mm, row.y_lps_mm, row.z_lps_mm].iter().all(|v| v.is_finite());
        if !in_range {
            return Err(refuse(line, "the position must be finite".into()));
        }
        if !(row.diameter_mm.is_finite() && row.diameter_mm > 0.0) {
            return Err(refuse(line, format!("diameter_mm {} must be positive", row.diameter_mm)));
        }
        if let Some(volume) = row.volume_mm3.filter(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(refuse(line, format!("volume_mm3 {volume} must be positive")));
        }
        if let Some(spiculation) = row.spiculation.filter(|v| !(0.0..=1.0).contains(v)) {
            return Err(refuse(line, format!("spiculation {spiculation} must be within 0..=1")));
        }
        let kind = match &row.kind {
            None => None,
            Some(kind) => Some(NoduleKind::from_name(kind).ok_or_else(|| {
                refuse(line, format!("kind `{kind}` is none of solid, part-solid, ground-glass, calcified"))
            })?),
        };
        let in_range = |p: &f64| (0.0..=1.0).contains(p);
        if let Some(probability) = row.malignancy_probability.filter(|p| !in_range(p)) {
            return Err(refuse(line, format!("malignancy_probability {probability} must be within 0..=1")));
        }
        for (column, axis) in [("long_axis_mm", row.long_axis_mm), ("short_axis_mm", row.short_axis_mm)] {
            if let Some(mm) = axis.filter(|mm| !(mm.is_finite() && *mm > 0.0)) {
                return Err(refuse(line, format!("{column} {mm} must be positive")));
            }
        }
        if let Some(days) = row.doubling_days.filter(|days| days.is_nan() || *days == 0.0) {
            return Err(refuse(
                line,
                format!("doubling_days {days} is no time; a nodule that does not change has inf"),
            ));
        }
        let lobe = match &row.lobe {
            None => None,
            Some(lobe) => Some(Lobe::from_name(lobe).ok_or_else(|| {
                let names = Lobe::ALL.map(Lobe::name).join(", ");
                refuse(line, format!("lobe `{lobe}` is none of {names}"))
            })?),
        };
        if !ids.insert(row.id.clone()) {
            return Err(refuse(line, format!("id `{}` occurs twice", row.id)));
        }
        let nodule = ReferenceNodule {
            id: row.id,
            position: WorldPoint([row.x_lps_mm, row.y_lps_mm, row.z_lps_mm]),
            diameter_mm: row.diameter_mm,
            volume_mm3: row.volume_mm3,
            kind,
            malignant: row.malignant,
            malignancy_probability: row.malignancy_probability,
            spiculation: row.spiculation,
            lobe,
            long_axis_mm: row.long_axis_mm,
            short_axis_mm: row.short_axis_mm,
            doubling_days: row.doubling_days,
            excluded: row.excluded,
        };
        nodules.push((line, nodule));
    }
    Ok(nodules)
}

/// The table that [`parse`] reads, numbers in full precision.
pub fn nodules_csv(nodules: &[ReferenceNodule]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let written = writer.write_record(COLUMNS).and_then(|()| {
        nodules.iter().try_for_each(|nodule| {
            let [x_lps_mm, y_lps_mm, z_lps_mm] = nodule.position.0;
            writer.serialize(Row {
                id: nodule.id.clone(),
                x_lps_mm,
                y_lps_mm,
                z_lps_mm,
                diameter_mm: nodule.diameter_mm,
                volume_mm3: nodule.volume_mm3,
                kind: nodule.kind.map(|kind| kind.name().to_owned()),
                malignant: nodule.malignant,
                spiculation: nodule.spiculation,
                excluded: nodule.excluded,
                malignancy_probability: nodule.malignancy_probability,
                lobe: nodule.lobe.map(|lobe| lobe.name().to_owned()),
                long_axis_mm: nodule.long_axis_mm,
                short_axis_mm: nodule.short_axis_mm,
                doubling_days: nodule.doubling_days,
            })
        })
    });
    written.expect("memory takes every row");
    writer.into_inner().expect("memory takes every row")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodule(id: &str) -> ReferenceNodule {
        ReferenceNodule {
            id: id.into(),
            position: WorldPoint([-50.1, -148.0, 1.0 / 3.0]),
            diameter_mm: 8.25,
            volume_mm3: Some(294.0),
            kind: Some(NoduleKind::PartSolid),
            malignant: Some(true),
            malignancy_probability: Some(0.25),
            spiculation: None,
            lobe: Some(Lobe::RightMiddle),
            long_axis_mm: Some(9.5),
            short_axis_mm: None,
            doubling_days: Some(149.5),
            excluded: false,
        }
    }

    #[test]
    fn a_table_without_the_later_columns_is_read() {
        let text = "id,x_lps_mm,y_lps_mm,z_lps_mm,diameter_mm,volume_mm3,kind,malignant,spiculation,excluded\n\
                    a,-50.1,-148,0.3333333333333333,8.25,294,part-solid,true,,false\n";
        let old = ReferenceNodule {
            malignancy_probability: None,
            lobe: None,
            long_axis_mm: None,
            doubling_days: None,
            ..nodule("a")
        };
        assert_eq!(parse(Path::new("n.csv"), text.as_bytes()).unwrap(), [old]);
    }

    #[test]
    fn nodules_survive_the_table() {
        let unknown = ReferenceNodule { volume_mm3: None, kind: None, malignant: None, excluded: true, ..nodule("b") };
        let stable = ReferenceNodule { doubling_days: Some(f64::INFINITY), ..nodule("c") };
        let nodules = vec![nodule("a"), unknown, stable];
        assert_eq!(parse(Path::new("n.csv"), &nodules_csv(&nodules)).unwrap(), nodules);
        assert_eq!(parse(Path::new("n.csv"), &nodules_csv(&[])).unwrap(), []);
    }

    #[test]
    fn a_bad_row_is_named_by_its_line() {
        let good = String::from_utf8(nodules_csv(&[nodule("a"), nodule("b")])).unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(Path::new("n.csv"), text.as_bytes()).unwrap_err().to_string(), expected);
        };
        check(&good.replace("\nb,", "\na,"), "n.csv, line 3: id `a` occurs twice");
        check(&good.replacen("8.25", "-1", 1), "n.csv, line 2: diameter_mm -1 must be positive");
        check(&good.replacen("8.25", "NaN", 1), "n.csv, line 2: diameter_mm NaN must be positive");
        check(
            &good.replacen("part-solid", "soft", 1),
            "n.csv, line 2: kind `soft` is none of solid, part-solid, ground-glass, calcified",
        );
        check(
            &good.replacen("right-middle", "middle", 1),
            "n.csv, line 2: lobe `middle` is none of right-upper, right-middle, right-lower, left-upper, left-lower",
        );
        check(&good.replacen(",0.25,", ",25,", 1), "n.csv, line 2: malignancy_probability 25 must be within 0..=1");
        check(&good.replacen("x_lps_mm", "x_mm", 1), "n.csv, line 1: column `x_lps_mm` is missing");
        check(&good.replacen(",false", "", 1), "n.csv, line 2: 14 cells where the header has 15");
        check(
            &good.replacen("149.5", "0", 1),
            "n.csv, line 2: doubling_days 0 is no time; a nodule that does not change has inf",
        );
    }
}
