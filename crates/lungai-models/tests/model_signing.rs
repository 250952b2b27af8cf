//! The OpenSSF tool verifies what we sign, without any of our code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lungai_models::frozen::untrained;
use lungai_trace::{not_evidenced, verifies};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[verifies("SR-002")]
#[test]
fn the_model_signing_tool_accepts_a_frozen_model_and_refuses_a_changed_one() {
    let registry = tempfile::tempdir().unwrap();
    let (folder, key) = untrained(registry.path(), BTreeMap::from([("default".into(), 0.5)])).unwrap();
    let public = registry.path().join("key.pem");
    std::fs::write(&public, key.public_pem()).unwrap();
    let Some(python) = std::env::var_os("LUNGAI_PEER_PYTHON") else {
        return not_evidenced("LUNGAI_PEER_PYTHON names no Python with model-signing and pyopenssl");
    };
    if !Command::new(&python).args(["-c", "import model_signing, OpenSSL"]).output().unwrap().status.success() {
        return not_evidenced("the Python of LUNGAI_PEER_PYTHON has no model-signing and pyopenssl");
    }
    let verify = || {
        let mut tool = Command::new(&python);
        tool.args(["-m", "model_signing", "verify", "key"]).arg(&folder);
        tool.arg("--public_key").arg(&public).arg("--signature").arg(folder.join("model.sig")).output().unwrap()
    };
    let good = verify();
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let change = |name: &str, change: &dyn Fn(&Path)| {
        let path = folder.join(name);
        let before = std::fs::read(&path).ok();
        change(&path);
        assert!(!verify().status.success(), "{name}");
        match before {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        assert!(verify().status.success(), "{name} is as it was");
    };
    change("MODEL_CARD.md", &|path| std::fs::write(path, "other").unwrap());
    change("golden/golden.safetensors", &|path| std::fs::remove_file(path).unwrap());
    change("extra.txt", &|path| std::fs::write(path, "").unwrap());
}
