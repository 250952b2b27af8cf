//! The pages. Red comes first on each.
use super::html::{self, Esc, chip, page};
use super::{figures, verified};
use crate::build::Report;
use crate::clauses::{ClauseState, ClauseStatus};
use crate::finding::{Finding, Severity};
use crate::regulatory::{Regulatory, Text};
use crate::results::Standing;
use crate::risk::{Rated, RiskStatus};
use crate::state::{RequirementStatus, State};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = write!($out, $($text)*); };
}

pub fn clearance(regulatory: &Regulatory) -> String {
    let text = &regulatory.profile.clearance;
    format!("<b>{}</b> <span lang=\"zh\">{}</span>", Esc(&text.en), Esc(&text.zh))
}

pub fn both(text: &Text) -> String {
    format!("{}<span lang=\"zh\">{}</span>", Esc(&text.en), Esc(&text.zh))
}

pub fn index(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::new();
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let class = &report.classification;
    let tile = |class: &str, figure: String, words: &str| {
        format!("<div class=\"tile {class}\"><b>{figure}</b><span>{words}</span></div>")
    };
    let whole = format!("{} / {}", verified(report), report.requirements.len());
    let all_whole = verified(report) == report.requirements.len();
    let class_colour = if class.computed > class.stated { "red" } else { "green" };
    put!(out, "<div class=\"tiles\">");
    put!(out, "{}", tile("red", count(Severity::Red).to_string(), "broken or contradictory"));
    put!(out, "{}", tile("amber", count(Severity::Amber).to_string(), "evidence missing"));
    put!(out, "{}", tile("grey", count(Severity::Grey).to_string(), "for people, or an operated service"));
    put!(out, "{}", tile(if all_whole { "green" } else { "amber" }, whole, "requirements fully verified"));
    let words = format!("IEC 62304 class computed; {} stated", class.stated.letter());
    put!(out, "{}</div>", tile(class_colour, class.computed.letter().to_string(), &words));

    put!(out, "<h2>What needs attention first</h2>");
    let of = |severity| report.findings.iter().filter(move |f| f.severity == severity).collect::<Vec<_>>();
    findings_table(&mut out, &of(Severity::Red), "Nothing is broken.");
    grouped(&mut out, &of(Severity::Amber), "Evidence missing");
    grouped(&mut out, &of(Severity::Grey), "Only people or an operated service can show this");

    put!(
        out,
        "<h2 id=\"requirements\">Requirements</h2><div class=\"scroll\"><table><thead><tr><th>Id<th>Requirement<th>State<th>Tests passed<th>Criteria</tr></thead><tbody>"
    );
    let mut ordered: Vec<&RequirementStatus> = report.requirements.iter().collect();
    ordered.sort_by_key(|r| (rank(r.state), r.requirement.id.clone()));
    for status in ordered {
        let r = &status.requirement;
        let passed = status.tests.iter().filter(|i| report.tests[**i].counts_as_passed()).count();
        let criteria: Vec<String> = status
            .criteria
            .iter()
            .map(|c| format!("<span class=\"mono\">{}</span> {}", Esc(&c.criterion.id), html::outcome(c.outcome)))
            .collect();
        put!(
            out,
            "<tr><td class=\"id\"><a href=\"trace-matrix.html#{id}\">{id}</a><td>{}<td>{}<td class=\"num\">{passed} of {}<td>{}",
            both(&r.title),
            html::state(status.state),
            status.tests.len(),
            criteria.join("<br>"),
            id = Esc(&r.id),
        );
    }
    put!(out, "</tbody></table></div>");
    put!(out, "<details><summary>What the states mean</summary><div><dl>");
    for state in State::ALL {
        put!(out, "<dt>{}<dd>{}", html::state(state), Esc(state.meaning()));
    }
    put!(
        out,
        "</dl><p>A requirement stands no higher than the lowest requirement in scope below it, and not above \u{201c}open problem\u{201d} while a major or critical problem that names it is open.</p></div></details>"
    );

    put!(
        out,
        "<h2>Risks</h2><div class=\"scroll\"><table><thead><tr><th>Id<th>Risk<th>Initial<th>Residual, as evidenced<th>Residual, if every proof were there</tr></thead><tbody>"
    );
    for status in &report.risks {
        put!(
            out,
            "<tr><td class=\"id\"><a href=\"risk-file.html#{id}\">{id}</a><td>{}<td>{}<td>{}<td>{}",
            both(&status.risk.title),
            rated(status.initial),
            rated(status.residual_as_evidenced),
            rated(status.residual_as_planned),
            id = Esc(&status.risk.id),
        );
    }
    put!(
        out,
        "</tbody></table></div><p class=\"mute\">A control earns credit only when its implementation and its effectiveness are both shown; synthetic data show no effectiveness.</p>"
    );

    put!(out, "<h2>Software safety class</h2><p>{}</p><ul>", class_line(report));
    for line in &class.rationale {
        put!(out, "<li>{}", Esc(line));
    }
    put!(out, "</ul>");
    results(&mut out, report);

    let profile = &regulatory.profile;
    put!(
        out,
        "<h2>Product</h2><dl><dt>Intended use<dd>{}<dt>Not for<dd>{}",
        both(&profile.intended_use),
        both(&profile.not_for)
    );
    for j in &profile.jurisdictions {
        put!(
            out,
            "<dt>{}<dd>class {}: {}; checked {}; to confirm: {}",
            Esc(&j.name),
            Esc(&j.class),
            Esc(&j.basis),
            Esc(&j.checked),
            Esc(&j.to_confirm)
        );
    }
    put!(out, "</dl>");
    put!(out, "<h2>Trace</h2><div class=\"scroll\">{}</div>", super::graph::svg(report, regulatory));
    put!(out, "<h2>Documents</h2><ul>");
    for (name, en, zh) in DOCUMENTS {
        put!(out, "<li>{en} <span lang=\"zh\">{zh}</span>: ");
        let formats = ["", ".zh"].map(|language| {
            let name = format!("{name}{language}");
            let word = if language.is_empty() { "English" } else { "中文" };
            format!(
                "<a href=\"documents/{name}.html\">{word}</a> (<a href=\"documents/{name}.docx\">DOCX</a>, <a href=\"{name}.md\">Markdown</a>)"
            )
        });
        put!(out, "{}", formats.join(", "));
    }
    for (i, model) in (1..).zip(&report.models).filter(|(_, model)| model.card.is_some()) {
        put!(
            out,
            "<li>Model card of {} {} <span lang=\"zh\">模型卡</span>: <a href=\"documents/model-card-{i}.html\">English, 中文</a> (<a href=\"models/{i}/MODEL_CARD.md\">Markdown as signed with the model</a>)",
            Esc(&model.name),
            Esc(&model.version)
        );
    }
    put!(out, "<li><a href=\"clauses.html\">Standards, guidances and checklists, item by item</a>");
    put!(out, "<li><a href=\"records.html\">Plans and manuals</a></ul>");
    put!(
        out,
        "<h2>Checking this package</h2><p>With the tool: <code>lungai-evidence verify DIR --key PUBLIC.pem</code>. With Python and openssl alone: <code>python3 check.py DIR</code>, with a copy of <code>check.py</code> from elsewhere. With standard tools, in the folder of the package:</p>\
         <pre>find core -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum   # the root_hash of manifest.json\n\
         openssl dgst -sha256 -verify signer.pem -signature manifest.sig manifest.json   # if signed</pre>\
         <p>Tables and documents: <a href=\"gaps.csv\">gaps.csv</a>, <a href=\"links.csv\">links.csv</a>, <a href=\"trace-matrix.csv\">trace-matrix.csv</a>, <a href=\"trace-matrix.json\">trace-matrix.json</a>, <a href=\"trace.xlsx\">trace.xlsx</a>, <a href=\"trace.reqif\">trace.reqif</a>, \
         <a href=\"tests.csv\">tests.csv</a>, <a href=\"clauses.csv\">clauses.csv</a>, \
         <a href=\"soup.csv\">soup.csv</a>, <a href=\"sbom.cdx.json\">sbom.cdx.json</a>, <a href=\"evidence.json\">evidence.json</a>.</p>"
    );
    page(report, "index.html", "Overview", &clearance(regulatory), &out)
}

const DOCUMENTS: [(&str, &str, &str); 10] = [
    ("srs", "Software requirements specification", "软件需求规格说明"),
    ("risk-file", "Risk management file", "风险管理文件"),
    ("architecture", "Software architecture", "软件架构"),
    ("design-index", "Detailed design index", "详细设计索引"),
    ("verification-report", "Verification and validation report", "验证与确认报告"),
    ("performance-report", "Algorithm performance report", "算法性能报告"),
    ("datasheet", "Datasheets of the data sets", "数据集说明书"),
    ("anomalies", "Residual anomalies", "残留异常"),
    ("change-impact", "Change impact", "变更影响"),
    ("tool-validation", "Validation of the evidence tool", "工具确认报告"),
];

/// Order on the page: red, amber, whole, grey.
fn rank(state: State) -> u8 {
    match state.severity() {
        Some(Severity::Red) => 0,
        Some(Severity::Amber) => 1,
        None => 2,
        Some(Severity::Grey) => 3,
    }
}

fn class_line(report: &Report) -> String {
    let class = &report.classification;
    let beyond: Vec<&ClauseStatus> = report.clauses.values().flatten().filter(|row| row.beyond_stated_class).collect();
    let mut text = format!(
        "Computed from the risk file: <b>class {}</b>. The plan states class {}; with every external control proven it would be class {}.",
        class.computed.letter(),
        class.stated.letter(),
        class.as_planned.letter()
    );
    if !beyond.is_empty() {
        let list: Vec<String> = beyond
            .iter()
            .map(|row| format!("{} {} ({})", row.clause.id, row.clause.title, row.state.words()))
            .collect();
        put!(text, " The gap between the two is these clauses: {}.", Esc(list.join("; ")));
    }
    text
}

fn rated(rated: Rated) -> String {
    format!("{} <span class=\"mute mono\">S{} P{}</span>", html::level(rated.level, rated.acceptable), rated.S, rated.P)
}

fn findings_table(out: &mut String, findings: &[&Finding], none: &str) {
    if findings.is_empty() {
        put!(out, "<p>{none}</p>");
        return;
    }
    put!(out, "<div class=\"scroll\"><table><tbody>");
    for f in findings {
        put!(
            out,
            "<tr><td>{}<td class=\"id\">{}<td>{}",
            chip(html::colour(Some(f.severity)), f.rule),
            Esc(&f.item),
            Esc(&f.message)
        );
    }
    put!(out, "</tbody></table></div>");
}

/// Folded by rule, so that a hundred of a kind do not hide another.
fn grouped(out: &mut String, findings: &[&Finding], title: &str) {
    if findings.is_empty() {
        return;
    }
    let mut rules: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        rules.entry(finding.rule).or_default().push(finding);
    }
    put!(out, "<h3>{title}</h3>");
    for (rule, findings) in rules {
        let mut items: Vec<&str> = findings.iter().map(|f| f.item.as_str()).collect();
        items.dedup();
        // Long names would hide what they stand for.
        let shown: Vec<&str> = items.iter().copied().take_while(|item| item.len() < 24).take(6).collect();
        let more = if shown.len() < items.len() { if shown.is_empty() { "…" } else { ", …" } } else { "" };
        let colour = html::colour(Some(findings[0].severity));
        put!(
            out,
            "<details><summary>{} {} <span class=\"mute\">{}{more}</span></summary><table><tbody>",
            chip(colour, rule),
            findings.len(),
            Esc(shown.join(", "))
        );
        for f in findings {
            put!(out, "<tr><td class=\"id\">{}<td>{}", Esc(&f.item), Esc(&f.message));
        }
        put!(out, "</tbody></table></details>");
    }
}

fn results(out: &mut String, report: &Report) {
    put!(out, "<h2>Validation results</h2>");
    if report.validation.is_empty() {
        put!(out, "<p>No results of a validation run were given.</p>");
    }
    for run in &report.validation {
        let mut mark = if run.synthetic { chip("amber", "SYNTHETIC") } else { String::new() };
        match &run.standing {
            Standing::Exploratory => mark.push_str(&chip("amber", "exploratory: protocol not locked before")),
            Standing::Locked { ledger, opened } => {
                mark.push_str(&chip("grey", &format!("locked: {ledger}, line {}", opened.number)));
            }
        }
        if !run.usable {
            mark.push_str(&chip("red", "not judged"));
        }
        let model = run
            .model
            .as_ref()
            .map_or_else(|| "no model named".to_owned(), |m| format!("{} {} ({:.12}…)", m.name, m.version, m.sha256));
        put!(
            out,
            "<h3>{} {mark}</h3><p class=\"mute\">Model {}. Test set <code>{}</code>.</p>",
            Esc(&run.name),
            Esc(model),
            Esc(run.manifest_sha256.as_deref().unwrap_or("not named"))
        );
        put!(
            out,
            "<div class=\"scroll\"><table><thead><tr><th>Criterion<th>Metric<th>Value and interval<th>Rule<th>Decision</tr></thead><tbody>"
        );
        for c in &run.criteria {
            let (counts, c) = (c.counts, &c.result);
            let said = if c.met { "met" } else { "not met" };
            let decision = match (c.met, run.synthetic) {
                _ if !counts => chip("grey", &format!("says {said}: proves nothing")),
                (_, true) => chip(if c.met { "amber" } else { "red" }, &format!("{said} (SYNTHETIC)")),
                (true, false) if run.standing == Standing::Exploratory => chip("amber", "met (exploratory)"),
                (true, false) => chip("green", said),
                (false, false) => chip("red", said),
            };
            put!(
                out,
                "<tr><td class=\"id\">{}<td>{}<td class=\"num\">{}<td>{} {} {}<td>{decision}",
                Esc(&c.id),
                Esc(&c.metric),
                Esc(figures(c)),
                c.on.words(),
                Esc(c.op.sign()),
                c.limit
            );
        }
        put!(out, "</tbody></table></div>");
    }
    for model in &report.models {
        put!(
            out,
            "<details><summary>Frozen model {} {}</summary><table><tbody>",
            Esc(&model.name),
            Esc(&model.version)
        );
        for (path, hash) in &model.files {
            put!(out, "<tr><td>{}<td class=\"mono\">{hash}", Esc(path));
        }
        put!(out, "</tbody></table></details>");
    }
}

pub fn trace(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::from(
        "<p>From each requirement down to the risks that it controls, the code that implements it, the tests that verify it and the figures that decide it. <a href=\"trace.svg\">As a picture</a>.</p>",
    );
    for status in &report.requirements {
        let r = &status.requirement;
        put!(out, "<h2 id=\"{id}\">{id} {} {}</h2>", Esc(&r.title.en), html::state(status.state), id = Esc(&r.id));
        put!(out, "<p>{}</p><p lang=\"zh\">{} {}</p>", Esc(&r.statement.en), Esc(&r.title.zh), Esc(&r.statement.zh));
        let risks: Vec<String> =
            r.controls_for.iter().map(|id| format!("<a href=\"risk-file.html#{0}\">{0}</a>", Esc(id))).collect();
        if !risks.is_empty() {
            put!(out, "<p>Controls: {}</p>", risks.join(", "));
        }
        let link = |id: &String| {
            let page = if regulatory.needs.contains_key(id) { "records.html" } else { "trace-matrix.html" };
            format!("<a href=\"{page}#{0}\">{0}</a>", Esc(id))
        };
        if !r.parents.is_empty() {
            put!(out, "<p>Follows from: {}</p>", r.parents.iter().map(link).collect::<Vec<_>>().join(", "));
        }
        let below: Vec<String> = report
            .requirements
            .iter()
            .filter(|c| c.requirement.parents.contains(&r.id))
            .map(|c| link(&c.requirement.id))
            .collect();
        if !below.is_empty() {
            put!(out, "<p>Refined by: {}</p>", below.join(", "));
        }
        if let Some(reason) = &r.reason {
            put!(out, "<p>{}</p>", Esc(reason));
        }
        if !status.suspect.is_empty() {
            let links: String = status.suspect.iter().map(|title| format!("<li>{}", Esc(title))).collect();
            put!(out, "<p>{} Changed since a person reviewed it:</p><ul>{links}</ul>", chip("amber", "suspect links"));
        }
        if !status.criteria.is_empty() {
            put!(
                out,
                "<div class=\"scroll\"><table><thead><tr><th>Criterion<th>Metric<th>Where<th>Rule<th>Measured<th>Outcome</tr></thead><tbody>"
            );
            for c in &status.criteria {
                let measured = c.result.as_ref().map_or_else(
                    || "-".to_owned(),
                    |result| format!("{} in {}", figures(result), c.run.as_deref().unwrap_or_default()),
                );
                put!(
                    out,
                    "<tr><td class=\"id\">{}<td>{}<td>{}<td>{} {} {}<td>{}<td>{}",
                    Esc(&c.criterion.id),
                    Esc(&c.criterion.metric),
                    Esc(c.criterion.of()),
                    c.criterion.on.words(),
                    Esc(c.criterion.op.sign()),
                    c.criterion.limit,
                    Esc(measured),
                    html::outcome(c.outcome)
                );
            }
            put!(out, "</tbody></table></div>");
        }
        if !status.implemented_at.is_empty() {
            put!(out, "<details><summary>Implemented in {} places</summary><div><ul>", status.implemented_at.len());
            for place in &status.implemented_at {
                put!(out, "<li><code>{}</code>", Esc(place));
            }
            put!(out, "</ul></div></details>");
        }
        if status.tests.is_empty() {
            put!(out, "<p class=\"mute\">No test is tagged with it.</p>");
            continue;
        }
        let mut tests: Vec<_> = status.tests.iter().map(|i| &report.tests[*i]).collect();
        tests.sort_by_key(|test| (test.counts_as_passed(), test.title()));
        let open = if tests.iter().all(|test| test.counts_as_passed()) { "" } else { " open" };
        put!(
            out,
            "<details{open}><summary>{} tests</summary><div class=\"scroll\"><table><thead><tr><th>Verdict<th>Test<th>Place<th>Exercised<th>Measured (limit)</tr></thead><tbody>",
            tests.len()
        );
        for test in tests {
            let exercised = test
                .exercised
                .as_ref()
                .map_or_else(|| "-".to_owned(), |ids| ids.iter().cloned().collect::<Vec<_>>().join(", "));
            let notes: String = test
                .not_evidenced
                .iter()
                .map(|note| format!("<br><span class=\"mute\">{}</span>", Esc(note)))
                .collect();
            let measured: Vec<String> = test.measured.iter().map(|m| Esc(m.words()).to_string()).collect();
            let measured = measured.join("<br>");
            put!(
                out,
                "<tr><td>{}<td>{}{notes}<br><span class=\"mute mono\">{}</span><td class=\"mono\">{}:{}<td class=\"mono\">{}<td class=\"mono\">{measured}",
                html::verdict_chip(test),
                Esc(test.tag.name.replace('_', " ")),
                Esc(test.title()),
                Esc(&test.tag.file),
                test.tag.line,
                Esc(exercised)
            );
        }
        put!(out, "</tbody></table></div></details>");
    }
    page(report, "trace-matrix.html", "Trace matrix", &clearance(regulatory), &out)
}

pub fn risk_file(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::new();
    let matrix = &regulatory.matrix;
    put!(
        out,
        "<p>Levels are computed from severity and probability by this matrix, in steps of ten of the probability. Risks stand where they are <b>as evidenced</b>.</p>"
    );
    put!(out, "<div class=\"scroll\"><table class=\"matrix\"><thead><tr><th>");
    for p in 1..=5 {
        put!(out, "<th title=\"{}\">P{p}", Esc(&matrix.probability.get(&p).map_or("", |t| &t.en)));
    }
    put!(out, "</tr></thead><tbody>");
    for (row, levels) in matrix.levels.iter().enumerate().rev() {
        let severity = row as u8 + 1;
        put!(out, "<tr><th title=\"{}\">S{severity}", Esc(&matrix.severity.get(&severity).map_or("", |t| &t.en)));
        for (column, level) in levels.iter().enumerate() {
            let here: Vec<&str> = report
                .risks
                .iter()
                .filter(|r| {
                    (usize::from(r.residual_as_evidenced.S), usize::from(r.residual_as_evidenced.P))
                        == (row + 1, column + 1)
                })
                .map(|r| r.risk.id.as_str())
                .collect();
            let word = format!("{level:?}").to_lowercase();
            let shown = if here.is_empty() { word.clone() } else { format!("<b>{}</b>", Esc(here.join(" "))) };
            put!(out, "<td class=\"{word}\">{shown}");
        }
    }
    put!(out, "</tbody></table></div>");
    for status in &report.risks {
        risk(&mut out, status, report);
    }
    mutants(&mut out, report);
    put!(
        out,
        "<h2>Overall residual risk, benefit-risk, review</h2><p>{} Clinical judgement and records from outside this workspace.</p>",
        chip("grey", "manual - record required")
    );
    page(report, "risk-file.html", "Risk file", &clearance(regulatory), &out)
}

/// Whether tests notice the loss of the controls that they show.
fn mutants(out: &mut String, report: &Report) {
    put!(
        out,
        "<h2 id=\"mutations\">Controls taken away</h2><p>Each change takes one control away in a copy of the sources; a test that shows the control's effect must then fail. Raw record: <code>run/mutations.json</code>.</p><div class=\"scroll\"><table><thead><tr><th>Mutation<th>Control<th>What is broken<th>Outcome<th>Noticed by</tr></thead><tbody>"
    );
    for m in &report.mutants {
        put!(
            out,
            "<tr><td class=\"id\">{}<td class=\"id\">{}<td>{}<span class=\"mute\"> {}</span><td>{}<td>{}",
            Esc(&m.id),
            Esc(&m.control),
            both(&m.breaks),
            Esc(&m.file),
            chip(html::colour(m.outcome.severity()), m.outcome.words()),
            Esc(m.killed_by.join(", "))
        );
    }
    put!(out, "</tbody></table></div>");
}

fn risk(out: &mut String, status: &RiskStatus, report: &Report) {
    let r = &status.risk;
    put!(
        out,
        "<h2 id=\"{id}\">{id} {} {}</h2>",
        Esc(&r.title.en),
        html::level(status.residual_as_evidenced.level, status.residual_as_evidenced.acceptable),
        id = Esc(&r.id)
    );
    put!(out, "<dl><dt>Hazard<dd>{}<dt>Causes<dd><ul>", both(&r.hazard));
    for c in &r.causes {
        put!(
            out,
            "<li>{} <span class=\"mute\">({} in {})</span><span lang=\"zh\"> {}</span>",
            Esc(&c.en),
            format!("{:?}", c.kind).to_lowercase(),
            Esc(&c.item),
            Esc(&c.zh)
        );
    }
    put!(out, "</ul><dt>Sequence<dd><ul>");
    for step in &r.sequence {
        put!(out, "<li>{}<span lang=\"zh\"> {}</span>", Esc(&step.en), Esc(&step.zh));
    }
    put!(out, "</ul><dt>Situation<dd>{}<dt>Harm<dd>{}", both(&r.situation), both(&r.harm));
    put!(
        out,
        "<dt>Level<dd>initial {}<span class=\"arrow\">→</span>as evidenced {}<span class=\"arrow\">→</span>if every proof were there {}<dt>Basis<dd>{}<dt>New risks<dd>{}</dl>",
        rated(status.initial),
        rated(status.residual_as_evidenced),
        rated(status.residual_as_planned),
        Esc(&r.initial.basis),
        both(&r.new_risks)
    );
    put!(
        out,
        "<div class=\"scroll\"><table><thead><tr><th>Control<th>Measure<th>Option<th>By<th>Implementation<th>Effectiveness<th>Credit</tr></thead><tbody>"
    );
    for c in &status.controls {
        let by = match &c.control.requirement {
            Some(id) => {
                let state = report
                    .requirements
                    .iter()
                    .find(|r| r.requirement.id == *id)
                    .map(|r| html::state(r.state))
                    .unwrap_or_default();
                format!("<a href=\"trace-matrix.html#{0}\">{0}</a><br>{state}", Esc(id))
            }
            None => "external".to_owned(),
        };
        let steps = [("P1", c.control.reduces.P1), ("P2", c.control.reduces.P2)];
        let steps: Vec<String> =
            steps.iter().filter(|(_, n)| *n > 0).map(|(which, n)| format!("{which} −{n}")).collect();
        let credit = match (steps.is_empty(), c.counts) {
            (true, _) => "none claimed".to_owned(),
            (false, true) => steps.join(", "),
            (false, false) => format!("<s>{}</s> not earned", steps.join(", ")),
        };
        put!(
            out,
            "<tr><td class=\"id\">{}<td>{}<span lang=\"zh\">{}</span><td>{}<td>{by}<td>{}<td>{}<td class=\"num\">{credit}",
            Esc(&c.control.id),
            Esc(&c.control.en),
            Esc(&c.control.zh),
            format!("{:?}", c.control.option).to_lowercase(),
            html::proof(c.implementation),
            html::proof(c.effectiveness)
        );
    }
    put!(out, "</tbody></table></div>");
}

pub fn clauses(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::new();
    for (standard, rows) in &report.clauses {
        let count = |state| rows.iter().filter(|row| row.binding && row.state == state).count();
        put!(
            out,
            "<h2>{}</h2><p>Binding for class {}: {} shown, {} with a gap, {} manual. {}</p>",
            Esc(standard),
            report.classification.computed.letter(),
            count(ClauseState::Shown),
            count(ClauseState::Gap),
            count(ClauseState::Manual),
            class_line(report)
        );
        put!(
            out,
            "<div class=\"scroll\"><table><thead><tr><th>Clause<th>Subject<th>Classes<th>State<th>Detail</tr></thead><tbody>"
        );
        for row in rows {
            let state = match row.state {
                _ if !row.binding => chip("grey", "not binding for this class"),
                ClauseState::Shown | ClauseState::Recorded => chip("green", row.state.words()),
                ClauseState::Gap => chip("amber", "gap"),
                other => chip("grey", other.words()),
            };
            let note = row
                .clause
                .note
                .as_ref()
                .map(|note| format!(" <span class=\"mute\">{}</span>", Esc(note)))
                .unwrap_or_default();
            let beyond =
                if row.beyond_stated_class { " <span class=\"chip red\">beyond the stated class</span>" } else { "" };
            put!(
                out,
                "<tr><td class=\"id\">{}<td>{}<td>{}<td>{state}{beyond}<td>{}{note}",
                Esc(&row.clause.id),
                Esc(&row.clause.title),
                Esc(&row.clause.classes),
                Esc(&row.detail)
            );
        }
        put!(out, "</tbody></table></div>");
    }
    page(report, "clauses.html", "Clauses", &clearance(regulatory), &out)
}

fn advisories(out: &mut String, report: &Report) {
    if report.advisory_hits.is_empty() {
        return;
    }
    put!(
        out,
        "<h2>Advisories</h2><div class=\"scroll\"><table><thead><tr><th>Component<th>Advisory<th>Subject<th>Verdict</tr></thead><tbody>"
    );
    for hit in &report.advisory_hits {
        let verdict = hit.triage.as_ref().map_or_else(
            || chip(if hit.informational.is_some() { "amber" } else { "red" }, "not evaluated"),
            |t| Esc(format!("{:?}: {} ({}, {})", t.state, t.detail, t.by, t.date)).to_string(),
        );
        put!(
            out,
            "<tr><td class=\"id\">{} {}<td>{}<td>{} {}<td>{verdict}",
            Esc(&hit.component),
            Esc(&hit.version),
            Esc(&hit.advisory),
            Esc(&hit.title),
            Esc(hit.informational.as_deref().unwrap_or(""))
        );
    }
    put!(out, "</tbody></table></div>");
}

pub fn soup(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::new();
    let of = |role| report.soup.iter().filter(move |s| s.role == role).collect::<Vec<_>>();
    let (shipped, build, tool) = (of("shipped"), of("build"), of("tool"));
    put!(
        out,
        "<p>Software of unknown provenance in <code>{}</code>: {} components are linked into the program, {} run only while it is built, {} serve tests, training and statistics and are not shipped. \
         Licences and digests: <a href=\"soup.csv\">soup.csv</a>, <a href=\"sbom.cdx.json\">CycloneDX</a>, <a href=\"sbom.spdx.json\">SPDX</a>, <a href=\"vex.cdx.json\">VEX</a>. Advisories: {}</p>",
        Esc(&regulatory.profile.shipped),
        shipped.len(),
        build.len(),
        tool.len(),
        match &report.advisories {
            None => chip("amber", "unknown: no advisory database was given"),
            Some(d) => format!(
                "{} up to {}, {} concern what is shipped",
                d.advisories,
                Esc(&d.newest),
                report.advisory_hits.len()
            ),
        }
    );
    advisories(&mut out, report);
    put!(
        out,
        "<h2>Named directly by the shipped program</h2><div class=\"scroll\"><table><thead><tr><th>Component<th>Purpose<th>Required of it<th>What it needs<th>Known anomalies<th>Supplier, support<th>Used by</tr></thead><tbody>"
    );
    for s in report.soup.iter().filter(|s| !s.used_by.is_empty()) {
        let entry = regulatory.soup.iter().find(|soup| soup.name == s.name).and_then(|soup| soup.anomalies.as_ref());
        let known = entry.map(|anomalies| anomalies.known.as_slice()).unwrap_or_default().iter();
        let known: String =
            known.map(|a| format!("<li>{}: {}. {}", Esc(&a.what), Esc(&a.effect), Esc(&a.measure))).collect();
        let colour = if entry.is_some_and(|anomalies| anomalies.version == s.version) { "grey" } else { "amber" };
        let anomalies = format!("{}<ul>{known}</ul>", chip(colour, &s.anomalies));
        let purpose = if s.purpose.is_empty() { chip("amber", "not described") } else { Esc(&s.purpose).to_string() };
        put!(
            out,
            "<tr><td class=\"id\">{} {}<br><span class=\"mute\">{}</span><td>{purpose}<td>{}<td>{}<td>{anomalies}<td>{}<br>{}<td>{}",
            Esc(&s.name),
            Esc(&s.version),
            Esc(&s.licence),
            Esc(&s.requires),
            Esc(&s.needs),
            Esc(&s.supplier),
            if s.support.is_empty() { chip("amber", "support not stated") } else { Esc(&s.support).to_string() },
            Esc(s.used_by.join(", "))
        );
    }
    put!(out, "</tbody></table></div>");
    let foreign = of("bundled");
    if !foreign.is_empty() {
        put!(
            out,
            "<h2 id=\"bundled\">Foreign code inside linked components</h2><p>Written in C or C++, carried by a crate and compiled with it.</p><div class=\"scroll\"><table><thead><tr><th>Component<th>Carried by<th>Licence<th>Supplier<th>Anomalies published at<th>Known anomalies</tr></thead><tbody>"
        );
    }
    for s in &foreign {
        put!(
            out,
            "<tr><td class=\"id\">{} {}<td>{}<td>{}<td>{}<td>{}<td>{}",
            Esc(&s.name),
            Esc(&s.version),
            Esc(&s.source),
            Esc(&s.licence),
            Esc(&s.supplier),
            Esc(&s.anomalies_at),
            chip("amber", &s.anomalies)
        );
    }
    if !foreign.is_empty() {
        put!(out, "</tbody></table></div>");
    }
    for (title, list) in
        [("Linked into the program", shipped), ("Only while it is built", build), ("Not shipped", tool)]
    {
        put!(out, "<details><summary>{title}: {}</summary><table><tbody>", list.len());
        for s in list {
            put!(
                out,
                "<tr><td class=\"id\">{} {}<td>{}<td class=\"mono mute\">{:.16}…",
                Esc(&s.name),
                Esc(&s.version),
                Esc(&s.licence),
                s.sha256
            );
        }
        put!(out, "</tbody></table></details>");
    }
    page(report, "soup.html", "Components", &clearance(regulatory), &out)
}
