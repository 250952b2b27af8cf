//! How far readers agree, and the system with them.

use super::{Context, whole};
use crate::coherence::Kind;
use crate::report::document::{Block, Cell, Table, claim};
use crate::report::language::say;
use crate::results::readers::{Agreement, SYSTEM};

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![c.heading("readers", "Reader agreement", "阅片者一致性")];
    let standard = &c.protocol.reference_standard;
    let Some(study) = c.results.readers.as_ref() else {
        blocks.push(if standard.readings.is_empty() {
            c.text("Not available: the protocol names no tables of readers' marks.", "不可得：方案未提供阅片者标注表。")
        } else {
            c.text("Not available: no reader looked at every analysed scan.", "不可得：无阅片者阅读全部纳入扫描。")
        });
        return blocks;
    };
    if c.facts.synthetic {
        blocks.push(c.text(
            "The readers are SIMULATED: computed opinions on computed patients.",
            "阅片者为模拟（SYNTHETIC）：对合成患者的计算意见。",
        ));
    }
    blocks.extend(c.picture("readers"));
    blocks.push(Block::Table(against_standard(c, study)));
    for (with_system, wanted) in [(false, standard.reader_agreement), (true, standard.ai_reader_agreement)] {
        if wanted {
            blocks.push(Block::Table(pairs(c, study, with_system)));
        }
    }
    let number = |v: Option<f64>| v.map_or(c.word("not defined", "无定义").to_owned(), |v| format!("{v:.3}"));
    if standard.reader_agreement {
        blocks.push(Block::Text(say!(
            c.language,
            "Ratings of malignancy of the {} findings that all readers marked and rated: Fleiss' kappa {}, Krippendorff's ordinal \
             alpha {}. Diameters of findings that all marked: ICC(2,1) {}.",
            "全部阅片者均标注并评分的 {} 个所见的恶性评分：Fleiss kappa {}，Krippendorff 有序 alpha {}。全部标注者的直径：ICC(2,1) {}。",
            study.rated_by_all,
            number(study.fleiss),
            number(study.krippendorff),
            crate::report::document::shown(c.language, &study.diameter_icc, 3)
        )));
    }
    blocks.push(c.text(
        "Positive agreement is 2 both / (2 both + only one + only other): places that nobody marked have no number, so that a kappa \
         over all places is not defined. Marks on findings that are not scored count here, too. Kappa of found and missed is over scored nodules alone.",
        "阳性一致率 = 2×两者均标 /（2×两者均标 + 仅甲 + 仅乙）：无人标注之处无法计数，故对所有位置的 kappa 无定义。不计分所见上的标记在此也计入。检出与漏检的 kappa 仅基于计分结节。",
    ));
    blocks
}

fn name_of(c: &Context<'_>, name: &str) -> String {
    if name == SYSTEM { c.word("system", "系统").to_owned() } else { name.to_owned() }
}

fn against_standard(c: &Context<'_>, study: &Agreement) -> Table {
    let name = "readers";
    let caption = c.word("Readers and the system against the reference standard", "阅片者与系统对照参考标准");
    let head = [
        c.word("reader", "阅片者"),
        c.word("found", "检出"),
        &c.with_interval("sensitivity", "灵敏度"),
        c.word("false positives", "假阳性"),
        &c.with_interval("per scan", "每例"),
    ];
    let mut table = Table::new(name, caption, &head);
    let (nodules, scans) = (c.results.counts.nodules, c.results.counts.scans);
    for reader in &study.readers {
        // The system's figures are those of its operating point.
        let of = |figure: &str| {
            if reader.name == SYSTEM { figure.to_owned() } else { format!("{figure} of {}", reader.name) }
        };
        let found = claim(name, &of("sensitivity"), Kind::Proportion, whole::NODULES).n(nodules).count(reader.found);
        let rate = claim(name, &of("false positives per scan"), Kind::Rate, whole::SCANS);
        let rate = rate.n(scans).count(reader.false_positives);
        table.row(vec![
            Cell::text(name_of(c, &reader.name)),
            Cell::of(c.language, reader.found, nodules),
            Cell::figure(c.language, &reader.sensitivity, 3, Some(found)),
            Cell::count(reader.false_positives, None),
            Cell::figure(c.language, &reader.fp_per_scan, 3, Some(rate)),
        ]);
    }
    table
}

fn pairs(c: &Context<'_>, study: &Agreement, with_system: bool) -> Table {
    let (name, caption, malignancy) = if with_system {
        (
            "system-readers",
            c.word("Agreement of the system with each reader", "系统与各阅片者的一致性"),
            c.with_interval("kappa: suspicious or not", "kappa：可疑与否"),
        )
    } else {
        (
            "reader-pairs",
            c.word("Agreement of readers", "阅片者之间的一致性"),
            c.with_interval("kappa of ratings, quadratic", "评分加权 kappa（二次）"),
        )
    };
    let head = [
        c.word("pair", "配对"),
        c.word("both", "两者均标"),
        c.word("only first", "仅前者"),
        c.word("only second", "仅后者"),
        &c.with_interval("positive agreement", "阳性一致率"),
        &c.with_interval("kappa of found and missed", "检出与漏检的 kappa"),
        &malignancy,
    ];
    let mut table = Table::new(name, caption, &head);
    for pair in study.pairs.iter().filter(|pair| (pair.b == SYSTEM) == with_system) {
        let population = format!("findings of {} and {}", pair.a, pair.b);
        let agreed =
            claim(name, "positive agreement", Kind::Proportion, &format!("marks of {} and {}", pair.a, pair.b))
                .n(2 * pair.both + pair.only_a + pair.only_b)
                .count(2 * pair.both);
        let other = |figure: &str| claim(name, figure, Kind::Other, &population);
        table.row(vec![
            Cell::text(format!("{} - {}", name_of(c, &pair.a), name_of(c, &pair.b))),
            Cell::count(pair.both, None),
            Cell::count(pair.only_a, None),
            Cell::count(pair.only_b, None),
            Cell::figure(c.language, &pair.agreement, 3, Some(agreed)),
            Cell::figure(c.language, &pair.kappa_found, 3, Some(other("kappa of found and missed"))),
            Cell::figure(c.language, &pair.kappa_malignancy, 3, Some(other("kappa of malignancy"))),
        ]);
    }
    table
}
