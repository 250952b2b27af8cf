//! The workloads of the evidence package: this workspace, and projects that are made up, as large ones have them.
//!
//! The same requirements, tests and links are written for `lungai-evidence`, StrictDoc and Doorstop; each then makes the pages of its
//! trace from them. Ours alone also reads verdicts, records and sources, and writes tables, documents and bills of materials.

use crate::results::Output;
use crate::workloads::Work;
use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Raised when an input changes, so that old ones are made anew.
const VERSION: &str = "2";

/// Id of the made-up run of the tests.
const RUN: &str = "00000000-0000-4000-8000-000000000000";

/// Requirements and tests of a made-up project, by the end of its workload's name.
const SIZES: &[(&str, usize, usize)] = &[("200", 200, 2_000), ("2000", 2_000, 20_000)];

/// Tests in one source file.
const IN_FILE: usize = 500;

/// Seconds that a package may take on two cores; a promise of the product.
pub fn bar_s(workload: &str) -> Option<f64> {
    match workload {
        "trace-own" => Some(5.0),
        "trace-2000" => Some(30.0),
        _ => None,
    }
}

/// Makes the project of a workload below `folder`, if it is not there.
pub fn make(folder: &Path, workload: &str) -> anyhow::Result<()> {
    let Some((name, requirements, tests)) = SIZES.iter().find(|(name, ..)| workload.ends_with(&format!("-{name}")))
    else {
        return Ok(()); // this workspace needs no making
    };
    let place = folder.join("data/trace").join(name);
    let stamp = place.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|version| version == VERSION) {
        return Ok(());
    }
    eprintln!("making the inputs in {}", place.display());
    let project = Project { requirements: *requirements, tests: *tests };
    project.ours(&place.join("lungai"))?;
    project.strictdoc(&place.join("strictdoc"))?;
    project.doorstop(&place.join("doorstop"))?;
    fs::write(stamp, VERSION)?;
    Ok(())
}

/// Builds the package of a made-up project.
pub fn made_up(folder: &Path, name: &str) -> anyhow::Result<Work> {
    let root = folder.join("data/trace").join(name).join("lungai");
    // A run counts only for the commit that it was noted on, which may be another one by now.
    for step in [&["--begin"][..], &[]] {
        let noted = Command::new(program()?).args(["note-run", "--root"]).arg(&root).args(step).output()?;
        ensure!(noted.status.success(), "{}", String::from_utf8_lossy(&noted.stderr));
    }
    package(root, folder.join(format!("data/trace/{name}/package")))
}

/// Beside this one, as cargo builds them.
fn program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("lungai-evidence"))
}

/// Builds the package of this workspace from the records of its last tests.
pub fn own(folder: &Path) -> anyhow::Result<Work> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("a crate of the workspace")?;
    ensure!(root.join("target/evidence/junit.xml").exists(), "no records yet: cargo xtask test");
    package(root.to_owned(), folder.join("data/trace/own-package"))
}

fn package(root: PathBuf, out: PathBuf) -> anyhow::Result<Work> {
    fs::create_dir_all(out.parent().context("below the bench folder")?)?;
    let program = program()?;
    Ok(Box::new(move || {
        let mut command = Command::new(&program);
        let run = command.args(["build", "--json", "--root"]).arg(&root).arg("--out").arg(&out).output();
        let run = run.with_context(|| format!("{}", program.display()))?;
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        ensure!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
        Ok(Output::default())
    }))
}

/// Every requirement has the same number of tests, save for rounding.
struct Project {
    requirements: usize,
    tests: usize,
}

impl Project {
    fn requirement_of(&self, test: usize) -> usize {
        test % self.requirements
    }

    /// A workspace with one crate, its `regulatory/`, and what a test run leaves.
    fn ours(&self, root: &Path) -> anyhow::Result<()> {
        let put = |name: &str, text: &str| put(root, name, text);
        put(
            "Cargo.toml",
            "[package]\nname = \"made-up\"\nversion = \"1.0.0\"\nedition = \"2024\"\nlicense = \"MIT\"\n\n[workspace]\n",
        )?;
        put("Cargo.lock", "version = 4\n\n[[package]]\nname = \"made-up\"\nversion = \"1.0.0\"\n")?;
        put("regulatory/profile.yaml", PROFILE)?;
        put("regulatory/soup.yaml", "[]\n")?;
        put("regulatory/items.yaml", "- { name: made-up, is: \"All of it\", may_use: [] }\n")?;
        put("regulatory/matrix.yaml", include_str!("../../../regulatory/matrix.yaml"))?;
        put(
            "regulatory/needs/N-001.yaml",
            "id: N-001\nuser: radiologist\ntitle: { zh: \"需要\", en: \"A need\" }\nstatement: { zh: \"需要\", en: \"A need\" }\n",
        )?;
        let mut hashes = Vec::new();
        for r in 0..self.requirements {
            let text = format!(
                "id: FR-{r:04}\ntier: system\nparents: [N-001]\ntitle: {{ zh: \"功能 {r}\", en: \"Function {r}\" }}\nstatement: {{ zh: \"系统应具备功能 {r}。\", en: \"The system shall have function {r}.\" }}\nallocation: in_scope\ncontent: [functional]\ncontrols_for: []\nverify_by: [test]\ncriteria: []\n"
            );
            put(&format!("regulatory/requirements/FR-{r:04}.yaml"), &text)?;
            hashes.push(sha256(&text));
        }
        let mut library = String::new();
        for r in 0..self.requirements {
            writeln!(
                library,
                "#[lungai_trace::implements(\"FR-{r:04}\")]\npub fn function_{r:04}() -> usize {{ {r} }}"
            )?;
        }
        for file in 0..self.tests.div_ceil(IN_FILE) {
            writeln!(library, "#[cfg(test)]\nmod part_{file:03};")?;
        }
        put("src/lib.rs", &library)?;
        let mut junit = format!("<testsuites uuid=\"{RUN}\"><testsuite name=\"made-up\" tests=\"{}\">\n", self.tests);
        let mut listed = Vec::new();
        for file in 0..self.tests.div_ceil(IN_FILE) {
            let numbers = file * IN_FILE..((file + 1) * IN_FILE).min(self.tests);
            let mut source = String::new();
            for t in numbers.clone() {
                let r = self.requirement_of(t);
                writeln!(
                    source,
                    "#[lungai_trace::verifies(\"FR-{r:04}\")]\n#[test]\nfn t_{t:05}() {{ assert_eq!(super::function_{r:04}(), {r}); }}"
                )?;
            }
            let file_hash = sha256(&source);
            put(&format!("src/part_{file:03}.rs"), &source)?;
            for t in numbers {
                let r = self.requirement_of(t);
                let name = format!("part_{file:03}::t_{t:05}");
                writeln!(junit, "<testcase name=\"{name}\" classname=\"made-up\" time=\"0.001\"/>")?;
                listed.push(format!(r#""{name}":{{"ignored":false,"filter-match":{{"status":"matches"}}}}"#));
                // The test as the compiler's tokens, which is what its hash is of.
                let tokens =
                    sha256(&format!("# [test ]fn t_{t:05} (){{assert_eq ! (super : : function_{r:04} (), {r} ); }}"));
                let record = format!(
                    r#"{{"format":"lungai-trace/2","run":"{RUN}","binary":"made-up","test":"{name}","attempt":"1","package":"made-up","module":"made_up::part_{file:03}","tokens_sha256":"{tokens}","file_sha256":"{file_hash}","verifies":[{{"id":"FR-{r:04}","sha256":"{}"}}],"exercised":["FR-{r:04}"],"not_evidenced":[],"measured":[],"panicked":false}}"#,
                    hashes[r]
                );
                put(&format!("target/evidence/trace/t_{t:05}.json"), &record)?;
            }
        }
        junit.push_str("</testsuite></testsuites>\n");
        put("target/evidence/junit.xml", &junit)?;
        let listed = listed.join(",");
        put(
            "target/evidence/tests.json",
            &format!(r#"{{"rust-suites":{{"made-up":{{"status":"listed","testcases":{{{listed}}}}}}}}}"#),
        )
    }

    /// Two documents; every test is a node below its requirement.
    fn strictdoc(&self, root: &Path) -> anyhow::Result<()> {
        let mut text = "[DOCUMENT]\nTITLE: Requirements\n".to_owned();
        for r in 0..self.requirements {
            writeln!(
                text,
                "\n[REQUIREMENT]\nUID: FR-{r:04}\nTITLE: Function {r}\nSTATEMENT: The system shall have function {r}."
            )?;
        }
        put(root, "requirements.sdoc", &text)?;
        let mut text = "[DOCUMENT]\nTITLE: Tests\n".to_owned();
        for t in 0..self.tests {
            let r = self.requirement_of(t);
            writeln!(
                text,
                "\n[REQUIREMENT]\nUID: T-{t:05}\nTITLE: t_{t:05}\nSTATEMENT: Passed.\nRELATIONS:\n- TYPE: Parent\n  VALUE: FR-{r:04}"
            )?;
        }
        put(root, "tests.sdoc", &text)
    }

    /// Two documents of one file an item; the tests' is the requirements' child. Doorstop looks for a repository around them.
    fn doorstop(&self, root: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(root)?;
        let made = Command::new("git").args(["init", "--quiet"]).arg(root).status().context("git")?;
        ensure!(made.success(), "git init failed");
        put(root, "req/.doorstop.yml", "settings:\n  digits: 4\n  prefix: FR\n  sep: ''\n")?;
        put(root, "tst/.doorstop.yml", "settings:\n  digits: 5\n  parent: FR\n  prefix: T\n  sep: ''\n")?;
        let item = |links: &str, level: usize, text: &str| {
            format!(
                "active: true\nderived: false\nheader: ''\nlevel: 1.{level}\nlinks:{links}\nnormative: true\nref: ''\nreviewed: null\ntext: |\n  {text}\n"
            )
        };
        for r in 0..self.requirements {
            let text = item(" []", r + 1, &format!("The system shall have function {r}."));
            put(root, &format!("req/FR{r:04}.yml"), &text)?;
        }
        for t in 0..self.tests {
            let text =
                item(&format!("\n- FR{:04}: null", self.requirement_of(t)), t + 1, &format!("t_{t:05}: passed."));
            put(root, &format!("tst/T{t:05}.yml"), &text)?;
        }
        Ok(())
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

const PROFILE: &str = r#"name: Made-up
shipped: made-up
intended_use: { zh: "测速", en: "To measure speed" }
not_for: { zh: "临床", en: "Clinics" }
clearance: { zh: "未获批准", en: "Not cleared" }
jurisdictions: []
standards: []
planned_safety_class: C
normative_language: en
roles: []
approvals: []
document_control:
  identification: { zh: "提交", en: "Commit" }
  change: { zh: "变更请求", en: "Change request" }
  distribution: { zh: "证据包", en: "Package" }
  retention: { zh: "十年", en: "Ten years" }
content_reasons: {}
"#;

fn put(root: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join(name);
    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
    fs::write(&path, text).with_context(|| format!("{}", path.display()))
}
