//! `MODEL_CARD.md`: what a frozen model is, for people, in English and Chinese from the same facts.

use crate::config::Network;
use lungai_models::frozen::{Manifest, Storage};
use std::fmt::Write;

/// What the manifest does not say.
pub struct Facts {
    /// One for each network.
    pub networks: Vec<NetworkFacts>,
    /// Largest difference of each network's golden outputs that rounding its weights made, as a share of the largest output.
    pub rounded: Vec<(&'static str, f64)>,
}

/// How one network came about.
pub struct NetworkFacts {
    /// `lung`, `detector` or `classifier`, with its shape.
    pub network: Network,
    /// Numbers that were learned.
    pub parameters: usize,
    /// Minutes of training, where the journal has times.
    pub minutes: Option<f64>,
    /// Mean training loss of the first and the last tenth of the steps.
    pub loss: Option<[f64; 2]>,
}

/// The words of one language; the facts go between them.
struct Words {
    heading: &'static str,
    research: &'static str,
    synthetic: &'static str,
    purpose: [&'static str; 2],
    input: [&'static str; 2],
    networks: &'static str,
    network_columns: &'static str,
    names: [&'static str; 3],
    training: &'static str,
    training_columns: &'static str,
    synthetic_word: &'static str,
    elsewhere: &'static str,
    held_out: &'static str,
    points: &'static str,
    point_columns: &'static str,
    calibration: &'static str,
    weights: &'static str,
    full: &'static str,
    half: &'static str,
    limits: [&'static str; 2],
}

const ENGLISH: Words = Words {
    heading: "English",
    research: "Not cleared for clinical use.",
    synthetic: "Trained on SYNTHETIC scans: its figures say nothing about patients.",
    purpose: [
        "Intended use",
        "Research on the detection of lung nodules in chest CT, with a malignancy estimate for each.",
    ],
    input: [
        "Input",
        "Axial chest CT in HU, slice distance and thickness at most 3 mm (a warning above 1.5 mm), both lungs covered; limits: \
         validation/quality.yaml.",
    ],
    networks: "Networks",
    network_columns: "network | kind | parameters | grid, mm | tile",
    names: [
        "3D U-Net: background, right and left lung",
        "3D residual network with a feature pyramid: spheres at stride 4",
        "3D ResNet: malignancy, with type, diameter and spiculation as helpers",
    ],
    training: "Training",
    training_columns: "network | data | seed | device | steps | minutes | loss, first to last tenth | held-out figures",
    synthetic_word: "SYNTHETIC ",
    elsewhere: "trained elsewhere, file",
    held_out: "The held-out figures chose the kept weights, the thresholds and the calibration on tuning scans. They are no \
               validation result: that is a step of its own, on centres that nothing was chosen by (`cargo xtask validate`).",
    points: "Operating points",
    point_columns: "name | score threshold",
    calibration: "Malignancy: probability = 1 / (1 + exp(-(a logit + b))), a and b fitted on the tuning scans:",
    weights: "Weights",
    full: "Stored as they were trained, in 32 bits.",
    half: "Rounded to 16 bits in the file; networks compute in 32 bits. Largest change of an output on the golden inputs, as a \
           share of the largest output:",
    limits: [
        "Limits",
        "A score is no diagnosis; a physician decides. Findings below 3 mm are not reported. The model knows the kinds of \
         scanners, patients and nodules that are in its training data and no others; contrast phases, children, collapsed or \
         operated lungs were not looked at. Whoever uses it validates it on his own scans first.",
    ],
};

const CHINESE: Words = Words {
    heading: "中文",
    research: "未获批准用于临床。",
    synthetic: "使用合成（SYNTHETIC）影像训练：其指标不说明在患者上的表现。",
    purpose: ["预期用途", "用于胸部 CT 肺结节检测研究，并对每个结节给出恶性概率估计。"],
    input: [
        "输入",
        "轴位胸部 CT（HU），层间距与层厚不超过 3 mm（超过 1.5 mm 时警告），完整覆盖双肺；限值见 validation/quality.yaml。",
    ],
    networks: "网络",
    network_columns: "网络 | 类型 | 参数量 | 网格 (mm) | 分块边长",
    names: [
        "3D U-Net：背景、右肺、左肺",
        "带特征金字塔的 3D 残差网络：步长 4 的球形候选",
        "3D ResNet：恶性概率，辅助输出为类型、直径、毛刺",
    ],
    training: "训练",
    training_columns: "网络 | 数据 | 随机种子 | 设备 | 步数 | 分钟 | 损失（首尾十分之一） | 调优集指标",
    synthetic_word: "合成（SYNTHETIC）",
    elsewhere: "由其他程序训练，文件",
    held_out: "调优集指标用于选择权重、阈值和校准，不是验证结果；验证须在未参与任何选择的中心上另行进行（`cargo xtask validate`）。",
    points: "工作点",
    point_columns: "名称 | 分数阈值",
    calibration: "恶性概率 = 1 / (1 + exp(-(a·logit + b)))，a 与 b 在调优集上拟合：",
    weights: "权重",
    full: "以训练时的 32 位存储。",
    half: "文件中舍入为 16 位，计算仍用 32 位。在基准输入上各网络输出的最大变化（占最大输出的比例）：",
    limits: [
        "局限",
        "分数不是诊断，由医师决定。不报告 3 mm 以下的病灶。模型只见过训练数据中的扫描设备、患者与结节类型；未考察增强期相、儿童、肺不张或\
         术后肺。使用者须先在自己的影像上验证。",
    ],
};

/// The card.
pub fn card(manifest: &Manifest, facts: &Facts) -> String {
    let mut text = format!("# {} {}\n\n[English](#english) · [中文](#中文)\n", manifest.name, manifest.version);
    for words in [&ENGLISH, &CHINESE] {
        section(&mut text, words, manifest, facts);
    }
    text
}

fn section(text: &mut String, words: &Words, manifest: &Manifest, facts: &Facts) {
    let _ = writeln!(text, "\n## {}\n\n**{}**", words.heading, words.research);
    if manifest.synthetic {
        let _ = writeln!(text, "**{}**", words.synthetic);
    }
    for [title, body] in [words.purpose, words.input] {
        let _ = writeln!(text, "\n### {title}\n\n{body}");
    }
    table(text, words.networks, words.network_columns);
    for facts in &facts.networks {
        let (kind, spacing, tile) = match &facts.network {
            Network::Lung(c) => (words.names[0], c.spacing_mm, c.tile),
            Network::Detector(c) => (words.names[1], c.spacing_mm, c.tile),
            Network::Classifier(c) => (words.names[2], c.spacing_mm, c.tile),
        };
        let _ = writeln!(text, "| {} | {kind} | {} | {spacing} | {tile}³ |", facts.network.name(), facts.parameters);
    }
    table(text, words.training, words.training_columns);
    for facts in &facts.networks {
        let name = facts.network.name();
        let training = &manifest.training[name];
        let figures: Vec<String> = training.metrics.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
        let steps = match &training.imported_sha256 {
            Some(sha256) => format!("{} {}", words.elsewhere, &sha256[..sha256.len().min(12)]),
            None => training.steps.to_string(),
        };
        let minutes = facts.minutes.map_or_else(|| "-".to_owned(), |minutes| format!("{minutes:.0}"));
        let loss = facts.loss.map_or_else(|| "-".to_owned(), |[first, last]| format!("{first:.3} → {last:.3}"));
        let word = if manifest.synthetic { words.synthetic_word } else { "" };
        let _ = writeln!(
            text,
            "| {name} | {word}{} | {} | {} | {steps} | {minutes} | {loss} | {} |",
            training.data.name,
            training.seed,
            training.device,
            figures.join(", ")
        );
    }
    let _ = writeln!(text, "\n{}", words.held_out);
    table(text, words.points, words.point_columns);
    for (name, threshold) in &manifest.operating_points {
        let _ = writeln!(text, "| {name} | {threshold:.4} |");
    }
    let (a, b) = (manifest.calibration.slope, manifest.calibration.intercept);
    let _ = writeln!(text, "\n{} a = {a:.3}, b = {b:.3}", words.calibration);
    let _ = writeln!(text, "\n### {}\n", words.weights);
    match manifest.weights {
        Storage::F32 => text.push_str(words.full),
        Storage::F16 => {
            let changes: Vec<String> = facts.rounded.iter().map(|(name, off)| format!("{name} {off:.1e}")).collect();
            let _ = write!(text, "{} {}", words.half, changes.join(", "));
        }
    }
    let [title, body] = words.limits;
    let _ = writeln!(text, "\n\n### {title}\n\n{body}");
}

/// Heading and head of a table.
fn table(text: &mut String, title: &str, columns: &str) {
    let rule = "---|".repeat(columns.split('|').count());
    let _ = writeln!(text, "\n### {title}\n\n| {columns} |\n|{rule}");
}
