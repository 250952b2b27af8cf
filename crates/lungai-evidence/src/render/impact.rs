//! The change impact: what changed since an earlier package, and what that makes doubtful; without one, what the reviews of links say.
use super::documents::titled;
use super::words::cell;
use crate::build::{Inputs, Report};
use crate::diff::{self, Diff, Figure};
use crate::failure::Failure;
use crate::links::{self, LinkState};
use crate::regulatory::{Language, Regulatory};
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { let _ = writeln!($out); };
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

/// What changed since the earlier package that was given, if one was.
pub fn since(report: &Report, inputs: &Inputs) -> Result<Option<Diff>, Failure> {
    let Some(earlier) = &inputs.since else { return Ok(None) };
    let today = serde_json::to_value(report).map_err(|error| Failure::new("unwritable", error.to_string()))?;
    Ok(Some(diff::between(&earlier.report, &today)))
}

pub fn impact(
    report: &Report,
    inputs: &Inputs,
    diff: Option<&Diff>,
    regulatory: &Regulatory,
    language: Language,
) -> String {
    let say = |en, zh| language.say(en, zh);
    let mut out = titled(report, regulatory, language, "Change impact", "变更影响");
    match (diff, &inputs.since) {
        (Some(diff), Some(earlier)) => {
            let text =
                |pointer: &str| earlier.report.pointer(pointer).and_then(|v| v.as_str()).unwrap_or("-").to_owned();
            line!(out, "{}", language.table(&["Earlier package|先前的证据包", "|"]));
            line!(out, "| {} | {} |", say("Version", "版本"), text("/version"));
            line!(out, "| {} | {} |", say("Commit", "提交"), text("/commit/id"));
            line!(out, "| {} | `{}` |\n", say("Root hash", "根哈希"), earlier.root_hash);
            compared(&mut out, diff, language);
        }
        _ => {
            let last = regulatory.releases.last_key_value();
            let last = last.map(|(id, r)| format!("{id}, {}", r.version)).unwrap_or(language.word("none").to_owned());
            line!(out, "## {}\n", say("Since an earlier package", "自先前的证据包以来"));
            line!(
                out,
                "{} {last}.\n",
                say(
                    "Not evidenced here: no earlier package was given (`--since`), so that nothing is known of what changed since. With the package of the last release, these would be compared: needs, requirements with their criteria and states, risks with their residual levels, the matrix, threats, controls, code and tests by the hashes of what they say, verdicts, components of the shipped program, models, protocols, test sets, results with intervals, problems and documents; and the tests that must run again would be listed. The last release on record:",
                    "此处无证据：未提供先前的证据包（`--since`），因此不知自那时以来有何变更。提供上次发布的证据包时，将比较：用户需要、需求及其判据与状态、风险及剩余水平、风险矩阵、威胁、控制措施、代码与测试（按内容哈希）、结论、发布程序的组件、模型、方案、测试集、带区间的结果、问题与文件；并列出须重跑的测试。记录在案的上次发布："
                )
            );
        }
    }
    by_the_lock(&mut out, report, language);
    out
}

fn compared(out: &mut String, diff: &Diff, language: Language) {
    let say = |en, zh| language.say(en, zh);
    let short = |side: &Option<String>| {
        let text = side.clone().unwrap_or_else(|| language.word("absent").to_owned());
        if text.chars().count() > 60 { format!("{}…", text.chars().take(24).collect::<String>()) } else { text }
    };
    let (derived, changed): (Vec<_>, Vec<_>) = diff.changes.iter().partition(|(item, _)| diff::is_derived(item));
    for (title, changes) in
        [(say("What was changed", "变更的内容"), changed), (say("What follows from it", "由此引起的变化"), derived)]
    {
        line!(out, "## {title}\n");
        if changes.is_empty() {
            line!(out, "{}\n", say("Nothing.", "无。"));
            continue;
        }
        line!(out, "{}", language.table(&["Item|项目", "Before|之前", "After|之后"]));
        for (item, (before, after)) in changes {
            line!(out, "| {} | {} | {} |", cell(item), cell(&short(before)), cell(&short(after)));
        }
        line!(out);
    }
    line!(out, "## {}\n", say("Claims that became doubtful", "因此存疑的声明"));
    if diff.suspect.is_empty() {
        line!(
            out,
            "{}\n",
            say("None: no link that is in both packages has another end.", "无：两个证据包共有的关联均未变化。")
        );
    } else {
        line!(
            out,
            "{}",
            language.table(&[
                "Requirement, risk, control or criterion|需求、风险、控制或判据",
                "By these links|经由的关联"
            ])
        );
    }
    for (claim, links) in &diff.suspect {
        line!(out, "| {claim} | {} |", cell(&links.iter().cloned().collect::<Vec<_>>().join("; ")));
    }
    line!(out, "\n## {}: {}\n", say("Tests that must run again", "须重跑的测试"), diff.tests_to_repeat.len());
    for test in &diff.tests_to_repeat {
        line!(out, "- `{test}`");
    }
    line!(out, "\n## {}\n", say("Performance", "性能"));
    line!(
        out,
        "{}",
        language.table(&["Criterion|判据", "Before|之前", "After|之后", "Difference|差值", "Intervals|区间"])
    );
    let figure = |figure: &Option<Figure>| match figure {
        None => language.word("absent").to_owned(),
        Some(Figure { value, ci, synthetic }) => {
            let ci = ci.map(|[low, high]| format!(" ({low:.4} - {high:.4})")).unwrap_or_default();
            format!("{value:.4}{ci}{}", if *synthetic { " SYNTHETIC" } else { "" })
        }
    };
    for p in &diff.performance {
        let difference = p.difference.map_or("-".to_owned(), |d| format!("{d:+.4}"));
        let apart = match p.intervals_overlap {
            None => "-",
            Some(true) => say("overlap", "重叠"),
            Some(false) => say("apart", "分离"),
        };
        line!(out, "| {} | {} | {} | {difference} | {apart} |", p.criterion, figure(&p.before), figure(&p.after));
    }
    line!(out, "\n## {}\n", say("Predetermined change control plan", "预定变更控制计划"));
    match (&diff.plan.modification, diff.plan.inside) {
        (Some(id), true) => {
            line!(out, "{} {id}\n", say("Inside the plan:", "在计划之内："));
        }
        _ => {
            line!(out, "{} {}\n", say("Outside the plan:", "在计划之外："), diff.plan.reasons.join("; "));
        }
    }
    line!(out, "## {}\n", say("Questions for a person to answer", "须由人员回答的问题"));
    line!(
        out,
        "{}",
        language.table(&["Basis|依据", "Question|问题", "Changed items that bear on it|相关变更", "Answer|回答"])
    );
    for q in &diff.questions {
        let some = q.facts.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
        let more = if q.facts.len() > 6 { format!(", … ({})", q.facts.len()) } else { String::new() };
        let manual = language.word("manual - record required");
        line!(out, "| {} | {} | {}{more} | {manual} |", q.basis, q.question, cell(&some));
    }
    line!(out);
}

/// What `regulatory/trace.lock` says: links as people reviewed them last.
fn by_the_lock(out: &mut String, report: &Report, language: Language) {
    let say = |en, zh| language.say(en, zh);
    line!(out, "## {}\n", say("Since links were reviewed", "自关联评审以来"));
    line!(out, "{}", language.table(&["Links|关联", "Count|数量"]));
    for ((_, n), word) in links::counts(&report.links).into_iter().zip(["suspect", "not reviewed", "current"]) {
        line!(out, "| {} | {n} |", language.word(word));
    }
    line!(out);
    for link in report.links.iter().filter(|link| link.state == LinkState::Suspect) {
        line!(out, "- **{}**: {}", link.title(), link.why);
    }
    let repeat = links::tests_to_repeat(&report.links, &report.tests);
    if report.links.iter().all(|link| link.state == LinkState::NotReviewed) {
        let text = "Nobody has reviewed a link yet, so that nothing can be in doubt: manual - record required.";
        line!(out, "{}", say(text, "尚无人评审任何关联，因此无从存疑：人工，须有记录。"));
    } else if repeat.is_empty() {
        line!(out, "{}", say("No test verifies anything that is suspect.", "没有测试验证存疑的内容。"));
    } else {
        line!(out, "\n{}: {}\n", say("Tests that must run again", "须重跑的测试"), repeat.len());
        for test in repeat {
            line!(out, "- `{}`", test.title());
        }
    }
}
