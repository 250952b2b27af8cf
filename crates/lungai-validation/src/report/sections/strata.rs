//! Sensitivity of parts of the nodules.

use super::verdict::part;
use super::{Context, whole};
use crate::coherence::Kind;
use crate::protocol::{Metric, Property};
use crate::report::document::{Block, Cell, Table, claim};
use crate::report::language::say;
use crate::report::words;
use crate::results::{Group, StratumResult};

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![
        c.heading("strata", "Strata", "分层分析"),
        Block::Text(say!(
            c.language,
            "Groups of fewer than {} nodules are descriptive: nothing is concluded from them.",
            "结节少于 {} 个的分组仅作描述，不据以下结论。",
            c.protocol.descriptive_below
        )),
    ];
    // Centres have a section of their own.
    for stratum in c.results.strata.iter().filter(|s| s.of != Property::Centre) {
        if stratum.is_known() {
            blocks.extend(c.picture(stratum.file_name()));
            blocks.push(Block::Table(table(c, stratum)));
        } else {
            let by = words::property(stratum.of, c.language);
            blocks.push(Block::Text(say!(
                c.language,
                "By {by}: not known of any scan or nodule of this set.",
                "按{by}：本数据集中均未知。"
            )));
        }
        match stratum.of {
            Property::Diameter => blocks.extend(c.picture("froc-size")),
            Property::Kind => blocks.extend(c.picture("froc-kind")),
            _ => (),
        }
    }
    blocks
}

fn table(c: &Context<'_>, stratum: &StratumResult) -> Table {
    let by = words::property(stratum.of, c.language);
    let caption = say!(c.language, "Sensitivity at the operating point by {by}", "按{by}分组的工作点灵敏度");
    let name = stratum.file_name();
    let head = [
        by,
        c.word("nodules", "结节"),
        c.word("found", "检出"),
        &c.with_interval("sensitivity", "灵敏度"),
        c.word("note", "备注"),
    ];
    let mut table = Table::new(name, caption, &head);
    for g in &stratum.groups {
        let population = format!("scored nodules, {}: {}", stratum.of.name(), g.name);
        let mut said = claim(name, "sensitivity", Kind::Proportion, &population)
            .part_of(whole::NODULES)
            .n(g.nodules)
            .count(g.found);
        for whole in endpoints_above(c, stratum, g) {
            said = said.part_of(&whole);
        }
        table.row(vec![
            Cell::text(words::group(&g.name, c.language)),
            Cell::count(g.nodules, None),
            Cell::count(g.found, None),
            Cell::figure(c.language, &g.sensitivity, 3, Some(said)),
            Cell::descriptive(c.language, g.descriptive),
        ]);
    }
    table.without_empty_columns()
}

/// Populations of endpoints that size groups make up: nodules of 6 mm and more are those of 6 to 10 and of 10 and more.
fn endpoints_above(c: &Context<'_>, stratum: &StratumResult, group: &Group) -> Vec<String> {
    if stratum.of != Property::Diameter {
        return Vec::new();
    }
    let edges = c.protocol.size_edges_mm();
    let endpoints = c.results.criteria.iter().filter(|e| e.metric == Metric::Sensitivity && e.population.is_empty());
    let mut wholes: Vec<String> = endpoints
        .filter(|e| e.diameter_at_least_mm > 0.0 && edges.contains(&e.diameter_at_least_mm))
        .filter(|e| group.from_mm.is_some_and(|from| from >= e.diameter_at_least_mm))
        .map(|e| part(whole::NODULES, e.diameter_at_least_mm, &[]))
        .collect();
    wholes.dedup();
    wholes
}
