//! Documents in Markdown, in one language at a time, from the same sources as the pages.
use super::figures;
use super::words::cell;
use crate::build::Report;
use crate::regulatory::{Language, Regulatory};
use crate::risk::Rated;
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { let _ = writeln!($out); };
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

/// Title, commit and standing, with which every document begins.
pub fn titled(report: &Report, regulatory: &Regulatory, language: Language, en: &str, zh: &str) -> String {
    let mut out = String::new();
    line!(out, "# {} {}{}{}", report.product, report.version, language.say(": ", "："), language.say(en, zh));
    line!(out);
    let clearance = language.of(&regulatory.profile.clearance);
    let (id, date) = (&report.commit.id, &report.commit.date);
    match language {
        Language::En => {
            line!(out, "Commit {id} of {date}. {clearance}\n");
            line!(out, "State: generated; manual - record of its review required.\n");
        }
        Language::Zh => {
            line!(out, "提交 {id}，{date}。{clearance}\n");
            line!(out, "状态：自动生成；人工，须有评审记录。\n");
        }
    }
    out
}

/// The word under which a value stands in its file, in a language.
fn word(language: Language, value: &impl serde::Serialize) -> String {
    let text = serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    language.word(&text.replace('_', " ")).to_owned()
}

pub fn requirements(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Software requirements specification", "软件需求规格说明");
    let profile = &regulatory.profile;
    line!(
        out,
        "## {}\n\n{}\n\n{}\n",
        say("Intended use", "预期用途"),
        language.of(&profile.intended_use),
        language.of(&profile.not_for)
    );
    for status in &report.requirements {
        let r = &status.requirement;
        line!(out, "## {} {}\n\n{}\n", r.id, language.of(&r.title), language.of(&r.statement));
        let content: Vec<String> = r.content.iter().map(|c| word(language, c)).collect();
        let ways: Vec<String> = r.verify_by.iter().map(|w| word(language, w)).collect();
        line!(out, "- {}: **{}**", say("State", "状态"), language.word(status.state.words()));
        line!(out, "- {}: {}", say("Content (IEC 62304 5.2.2)", "内容类别（IEC 62304 5.2.2）"), content.join(", "));
        line!(out, "- {}: {}", say("Verified by", "验证方式"), ways.join(", "));
        if !r.parents.is_empty() {
            line!(out, "- {}: {}", say("Follows from", "来源"), r.parents.join(", "));
        }
        if let Some(reason) = &r.reason {
            line!(out, "- {}: {:?}: {reason}", say("Allocation", "分配"), r.allocation);
        }
        if !r.controls_for.is_empty() {
            line!(out, "- {}: {}", say("Controls risks", "控制的风险"), r.controls_for.join(", "));
        }
        for c in &status.criteria {
            let measured = c
                .result
                .as_ref()
                .map(|result| format!("; {} {}", say("measured", "测得"), figures(result)))
                .unwrap_or_default();
            line!(
                out,
                "- {} {}: {}, {} {} {} ({}): **{}**{measured}",
                say("Criterion", "判据"),
                c.criterion.id,
                c.criterion.metric,
                language.word(c.criterion.on.words()),
                c.criterion.op.sign(),
                c.criterion.limit,
                c.criterion.of(),
                language.word(c.outcome.words())
            );
        }
        line!(out);
    }
    line!(out, "## {}\n", say("Kinds of content that no requirement carries", "没有需求承载的内容类别"));
    for (kind, reason) in &profile.content_reasons {
        line!(out, "- {}: {reason}", language.word(&kind.replace('_', " ")));
    }
    out
}

pub fn risk_file(report: &Report, regulatory: &Regulatory, language: Language) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Risk management file", "风险管理文件");
    let rated = |rated: Rated| {
        let level = format!("{:?}", rated.level).to_lowercase();
        format!("{} (S{} P{}; P1 {}, P2 {})", language.word(&level), rated.S, rated.P, rated.P1, rated.P2)
    };
    for status in &report.risks {
        let r = &status.risk;
        line!(out, "## {} {}\n", r.id, language.of(&r.title));
        line!(out, "- {}: {}", say("Hazard", "危险"), language.of(&r.hazard));
        for cause in &r.causes {
            line!(
                out,
                "- {} ({}, {}): {}",
                say("Cause", "原因"),
                language.word(&format!("{:?}", cause.kind).to_lowercase()),
                cause.item,
                say(&cause.en, &cause.zh)
            );
        }
        for (i, step) in r.sequence.iter().enumerate() {
            line!(out, "- {} {}: {}", say("Sequence", "事件序列"), i + 1, language.of(step));
        }
        line!(out, "- {}: {}", say("Situation", "危险情况"), language.of(&r.situation));
        line!(out, "- {}: {}", say("Harm", "伤害"), language.of(&r.harm));
        line!(out, "- {}: {}. {}", say("Initial risk", "初始风险"), rated(status.initial), r.initial.basis);
        let residual = rated(status.residual_as_evidenced);
        line!(out, "- {}: **{residual}**", say("Residual risk as evidenced", "按现有证据的剩余风险"));
        let planned = rated(status.residual_as_planned);
        line!(out, "- {}: {planned}", say("Residual risk if every proof were there", "全部证据具备时的剩余风险"));
        line!(out, "- {}: {}\n", say("New risks from the controls", "控制措施引入的新风险"), language.of(&r.new_risks));
        let columns = [
            "Control|控制措施",
            "Measure|内容",
            "Option|类型",
            "Requirement|需求",
            "Implementation|实施",
            "Effectiveness|有效性",
            "Credit|降低",
        ];
        line!(out, "{}", language.table(&columns));
        for c in &status.controls {
            let credit = if c.counts {
                format!("P1 -{}, P2 -{}", c.control.reduces.P1, c.control.reduces.P2)
            } else {
                language.word("not earned").to_owned()
            };
            line!(
                out,
                "| {} | {} | {} | {} | {} | {} | {credit} |",
                c.control.id,
                cell(say(&c.control.en, &c.control.zh)),
                language.word(&format!("{:?}", c.control.option).to_lowercase()),
                language.word(c.control.requirement.as_deref().unwrap_or("external")),
                language.word(c.implementation.words()),
                language.word(c.effectiveness.words())
            );
        }
        line!(out);
    }
    line!(out, "## {}\n", say("Controls taken away (mutation)", "去除控制措施后的测试"));
    line!(
        out,
        "{} `run/mutations.json`\n",
        say(
            "Each change below takes one control away in a copy of the sources; the tests that show the control's effect must then fail. Raw record:",
            "下列每项改动在源码副本中去除一项控制措施；证明其作用的测试必须随之失败。原始记录："
        )
    );
    let columns =
        ["Mutation|改动", "Control|控制措施", "What is broken|被破坏的内容", "Outcome|结果", "Noticed by|由何测试发现"];
    line!(out, "{}", language.table(&columns));
    for m in &report.mutants {
        let noticed = if m.killed_by.is_empty() { "-".to_owned() } else { m.killed_by.join(", ") };
        let (broken, outcome) = (language.of(&m.breaks), language.word(m.outcome.words()));
        line!(out, "| {} | {} | {} | {outcome} | {noticed} |", m.id, m.control, cell(broken));
    }
    line!(out);
    let class = &report.classification;
    line!(out, "## {}\n", say("Software safety class (IEC 62304 4.3)", "软件安全级别（IEC 62304 4.3）"));
    line!(
        out,
        "{} {}. {} {}. {} {}.\n",
        say("Computed: class", "计算所得级别："),
        class.computed.letter(),
        say("Stated by the plan: class", "计划所述级别："),
        class.stated.letter(),
        say("With every external control proven: class", "全部外部控制得到证明时的级别："),
        class.as_planned.letter()
    );
    for reason in &class.rationale {
        line!(out, "- {reason}");
    }
    let title = say("Overall residual risk, benefit-risk analysis, review", "综合剩余风险、受益风险分析与评审");
    line!(out, "\n## {title}\n\n{}", language.word("manual - record required"));
    out
}
