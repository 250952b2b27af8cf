//! Names of things in both languages. What a protocol or a data set calls by a name of its own keeps it.

use super::language::{Language, say};
use crate::protocol::{Metric, On, Property};
use crate::record::FlowStep;

/// A figure that a criterion can be about.
pub fn metric(metric: Metric, language: Language) -> &'static str {
    let (en, zh) = match metric {
        Metric::DiceRight => ("mean Dice, right lung", "右肺平均 Dice"),
        Metric::DiceLeft => ("mean Dice, left lung", "左肺平均 Dice"),
        Metric::Sensitivity => ("sensitivity", "灵敏度"),
        Metric::FalsePositives => ("false positives per scan", "每例扫描假阳性数"),
        Metric::Cpm => ("CPM", "CPM"),
        Metric::CpmOverBaseline => ("CPM above the baseline", "CPM 高于基线的差"),
        Metric::Auc => ("AUC of malignancy, missed nodules score 0", "良恶性 AUC（漏检计 0 分）"),
        Metric::AucFound => ("AUC of malignancy, found nodules", "良恶性 AUC（检出结节）"),
        Metric::CalibrationError => ("calibration error (ECE)", "校准误差（ECE）"),
        Metric::Segment => ("lung segmentation, 95th percentile, s", "肺分割时间第 95 百分位数（秒）"),
        Metric::Detect => ("detection, 95th percentile, s", "检测时间第 95 百分位数（秒）"),
        Metric::Classify => {
            ("malignancy of one mark, 95th percentile, s", "单个标记良恶性评估时间第 95 百分位数（秒）")
        }
        Metric::Total => ("whole scan, 95th percentile, s", "全流程时间第 95 百分位数（秒）"),
    };
    pick(language, en, zh)
}

/// What a criterion compares.
pub fn on(on: On, language: Language) -> &'static str {
    let (en, zh) = match on {
        On::Value => ("value", "点估计"),
        On::CiLower => ("lower bound", "置信下界"),
        On::CiUpper => ("upper bound", "置信上界"),
    };
    pick(language, en, zh)
}

/// By what a stratum parts.
pub fn property(of: Property, language: Language) -> &'static str {
    let (en, zh) = match of {
        Property::Diameter => ("diameter", "直径"),
        Property::Kind => ("type", "类型"),
        Property::Lobe => ("lobe", "肺叶"),
        Property::Centre => ("centre", "中心"),
        Property::SliceThickness => ("slice thickness", "层厚"),
        Property::SliceDistance => ("slice distance", "层间距"),
        Property::Kernel => ("kernel", "重建核"),
        Property::Exposure => ("exposure", "曝光量"),
        Property::TubeVoltage => ("tube voltage", "管电压"),
        Property::Manufacturer => ("vendor", "厂商"),
        Property::Contrast => ("contrast agent", "对比剂"),
        Property::Sex => ("sex", "性别"),
        Property::Age => ("age", "年龄"),
    };
    pick(language, en, zh)
}

/// A group of a stratum, by the name that the results have for it.
pub fn group(name: &str, language: Language) -> String {
    if language == Language::En {
        return name.to_owned();
    }
    let known = match name {
        "unknown" => "未知",
        "other" => "其他",
        "solid" => "实性",
        "part-solid" => "部分实性",
        "ground-glass" => "磨玻璃",
        "calcified" => "钙化",
        "right-upper" => "右上叶",
        "right-middle" => "右中叶",
        "right-lower" => "右下叶",
        "left-upper" => "左上叶",
        "left-lower" => "左下叶",
        "female" => "女",
        "male" => "男",
        "yes" => "有",
        "no" => "无",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let unit = |unit: &str| unit.replace("years", "岁");
    if let Some((low, rest)) = name.split_once(" to < ") {
        return format!("{low} 至 < {}", unit(rest));
    }
    match name.strip_suffix(" and more") {
        Some(low) => format!(">= {}", unit(low)),
        None => name.to_owned(),
    }
}

/// A stage of processing.
pub fn stage(name: &str, language: Language) -> &'static str {
    let (en, zh) = match name {
        "load" => ("reading", "读取"),
        "preprocess" => ("quality gate", "质量检查"),
        "segment" => ("lungs", "肺分割"),
        "detect" => ("detection", "检测"),
        "classify" => ("malignancy", "良恶性"),
        _ => ("whole scan", "全流程"),
    };
    pick(language, en, zh)
}

/// A step of the flow.
pub fn flow_step(id: &str, language: Language) -> String {
    let (en, zh) = match id {
        "test-split" => ("test split", "测试集"),
        "other-centre" => ("other centre", "其他中心"),
        "no-reference" => ("no reference", "无参考标准"),
        "quality-gate" => ("quality gate", "图像质量不合格"),
        "analysed" => ("analysed", "纳入分析"),
        // A rule of the protocol.
        _ => return id.to_owned(),
    };
    pick(language, en, zh).to_owned()
}

/// Why a step leaves scans out; of the protocol's own rules in its own words.
pub fn flow_reason(step: &FlowStep, language: Language) -> String {
    let zh = match step.id.as_str() {
        "test-split" => "数据集的测试部分",
        "other-centre" => "方案未纳入的中心",
        "no-reference" => "无人标注结节",
        "quality-gate" => "质量检查拒绝，未分析",
        "analysed" => "以下所有结果的基础",
        _ => return step.reason.clone(),
    };
    match language {
        Language::En => step.reason.clone(),
        Language::Zh => zh.to_owned(),
    }
}

/// A condition of a criterion: the protocol's words, and the smallest diameter.
pub fn population(diameter_at_least_mm: f64, conditions: &[String], language: Language) -> String {
    let mut parts = Vec::new();
    if diameter_at_least_mm > 0.0 {
        parts.push(say!(language, "nodules >= {diameter_at_least_mm} mm", "直径 >= {diameter_at_least_mm} mm 的结节"));
    }
    parts.extend(conditions.iter().cloned());
    if parts.is_empty() { pick(language, "all", "全部").to_owned() } else { parts.join("; ") }
}

fn pick(language: Language, en: &'static str, zh: &'static str) -> &'static str {
    match language {
        Language::En => en,
        Language::Zh => zh,
    }
}
