//! How well the lungs are outlined.

use super::time::{spread_cells, spread_table};
use super::{Context, whole};
use crate::coherence::Kind;
use crate::report::document::{Block, Cell, Table, claim};
use crate::report::language::say;
use crate::results::Figure;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![c.heading("lungs", "Lungs", "肺分割")];
    let l = &c.results.lungs;
    if l.dice_right.n == 0 {
        blocks.push(c.text(
            "Not available: no analysed scan has a reference mask of the lungs.",
            "不可得：无纳入扫描有肺参考掩膜。",
        ));
        return blocks;
    }
    blocks.extend(c.picture("dice"));
    blocks.extend(c.picture("hd95"));
    let name = "lungs";
    let caption = c.word("Mean over scans with a reference mask", "有参考掩膜扫描的均值");
    let head = [c.word("figure", "指标"), &c.with_interval("mean", "均值"), c.word("scans", "扫描")];
    let mut table = Table::new(name, caption, &head);
    let tolerance = c.protocol.surface_tolerance_mm;
    let surface =
        say!(c.language, "surface Dice of the worse lung ({tolerance} mm)", "较差侧肺的表面 Dice（{tolerance} mm）");
    let rows: [(&str, &str, &Figure, usize); 4] = [
        (c.word("Dice, right lung", "右肺 Dice"), "mean Dice, right lung", &l.dice_right, 4),
        (c.word("Dice, left lung", "左肺 Dice"), "mean Dice, left lung", &l.dice_left, 4),
        (c.word("HD95 of the worse lung, mm", "较差侧肺 HD95（mm）"), "mean HD95, worse lung", &l.hd95_mm, 2),
        (&surface, "mean surface Dice, worse lung", &l.surface_dice, 4),
    ];
    for (words, english, figure, digits) in rows {
        let said = claim(name, english, Kind::Mean, whole::LUNGS);
        // HD95 has no value where a mask is empty: it is of fewer scans then.
        let said = if figure.n == l.dice_right.n { said.n(figure.n) } else { said };
        table.row(vec![
            Cell::text(words),
            Cell::figure(c.language, figure, digits, Some(said)),
            Cell::count(figure.n, None),
        ]);
    }
    blocks.push(Block::Table(table));
    let caption = c.word("How single lungs lie", "单侧肺的分布");
    let mut table = spread_table(c, "lung-spread", caption, c.word("figure", "指标"));
    let names = [
        (c.word("Dice, right lung", "右肺 Dice"), "Dice, right lung", 4),
        (c.word("Dice, left lung", "左肺 Dice"), "Dice, left lung", 4),
        (c.word("HD95, right lung, mm", "右肺 HD95（mm）"), "HD95, right lung", 2),
        (c.word("HD95, left lung, mm", "左肺 HD95（mm）"), "HD95, left lung", 2),
    ];
    for ((words, english, digits), spread) in names.into_iter().zip(&c.results.lung_spread) {
        if let Some(spread) = spread {
            let population = if spread.n == l.dice_right.n { whole::LUNGS } else { "scans with two lung masks" };
            let cells = spread_cells(c, "lung-spread", english, population, spread, digits);
            table.row([vec![Cell::text(words)], cells].concat());
        }
    }
    blocks.push(Block::Table(table));
    blocks
}
