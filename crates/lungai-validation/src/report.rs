//! The report: one text as Markdown and as a page that needs no network.

use crate::figures::Picture;
use crate::lock::Standing;
use crate::reference::Collected;
use crate::results::{Figure, Group, Results};
use std::fmt::Write;

/// What the report says about the run itself.
pub struct Facts {
    /// Protocol name and version.
    pub protocol: String,
    /// What is to be shown.
    pub purpose: String,
    /// SHA-256 of the protocol file.
    pub protocol_sha256: String,
    /// SHA-256 of what the protocol says, which no comment changes: what a lock holds.
    pub canonical_sha256: String,
    /// Whether the protocol was locked before, and the place in the ledger; or that the run is exploratory.
    pub standing: Standing,
    /// Model name and version.
    pub model: String,
    /// The name alone.
    pub model_name: String,
    /// The version alone.
    pub model_version: String,
    /// SHA-256 that pins the model.
    pub model_sha256: String,
    /// Whether the model was trained on synthetic data.
    pub model_synthetic: bool,
    /// Data set name and version.
    pub data_set: String,
    /// SHA-256 of the manifest file.
    pub manifest_sha256: String,
    /// One value for every voxel, label and nodule of the data set.
    pub data_fingerprint: String,
    /// SHA-256 that pins the predictions which were analysed.
    pub predictions_sha256: String,
    /// SHA-256 of the program that analysed them.
    pub program_sha256: String,
    /// Whether the images were computed.
    pub synthetic: bool,
    /// Where the networks ran.
    pub device: String,
    /// Operating point as the protocol names it.
    pub operating_point: String,
    /// Confidence in percent.
    pub percent: f64,
}

enum Block<'a> {
    Heading(String),
    Text(String),
    Table(Vec<&'static str>, Vec<Vec<String>>),
    Figure(&'a Picture),
}

/// The first line of everything that is written.
pub fn notice(synthetic: bool) -> &'static str {
    if synthetic {
        "Not cleared for clinical use. SYNTHETIC data: nothing here is a clinical result."
    } else {
        "Not cleared for clinical use."
    }
}

/// Markdown and HTML.
pub fn render(facts: &Facts, results: &Results, collected: &Collected, pictures: &[Picture]) -> (String, String) {
    let blocks = blocks(facts, results, collected, pictures);
    let title = format!("Validation report: {} on {}", facts.model, facts.data_set);
    (markdown(facts, &title, &blocks), html(facts, &title, &blocks))
}

fn blocks<'a>(facts: &Facts, r: &Results, collected: &Collected, pictures: &'a [Picture]) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    let figure = |name: &str| pictures.iter().find(|p| p.name == name).map(Block::Figure);
    let failed = r.criteria.iter().filter(|c| !c.decision.shown).count();
    let verdict = if failed == 0 {
        format!("All {} acceptance criteria are met.", r.criteria.len())
    } else {
        format!("{failed} of {} acceptance criteria are NOT met.", r.criteria.len())
    };
    blocks.push(Block::Heading("Verdict".into()));
    blocks.push(Block::Text(verdict));
    let rows = r.criteria.iter().map(|c| {
        let part =
            if c.diameter_at_least_mm > 0.0 { format!(" (>= {} mm)", c.diameter_at_least_mm) } else { String::new() };
        vec![
            c.id.clone(),
            format!("{}{part}", c.metric.name()),
            shown(&Figure { value: c.value, ci: c.ci, n: c.n }, 3),
            c.n.to_string(),
            format!("{} {} {}", c.on.words(), c.op.sign(), c.limit),
            match (c.decision.shown, c.decision.tested) {
                (true, _) => "met",
                (false, true) => "NOT met",
                (false, false) => "not tested",
            }
            .to_owned(),
        ]
    });
    let interval = "figure (interval)";
    blocks.push(Block::Table(vec!["criterion", "figure of", interval, "n", "must hold", "verdict"], rows.collect()));

    blocks.push(Block::Heading("What was run".into()));
    blocks.push(Block::Text(facts.purpose.clone()));
    let rows = [
        ("protocol", facts.protocol.clone()),
        ("protocol SHA-256", facts.protocol_sha256.clone()),
        ("standing", facts.standing.words()),
        ("model", format!("{}{}", facts.model, if facts.model_synthetic { ", trained on SYNTHETIC data" } else { "" })),
        ("model SHA-256", facts.model_sha256.clone()),
        ("data set", format!("{}{}", facts.data_set, if facts.synthetic { ", SYNTHETIC" } else { "" })),
        ("manifest SHA-256", facts.manifest_sha256.clone()),
        ("data fingerprint", facts.data_fingerprint.clone()),
        ("predictions SHA-256", facts.predictions_sha256.clone()),
        ("program SHA-256", facts.program_sha256.clone()),
        ("device", facts.device.clone()),
        ("operating point", format!("{} (score {:.4})", facts.operating_point, r.detection.operating_threshold)),
        ("confidence", format!("{} %", facts.percent)),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    blocks.push(Block::Table(vec!["", ""], rows));
    let c = &r.counts;
    blocks.push(Block::Text(format!(
        "{} scans of {} patients with {} scored nodules; {} further reference findings are not scored. The quality gate \
         warned of {} scans and refused {} (with {} scored nodules, which are in no figure below). Not looked at: {} test \
         scans of other centres, {} without reference nodules.",
        c.scans,
        c.patients,
        c.nodules,
        c.excluded_findings,
        c.warned_scans,
        c.rejected_scans,
        c.nodules_in_rejected_scans,
        c.scans_of_other_centres,
        c.scans_without_reference
    )));
    if !collected.rejected.is_empty() {
        let rows = collected.rejected.iter();
        let rows = rows.map(|r| vec![r.case.clone(), r.centre.clone(), r.nodules.to_string(), r.reason.clone()]);
        blocks.push(Block::Table(vec!["refused scan", "centre", "nodules", "rules"], rows.collect()));
    }

    let d = &r.detection;
    blocks.push(Block::Heading("Detection".into()));
    blocks.push(Block::Text(format!(
        "At the operating point the model finds {} of {} nodules ({}) with {} false positives ({} per scan). CPM {}; \
         threshold-and-blob baseline {}; difference {}. By the second localisation rule (fixed distance) CPM {}.",
        d.found,
        c.nodules,
        shown(&d.sensitivity, 3),
        d.false_positives,
        shown(&d.fp_per_scan, 2),
        shown(&d.curve.cpm, 3),
        r.baseline.as_ref().map_or("not run".into(), |baseline| shown(&baseline.cpm, 3)),
        shown(&r.cpm_over_baseline, 3),
        shown(&r.cpm_second_rule, 3)
    )));
    blocks.extend(figure("froc"));
    let rows = d.curve.at.iter().enumerate().map(|(at, model)| {
        let cell = |p: &crate::results::AtRate| format!("{:.3} ({:.3} to {:.3})", p.sensitivity, p.ci[0], p.ci[1]);
        let threshold = model.threshold.map_or("none".into(), |t| format!("{t:.4}"));
        let baseline = r.baseline.as_ref().map_or("not run".into(), |baseline| cell(&baseline.at[at]));
        vec![model.rate.to_string(), cell(model), threshold, baseline]
    });
    blocks.push(Block::Table(vec!["FP per scan", "sensitivity", "lowest score", "baseline"], rows.collect()));
    blocks.push(Block::Heading("By size and kind".into()));
    blocks.extend(figure("sizes"));
    blocks.push(group_table("diameter", &r.sizes));
    blocks.push(group_table("kind", &r.kinds));

    blocks.push(Block::Heading("By centre".into()));
    blocks.extend(figure("centres"));
    let rows = r.centres.iter().map(|g| {
        vec![
            g.name.clone(),
            g.scans.unwrap_or_default().to_string(),
            format!("{} of {}", g.found, g.nodules),
            shown(&g.sensitivity, 3),
            g.fp_per_scan.map_or(String::new(), |f| shown(&f, 2)),
            g.cpm.map_or("not defined".into(), |f| shown(&f, 3)),
            g.dice.map_or("no reference".into(), |d| format!("{d:.4}")),
        ]
    });
    let header = vec!["centre", "scans", "found", "sensitivity", "FP per scan", "CPM", "lung Dice"];
    blocks.push(Block::Table(header, rows.collect()));
    blocks.push(Block::Text(match &r.heterogeneity {
        Some(h) => format!(
            "Random effects over {} centres (logit of sensitivity): {:.3} ({:.3} to {:.3}); Q = {:.2}, p = {:.3}, tau2 = {:.3}, \
             I2 = {:.0} %. With few centres tau2 is itself uncertain.",
            h.centres,
            h.sensitivity,
            h.ci[0],
            h.ci[1],
            h.q,
            h.p,
            h.tau2,
            100.0 * h.i2
        ),
        None => "Fewer than two centres with nodules: heterogeneity is not defined.".into(),
    }));

    blocks.push(Block::Heading("Lungs".into()));
    blocks.extend(figure("dice"));
    let l = &r.lungs;
    let rows = [
        ("Dice, right lung", shown(&l.dice_right, 4), l.dice_right.n),
        ("Dice, left lung", shown(&l.dice_left, 4), l.dice_left.n),
        ("HD95 of the worse lung, mm", shown(&l.hd95_mm, 2), l.hd95_mm.n),
        ("surface Dice of the worse lung", shown(&l.surface_dice, 4), l.surface_dice.n),
    ];
    let rows = rows.into_iter().map(|(name, value, n)| vec![name.to_owned(), value, n.to_string()]).collect();
    blocks.push(Block::Table(vec!["mean over scans", interval, "scans"], rows));

    let m = &r.malignancy;
    blocks.push(Block::Heading("Malignancy".into()));
    blocks.push(Block::Text(format!(
        "{} nodules with a diagnosis, {} malignant, {} found at the operating point. AUC over all of them, where a missed \
         nodule scores 0: {}; over found ones only: {}. Calibration error of found ones {}, Brier score {}.",
        m.nodules,
        m.malignant,
        m.found,
        shown(&m.auc, 3),
        shown(&m.auc_found, 3),
        shown(&m.calibration_error, 3),
        m.brier.map_or("not defined".into(), |b| format!("{b:.3}"))
    )));
    blocks.extend(figure("roc"));

    blocks.push(Block::Heading("Time".into()));
    let s = &r.seconds;
    let rows = [
        ("lung segmentation", s.segment),
        ("detection", s.detect),
        ("malignancy, each mark", s.classify),
        ("whole scan", s.total),
    ];
    let rows = rows.into_iter().map(|(name, f)| vec![name.to_owned(), shown(&f, 2)]).collect();
    blocks.push(Block::Table(vec!["95th percentile over scans", "seconds"], rows));
    blocks.push(Block::Text(format!(
        "Measured on: {}. All marks down to the lowest score are classified.",
        facts.device
    )));

    blocks.push(Block::Heading("How the intervals are made".into()));
    blocks.push(Block::Text(
        "Curves, Dice and times: percentiles over resampled patients with all their scans. Sensitivity, false positives and \
         AUC: the wider of that and the exact (Clopper-Pearson, Garwood) or DeLong interval, since resampling cannot \
         imagine a miss that did not happen. Criteria are decided on the bound that the protocol names. marks.csv, \
         annotations.csv, annotations_excluded.csv and seriesuids.csv hold what is needed to score the detector again with \
         another program (lines of marks.csv with system = model)."
            .into(),
    ));
    blocks
}

fn group_table(by: &'static str, groups: &[Group]) -> Block<'static> {
    let rows = groups.iter().map(|g| {
        let note = if g.descriptive { "descriptive" } else { "" };
        vec![g.name.clone(), format!("{} of {}", g.found, g.nodules), shown(&g.sensitivity, 3), note.to_owned()]
    });
    Block::Table(vec![by, "found", "sensitivity", ""], rows.collect())
}

fn shown(figure: &Figure, digits: usize) -> String {
    match (figure.value, figure.ci) {
        (Some(v), Some([low, high])) => format!("{v:.digits$} ({low:.digits$} to {high:.digits$})"),
        (Some(v), None) => format!("{v:.digits$}"),
        _ => "not defined".into(),
    }
}

fn markdown(facts: &Facts, title: &str, blocks: &[Block<'_>]) -> String {
    let mut out = format!("**{}**\n\n# {title}\n", notice(facts.synthetic));
    for block in blocks {
        let _ = match block {
            Block::Heading(text) => writeln!(out, "\n## {text}"),
            Block::Text(text) => writeln!(out, "\n{text}"),
            Block::Figure(p) => writeln!(out, "\n![{}]({}.svg)\n\n*{}*", p.caption, p.name, p.caption),
            Block::Table(header, rows) => {
                let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
                out += "\n";
                out += &line(header.iter().map(|h| (*h).to_owned()).collect());
                out += &line(header.iter().map(|_| "---".to_owned()).collect());
                rows.iter().for_each(|row| out += &line(row.iter().map(|cell| cell.replace('|', "\\|")).collect()));
                Ok(())
            }
        };
    }
    out
}

fn html(facts: &Facts, title: &str, blocks: &[Block<'_>]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <p class=\"notice\">{1}</p>\n<h1>{0}</h1>\n",
        escaped(title),
        notice(facts.synthetic)
    );
    for block in blocks {
        let _ = match block {
            Block::Heading(text) => writeln!(out, "<h2>{}</h2>", escaped(text)),
            Block::Text(text) => writeln!(out, "<p>{}</p>", escaped(text)),
            Block::Figure(p) => {
                let svg = &p.svg[p.svg.find("<svg").unwrap_or(0)..];
                let caption = escaped(&p.caption);
                writeln!(
                    out,
                    "<figure role=\"img\" aria-label=\"{caption}\">{svg}<figcaption>{caption}</figcaption></figure>"
                )
            }
            Block::Table(header, rows) => {
                let cells = |row: &[String], tag: &str| {
                    let cells: String = row.iter().map(|c| format!("<{tag}>{}</{tag}>", escaped(c))).collect();
                    format!("<tr>{cells}</tr>\n")
                };
                let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
                let rows: String = rows.iter().map(|row| cells(row, "td")).collect();
                let head = if header.iter().all(String::is_empty) { String::new() } else { cells(&header, "th") };
                writeln!(out, "<div class=\"wide\"><table>\n{head}{rows}</table></div>")
            }
        };
    }
    out + "</body>\n</html>\n"
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;color:#1a1a1a;max-width:62rem;margin:0 auto;padding:1rem}\
.notice{background:#fff3cd;border:1px solid #b58900;padding:.6rem 1rem;font-weight:bold}\
table{border-collapse:collapse;margin:.6rem 0}th,td{border:1px solid #bbb;padding:.25rem .6rem;text-align:left;\
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}th{background:#f0f0f0}.wide{overflow-x:auto}\
figure{margin:1rem 0}svg{max-width:100%;height:auto}figcaption{color:#444;font-size:.9rem}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
