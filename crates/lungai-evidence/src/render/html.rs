//! The frame that all pages share: self-contained, nothing fetched, readable on paper and in the dark.
use crate::binding::BoundTest;
use crate::build::Report;
use crate::finding::Severity;
use crate::junit::Verdict;
use crate::regulatory::Level;
use crate::results::Outcome;
use crate::risk::Proof;
use crate::state::State;
use std::fmt::{self, Display};

/// Text that cannot be taken for markup.
pub struct Esc<T>(pub T);

impl<T: Display> Display for Esc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

const PAGES: [(&str, &str); 6] = [
    ("index.html", "Overview"),
    ("trace-matrix.html", "Trace matrix"),
    ("risk-file.html", "Risk file"),
    ("clauses.html", "Clauses"),
    ("soup.html", "Components"),
    ("records.html", "Records"),
];

pub fn page(report: &Report, file: &str, title: &str, clearance: &str, body: &str) -> String {
    let links: String = PAGES
        .iter()
        .map(|(href, name)| {
            let here = if *href == file { " aria-current=\"page\"" } else { "" };
            format!("<a href=\"{href}\"{here}>{name}</a>")
        })
        .collect();
    let synthetic = if report.validation.iter().any(|run| run.synthetic) {
        "<p class=\"banner synthetic\"><b>SYNTHETIC</b> Validation figures in this package were measured on computer-generated scans. They are no clinical evidence and not comparable with clinical tables. <span lang=\"zh\">验证数据为合成数据，不构成临床证据。</span></p>"
    } else {
        ""
    };
    let commit =
        if report.commit.id.is_empty() { "no commit" } else { &report.commit.id[..report.commit.id.len().min(12)] };
    let dirty = match (report.commit.unknown, report.commit.dirty.is_empty()) {
        (true, _) => " + unknown changes",
        (false, true) => "",
        (false, false) => " + uncommitted changes",
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{product} evidence: {title}</title>\n<style>{STYLE}</style>\n\
         <header><div><strong>{product} {version}</strong><span>evidence package</span></div><nav>{links}</nav>\
         <small>commit <code>{commit}</code>{dirty}<br>{date}</small></header>\n<main>\n\
         <p class=\"banner clearance\">{clearance}</p>\n{synthetic}\n<h1>{title}</h1>\n{body}\n</main>\n</html>\n",
        product = Esc(&report.product),
        version = Esc(&report.version),
        title = Esc(title),
        commit = Esc(commit),
        date = Esc(&report.commit.date),
    )
}

pub fn chip(class: &str, words: &str) -> String {
    format!("<span class=\"chip {class}\">{}</span>", Esc(words))
}

/// Colour follows severity; what is whole is green.
pub fn colour(severity: Option<Severity>) -> &'static str {
    match severity {
        Some(Severity::Red) => "red",
        Some(Severity::Amber) => "amber",
        Some(Severity::Grey) => "grey",
        None => "green",
    }
}

pub fn state(state: State) -> String {
    chip(colour(state.severity()), state.words())
}

pub fn outcome(outcome: Outcome) -> String {
    let class = match outcome {
        Outcome::Met => "green",
        Outcome::MetExploratory | Outcome::MetSynthetic | Outcome::MetSyntheticExploratory | Outcome::NotEvaluated => {
            "amber"
        }
        Outcome::NotMet | Outcome::NotMetSynthetic => "red",
        Outcome::NotHere => "grey",
    };
    chip(class, outcome.words())
}

pub fn proof(proof: Proof) -> String {
    let class = match proof {
        Proof::Shown => "green",
        Proof::NotShown | Proof::SyntheticOnly | Proof::ExploratoryOnly => "amber",
        Proof::Broken => "red",
        Proof::RecordRequired | Proof::Planned => "grey",
    };
    chip(class, proof.words())
}

pub fn level(level: Level, acceptable: bool) -> String {
    let class = match (acceptable, level) {
        (true, _) => "green",
        (false, Level::High) => "red",
        (false, _) => "amber",
    };
    chip(class, &format!("{level:?}").to_lowercase())
}

/// One word for a test; the runner's, unless something takes away from it.
pub fn verdict(test: &BoundTest) -> &'static str {
    match test.verdict {
        None if test.tag.ignored => "ignored",
        None => "not run",
        Some(Verdict::Failed) => "failed",
        Some(Verdict::Skipped) => "skipped",
        Some(Verdict::Passed) if !test.not_evidenced.is_empty() => "passed, not evidenced here",
        Some(Verdict::Passed) if !test.sound => "passed, records disagree",
        Some(Verdict::Passed) if test.exercised.is_none() => "passed, no record",
        Some(Verdict::Passed) => "passed",
    }
}

pub fn verdict_chip(test: &BoundTest) -> String {
    let words = verdict(test);
    let class = match words {
        "passed" => "green",
        "failed" | "passed, records disagree" => "red",
        _ => "amber",
    };
    chip(class, words)
}

const STYLE: &str = r#"
:root{--bg:#fff;--soft:#f5f7f9;--line:#d9e0e6;--ink:#1b2733;--mute:#5b6b79;--link:#0b5a8f;
--red:#a3161f;--red-bg:#fdecec;--amber:#7a4b00;--amber-bg:#fff2d6;--green:#0d5f3a;--green-bg:#e2f4ea;--grey:#46535f;--grey-bg:#e9edf0}
@media(prefers-color-scheme:dark){:root{--bg:#12181e;--soft:#1a222a;--line:#313c47;--ink:#e4eaef;--mute:#9fadb9;--link:#7cc0ee;
--red:#ff9a9f;--red-bg:#431a1e;--amber:#ffcf7a;--amber-bg:#3b2c0d;--green:#8fdcb3;--green-bg:#12351f;--grey:#b9c4ce;--grey-bg:#28323b}}
*{box-sizing:border-box}html{scroll-padding-top:4rem}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","PingFang SC","Microsoft YaHei","Noto Sans CJK SC","WenQuanYi Micro Hei",sans-serif}
header{position:sticky;top:0;z-index:2;display:flex;gap:.5rem 2rem;align-items:center;flex-wrap:wrap;padding:.55rem max(1rem,calc(50vw - 36rem));background:var(--soft);border-bottom:1px solid var(--line)}
header strong{font-size:1.05rem;margin-right:.5rem}header span,header small{color:var(--mute)}header small{margin-left:auto;text-align:right;line-height:1.3}
nav{display:flex;gap:.25rem;flex-wrap:wrap}nav a{padding:.2rem .6rem;border-radius:.3rem;text-decoration:none}nav a[aria-current]{background:var(--ink);color:var(--bg)}
main{max-width:72rem;margin:0 auto;padding:1rem 1rem 4rem}a{color:var(--link)}
h1{font-size:1.6rem;margin:1.2rem 0 .8rem}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:1.2rem 0 .4rem}
code,.mono{font:.88em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{background:var(--soft);border:1px solid var(--line);border-radius:.3rem;padding:.6rem .8rem;overflow-x:auto}
.banner{margin:.4rem 0;padding:.45rem .8rem;border-left:.3rem solid;border-radius:.2rem}.clearance{background:var(--soft);border-color:var(--mute)}
.synthetic{background:var(--amber-bg);color:var(--amber);border-color:var(--amber)}.synthetic b{margin-right:.4rem;letter-spacing:.06em}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.7rem;margin:0 0 1rem}
.tile{border:1px solid var(--line);border-top:.25rem solid;border-radius:.3rem;padding:.6rem .8rem;background:var(--soft)}
.tile b{display:block;font-size:1.75rem;line-height:1.2}.tile.red{border-top-color:var(--red)}.tile.amber{border-top-color:var(--amber)}.tile.grey{border-top-color:var(--mute)}.tile.green{border-top-color:var(--green)}
.tile span{color:var(--mute);font-size:.9em}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.93em}
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem;border-bottom:1px solid var(--line)}th{color:var(--mute);font-weight:600;white-space:nowrap}
tbody tr:hover{background:var(--soft)}td.id{white-space:nowrap;font-weight:600}td.id .mute{white-space:normal;font-weight:400;display:block}td.num{white-space:nowrap;font-variant-numeric:tabular-nums}
.chip{display:inline-block;padding:.05rem .5rem;border-radius:.3rem;font-size:.87em;font-weight:600;white-space:nowrap}
.chip.red{color:var(--red);background:var(--red-bg)}.chip.amber{color:var(--amber);background:var(--amber-bg)}.chip.green{color:var(--green);background:var(--green-bg)}.chip.grey{color:var(--grey);background:var(--grey-bg)}
.mute,[lang=zh]{color:var(--mute)}td [lang=zh],dd>[lang=zh],p+[lang=zh]{display:block;font-size:.93em}
details{border:1px solid var(--line);border-radius:.3rem;margin:.5rem 0}summary{cursor:pointer;padding:.45rem .8rem;background:var(--soft)}details>div,details>table{padding:.2rem .8rem .6rem}
summary h3{display:inline;margin:0 .5rem 0 0}ul{padding-left:1.2rem;margin:.3rem 0}li{margin:.15rem 0}.arrow{color:var(--mute);padding:0 .25rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:.5rem 0}dt{color:var(--mute)}dd{margin:0}
.matrix{width:auto}.matrix td,.matrix th{text-align:center;min-width:4.6rem;border:1px solid var(--line)}.matrix td.low{background:var(--green-bg)}.matrix td.medium{background:var(--amber-bg)}.matrix td.high{background:var(--red-bg)}
@media(max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.4rem}header small{margin-left:0;text-align:left}}
@media print{header{position:static}details{break-inside:avoid}details::details-content{content-visibility:visible;height:auto}.scroll{overflow:visible}}
"#;
