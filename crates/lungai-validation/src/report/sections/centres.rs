//! Whether centres differ by more than chance, and what a further one may expect.

use super::{Context, whole};
use crate::coherence::Kind;
use crate::report::document::{Block, Cell, Table, Tone, claim};
use crate::report::language::say;
use crate::results::Figure;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![c.heading("centres", "Centres", "各中心")];
    blocks.extend(c.picture("centres"));
    blocks.push(Block::Table(table(c)));
    let Some(h) = &c.results.heterogeneity else {
        blocks.push(c.text(
            "Fewer than two centres with nodules: heterogeneity is not defined.",
            "有结节的中心少于两个：异质性无定义。",
        ));
        return blocks;
    };
    let [low, high] = h.ci;
    let mut text = say!(
        c.language,
        "Random effects over {} centres (logit of sensitivity, DerSimonian-Laird; interval of Hartung and Knapp): {:.3} ({low:.3} to {high:.3}); Q = {:.2} on {} \
         degrees of freedom, p = {:.3}, tau2 = {:.3}, I2 = {:.0} %.",
        "{} 个中心的随机效应（灵敏度的 logit，DerSimonian-Laird；Hartung-Knapp 区间）：{:.3}（{low:.3} 至 {high:.3}）；Q = {:.2}，自由度 {}，p = {:.3}，\
         tau2 = {:.3}，I2 = {:.0} %。",
        h.centres,
        h.sensitivity,
        h.q,
        h.centres.saturating_sub(1),
        h.p,
        h.tau2,
        100.0 * h.i2
    );
    if let Some([low, high]) = h.prediction {
        text += &say!(
            c.language,
            " A further centre's sensitivity is expected within {low:.3} to {high:.3} ({} % prediction interval).",
            "新中心的灵敏度预计在 {low:.3} 至 {high:.3} 之间（{} % 预测区间）。",
            c.facts.percent
        );
    }
    text += c.word(
        " With few centres tau2 is itself uncertain. The mean over centres weighs centres, the pooled sensitivity weighs nodules: \
         they are not the same figure.",
        "中心较少时 tau2 本身不确定。各中心均值按中心加权，合并灵敏度按结节加权，二者不是同一指标。",
    );
    blocks.push(Block::Text(text));
    if !h.without.is_empty() {
        let head = [c.word("without", "剔除"), &c.with_interval("mean over the others", "其余中心均值")];
        let caption = c.word("Leaving out one centre at a time", "逐一剔除中心");
        let mut table = Table::new("leave-one-out", caption, &head);
        for (name, value, ci) in &h.without {
            let figure = Figure { value: Some(*value), ci: Some(*ci), n: 0 };
            let said =
                claim("leave-one-out", "mean sensitivity over centres", Kind::Other, &format!("centres but {name}"));
            table.row(vec![Cell::text(name), Cell::figure(c.language, &figure, 3, Some(said))]);
        }
        blocks.push(Block::Table(table));
    }
    blocks
}

fn table(c: &Context<'_>) -> Table {
    let name = "centres";
    let caption = c.word("At the operating point, by centre", "各中心在工作点的结果");
    let head = [
        c.word("centre", "中心"),
        c.word("scans", "扫描"),
        c.word("found", "检出"),
        &c.with_interval("sensitivity", "灵敏度"),
        &c.with_interval("FP per scan", "每例假阳性数"),
        &c.with_interval("CPM", "CPM"),
        c.word("lung Dice", "肺 Dice"),
        c.word("note", "备注"),
    ];
    let mut table = Table::new(name, caption, &head);
    for g in &c.results.centres {
        let (nodules, scans) =
            (format!("scored nodules, centre {}", g.name), format!("analysed scans, centre {}", g.name));
        let n = g.scans.unwrap_or_default();
        let sensitivity =
            claim(name, "sensitivity", Kind::Proportion, &nodules).part_of(whole::NODULES).n(g.nodules).count(g.found);
        let rate = claim(name, "false positives per scan", Kind::Rate, &scans).part_of(whole::SCANS).n(n);
        let cpm = claim(name, "CPM", Kind::Other, &scans);
        let size = claim(name, "scans", Kind::Size, &scans).part_of(whole::SCANS);
        let undefined = || Cell::toned(c.word("not defined", "无定义"), Tone::Quiet);
        table.row(vec![
            Cell::text(&g.name),
            Cell::count(n, Some(size)),
            Cell::of(c.language, g.found, g.nodules),
            Cell::figure(c.language, &g.sensitivity, 3, Some(sensitivity)),
            g.fp_per_scan.map_or_else(undefined, |f| Cell::figure(c.language, &f, 3, Some(rate))),
            g.cpm.map_or_else(undefined, |f| Cell::figure(c.language, &f, 3, Some(cpm))),
            match g.dice {
                Some(dice) => Cell::number(c.language, Some(dice), 4, None),
                None => Cell::text(""),
            },
            Cell::descriptive(c.language, g.descriptive),
        ]);
    }
    table.without_empty_columns()
}
