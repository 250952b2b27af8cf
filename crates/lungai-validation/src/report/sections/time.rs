//! How long a scan takes.

use super::{Context, whole};
use crate::coherence::Kind;
use crate::report::document::{Block, Cell, Table, claim};
use crate::report::language::say;
use crate::report::words;
use crate::results::spread::Spread;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![c.heading("time", "Processing time", "处理时间")];
    if c.results.times.is_empty() {
        blocks.push(c.text("Not measured: the predictions were made elsewhere.", "未测量：预测结果来自外部。"));
        return blocks;
    }
    blocks.extend(c.picture("time"));
    let caption = c.word("Seconds for one scan", "每例扫描用时（秒）");
    let mut table = spread_table(c, "time", caption, c.word("stage", "阶段"));
    for (stage, spread) in &c.results.times {
        let cells = spread_cells(c, "time", &format!("seconds, {stage}"), whole::SCANS, spread, 2);
        table.row([vec![Cell::text(words::stage(stage, c.language))], cells].concat());
    }
    blocks.push(Block::Table(table));
    if !c.results.times.iter().any(|(stage, _)| *stage == "load") {
        blocks.push(c.text(
            "The scans have no files but were rendered each time: there is no time of loading, and none of the whole.",
            "扫描没有文件，每次即时生成：无读取时间，也无总时间。",
        ));
    }
    blocks.push(Block::Text(say!(
        c.language,
        "Measured on: {}. All marks down to the lowest score are measured and rated, more than in use; several scans may have run \
         at a time.",
        "测量环境：{}。直至最低分数的所有标记均被测量和评估，多于实际使用；可能同时处理多例扫描。",
        c.facts.device
    )));
    blocks
}

/// A table of percentiles.
pub fn spread_table(c: &Context<'_>, name: &'static str, caption: &str, first: &str) -> Table {
    let head = [
        first,
        "n",
        c.word("mean", "均值"),
        c.word("lowest", "最小"),
        "5 %",
        "25 %",
        c.word("median", "中位数"),
        "75 %",
        "95 %",
        c.word("highest", "最大"),
    ];
    Table::new(name, caption, &head)
}

/// Its cells after the first.
pub fn spread_cells(
    c: &Context<'_>,
    table: &str,
    figure: &str,
    population: &str,
    spread: &Spread,
    digits: usize,
) -> Vec<Cell> {
    let mean = claim(table, &format!("mean {figure}"), Kind::Mean, population).n(spread.n);
    let mut cells = vec![Cell::count(spread.n, None), Cell::number(c.language, Some(spread.mean), digits, Some(mean))];
    for (percent, value) in spread.percentiles() {
        let said = claim(table, figure, Kind::Other, population).at(percent);
        cells.push(Cell::number(c.language, Some(value), digits, Some(said)));
    }
    cells
}
