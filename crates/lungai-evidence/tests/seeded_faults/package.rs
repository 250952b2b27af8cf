//! Packages that were altered, signed by others, or built twice.
use crate::demo::{Demo, JUNIT, sha256};
use lungai_trace::verifies;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Every file of `core/`.
fn core(package: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut open = vec![package.join("core")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(package).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn builds_under_other_time_zones_languages_and_folders_have_the_same_bytes() {
    let (a, b) = (Demo::new(), Demo::new());
    let package = |demo: &Demo, out: &str, zone: &str, language: &str| {
        if !demo.path(".git").exists() {
            demo.commit();
            demo.note_run();
        }
        let usual = ["build", "--junit", "junit.xml", "--trace-dir", "trace", "--validation", "run", "--out", out];
        let run = Command::new(env!("CARGO_BIN_EXE_lungai-evidence"))
            .current_dir(demo.folder.path())
            .args(usual)
            .envs([("TZ", zone), ("LANG", language), ("LC_ALL", language), ("LANGUAGE", language)])
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
        core(&demo.path(out))
    };
    let one = package(&a, "target/one", "Asia/Shanghai", "zh_CN.UTF-8");
    assert!(one.len() > 60, "{} files", one.len());
    for other in
        [package(&a, "target/deep/er/two", "America/St_Johns", "tr_TR.UTF-8"), package(&b, "target/three", "UTC", "C")]
    {
        assert!(one.keys().eq(other.keys()));
        for (path, bytes) in &one {
            assert!(other[path] == *bytes, "{} differs", path.display());
        }
    }
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

fn public_key(number: u8) -> String {
    use p256::pkcs8::{EncodePublicKey, LineEnding};
    p256::SecretKey::from_slice(&[number; 32]).unwrap().public_key().to_public_key_pem(LineEnding::LF).unwrap()
}

fn sha256_of(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
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

/// What the independent checker says of the package: exit code and first line.
fn checker(demo: &Demo, more: &[&str]) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/check.py");
    let run = Command::new("python3")
        .arg(script)
        .arg("target/package")
        .args(more)
        .current_dir(demo.folder.path())
        .output()
        .unwrap();
    (run.status.code(), String::from_utf8_lossy(&run.stdout).lines().next().unwrap_or_default().to_owned())
}

/// A package in a ledger, signed by its builder and in two roles.
fn signed() -> Demo {
    let demo = Demo::new();
    let package = demo.path("target/package");
    for (number, role) in [(1, "builder"), (2, "author"), (3, "quality")] {
        let key = private_key(number);
        demo.put(&format!("{role}.pem"), &key);
        demo.put(&format!("{role}.pub"), &public_key(number));
    }
    demo.build(&demo.path("target/earlier"), &["--ledger", "ledger.jsonl", "--tester", "one"]);
    demo.results(false, 0.96, [0.92, 0.98], true);
    demo.build(&package, &["--ledger", "ledger.jsonl", "--key", "builder.pem"]);
    for role in ["author", "quality"] {
        let key = format!("{role}.pem");
        let usual = ["sign", "target/package", "--role", role, "--name", "A. Person", "--meaning", "approval"];
        let run = demo.tool(&[&usual[..], &["--key", &key, "--date", "2026-11-24"]].concat());
        assert!(run.status.success(), "{run:?}");
    }
    demo
}

const ROLES: [&str; 4] = ["--role-key", "author=author.pub", "--role-key", "quality=quality.pub"];

/// Both the tool and the independent checker must refuse what the fault does to a signed package; without it both accept.
#[track_caller]
fn check_both(fault: impl Fn(&Path), message: &str) {
    let demo = signed();
    let python = ["author=author.pub", "quality=quality.pub", "builder=builder.pub"];
    assert_eq!(verify(&demo, &ROLES), (Some(0), String::new()), "the untouched twin");
    let (code, said) = checker(&demo, &python);
    assert!(code == Some(0) && said.starts_with("intact: "), "the untouched twin: {said}");
    fault(&demo.path("target/package"));
    let (code, said) = verify(&demo, &ROLES);
    assert!(code == Some(4) && said.starts_with(message), "{code:?}: {said}");
    let (code, said) = checker(&demo, &python);
    assert!(code == Some(4) && said.starts_with("BROKEN "), "{code:?}: {said}");
}

fn edit(path: PathBuf, from: &str, to: &str) {
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Puts the hash of a file right in the manifest, and the root hash after it: what a forger would do.
fn put_right(package: &Path) {
    let text = std::fs::read_to_string(package.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    let mut lines = String::new();
    for file in manifest["files"].as_array_mut().unwrap() {
        let path = file["path"].as_str().unwrap().to_owned();
        let bytes = std::fs::read(package.join(&path)).unwrap();
        file["sha256"] = sha256_of(&bytes).into();
        file["bytes"] = bytes.len().into();
        if path.starts_with("core/") {
            lines.push_str(&format!("{}  {path}\n", sha256_of(&bytes)));
        }
    }
    manifest["root_hash"] = sha256(&lines).into();
    std::fs::write(package.join("manifest.json"), serde_json::to_string_pretty(&manifest).unwrap() + "\n").unwrap();
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn the_tool_and_the_independent_checker_refuse_the_same_faults() {
    check_both(|p| edit(p.join("core/srs.md"), "Demo", "Demq"), "core/srs.md: changed");
    check_both(|p| std::fs::write(p.join("core/extra"), "x").unwrap(), "core/extra: not listed");
    check_both(|p| std::fs::remove_file(p.join("run/junit.xml")).unwrap(), "run/junit.xml: missing");
    check_both(|p| std::fs::remove_file(p.join("manifest.sig")).unwrap(), "manifest.sig: missing");
    let truncated_ledger = |p: &Path| {
        let text = std::fs::read_to_string(p.join("ledger.jsonl")).unwrap();
        std::fs::write(p.join("ledger.jsonl"), text.lines().next().unwrap().to_owned() + "\n").unwrap();
    };
    check_both(truncated_ledger, "ledger.jsonl: changed");
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn a_forger_who_puts_every_hash_right_lacks_the_keys() {
    let swapped = |p: &Path| {
        std::fs::rename(p.join("core/srs.md"), p.join("core/x")).unwrap();
        std::fs::rename(p.join("core/risk-file.md"), p.join("core/srs.md")).unwrap();
        std::fs::rename(p.join("core/x"), p.join("core/risk-file.md")).unwrap();
        put_right(p);
    };
    check_both(swapped, "manifest.sig: does not fit manifest.json");
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn an_approval_of_another_package_or_role_or_with_another_key_is_refused() {
    check_both(
        |p| std::fs::remove_file(p.join("signatures/quality.dsse.json")).unwrap(),
        "signatures/quality.dsse.json: missing",
    );
    check_both(
        |p| edit(p.join("signatures/author.dsse.json"), "\"sig\": \"ME", "\"sig\": \"MF"),
        "signatures/author.dsse.json: ",
    );
    let in_another_role = |p: &Path| {
        for ending in ["pem", "dsse.json"] {
            std::fs::copy(
                p.join(format!("signatures/author.{ending}")),
                p.join(format!("signatures/quality.{ending}")),
            )
            .unwrap();
        }
    };
    check_both(in_another_role, "signatures/quality.dsse.json: was given in another role");
    let of_another_package = |p: &Path| {
        let demo = signed();
        demo.results(false, 0.97, [0.93, 0.98], true);
        let other = demo.path("target/package");
        demo.build(&other, &["--key", "builder.pem"]);
        let usual = ["sign", "target/package", "--role", "author", "--name", "A. Person", "--meaning", "approval"];
        demo.tool(&[&usual[..], &["--key", "author.pem"]].concat());
        std::fs::copy(other.join("signatures/author.dsse.json"), p.join("signatures/author.dsse.json")).unwrap();
    };
    check_both(of_another_package, "signatures/author.dsse.json: approves another package");
    let with_another_key = |p: &Path| {
        let demo = p.join("../..");
        let run = Command::new(env!("CARGO_BIN_EXE_lungai-evidence"))
            .current_dir(demo)
            .args([
                "sign",
                "target/package",
                "--role",
                "author",
                "--name",
                "B",
                "--meaning",
                "m",
                "--key",
                "builder.pem",
            ])
            .output()
            .unwrap();
        assert!(run.status.success());
    };
    check_both(with_another_key, "signatures/author.dsse.json: signed with another key than the one given");
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn a_statement_of_the_builder_that_is_gone_edited_exchanged_or_of_another_package_is_refused() {
    let place = |p: &Path, name: &str| p.join(format!("attestations/{name}.dsse.json"));
    let gone = |p: &Path| std::fs::remove_file(place(p, "test-result")).unwrap();
    check_both(gone, "attestations/test-result.dsse.json: missing");
    let edited = |p: &Path| edit(place(p, "provenance"), "\"payload\": \"eyJ", "\"payload\": \"eyI");
    check_both(edited, "attestations/provenance.dsse.json: ");
    let exchanged = |p: &Path| _ = std::fs::copy(place(p, "provenance"), place(p, "test-result")).unwrap();
    check_both(exchanged, "attestations/test-result.dsse.json: is no test-result");
    let added = |p: &Path| _ = std::fs::copy(place(p, "provenance"), place(p, "quality")).unwrap();
    check_both(added, "attestations/quality.dsse.json: not listed");
    let of_another_package = |p: &Path| {
        let demo = signed();
        demo.results(false, 0.97, [0.93, 0.98], true);
        let other = demo.path("target/package");
        demo.build(&other, &["--key", "builder.pem"]);
        std::fs::copy(place(&other, "provenance"), place(p, "provenance")).unwrap();
    };
    check_both(of_another_package, "attestations/provenance.dsse.json: speaks of another package");
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn the_attested_result_of_the_tests_is_no_better_than_the_runs() {
    let attested = |demo: &Demo| {
        demo.put("a.pem", &private_key(1));
        demo.build(&demo.path("target/package"), &["--key", "a.pem"]);
        let text = std::fs::read_to_string(demo.path("target/package/attestations/test-result.dsse.json")).unwrap();
        let envelope: Value = serde_json::from_str(&text).unwrap();
        let payload =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, envelope["payload"].as_str().unwrap());
        let statement: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
        assert_eq!(statement["predicateType"], "https://in-toto.io/attestation/test-result/v0.1");
        statement["predicate"].clone()
    };
    let demo = Demo::new();
    let passed = attested(&demo);
    assert_eq!(
        (passed["result"].as_str(), passed["passedTests"][0].as_str()),
        (Some("PASSED"), Some("demo tests::finds_three"))
    );
    // It passed, and left no record of what it did.
    std::fs::remove_file(demo.path("trace/demo.json")).unwrap();
    demo.put("trace/other.txt", "");
    assert_eq!(attested(&demo)["result"], "WARNED");
    demo.put("junit.xml", &JUNIT.replace("time=\"0.01\"/>", "time=\"0.01\"><failure/></testcase>"));
    assert_eq!(attested(&demo)["result"], "FAILED");
}

#[verifies("RR-001", "SW-1103")]
#[test]
fn a_ledger_that_was_cut_is_not_added_to() {
    let demo = signed();
    let text = std::fs::read_to_string(demo.path("ledger.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2);
    demo.put("ledger.jsonl", text.split_once('\n').unwrap().1);
    assert_eq!(demo.build(&demo.path("target/package"), &["--ledger", "ledger.jsonl"])["rule"], "ledger");
}
