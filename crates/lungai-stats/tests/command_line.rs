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
        "A,1,0,0,0.9\nA,0,1,0,0.8\nA,50,4.9,0,0.7\nA,99,0,0,0.6\nB,3,0,0,0.5\nQ,0,0,0,0.4\n",
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
        json!({ "auc": 1.0, "variance": 0.0, "ci95": [1.0, 1.0], "direction": "lower" })
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
        json!({ "a": "a", "b": "c", "subjects": 3, "cohen": 1.0, "cohen_ci95": [1.0, 1.0],
        "linear": 1.0, "linear_ci95": [1.0, 1.0], "quadratic": 1.0, "quadratic_ci95": [1.0, 1.0] })
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
