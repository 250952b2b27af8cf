//! A small workspace with everything in order, in a folder of its own.
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const FR: &str = r#"id: FR-001
tier: system
parents: [N-001]
title: { zh: "检测", en: "Detection" }
statement: { zh: "系统应检测结节。", en: "The system shall detect nodules." }
allocation: in_scope
content: [functional]
controls_for: [R-001]
verify_by: [test, validation]
criteria:
- { id: FR-001.1, metric: detection.sensitivity, where: "all", diameter_at_least_mm: 3, population: [], confidence_level: 0.95, op: ">=", limit: 0.9, on: ci_lower }
"#;

pub const NEED: &str = r#"id: N-001
user: radiologist
title: { zh: "不漏检", en: "Miss none" }
statement: { zh: "我需要第二双眼睛。", en: "I need a second pair of eyes." }
"#;

pub const RISK: &str = r#"id: R-001
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

pub const PROFILE: &str = r#"name: Demo
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

pub const CLAUSES: &str = r#"standard: IEC 62304
edition: "1"
checked: 2026-11-24
compared_with: "nothing: a demonstration"
clauses:
- { id: "4.1", title: Quality, classes: ABC, check: manual }
- { id: "5.4.2", title: Detailed design, classes: C, check: manual }
- { id: "5.5.5", title: Units verified, classes: BC, check: tests-ran }
"#;

pub const SOURCE: &str = r#"
#[lungai_trace::implements("FR-001")]
pub fn detect() -> u32 { 3 }

#[cfg(test)]
mod tests {
    #[lungai_trace::verifies("FR-001", "R-001")]
    #[test]
    pub fn finds_three() { assert_eq!(super::detect(), 3); }
}
"#;

/// Of the run with the id `run-7`.
pub const JUNIT: &str = r#"<testsuites uuid="run-7"><testsuite name="demo" tests="1"><testcase name="tests::finds_three" classname="demo" time="0.01"/></testsuite></testsuites>"#;

/// As `cargo nextest list` says it.
pub const LIST: &str = r#"{"rust-suites":{"demo":{"status":"listed","testcases":{"tests::finds_three":{"ignored":false,"filter-match":{"status":"matches"}}}}}}"#;

/// The tokens of `finds_three` in their normal form, written by hand.
pub const TOKENS: &str = "# [test ]pub fn finds_three (){assert_eq ! (super : : detect (), 3 ); }";

/// What a test leaves.
pub struct Record<'a> {
    pub run: &'a str,
    pub attempt: u32,
    pub module: &'a str,
    pub name: &'a str,
    pub tokens: &'a str,
    /// Ids with the hashes of their texts.
    pub verifies: Vec<(&'a str, String)>,
    pub exercised: &'a [&'a str],
    pub measured: &'a str,
    pub panicked: bool,
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            run: "run-7",
            attempt: 1,
            module: "tests",
            name: "finds_three",
            tokens: TOKENS,
            verifies: vec![("FR-001", sha256(FR)), ("R-001", sha256(RISK))],
            exercised: &["FR-001"],
            measured: "",
            panicked: false,
        }
    }
}

pub const LOCKED: &str = r#"{"kind":"locked","ledger":"p.ledger.jsonl","number":2,"hash":"44"}"#;

/// Takes RC-2 away.
pub const MUTATIONS: &str = r#"- id: M-1
  control: RC-2
  breaks: { zh: "数目错误", en: "A wrong count" }
  file: src/lib.rs
  from: "{ 3 }"
  to: "{ 4 }"
  package: demo
  target: lib
  tests: "test(=tests::finds_three)"
"#;

/// A workspace in order, in a folder of its own.
pub struct Demo {
    pub folder: tempfile::TempDir,
}

impl Demo {
    pub fn new() -> Self {
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
        demo.put("tests.json", LIST);
        demo.record(&Record::default());
        demo.put("regulatory/mutations.yaml", MUTATIONS);
        demo.mutation_run("", "killed", &["demo tests::finds_three"]);
        demo.results(false, 0.95, [0.91, 0.98], true);
        demo
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn record(&self, record: &Record) {
        let verifies = record.verifies.iter().map(|(id, hash)| format!(r#"{{"id":"{id}","sha256":"{hash}"}}"#));
        let verifies = verifies.collect::<Vec<_>>().join(",");
        let Record { run, attempt, module, name, exercised, measured, panicked, .. } = record;
        let tokens = sha256(record.tokens);
        let file = sha256(&std::fs::read_to_string(self.path("src/lib.rs")).unwrap());
        let text = format!(
            r#"{{"format":"lungai-trace/2","run":"{run}","binary":"demo","test":"{module}::{name}","attempt":"{attempt}","package":"demo","module":"demo::{module}","tokens_sha256":"{tokens}","file_sha256":"{file}","verifies":[{verifies}],"exercised":{exercised:?},"not_evidenced":[],"measured":[{measured}],"panicked":{panicked}}}"#
        );
        // As the first file of this demonstration's test has always been called.
        let suffix = if *attempt == 1 { String::new() } else { format!("@{attempt}") };
        let file = if *name == "finds_three" { "demo".to_owned() } else { (*name).to_owned() };
        self.put(&format!("trace/{file}{suffix}.json"), &text);
    }

    /// As `mutate` leaves it where `build` looks for it.
    pub fn mutation_run(&self, commit: &str, verdict: &str, killed_by: &[&str]) {
        let parts = ["RC-2", "src/lib.rs", "{ 3 }", "{ 4 }", "demo", "lib", "test(=tests::finds_three)"];
        let hash = sha256(&parts.map(|part| format!("{}:{part}\n", part.len())).concat());
        let text = format!(
            r#"{{"format":"lungai-mutation/1","commit":"{commit}","changed":[],"mutants":[{{"mutation":"M-1","sha256":"{hash}","verdict":"{verdict}","twin_passed":["demo tests::finds_three"],"killed_by":{killed_by:?},"seconds":1.5}}]}}"#
        );
        self.put("target/evidence/mutations.json", &text);
    }

    /// Results of a run whose protocol was locked before.
    pub fn results(&self, synthetic: bool, value: f64, ci: [f64; 2], met: bool) {
        let text = format!(
            r#"{{"synthetic":{synthetic},"standing":{LOCKED},"manifest_sha256":"00","data_set":{{"fingerprint":"33"}},"model":{{"name":"m","version":"1","sha256":"11"}},"protocol":{{"name":"p","version":"1","sha256":"20","canonical_sha256":"22"}},"extra":[1],"criteria":[{{"id":"FR-001.1","requirement":"FR-001","metric":"detection.sensitivity","diameter_at_least_mm":3.0,"population":[],"value":{value},"ci":{ci:?},"confidence_level":0.95,"limit":0.9,"op":">=","on":"ci_lower","met":{met},"n":100}}]}}"#
        );
        self.put("run/results.json", &text);
    }

    /// A frozen model of these weights in `model`, signed as OpenSSF's model signing does, which the results name.
    pub fn freeze(&self, weights: &str) {
        let files = [("manifest.json", r#"{"name":"m","version":"1"}"#), ("model.safetensors", weights)];
        let resources: Vec<Value> = files
            .iter()
            .map(|(name, text)| json!({ "name": name, "algorithm": "sha256", "digest": sha256(text) }))
            .collect();
        for (name, text) in files {
            self.put(&format!("model/{name}"), text);
        }
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": "model", "digest": { "sha256": "00" } }],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": { "resources": resources },
        });
        self.sign(json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "dsseEnvelope": { "payload": BASE64.encode(statement.to_string()), "signatures": [] },
        }));
    }

    /// This envelope as the model's signature, which the results name.
    pub fn sign(&self, envelope: Value) {
        self.put("model/model.sig", &envelope.to_string());
        let mut results: Value =
            serde_json::from_str(&std::fs::read_to_string(self.path("run/results.json")).unwrap()).unwrap();
        results["model"]["sha256"] = sha256(&envelope.to_string()).into();
        self.put("run/results.json", &results.to_string());
    }

    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} does not hold `{from}`");
        self.put(name, &text.replace(from, to));
    }

    /// Everything under version control, at a fixed time.
    pub fn commit(&self) {
        self.put(".gitignore", "target\nrun.json\n");
        for arguments in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "state"]] {
            let run = Command::new("git")
                .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
                .args(arguments)
                .env("GIT_COMMITTER_DATE", "2026-11-24T10:00:00Z")
                .env("GIT_AUTHOR_DATE", "2026-11-24T10:00:00Z")
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .current_dir(self.folder.path())
                .output()
                .unwrap();
            assert!(run.status.success(), "{run:?}");
        }
        self.mutation_run(&self.head(), "killed", &["demo tests::finds_three"]);
    }

    pub fn head(&self) -> String {
        let run = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(self.folder.path()).output().unwrap();
        String::from_utf8(run.stdout).unwrap().trim().to_owned()
    }

    /// A person reviews every link as it is.
    pub fn review_all(&self) {
        let usual = ["review", "--all", "--reviewer", "A. Person", "--date", "2026-11-24", "--validation", "run"];
        let run = self.tool(&usual);
        assert!(run.status.success(), "{run:?}");
    }

    /// Titles of the links that are suspect.
    pub fn suspects(&self) -> Vec<String> {
        let answer = self.answer();
        let gaps = answer["gaps"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .filter(|gap| gap["rule"] == "suspect-link");
        gaps.map(|gap| gap["item"].as_str().unwrap().to_owned()).collect()
    }

    pub fn tool(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lungai-evidence"))
            .current_dir(self.folder.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// A package after a run of the tests on the sources as they are.
    pub fn build(&self, out: &Path, more: &[&str]) -> Value {
        self.note_run();
        self.build_as_noted(out, more)
    }

    fn build_as_noted(&self, out: &Path, more: &[&str]) -> Value {
        let out = out.to_str().unwrap();
        let usual =
            ["build", "--out", out, "--junit", "junit.xml", "--trace-dir", "trace", "--validation", "run", "--json"];
        let run = self.tool(&[&usual[..], more].concat());
        serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"))
    }

    /// As if the tests had just run on the sources as they are.
    pub fn note_run(&self) {
        // What is no report is a fault for the build to find.
        self.tool(&["note-run", "--begin", "--folder", "."]);
        self.tool(&["note-run", "--folder", "."]);
    }

    /// The answer of a build with everything given, after a run on the sources as they are.
    pub fn answer(&self) -> Value {
        self.build(&self.path("target/package"), &[])
    }

    /// The answer of a build with everything given, after the run that was noted last.
    pub fn answer_as_noted(&self) -> Value {
        self.build_as_noted(&self.path("target/package"), &[])
    }

    pub fn state(&self) -> String {
        self.answer()["states"]["FR-001"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn check_finding(&self, rule: &str, item: &str) {
        self.check_finding_with(&[], rule, item);
    }

    /// The same, with more arguments of the build.
    #[track_caller]
    pub fn check_finding_with(&self, more: &[&str], rule: &str, item: &str) {
        check(&self.build(&self.path("target/package"), more), rule, item, "");
    }

    /// That there is none of this rule: the untouched twin.
    #[track_caller]
    pub fn check_no_finding(&self, rule: &str) {
        let answer = self.answer();
        assert!(!answer["gaps"].as_array().unwrap().iter().any(|gap| gap["rule"] == rule), "{:#}", answer["gaps"]);
    }
}

/// A finding of this rule on this item, with a message that says so.
#[track_caller]
pub fn check(answer: &Value, rule: &str, item: &str, says: &str) {
    let holds = |gap: &Value, key: &str, text: &str| gap[key].as_str().unwrap().contains(text);
    let mut gaps = answer["gaps"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    let found = gaps.any(|gap| gap["rule"] == rule && holds(gap, "item", item) && holds(gap, "message", says));
    assert!(found, "no finding `{rule}` on `{item}` with `{says}` in {:#}", answer["gaps"]);
}

pub fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
