//! Whether the system measures what it finds.

use super::Context;
use crate::coherence::Kind;
use crate::report::document::{Block, Cell, Table, claim};
use crate::report::language::say;
use crate::results::Figure;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![c.heading("diameters", "Diameters", "直径测量")];
    let Some(d) = &c.results.diameters else {
        blocks.push(c.text("Fewer than three found nodules: nothing to compare.", "检出结节少于三个：无从比较。"));
        return blocks;
    };
    blocks.extend(c.picture("diameters"));
    let name = "diameters";
    let caption = say!(
        c.language,
        "Measured less reference diameter of {} found nodules, mm (Bland and Altman)",
        "{} 个检出结节的测量直径减参考直径，mm（Bland-Altman）",
        d.pairs.len()
    );
    let head = [c.word("figure", "指标"), &c.with_interval("mm", "mm")];
    let mut table = Table::new(name, caption, &head);
    let mut row = |words: &str, english: &str, value: f64, ci: Option<[f64; 2]>| {
        let figure = Figure { value: Some(value), ci, n: d.pairs.len() };
        let said = claim(name, english, Kind::Other, "found nodules");
        table.row(vec![Cell::text(words), Cell::figure(c.language, &figure, 2, Some(said))]);
    };
    row(c.word("bias", "偏倚"), "bias of diameter", d.bias, Some(d.bias_interval));
    row(c.word("lower limit of agreement", "一致性下限"), "lower limit", d.limits[0], Some(d.lower_interval));
    row(c.word("upper limit of agreement", "一致性上限"), "upper limit", d.limits[1], Some(d.upper_interval));
    row(c.word("standard deviation of the differences", "差值标准差"), "SD of differences", d.sd, None);
    blocks.push(Block::Table(table));
    let mut text = c
        .word(
            "95 % of differences lie between the limits if they are normal. Only found nodules have a measurement.",
            "若差值服从正态分布，95 % 落在界限之间。仅检出结节有测量值。",
        )
        .to_owned();
    if let Some([slope, low, high]) = d.slope {
        text += &say!(
            c.language,
            " The difference changes by {slope:.3} mm ({low:.3} to {high:.3}) per mm of diameter.",
            "直径每增加 1 mm，差值变化 {slope:.3} mm（{low:.3} 至 {high:.3}）。"
        );
    }
    blocks.push(Block::Text(text));
    blocks
}
