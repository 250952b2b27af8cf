//! Of whom the report speaks: what was asked, the flow of scans, the reference standard.

use super::{Context, whole};
use crate::coherence::Kind;
use crate::protocol::{Basis, Consensus, MalignancyBasis};
use crate::report::document::{Block, Cell, Table, Tone, claim};
use crate::report::language::say;
use crate::report::words;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![
        c.heading("population", "Population and reference standard", "研究人群与参考标准"),
        Block::Text(say!(c.language, "Purpose: {}", "目的：{}", c.facts.purpose)),
        Block::Text(say!(c.language, "Intended population: {}", "预期人群：{}", c.protocol.intended_population)),
    ];
    blocks.extend(c.picture("flow"));
    blocks.push(Block::Table(flow(c)));
    let n = &c.results.counts;
    blocks.push(Block::Text(say!(
        c.language,
        "Analysed: {} scans of {} patients with {} scored nodules; {} further reference findings are not scored: a mark on one \
         is neither hit nor false positive. The quality gate warned of {} of these scans.",
        "纳入分析：{} 例扫描，{} 名患者，{} 个计分结节；另有 {} 个参考所见不计分：其上的标记既不算命中也不算假阳性。其中 {} 例扫描有质量警告。",
        n.scans,
        n.patients,
        n.nodules,
        n.excluded_findings,
        n.warned_scans
    )));
    if !c.collected.rejected.is_empty() {
        let caption = c.word("Scans that the quality gate refused", "质量检查拒绝的扫描");
        let head =
            [c.word("scan", "扫描"), c.word("centre", "中心"), c.word("nodules", "结节"), c.word("rules", "规则")];
        let mut table = Table::new("refused", caption, &head);
        for refused in &c.collected.rejected {
            table.row(vec![
                Cell::text(&refused.case),
                Cell::text(&refused.centre),
                Cell::count(refused.nodules, None),
                Cell::text(&refused.reason),
            ]);
        }
        blocks.push(Block::Table(table));
    }
    blocks.push(Block::Text(standard(c)));
    blocks
}

/// The steps, with what each leaves out and what stays.
fn flow(c: &Context<'_>) -> Table {
    let caption = c.word("From the test split to the analysis", "从测试集到分析");
    let head = [
        c.word("step", "步骤"),
        c.word("reason", "原因"),
        c.word("scans out", "排除扫描"),
        c.word("nodules out", "排除结节"),
        c.word("scans left", "保留扫描"),
        c.word("patients left", "保留患者"),
        c.word("nodules left", "保留结节"),
    ];
    let mut table = Table::new("flow", caption, &head);
    let last = c.collected.flow.len().saturating_sub(1);
    for (i, step) in c.collected.flow.iter().enumerate() {
        let size = |of: &str, when: &str| claim("flow", "size", Kind::Size, &format!("{of} {when}"));
        // What is left after one step is what the next one parts.
        let left = |of: &str, whole: &str| {
            let said =
                if i == last { claim("flow", "size", Kind::Size, whole) } else { size(of, &format!("after step {i}")) };
            if i > 0 { said.part_of(&format!("{of} after step {}", i - 1)) } else { said }
        };
        let out = |of: &str| {
            (i > 0).then(|| size(of, &format!("out at step {i}")).part_of(&format!("{of} after step {}", i - 1)))
        };
        let nodules = |n: Option<usize>, said| match n {
            Some(n) => Cell::count(n, said),
            None => Cell::toned(c.word("unknown", "未知"), Tone::Quiet),
        };
        table.row(vec![
            Cell::text(words::flow_step(&step.id, c.language)),
            Cell::text(words::flow_reason(step, c.language)),
            Cell::count(step.out.scans, out("scans")),
            nodules(step.out.nodules, out("nodules")),
            Cell::count(step.left.scans, Some(left("scans", whole::SCANS))),
            Cell::count(step.left.patients, None),
            nodules(step.left.nodules, Some(left("nodules", whole::NODULES))),
        ]);
    }
    table
}

fn standard(c: &Context<'_>) -> String {
    let standard = &c.protocol.reference_standard;
    let nodules = &standard.nodules;
    let mut text = match nodules.basis {
        Basis::Construction => c
            .word(
                "Reference standard of nodules: the images were computed from it, no reader takes part.",
                "结节参考标准：图像由其计算生成，无阅片者参与。",
            )
            .to_owned(),
        Basis::Readers => {
            let blinded = if nodules.blinded_to_ai {
                c.word("blinded to the system", "对系统结果设盲")
            } else {
                c.word("NOT blinded to the system", "未对系统结果设盲")
            };
            let how = match nodules.consensus {
                Consensus::Votes => say!(
                    c.language,
                    "a nodule is what at least {} marked",
                    "至少 {} 人标注者为结节",
                    nodules.votes_needed
                ),
                Consensus::Arbitration => say!(
                    c.language,
                    "what fewer than {} marked is decided by arbitration",
                    "少于 {} 人标注者由仲裁决定",
                    nodules.votes_needed
                ),
                Consensus::Discussion => c.word("they decide together", "共同商定").to_owned(),
                Consensus::None => c.word("one opinion", "单人意见").to_owned(),
            };
            say!(
                c.language,
                "Reference standard of nodules: {} readers, {blinded}; {how}.",
                "结节参考标准：{} 名阅片者，{blinded}；{how}。",
                nodules.readers
            )
        }
    };
    if let Some(arbitration) = &nodules.arbitration {
        text += &say!(c.language, " Arbitration: {arbitration}.", "仲裁：{arbitration}。");
    }
    text += match standard.malignancy {
        MalignancyBasis::Pathology => c.word(" Malignancy: pathology.", "良恶性：病理。"),
        MalignancyBasis::PathologyOrFollowUp => {
            c.word(" Malignancy: pathology, or two years without growth.", "良恶性：病理，或随访两年无增长。")
        }
        MalignancyBasis::Readers => c.word(
            " Malignancy: ratings of readers, an opinion and no diagnosis.",
            "良恶性：阅片者评分，属意见而非诊断。",
        ),
        MalignancyBasis::Construction => {
            c.word(" Malignancy: drawn by the phantom's rule, no pathology.", "良恶性：由模体规则抽取，非病理。")
        }
        MalignancyBasis::None => c.word(" Malignancy is not known.", "良恶性未知。"),
    };
    text
}
