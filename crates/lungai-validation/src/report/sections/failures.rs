//! What went wrong most, to look at.

use super::{Context, patches};
use crate::failures::{EDGE_MM, OF_EACH, WINDOW, What, Wrong};
use crate::report::document::{Block, Cell, Table};
use crate::report::language::say;
use crate::report::words;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![c.heading("failures", "What went wrong", "失败案例")];
    if c.wrong.is_empty() {
        blocks.push(c.text(
            "No nodule was missed and no mark is a false positive at the operating point.",
            "在工作点无漏检结节，也无假阳性标记。",
        ));
        return blocks;
    }
    blocks.push(Block::Text(say!(
        c.language,
        "The {OF_EACH} largest missed nodules and the {OF_EACH} false positives of highest score at the operating point. Slices \
         are axial, coronal and sagittal through the place, {EDGE_MM} mm wide, {} to {} HU; the patient's left is on the right. \
         A solid ring lies 2 mm outside of a missed nodule, a broken one round a false positive.",
        "工作点处最大的 {OF_EACH} 个漏检结节和分数最高的 {OF_EACH} 个假阳性。切面依次为经该处的横断面、冠状面和矢状面，宽 {EDGE_MM} mm，\
         窗 {} 至 {} HU；患者左侧在图像右侧。实线环位于漏检结节外 2 mm，虚线环围绕假阳性。",
        WINDOW[0],
        WINDOW[1]
    )));
    blocks.push(Block::Table(table(c)));
    let missed = |wrong: &Wrong| matches!(wrong.what, What::Missed { .. });
    let shown: Vec<_> = patches(c, missed, |w| caption(c, w))
        .into_iter()
        .chain(patches(c, |w| !missed(w), |w| caption(c, w)))
        .collect();
    if shown.is_empty() {
        blocks.push(c.text("The images are not at hand, so there are no slices.", "图像不可得，故无切面图。"));
    } else {
        blocks.push(Block::Gallery(shown));
    }
    blocks
}

fn table(c: &Context<'_>) -> Table {
    let head = [
        c.word("failure", "失败"),
        c.word("scan", "扫描"),
        c.word("centre", "中心"),
        c.word("diameter, mm", "直径（mm）"),
        c.word("type", "类型"),
        c.word("score", "分数"),
        c.word("position, LPS mm", "位置（LPS，mm）"),
    ];
    let mut table = Table::new("failures", c.word("The same as a table", "列表"), &head);
    for (wrong, _) in c.wrong {
        let (what, kind, score) = match &wrong.what {
            What::Missed { kind, best_score } => (c.word("missed", "漏检"), kind.as_deref(), *best_score),
            What::FalsePositive { score } => (c.word("false positive", "假阳性"), None, Some(*score)),
        };
        let [x, y, z] = wrong.position_lps_mm;
        table.row(vec![
            Cell::text(what),
            Cell::text(&wrong.case),
            Cell::text(&wrong.centre),
            wrong.diameter_mm.map_or(Cell::text(""), |d| Cell::number(c.language, Some(d), 1, None)),
            Cell::text(kind.map_or(String::new(), |kind| words::group(kind, c.language))),
            score.map_or(Cell::text(c.word("no mark", "无标记")), |s| Cell::number(c.language, Some(s), 3, None)),
            Cell::text(format!("{x:.1}, {y:.1}, {z:.1}")),
        ]);
    }
    table
}

fn caption(c: &Context<'_>, wrong: &Wrong) -> String {
    let case = &wrong.case;
    let size = wrong.diameter_mm.map_or(String::new(), |d| format!("{d:.1} mm"));
    let mark = if c.facts.synthetic { c.word(" SYNTHETIC.", " 合成数据（SYNTHETIC）。") } else { "" };
    match &wrong.what {
        What::Missed { kind, best_score } => {
            let kind = kind.as_deref().map_or(String::new(), |kind| words::group(kind, c.language));
            let best = match best_score {
                Some(score) => say!(c.language, "best score {score:.3}", "最高分数 {score:.3}"),
                None => c.word("no mark on it", "其上无标记").to_owned(),
            };
            say!(
                c.language,
                "Missed: {kind} nodule of {size} in {case}, {best}.{mark}",
                "漏检：{case}，{size} {kind}结节，{best}。{mark}"
            )
        }
        What::FalsePositive { score } => {
            let measured =
                if size.is_empty() { size } else { say!(c.language, ", measured {size}", "，测得 {size}") };
            say!(
                c.language,
                "False positive: score {score:.3}{measured}, in {case}.{mark}",
                "假阳性：{case}，分数 {score:.3}{measured}。{mark}"
            )
        }
    }
}
