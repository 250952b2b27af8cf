//! JSON Schemas of every kind of file, from the types that read it: editors and other tools check with the same rules.
use super::*;
use lungai_trace::implements;
use schemars::{Schema, schema_for};

/// File name in `regulatory/schemas` and schema.
#[implements("RR-001")]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("benefit-risk", schema_for!(Vec<BenefitRisk>)),
        ("bundled", schema_for!(Vec<Bundled>)),
        ("change", schema_for!(Change)),
        ("change-control", schema_for!(ChangeControl)),
        ("clauses", schema_for!(ClauseTable)),
        ("items", schema_for!(Vec<Item>)),
        ("matrix", schema_for!(Matrix)),
        ("mutations", schema_for!(Vec<Mutation>)),
        ("need", schema_for!(Need)),
        ("problem", schema_for!(Problem)),
        ("profile", schema_for!(Profile)),
        ("release", schema_for!(Release)),
        ("requirement", schema_for!(Requirement)),
        ("review", schema_for!(Review)),
        ("risk", schema_for!(Risk)),
        ("settled", schema_for!(Vec<Settled>)),
        ("soup", schema_for!(Vec<Soup>)),
        ("threat", schema_for!(Threat)),
        ("vex", schema_for!(Vec<Triage>)),
        ("waivers", schema_for!(Vec<Waiver>)),
    ]
}

/// As committed: pretty, with a line end.
pub fn text(schema: &Schema) -> String {
    format!("{:#}\n", schema.as_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;
    use std::collections::BTreeSet;

    #[verifies("RR-001")]
    #[test]
    fn committed_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../regulatory/schemas");
        let committed: BTreeSet<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .collect();
        let ours: BTreeSet<String> = all().iter().map(|(name, _)| format!("{name}.schema.json")).collect();
        assert_eq!(committed, ours);
        for (name, schema) in all() {
            let file = std::fs::read_to_string(folder.join(format!("{name}.schema.json"))).unwrap();
            assert!(file == text(&schema), "run `cargo xtask evidence schemas` after a change of {name}");
        }
    }
}
