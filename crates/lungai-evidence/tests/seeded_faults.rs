//! The tool's own validation: a small workspace with everything in order, then one fault at a time, each of which must be caught
//! with the right message. The untouched workspace is the control.
#![allow(clippy::unwrap_used)] // test helpers
use lungai_trace::verifies;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FR: &str = r#"id: FR-001
tier: system
parents: [N-001]
title: { zh: "检测", en: "Detection" }
statement: { zh: "系统应检测结节。", en: "The system shall detect nodules." }
allocation: in_scope
content: [functional]
controls_for: [R-001]
verify_by: [test, validation]
criteria:
- { id: FR-001.1, metric: detection.sensitivity, where: "all", op: ">=", limit: 0.9, on: ci_lower }
"#;

const NEED: &str = r#"id: N-001
user: radiologist
title: { zh: "不漏检", en: "Miss none" }
statement: { zh: "我需要第二双眼睛。", en: "I need a second pair of eyes." }
"#;

const RISK: &str = r#"id: R-001
title: { zh: "漏检", en: "Missed nodule" }
hazard: { zh: "漏检", en: "A nodule is missed" }
causes: [{ kind: defect, item: demo, zh: "缺陷", en: "A defect" }]
sequence: [{ zh: "漏检", en: "It is missed" }]
situation: { zh: "漏检", en: "Decision on an incomplete result" }
harm: { zh: "延误", en: "Delay" }
injury: true
initial: { S: 4, P1: 5, P2: 4, basis: "test" }
controls:
- { id: RC-1, option: inherent, zh: "检测", en: "Detection", requirement: FR-001, effectiveness: { criteria: [FR-001.1] }, reduces: { P1: 2 }, basis: "test" }
- { id: RC-2, option: protective, zh: "测试", en: "Tested", requirement: FR-001, effectiveness: { tests: true }, reduces: { P1: 2 }, basis: "test" }
new_risks: { zh: "无", en: "None" }
benefit_risk: null
"#;

const PROFILE: &str = r#"name: Demo
shipped: demo
intended_use: { zh: "演示", en: "A demonstration" }
not_for: { zh: "临床", en: "Clinics" }
clearance: { zh: "未获批准", en: "Not cleared" }
jurisdictions: []
standards: [{ name: "IEC 62304", edition: "1", checked: 2026-11-24, clauses: "table.yaml" }]
planned_safety_class: B
normative_language: en
roles: [{ id: quality, title: { zh: "质量", en: "Quality" }, duties: { zh: "评审", en: "Reviews" }, holder: "A. Person" }]
approvals: []
document_control:
  identification: { zh: "提交", en: "Commit" }
  change: { zh: "变更请求", en: "Change request" }
  distribution: { zh: "证据包", en: "Package" }
  retention: { zh: "十年", en: "Ten years" }
content_reasons: {}
"#;

const CLAUSES: &str = r#"standard: IEC 62304
edition: "1"
checked: 2026-11-24
compared_with: "nothing: a demonstration"
clauses:
- { id: "4.1", title: Quality, classes: ABC, check: manual }
- { id: "5.4.2", title: Detailed design, classes: C, check: manual }
- { id: "5.5.5", title: Units verified, classes: BC, check: tests-ran }
"#;

const SOURCE: &str = r#"
#[lungai_trace::implements("FR-001")]
pub fn detect() -> u32 { 3 }

#[cfg(test)]
mod tests {
    #[lungai_trace::verifies("FR-001", "R-001")]
    #[test]
    fn finds_three() { assert_eq!(super::detect(), 3); }
}
"#;

const JUNIT: &str = r#"<testsuites><testsuite name="demo" tests="1"><testcase name="tests::finds_three" classname="demo" time="0.01"/></testsuite></testsuites>"#;

/// A workspace in order, in a folder of its own.
struct Demo {
    folder: tempfile::TempDir,
}

impl Demo {
    fn new() -> Self {
        let demo = Self { folder: tempfile::tempdir().unwrap() };
        demo.put(
            "Cargo.toml",
            "[package]\nname = \"demo\"\nversion = \"1.2.3\"\nedition = \"2024\"\nlicense = \"MIT\"\n\n[workspace]\n",
        );
        demo.put("Cargo.lock", "version = 4\n\n[[package]]\nname = \"demo\"\nversion = \"1.2.3\"\n");
        demo.put("src/lib.rs", SOURCE);
        demo.put("regulatory/requirements/FR-001.yaml", FR);
        demo.put("regulatory/risks/R-001.yaml", RISK);
        demo.put("regulatory/needs/N-001.yaml", NEED);
        demo.put("regulatory/profile.yaml", PROFILE);
        demo.put("regulatory/clauses/table.yaml", CLAUSES);
        demo.put("regulatory/soup.yaml", "[]\n");
        demo.put("regulatory/items.yaml", "- { name: demo, is: \"All of it\", may_use: [] }\n");
        let matrix = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../regulatory/matrix.yaml");
        std::fs::copy(matrix, demo.path("regulatory/matrix.yaml")).unwrap();
        demo.put("junit.xml", JUNIT);
        demo.record("false", &sha256(FR), &["FR-001"]);
        demo.results(false, 0.95, [0.91, 0.98], true);
        demo
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn record(&self, panicked: &str, hash: &str, exercised: &[&str]) {
        let risk = sha256(RISK);
        let text = format!(
            r#"{{"format":"lungai-trace/1","package":"demo","module":"demo::tests","test":"finds_three","attempt":"1","verifies":[{{"id":"FR-001","sha256":"{hash}"}},{{"id":"R-001","sha256":"{risk}"}}],"exercised":{exercised:?},"not_evidenced":[],"panicked":{panicked}}}"#
        );
        self.put("trace/demo.json", &text);
    }

    fn results(&self, synthetic: bool, value: f64, ci: [f64; 2], met: bool) {
        let text = format!(
            r#"{{"synthetic":{synthetic},"manifest_sha256":"00","model":{{"name":"m","version":"1","sha256":"11"}},"extra":[1],"criteria":[{{"id":"FR-001.1","requirement":"FR-001","metric":"detection.sensitivity","value":{value},"ci":{ci:?},"limit":0.9,"op":">=","on":"ci_lower","met":{met},"n":100}}]}}"#
        );
        self.put("run/results.json", &text);
    }

    fn tool(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lungai-evidence"))
            .current_dir(self.folder.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    fn build(&self, out: &Path, more: &[&str]) -> Value {
        let out = out.to_str().unwrap();
        let usual =
            ["build", "--out", out, "--junit", "junit.xml", "--trace-dir", "trace", "--validation", "run", "--json"];
        let run = self.tool(&[&usual[..], more].concat());
        serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"))
    }

    /// The answer of a build with everything given.
    fn answer(&self) -> Value {
        self.build(&self.path("target/package"), &[])
    }

    fn state(&self) -> String {
        self.answer()["states"]["FR-001"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn check_finding(&self, rule: &str, item: &str) {
        let answer = self.answer();
        let found = answer["gaps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|gap| gap["rule"] == rule && gap["item"].as_str().unwrap().contains(item));
        assert!(found, "no finding `{rule}` on `{item}` in {:#}", answer["gaps"]);
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn control_everything_in_order_reaches_the_top_of_the_ladder() {
    let demo = Demo::new();
    let answer = demo.answer();
    assert_eq!(answer["states"]["FR-001"], "criterion met", "{answer:#}");
    assert_eq!(answer["criteria"]["FR-001.1"], "criterion met");
    // Initial: S 4, P1 5, P2 4 -> P 4 -> high. Both controls proven: P1 1 -> P 1 -> low.
    assert_eq!(answer["risks"]["R-001"]["initial"], "high");
    assert_eq!(answer["risks"]["R-001"]["residual_as_evidenced"], "low");
    // No external control: the software taken to fail leaves S 4, P 4: class C, whatever the plan says.
    assert_eq!(answer["safety_class"]["computed"], "C");
    let red: Vec<&str> = answer["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|g| g["severity"] == "red")
        .map(|g| g["rule"].as_str().unwrap())
        .collect();
    assert_eq!(red, ["safety-class", "no-commit"], "only what the demo lacks on purpose");
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn two_builds_in_two_folders_have_one_root_hash_whatever_the_times() {
    let (a, b) = (Demo::new(), Demo::new());
    b.put("junit.xml", &JUNIT.replace("0.01", "7.77"));
    let (first, second) = (a.answer(), b.build(&b.path("elsewhere"), &["--tester", "someone"]));
    assert_eq!(first["root_hash"], second["root_hash"]);
    let page = std::fs::read_to_string(a.path("target/package/core/index.html")).unwrap();
    assert!(!page.contains(a.folder.path().to_str().unwrap()), "no path of the machine in core/");
}

#[verifies("RR-001")]
#[test]
fn the_root_hash_is_what_standard_tools_compute() {
    let demo = Demo::new();
    let answer = demo.answer();
    let script = "find core -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum";
    let run = Command::new("sh").args(["-c", script]).current_dir(demo.path("target/package")).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert_eq!(said.split(' ').next(), answer["root_hash"].as_str());
}

#[verifies("RR-001")]
#[test]
fn a_failing_test_shows_upward_to_requirement_control_risk_and_clause() {
    let demo = Demo::new();
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><failure message=\"no\"/></testcase></testsuite>"));
    assert_eq!(demo.state(), "failed");
    demo.check_finding("test-failed", "tests::finds_three");
    demo.check_finding("requirement-failed", "FR-001");
    demo.check_finding("control-broken", "RC-1");
    demo.check_finding("residual-risk", "R-001");
    demo.check_finding("clause-gap", "IEC 62304 5.5.5");
    assert_eq!(demo.answer()["risks"]["R-001"]["residual_as_evidenced"], "high");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn a_test_that_did_not_run_does_not_count() {
    let demo = Demo::new();
    demo.put("junit.xml", "<testsuites></testsuites>");
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    assert_eq!(demo.state(), "linked");
    demo.check_finding("test-not-run", "tests::finds_three");
    demo.put("src/lib.rs", &SOURCE.replace("#[test]", "#[test]\n    #[ignore]"));
    demo.check_finding("test-ignored", "tests::finds_three");
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", "><skipped/></testcase></testsuite>"));
    demo.check_finding("test-skipped", "tests::finds_three");
    assert_eq!(demo.state(), "linked");
}

#[verifies("RR-001")]
#[test]
fn a_requirement_without_a_test_is_unlinked() {
    let demo = Demo::new();
    demo.put("src/lib.rs", "pub fn detect() {}\n");
    assert_eq!(demo.state(), "unlinked");
    demo.check_finding("unlinked", "FR-001");
    demo.check_finding("record-without-source", "finds_three");
}

#[verifies("RR-001", "SW-1101")]
#[test]
fn disagreements_between_source_runner_and_record_are_findings() {
    let demo = Demo::new();
    demo.record("true", &sha256(FR), &["FR-001"]);
    demo.check_finding("verdict-disagrees", "finds_three");
    demo.record("false", &sha256("another text"), &["FR-001"]);
    demo.check_finding("record-stale", "finds_three");
    assert_eq!(demo.state(), "executed");
    demo.record("false", &sha256(FR), &[]);
    demo.check_finding("nothing-exercised", "finds_three");
    demo.put("src/lib.rs", &SOURCE.replace("\"FR-001\", \"R-001\"", "\"FR-001\""));
    demo.check_finding("ids-disagree", "finds_three");
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    demo.check_finding("record-missing", "finds_three");
}

#[verifies("RR-001")]
#[test]
fn a_pass_without_its_data_is_no_evidence() {
    let demo = Demo::new();
    let said = "><system-err>not evidenced here: reference data absent</system-err></testcase></testsuite>";
    demo.put("junit.xml", &JUNIT.replace("/></testsuite>", said));
    assert_eq!(demo.state(), "executed");
    demo.check_finding("not-evidenced", "finds_three");
}

#[verifies("RR-001")]
#[test]
fn an_unknown_id_in_the_source_stops_the_build() {
    let demo = Demo::new();
    demo.put("src/lib.rs", &SOURCE.replace("implements(\"FR-001\")", "implements(\"FR-010\")"));
    let run = demo.tool(&["build", "--out", "out", "--json"]);
    let answer: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((run.status.code(), answer["rule"].as_str()), (Some(1), Some("unknown-id")));
    assert_eq!(answer["message"], "src/lib.rs:2: `FR-010` is neither a requirement nor a risk; nearest: FR-001, R-001");
    assert!(!demo.path("out").exists());
}

#[verifies("RR-001", "SW-1104")]
#[test]
fn synthetic_results_never_count_as_clinical_evidence() {
    let demo = Demo::new();
    demo.results(true, 0.95, [0.91, 0.98], true);
    let answer = demo.answer();
    assert_eq!(answer["states"]["FR-001"], "criterion met (synthetic)");
    // RC-1 earns no credit: P1 5 - 2 (RC-2) = 3, P2 4 -> P 2 -> medium.
    assert_eq!(answer["risks"]["R-001"]["residual_as_evidenced"], "medium");
    let page = std::fs::read_to_string(demo.path("target/package/core/index.html")).unwrap();
    assert!(page.contains("SYNTHETIC"));
    demo.results(true, 0.85, [0.80, 0.90], false);
    assert_eq!(demo.state(), "criterion not met (synthetic)");
    demo.results(false, 0.95, [0.89, 0.98], false);
    assert_eq!(demo.state(), "criterion not met", "the bound decides, not the value");
}

#[verifies("RR-001")]
#[test]
fn results_that_contradict_themselves_or_the_requirement_prove_nothing() {
    let demo = Demo::new();
    demo.results(false, 0.95, [0.85, 0.98], true);
    demo.check_finding("criterion-incoherent", "FR-001.1");
    assert_eq!(demo.state(), "passed");
    demo.results(false, 0.99, [0.91, 0.98], true);
    demo.check_finding("interval-without-value", "FR-001.1");
    demo.results(false, 0.95, [0.91, 0.98], true);
    demo.put("regulatory/requirements/FR-001.yaml", &FR.replace("limit: 0.9,", "limit: 0.95,"));
    demo.check_finding("criterion-altered", "FR-001.1");
    demo.check_finding("record-stale", "finds_three");
}

#[verifies("RR-001")]
#[test]
fn malformed_inputs_are_errors_with_a_name() {
    let check = |name: &str, text: &str, rule: &str| {
        let demo = Demo::new();
        demo.put(name, text);
        let answer = demo.answer();
        assert_eq!(answer["rule"], rule, "{answer:#}");
        assert_eq!(answer["ok"], false);
    };
    check("junit.xml", "<testsuites><testsuite>", "junit-malformed");
    check("trace/demo.json", "{", "record-malformed");
    check("run/results.json", "{\"synthetic\":true}", "results-malformed");
    check("regulatory/requirements/FR-001.yaml", &FR.replace("allocation", "alocation"), "malformed-yaml");
    check("regulatory/requirements/FR-001.yaml", &FR.replace("id: FR-001\n", "id: FR-002\n"), "id-differs-from-file");
    check("regulatory/requirements/FR-001.yaml", &FR.replace("in_scope", "external"), "reason-missing");
    check("regulatory/risks/R-001.yaml", &RISK.replace("requirement: FR-001", "requirement: FR-009"), "unknown-id");
    check("regulatory/risks/R-001.yaml", &RISK.replace("S: 4", "S: 6"), "scale");
    check("src/lib.rs", "fn f( {}", "source-malformed");
}

#[verifies("RR-001")]
#[test]
fn undeclared_crates_and_components_are_findings() {
    let demo = Demo::new();
    demo.put("regulatory/items.yaml", "- { name: gone, is: \"Nothing\", may_use: [] }\n");
    demo.put("regulatory/soup.yaml", "- { name: left-pad, purpose: p, requires: r, needs: n }\n");
    demo.check_finding("item-undeclared", "demo");
    demo.check_finding("item-gone", "gone");
    demo.check_finding("soup-surplus", "left-pad");
}

/// Exit code and message of `verify`.
fn verify(demo: &Demo, more: &[&str]) -> (Option<i32>, String) {
    let run = demo.tool(&[&["verify", "target/package", "--json"], more].concat());
    let answer: Value = serde_json::from_slice(&run.stdout).unwrap();
    (run.status.code(), answer["message"].as_str().unwrap_or("").to_owned())
}

#[track_caller]
fn check_broken(more: &[&str], fault: impl Fn(&Path), message: &str) {
    let demo = Demo::new();
    demo.answer();
    assert_eq!(verify(&demo, &[]), (Some(0), String::new()), "the untouched package is intact");
    fault(&demo.path("target/package"));
    let (code, said) = verify(&demo, more);
    assert!(code == Some(4) && said.starts_with(message), "{code:?}: {said}");
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn a_package_that_was_touched_is_broken_and_the_first_broken_item_is_named() {
    let edit = |path: PathBuf, from: &str, to: &str| {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    check_broken(&[], |p| edit(p.join("core/srs.md"), "Demo", "Demq"), "core/srs.md: changed");
    check_broken(&[], |p| std::fs::remove_file(p.join("core/soup.csv")).unwrap(), "core/soup.csv: missing");
    check_broken(&[], |p| std::fs::write(p.join("core/extra.html"), "x").unwrap(), "core/extra.html: not listed");
    check_broken(&[], |p| std::fs::write(p.join(".hidden"), "x").unwrap(), ".hidden: not listed");
    check_broken(&[], |p| edit(p.join("run/junit.xml"), "0.01", "0.02"), "run/junit.xml: changed");
    check_broken(&[], |p| std::fs::remove_file(p.join("manifest.json")).unwrap(), "manifest.json: missing");
    let truncate = |p: &Path| {
        let text = std::fs::read(p.join("manifest.json")).unwrap();
        std::fs::write(p.join("manifest.json"), &text[..text.len() / 2]).unwrap();
    };
    check_broken(&[], truncate, "manifest.json: truncated or altered");
    // A file changed and its hash put right: the root hash no longer follows.
    let forge = |p: &Path| {
        let before = sha256(&std::fs::read_to_string(p.join("core/srs.md")).unwrap());
        edit(p.join("core/srs.md"), "Demo", "Demq");
        let after = sha256(&std::fs::read_to_string(p.join("core/srs.md")).unwrap());
        edit(p.join("manifest.json"), &before, &after);
    };
    check_broken(&[], forge, "manifest.json: the root hash does not follow");
    let swap = |p: &Path| {
        std::fs::rename(p.join("core/srs.md"), p.join("core/x")).unwrap();
        std::fs::rename(p.join("core/risk-file.md"), p.join("core/srs.md")).unwrap();
        std::fs::rename(p.join("core/x"), p.join("core/risk-file.md")).unwrap();
    };
    check_broken(&[], swap, "core/risk-file.md: changed");
    check_broken(
        &[],
        |p| edit(p.join("manifest.json"), "core/srs.md", "../srs.md"),
        "manifest.json: `../srs.md` leads out",
    );
}

/// A key from a number, in PEM: for this test alone.
fn private_key(number: u8) -> String {
    use p256::pkcs8::{EncodePrivateKey, LineEnding};
    p256::SecretKey::from_slice(&[number; 32]).unwrap().to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
}

#[verifies("RR-001")]
#[test]
fn a_signature_holds_for_its_package_and_its_key_alone() {
    let demo = Demo::new();
    demo.put("a.pem", &private_key(1));
    demo.put("b.pem", &private_key(2));
    let package = demo.path("target/package");
    demo.build(&package, &["--key", "a.pem"]);
    assert_eq!(verify(&demo, &["--key", "a.pem"]).0, Some(0));
    let (code, said) = verify(&demo, &["--key", "b.pem"]);
    assert_eq!((code, said.as_str()), (Some(4), "manifest.sig: signed with another key than the one given"));

    let manifest = std::fs::read_to_string(package.join("manifest.json")).unwrap();
    std::fs::write(package.join("manifest.json"), manifest.replace("  ", " ")).unwrap();
    assert_eq!(verify(&demo, &[]).1, "manifest.sig: does not fit manifest.json");
    std::fs::remove_file(package.join("manifest.sig")).unwrap();
    assert_eq!(verify(&demo, &[]).1, "manifest.sig: missing, though the manifest names a signer");

    // Signed again by someone else: whole in itself, but not with the trusted key.
    demo.build(&package, &["--key", "b.pem"]);
    assert_eq!(verify(&demo, &[]).0, Some(0));
    assert_eq!(verify(&demo, &["--key", "a.pem"]).0, Some(4));
    demo.build(&package, &[]);
    assert_eq!(verify(&demo, &["--key", "a.pem"]).1, "manifest.sig: the package is unsigned, but a key was given");
}

#[verifies("RR-001")]
#[test]
fn a_folder_with_other_content_is_never_overwritten() {
    let demo = Demo::new();
    demo.put("mine/thesis.txt", "years of work");
    let answer = demo.build(&demo.path("mine"), &[]);
    assert_eq!(answer["rule"], "not-empty");
    demo.answer();
    demo.put("target/package/core/note.txt", "mine");
    assert_eq!(demo.answer()["rule"], "not-empty");
}

#[verifies("RR-001")]
#[test]
fn a_difference_between_two_packages_names_what_changed() {
    let demo = Demo::new();
    demo.build(&demo.path("old"), &[]);
    demo.results(false, 0.95, [0.89, 0.98], false);
    demo.build(&demo.path("new"), &[]);
    let run = demo.tool(&["diff", "old", "new"]);
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(said.contains("requirement FR-001: state: criterion met -> criterion not met"), "{said}");
    assert!(!said.contains("commit"), "{said}");
}
