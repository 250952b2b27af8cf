//! The binary against published data and the figures that other programs computed from it.
//!
//! The data are read from the folder in `LUNGAI_REFERENCE_DATA`; where it is unset nothing is shown.

#![allow(clippy::unwrap_used)]

use lungai_ct::WorldPoint;
use lungai_metrics::bootstrap::{Draws, froc_intervals};
use lungai_metrics::froc::{CPM_RATES, Interpolation, froc};
use lungai_metrics::matching::{Lesion, Mark, MatchRule};
use lungai_trace::verifies;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("LUNGAI_REFERENCE_DATA").map(PathBuf::from);
    if folder.is_none() {
        lungai_trace::not_evidenced("reference data absent");
    }
    folder
}

fn stats(arguments: &[&str]) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_lungai-stats")).args(arguments).arg("--json").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn json(path: &Path) -> Value {
    // R's tables hold NaN where a cell has no meaning; JSON knows no such number.
    serde_json::from_str(&std::fs::read_to_string(path).unwrap().replace("NaN", "null")).unwrap()
}

/// A text file, unpacked where its name ends in `.gz`.
fn text(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let mut text = String::new();
    if path.extension().is_some_and(|e| e == "gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    } else {
        file.read_to_string(&mut text).unwrap();
    }
    text
}

fn close(got: &Value, expected: &Value, tolerance: f64) {
    let (got, expected) = (got.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((got - expected).abs() <= tolerance, "{got} against {expected}");
}

fn path(folder: &Path, file: &str) -> String {
    folder.join(file).to_str().unwrap().to_owned()
}

fn froc_of_88_scans(folder: &Path, more: &[&str]) -> Value {
    let files = ["annotations.csv", "annotations_excluded.csv.gz", "val9_sid.csv"].map(|f| path(folder, f));
    let marks = path(folder, "res18_focal_all/luna_submission_res18_focal_all.csv");
    let mut arguments = vec!["froc", "--annotations", &files[0], "--excluded", &files[1], "--seriesuids", &files[2]];
    arguments.extend(["--submission", &marks]);
    arguments.extend(more);
    stats(&arguments)
}

#[verifies("FR-004")]
#[test]
fn a_luna16_submission_gets_the_official_scripts_digits() {
    let Some(folder) = data().map(|d| d.join("luna16")) else { return };
    let out = froc_of_88_scans(&folder, &["--bootstrap", "1000", "--seed", "0"]);
    let expected = json(&folder.join("res18_focal_all/expected.json"));
    close(&out["cpm"], &expected["CPM"], 1e-14);
    for (rate, sensitivity) in expected["sens_at"].as_object().unwrap() {
        close(&out["sensitivity_at"][rate], sensitivity, 1e-14);
    }
    // Of the rates, only these are points of the grid on which the script takes its bootstrap limits.
    for rate in ["0.125", "1", "8"] {
        close(&out["ci95"][rate][0], &expected["boot_lb"][rate], 6e-8); // its replicates are in single precision
        close(&out["ci95"][rate][1], &expected["boot_ub"][rate], 6e-8);
    }
    let counts = &out["counts"];
    let names = ["true_positives", "false_positives", "false_negatives", "ignored_on_excluded", "doubles", "nodules"];
    assert_eq!(names.map(|name| counts[name].as_u64().unwrap()), [104, 986, 1, 358, 51, 105]);
    assert_eq!(counts["scans"], 88);
}

#[verifies("FR-004")]
#[test]
fn the_whole_curve_is_the_official_one() {
    let Some(folder) = data().map(|d| d.join("luna16")) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let curve = path(scratch.path(), "curve.csv");
    froc_of_88_scans(&folder, &["--curve", &curve]);
    let ours: Vec<[f64; 3]> = std::fs::read_to_string(&curve)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
            [cells[1], cells[2], cells[0]]
        })
        .collect();
    // The script's file leaves out points on a straight line between their neighbours, from the first mark on.
    let keep = |i: usize| {
        i <= 1 || i + 1 == ours.len() || {
            let bend = |k: usize| (ours[i + 1][k] - 2.0 * ours[i][k] + ours[i - 1][k]).abs() > 1e-12;
            bend(0) || bend(1)
        }
    };
    let lines: Vec<String> = (0..ours.len())
        .filter(|i| keep(*i))
        .map(|i| format!("{:.9},{:.9},{:.9}", ours[i][0], ours[i][1], ours[i][2]))
        .collect();
    let expected = text(&folder.join("res18_focal_all/expected_froc_fps_sens_thr.csv.gz"));
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
}

#[verifies("FR-004")]
#[test]
fn bootstrap_limits_are_the_official_ones_on_the_official_grid() {
    let Some(folder) = data().map(|d| d.join("luna16")) else { return };
    // Read here once more, by the few lines that a script would take.
    let uids: Vec<String> = text(&folder.join("val9_sid.csv")).lines().map(|line| line.trim().to_owned()).collect();
    let mut scans: Vec<(Vec<Mark>, Vec<Lesion>)> = vec![(vec![], vec![]); uids.len()];
    for (i, file) in
        ["annotations.csv", "annotations_excluded.csv.gz", "res18_focal_all/luna_submission_res18_focal_all.csv"]
            .iter()
            .enumerate()
    {
        for line in text(&folder.join(file)).lines().skip(1) {
            let (uid, numbers) = line.split_once(',').unwrap();
            let n: Vec<f64> = numbers.split(',').map(|cell| cell.parse().unwrap()).collect();
            let Some(scan) = uids.iter().position(|listed| listed == uid) else { continue };
            let position = WorldPoint([n[0], n[1], n[2]]);
            match i {
                2 => scans[scan].0.push(Mark { position, score: n[3] }),
                _ => scans[scan].1.push(Lesion { position, diameter_mm: n[3], excluded: i == 1 }),
            }
        }
    }
    let froc = froc(&scans, &MatchRule::LUNA16).unwrap();
    let draws = Draws::of_scans(scans.len(), 1000, 0).unwrap();
    let step = (8.0 - 0.125) / 9999.0; // numpy.linspace(0.125, 8, 10000)
    // expected.json reads the seven rates off that grid's limits, on the line between neighbours.
    let below = CPM_RATES.map(|rate| ((rate - 0.125) / step).floor().min(9998.0));
    let neighbours: Vec<f64> = below.iter().flat_map(|i| [0.125 + i * step, 0.125 + (i + 1.0) * step]).collect();
    let limits = froc_intervals(&froc, &draws, &neighbours, Interpolation::Luna16, 0.95).unwrap();
    let expected = json(&folder.join("res18_focal_all/expected.json"));
    for (i, rate) in CPM_RATES.iter().enumerate() {
        let share = (rate - 0.125) / step - below[i];
        let between = |value: &dyn Fn(usize) -> f64| (value(2 * i) + share * (value(2 * i + 1) - value(2 * i))).into();
        let name = rate.to_string();
        close(&between(&|k| limits.intervals[k][0]), &expected["boot_lb"][&name], 6e-8);
        close(&between(&|k| limits.intervals[k][1]), &expected["boot_ub"][&name], 6e-8);
        close(&between(&|k| limits.mean[k]), &expected["boot_mean"][&name], 1e-6); // summed in single precision there
    }

    // The authors' own run has an unknown seed: equal within the noise of 1000 replicates.
    let theirs =
        text(&folder.join("res18_focal_all/authors_froc_luna_submission_res18_focal_all_bootstrapping.csv.gz"));
    let rows: Vec<Vec<f64>> =
        theirs.lines().skip(1).step_by(50).map(|l| l.split(',').map(|c| c.parse().unwrap()).collect()).collect();
    let rates: Vec<f64> = rows.iter().map(|row| row[0]).collect();
    let limits = froc_intervals(&froc, &draws, &rates, Interpolation::Luna16, 0.95).unwrap();
    for (i, row) in rows.iter().enumerate() {
        close(&limits.mean[i].into(), &row[1].into(), 0.006);
        close(&limits.intervals[i][0].into(), &row[2].into(), 0.03);
        close(&limits.intervals[i][1].into(), &row[3].into(), 0.02);
    }
}

#[verifies("FR-004")]
#[test]
fn patients_are_drawn_whole() {
    let Some(folder) = data().map(|d| d.join("luna16")) else { return };
    // LIDC-IDRI has one scan for nearly every patient. Of two made-up patients with half of the scans each there are but three
    // different samples, so that the ends of the interval are those of the halves, whatever the seed.
    let list = std::fs::read_to_string(folder.join("val9_sid.csv")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let check = |patient: &dyn Fn(usize) -> usize, seed: &str| {
        let lines = list.lines().enumerate().map(|(i, uid)| format!("{},p{}\n", uid.trim(), patient(i)));
        let file = scratch.path().join("patients.csv");
        std::fs::write(&file, "seriesuid,patient\n".to_owned() + &lines.collect::<String>()).unwrap();
        let out =
            froc_of_88_scans(&folder, &["--bootstrap", "500", "--seed", seed, "--patients", file.to_str().unwrap()]);
        assert_eq!(out["bootstrap"]["unit"], "patient");
        [0, 1].map(|end| out["cpm_ci95"][end].as_f64().unwrap())
    };
    let single = check(&|i| i, "1");
    assert!((0.08..0.15).contains(&(single[1] - single[0])), "{single:?}");
    assert_ne!(single, check(&|i| i, "2"));
    let halves = check(&|i| i / 44, "1");
    assert!(halves[0] < halves[1], "{halves:?}");
    assert_eq!(halves, check(&|i| i / 44, "2"));
}

#[verifies("FR-005")]
#[test]
fn auc_and_its_test_agree_with_proc() {
    let Some(folder) = data().map(|d| d.join("stats/aSAH")) else { return };
    let csv = path(&folder, "aSAH.csv");
    let expected = json(&folder.join("expected.json"));
    let (proc, own) = (&expected["values_from_pROC_test_suite"], &expected["recomputed_independently"]);
    for (a, b) in [("wfns", "s100b"), ("wfns", "ndka"), ("ndka", "s100b")] {
        let out =
            stats(&["roc", "--csv", &csv, "--label", "outcome", "--positive", "Poor", "--score", a, "--score", b]);
        for score in [a, b] {
            close(&out["scores"][score]["auc"], &own[score]["auc"], 1e-14);
            close(&out["scores"][score]["variance"], &proc["var"][score], 1e-16);
            close(&out["scores"][score]["ci95"][0], &own[score]["ci95"][0], 1e-13);
            close(&out["scores"][score]["ci95"][1], &own[score]["ci95"][1], 1e-13);
        }
        let test = &proc["paired_test"][format!("{a}-{b}")];
        close(&out["paired"]["z"], &test["Z"], 1e-12);
        close(&out["paired"]["p"], &test["p"], 1e-13);
        let apart = &proc["unpaired_test"][format!("{a}-{b}")];
        close(&out["unpaired"]["t"], &apart["D"], 1e-12);
        close(&out["unpaired"]["p"], &apart["p"], 1e-13);
        close(&out["paired"]["ci95"][0], &test["ci_diff"][0], 1e-12);
        close(&out["paired"]["ci95"][1], &test["ci_diff"][1], 1e-12);
    }
}

#[verifies("FR-005")]
#[test]
fn partial_areas_and_one_sided_tests_agree_with_proc() {
    let Some(folder) = data().map(|d| d.join("stats/aSAH")) else { return };
    let csv = path(&folder, "aSAH.csv");
    let proc = &json(&folder.join("expected.json"))["values_from_pROC_test_suite"];
    let partial = |score: &str, part: &str, limits: &str| {
        let arguments =
            ["roc", "--csv", &csv, "--label", "outcome", "--positive", "Poor", "--score", score, part, limits];
        stats(&arguments)["scores"][score]["partial"]["auc"].clone()
    };
    for score in ["wfns", "ndka"] {
        close(&partial(score, "--partial-specificity", "0.9:1"), &proc["pauc_spec_1_to_0.9"][score], 1e-14);
        close(&partial(score, "--partial-specificity", "0.8:0.9"), &proc["pauc_spec_0.9_to_0.8"][score], 1e-14);
    }
    close(&partial("wfns", "--partial-sensitivity", "0.9:1"), &proc["pauc_sens_1_to_0.9"]["wfns"], 1e-14);
    let out = stats(&[
        "roc",
        "--csv",
        &csv,
        "--label",
        "outcome",
        "--positive",
        "Poor",
        "--score",
        "wfns",
        "--score",
        "s100b",
    ]);
    let sided = &proc["paired_one_sided_wfns-s100b"];
    close(&out["paired"]["p_greater"], &sided["greater"], 1e-13);
    close(&out["paired"]["p_less"], &sided["less"], 1e-13);
}

/// Every number of RJafroc's table `golden[analysis]`, column by column.
fn check_analysis(ours: &Value, golden: &Value, modalities: &[&str]) {
    let cell = |table: &str, row: usize, column: &str| -> Value {
        let columns = golden[table]["columns"].as_array().unwrap();
        match columns.iter().position(|name| name == column) {
            Some(place) => golden[table]["data"][row][place].clone(),
            None => Value::Null,
        }
    };
    let both = |got: &Value, expected: Value, tolerance: f64| {
        if !expected.is_null() {
            close(got, &expected, tolerance);
        }
    };
    let statistic = if golden["FTests"]["columns"].as_array().unwrap().contains(&"F".into()) { "F" } else { "FStat" };
    both(&ours["f"], cell("FTests", 0, statistic), 1e-11);
    both(&ours["chi2"], cell("FTests", 0, "Chisq"), 1e-11);
    both(&ours["p"], cell("FTests", 0, "p"), 1e-13);
    both(&ours["df"], cell("FTests", 0, "DF"), 0.0);
    if ours.get("ddf").is_some() {
        both(&ours["ddf"], cell("FTests", 1, "DF"), 1e-10);
    }
    let pair = &ours["differences"][0];
    both(&pair["difference"], cell("ciDiffTrt", 0, "Estimate"), 1e-14);
    both(&pair["standard_error"], cell("ciDiffTrt", 0, "StdErr"), 1e-14);
    both(&pair["t"], cell("ciDiffTrt", 0, "t"), 1e-11);
    both(&pair["z"], cell("ciDiffTrt", 0, "z"), 1e-11);
    both(&pair["ci"][0], cell("ciDiffTrt", 0, "CILower"), 1e-13);
    both(&pair["ci"][1], cell("ciDiffTrt", 0, "CIUpper"), 1e-13);
    for (row, name) in modalities.iter().enumerate() {
        let mean = &ours["means"][name];
        both(&mean["value"], cell("ciAvgRdrEachTrt", row, "Estimate"), 1e-14);
        both(&mean["standard_error"], cell("ciAvgRdrEachTrt", row, "StdErr"), 1e-14);
        both(&mean["ci"][0], cell("ciAvgRdrEachTrt", row, "CILower"), 1e-12);
        both(&mean["ci"][1], cell("ciAvgRdrEachTrt", row, "CIUpper"), 1e-12);
        if mean.get("df").is_some() {
            both(&mean["df"], cell("ciAvgRdrEachTrt", row, "DF"), 1e-9);
        }
    }
}

fn mrmc(folder: &Path, fom: &str, more: &[&str]) -> Value {
    let (truth, marks) = (path(folder, "truth.csv"), path(folder, "marks.csv"));
    let mut arguments = vec!["mrmc", "--truth", &truth, "--marks", &marks, "--fom", fom];
    arguments.extend(more);
    stats(&arguments)
}

#[verifies("FR-004")]
#[test]
fn a_reader_study_of_roc_ratings_has_the_digits_of_rjafroc_and_or_dbm() {
    let Some(folder) = data().map(|d| d.join("stats/vandyke_roc")) else { return };
    let expected = json(&folder.join("expected.json"));
    let golden = |name: &str| expected["rjafroc_golden"][name].clone();
    let out = mrmc(&folder, "auc", &[]);
    for (i, row) in expected["foms_independent_python"]["Wilcoxon"].as_array().unwrap().iter().enumerate() {
        for (j, figure) in row.as_array().unwrap().iter().enumerate() {
            close(&out["figures"][i.to_string()][j.to_string()], figure, 1e-14);
        }
    }
    for (ours, name) in
        [("or", "UtilOutputReport/dataset02-OR-Wilcoxon.rds"), ("dbm", "UtilOutputReport/dataset02-DBM-Wilcoxon.rds")]
    {
        for analysis in ["RRRC", "FRRC", "RRFC"] {
            check_analysis(&out[ours][analysis.to_lowercase()], &golden(name)[analysis], &["0", "1"]);
        }
        let readers = &golden(name)["FRRC"]["ciDiffTrtEachRdr"];
        for (j, row) in readers["data"].as_array().unwrap().iter().enumerate() {
            let row = row.as_array().unwrap();
            let own = &out[ours]["readers"][j.to_string()][0];
            close(&own["difference"], &row[0], 1e-14);
            close(&own["ci"][0], &row[row.len() - 2], 1e-13);
            close(&own["p"], &row[row.len() - 3], 1e-13);
        }
    }
    let keys = ["reader", "treatment_reader", "cov1", "cov2", "cov3", "var"];
    for (method, name) in [("jackknife", "JackknifeDataset02.rds"), ("delong", "DeLongDataset02.rds")] {
        let out = mrmc(&folder, "auc", &["--covariance", method]);
        let table = &golden(&format!("UtilVarComponents/{name}"))["VarCom"]["data"];
        for (i, key) in keys.iter().enumerate() {
            close(&out["or"]["components"][key], &table[i][0], 1e-16);
        }
    }
    let table = &golden("UtilVarComponents/DbmDataset02.rds")["VarCom"]["data"];
    for (i, key) in ["reader", "case", "treatment_reader", "treatment_case", "reader_case", "error"].iter().enumerate()
    {
        close(&out["dbm"]["components"][key], &table[i][0], 1e-14);
    }
    // OR-DBM MRMC 2.51 prints: F(1, 15.26) = 4.46, p 0.0517; X2 5.47595, p 0.0193.
    close(&out["or"]["frrc"]["chi2"], &5.47595.into(), 5e-6);
    close(&out["or"]["rrrc"]["ddf"], &15.26.into(), 5e-3);
}

#[verifies("FR-004")]
#[test]
fn a_reader_study_of_marked_lesions_has_the_digits_of_rjafroc() {
    let Some(folder) = data().map(|d| d.join("stats/tony_dbt_froc")) else { return };
    let expected = json(&folder.join("expected.json"));
    let foms = [
        ("hrauc", "HrAuc"),
        ("afroc", "AFROC"),
        ("wafroc", "wAFROC"),
        ("afroc1", "AFROC1"),
        ("wafroc1", "wAFROC1"),
        ("maxllf", "MaxLLF"),
        ("maxnlf", "MaxNLF"),
        ("hrse", "HrSe"),
        ("hrsp", "HrSp"),
    ];
    for (fom, name) in foms {
        let out = mrmc(&folder, fom, &[]);
        for (modality, row) in ["BT", "DM"].iter().zip(expected["foms_independent_python"][name].as_array().unwrap()) {
            for (j, figure) in row.as_array().unwrap().iter().enumerate() {
                close(&out["figures"][modality][(j + 1).to_string()], figure, 1e-13);
            }
        }
    }
    let out = mrmc(&folder, "wafroc", &[]);
    for (ours, name) in [("or", "SigTest/OR/dataset01.rds"), ("dbm", "SigTest/DBM/dataset01.rds")] {
        let golden = &expected["rjafroc_golden"][name];
        check_analysis(&out[ours]["rrrc"], &golden["RRRC"], &["BT", "DM"]);
    }
    let golden = &expected["rjafroc_golden"]["SigTest/DBM/dataset01.rds"]["ANOVA"]["TRCanova"]["data"];
    for (i, key) in ["t", "r", "c", "tr", "tc", "rc", "trc"].iter().enumerate() {
        close(&out["dbm"]["anova"][key]["ms"], &golden[i][2], 1e-12);
    }
}

fn kappa(rows: &[String]) -> Value {
    let scratch = tempfile::tempdir().unwrap();
    let file = path(scratch.path(), "ratings.csv");
    std::fs::write(&file, rows.join("\n")).unwrap();
    stats(&["kappa", "--csv", &file])
}

#[verifies("FR-004")]
#[test]
fn kappas_of_published_ratings_are_reproduced() {
    let Some(folder) = data().map(|d| d.join("stats")) else { return };
    let published = json(&folder.join("kappa/expected_published_kappa.json"));
    let of_1971 = published["fleiss_1971_diagnoses"]["rows_subjects_cols_raters"].as_array().unwrap();
    let mut rows = vec!["a,b,c,d,e,f".to_owned()];
    for subject in of_1971 {
        rows.push(subject.as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(","));
    }
    close(&kappa(&rows)["fleiss"], &published["fleiss_1971_diagnoses"]["kappa"], 5e-8);

    // Van Dyke's five readers, as scikit-learn and statsmodels computed it.
    let expected = json(&folder.join("kappa/expected_vandyke_roc.json"));
    let marks = std::fs::read_to_string(folder.join("vandyke_roc/marks.csv")).unwrap();
    for modality in ["0", "1"] {
        let mut of_case = std::collections::BTreeMap::<u32, [&str; 5]>::new();
        for line in marks.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            if cells[0] == modality {
                of_case.entry(cells[2].parse().unwrap()).or_default()[cells[1].parse::<usize>().unwrap()] = cells[5];
            }
        }
        let mut rows = vec!["0,1,2,3,4".to_owned()];
        rows.extend(of_case.values().map(|ratings| ratings.join(",")));
        let out = kappa(&rows);
        close(&out["fleiss"], &expected["fleiss"][modality], 1e-13);
        let pairs = expected["pairs"].as_array().unwrap().iter().filter(|pair| pair["modality"] == modality);
        let mut compared = 0;
        for (ours, theirs) in out["pairs"].as_array().unwrap().iter().zip(pairs) {
            assert_eq!((&ours["a"], &ours["b"]), (&theirs["r1"], &theirs["r2"]));
            close(&ours["cohen"], &theirs["unweighted"], 1e-13);
            close(&ours["linear"], &theirs["linear"], 1e-13);
            close(&ours["quadratic"], &theirs["quadratic"], 1e-13);
            compared += 1;
        }
        assert_eq!(compared, 10);
    }
}

#[verifies("FR-005")]
#[test]
fn agreement_of_the_lidc_readers_on_malignancy_is_reproduced() {
    let Some(folder) = data().map(|d| d.join("lidc")) else { return };
    let expected = json(&folder.join("expected_summary.json"));
    let text = std::fs::read_to_string(folder.join("annotations_with_malignancy.csv")).unwrap();
    let of_four: Vec<String> = text
        .lines()
        .skip(1)
        .map(|line| line.split('"').nth(1).unwrap().trim_matches(['[', ']']).replace(' ', ""))
        .filter(|ratings| ratings.split(',').count() == 4)
        .collect();
    assert_eq!(of_four.len() as u64, expected["n_nodules_with_4_ratings"].as_u64().unwrap());
    let mut rows = vec!["a,b,c,d".to_owned()];
    rows.extend(of_four);
    let out = kappa(&rows);
    close(&out["fleiss"], &expected["fleiss_kappa_5_classes"], 1e-13);
    for scale in ["nominal", "ordinal", "interval"] {
        close(&out["krippendorff"][scale], &expected["krippendorff_alpha"][scale], 1e-13);
    }
}

#[verifies("FR-003")]
#[test]
fn a_soft_edged_lung_mask_has_its_volume_above_half() {
    let Some(folder) = data().map(|d| d.join("ct/imlab_lowres")) else { return };
    // 7.60 l and 4.47 l above 127 of 0..255, counted with SimpleITK.
    let masks: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().to_lowercase().contains("-msk"))
        .collect();
    assert_eq!(masks.len(), 2);
    for mask in masks {
        let name = mask.to_str().unwrap();
        let litres = if name.contains("002") { 4.47 } else { 7.60 };
        let out = stats(&[
            "overlap",
            "--reference",
            name,
            "--mask",
            name,
            "--reference-threshold",
            "127",
            "--mask-threshold",
            "127",
        ]);
        assert_eq!((&out["dice"], &out["hd95_mm"], &out["surface_dice_1mm"]), (&1.0.into(), &0.0.into(), &1.0.into()));
        close(&out["volume_ml"][0], &(1000.0 * litres).into(), 5.0);
    }
}
