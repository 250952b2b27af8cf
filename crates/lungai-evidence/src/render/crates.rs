//! The crates as a picture in layers: each crate stands above those that it uses. Whatever follows from other lines is left out, and so
//! are the lines to the tags of the trace, which nearly every crate uses.
use super::html::Esc;
use crate::build::Report;
use crate::soup::ItemStatus;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = write!($out, $($text)*); };
}

pub const FILE: &str = "architecture.svg";
/// Used by nearly all, for tags alone.
const LEFT_OUT: [&str; 2] = ["lungai-trace", "lungai-trace-macros"];

const BOX: [f64; 2] = [150.0, 36.0];
/// Between boxes, and of a line that passes a layer.
const GAP: f64 = 22.0;
const LAYER: f64 = 92.0;
const MARGIN: f64 = 24.0;

/// A box, or a line on its way through a layer.
struct Node<'a> {
    item: Option<&'a ItemStatus>,
    layer: usize,
    x: f64,
    /// Nodes of the layer below.
    below: Vec<usize>,
    above: Vec<usize>,
}

impl Node<'_> {
    fn half_width(&self) -> f64 {
        if self.item.is_some() { BOX[0] / 2.0 } else { 4.0 }
    }
}

pub fn svg(report: &Report) -> String {
    let uses = reduced(&report.items);
    let used: BTreeSet<&str> = uses.values().flatten().copied().collect();
    let apart = |item: &&ItemStatus| uses[item.name.as_str()].is_empty() && !used.contains(item.name.as_str());
    let shown = report.items.iter().filter(|item| uses.contains_key(item.name.as_str()));
    let (alone, joined): (Vec<&ItemStatus>, Vec<&ItemStatus>) = shown.partition(apart);
    let (mut nodes, layers) = placed(&joined, &uses);
    let height = MARGIN * 2.0 + 40.0 + LAYER * layers.len().saturating_sub(1) as f64 + BOX[1];
    let right = nodes.iter().map(|n| n.x + n.half_width()).fold(600.0, f64::max) + MARGIN;
    let y = |layer: usize| height - MARGIN - BOX[1] - LAYER * layer as f64;
    // At the right of the legend, in the uppermost layer's height: they use no other crate and none uses them.
    let edge =
        nodes.iter().filter(|n| n.layer + 1 >= layers.len()).map(|n| n.x + n.half_width()).fold(MARGIN, f64::max);
    for (i, item) in alone.into_iter().enumerate() {
        let x = edge + 3.0 * GAP + BOX[0] / 2.0 + (BOX[0] + GAP) * i as f64;
        nodes.push(Node {
            item: Some(item),
            layer: layers.len().saturating_sub(1),
            x,
            below: Vec::new(),
            above: Vec::new(),
        });
    }
    let right = nodes.iter().map(|n| n.x + n.half_width() + MARGIN).fold(right, f64::max);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {right:.0} {height:.0}\" width=\"{right:.0}\" height=\"{height:.0}\" role=\"img\" font-family=\"system-ui,sans-serif\" font-size=\"12.5\">\n\
         <title>{} {}: crates / 软件项</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        Esc(&report.product),
        Esc(&report.version)
    );
    for (x, shipped, words) in
        [(MARGIN, true, "in the shipped program / 随产品发布"), (MARGIN + 280.0, false, "not shipped / 不发布")]
    {
        let (fill, line) = paint(shipped);
        put!(out, "<rect x=\"{x}\" y=\"14\" width=\"22\" height=\"14\" rx=\"3\" fill=\"{fill}\" stroke=\"{line}\"/>");
        put!(out, "<text x=\"{}\" y=\"26\" fill=\"#1b2733\">{words}</text>\n", x + 30.0);
    }
    for node in &nodes {
        for below in node.below.iter().map(|n| &nodes[*n]) {
            // A line that passes a layer goes straight through the height of its boxes.
            let (from, to) = (y(node.layer) + BOX[1], y(below.layer));
            let middle = f64::midpoint(from, to);
            put!(
                out,
                "<path d=\"M{:.1} {from:.1}C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {to:.1}",
                node.x,
                node.x,
                below.x,
                below.x
            );
            if below.item.is_none() {
                put!(out, "V{:.1}", to + BOX[1]);
            }
            put!(out, "\" fill=\"none\" stroke=\"#8a99a8\" stroke-width=\"1.2\"/>\n");
        }
    }
    for node in &nodes {
        let Some(item) = node.item else { continue };
        let (fill, line) = paint(item.shipped);
        let (left, top) = (node.x - BOX[0] / 2.0, y(node.layer));
        put!(
            out,
            "<g><title>{}</title><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"{fill}\" stroke=\"{line}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#1b2733\">{}</text></g>\n",
            Esc(&item.is),
            BOX[0],
            BOX[1],
            node.x,
            top + 23.0,
            Esc(&item.name)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Fill and border.
fn paint(shipped: bool) -> (&'static str, &'static str) {
    if shipped { ("#dcebf7", "#0b5a8f") } else { ("#f1f3f5", "#8a99a8") }
}

/// What each item uses, without what follows from other lines.
fn reduced(items: &[ItemStatus]) -> BTreeMap<&str, BTreeSet<&str>> {
    let shown = |name: &str| !LEFT_OUT.contains(&name) && items.iter().any(|item| item.name == name);
    let uses: BTreeMap<&str, BTreeSet<&str>> = items
        .iter()
        .filter(|item| shown(&item.name))
        .map(|item| (item.name.as_str(), item.uses.iter().map(String::as_str).filter(|name| shown(name)).collect()))
        .collect();
    fn reaches(uses: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
        uses.get(from).is_some_and(|used| used.contains(to) || used.iter().any(|next| reaches(uses, next, to)))
    }
    let direct = |used: &BTreeSet<&str>, to: &str| !used.iter().any(|other| *other != to && reaches(&uses, other, to));
    uses.iter().map(|(name, used)| (*name, used.iter().copied().filter(|to| direct(used, to)).collect())).collect()
}

/// Every box with its place, and the nodes of each layer from left to right, the lowest layer first.
fn placed<'a>(items: &[&'a ItemStatus], uses: &BTreeMap<&str, BTreeSet<&str>>) -> (Vec<Node<'a>>, Vec<Vec<usize>>) {
    fn depth(uses: &BTreeMap<&str, BTreeSet<&str>>, name: &str) -> usize {
        // Cargo refuses circles.
        uses.get(name).into_iter().flatten().map(|used| depth(uses, used) + 1).max().unwrap_or(0)
    }
    let mut nodes: Vec<Node> = Vec::new();
    let mut number: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items.iter().copied() {
        number.insert(&item.name, nodes.len());
        let layer = depth(uses, &item.name);
        nodes.push(Node { item: Some(item), layer, x: 0.0, below: Vec::new(), above: Vec::new() });
    }
    for (name, used) in uses.iter().filter(|(name, _)| number.contains_key(*name)) {
        for to in used {
            let (mut from, to) = (number[name], number[to]);
            while nodes[from].layer > nodes[to].layer + 1 {
                let layer = nodes[from].layer - 1;
                nodes.push(Node { item: None, layer, x: 0.0, below: Vec::new(), above: vec![from] });
                let passing = nodes.len() - 1;
                nodes[from].below.push(passing);
                from = passing;
            }
            nodes[from].below.push(to);
            nodes[to].above.push(from);
        }
    }
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); nodes.iter().map(|n| n.layer + 1).max().unwrap_or(0)];
    (0..nodes.len()).for_each(|n| layers[nodes[n].layer].push(n));
    // Each layer is ordered by the middle of its neighbours, up and down, until lines cross little; then it is spread.
    layers.iter().for_each(|layer| spread(&mut nodes, layer, |node| node.x));
    for round in 0..24 {
        let upwards = round % 2 == 0;
        let order: Vec<usize> = if upwards { (0..layers.len()).collect() } else { (0..layers.len()).rev().collect() };
        for at in order {
            let middle = |nodes: &[Node], n: usize| {
                let beside = if upwards { &nodes[n].below } else { &nodes[n].above };
                let sum: f64 = beside.iter().map(|b| nodes[*b].x).sum();
                if beside.is_empty() { nodes[n].x } else { sum / beside.len() as f64 }
            };
            let wanted: BTreeMap<usize, f64> = layers[at].iter().map(|n| (*n, middle(&nodes, *n))).collect();
            layers[at].sort_by(|a, b| wanted[a].total_cmp(&wanted[b]));
            for n in &layers[at] {
                nodes[*n].x = wanted[n];
            }
            spread(&mut nodes, &layers[at], |node| node.x);
        }
    }
    let left = nodes.iter().map(|n| n.x - n.half_width()).fold(f64::INFINITY, f64::min);
    nodes.iter_mut().for_each(|n| n.x += MARGIN - left);
    (nodes, layers)
}

/// Moves the nodes of a layer apart, in their order, as little as a pass from each side does.
fn spread(nodes: &mut [Node], layer: &[usize], wanted: impl Fn(&Node) -> f64) {
    let apart = |nodes: &[Node], a: usize, b: usize| nodes[a].half_width() + nodes[b].half_width() + GAP;
    let mut from_left: Vec<f64> = layer.iter().map(|n| wanted(&nodes[*n])).collect();
    let mut from_right = from_left.clone();
    for i in 1..layer.len() {
        from_left[i] = from_left[i].max(from_left[i - 1] + apart(nodes, layer[i - 1], layer[i]));
    }
    for i in (1..layer.len()).rev() {
        from_right[i - 1] = from_right[i - 1].min(from_right[i] - apart(nodes, layer[i - 1], layer[i]));
    }
    for (i, n) in layer.iter().enumerate() {
        nodes[*n].x = f64::midpoint(from_left[i], from_right[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_trace::verifies;

    fn items(uses: &[(&str, &[&str])]) -> Vec<ItemStatus> {
        let item = |(name, used): &(&str, &[&str])| ItemStatus {
            name: (*name).to_owned(),
            is: String::new(),
            shipped: false,
            uses: used.iter().map(|u| (*u).to_owned()).collect(),
        };
        uses.iter().map(item).collect()
    }

    #[verifies("RR-001")]
    #[test]
    fn each_crate_stands_above_all_that_it_uses_and_beside_no_other_in_its_place() {
        let items = items(&[
            ("a", &["b", "c", "d"]),
            ("b", &["c"]),
            ("c", &["d"]),
            ("d", &[]),
            ("e", &["d"]),
            ("f", &["b", "e"]),
        ]);
        assert_eq!(reduced(&items)["a"], BTreeSet::from(["b"]), "c and d follow from b");
        let uses = reduced(&items);
        let (nodes, layers) = placed(&items.iter().collect::<Vec<_>>(), &uses);
        for node in &nodes {
            assert!(node.below.iter().all(|b| nodes[*b].layer + 1 == node.layer), "a line passes every layer");
        }
        for layer in layers {
            for pair in layer.windows(2) {
                let (a, b) = (&nodes[pair[0]], &nodes[pair[1]]);
                assert!(b.x - a.x > a.half_width() + b.half_width(), "boxes lie apart");
            }
        }
    }
}
