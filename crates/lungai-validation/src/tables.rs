//! Tables beside the results: one line for each scan, mark and reference finding.
//!
//! Marks and findings have LUNA16's columns first, so that any other program can score them again.

use crate::failure::{Failure, io};
use crate::protocol::Protocol;
use crate::record::{ScanRecord, Seconds};
use crate::report::no_formula;
use crate::results::outcomes;
use lungai_metrics::matching::MarkOutcome;
use polars::prelude::{Column, DataFrame, df};
use polars_io::SerWriter;
use polars_io::csv::write::CsvWriter;
use polars_io::parquet::write::ParquetWriter;
use std::fs::File;
use std::path::Path;

/// Writes `per_scan` and `marks` as CSV and Parquet, and `annotations.csv`, `annotations_excluded.csv`, `seriesuids.csv`
/// as LUNA16 has them. Where the images are synthetic, every line with a column of its own says so.
///
/// # Errors
/// A file that cannot be written.
pub fn write(
    protocol: &Protocol,
    records: &[ScanRecord],
    threshold: f64,
    synthetic: bool,
    folder: &Path,
) -> Result<(), Failure> {
    let said = |frame: DataFrame| -> Result<DataFrame, Failure> {
        let column = synthetic.then(|| Column::new("data".into(), vec!["SYNTHETIC"; frame.height()]));
        column.map_or(Ok(frame.clone()), |column| frame.hstack(&[column]).map_err(table))
    };
    both(said(per_scan(records)?)?, folder, "per_scan")?;
    both(said(marks(protocol, records, threshold)?)?, folder, "marks")?;
    for (name, excluded) in [("annotations", false), ("annotations_excluded", true)] {
        csv(&mut said(findings(records, excluded)?)?, &folder.join(format!("{name}.csv")))?;
    }
    let list: String = records.iter().map(|r| format!("{}\n", r.case)).collect();
    let path = folder.join("seriesuids.csv");
    std::fs::write(&path, list).map_err(io(&path))
}

fn per_scan(records: &[ScanRecord]) -> Result<DataFrame, Failure> {
    let text = |f: &dyn Fn(&ScanRecord) -> &str| records.iter().map(|r| f(r).to_owned()).collect::<Vec<String>>();
    let seconds =
        |f: &dyn Fn(&Seconds) -> Option<f64>| records.iter().map(|r| f(r.seconds.as_ref()?)).collect::<Vec<_>>();
    let side = |i: usize, f: &dyn Fn(&crate::record::Side) -> Option<f64>| {
        records.iter().map(|r| f(&r.lungs?[i])).collect::<Vec<Option<f64>>>()
    };
    let count = |f: &dyn Fn(&ScanRecord) -> usize| records.iter().map(|r| f(r) as u32).collect::<Vec<u32>>();
    df!(
        "case" => text(&|r| &r.case),
        "patient" => text(&|r| &r.patient),
        "centre" => text(&|r| &r.centre),
        "quality" => text(&|r| &r.quality),
        "quality_rules" => records.iter().map(|r| r.quality_rules.join(" ")).collect::<Vec<String>>(),
        "nodules" => count(&|r| r.nodules.iter().filter(|n| !n.excluded).count()),
        "marks" => count(&|r| r.marks.len()),
        "dice_right" => side(0, &|s| Some(s.dice)),
        "dice_left" => side(1, &|s| Some(s.dice)),
        "hd95_right_mm" => side(0, &|s| s.hd95_mm),
        "hd95_left_mm" => side(1, &|s| s.hd95_mm),
        "surface_dice_right" => side(0, &|s| Some(s.surface_dice)),
        "surface_dice_left" => side(1, &|s| Some(s.surface_dice)),
        "load_s" => seconds(&|s| s.load),
        "preprocess_s" => seconds(&|s| Some(s.preprocess)),
        "segment_s" => seconds(&|s| Some(s.segment)),
        "detect_s" => seconds(&|s| Some(s.detect)),
        "classify_s" => seconds(&|s| Some(s.classify)),
        "total_s" => seconds(&|s| s.total),
    )
    .map_err(table)
}

fn marks(protocol: &Protocol, records: &[ScanRecord], threshold: f64) -> Result<DataFrame, Failure> {
    let (mut case, mut reader, mut outcome, mut nodule) = (vec![], vec![], vec![], vec![]);
    let mut position: [Vec<f64>; 3] = Default::default();
    let (mut score, mut diameter, mut malignancy, mut operating) = (vec![], vec![], vec![], vec![]);
    for record in records {
        let baseline = record.baseline.as_deref().unwrap_or_default();
        for (name, marks) in [("model", record.marks.as_slice()), ("baseline", baseline)] {
            let matched = outcomes(protocol, record, marks)?;
            for (mark, became) in marks.iter().zip(matched.outcomes) {
                let (word, place) = match became {
                    MarkOutcome::Hit(place) => ("hit", Some(place)),
                    MarkOutcome::Double(place) => ("double", Some(place)),
                    MarkOutcome::OnExcluded(place) => ("on-excluded", Some(place)),
                    MarkOutcome::FalsePositive => ("false-positive", None),
                    MarkOutcome::BeyondLimit => ("beyond-limit", None),
                };
                case.push(record.case.clone());
                position.iter_mut().zip(mark.position_lps_mm).for_each(|(column, mm)| column.push(mm));
                score.push(mark.score);
                diameter.push(mark.diameter_mm);
                malignancy.push(mark.malignancy);
                reader.push(name);
                outcome.push(word);
                nodule.push(place.map(|place| record.nodules[place].id.clone()));
                operating.push((name == "model").then_some(mark.score >= threshold));
            }
        }
    }
    let [x, y, z] = position;
    df!(
        "seriesuid" => case, "coordX" => x, "coordY" => y, "coordZ" => z, "probability" => score,
        "diameter_mm" => diameter, "malignancy" => malignancy, "system" => reader, "outcome" => outcome,
        "nodule" => nodule, "at_operating_point" => operating,
    )
    .map_err(table)
}

fn findings(records: &[ScanRecord], excluded: bool) -> Result<DataFrame, Failure> {
    let (mut case, mut id, mut kind) = (vec![], vec![], vec![]);
    let mut position: [Vec<f64>; 3] = Default::default();
    let (mut diameter, mut malignant) = (vec![], vec![]);
    for record in records {
        for nodule in record.nodules.iter().filter(|n| n.excluded == excluded) {
            case.push(record.case.clone());
            position.iter_mut().zip(nodule.position_lps_mm).for_each(|(column, mm)| column.push(mm));
            diameter.push(nodule.diameter_mm);
            id.push(nodule.id.clone());
            kind.push(nodule.kind.clone());
            malignant.push(nodule.malignant);
        }
    }
    let [x, y, z] = position;
    df!(
        "seriesuid" => case, "coordX" => x, "coordY" => y, "coordZ" => z, "diameter_mm" => diameter,
        "id" => id, "kind" => kind, "malignant" => malignant,
    )
    .map_err(table)
}

fn both(mut frame: DataFrame, folder: &Path, name: &str) -> Result<(), Failure> {
    csv(&mut frame.clone(), &folder.join(format!("{name}.csv")))?;
    let path = folder.join(format!("{name}.parquet"));
    ParquetWriter::new(File::create(&path).map_err(io(&path))?).finish(&mut frame).map_err(io(&path))?;
    Ok(())
}

fn csv(frame: &mut DataFrame, path: &Path) -> Result<(), Failure> {
    let mut words = Vec::new();
    for column in frame.columns() {
        if let Ok(texts) = column.str() {
            let texts: Vec<Option<String>> =
                texts.iter().map(|text| text.map(|text| no_formula(text.into()))).collect();
            words.push(Column::new(column.name().clone(), texts));
        }
    }
    for column in words {
        frame.with_column(column).map_err(table)?;
    }
    CsvWriter::new(File::create(path).map_err(io(path))?).finish(frame).map_err(io(path))
}

fn table(error: polars::error::PolarsError) -> Failure {
    Failure::new("table", error.to_string())
}
