//! A datasheet of each data set that validation runs name, in the sections of Gebru et al., Communications of the ACM 2021;64(12):86.
//! Everything in it is read from the results, the protocol and the recipe; what they do not say is left to a record of people.
use super::documents::titled;
use super::words::cell;
use crate::build::{Inputs, Report};
use crate::regulatory::{Language, Regulatory, sha256};
use crate::results::ValidationRun;
use serde_json::Value;
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { let _ = writeln!($out); };
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

pub fn datasheet(report: &Report, inputs: &Inputs, regulatory: &Regulatory, language: Language) -> String {
    let mut out = titled(report, regulatory, language, "Datasheets of the data sets", "数据集说明书");
    let mut seen = Vec::new();
    for run in &inputs.validation {
        let Some(set) = &run.results.data_set else { continue };
        if !seen.contains(&&set.fingerprint) {
            seen.push(&set.fingerprint);
            Sheet { run, language }.write(&mut out);
        }
    }
    if seen.is_empty() {
        let none = "Not evidenced here: no validation run was given that names its data set.";
        line!(out, "{}", language.say(none, "此处无证据：没有提供指明数据集的验证运行。"));
    }
    out
}

struct Sheet<'a> {
    run: &'a ValidationRun,
    language: Language,
}

/// A value as people write it: lists with commas, `null` as nothing.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Array(list) => {
            Some(list.iter().filter_map(words).collect::<Vec<_>>().join(", ")).filter(|t| !t.is_empty())
        }
        Value::Object(fields) => {
            let parts = fields.iter().map(|(key, value)| {
                let said = words(value).unwrap_or_else(|| "-".to_owned());
                if value.is_object() { format!("{key} ({said})") } else { format!("{key}: {said}") }
            });
            Some(parts.collect::<Vec<_>>().join("; ")).filter(|t| !t.is_empty())
        }
        other => Some(other.to_string()),
    }
}

impl Sheet<'_> {
    fn say<'a>(&self, en: &'a str, zh: &'a str) -> &'a str {
        self.language.say(en, zh)
    }

    fn manual(&self) -> &str {
        self.language.word("manual - record required")
    }

    fn section(&self, out: &mut String, en: &str, zh: &str) {
        line!(out, "\n### {}\n", self.say(en, zh));
    }

    /// A question with its answer, or that a person must give it.
    fn ask(&self, out: &mut String, en: &str, zh: &str, answer: Option<String>) {
        let answer = answer.map_or_else(|| format!("*{}*", self.manual()), |text| text.replace('\n', " "));
        line!(out, "- **{}** {answer}", self.say(en, zh));
    }

    fn protocol(&self, pointer: &str) -> Option<String> {
        words(self.run.protocol.as_ref()?.says.pointer(pointer)?)
    }

    fn recipe(&self, pointer: &str) -> Option<String> {
        words(self.run.recipe.as_ref()?.says.pointer(pointer)?)
    }

    fn synthetic(&self, en: &str, zh: &str) -> Option<String> {
        self.run.results.synthetic.then(|| self.say(en, zh).to_owned())
    }

    fn write(&self, out: &mut String) {
        let set = &self.run.all["data_set"];
        let (name, version) = (words(&set["name"]), words(&set["version"]));
        let unnamed = self.language.word("not stated").to_owned();
        line!(out, "## {} {}\n", name.unwrap_or(unnamed), version.unwrap_or_default());
        if self.run.results.synthetic {
            line!(out, "**SYNTHETIC: {}**\n", self.say("computed chests, no patients", "计算生成的胸部影像，不含患者"));
        }
        line!(out, "- {}: {}", self.say("Named by", "由其指明"), self.run.name);
        line!(
            out,
            "- {}: `{}`",
            self.say("Fingerprint of the set's locks", "数据集锁定指纹"),
            words(&set["fingerprint"]).unwrap_or_default()
        );
        if let Some(hash) = &self.run.results.manifest_sha256 {
            line!(out, "- {}: `{hash}`", self.say("SHA-256 of its manifest", "清单的 SHA-256"));
        }
        match &self.run.recipe {
            Some(recipe) => {
                let hash = sha256(&recipe.bytes);
                let bound = self.say(
                    "found by name and version; the run does not name its hash",
                    "按名称与版本找到；运行未记录其哈希",
                );
                line!(out, "- {}: `{hash}` ({bound})", self.say("SHA-256 of the recipe", "配方的 SHA-256"));
            }
            None => {
                let none =
                    self.say("no file of this name and version in datasets/", "datasets/ 中没有该名称与版本的文件");
                line!(out, "- {}: {none}", self.say("Recipe", "配方"));
            }
        }
        self.motivation(out);
        self.composition(out);
        self.collection(out);
        self.preprocessing(out);
        self.uses(out);
        self.rest(out);
    }

    fn motivation(&self, out: &mut String) {
        self.section(out, "Motivation", "目的");
        self.ask(out, "For what was it used here?", "在此用于何目的？", self.protocol("/purpose"));
        self.ask(out, "Who made it, and who paid for it?", "由谁制作、由谁资助？", None);
    }

    fn composition(&self, out: &mut String) {
        self.section(out, "Composition", "组成");
        let all = &self.run.all;
        let count = |key: &str| words(&all["counts"][key]).unwrap_or_else(|| "-".to_owned());
        let columns = [
            "Patients|患者",
            "Scans|扫描",
            "Nodules scored|计分结节",
            "Excluded findings|不计分的发现",
            "Scans refused|拒绝的扫描",
        ];
        line!(out, "{}", self.language.table(&columns));
        let counts = ["patients", "scans", "nodules", "excluded_findings", "rejected_scans"].map(count);
        line!(out, "| {} |\n", counts.join(" | "));
        self.ask(out, "Which population does it stand for?", "代表何种人群？", self.protocol("/intended_population"));
        let splits = self.say("test set alone, of these centres: ", "仅测试集，来自下列中心：");
        self.ask(
            out,
            "Which part is described?",
            "描述的是哪一部分？",
            self.protocol("/centres").map(|c| format!("{splits}{c}")),
        );
        let people = self.synthetic(
            "none: every patient is computed; sex and age do not exist",
            "无：所有患者均为计算生成，无性别与年龄",
        );
        self.ask(out, "Does it relate to people, and can they be identified?", "是否涉及人员，能否识别？", people);
        self.ask(out, "What stands for the truth?", "以何为参考标准？", self.protocol("/reference_standard"));
        let groups = all["strata"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !groups.is_empty() {
            line!(
                out,
                "\n{}",
                self.language.table(&["Stratum|分层", "Groups with the number of nodules|各组及结节数"])
            );
        }
        for stratum in groups {
            let of = words(&stratum["of"]).unwrap_or_default();
            let named = stratum["groups"].as_array().into_iter().flatten().filter_map(|group| {
                Some(format!("{} ({})", words(&group["name"])?, words(&group["nodules"]).unwrap_or("-".to_owned())))
            });
            line!(out, "| {of} | {} |", cell(&named.collect::<Vec<_>>().join(", ")));
        }
    }

    fn collection(&self, out: &mut String) {
        self.section(out, "Collection", "采集");
        let how = self.synthetic(
            "rendered by lungai-phantom from the recipe, each scan from its own part of one seed",
            "由 lungai-phantom 按配方渲染，每次扫描取自同一种子的各自部分",
        );
        self.ask(out, "How were the data acquired?", "如何获得？", how);
        self.ask(out, "Seed", "种子", self.recipe("/seed"));
        let none = self.synthetic("not needed: no person was examined", "不需要：没有检查任何人");
        self.ask(out, "Ethics review and consent", "伦理审查与知情同意", none);
        let centres = self.run.recipe.as_ref().and_then(|recipe| recipe.says["centres"].as_array());
        let described: Vec<&Value> = centres.into_iter().flatten().filter(|c| c["scanner"].is_object()).collect();
        if described.is_empty() {
            self.ask(out, "Scanners and protocols of acquisition", "设备与采集方案", None);
            return;
        }
        let columns = [
            "Centre|中心",
            "Patients: training, tuning, test|患者：训练、调优、测试",
            "Scanner|设备",
            "Slice thickness, mm|层厚，mm",
            "Slice distance, mm|层间距，mm",
            "Pixel, mm|像素，mm",
            "Kernel|重建核",
            "kV|kV",
            "mAs|mAs",
        ];
        line!(out, "\n{}", self.language.table(&columns));
        for centre in described {
            let text = |value: &Value| words(value).unwrap_or_else(|| "-".to_owned());
            let scanner = &centre["scanner"];
            let patients = ["train", "tune", "test"].map(|split| text(&centre[split])).join(", ");
            let model = format!("{} {}", text(&scanner["manufacturer"]), text(&scanner["model"]));
            let keys = [
                "slice_thickness_mm",
                "slice_spacing_mm",
                "pixel_spacing_mm",
                "kernel_name",
                "tube_kv",
                "exposure_mas",
            ];
            let rest = keys.map(|key| text(&scanner[key])).join(" | ");
            line!(out, "| {} | {patients} | {model} | {rest} |", text(&centre["name"]));
        }
    }

    fn preprocessing(&self, out: &mut String) {
        self.section(out, "Preprocessing, cleaning, labelling", "预处理、清理与标注");
        self.ask(out, "Who labelled it, and how?", "由谁、如何标注？", self.protocol("/reference_standard/nodules"));
        self.ask(
            out,
            "Which findings count, by diameter in mm?",
            "按直径（mm）计入哪些发现？",
            self.protocol("/scored_diameter_mm"),
        );
        let flow = self.run.all["flow"].as_array().map(Vec::as_slice).unwrap_or_default();
        if flow.is_empty() {
            self.ask(out, "Which scans were left out?", "排除了哪些扫描？", None);
            return;
        }
        let columns = ["Step|步骤", "Reason|原因", "Scans left out|排除的扫描", "Scans that stay|保留的扫描"];
        line!(out, "\n{}", self.language.table(&columns));
        for step in flow {
            let text = |pointer: &str| step.pointer(pointer).and_then(words).unwrap_or_else(|| "-".to_owned());
            let cells = ["/id", "/reason", "/out/scans", "/left/scans"].map(|pointer| cell(&text(pointer)));
            line!(out, "| {} |", cells.join(" | "));
        }
    }

    fn uses(&self, out: &mut String) {
        self.section(out, "Uses", "用途");
        self.ask(out, "What has it been used for?", "曾用于何处？", Some(self.run.name.clone()));
        let not = self.synthetic(
            "claims about patients: results on it are marked SYNTHETIC and earn no credit here",
            "关于患者的任何声明：其结果标为 SYNTHETIC，此处不作为证据",
        );
        self.ask(out, "For what should it not be used?", "不应用于何处？", not);
        let looks = self.run.all.pointer("/standing/number").and_then(words);
        let line = self.say("line of the ledger in which this opening stands: ", "记录本次打开的台账行：");
        self.ask(
            out,
            "How often was the test set opened?",
            "测试集被打开过几次？",
            looks.map(|n| format!("{line}{n}")),
        );
    }

    fn rest(&self, out: &mut String) {
        self.section(out, "Distribution", "分发");
        self.ask(out, "Licence", "许可", self.recipe("/licence"));
        self.ask(out, "To whom and how is it distributed?", "向谁、如何分发？", None);
        self.section(out, "Maintenance", "维护");
        self.ask(out, "Version", "版本", words(&self.run.all["data_set"]["version"]));
        self.ask(out, "Who maintains it, and how are errors corrected?", "由谁维护、如何更正错误？", None);
        line!(out);
    }
}
