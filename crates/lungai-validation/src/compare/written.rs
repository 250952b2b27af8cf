//! A comparison as text, tables, a figure and a page that needs no network.

use super::{Comparison, NoduleChange, Test};
use crate::failure::{Failure, io};
use crate::staging::Staging;
use lungai_figures::{BLUE, Drawn, FONT, Figure, ORANGE, save};
use lungai_metrics::Interval;
use plotters::coord::Shift;
use plotters::prelude::*;
use polars::prelude::{DataFrame, df};
use polars_io::SerWriter;
use polars_io::csv::write::CsvWriter;
use std::path::Path;

/// Nodules that text and page show at most; the table has all.
const SHOWN: usize = 20;

/// Writes `compare.html`, `compare.txt`, `nodules.csv`, `cases.csv`, `strata.csv`, `froc.svg` and `froc.png`, and
/// `compare.json` last. Returns the text.
///
/// # Errors
/// What the file system or the drawing says.
pub fn write(comparison: &Comparison, out: &Path) -> Result<String, Failure> {
    let staging = Staging::new(out)?;
    let folder = &staging.folder;
    let svg = save(&Froc(comparison), folder, "froc").map_err(|error| Failure::new("figures", error.to_string()))?;
    csv(&mut nodules(comparison)?, &folder.join("nodules.csv"))?;
    csv(&mut cases(comparison)?, &folder.join("cases.csv"))?;
    csv(&mut strata(comparison)?, &folder.join("strata.csv"))?;
    let text = text(comparison);
    let json = serde_json::to_string_pretty(comparison).expect("plain data") + "\n";
    for (name, what) in [("compare.txt", &text), ("compare.html", &html(comparison, &svg)), ("compare.json", &json)] {
        let path = folder.join(name);
        std::fs::write(&path, what).map_err(io(&path))?;
    }
    staging.publish("compare.json")?;
    Ok(text)
}

/// One table of the text and of the page.
struct Table {
    title: String,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

fn tables(c: &Comparison) -> Vec<Table> {
    let test = |t: &Test| {
        vec![
            t.figure.to_owned(),
            number(t.a, 4),
            number(t.b, 4),
            difference(t.difference, t.ci),
            p(t.p),
            t.n.to_string(),
        ]
    };
    let nodule = |n: &NoduleChange| {
        vec![
            n.case.clone(),
            n.nodule.clone(),
            format!("{:.1}", n.diameter_mm),
            n.kind.clone().unwrap_or_default(),
            n.lobe.clone().unwrap_or_default(),
            number(n.score_a, 3),
            number(n.score_b, 3),
        ]
    };
    let of_nodules = || vec!["case", "nodule", "mm", "kind", "lobe", "score A", "score B"];
    let list = |title: String, chosen: Vec<&NoduleChange>| {
        let all = chosen.len();
        let title = if all > SHOWN { format!("{title}: {SHOWN} of {all}") } else { format!("{title}: {all}") };
        Table { title, header: of_nodules(), rows: chosen.into_iter().take(SHOWN).map(nodule).collect() }
    };
    let only = |which: &str| c.changes.iter().filter(|n| n.found == which).collect::<Vec<_>>();
    let mut moved: Vec<&NoduleChange> = c.changes.iter().filter(|n| n.change != 0.0).collect();
    moved.sort_by(|x, y| y.change.abs().total_cmp(&x.change.abs()));
    let strata = c.strata.iter().filter(|s| s.nodules > 0).map(|s| {
        let note = if s.descriptive { "descriptive" } else { "" };
        let found = |n: usize| format!("{n} of {}", s.nodules);
        vec![
            s.of.clone(),
            s.group.clone(),
            found(s.found.both + s.found.only_a),
            found(s.found.both + s.found.only_b),
            difference(s.difference, s.ci),
            p(s.p),
            note.to_owned(),
        ]
    });
    let mut changed: Vec<_> = c.cases.iter().collect();
    let size = |case: &super::CaseChange| {
        case.found_a.abs_diff(case.found_b) + case.false_positives_a.abs_diff(case.false_positives_b)
    };
    changed.sort_by_key(|case| std::cmp::Reverse(size(case)));
    let cases = changed.into_iter().filter(|case| size(case) > 0).take(SHOWN).map(|case| {
        vec![
            case.case.clone(),
            case.centre.clone(),
            format!("{} of {}", case.found_a, case.nodules),
            format!("{} of {}", case.found_b, case.nodules),
            case.false_positives_a.to_string(),
            case.false_positives_b.to_string(),
            number(case.dice_change, 4),
        ]
    });
    vec![
        Table {
            title: "Figures".into(),
            header: vec!["figure", "A", "B", "A less B (interval)", "p", "n"],
            rows: c.tests.iter().map(test).collect(),
        },
        Table {
            title: "Sensitivity at the operating points, by stratum (p is not adjusted for their number)".into(),
            header: vec!["property", "group", "found by A", "found by B", "A less B (interval)", "p", ""],
            rows: strata.collect(),
        },
        list("Nodules that A found and B did not".into(), only("only-a")),
        list("Nodules that B found and A did not".into(), only("only-b")),
        list("Nodules whose score changed most".into(), moved),
        Table {
            title: "Scans that changed most".into(),
            header: vec!["case", "centre", "found by A", "found by B", "false by A", "false by B", "Dice, A less B"],
            rows: cases.collect(),
        },
    ]
}

fn heading(c: &Comparison) -> Vec<String> {
    vec![
        format!("A: {} at score {:.4} (predictions {:.16})", c.a.name, c.a.operating_threshold, c.a.predictions_sha256),
        format!("B: {} at score {:.4} (predictions {:.16})", c.b.name, c.b.operating_threshold, c.b.predictions_sha256),
        format!("protocol {} ({:.16}), data {:.16}", c.protocol, c.protocol_sha256, c.data_fingerprint),
        format!(
            "{} scans of {} patients, {} scored nodules; intervals of {} %",
            c.scans,
            c.patients,
            c.nodules,
            100.0 * c.confidence_level
        ),
        format!(
            "found by both {}, by A alone {}, by B alone {}, by neither {}",
            c.found.both, c.found.only_a, c.found.only_b, c.found.neither
        ),
    ]
}

fn text(c: &Comparison) -> String {
    let mut out = format!("{}\n{}\n", c.notice, heading(c).join("\n"));
    for table in tables(c).into_iter().filter(|table| !table.rows.is_empty()) {
        let lines: Vec<Vec<String>> =
            std::iter::once(table.header.iter().map(|h| (*h).to_owned()).collect()).chain(table.rows).collect();
        let widths: Vec<usize> = (0..table.header.len())
            .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or_default())
            .collect();
        out += &format!("\n{}\n", table.title);
        for line in lines {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            out += &format!("  {}\n", cells.join("  ").trim_end());
        }
    }
    for test in &c.tests {
        out += &format!("\n{}: {}", test.figure, test.how);
    }
    out + "\n"
}

fn html(c: &Comparison, svg: &str) -> String {
    let title = format!("Comparison: {} and {}", c.a.name, c.b.name);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <p class=\"notice\">{1}</p>\n<h1>{0}</h1>\n",
        escaped(&title),
        escaped(&c.notice)
    );
    for line in heading(c) {
        out += &format!("<p>{}</p>\n", escaped(&line));
    }
    let caption = "Sensitivity against false positives per scan of both systems on the same scans.";
    let drawing = &svg[svg.find("<svg").unwrap_or(0)..];
    out += &format!(
        "<figure role=\"img\" aria-label=\"{caption}\">{drawing}<figcaption>{caption}</figcaption></figure>\n"
    );
    for table in tables(c) {
        out += &format!("<h2>{}</h2>\n", escaped(&table.title));
        if table.rows.is_empty() {
            out += "<p>None.</p>\n";
            continue;
        }
        let cells = |row: Vec<String>, tag: &str| {
            let cells: String = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let header = cells(table.header.iter().map(|h| (*h).to_owned()).collect(), "th");
        let rows: String = table.rows.into_iter().map(|row| cells(row, "td")).collect();
        out += &format!("<div class=\"wide\"><table>\n{header}{rows}</table></div>\n");
    }
    out += "<h2>How</h2>\n<ul>\n";
    for test in &c.tests {
        out += &format!("<li>{}: {}</li>\n", escaped(test.figure), escaped(&test.how));
    }
    out + "</ul>\n</body>\n</html>\n"
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;color:#1a1a1a;max-width:62rem;margin:0 auto;padding:1rem}\
.notice{background:#fff3cd;border:1px solid #b58900;padding:.6rem 1rem;font-weight:bold}\
table{border-collapse:collapse;margin:.6rem 0}th,td{border:1px solid #bbb;padding:.25rem .6rem;text-align:left;\
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}th{background:#f0f0f0}.wide{overflow-x:auto}p{margin:.3rem 0}\
figure{margin:1rem 0}svg{max-width:100%;height:auto}figcaption{color:#444;font-size:.9rem}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

fn difference(value: Option<f64>, ci: Option<Interval>) -> String {
    match (value, ci) {
        (Some(value), Some([low, high])) => format!("{value:+.4} ({low:+.4} to {high:+.4})"),
        (Some(value), None) => format!("{value:+.4}"),
        _ => "-".into(),
    }
}

fn p(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(p) if p < 0.0001 => "< 0.0001".into(),
        Some(p) => format!("{p:.4}"),
    }
}

fn nodules(c: &Comparison) -> Result<DataFrame, Failure> {
    let n = &c.changes;
    df!(
        "case" => n.iter().map(|n| n.case.as_str()).collect::<Vec<_>>(),
        "nodule" => n.iter().map(|n| n.nodule.as_str()).collect::<Vec<_>>(),
        "diameter_mm" => n.iter().map(|n| n.diameter_mm).collect::<Vec<_>>(),
        "kind" => n.iter().map(|n| n.kind.as_deref()).collect::<Vec<_>>(),
        "lobe" => n.iter().map(|n| n.lobe.as_deref()).collect::<Vec<_>>(),
        "found" => n.iter().map(|n| n.found).collect::<Vec<_>>(),
        "score_a" => n.iter().map(|n| n.score_a).collect::<Vec<_>>(),
        "score_b" => n.iter().map(|n| n.score_b).collect::<Vec<_>>(),
        "change" => n.iter().map(|n| n.change).collect::<Vec<_>>(),
    )
    .map_err(table)
}

fn cases(c: &Comparison) -> Result<DataFrame, Failure> {
    let n = &c.cases;
    let count = |f: &dyn Fn(&super::CaseChange) -> usize| n.iter().map(|case| f(case) as u32).collect::<Vec<u32>>();
    df!(
        "case" => n.iter().map(|n| n.case.as_str()).collect::<Vec<_>>(),
        "centre" => n.iter().map(|n| n.centre.as_str()).collect::<Vec<_>>(),
        "nodules" => count(&|n| n.nodules),
        "found_a" => count(&|n| n.found_a),
        "found_b" => count(&|n| n.found_b),
        "false_positives_a" => count(&|n| n.false_positives_a),
        "false_positives_b" => count(&|n| n.false_positives_b),
        "dice_change" => n.iter().map(|n| n.dice_change).collect::<Vec<_>>(),
    )
    .map_err(table)
}

fn strata(c: &Comparison) -> Result<DataFrame, Failure> {
    let n = &c.strata;
    let count = |f: &dyn Fn(&super::StratumDelta) -> usize| n.iter().map(|s| f(s) as u32).collect::<Vec<u32>>();
    df!(
        "property" => n.iter().map(|n| n.of.as_str()).collect::<Vec<_>>(),
        "group" => n.iter().map(|n| n.group.as_str()).collect::<Vec<_>>(),
        "nodules" => count(&|n| n.nodules),
        "both" => count(&|n| n.found.both),
        "only_a" => count(&|n| n.found.only_a),
        "only_b" => count(&|n| n.found.only_b),
        "neither" => count(&|n| n.found.neither),
        "difference" => n.iter().map(|n| n.difference).collect::<Vec<_>>(),
        "ci_lower" => n.iter().map(|n| n.ci.map(|ci| ci[0])).collect::<Vec<_>>(),
        "ci_upper" => n.iter().map(|n| n.ci.map(|ci| ci[1])).collect::<Vec<_>>(),
        "p" => n.iter().map(|n| n.p).collect::<Vec<_>>(),
        "descriptive" => n.iter().map(|n| n.descriptive).collect::<Vec<_>>(),
    )
    .map_err(table)
}

fn csv(frame: &mut DataFrame, path: &Path) -> Result<(), Failure> {
    CsvWriter::new(std::fs::File::create(path).map_err(io(path))?).finish(frame).map_err(io(path))
}

fn table(error: polars::error::PolarsError) -> Failure {
    Failure::new("table", error.to_string())
}

/// Both FROC curves, false positives on a logarithmic axis from 1/8 to 8.
struct Froc<'a>(&'a Comparison);

impl Figure for Froc<'_> {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let c = self.0;
        let synthetic = if c.synthetic { " (SYNTHETIC)" } else { "" };
        let mut chart = ChartBuilder::on(area)
            .caption(format!("{} and {}{synthetic}", c.a.name, c.b.name), (FONT, 20))
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(62)
            .build_cartesian_2d(-3.0..3.0f64, 0.0..1.02f64)?;
        chart
            .configure_mesh()
            .x_desc("False positives per scan")
            .y_desc("Sensitivity")
            .x_labels(7)
            .y_labels(11)
            .x_label_formatter(&|x| {
                if *x < -0.01 { format!("1/{:.0}", (-x).exp2()) } else { format!("{:.0}", x.exp2()) }
            })
            .y_label_formatter(&|y| format!("{y:.1}"))
            .label_style((FONT, 16))
            .axis_desc_style((FONT, 18))
            .light_line_style(WHITE)
            .draw()?;
        for (curve, name, colour) in [(&c.curves[0], "A", BLUE), (&c.curves[1], "B", ORANGE)] {
            let cpm = c.tests.iter().find(|test| test.figure == "CPM");
            let value = cpm.and_then(|test| if name == "A" { test.a } else { test.b });
            chart
                .draw_series(LineSeries::new(steps(curve), colour.stroke_width(3)))?
                .label(format!("{name}: CPM {}", number(value, 3)))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], colour.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .label_font((FONT, 16))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        Ok(())
    }
}

/// The curve's points within the axis, begun at its left end and ended at its right one.
fn steps(curve: &[[f64; 3]]) -> Vec<(f64, f64)> {
    let below = |rate: f64| curve.iter().rev().find(|p| p[1] <= rate).map_or(0.0, |p| p[2]);
    let inside = curve.iter().map(|p| (p[1].log2(), p[2])).filter(|(x, _)| *x > -3.0 && *x < 3.0);
    std::iter::once((-3.0, below(0.125))).chain(inside).chain([(3.0, below(8.0))]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changed, results};
    use super::*;
    use crate::results::tests::records;

    #[test]
    fn a_comparison_is_written_whole_and_says_what_it_is_of() {
        let out = tempfile::tempdir().unwrap();
        let c = super::super::compare(&results(records()), &results(changed())).unwrap();
        let text = write(&c, out.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
        assert!(text.starts_with("Not cleared for clinical use. SYNTHETIC data"));
        assert!(text.contains("found by both 3, by A alone 1, by B alone 1, by neither 1"));
        let page = read("compare.html");
        for part in ["<svg", "SYNTHETIC", "Nodules that A found and B did not: 1", "McNemar", "DeLong"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(
            !page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count()
        );
        assert_eq!(read("nodules.csv").lines().count(), 1 + 6);
        assert_eq!(read("cases.csv").lines().count(), 1 + 4);
        assert!(read("strata.csv").contains("nodule.diameter_mm,3 to < 6 mm,2,1,0,1,0,-0.5,"));
        let json: serde_json::Value = serde_json::from_str(&read("compare.json")).unwrap();
        assert_eq!(json["found"]["only_a"], 1);
        assert!(out.path().join("froc.png").exists() && !out.path().join(".unfinished").exists());
    }
}
