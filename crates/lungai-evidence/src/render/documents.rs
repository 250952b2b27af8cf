//! Documents in Markdown, in both languages, from the same sources as the pages.
use super::figures;
use crate::build::Report;
use crate::regulatory::{Regulatory, Text};
use crate::risk::Rated;
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { let _ = writeln!($out); };
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

pub fn head(out: &mut String, report: &Report, regulatory: &Regulatory, title: &Text) {
    line!(out, "# {} {}: {} / {}", report.product, report.version, title.en, title.zh);
    line!(out);
    line!(
        out,
        "Commit {} of {}. {} {}",
        report.commit.id,
        report.commit.date,
        regulatory.profile.clearance.en,
        regulatory.profile.clearance.zh
    );
    line!(out, "State: generated; manual - record of its review required.");
    line!(out);
}

pub fn requirements(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::new();
    let title =
        Text { zh: "软件需求规格说明".to_owned(), en: "Software requirements specification".to_owned() };
    head(&mut out, report, regulatory, &title);
    let profile = &regulatory.profile;
    line!(out, "## Intended use / 预期用途\n\n{}\n\n{}\n", profile.intended_use.en, profile.intended_use.zh);
    line!(out, "{}\n\n{}\n", profile.not_for.en, profile.not_for.zh);
    for status in &report.requirements {
        let r = &status.requirement;
        line!(out, "## {} {} / {}\n\n{}\n\n{}\n", r.id, r.title.en, r.title.zh, r.statement.en, r.statement.zh);
        let words: Vec<String> = r
            .content
            .iter()
            .filter_map(|c| serde_json::to_value(c).ok()?.as_str().map(|s| s.replace('_', " ")))
            .collect();
        let ways: Vec<String> =
            r.verify_by.iter().filter_map(|w| serde_json::to_value(w).ok()?.as_str().map(str::to_owned)).collect();
        line!(out, "- State: **{}**", status.state.words());
        line!(out, "- Content (IEC 62304 5.2.2): {}", words.join(", "));
        line!(out, "- Verified by: {}", ways.join(", "));
        if let Some(reason) = &r.reason {
            line!(out, "- Allocation: {:?}: {reason}", r.allocation);
        }
        if !r.controls_for.is_empty() {
            line!(out, "- Controls risks: {}", r.controls_for.join(", "));
        }
        for c in &status.criteria {
            let measured =
                c.result.as_ref().map(|result| format!("; measured {}", figures(result))).unwrap_or_default();
            let rule = format!(
                "{} {} {} ({})",
                c.criterion.on.words(),
                c.criterion.op.sign(),
                c.criterion.limit,
                c.criterion.of()
            );
            line!(
                out,
                "- Criterion {}: {}, {rule}: **{}**{measured}",
                c.criterion.id,
                c.criterion.metric,
                c.outcome.words()
            );
        }
        line!(out);
    }
    line!(out, "## Kinds of content that no requirement carries\n");
    for (kind, reason) in &profile.content_reasons {
        line!(out, "- {kind}: {reason}");
    }
    out
}

pub fn risk_file(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::new();
    let title = Text { zh: "风险管理文件".to_owned(), en: "Risk management file".to_owned() };
    head(&mut out, report, regulatory, &title);
    let say = |rated: Rated| {
        format!(
            "{} (S{} P{}, from P1 {} and P2 {})",
            format!("{:?}", rated.level).to_lowercase(),
            rated.S,
            rated.P,
            rated.P1,
            rated.P2
        )
    };
    for status in &report.risks {
        let r = &status.risk;
        line!(out, "## {} {} / {}\n", r.id, r.title.en, r.title.zh);
        line!(out, "- Hazard: {} / {}", r.hazard.en, r.hazard.zh);
        for cause in &r.causes {
            line!(
                out,
                "- Cause ({}, {}): {} / {}",
                format!("{:?}", cause.kind).to_lowercase(),
                cause.item,
                cause.en,
                cause.zh
            );
        }
        for (i, step) in r.sequence.iter().enumerate() {
            line!(out, "- Sequence {}: {} / {}", i + 1, step.en, step.zh);
        }
        line!(out, "- Situation: {} / {}", r.situation.en, r.situation.zh);
        line!(out, "- Harm: {} / {}", r.harm.en, r.harm.zh);
        line!(out, "- Initial risk: {}. {}", say(status.initial), r.initial.basis);
        line!(out, "- Residual risk as evidenced: **{}**", say(status.residual_as_evidenced));
        line!(out, "- Residual risk if every proof were there: {}", say(status.residual_as_planned));
        line!(out, "- New risks from the controls: {} / {}\n", r.new_risks.en, r.new_risks.zh);
        line!(
            out,
            "| Control | Measure | Option | Requirement | Implementation | Effectiveness | Credit |\n|---|---|---|---|---|---|---|"
        );
        for c in &status.controls {
            let credit = if c.counts {
                format!("P1 -{}, P2 -{}", c.control.reduces.P1, c.control.reduces.P2)
            } else {
                "not earned".to_owned()
            };
            let option = format!("{:?}", c.control.option).to_lowercase();
            let by = c.control.requirement.as_deref().unwrap_or("external");
            line!(
                out,
                "| {} | {} / {} | {option} | {by} | {} | {} | {credit} |",
                c.control.id,
                c.control.en,
                c.control.zh,
                c.implementation.words(),
                c.effectiveness.words()
            );
        }
        line!(out);
    }
    line!(out, "## Controls taken away (mutation) / 去除控制措施后的测试\n");
    line!(
        out,
        "Each change below takes one control away in a copy of the sources; the tests that show the control's effect must then fail. Raw record: `run/mutations.json`.\n"
    );
    line!(out, "| Mutation | Control | What is broken | Outcome | Noticed by |\n|---|---|---|---|---|");
    for m in &report.mutants {
        let noticed = if m.killed_by.is_empty() { "-".to_owned() } else { m.killed_by.join(", ") };
        line!(
            out,
            "| {} | {} | {} / {} | {} | {noticed} |",
            m.id,
            m.control,
            m.breaks.en,
            m.breaks.zh,
            m.outcome.words()
        );
    }
    line!(out);
    let class = &report.classification;
    line!(out, "## Software safety class (IEC 62304 4.3)\n");
    line!(
        out,
        "Computed: class {}. Stated by the plan: class {}. With every external control proven: class {}.\n",
        class.computed.letter(),
        class.stated.letter(),
        class.as_planned.letter()
    );
    for reason in &class.rationale {
        line!(out, "- {reason}");
    }
    line!(out, "\n## Overall residual risk, benefit-risk analysis, review\n\nmanual - record required");
    out
}
