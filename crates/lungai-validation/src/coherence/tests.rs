use super::*;
use crate::protocol::{On, Op};
use lungai_trace::verifies;
use std::path::Path;

fn said(figure: &str, kind: Kind, population: &str, value: &str) -> Statement {
    let value = Printed::parse(value);
    assert!(value.is_some());
    Statement { value, ..Statement::new("t", figure, kind, population) }
}

fn sensitivity(population: &str, value: &str, n: u64) -> Statement {
    Statement { n: Some(n), ..said("sensitivity", Kind::Proportion, population, value) }
}

fn part(of: &str, statement: Statement) -> Statement {
    Statement { part_of: vec![of.to_owned()], ..statement }
}

/// The rules that the statements break.
fn broken(statements: &[Statement]) -> Vec<&'static str> {
    check(statements).findings.iter().map(|f| f.rule).collect()
}

#[verifies("SW-1106")]
#[test]
fn example_results_in_which_the_strata_do_not_pool_to_the_total_fail() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/contradicting-example.json");
    let checked = check(&read(&path).unwrap());
    let found: Vec<(&str, Severity)> = checked.findings.iter().map(|f| (f.rule, f.severity)).collect();
    assert_eq!(
        found,
        [
            ("population-of-two-sizes", Severity::Contradiction),
            ("parts-pool-to-another-figure", Severity::Contradiction),
            ("parts-pool-to-another-figure", Severity::Contradiction),
            ("no-two-by-two-table", Severity::Contradiction),
            ("two-populations-of-one-size", Severity::Question),
        ]
    );
    let all = |i: usize| checked.findings[i].message.as_str();
    assert_eq!(all(0), "`scans of the study` has 1523 members in `study` and 1500 in `risk R-001`");
    // 958 to 959 of 982, 617 of 620: 0.9831 to 0.9838; 97.6 % is what stands beside 6 to 10 mm.
    assert!(all(1).contains("is 97.6 %, but its parts pool to 0.983"), "{}", all(1));
    assert!(all(1).ends_with("97.6 % is the figure of its part `nodules of 6 to 10 mm`"), "{}", all(1));
    // 1104 + 958 + 617 of 2847 is 0.9410.
    assert!(all(2).contains("is 0.953, but its parts pool to 0.941"), "{}", all(2));
    assert!(all(3).starts_with("no whole numbers of 620 `nodules confirmed by pathology` give sensitivity 0.921"));
    assert!(all(4).contains("`nodules above 10 mm` and `nodules confirmed by pathology` both have 620 members"));
}

#[verifies("SW-1106")]
#[test]
fn strata_that_pool_within_their_rounding_pass() {
    // 7 of 8 and 9 of 12: 16 of 20.
    let good = [
        part("all", sensitivity("small", "0.875", 8)),
        part("all", sensitivity("large", "0.75", 12)),
        sensitivity("all", "80 %", 20),
    ];
    assert_eq!(check(&good).findings, []);
    let mut other = good.clone();
    other[2].value = Printed::parse("85 %");
    assert_eq!(broken(&other), ["parts-pool-to-another-figure"]);
    let mut other = good.clone();
    other[2].n = Some(21);
    assert_eq!(broken(&other), ["no-whole-count", "parts-do-not-add-up"]);
    // With the counts printed, a whole that is one off is one off.
    let mut counted = good.map(|s| Statement { value: None, ..s });
    (counted[0].count, counted[1].count, counted[2].count) = (Some(7), Some(9), Some(17));
    assert_eq!(broken(&counted), ["parts-do-not-add-up"]);
}

#[test]
fn a_figure_whose_parts_have_no_size_still_lies_among_them() {
    let mean = |population: &str, value: &str| said("Dice", Kind::Mean, population, value);
    let wholes = |value: &str| [part("all", mean("a", "0.90")), part("all", mean("b", "0.96")), mean("all", value)];
    assert_eq!(broken(&wholes("0.93")), [""; 0]);
    assert_eq!(broken(&wholes("0.97")), ["figure-outside-its-parts"]);
}

#[verifies("SW-1106")]
#[test]
fn a_share_is_a_whole_number_of_cases() {
    assert_eq!(broken(&[sensitivity("all", "0.33", 3)]), [""; 0]);
    assert_eq!(broken(&[sensitivity("all", "0.34", 3)]), ["no-whole-count"]);
    let of = |count| Statement { count: Some(count), ..sensitivity("all", "0.67", 3) };
    assert_eq!(broken(&[of(2)]), [""; 0]);
    assert_eq!(broken(&[of(1)]), ["figure-not-of-its-count"]);
    assert_eq!(broken(&[Statement { value: None, ..of(4) }]), ["count-above-n"]);
    assert_eq!(broken(&[sensitivity("all", "102 %", 50)]), ["outside-its-range"]);
    // Events may be more than scans.
    assert_eq!(broken(&[Statement { kind: Kind::Rate, ..sensitivity("scans", "1.50", 4) }]), [""; 0]);
}

#[verifies("SW-1106")]
#[test]
fn an_interval_holds_its_point_and_stays_where_shares_are() {
    let with = |low: &str, high: &str| Statement {
        ci: Some([low, high].map(|v| Printed::parse(v).unwrap())),
        ..sensitivity("all", "0.80", 20)
    };
    assert_eq!(broken(&[with("0.58", "0.92")]), [""; 0]);
    assert_eq!(broken(&[with("0.81", "0.92")]), ["interval-without-its-point"]);
    assert_eq!(broken(&[with("0.92", "0.58")]), ["interval-reversed", "interval-without-its-point"]);
    assert_eq!(broken(&[with("0.58", "1.02")]), ["outside-its-range"]);
    // 0.7999 rounds to both.
    assert_eq!(broken(&[with("0.800", "0.92")]), [""; 0]);
}

#[verifies("SW-1106")]
#[test]
fn one_name_is_one_population_with_one_figure() {
    let elsewhere = |statement: Statement| Statement { table: "abstract".into(), ..statement };
    let here = sensitivity("all", "0.80", 20);
    assert_eq!(broken(&[here.clone(), elsewhere(sensitivity("all", "0.8", 20))]), [""; 0]);
    assert_eq!(broken(&[here.clone(), elsewhere(sensitivity("all", "0.85", 20))]), ["figure-of-two-values"]);
    assert_eq!(broken(&[here.clone(), elsewhere(sensitivity("all", "0.80", 25))]), ["population-of-two-sizes"]);
    let found = |n: &str| Statement { among: vec!["all".into()], ..said("found", Kind::Size, "found", n) };
    assert_eq!(broken(&[here.clone(), found("16")]), [""; 0]);
    assert_eq!(broken(&[here, found("21")]), ["part-above-its-whole"]);
}

#[verifies("SW-1106")]
#[test]
fn counts_add_up() {
    let count = |population: &str, value: &str| said("false positives", Kind::Count, population, value);
    let wholes = |value: &str| [part("all", count("a", "3")), part("all", count("b", "0")), count("all", value)];
    assert_eq!(broken(&wholes("3")), [""; 0]);
    assert_eq!(broken(&wholes("4")), ["parts-do-not-add-up"]);
    let size = |population: &str, value: &str| said("scans", Kind::Size, population, value);
    let wholes = |value: &str| [part("all", size("a", "3")), part("all", size("b", "7")), size("all", value)];
    assert_eq!(broken(&wholes("10")), [""; 0]);
    assert_eq!(broken(&wholes("11")), ["parts-do-not-add-up"]);
}

#[verifies("SW-1106")]
#[test]
fn a_curve_does_not_fall() {
    let at = |x: f64, value: &str| Statement { x: Some(x), ..said("sensitivity", Kind::Other, "all", value) };
    assert_eq!(broken(&[at(1.0, "0.8"), at(0.5, "0.7"), at(2.0, "0.8")]), [""; 0]);
    assert_eq!(broken(&[at(1.0, "0.8"), at(0.5, "0.9")]), ["curve-falls"]);
}

#[verifies("SW-1106")]
#[test]
fn a_verdict_follows_from_the_bound_that_it_names() {
    let judged = |low: &str, met: bool| Statement {
        ci: Some([low, "0.99"].map(|v| Printed::parse(v).unwrap())),
        verdict: Some(Verdict { limit: 0.95, op: Op::AtLeast, on: On::CiLower, met }),
        ..sensitivity("all", "0.97", 100)
    };
    assert_eq!(broken(&[judged("0.94", false)]), [""; 0]);
    assert_eq!(broken(&[judged("0.94", true)]), ["verdict-against-its-figure"]);
    // 0.9497 is printed 0.950, and does not reach 0.95.
    assert_eq!(broken(&[judged("0.950", false)]), [""; 0]);
    let none = Statement { ci: None, ..judged("0.94", true) };
    assert_eq!(broken(&[none]), ["verdict-against-its-figure"]);
}

#[verifies("SW-1106")]
#[test]
fn four_figures_of_one_table_come_from_whole_numbers() {
    // 164 of 178 malignant ones are called so, 405 of 458 benign ones are not.
    let table = |n: &str| {
        let figure = |name: &str, value: &str| said(name, Kind::Proportion, "all", value);
        vec![
            said("nodules", Kind::Size, "all", n),
            figure("sensitivity", "0.921"),
            figure("specificity", "0.884"),
            figure("ppv", "0.756"),
            figure("npv", "0.967"),
            figure("accuracy", "0.895"),
        ]
    };
    assert_eq!(broken(&table("636")), [""; 0]);
    assert_eq!(broken(&table("620")), ["no-two-by-two-table"]);
}

#[test]
fn a_printed_number_stands_for_what_rounds_to_it() {
    let range = |text: &str| Printed::parse(text).unwrap().range();
    let close = |[a, b]: [f64; 2], [c, d]: [f64; 2]| (a - c).abs() < 1e-9 && (b - d).abs() < 1e-9;
    assert!(close(range("97.6 %"), [0.9755, 0.9765]) && close(range("45"), [44.5, 45.5]));
    assert!(close(range("0.950"), [0.9495, 0.9505]) && close(range("-1.2"), [-1.25, -1.15]));
    for text in ["", "1e3", "about 5", "NaN", "inf", "1.2.3", "%", "--1"] {
        assert_eq!(Printed::parse(text), None, "{text}");
    }
    for text in ["95.3 %", "0.950", "-1.20", "0.0 %"] {
        assert_eq!(Printed::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_table_as_csv_says_what_it_says_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(
        &path,
        "table,figure,kind,population,value,n,ci_low,ci_high,part_of,limit,op,on,met\n\
         t,sensitivity,proportion,small,0.875,8,,,all; large or small,,,,\n\
         t,sensitivity,proportion,all,80 %,20,0.58,0.92,,0.5,>=,ci_lower,true\n",
    )
    .unwrap();
    let from_csv = read(&path).unwrap();
    assert_eq!(from_csv[0].part_of, ["all", "large or small"]);
    assert_eq!(from_csv[1].verdict.map(|v| (v.limit, v.met)), Some((0.5, true)));
    let path = folder.path().join("t.json");
    std::fs::write(&path, serde_json::json!({ "statements": from_csv }).to_string()).unwrap();
    assert_eq!(read(&path).unwrap(), from_csv);
}

#[test]
fn a_malformed_table_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let failure = read(&path).unwrap_err();
        (failure.rule.clone(), failure.message)
    };
    let head = "table,figure,kind,population,value,n,ci_low,ci_high\n";
    for (line, reason) in [
        ("t,s,proportion,all,0.8,2.5,,", "n: `2.5` is no whole number"),
        ("t,s,proportion,all,high,,,", "`high` is not a number as one prints it"),
        ("t,s,ratio,all,0.8,,,", "unknown variant `ratio`"),
        ("t,s,proportion,all,0.8,,0.7,", "ci_low and ci_high go together"),
        (",s,proportion,all,0.8,,,", "missing field `table`"),
    ] {
        let (rule, message) = refused("t.csv", &format!("{head}{line}\n"));
        assert_eq!(rule, "statements-malformed");
        assert!(message.contains("line 2") && message.contains(reason), "{message}");
    }
    assert_eq!(refused("t.csv", head).0, "statements-empty");
    assert_eq!(refused("t.json", "{\"statements\": [], \"more\": 1}").0, "statements-malformed");
    assert_eq!(refused("t.json", "{\"statements\": []}").0, "statements-empty");
}
