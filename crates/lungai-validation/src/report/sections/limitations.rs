//! How the figures are made, and what they do not show.

use super::Context;
use crate::lock::Standing;
use crate::report::document::{Block, Cell, Table, Tone};
use crate::report::language::say;

pub fn blocks(c: &Context<'_>) -> Vec<Block> {
    let mut blocks = vec![
        c.heading("methods", "How the intervals are made", "区间的计算方法"),
        c.text(
            "Curves, Dice and times: percentiles over resampled patients with all their scans. Sensitivity, false positives and AUC: \
             the wider of that and the exact (Clopper-Pearson, Garwood) or DeLong interval, since resampling cannot imagine a miss \
             that did not happen. Reliability: Wilson. Calibration error: percentiles over patients. Centres: DerSimonian-Laird with the \
             interval of Hartung and Knapp, never narrower than the normal one, and the prediction interval of Higgins, Thompson \
             and Spiegelhalter. Diameters: Bland and Altman with intervals by t. The intervals of kappa, ICC, Bland and Altman's \
             limits, the reliability curve and the centres' own variances take nodules as independent of each other: where patients \
             have several, they are too narrow. marks.csv, annotations.csv, \
             annotations_excluded.csv and seriesuids.csv hold what is needed to score the detector again with another program \
             (lines of marks.csv with system = model).",
            "曲线、Dice 和时间：对患者（含其全部扫描）重抽样的百分位区间。灵敏度、假阳性和 AUC：取该区间与精确区间（Clopper-Pearson、\
             Garwood）或 DeLong 区间中较宽者，因为重抽样无法产生未曾发生的漏检。可靠性曲线：Wilson。校准误差：对患者重抽样的百分位区间。各中心：\
             DerSimonian-Laird，Hartung-Knapp 区间（不窄于正态区间）及 Higgins-Thompson-Spiegelhalter 预测区间。直径：Bland-Altman，\
             按 t 分布求区间。kappa、ICC、Bland-Altman 一致性界限、可靠性曲线及各中心自身方差的区间假定结节相互独立：患者有多个\
             结节时区间偏窄。marks.csv、annotations.csv、\
             annotations_excluded.csv 和 seriesuids.csv 含用其他程序重新评分检测器所需的全部内容（marks.csv 中 system = model 的行）。",
        ),
    ];
    if c.without_png > 0 {
        blocks.push(Block::Text(say!(
            c.language,
            "No font of the machine that wrote this report has all letters of its {} figures: they are SVG whose text the reader's \
             fonts show, without PNG.",
            "生成本报告的机器上没有包含其 {} 幅图全部字符的字体：图仅以 SVG 提供，文字由阅读者的字体显示，无 PNG。",
            c.without_png
        )));
    }
    blocks.extend([c.heading("limitations", "Limitations", "局限性")]);
    blocks.extend(limits(c).into_iter().map(Block::Text));
    blocks.push(c.heading("checklist", "What reporting guidelines ask for", "报告规范要求"));
    blocks.push(c.text(
        "Topics of CLAIM 2024 and STARD-AI, and where this report answers them. What it cannot know is said to be not reported; it \
         belongs into the study's own documents.",
        "CLAIM 2024 与 STARD-AI 的主题及其在本报告中的位置。本报告无从得知者标为“未报告”，应由研究文件补充。",
    ));
    blocks.push(Block::Table(checklist(c)));
    blocks
}

fn limits(c: &Context<'_>) -> Vec<String> {
    let (facts, results) = (c.facts, c.results);
    let mut limits = Vec::new();
    let mut limit = |holds: bool, text: String| limits.extend(holds.then_some(text));
    limit(
        facts.synthetic,
        c.word(
            "All images are SYNTHETIC. Nothing here says how the system does on patients, and no figure may be compared with a \
             clinical table.",
            "全部图像为合成数据（SYNTHETIC）。本报告不说明系统在患者上的表现，任何数字不得与临床结果比较。",
        )
        .to_owned(),
    );
    limit(
        facts.standing == Standing::Exploratory,
        c.word(
            "The protocol was not locked before the run, so that it may have been written to fit: the verdicts are exploratory.",
            "方案在运行前未锁定，可能据结果调整：结论为探索性。",
        )
        .to_owned(),
    );
    let refused = results.counts.nodules_in_rejected_scans;
    limit(
        refused > 0,
        say!(
            c.language,
            "{refused} scored nodules lie in scans that the quality gate refused; they are in no figure above.",
            "{refused} 个计分结节位于质量检查拒绝的扫描中，未计入上述任何结果。"
        ),
    );
    let small = results.strata.iter().flat_map(|s| &s.groups).filter(|g| g.descriptive).count();
    limit(
        small > 0,
        say!(
            c.language,
            "{small} groups hold fewer nodules than the protocol asks for and are described only.",
            "{small} 个分组的结节数少于方案要求，仅作描述。"
        ),
    );
    limit(
        results.centres.len() < 5,
        say!(
            c.language,
            "With {} centres the variance between centres and the prediction interval are themselves very uncertain.",
            "仅 {} 个中心时，中心间方差和预测区间本身很不确定。",
            results.centres.len()
        ),
    );
    limit(results.readers.is_none(), c.word("There are no readers to compare with.", "无阅片者可供比较。").to_owned());
    limit(
        true,
        c.word(
            "Whether readers do better with the system than without was not studied: that takes readers.",
            "未研究阅片者使用系统是否优于不使用：这需要阅片者研究。",
        )
        .to_owned(),
    );
    limits
}

fn checklist(c: &Context<'_>) -> Table {
    let none = "";
    let readers = if c.results.readers.is_some() { c.word("Reader agreement", "阅片者一致性") } else { none };
    let rows = [
        (
            c.word("objective and intended use", "目的与预期用途"),
            c.word("Population and reference standard", "研究人群与参考标准"),
        ),
        (
            c.word("eligibility and flow of participants", "纳入排除标准与流程"),
            c.word("Population and reference standard", "研究人群与参考标准"),
        ),
        (
            c.word("reference standard and its quality", "参考标准及其质量"),
            c.word("Population and reference standard", "研究人群与参考标准"),
        ),
        (c.word("agreement of annotators", "标注者一致性"), readers),
        (
            c.word("partition of data, no patient in two parts", "数据划分，患者不跨集"),
            c.word("Lineage: the manifest refuses a patient in two splits", "溯源：清单拒绝跨集患者"),
        ),
        (c.word("model and version", "模型与版本"), c.word("Lineage; the model card", "溯源；模型卡")),
        (
            c.word("primary endpoint and its statistics, set before", "事先设定的主要终点与统计方法"),
            c.word("Verdict; Lineage (standing of the protocol)", "结论；溯源（方案状态）"),
        ),
        (c.word("performance with intervals", "含区间的性能"), c.word("Detection; Malignancy", "检测性能；良恶性")),
        (
            c.word("robustness: centres and sub-groups", "稳健性：中心与亚组"),
            c.word("Centres; Strata", "各中心；分层分析"),
        ),
        (
            c.word("calibration", "校准"),
            if c.results.malignancy.reliability.is_empty() { none } else { c.word("Calibration", "校准") },
        ),
        (c.word("analysis of failures", "失败分析"), c.word("What went wrong", "失败案例")),
        (c.word("limitations", "局限性"), c.word("Limitations", "局限性")),
        (c.word("sample size", "样本量依据"), none),
        (c.word("demographics of participants", "受试者人口学特征"), demographics(c)),
        (c.word("ethics, registration, funding", "伦理、注册、资助"), none),
    ];
    let head = [c.word("topic", "主题"), c.word("where", "位置")];
    let mut table = Table::new("checklist", c.word("Reporting", "报告清单"), &head);
    for (topic, place) in rows {
        let place = match place {
            "" => Cell::toned(c.word("not reported", "未报告"), Tone::Quiet),
            place => Cell::text(place),
        };
        table.row(vec![Cell::text(topic), place]);
    }
    table
}

/// Sex and age are in the strata where they are known.
fn demographics<'t>(c: &'t Context<'_>) -> &'t str {
    use crate::protocol::Property::{Age, Sex};
    match c.results.strata.iter().filter(|s| matches!(s.of, Sex | Age)).any(|s| s.is_known()) {
        true => c.word("Strata", "分层分析"),
        false => "",
    }
}
