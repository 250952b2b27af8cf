//! The trace as a picture: needs, system requirements, software requirements and risks in columns, coloured by state; a click leads to the item.
use super::html::{Esc, colour};
use crate::build::Report;
use crate::finding::Severity;
use crate::regulatory::{Regulatory, Tier};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = write!($out, $($text)*); };
}

const WIDTH: usize = 250;
const GAP: usize = 90;
const ROW: usize = 26;

struct Node {
    id: String,
    words: String,
    colour: &'static str,
    href: String,
    column: usize,
}

/// Fill and border; the words on them are black on every one.
fn paint(colour: &str) -> (&'static str, &'static str) {
    match colour {
        "red" => ("#fdecec", "#a3161f"),
        "amber" => ("#fff2d6", "#7a4b00"),
        "green" => ("#e2f4ea", "#0d5f3a"),
        _ => ("#e9edf0", "#46535f"),
    }
}

pub fn svg(report: &Report, regulatory: &Regulatory) -> String {
    let nodes = nodes(report, regulatory);
    let mut place: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut filled = [0usize; 4];
    for node in &nodes {
        place.insert(&node.id, (node.column, filled[node.column]));
        filled[node.column] += 1;
    }
    let (width, height) = (4 * WIDTH + 3 * GAP + 20, filled.iter().max().copied().unwrap_or(0) * ROW + 50);
    let x = |column: usize| 10 + column * (WIDTH + GAP);
    let y = |row: usize| 40 + row * ROW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"system-ui,sans-serif\" font-size=\"11\">\n\
         <title>Trace of {} {}</title><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        Esc(&report.product),
        Esc(&report.version)
    );
    for (column, name) in ["Needs", "System requirements", "Software requirements", "Risks"].iter().enumerate() {
        put!(out, "<text x=\"{}\" y=\"24\" font-weight=\"600\" font-size=\"13\">{name}</text>\n", x(column));
    }
    let mut edge = |from: &str, to: &str| {
        let (Some((a, i)), Some((b, k))) = (place.get(from), place.get(to)) else { return };
        let ((a, i), (b, k)) = if a <= b { ((a, i), (b, k)) } else { ((b, k), (a, i)) };
        let (x1, y1, x2, y2) = (x(*a) + WIDTH, y(*i) + ROW / 2 - 2, x(*b), y(*k) + ROW / 2 - 2);
        let middle = (x1 + x2) / 2;
        put!(
            out,
            "<path d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#9fadb9\" stroke-width=\".7\"><title>{} - {}</title></path>\n",
            Esc(from),
            Esc(to)
        );
    };
    for status in &report.requirements {
        let r = &status.requirement;
        r.parents.iter().chain(&r.controls_for).for_each(|other| edge(&r.id, other));
    }
    for node in &nodes {
        let (fill, stroke) = paint(node.colour);
        let (column, row) = place[node.id.as_str()];
        let (x, y) = (x(column), y(row));
        put!(
            out,
            "<a href=\"{}\"><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{}\" rx=\"3\" fill=\"{fill}\" stroke=\"{stroke}\"/><text x=\"{}\" y=\"{}\"><tspan font-weight=\"600\">{}</tspan> {}</text></a>\n",
            Esc(&node.href),
            ROW - 4,
            x + 6,
            y + 15,
            Esc(&node.id),
            Esc(short(&node.words))
        );
    }
    out.push_str("</svg>\n");
    out
}

fn short(text: &str) -> String {
    let room = 38;
    if text.chars().count() <= room { text.to_owned() } else { text.chars().take(room - 1).collect::<String>() + "…" }
}

fn nodes(report: &Report, regulatory: &Regulatory) -> Vec<Node> {
    let mut nodes = Vec::new();
    let of_state = |severity: Option<Severity>| colour(severity);
    for (id, need) in &regulatory.needs {
        let worst = report.requirements.iter().filter(|r| r.requirement.parents.contains(id)).map(|r| r.state).min();
        let colour = worst.map_or("amber", |state| of_state(state.severity()));
        let href = format!("records.html#{id}");
        nodes.push(Node { id: id.clone(), words: need.title.en.clone(), colour, href, column: 0 });
    }
    for status in &report.requirements {
        let r = &status.requirement;
        let column = if r.tier == Tier::System { 1 } else { 2 };
        let colour = if status.suspect.is_empty() { of_state(status.state.severity()) } else { "amber" };
        let words = format!("{}: {}", r.title.en, status.state.words());
        nodes.push(Node { id: r.id.clone(), words, colour, href: format!("trace-matrix.html#{}", r.id), column });
    }
    for status in &report.risks {
        let colour = if status.residual_as_evidenced.acceptable { "green" } else { "red" };
        let level = format!("{:?}", status.residual_as_evidenced.level).to_lowercase();
        let words = format!("{}: {level}", status.risk.title.en);
        let id = status.risk.id.clone();
        nodes.push(Node { href: format!("risk-file.html#{id}"), id, words, colour, column: 3 });
    }
    nodes
}
