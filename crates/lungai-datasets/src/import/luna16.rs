//! LUNA16's tables (Setio et al., Medical Image Analysis 42, 2017): `seriesuid,coordX,coordY,coordZ,diameter_mm`, positions
//! in patient LPS mm as in the MetaImage headers, diameter -1 where nobody measured one.

use super::truth::{Marked, Truth, checked_diameter};
use crate::DatasetError;
use crate::error::name;
use crate::table::Table;
use lungai_ct::{ReferenceNodule, WorldPoint};
use std::path::Path;

const COLUMNS: [&str; 5] = ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"];

/// Reads both tables; a finding of the second is ignored in scoring.
pub(crate) fn read(
    annotations: &Path,
    excluded: Option<&Path>,
    finding_diameter_mm: f64,
) -> Result<Truth, DatasetError> {
    let mut truth = Truth::default();
    for (path, excluded) in [(Some(annotations), false), (excluded, true)] {
        let Some(path) = path else { continue };
        for row in Table::read(path, &COLUMNS, &[])?.rows() {
            let diameter = row.number("diameter_mm")?;
            let unmeasured = excluded && diameter < 0.0;
            let diameter_mm = if unmeasured { finding_diameter_mm } else { checked_diameter(&row, diameter)? };
            let position = WorldPoint([row.number("coordX")?, row.number("coordY")?, row.number("coordZ")?]);
            let nodule = ReferenceNodule { excluded, ..ReferenceNodule::at(position, diameter_mm) };
            let series = row.text("seriesuid");
            if series.is_empty() {
                return Err(row.refuse("seriesuid is empty".into()));
            }
            truth.add(series, Marked { nodule, file: name(path), line: row.line });
        }
    }
    Ok(truth)
}

#[cfg(test)]
mod tests {
    use super::super::truth::Named;
    use super::*;
    use lungai_trace::verifies;
    use std::path::PathBuf;

    #[verifies("FR-001")]
    #[test]
    fn the_published_tables_give_the_published_counts() {
        let Some(folder) = std::env::var_os("LUNGAI_REFERENCE_DATA").map(PathBuf::from) else {
            lungai_trace::not_evidenced("reference data absent");
            return;
        };
        let folder = folder.join("luna16");
        let truth =
            read(&folder.join("annotations.csv"), Some(&folder.join("annotations_excluded.csv.gz")), 10.0).unwrap();
        // Setio et al. 2017: 1,186 nodules in 888 scans, 601 of which have one; 35,192 irrelevant findings.
        let marked = || truth.by_series.values().flat_map(|named| &named.marked);
        assert_eq!(marked().filter(|m| !m.nodule.excluded).count(), 1186);
        assert_eq!(marked().filter(|m| m.nodule.excluded).count(), 35_192);
        let with_nodule = |named: &&Named| named.marked.iter().any(|m| !m.nodule.excluded);
        assert_eq!((truth.by_series.len(), truth.by_series.values().filter(with_nodule).count()), (888, 601));
        let first = &truth.by_series["1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"].marked[0];
        assert_eq!(first.nodule.position, WorldPoint([-128.6994211, -175.3192718, -298.3875064]));
        assert_eq!((first.line, first.nodule.diameter_mm), (2, 5.651470635));
    }

    #[test]
    fn a_diameter_in_centimetres_is_refused_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("annotations.csv");
        std::fs::write(&file, "seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3,5.6\na,1,2,3,0.56\n").unwrap();
        let error = read(&file, None, 10.0).unwrap_err();
        assert_eq!(error.rule(), "wrong-unit");
        assert_eq!(
            error.to_string(),
            "annotations.csv, line 3: a diameter of 0.56 mm is no nodule's (1 to 200 mm); is the table in cm?"
        );
        // What nobody measured has a diameter of -1 among the ignored findings only.
        std::fs::write(&file, "seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3,-1\n").unwrap();
        assert_eq!(read(&file, None, 10.0).unwrap_err().rule(), "wrong-unit");
    }
}
