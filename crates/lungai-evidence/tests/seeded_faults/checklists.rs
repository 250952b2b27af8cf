//! Items of checklists that point at a requirement, a threat, a field of a protocol or of results, or a section of a model card.
use crate::demo::{CLAUSES, Demo, check, sha256};
use lungai_trace::verifies;
use serde_json::Value;

const PROTOCOL: &str = "name: p\nbootstrap: { replicates: 1000 }\ncovariates: null\n";

/// State and detail of the only clause, which is checked so.
fn item(demo: &Demo, kind: &str) -> (String, String) {
    let table = CLAUSES.split("clauses:").next().unwrap();
    demo.put(
        "regulatory/clauses/table.yaml",
        &format!("{table}clauses:\n- {{ id: \"1\", title: One, check: \"{kind}\" }}\n"),
    );
    demo.answer();
    let text = std::fs::read_to_string(demo.path("target/package/core/evidence.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let row = &report["clauses"]["IEC 62304 1"][0];
    (row["state"].as_str().unwrap().to_owned(), row["detail"].as_str().unwrap().to_owned())
}

#[track_caller]
fn check_item(demo: &Demo, kind: &str, state: &str, says: &str) {
    let (found, detail) = item(demo, kind);
    assert!(found == state && detail.contains(says), "`{kind}`: {found}: {detail}");
}

#[verifies("RR-001")]
#[test]
fn a_field_of_a_protocol_counts_only_in_the_file_that_the_results_name() {
    let demo = Demo::new();
    check_item(&demo, "protocol:bootstrap", "gap", "no protocol lies beside the results");
    demo.put("run/protocol.yaml", PROTOCOL);
    check_item(&demo, "protocol:bootstrap", "gap", "no protocol lies beside the results");
    demo.edit("run/results.json", "\"sha256\":\"20\"", &format!("\"sha256\":\"{}\"", sha256(PROTOCOL)));
    check_item(&demo, "protocol:bootstrap.replicates", "shown", "validation/validation-1/protocol.yaml");
    check_item(&demo, "protocol:covariates", "gap", "says nothing of `covariates`");
    demo.edit("run/protocol.yaml", "1000", "10");
    check_item(&demo, "protocol:bootstrap", "gap", "no protocol lies beside the results");
}

#[verifies("RR-001")]
#[test]
fn a_result_on_synthetic_data_is_reported_and_shows_nothing() {
    let demo = Demo::new();
    check_item(&demo, "result:criteria", "shown", "validation/validation-1/results.json");
    check_item(&demo, "result:readers", "gap", "no run gives `readers`");
    demo.results(true, 0.95, [0.91, 0.98], true);
    check_item(&demo, "result:criteria", "gap", "SYNTHETIC data only");
}

#[verifies("RR-001")]
#[test]
fn of_several_grounds_the_weakest_decides() {
    let demo = Demo::new();
    check_item(&demo, "result:criteria + result:model", "shown", "; ");
    check_item(&demo, "result:criteria + manual", "manual - record required", "record required");
    check_item(&demo, "result:criteria + manual + card:Training", "gap", "no frozen model was given");
    check_item(&demo, "intended-use + requirement:FR-001", "shown", "FR-001: verified");
    demo.results(true, 0.95, [0.91, 0.98], true);
    check_item(&demo, "intended-use + requirement:FR-001", "gap", "not verified: FR-001 criterion met (synthetic)");
}

#[verifies("RR-001")]
#[test]
fn a_ground_that_does_not_exist_is_red() {
    let demo = Demo::new();
    for kind in ["requirement:FR-009", "threat:T-001", "protocl:bootstrap", "manual + nothing"] {
        item(&demo, kind);
        check(&demo.answer(), "check-unknown", "IEC 62304 1", kind);
    }
}
