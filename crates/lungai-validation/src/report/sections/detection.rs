//! How many nodules are found, and at what price.

use super::{Context, whole};
use crate::coherence::Kind;
use crate::report::document::{Block, Cell, Table, claim, shown};
use crate::report::language::say;
use crate::results::{AtRate, Figure};

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let (d, counts) = (&c.results.detection, &c.results.counts);
    let mut blocks = vec![c.heading("detection", "Detection", "检测性能")];
    let name = "detection";
    let caption = say!(
        c.language,
        "At the operating point \"{}\" (score {:.4})",
        "工作点“{}”（分数 {:.4}）",
        c.facts.operating_point,
        d.operating_threshold
    );
    let head =
        [c.word("figure", "指标"), &c.with_interval("value", "结果"), c.word("count", "计数"), c.word("of", "总数")];
    let mut table = Table::new(name, caption, &head);
    let sensitivity = claim(name, "sensitivity", Kind::Proportion, whole::NODULES).n(counts.nodules).count(d.found);
    table.row(vec![
        Cell::text(c.word("sensitivity", "灵敏度")),
        Cell::figure(c.language, &d.sensitivity, 3, Some(sensitivity)),
        Cell::count(d.found, None),
        Cell::text(say!(c.language, "{} nodules", "{} 个结节", counts.nodules)),
    ]);
    let rate =
        claim(name, "false positives per scan", Kind::Rate, whole::SCANS).n(counts.scans).count(d.false_positives);
    table.row(vec![
        Cell::text(c.word("false positives per scan", "每例扫描假阳性数")),
        Cell::figure(c.language, &d.fp_per_scan, 3, Some(rate)),
        Cell::count(d.false_positives, None),
        Cell::text(say!(c.language, "{} scans", "{} 例扫描", counts.scans)),
    ]);
    let none = || Cell::text("");
    let mut other = |words: &str, figure: &Figure, what: &str| {
        let said = claim(name, what, Kind::Other, whole::SCANS);
        table.row(vec![Cell::text(words), Cell::figure(c.language, figure, 3, Some(said)), none(), none()]);
    };
    other(
        c.word(
            "CPM: mean sensitivity at 1/8 to 8 false positives per scan",
            "CPM：每例 1/8 至 8 个假阳性处灵敏度的均值",
        ),
        &d.curve.cpm,
        "CPM",
    );
    if let Some(baseline) = &c.results.baseline {
        other(
            c.word("CPM of the threshold-and-blob baseline", "阈值与斑点基线的 CPM"),
            &baseline.cpm,
            "CPM of the baseline",
        );
        let above = &c.results.cpm_over_baseline;
        other(
            c.word("CPM above the baseline, same patients", "CPM 高于基线的差（相同患者）"),
            above,
            "CPM above the baseline",
        );
    }
    let second = say!(
        c.language,
        "CPM by the second localisation rule ({} mm whatever the size)",
        "第二定位规则的 CPM（不论大小，{} mm）",
        c.protocol.matching.second_hit_mm
    );
    other(&second, &c.results.cpm_second_rule, "CPM by the second rule");
    blocks.push(Block::Table(table));
    blocks.extend(c.picture("froc"));
    blocks.push(Block::Table(rates(c)));
    blocks.push(Block::Text(say!(
        c.language,
        "False positives per scan divide by all {} analysed scans, those without a mark included. Several marks on one nodule \
         count once; CPM {} of the model stands on the same draws of patients as its interval.",
        "每例假阳性数以全部 {} 例纳入扫描（含无标记者）为分母。同一结节上的多个标记只计一次；模型 CPM {} 与其区间基于相同的患者重抽样。",
        counts.scans,
        shown(c.language, &d.curve.cpm, 3)
    )));
    blocks
}

fn rates(c: &Context<'_>) -> Table {
    let caption = c.word("Sensitivity at fixed false positives per scan", "固定每例假阳性数处的灵敏度");
    let sensitivity = c.with_interval("sensitivity", "灵敏度");
    let baseline = c.with_interval("baseline", "基线");
    let mut head = vec![c.word("FP per scan", "每例假阳性数"), &sensitivity, c.word("lowest score", "最低分数")];
    if c.results.baseline.is_some() {
        head.push(&baseline);
    }
    let mut table = Table::new("froc", caption, &head);
    let cell = |p: &AtRate, figure: &str| {
        let said = claim("froc", figure, Kind::Other, whole::NODULES).at(p.rate);
        Cell::figure(c.language, &Figure { value: Some(p.sensitivity), ci: Some(p.ci), n: 0 }, 3, Some(said))
    };
    for (i, point) in c.results.detection.curve.at.iter().enumerate() {
        let none = Cell::text(c.word("none", "无"));
        let mut row = vec![
            Cell::text(point.rate.to_string()),
            cell(point, "sensitivity on the curve"),
            point.threshold.map_or(none, |t| Cell::number(c.language, Some(t), 4, None)),
        ];
        if let Some(baseline) = &c.results.baseline {
            row.push(cell(&baseline.at[i], "sensitivity of the baseline on its curve"));
        }
        table.row(row);
    }
    table
}
