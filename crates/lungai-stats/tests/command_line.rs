//! What a person or a script meets: results by hand, and one clear error for every kind of broken file.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::process::{Command, Output};

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        Self(folder)
    }

    fn run(&self, arguments: &str) -> Output {
        let words = arguments.split(' ');
        Command::new(env!("CARGO_BIN_EXE_lungai-stats")).current_dir(&self.0).args(words).output().unwrap()
    }

    fn json(&self, arguments: &str) -> (i32, Value) {
        let out = self.run(&format!("{arguments} --json"));
        (out.status.code().unwrap(), serde_json::from_slice(&out.stdout).unwrap())
    }

    fn check_failure(&self, arguments: &str, rule: &str, message: &str) {
        let (code, out) = self.json(arguments);
        assert_eq!(code, 1);
        assert_eq!(out, json!({ "ok": false, "rule": rule, "message": message }));
    }
}

const HEAD: &str = "seriesuid,coordX,coordY,coordZ,";
const FROC: &str = "froc --annotations a.csv --excluded e.csv --seriesuids s.csv --submission c.csv";

fn luna16(annotations: &str, excluded: &str, series: &str, submission: &str) -> Files {
    Files::new(&[
        ("a.csv", &format!("{HEAD}diameter_mm\n{annotations}")),
        ("e.csv", &format!("{HEAD}diameter_mm\n{excluded}")),
        ("s.csv", series),
        ("c.csv", &format!("{HEAD}probability\n{submission}")),
    ])
}

#[test]
fn a_small_froc_is_what_one_counts_by_hand() {
    let files = luna16(
        "A,0,0,0,10\nB,0,0,0,6\nZ,0,0,0,6\n",
        "A,50,0,0,-1\n",
        "seriesuid\nA\nB\nC\n",
        "A,1,0,0,0.9\nA,0,1,0,0.8\nA,50,4.9,0,0.7\nA,99,0,0,0.6\nB,3,0,0,0.5\nZ,0,0,0,0.4\n",
    );
    let (code, out) = files.json(FROC);
    assert_eq!(code, 0);
    // B's mark lies on the radius and misses: 2 false positives over 3 scans, one of two nodules.
    assert_eq!(
        out["counts"],
        json!({ "true_positives": 1, "false_positives": 2, "false_negatives": 1, "ignored_on_excluded": 1,
            "doubles": 1, "beyond_100_marks": 0, "scans": 3, "nodules": 2 })
    );
    assert_eq!(out["cpm"], 0.5);
    assert_eq!(out["threshold_at"]["0.125"], 0.9);
    assert_eq!(out["threshold_at"]["0.5"], 0.6);
    assert_eq!(out["outside_seriesuids"], json!({ "annotations": 1, "excluded": 0, "submission": 1 }));
    assert!(out.get("ci95").is_none());
    let table = String::from_utf8(files.run(FROC).stdout).unwrap();
    assert!(table.contains("3 scans, 2 nodules") && table.contains("0.125     0.500000   0.900000"), "{table}");
}

#[test]
fn gzip_byte_order_mark_and_windows_lines_are_read() {
    let files = luna16("A,0,0,0,10\r\n", "", "A\r\n", "A,1,0,0,0.9\r\n");
    let marks = std::fs::read(files.0.path().join("c.csv")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &[b"\xef\xbb\xbf".as_slice(), &marks].concat()).unwrap();
    std::fs::write(files.0.path().join("c.csv"), packed.finish().unwrap()).unwrap();
    assert_eq!(files.json(FROC).1["cpm"], 1.0);
}

#[test]
fn broken_files_are_one_error_that_names_file_and_line() {
    let check = |a: &str, s: &str, c: &str, rule: &str, message: &str| {
        luna16(a, "", s, c).check_failure(FROC, rule, message);
    };
    let good = "A,0,0,0,10\n";
    check("A,0,0,0\n", "A\n", "", "csv-malformed", "a.csv line 2: 4 cells, where the header has 5");
    check(
        good,
        "A\n",
        "A,0,0,0,0.5\nA,0,x,0,0.5\n",
        "csv-bad-number",
        "c.csv line 3: column \"coordY\" is not a finite number",
    );
    check(
        good,
        "A\n",
        "Q,0,0,0,nan\n",
        "csv-bad-number",
        "c.csv line 2: column \"probability\" is not a finite number",
    );
    check("A,0,0,0,\n", "A\n", "", "csv-missing-value", "a.csv line 2: column \"diameter_mm\" is empty");
    check(good, "A\nB\nA\n", "", "duplicate-seriesuid", "s.csv line 3: this series is listed before");
    check("A,0,0,0,10\nA,0,0,0,9\n", "A\n", "", "duplicate-annotation", "a.csv line 3: this nodule is listed before");
    check(
        good,
        "A\n",
        "A,1,0,0,0.9\nA,1,0,0,0.9\n",
        "duplicate-mark",
        "c.csv line 3: the same mark with the same score is listed before; --unchecked counts both",
    );
    check(
        good,
        "A\n",
        "Q,1,0,0,0.9\n",
        "unknown-series",
        "c.csv line 2: neither the list of series nor a file of findings knows this series; --ignore-unknown leaves such marks out",
    );
    check(good, "\n", "", "csv-empty", "s.csv: no series UIDs");
    check("", "A\n", "", "too-few-cases", "nodules of a FROC curve: 0 found, at least 1 needed");
    let files = luna16(good, "", "A\n", "");
    std::fs::write(files.0.path().join("c.csv"), "seriesuid,x,y,z,p\n").unwrap();
    files.check_failure(FROC, "csv-missing-column", "c.csv: no column \"coordX\"; there are: seriesuid, x, y, z, p");
    std::fs::write(files.0.path().join("c.csv"), b"seriesuid,x\n\xff\xfe,1\n").unwrap();
    files.check_failure(FROC, "csv-malformed", "c.csv line 2: not UTF-8 text");
    std::fs::write(files.0.path().join("c.csv"), b"\x1f\x8bnonsense").unwrap();
    assert_eq!(files.json(FROC).1["rule"], "file-unreadable");
    std::fs::remove_file(files.0.path().join("c.csv")).unwrap();
    assert_eq!(files.json(FROC).1["rule"], "file-unreadable");
    let plain = files.run(FROC);
    assert!(plain.stdout.is_empty() && String::from_utf8(plain.stderr).unwrap().starts_with("error: c.csv"));
}

#[test]
fn wrong_usage_exits_2() {
    let files = Files::new(&[]);
    let (code, out) = files.json("froc --annotations a.csv");
    assert_eq!((code, &out["ok"], &out["rule"]), (2, &json!(false), &json!("usage")));
    assert_eq!(files.run("mystery").status.code(), Some(2));
    assert_eq!(files.run("--help").status.code(), Some(0));
}

const CASES: &str = "truth,up,down\nsick,3,1\nsick,2,2\nwell,2,3\nwell,1,4\nwell,,4\n";

#[test]
fn a_roc_has_a_direction_and_leaves_out_what_is_missing() {
    let files = Files::new(&[("r.csv", CASES)]);
    let roc = "roc --csv r.csv --label truth --positive sick";
    let (_, out) = files.json(&format!("{roc} --score up"));
    assert_eq!(out["scores"]["up"]["auc"], 0.875);
    assert_eq!(out["counts"], json!({ "positives": 2, "negatives": 2, "left_out": 1 }));
    assert!(out.get("paired").is_none());
    assert_eq!(files.json(&format!("{roc} --score down")).1["scores"]["down"]["auc"], 0.0);
    assert_eq!(files.json(&format!("{roc} --score down --direction lower")).1["scores"]["down"]["auc"], 1.0);
    let (_, auto) = files.json(&format!("{roc} --score up --score down --direction auto"));
    assert_eq!(
        auto["scores"]["down"],
        json!({ "auc": 1.0, "variance": 0.0, "ci95": [1.0, 1.0], "direction": "lower", "average_precision": 1.0 })
    );
    assert_eq!(auto["paired"]["difference"], -0.125);
    files.check_failure(
        "roc --csv r.csv --label truth --positive Sick --score up",
        "too-few-cases",
        "positive cases: 0 found, at least 2 needed",
    );
    assert_eq!(files.json(&format!("{roc} --score up --score up")).1["rule"], "usage");
}

#[test]
fn ratings_may_be_missing_or_names() {
    let files = Files::new(&[
        ("k.csv", "a,b,c\n1,1,1\n2,2,\n3,3,3\n1,2,1\n"),
        ("n.csv", "a,b\nsolid,solid\nground-glass,solid\nsolid,solid\nground-glass,ground-glass\n"),
        ("one.csv", "a,b\n1,1\n1,1\n"),
    ]);
    let (_, out) = files.json("kappa --csv k.csv");
    assert_eq!((&out["subjects"], &out["complete_subjects"]), (&json!(4), &json!(3)));
    assert_eq!(
        out["pairs"][1],
        json!({ "a": "a", "b": "c", "subjects": 3, "cohen": 1.0, "cohen_ci95": [1.0, 1.0], "cohen_se": 0.0,
        "linear": 1.0, "linear_ci95": [1.0, 1.0], "linear_se": 0.0, "quadratic": 1.0, "quadratic_ci95": [1.0, 1.0],
        "quadratic_se": 0.0 })
    );
    files.check_failure("kappa --csv n.csv", "csv-bad-number", "n.csv line 2: column \"a\" is not a finite number");
    let (_, names) = files.json("kappa --csv n.csv --nominal");
    // Observed 3/4; expected 1/2 * 3/4 + 1/2 * 1/4 = 1/2.
    assert_eq!(names["pairs"][0]["cohen"], 0.5);
    assert!(names["krippendorff"].get("ordinal").is_none());
    files.check_failure(
        "kappa --csv one.csv",
        "no-variation",
        "no variation: agreement beyond chance, or a difference of two scores, is not defined",
    );
}

#[test]
fn marks_in_voxels_are_refused_by_their_range() {
    let at = |i: i32| format!("{},{},{}", -150 + 10 * i, -60, 5 * i - 300);
    let annotations: String = (0..30).map(|i| format!("A,{},8\n", at(i))).collect();
    let in_mm: String = (0..30).map(|i| format!("A,{},0.{}\n", at(i), 10 + i)).collect();
    let in_voxels: String = (0..30).map(|i| format!("A,{},{},{},0.5\n", 40 + 14 * i, 170, 5 * i)).collect();
    assert_eq!(luna16(&annotations, "", "A\n", &in_mm).json(FROC).1["counts"]["true_positives"], 30);
    let files = luna16(&annotations, "", "A\n", &in_voxels);
    let (code, out) = files.json(FROC);
    assert_eq!((code, &out["rule"]), (1, &json!("not-millimetres")));
    assert_eq!(files.json(&format!("{FROC} --unchecked")).0, 0);
}

#[test]
fn hits_by_distance_and_by_overlap_are_other_rules() {
    let files = luna16("A,0,0,0,6\n", "", "A\nB\n", "A,4,0,0,0.9\n");
    assert_eq!(files.json(FROC).1["counts"]["true_positives"], 0);
    assert_eq!(files.json(&format!("{FROC} --hit-mm 5")).1["counts"]["true_positives"], 1);
    // Balls of 6 and 8 mm, 1 mm apart: one in the other, 27 of 64 parts.
    std::fs::write(files.0.path().join("c.csv"), format!("{HEAD}probability,diameter_mm\nA,1,0,0,0.9,8\n")).unwrap();
    assert_eq!(files.json(&format!("{FROC} --hit-iou 0.42")).1["counts"]["true_positives"], 1);
    assert_eq!(files.json(&format!("{FROC} --hit-iou 0.43")).1["counts"]["true_positives"], 0);
    let (_, out) = files.json(&format!("{FROC} --at-sensitivity 0.5,1"));
    assert_eq!(out["fp_per_scan_at"]["1"], json!({ "fp_per_scan": 0.0, "threshold": 0.9, "sensitivity": 1.0 }));
}

#[test]
fn strata_have_results_of_their_own_and_patients_stay_whole() {
    let files =
        luna16("A,0,0,0,10\nB,0,0,0,10\nC,0,0,0,10\n", "", "A\nB\nC\nD\n", "A,1,0,0,0.9\nB,1,0,0,0.8\nC,50,0,0,0.7\n");
    std::fs::write(files.0.path().join("t.csv"), "seriesuid,stratum\nA,GE\nB,GE\nC,Siemens\nD,Canon\n").unwrap();
    std::fs::write(files.0.path().join("p.csv"), "seriesuid,patient\nA,1\nB,2\nC,2\nD,3\n").unwrap();
    let (_, out) = files.json(&format!("{FROC} --strata t.csv --bootstrap 20"));
    assert_eq!((&out["strata"]["GE"]["cpm"], &out["strata"]["Siemens"]["cpm"]), (&json!(1.0), &json!(0.0)));
    assert_eq!(out["strata"]["Canon"], json!({ "scans": 1 })); // no nodule, no figure
    assert_eq!(
        files.json(&format!("{FROC} --strata t.csv --bootstrap 20 --patients p.csv")).1["rule"],
        "contradiction"
    );
    std::fs::write(files.0.path().join("t.csv"), "seriesuid,stratum\nA,GE\n").unwrap();
    assert_eq!(files.json(&format!("{FROC} --strata t.csv")).1["rule"], "unknown-stratum");
}

#[test]
fn two_submissions_are_compared_on_the_same_draws() {
    let files =
        luna16("A,0,0,0,10\nB,0,0,0,10\nC,0,0,0,10\n", "", "A\nB\nC\n", "A,1,0,0,0.9\nB,1,0,0,0.8\nC,1,0,0,0.7\n");
    std::fs::write(files.0.path().join("d.csv"), format!("{HEAD}probability\nA,1,0,0,0.9\n")).unwrap();
    let run =
        "compare --annotations a.csv --excluded e.csv --seriesuids s.csv --first c.csv --second d.csv --margin 0.1";
    let (code, out) = files.json(run);
    assert_eq!((code, &out["first"]["cpm"]), (0, &json!(1.0)));
    assert!((out["cpm_difference"]["value"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-12);
    // Of the eight arrangements those that swap A or not, and B and C together: 4.
    assert_eq!(out["permutation"], json!({ "p": 0.5, "arrangements": 8, "exact": true }));
    assert_eq!((&out["non_inferior"]["met"], &out["superior"]["met"]), (&json!(true), &json!(false)));
    assert_eq!(files.json(&run.replace("0.1", "0")).1["rule"], "out-of-range");
}

#[test]
fn a_threshold_has_a_matrix_and_predictive_values_at_the_stated_prevalence() {
    let files = Files::new(&[("r.csv", CASES)]);
    let roc = "roc --csv r.csv --label truth --positive sick --score up --threshold 2 --prevalence 0.1";
    let (_, out) = files.json(roc);
    let at = &out["scores"]["up"]["at_threshold"];
    assert_eq!((&at["sensitivity"], &at["specificity"], &at["true_negatives"]), (&json!(1.0), &json!(0.5), &json!(1)));
    assert!((at["ppv"].as_f64().unwrap() - 0.1 / 0.55).abs() < 1e-15);
    assert_eq!(at["npv"], 1.0);
    let (_, down) = files.json(&roc.replace("up", "down").replace("threshold 2", "threshold 2 --direction lower"));
    assert_eq!(down["scores"]["down"]["at_threshold"]["true_positives"], 2);
    let (_, part) = files.json("roc --csv r.csv --label truth --positive sick --score up --partial-specificity 0.5:1");
    assert_eq!(part["scores"]["up"]["partial"]["auc"], 0.375);
    assert_eq!(
        files.run("roc --csv r.csv --label truth --positive sick --score up --partial-specificity 1:0.5").status.code(),
        Some(2)
    );
}

const TRUTH: &str = "case_id,is_diseased,lesion_id,weight\n1,0,,\n2,0,,\n3,1,1,\n4,1,1,0.75\n4,1,2,0.25\n";

fn study(marks: &str) -> Files {
    let marks = format!("modality,reader,case_id,mark_type,lesion_id,rating\n{marks}");
    Files::new(&[("t.csv", TRUTH), ("m.csv", &marks)])
}

#[test]
fn a_reader_study_names_what_is_missing_or_contradicts() {
    let run = "mrmc --truth t.csv --marks m.csv --fom wafroc";
    let refused = |marks: &str, rule: &str, message: &str| study(marks).check_failure(run, rule, message);
    refused("CT,A,9,NL,,1\n", "unknown-case", "m.csv line 2: the truth has no case 9");
    refused("CT,A,3,LL,2,1\n", "unknown-lesion", "m.csv line 2: the truth has no lesion \"2\" of case 3");
    refused("CT,A,3,XX,,1\n", "bad-mark", "m.csv line 2: mark_type must be NL or LL");
    refused(
        "CT,A,3,LL,1,1\nCT,A,3,LL,1,2\n",
        "duplicate-mark",
        "m.csv line 3: lesion 1 of case 3 is marked before by this reader",
    );
    refused(
        "CT,A,3,LL,1,1\nAI,A,3,LL,1,2\nAI,B,3,LL,1,2\n",
        "missing-cell",
        "m.csv: reader B has no marks under modality CT",
    );
    refused("CT,A,3,LL,1,\n", "csv-missing-value", "m.csv line 2: column \"rating\" is empty");
    let rated = "CT,A,1,NL,,1\nCT,A,2,NL,,2\nCT,A,3,LL,1,3\n";
    study(rated).check_failure(
        "mrmc --truth t.csv --marks m.csv --fom auc",
        "missing-cell",
        "m.csv: reader A has no rating of case 4 under modality CT",
    );
    let files = study("CT,A,3,LL,1,1\n");
    std::fs::write(files.0.path().join("t.csv"), TRUTH.replace("0.25", "0.5")).unwrap();
    files.check_failure(run, "lesion-weights", "t.csv: the lesion weights of case 4 sum to 1.25, not to 1");
    std::fs::write(files.0.path().join("t.csv"), "case_id,is_diseased,lesion_id\n1,1,1\n1,1,1\n").unwrap();
    files.check_failure(run, "duplicate-lesion", "t.csv line 3: this lesion has a line before");
}

#[test]
fn weighted_lesions_of_a_reader_study_are_counted_by_hand() {
    // Case 1 marked at 2, case 2 not; lesion 3/1 at 3 wins both, 4/1 at 2 ties one and wins one, 4/2 is not marked.
    let (_, out) =
        study("CT,A,1,NL,,2\nCT,A,3,LL,1,3\nCT,A,4,LL,1,2\n").json("mrmc --truth t.csv --marks m.csv --fom wafroc");
    assert_eq!(out["figures"]["CT"]["A"], (2.0 + 0.75 * 1.5 + 0.25 * 0.5) / 4.0);
    assert!(
        out.get("dbm").is_none()
            && out["or"].get("rrrc").is_none()
            && out["or"]["frrc"]["means"]["CT"]["ci"].is_array()
    );
}

#[test]
fn picai_takes_lists_and_refuses_what_no_list_of_cases_knows() {
    let files = Files::new(&[
        ("l.csv", "case_id,is_lesion,confidence\na,1,0.9\na,1,0\nb,1,0.5\nc,0,0.7\n"),
        ("c.csv", "case_id\na\nb\nc\nd\n"),
        ("short.csv", "case_id\na\n"),
    ]);
    let (_, out) = files.json("picai --lesions l.csv --cases c.csv --bootstrap 50");
    assert!((out["ap"].as_f64().unwrap() - (1.0 + 2.0 / 3.0) / 3.0).abs() < 1e-15);
    assert_eq!((&out["auroc"], &out["counts"]["lesions"]), (&json!(0.75), &json!(3)));
    assert!(out["score_ci95"].is_array());
    files.check_failure(
        "picai --lesions l.csv --cases short.csv",
        "unknown-case",
        "l.csv line 4: the list of cases has no case b",
    );
    let saved = r#"{"lesion_results":{"a":[[1,0.9,0.5],[1,0,0]],"b":[[1,"0.5",0.2]],"c":[[0,0.7,0]],"d":[]}}"#;
    std::fs::write(files.0.path().join("m.json"), saved).unwrap();
    assert_eq!(files.json("picai --metrics m.json").1["score"], out["score"]);
    std::fs::write(files.0.path().join("m.json"), r#"{"lesion_results":{"a":[[1]]}}"#).unwrap();
    assert_eq!(files.json("picai --metrics m.json").1["rule"], "metrics-malformed");
}

#[test]
fn detection_maps_are_matched_one_to_one() {
    let files = Files::new(&[]);
    let write = |folder: &str, name: &str, values: [f32; 6]| {
        let folder = files.0.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut bytes = image_header("1 1 2").into_bytes();
        values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    // A lesion in the first column, its candidate; a false candidate in the last column.
    write("maps", "p_detection_map.mha", [0.5, 0.0, 0.25, 0.5, 0.0, 0.25]);
    write("masks", "p.mha", [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    write("maps", "q_detection_map.mha", [0.0, 0.0, 0.125, 0.0, 0.0, 0.0]);
    write("masks", "q.mha", [0.0; 6]);
    let run = "picai --detections maps --truth masks";
    let (code, out) = files.json(run);
    assert_eq!((code, &out["ap"], &out["auroc"]), (0, &json!(1.0), &json!(1.0)));
    assert_eq!(out["case_confidence"], json!({ "p": 0.5, "q": 0.125 }));
    // The IoU is 1 of 2.
    assert_eq!(files.json(&format!("{run} --min-overlap 0.6")).1["ap"], 0.0);
    write("maps", "q_detection_map.mha", [0.1, 0.2, 0.3, 0.0, 0.0, 0.0]);
    assert_eq!(files.json(run).1["rule"], "not-a-detection-map");
    write("masks", "r.mha", [0.0; 6]);
    assert_eq!(files.json(run).1["rule"], "unknown-case");
}

#[test]
fn measurements_probabilities_and_centres_have_verbs_of_their_own() {
    let files = Files::new(&[
        ("m.csv", "a,b\n1,2\n2,3\n3,4\n4,\n"),
        ("p.csv", "truth,p\nsick,0.9\nsick,0.4\nwell,0.2\nwell,0.6\nwell,\n"),
        ("c.csv", "centre,found,of\nx,9,10\ny,18,20\nz,5,10\n"),
    ]);
    let (_, icc) = files.json("icc --csv m.csv");
    assert_eq!((&icc["icc"]["icc3"]["icc"], &icc["left_out"]), (&json!(1.0), &json!(1)));
    let (_, pairs) = files.json("bland-altman --csv m.csv --first a --second b");
    assert_eq!((&pairs["bias"], &pairs["sd"]), (&json!(-1.0), &json!(0.0)));
    let (_, p) = files.json("calibration --csv p.csv --label truth --positive sick --probability p --bins 2");
    assert!((p["ece"].as_f64().unwrap() - 0.225).abs() < 1e-12 && p["reliability"].as_array().unwrap().len() == 2);
    let (_, c) = files.json("centres --csv c.csv --centre centre --successes found --trials of");
    assert!(c["mean"].as_f64().unwrap() < 0.9 && c["without"]["z"]["q"].as_f64().unwrap() < 0.1);
    std::fs::write(files.0.path().join("c.csv"), "centre,found,of\nx,9,10\ny,0,0\n").unwrap();
    files.check_failure(
        "centres --csv c.csv --centre centre --successes found --trials of",
        "empty-centre",
        "c.csv line 3: a centre without trials has no figure",
    );
    std::fs::write(files.0.path().join("p.csv"), "truth,p\nsick,1.2\n").unwrap();
    assert_eq!(
        files.json("calibration --csv p.csv --label truth --positive sick --probability p").1["rule"],
        "out-of-range"
    );
    assert_eq!(files.json("proportion --successes 8 --trials 10").1["first"]["value"], 0.8);
    assert_eq!(
        files.json("proportion --both 36 --only-first 12 --only-second 2 --neither 0").1["difference"]["value"],
        0.2
    );
}

#[test]
fn sample_sizes_follow_their_formulas() {
    let files = Files::new(&[]);
    let n = |arguments: &str| files.json(&format!("sample-size {arguments}")).1;
    assert_eq!(n("proportion --expected 0.9 --half-width 0.05")["n"], 139);
    assert_eq!(n("proportion --expected 0.95 --goal 0.9")["n"], 239);
    let froc = "froc --sensitivity 0.9 --half-width 0.05 --nodules-per-scan 0.5 --fp-per-scan 0.5 --fp-half-width 0.1";
    assert_eq!((&n(froc)["scans"], &n(froc)["scans_for_false_positives"]), (&json!(278), &json!(193)));
    assert!(n("auc --expected 0.9 --half-width 0.05")["positives"].as_u64().unwrap() > 50);
    let mrmc = "mrmc --effect 0.05 --readers 6 --pilot-cases 114 --var-tr 0.00020040252 --cov1 0.00034661371 \
        --cov2 0.00034407483 --cov3 0.00023902837 --var 0.00080228827";
    let mrmc = mrmc.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!((n(&format!("{mrmc} --cases 251"))["power"].as_f64().unwrap() - 0.8922819888656554).abs() < 1e-10);
    assert!(n(&mrmc)["cases"].as_u64().unwrap() < 251);
    assert_eq!(n(&mrmc.replace("effect 0.05", "effect 0.01"))["rule"], "unreachable-power");
    assert_eq!(files.run("sample-size auc --expected 0.9").status.code(), Some(2));
}

/// Of a one-slice MetaImage of 3 x 2 voxels.
fn image_header(spacing: &str) -> String {
    let header =
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n";
    let rest = "Offset = 0 0 0\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nDimSize = 3 2 1\nElementType = MET_FLOAT\n";
    format!("{header}ElementSpacing = {spacing}\n{rest}ElementDataFile = LOCAL\n")
}

#[test]
fn masks_are_compared_by_threshold_or_label() {
    let files = Files::new(&[]);
    let write = |name: &str, values: [f32; 6], spacing: &str| {
        let mut bytes = image_header(spacing).into_bytes();
        values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
        std::fs::write(files.0.path().join(name), bytes).unwrap();
    };
    write("r.mha", [0.0, 200.0, 255.0, -3.0, 100.0, 255.0], "1 1 2");
    write("m.mha", [0.0, 1.0, 2.0, 0.0, 0.0, 0.0], "1 1 2");
    write("grid.mha", [1.0; 6], "1.5 1 2");
    let run = "overlap --reference r.mha --mask m.mha";
    // Above 127 three voxels of 2 mm3, above 0 two: both of them common.
    let (_, out) = files.json(&format!("{run} --reference-threshold 127"));
    assert_eq!((&out["dice"], &out["volume_ml"]), (&json!(0.8), &json!([0.006, 0.004])));
    // The third lies 1 mm from the mask: of ranks 0, 0, 1 the 95th percentile is 0.9.
    assert!((out["hd95_mm"].as_f64().unwrap() - 0.9).abs() < 1e-6);
    assert_eq!(out["surface_dice_1mm"], 1.0);
    assert_eq!(files.json(&format!("{run} --mask-threshold 1")).1["dice"], json!(2.0 / 5.0));
    assert!(files.json(&format!("{run} --mask-threshold 9")).1.get("hd95_mm").is_none());
    assert_eq!(files.json("overlap --reference m.mha --mask m.mha --label 2").1["volume_ml"], json!([0.002, 0.002]));
    assert_eq!(files.json("overlap --reference r.mha --mask grid.mha").1["rule"], "grids-differ");
    assert_eq!(files.json(&format!("{run} --label 7")).1["rule"], "too-few-cases");
    assert_eq!(files.json("overlap --reference r.mha --mask none.mha").0, 1);
}

#[test]
fn p_values_of_one_family_are_adjusted_together() {
    let files = Files::new(&[]);
    // 0.01 * 3, then max(0.03, 0.02 * 2), max(0.04, 0.9).
    let (code, out) = files.json("holm 0.02 0.9 0.01 --alpha 0.035");
    assert_eq!((code, &out["rejected"]), (0, &json!([false, false, true])));
    assert_eq!(out["adjusted"], json!([0.04, 0.9, 0.03]));
    files.check_failure("holm 1.5", "out-of-range", "a p-value is 1.5; it must lie from 0 to 1");
    files.check_failure("holm 0.5 --alpha 2", "out-of-range", "--alpha 2: above 0 and below 1");
}
