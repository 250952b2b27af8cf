//! `MODEL_CARD.md`: what a frozen model is, for people, in English and Chinese from the same facts.

use crate::config::Network;
use crate::optimise::Optimisation;
use lungai_models::frozen::{Basis, Manifest, Storage, Training};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the manifest does not say.
pub struct Facts {
    /// One for each network, averaged ones one after the other.
    pub networks: Vec<NetworkFacts>,
    /// Largest difference of each network's golden outputs that rounding its weights made, as a share of the largest output.
    pub rounded: Vec<(&'static str, f64)>,
    /// What was measured of cheaper ways to run the networks.
    pub optimisation: Option<Optimisation>,
}

/// How one network came about.
pub struct NetworkFacts {
    /// `lung`, `detector`, `classifier` or `reducer`, with its shape.
    pub network: Network,
    /// Its place among those that are averaged, from 0.
    pub member: usize,
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
    names: [&'static str; 4],
    training: &'static str,
    training_columns: &'static str,
    synthetic_word: &'static str,
    elsewhere: &'static str,
    held_out: &'static str,
    averages: &'static str,
    averages_note: &'static str,
    average_columns: &'static str,
    bases: [&'static str; 2],
    second_look: &'static str,
    points: &'static str,
    point_columns: &'static str,
    calibration: &'static str,
    weights: &'static str,
    full: &'static str,
    half: &'static str,
    cheaper: &'static str,
    cheaper_columns: &'static str,
    cheaper_note: &'static str,
    cheaper_names: [(&'static str, &'static str); 7],
    pays: [&'static str; 2],
    not_measured: &'static str,
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
        "3D ResNet: a second look at each candidate",
    ],
    training: "Training",
    training_columns: "network | data | seed | device | steps | minutes | loss, first to last tenth | held-out figures",
    synthetic_word: "SYNTHETIC ",
    elsewhere: "trained elsewhere, file",
    held_out: "The held-out figures chose the kept weights, the thresholds and the calibration on tuning scans. They are no \
               validation result: that is a step of its own, on centres that nothing was chosen by (`cargo xtask validate`).",
    averages: "Averaged networks",
    averages_note: "Logits and boxes of the networks of one kind are averaged before anything is decided by them. A scan takes that \
                    many times as long in these networks as with one. Thresholds and calibration are from these figures, not from \
                    those of single networks.",
    average_columns: "network | averaged | cases | measured | figures together",
    bases: [
        "on cases that none of them has learned, by all together",
        "out of fold: each case by those only that have not learned it. In use all are averaged, which makes scores steadier than \
         they were in this measurement; how many findings a threshold gives is to be validated",
    ],
    second_look: "Scores are those of detector and reducer together, the sigmoid of the mean of both logits; the detector's \
                  candidates down to a score of 0.02 are looked at again.",
    points: "Operating points",
    point_columns: "name | score threshold",
    calibration: "Malignancy: probability = 1 / (1 + exp(-(a logit + b))), a and b fitted on the tuning scans:",
    weights: "Weights",
    full: "Stored as they were trained, in 32 bits.",
    half: "Rounded to 16 bits in the file; networks compute in 32 bits. Largest change of an output on the golden inputs, as a \
           share of the largest output:",
    cheaper: "Cheaper inference",
    cheaper_columns: "way | Dice | CPM | AUC | lung, s | detection, s | a nodule, ms | speed | pays",
    cheaper_note: "Measured on tuning scans, all ways in one run on the CPU; in brackets the difference from the product as it is. Speed is \
                   that of a scan with ten nodules. A way pays if it is at least 1.1 times as fast (16-bit weights: if the file is \
                   half as large) and no figure falls by more than 0.005. Arithmetic in 16 bits needs a GPU and was not measured.",
    cheaper_names: [
        ("product", "as it is"),
        ("half-weights", "weights of 16 bits"),
        ("tiles-4", "four tiles at once"),
        ("cubes-1", "one nodule at once instead of eight"),
        ("cubes-32", "32 nodules at once"),
        ("onnxruntime", "onnxruntime, 32 bits"),
        ("onnxruntime-int8", "onnxruntime, 8-bit integers"),
    ],
    pays: ["yes", "no"],
    not_measured: "Not measured (`cargo xtask optimise`).",
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
        "3D ResNet：对每个候选再判断一次（降低假阳性）",
    ],
    training: "训练",
    training_columns: "网络 | 数据 | 随机种子 | 设备 | 步数 | 分钟 | 损失（首尾十分之一） | 调优集指标",
    synthetic_word: "合成（SYNTHETIC）",
    elsewhere: "由其他程序训练，文件",
    held_out: "调优集指标用于选择权重、阈值和校准，不是验证结果；验证须在未参与任何选择的中心上另行进行（`cargo xtask validate`）。",
    averages: "平均的网络",
    averages_note: "同类网络的 logit 与框先取平均再作判断；每例在这些网络上的用时为单个网络的相应倍数。阈值与校准来自下列合并指标，而非单个网络的指标。",
    average_columns: "网络 | 个数 | 病例数 | 测量方式 | 合并指标",
    bases: [
        "在所有成员均未学习过的病例上共同判断",
        "折外：每个病例只由未学习过它的成员判断。使用时取全部成员的平均，分数比测量时更稳定；某一阈值下的检出数须经验证",
    ],
    second_look: "分数由检测网络与复核网络共同给出（两者 logit 平均值的 sigmoid）；检测分数不低于 0.02 的候选均被复核。",
    points: "工作点",
    point_columns: "名称 | 分数阈值",
    calibration: "恶性概率 = 1 / (1 + exp(-(a·logit + b)))，a 与 b 在调优集上拟合：",
    weights: "权重",
    full: "以训练时的 32 位存储。",
    half: "文件中舍入为 16 位，计算仍用 32 位。在基准输入上各网络输出的最大变化（占最大输出的比例）：",
    cheaper: "更省的推理方式",
    cheaper_columns: "方式 | Dice | CPM | AUC | 肺分割 (s) | 检测 (s) | 每结节 (ms) | 速度 | 是否值得",
    cheaper_note: "在调优集影像上、同一次 CPU 运行中测得；括号内为与现行方式之差。速度按每例十个结节计算。速度至少为 1.1 倍（16 位权重：文件减半）且各指标\
                   下降不超过 0.005 视为值得。16 位运算需要 GPU，未测量。",
    cheaper_names: [
        ("product", "现行方式"),
        ("half-weights", "16 位权重"),
        ("tiles-4", "一次四个分块"),
        ("cubes-1", "一次一个结节（现行八个）"),
        ("cubes-32", "一次 32 个结节"),
        ("onnxruntime", "onnxruntime，32 位"),
        ("onnxruntime-int8", "onnxruntime，8 位整数"),
    ],
    pays: ["是", "否"],
    not_measured: "未测量（`cargo xtask optimise`）。",
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
    for facts in facts.networks.iter().filter(|facts| facts.member == 0) {
        let (kind, spacing, tile) = match &facts.network {
            Network::Lung(c) => (words.names[0], c.spacing_mm, c.tile),
            Network::Detector(c) => (words.names[1], c.spacing_mm, c.tile),
            Network::Classifier(c) => (words.names[2], c.spacing_mm, c.tile),
            Network::Reducer(c) => (words.names[3], c.spacing_mm, c.tile),
        };
        let name = facts.network.name();
        let times = match manifest.members(name) {
            1 => String::new(),
            count => format!("{count} × "),
        };
        let _ = writeln!(text, "| {name} | {kind} | {times}{} | {spacing} | {tile}³ |", facts.parameters);
    }
    table(text, words.training, words.training_columns);
    for facts in &facts.networks {
        let name = facts.network.name();
        let training = training_of(manifest, name, facts.member);
        let steps = match &training.imported_sha256 {
            Some(sha256) => format!("{} {}", words.elsewhere, &sha256[..sha256.len().min(12)]),
            None => training.steps.to_string(),
        };
        let minutes = facts.minutes.map_or_else(|| "-".to_owned(), |minutes| format!("{minutes:.0}"));
        let loss = facts.loss.map_or_else(|| "-".to_owned(), |[first, last]| format!("{first:.3} → {last:.3}"));
        let word = if manifest.synthetic { words.synthetic_word } else { "" };
        let _ = writeln!(
            text,
            "| {name}{} | {word}{} | {} | {} | {steps} | {minutes} | {loss} | {} |",
            if manifest.members(name) > 1 { format!(" {}", facts.member + 1) } else { String::new() },
            training.data.name,
            training.seed,
            training.device,
            shown(&training.metrics)
        );
    }
    let _ = writeln!(text, "\n{}", words.held_out);
    if !manifest.ensembles.is_empty() {
        table(text, words.averages, words.average_columns);
        for (name, ensemble) in &manifest.ensembles {
            let basis = match ensemble.basis {
                Basis::HeldOut => words.bases[0],
                Basis::OutOfFold => words.bases[1],
            };
            let (count, figures) = (manifest.members(name), shown(&ensemble.metrics));
            let _ = writeln!(text, "| {name} | {count} | {} | {basis} | {figures} |", ensemble.cases);
        }
        let _ = writeln!(text, "\n{}", words.averages_note);
    }
    table(text, words.points, words.point_columns);
    for (name, threshold) in &manifest.operating_points {
        let _ = writeln!(text, "| {name} | {threshold:.4} |");
    }
    if manifest.networks.reducer.is_some() {
        let _ = writeln!(text, "\n{}", words.second_look);
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
    text.push('\n');
    cheaper(text, words, facts.optimisation.as_ref());
    let [title, body] = words.limits;
    let _ = writeln!(text, "\n### {title}\n\n{body}");
}

fn cheaper(text: &mut String, words: &Words, optimisation: Option<&Optimisation>) {
    let Some(optimisation) = optimisation else {
        let _ = writeln!(text, "\n### {}\n\n{}", words.cheaper, words.not_measured);
        return;
    };
    table(text, words.cheaper, words.cheaper_columns);
    let product = &optimisation.ways[0];
    for way in &optimisation.ways {
        let name = words.cheaper_names.iter().find(|(id, _)| *id == way.name).map_or(&*way.name, |(_, name)| name);
        let beside = |value: f64, usual: f64| format!("{value:.4} ({:+.4})", value - usual);
        let auc = match (way.auc, product.auc) {
            (Some(auc), Some(usual)) => beside(auc, usual),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {auc} | {:.2} | {:.2} | {:.1} | {:.2} × | {} |",
            beside(way.dice, product.dice),
            beside(way.cpm, product.cpm),
            way.lung_s,
            way.detect_s,
            1000.0 * way.classify_s,
            way.speed(product),
            match way.name == product.name {
                true => "",
                false => words.pays[usize::from(!way.pays(product))],
            }
        );
    }
    let word = if optimisation.synthetic { words.synthetic_word } else { "" };
    let (scans, threads) = (optimisation.scans, optimisation.threads);
    let engine = optimisation.onnxruntime.as_ref().map_or(String::new(), |version| format!(", onnxruntime {version}"));
    let _ = writeln!(text, "\n{word}n = {scans}, {threads} threads{engine}. {}", words.cheaper_note);
}

/// How a network was trained, by its place among those that are averaged.
fn training_of<'a>(manifest: &'a Manifest, name: &str, member: usize) -> &'a Training {
    match member.checked_sub(1) {
        None => &manifest.training[name],
        Some(further) => &manifest.ensembles[name].further[further],
    }
}

fn shown(metrics: &BTreeMap<String, f64>) -> String {
    metrics.iter().map(|(name, value)| format!("{name} {value:.3}")).collect::<Vec<_>>().join(", ")
}

/// Heading and head of a table.
fn table(text: &mut String, title: &str, columns: &str) {
    let rule = "---|".repeat(columns.split('|').count());
    let _ = writeln!(text, "\n### {title}\n\n| {columns} |\n|{rule}");
}
