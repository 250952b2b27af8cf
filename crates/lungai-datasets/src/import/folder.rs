//! A hospital's own set: series in folders, and one table of nodules whose columns are given a meaning one by one.

use super::truth::{Marked, Truth, checked_diameter};
use crate::DatasetError;
use crate::annotations::parse_lines;
use crate::error::name;
use crate::import::found::stem;
use crate::table::{Row, Table};
use crate::write::read_whole;
use lungai_ct::{NoduleKind, ReferenceNodule, WorldPoint};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the columns of a table mean. A column that is neither named here nor in `ignore` is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Series Instance UID, or the image file's name without its ending.
    pub series: String,
    /// Centre of the nodule.
    pub position: Position,
    /// Diameter.
    pub diameter: Diameter,
    /// Name of the nodule, unique within its series; null: they are numbered.
    pub id: Option<String>,
    /// `solid`, `part-solid`, `ground-glass` or `calcified`; null: unknown.
    pub kind: Option<String>,
    /// Malignant or benign; null: unknown.
    pub malignant: Option<YesNoColumn>,
    /// Spiculation, `0..=1`; null: unknown.
    pub spiculation: Option<String>,
    /// Whether scoring ignores the finding; null: none is ignored.
    pub excluded: Option<YesNoColumn>,
    /// Columns to pass over.
    pub ignore: Vec<String>,
}

/// Three columns and what their numbers mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Columns of x, y and z.
    pub columns: [String; 3],
    /// What they count.
    pub frame: Frame,
}

/// What three numbers of a position count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frame {
    /// Patient mm along DICOM's axes: left, posterior, superior (ITK, LUNA16).
    LpsMm,
    /// Patient mm: right, anterior, superior (NIfTI, 3D Slicer).
    RasMm,
    /// Voxels from 0: column, row, slice from the feet upwards.
    VoxelXyz,
}

/// A column of diameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diameter {
    /// Its name.
    pub column: String,
    /// Its unit.
    pub unit: LengthUnit,
}

/// Unit of a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthUnit {
    /// Millimetres.
    Mm,
    /// Centimetres.
    Cm,
}

/// A column with words for yes and no; an empty cell is unknown, any other word is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YesNoColumn {
    /// Its name.
    pub column: String,
    /// Words for yes.
    pub yes: Vec<String>,
    /// Words for no.
    pub no: Vec<String>,
}

impl YesNoColumn {
    fn read(&self, row: &Row) -> Result<Option<bool>, DatasetError> {
        let word = row.text(&self.column);
        match (self.yes.iter().any(|w| w == word), self.no.iter().any(|w| w == word)) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ if word.is_empty() => Ok(None),
            _ => {
                let words = [&self.yes[..], &self.no[..]].concat().join(", ");
                Err(row.refuse(format!("{} `{word:.20}` is none of {words}", self.column)))
            }
        }
    }
}

/// Reads a table with `columns`.
pub(crate) fn read_table(path: &Path, columns: &Columns) -> Result<Truth, DatasetError> {
    let Columns { series, position, diameter, id, kind, malignant, spiculation, excluded, ignore } = columns;
    let mut required = vec![series.as_str(), diameter.column.as_str()];
    required.extend(position.columns.iter().map(String::as_str));
    required.extend([id, kind, spiculation].into_iter().flatten().map(String::as_str));
    required.extend([malignant, excluded].into_iter().flatten().map(|c| c.column.as_str()));
    let known: Vec<&str> = ignore.iter().map(String::as_str).collect();
    let mut truth = Truth { in_voxels: position.frame == Frame::VoxelXyz, ..Truth::default() };
    for row in Table::read(path, &required, &known)?.rows() {
        let [x, y, z] = &position.columns;
        let [x, y, z] = [row.number(x)?, row.number(y)?, row.number(z)?];
        let factor = match diameter.unit {
            LengthUnit::Mm => 1.0,
            LengthUnit::Cm => 10.0,
        };
        let word = kind.as_deref().map_or("", |column| row.text(column));
        let kind = match NoduleKind::from_name(word) {
            None if !word.is_empty() => {
                let reason = format!("kind `{word:.20}` is none of solid, part-solid, ground-glass, calcified");
                return Err(row.refuse(reason));
            }
            kind => kind,
        };
        let spiculation = spiculation.as_deref().map_or(Ok(None), |column| row.optional(column))?;
        if let Some(value) = spiculation.filter(|v| !(0.0..=1.0).contains(v)) {
            return Err(row.refuse(format!("spiculation {value} must be within 0..=1")));
        }
        let yes_no = |column: &Option<YesNoColumn>| column.as_ref().map_or(Ok(None), |column| column.read(&row));
        let position = match position.frame {
            Frame::LpsMm | Frame::VoxelXyz => WorldPoint([x, y, z]),
            Frame::RasMm => WorldPoint([-x, -y, z]),
        };
        let diameter_mm = checked_diameter(&row, factor * row.number(&diameter.column)?)?;
        let nodule = ReferenceNodule {
            id: id.as_deref().map_or("", |column| row.text(column)).to_owned(),
            kind,
            malignant: yes_no(malignant)?,
            spiculation,
            excluded: yes_no(excluded)?.unwrap_or(false),
            ..ReferenceNodule::at(position, diameter_mm)
        };
        let series = row.text(series);
        if series.is_empty() {
            return Err(row.refuse("the series' name is empty".into()));
        }
        truth.add(series, Marked { nodule, file: name(path), line: row.line });
    }
    Ok(truth)
}

/// Reads a folder of tables in this project's own format, one per series, `SERIES.csv`.
pub(crate) fn read_folder(folder: &Path) -> Result<Truth, DatasetError> {
    let mut truth = Truth::default();
    let mut tables: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(DatasetError::io(folder))?;
    tables
        .retain(|path| path.extension().is_some_and(|e| e == "csv") && !name(path).starts_with('.') && path.is_file());
    tables.sort();
    for (path, number) in tables.iter().zip(1..) {
        // It is called after its image, which may be called after a patient.
        let file = format!("table {number} of {} by sorted name", tables.len());
        let lines =
            read_whole(path).and_then(|bytes| parse_lines(path, &bytes)).map_err(|error| error.naming(&file))?;
        // An empty table says that the series has no nodule.
        truth.named(&stem(path), &file, 1);
        for (line, nodule) in lines {
            truth.add(&stem(path), Marked { nodule, file: file.clone(), line });
        }
    }
    Ok(truth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn columns() -> Columns {
        Columns {
            series: "seriesuid".into(),
            position: Position { columns: ["coord_x", "coord_y", "coord_z"].map(str::to_owned), frame: Frame::LpsMm },
            diameter: Diameter { column: "diameter_mm".into(), unit: LengthUnit::Mm },
            id: None,
            kind: None,
            malignant: Some(YesNoColumn {
                column: "is_malignant".into(),
                yes: vec!["True".into()],
                no: vec!["False".into()],
            }),
            spiculation: None,
            excluded: None,
            ignore: [
                "malignant_details",
                "bboxLowX",
                "bboxLowY",
                "bboxLowZ",
                "bboxHighX",
                "bboxHighY",
                "bboxHighZ",
                "len_mal_details",
            ]
            .map(str::to_owned)
            .into(),
        }
    }

    fn table(text: &str, columns: &Columns) -> Result<Truth, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.csv");
        std::fs::write(&file, text).unwrap();
        read_table(&file, columns)
    }

    #[test]
    fn a_table_of_another_group_is_read_by_its_own_columns() {
        let Some(folder) = std::env::var_os("LUNGAI_REFERENCE_DATA").map(PathBuf::from) else {
            lungai_trace::not_evidenced("reference data absent");
            return;
        };
        let path = folder.join("lidc/annotations_with_malignancy.csv");
        let truth = read_table(&path, &columns()).unwrap();
        let nodules: Vec<_> = truth.by_series.values().flat_map(|named| &named.marked).map(|m| &m.nodule).collect();
        // Counted with Python's csv module: 1,182 lines; the first is malignant.
        assert_eq!(nodules.len(), 1182);
        let first = &truth.by_series["1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"].marked[0];
        assert_eq!((first.line, first.nodule.malignant), (2, Some(true)));
        // Without the list of columns to pass over, the first of them is refused.
        let error = read_table(&path, &Columns { ignore: Vec::new(), ..columns() }).unwrap_err();
        assert_eq!(error.rule(), "unknown-column");
        assert!(error.to_string().contains("line 1: column `malignant_details` is none of"), "{error}");
    }

    #[test]
    fn units_and_frames_are_what_the_configuration_says() {
        let text = "seriesuid,coord_x,coord_y,coord_z,diameter_mm,is_malignant\na,1,2,3,0.8,\n";
        let in_cm = Columns { diameter: Diameter { unit: LengthUnit::Cm, ..columns().diameter }, ..columns() };
        let nodule = &table(text, &in_cm).unwrap().by_series["a"].marked[0].nodule;
        assert_eq!((nodule.diameter_mm, nodule.malignant, nodule.position), (8.0, None, WorldPoint([1.0, 2.0, 3.0])));
        assert_eq!(table(text, &columns()).unwrap_err().rule(), "wrong-unit");
        let ras = Columns { position: Position { frame: Frame::RasMm, ..columns().position }, ..in_cm };
        assert_eq!(table(text, &ras).unwrap().by_series["a"].marked[0].nodule.position, WorldPoint([-1.0, -2.0, 3.0]));
    }

    #[test]
    fn a_word_that_is_neither_yes_nor_no_is_refused_by_line() {
        let text = "seriesuid,coord_x,coord_y,coord_z,diameter_mm,is_malignant\na,1,2,3,8,maybe\n";
        let error = table(text, &columns()).unwrap_err();
        assert_eq!(error.to_string(), "t.csv, line 2: is_malignant `maybe` is none of True, False");
    }
}
