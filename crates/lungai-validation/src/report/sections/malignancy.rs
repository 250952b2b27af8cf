//! What the probability of malignancy is worth: ranking, decisions, calibration, and what is left at equal size.

use super::{Context, whole};
use crate::coherence::Kind;
use crate::report::document::{Block, Cell, Table, claim, shown};
use crate::report::language::say;
use crate::results::{Confusion, Figure};

/// Ranking and decisions.
pub fn roc(c: &Context<'_>) -> Vec<Block> {
    let m = &c.results.malignancy;
    let mut blocks = vec![c.heading("malignancy", "Malignancy", "良恶性")];
    if m.nodules == 0 {
        blocks.push(c.text(
            "Not available: no nodule of this set has a diagnosis, or the system rates none.",
            "不可得：本数据集中无结节有诊断，或系统不作评分。",
        ));
        return blocks;
    }
    blocks.push(Block::Text(say!(
        c.language,
        "{} scored nodules have a diagnosis, {} of them malignant; {} were found at the operating point. A missed nodule scores \
         0 in what is called \"all\": that is what a patient gets. \"Found\" is what the classifier does.",
        "{} 个计分结节有诊断，其中恶性 {} 个；工作点检出 {} 个。“全部”中漏检结节计 0 分，反映患者实际所得；“检出”仅反映分类器。",
        m.nodules,
        m.malignant,
        m.found
    )));
    blocks.extend(c.picture("roc"));
    blocks.push(Block::Table(areas(c)));
    if let Some(table) = decisions(c) {
        blocks.push(Block::Table(table));
    }
    if let Some(confusion) = m.confusion.as_ref().filter(|confusion| !confusion.at_prevalence.is_empty()) {
        blocks.push(Block::Table(elsewhere(c, confusion)));
    }
    blocks
}

fn areas(c: &Context<'_>) -> Table {
    let name = "auc";
    let caption = c.word("Area under the ROC curve", "ROC 曲线下面积");
    let head = [c.word("nodules", "结节"), &c.with_interval("AUC", "AUC"), "n", c.word("malignant", "恶性")];
    let mut table = Table::new(name, caption, &head);
    let m = &c.results.malignancy;
    let rows = [
        (c.word("all, missed ones score 0", "全部（漏检计 0 分）"), &m.auc, whole::DIAGNOSED, m.malignant),
        (c.word("found", "检出"), &m.auc_found, whole::FOUND, m.malignant_found),
    ];
    for (words, auc, population, malignant) in rows {
        let said = claim(name, "AUC of malignancy", Kind::Other, population).n(auc.n);
        let size = claim(name, "size", Kind::Size, &format!("malignant {population}")).among(population);
        table.row(vec![
            Cell::text(words),
            Cell::figure(c.language, auc, 3, Some(said)),
            Cell::count(auc.n, None),
            Cell::count(malignant, Some(size)),
        ]);
    }
    table
}

/// The two-by-two table at the protocol's probability, missed nodules counted as not called malignant.
fn decisions(c: &Context<'_>) -> Option<Table> {
    let confusion = c.results.malignancy.confusion.as_ref()?;
    let (name, from) = ("decisions", c.protocol.malignant_from);
    let share = 100.0 * confusion.of_malignant[1] as f64 / confusion.of_all[1] as f64;
    let caption = say!(
        c.language,
        "Called malignant from a probability of {from} on, all nodules with a diagnosis; missed ones are not called malignant. PPV \
         and NPV hold where, as here, {share:.1} % of nodules are malignant",
        "概率不低于 {from} 判为恶性，全部有诊断结节；漏检者视为未判恶性。阳性与阴性预测值仅适用于恶性占比与本样本相同（{share:.1} %）时"
    );
    let head =
        [c.word("figure", "指标"), &c.with_interval("value", "结果"), c.word("count", "计数"), c.word("of", "总数")];
    let mut table = Table::new(name, caption, &head);
    let all = whole::DIAGNOSED;
    for (words, english, figure, [count, n], population) in [
        (
            c.word("sensitivity", "灵敏度"),
            "sensitivity for malignancy",
            confusion.sensitivity,
            confusion.of_malignant,
            "malignant",
        ),
        (
            c.word("specificity", "特异度"),
            "specificity for malignancy",
            confusion.specificity,
            confusion.of_benign,
            "benign",
        ),
        (
            c.word("positive predictive value", "阳性预测值"),
            "PPV",
            confusion.ppv,
            confusion.of_called,
            "called malignant",
        ),
        (
            c.word("negative predictive value", "阴性预测值"),
            "NPV",
            confusion.npv,
            confusion.of_not_called,
            "not called malignant",
        ),
        (c.word("accuracy", "准确率"), "accuracy", confusion.accuracy, confusion.of_all, ""),
    ] {
        let population = if population.is_empty() { all.to_owned() } else { format!("{population} {all}") };
        let said = claim(name, english, Kind::Proportion, &population).n(n).count(count);
        let said = if population == all { said } else { said.among(all) };
        table.row(vec![
            Cell::text(words),
            Cell::figure(c.language, &figure, 3, Some(said)),
            Cell::count(count, None),
            Cell::count(n, None),
        ]);
    }
    Some(table)
}

/// What calls are worth where another share of nodules is malignant.
fn elsewhere(c: &Context<'_>, confusion: &Confusion) -> Table {
    let name = "predictive-values";
    let caption = c.word(
        "Predictive values where another share of nodules is malignant, from sensitivity and specificity by Bayes' rule",
        "其他恶性占比下的预测值（由灵敏度和特异度按贝叶斯公式计算）",
    );
    let head = [
        c.word("malignant", "恶性占比"),
        &c.with_interval("positive predictive value", "阳性预测值"),
        &c.with_interval("negative predictive value", "阴性预测值"),
    ];
    let mut table = Table::new(name, caption, &head);
    for at in &confusion.at_prevalence {
        let percent = format!("{} %", 100.0 * at.prevalence);
        let population = format!("{}, as if {percent} were malignant", whole::DIAGNOSED);
        let cell = |figure: &Figure, english: &str| {
            Cell::figure(c.language, figure, 3, Some(claim(name, english, Kind::Other, &population)))
        };
        table.row(vec![Cell::text(percent.clone()), cell(&at.ppv, "PPV"), cell(&at.npv, "NPV")]);
    }
    table
}

/// Whether probabilities come true.
pub fn calibration(c: &Context<'_>) -> Vec<Block> {
    let m = &c.results.malignancy;
    if m.reliability.is_empty() {
        return Vec::new();
    }
    let mut blocks = vec![c.heading("calibration", "Calibration", "校准")];
    blocks.extend(c.picture("calibration"));
    let name = "calibration";
    let caption = c.word("Reliability of the probability of malignancy, found nodules", "恶性概率的可靠性（检出结节）");
    let head = [
        c.word("probability", "概率"),
        c.word("nodules", "结节"),
        c.word("malignant", "恶性"),
        c.word("mean stated", "平均所给概率"),
        &c.with_interval("observed", "实际比例"),
    ];
    let mut table = Table::new(name, caption, &head);
    for bin in &m.reliability {
        let range = say!(c.language, "{:.2} to {:.2}", "{:.2} 至 {:.2}", bin.from, bin.to);
        let population = format!("{}, probability {:.2} to {:.2}", whole::FOUND, bin.from, bin.to);
        let observed = Figure { value: Some(bin.observed), ci: Some(bin.interval), n: bin.nodules };
        let said = claim(name, "share of malignant ones", Kind::Proportion, &population)
            .part_of(whole::FOUND)
            .n(bin.nodules)
            .count(bin.malignant);
        table.row(vec![
            Cell::text(range),
            Cell::count(bin.nodules, None),
            Cell::count(bin.malignant, None),
            Cell::number(c.language, Some(bin.stated), 3, None),
            Cell::figure(c.language, &observed, 3, Some(said)),
        ]);
    }
    blocks.push(Block::Table(table));
    let brier = m.brier.map_or("-".to_owned(), |b| format!("{b:.3}"));
    let ece = shown(c.language, &m.calibration_error, 3);
    let mut text = say!(
        c.language,
        "Expected calibration error {ece} over {} equally wide bins, Brier score {brier}.",
        "期望校准误差 {ece}（{} 个等宽区间），Brier 分数 {brier}。",
        c.protocol.calibration_bins
    );
    if let Some([slope, intercept]) = m.calibration_line {
        text += &say!(
            c.language,
            " Calibration slope {slope:.2} (1 is right, below it probabilities are too extreme), calibration in the large \
             {intercept:.2} (0 is right, above it they are too low).",
            "校准斜率 {slope:.2}（理想为 1，小于 1 表示概率过于极端），总体校准 {intercept:.2}（理想为 0，大于 0 表示概率偏低）。"
        );
    }
    text += c.word(" The error is biased upwards where bins hold few nodules.", "区间内结节较少时该误差偏高。");
    blocks.push(Block::Text(text));
    blocks
}

/// AUC of pairs of like size.
pub fn size_matched(c: &Context<'_>) -> Vec<Block> {
    let m = &c.results.malignancy;
    let Some(matched) = m.size_matched.as_ref() else { return Vec::new() };
    let mut blocks = vec![c.heading("size-matched", "Malignancy at equal size", "同等大小下的良恶性")];
    let percent = (100.0 * (c.protocol.alike_diameter_ratio - 1.0)).round();
    blocks.push(Block::Text(say!(
        c.language,
        "Large nodules are malignant more often, so a high AUC may be read off the diameter alone. Here a malignant nodule is \
         compared only with benign ones whose reference diameter differs by at most {percent} %: {} pairs.",
        "大结节更常为恶性，较高的 AUC 可能仅来自直径。此处恶性结节只与参考直径相差不超过 {percent} % 的良性结节比较：共 {} 对。",
        matched.pairs
    )));
    let name = "size-matched";
    let caption = c.word("AUC by probability and by size alone", "按概率与仅按大小的 AUC");
    let head = [
        c.word("score", "评分"),
        &c.with_interval("all pairs", "全部配对"),
        &c.with_interval("pairs of like size", "大小相近的配对"),
    ];
    let mut table = Table::new(name, caption, &head);
    let cell = |figure: &Figure, english: &str, population: &str| {
        Cell::figure(c.language, figure, 3, Some(claim(name, english, Kind::Other, population)))
    };
    let pairs = "pairs of like size";
    table.row(vec![
        Cell::text(c.word("probability of malignancy, missed ones 0", "恶性概率（漏检计 0 分）")),
        cell(&m.auc, "AUC of malignancy", whole::DIAGNOSED),
        cell(&matched.auc, "AUC of malignancy", pairs),
    ]);
    table.row(vec![
        Cell::text(c.word("reference diameter alone", "仅参考直径")),
        cell(&matched.auc_of_size, "AUC of diameter", whole::DIAGNOSED),
        cell(&matched.matched_auc_of_size, "AUC of diameter", pairs),
    ]);
    blocks.push(Block::Table(table));
    blocks
}
