use super::*;
use crate::record::{FlowStep, ReaderMark, Reading, Rejected, ScanRecord, Tally};
use crate::results::{evaluate, tests as of_results};
use lungai_ct::{Geometry, Spacing, Volume, WorldPoint};
use lungai_trace::verifies;
use ndarray::Array3;

fn facts(synthetic: bool) -> Facts {
    Facts {
        protocol: "p 1".into(),
        purpose: "to test <reports>".into(),
        protocol_sha256: "01".repeat(32),
        canonical_sha256: "02".repeat(32),
        standing: Standing::Exploratory,
        model: "demo 1".into(),
        model_name: "demo".into(),
        model_version: "1".into(),
        model_sha256: "03".repeat(32),
        model_synthetic: synthetic,
        data_set: "phantom 1".into(),
        manifest_sha256: "04".repeat(32),
        data_fingerprint: "05".repeat(32),
        tables: BTreeMap::from([("readings/r1.csv".into(), "08".repeat(32))]),
        predictions_sha256: "06".repeat(32),
        program_sha256: "07".repeat(32),
        synthetic,
        device: "CPU".into(),
        operating_point: "default".into(),
        percent: 95.0,
    }
}

/// The four scans of the results' tests, of six with eight nodules in the test split.
fn collected(records: Vec<ScanRecord>) -> Collected {
    let tally = |scans, nodules| Tally { scans, patients: scans, nodules: Some(nodules) };
    let step = |id: &str, out, left| FlowStep { id: id.into(), reason: format!("because of {id}"), out, left };
    Collected {
        flow: vec![
            step("test-split", tally(0, 0), tally(6, 8)),
            step("slice-thickness", tally(1, 1), tally(5, 7)),
            step("quality-gate", tally(1, 1), tally(4, 6)),
            step("analysed", tally(0, 0), tally(4, 6)),
        ],
        rejected: vec![Rejected {
            case: "c9".into(),
            centre: "coast-hospital".into(),
            nodules: 1,
            reason: "noise".into(),
        }],
        records,
        of_other_centres: 0,
        without_reference: 0,
    }
}

fn with_readers(mut records: Vec<ScanRecord>) -> Vec<ScanRecord> {
    for record in &mut records {
        for reader in ["r1", "r2"] {
            let mark = |n: &crate::record::Nodule| ReaderMark {
                position_lps_mm: n.position_lps_mm,
                diameter_mm: n.diameter_mm,
                malignancy: Some(if n.malignant == Some(true) { 5 } else { 2 }),
            };
            let marks = record.nodules.iter().map(mark).collect();
            record.readings.push(Reading { reader: reader.into(), marks });
        }
    }
    records
}

fn small_volume() -> Volume {
    let direction = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let spacing = Spacing::new([4.0; 3]).unwrap();
    let geometry = Geometry::new([10, 10, 10], spacing, WorldPoint([-20.0; 3]), direction).unwrap();
    Volume::new(Array3::from_elem((10, 10, 10), -900), geometry).unwrap()
}

/// Writes a report; gives what was checked.
fn written(synthetic: bool, records: Vec<ScanRecord>, images: bool, folder: &Path) -> Result<Checked, Failure> {
    let mut protocol = of_results::protocol();
    protocol.reference_standard.reader_agreement = true;
    protocol.reference_standard.ai_reader_agreement = true;
    if !synthetic {
        protocol.reference_standard.readings.clear();
    }
    let collected = collected(records);
    let results = evaluate(&protocol, &collected.records, &collected.rejected, 0.5)?;
    let (facts, image) = (facts(synthetic), |_: &str| images.then(small_volume));
    let subject =
        Subject { facts: &facts, protocol: &protocol, collected: &collected, results: &results, image: &image };
    write(&subject, folder)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[test]
fn a_report_on_synthetic_data_says_so_on_every_page_figure_and_table() {
    let folder = tempfile::tempdir().unwrap();
    let checked = written(true, with_readers(of_results::records()), true, folder.path()).unwrap();
    assert!(checked.statements > 100 && checked.tables > 15 && checked.relations() > 200, "{checked:?}");
    let all = files(folder.path());
    let ending = |e: &str| all.iter().filter(|f| f.extension().is_some_and(|x| x == e)).count();
    assert!(
        ending("html") == 2 && ending("md") == 2 && ending("xlsx") == 2 && ending("csv") > 30 && ending("svg") > 20
    );
    for file in all.iter().filter(|f| ["html", "md", "svg", "csv", "json"].iter().any(|e| f.extension().unwrap() == *e))
    {
        let text = std::fs::read_to_string(file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy();
        if name.ends_with(".csv") {
            assert!(text.lines().skip(1).all(|line| line.ends_with(",SYNTHETIC")), "{name}");
        } else {
            assert!(text.contains("SYNTHETIC"), "{name}");
        }
        assert!(!text.contains("http://") || name.ends_with(".svg") || name.ends_with(".html"), "{name}");
    }
}

#[test]
fn the_page_needs_no_network_and_both_languages_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    written(true, with_readers(of_results::records()), true, folder.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (en, zh) = (read("report.html"), read("report.zh.html"));
    for page in [&en, &zh] {
        // The only address is the namespace of SVG.
        assert_eq!(page.matches("http").count(), page.matches("http://www.w3.org/2000/svg").count());
        assert!(!page.contains("<script") && !page.contains("<link") && page.contains("data:image/png;base64,"));
        assert_eq!(page.matches("<section").count(), page.matches("</section>").count());
    }
    assert!(
        en.contains("lang=\"en\"") && en.contains("Primary endpoints: NOT MET") && en.contains("Random effects over 2")
    );
    assert!(
        zh.contains("lang=\"zh-CN\"")
            && zh.contains("主要终点：未达到")
            && zh.contains("随机效应")
            && zh.contains("漏检")
    );
    let count = |page: &str, tag: &str| page.matches(tag).count();
    for tag in ["<table>", "<figure>", "<h2 ", "<tr>", "<img "] {
        assert_eq!(count(&en, tag), count(&zh, tag), "{tag}");
    }
    // What comes from a protocol is text and never markup.
    assert!(!en.contains("<reports>"));
    let mut names: Vec<_> = files(&folder.path().join("tables"));
    names.retain(|f| f.parent().unwrap().ends_with("tables"));
    assert_eq!(names.len(), count(&en, "<table>"), "each table is a file");
}

#[test]
fn real_data_are_not_called_synthetic_and_what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = of_results::records();
    for record in &mut records {
        (record.seconds, record.lungs) = (None, None);
    }
    written(false, records, false, folder.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let text = read("report.md");
    assert!(!text.contains("SYNTHETIC") && !read("tables/centres.csv").contains("SYNTHETIC"));
    for said in [
        "Not available: the protocol names no tables of readers' marks",
        "The images are not at hand, so there are no slices",
        "Not measured: the predictions were made elsewhere",
        "no analysed scan has a reference mask of the lungs",
        "EXPLORATORY",
        "By sex: not known of any scan or nodule",
    ] {
        assert!(text.contains(said), "{said}");
    }
}

#[verifies("SW-1106")]
#[test]
fn a_report_that_contradicts_itself_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let protocol = of_results::protocol();
    let collected = collected(of_results::records());
    let mut results = evaluate(&protocol, &collected.records, &collected.rejected, 0.5).unwrap();
    results.detection.found += 1;
    let (facts, image) = (facts(true), |_: &str| None);
    let subject =
        Subject { facts: &facts, protocol: &protocol, collected: &collected, results: &results, image: &image };
    let failure = write(&subject, folder.path()).unwrap_err();
    assert_eq!(failure.rule, "incoherent-report");
    assert!(failure.message.contains("sensitivity of `scored nodules` in `detection`: 5 of 6"), "{}", failure.message);
    assert!(!folder.path().join("report.html").exists() && !folder.path().join("tables").exists());
}

#[test]
fn the_claims_of_a_report_can_be_checked_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let checked = written(true, of_results::records(), false, folder.path()).unwrap();
    let again = coherence::check(&coherence::read(&folder.path().join("statements.json")).unwrap());
    assert_eq!(again, checked);
}

#[test]
fn the_same_results_give_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&a, &b] {
        written(true, of_results::records(), true, folder.path()).unwrap();
    }
    let (left, right) = (files(a.path()), files(b.path()));
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(std::fs::read(left).unwrap(), std::fs::read(right).unwrap(), "{}", left.display());
    }
}
