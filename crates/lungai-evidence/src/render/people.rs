//! What people keep: needs, threats, problems, documents, roles, and what was settled about the source.
use super::html::{self, Esc, chip, page};
use super::pages::{both, clearance};
use crate::build::Report;
use crate::regulatory::{ProblemSeverity, Regulatory};
use serde::Serialize;
use std::fmt::Write;

/// Writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = write!($out, $($text)*); };
}

pub fn records(report: &Report, regulatory: &Regulatory) -> String {
    let mut out = String::new();
    documents(&mut out, report, regulatory);
    problems(&mut out, regulatory);
    needs(&mut out, report, regulatory);
    threats(&mut out, report, regulatory);
    changes(&mut out, regulatory);
    settled(&mut out, regulatory);
    page(report, "records.html", "Records", &clearance(regulatory), &out)
}

fn table(out: &mut String, heads: &[&str]) {
    let heads: String = heads.iter().map(|head| format!("<th>{head}")).collect();
    put!(out, "<div class=\"scroll\"><table><thead><tr>{heads}</tr></thead><tbody>");
}

/// The word under which a value stands in its file.
fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    text.replace('_', " ")
}

fn documents(out: &mut String, report: &Report, regulatory: &Regulatory) {
    put!(out, "<h2>Documents and approvals</h2>");
    table(out, &["Document", "Review", "Approvals still open", "SHA-256"]);
    for status in &report.documents {
        let title = regulatory.documents.get(&status.name).map(|d| both(&d.title)).unwrap_or_default();
        let review = match &status.review {
            Some(review) => chip("green", review),
            None if status.stale => chip("amber", "of an earlier text"),
            None => chip("grey", "manual - record required"),
        };
        put!(
            out,
            "<tr><td>{title} <a href=\"plans/{0}.en.html\">en</a> <a href=\"plans/{0}.zh.html\">zh</a><td>{review}<td>{1}<td class=\"mono\">{2:.16}…",
            Esc(&status.name),
            Esc(status.approvals_open.join(", ")),
            status.sha256
        );
    }
    put!(out, "</tbody></table></div><h3>Roles</h3>");
    table(out, &["Role", "Duties", "Holder"]);
    for role in &regulatory.profile.roles {
        let holder = role.holder.as_ref().map_or_else(|| chip("grey", "vacant"), |name| Esc(name).to_string());
        put!(out, "<tr><td>{}<td>{}<td>{holder}", both(&role.title), both(&role.duties));
    }
    put!(out, "</tbody></table></div><h3>Document control</h3><dl>");
    let control = &regulatory.profile.document_control;
    let parts = [
        ("Identification", &control.identification),
        ("Change", &control.change),
        ("Distribution", &control.distribution),
        ("Retention", &control.retention),
    ];
    for (name, text) in parts {
        put!(out, "<dt>{name}<dd>{}", both(text));
    }
    put!(out, "</dl>");
}

fn problems(out: &mut String, regulatory: &Regulatory) {
    put!(out, "<h2>Known problems</h2>");
    table(out, &["Id", "Problem", "Item", "Severity", "State", "Risks", "Evaluation"]);
    for (id, problem) in &regulatory.problems {
        let colour = match problem.severity {
            _ if !problem.is_open(regulatory) => "green",
            ProblemSeverity::Critical => "red",
            ProblemSeverity::Major | ProblemSeverity::Minor => "amber",
        };
        put!(
            out,
            "<tr id=\"{id}\"><td class=\"id\">{id}<td>{}<br>{}<td>{}<td>{}<td>{}<td>{}<td>{}",
            both(&problem.title),
            both(&problem.description),
            Esc(&problem.item),
            chip(colour, &word(&problem.severity)),
            word(&problem.state),
            Esc(problem.risks.join(", ")),
            problem.evaluation.as_ref().map_or_else(|| chip("amber", "not evaluated"), both),
            id = Esc(id)
        );
    }
    put!(out, "</tbody></table></div>");
}

fn needs(out: &mut String, report: &Report, regulatory: &Regulatory) {
    put!(out, "<h2>Needs of users</h2><p>A need stands where the worst of its requirements stands.</p>");
    table(out, &["Id", "User", "Need", "Requirements"]);
    for (id, need) in &regulatory.needs {
        let mut met: Vec<_> = report.requirements.iter().filter(|r| r.requirement.parents.contains(id)).collect();
        met.sort_by_key(|r| r.state);
        let met: Vec<String> = met
            .iter()
            .map(|r| {
                format!("<a href=\"trace-matrix.html#{0}\">{0}</a> {1}", Esc(&r.requirement.id), html::state(r.state))
            })
            .collect();
        put!(
            out,
            "<tr id=\"{0}\"><td class=\"id\">{0}<td>{1}<td><b>{2}</b> {3}<td>{4}",
            Esc(id),
            Esc(&need.user),
            Esc(&need.title.en),
            both(&need.statement),
            met.join("<br>")
        );
    }
    put!(out, "</tbody></table></div>");
}

fn threats(out: &mut String, report: &Report, regulatory: &Regulatory) {
    put!(out, "<h2>Threats</h2>");
    table(out, &["Id", "Threat", "Kind", "Asset, entry, weakness", "Countered by", "Left to the operator"]);
    for (id, threat) in &regulatory.threats {
        let by: Vec<String> = report
            .requirements
            .iter()
            .filter(|r| threat.requirements.contains(&r.requirement.id))
            .map(|r| {
                format!("<a href=\"trace-matrix.html#{0}\">{0}</a> {1}", Esc(&r.requirement.id), html::state(r.state))
            })
            .collect();
        put!(
            out,
            "<tr id=\"{id}\"><td class=\"id\">{id}<td><b>{}</b> {}<td>{}<td>{}, {}, {}<td>{}<td>{}",
            Esc(&threat.title.en),
            both(&threat.attack),
            word(&threat.category),
            Esc(&threat.asset),
            Esc(&threat.entry),
            Esc(&threat.weakness),
            by.join("<br>"),
            threat.operator.as_ref().map(both).unwrap_or_default(),
            id = Esc(id)
        );
    }
    put!(out, "</tbody></table></div>");
}

fn changes(out: &mut String, regulatory: &Regulatory) {
    put!(out, "<h2>Changes, reviews, releases, waivers</h2><ul>");
    for (id, change) in &regulatory.changes {
        let approved = change.approved.as_ref().map_or("not approved", |_| "approved");
        put!(out, "<li>{} of {}: {} ({approved})", Esc(id), change.requested, Esc(&change.title.en));
    }
    for (id, review) in &regulatory.reviews {
        put!(
            out,
            "<li>{} of {} by {}: {} items, {}",
            Esc(id),
            review.date,
            Esc(&review.reviewer),
            review.items.len(),
            word(&review.outcome)
        );
    }
    for (id, release) in &regulatory.releases {
        put!(out, "<li>{} of {}: version {}", Esc(id), release.date, Esc(&release.version));
    }
    for waiver in &regulatory.waivers {
        put!(
            out,
            "<li>waiver of {} for {} until {}: {}",
            Esc(&waiver.rule),
            Esc(&waiver.item),
            waiver.expires,
            Esc(&waiver.reason)
        );
    }
    let counts = [
        ("change requests", regulatory.changes.len()),
        ("reviews", regulatory.reviews.len()),
        ("releases", regulatory.releases.len()),
        ("waivers", regulatory.waivers.len()),
    ];
    for (what, _) in counts.iter().filter(|(_, n)| *n == 0) {
        put!(out, "<li>No {what} on record.");
    }
    put!(out, "</ul>");
    if let Some(plan) = &regulatory.change_control {
        let state =
            if plan.authorised.is_some() { chip("green", "authorised") } else { chip("grey", "not authorised") };
        put!(out, "<h3>Predetermined change control plan {state}</h3>");
        table(out, &["Id", "Modification", "Criteria that must hold", "Impact"]);
        for m in &plan.modifications {
            put!(
                out,
                "<tr><td class=\"id\">{}<td>{}<td>{}<td>{}",
                Esc(&m.id),
                both(&m.what),
                Esc(m.criteria.join(", ")),
                both(&m.impact)
            );
        }
        put!(out, "</tbody></table></div>");
    }
}

fn settled(out: &mut String, regulatory: &Regulatory) {
    put!(out, "<h2>Contradictions of the source, and what was decided</h2>");
    table(out, &["Id", "The source says", "Problem", "Decision", "Shows in"]);
    for one in &regulatory.settled {
        put!(
            out,
            "<tr><td class=\"id\">{}<td>{}<td>{}<td>{}<td>{}",
            Esc(&one.id),
            both(&one.source),
            both(&one.problem),
            both(&one.decision),
            Esc(one.items.join(", "))
        );
    }
    put!(out, "</tbody></table></div>");
    put!(out, "<p class=\"mute\">Binding language of all texts: {}.</p>", word(&regulatory.profile.normative_language));
}
