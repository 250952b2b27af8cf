//! One page that needs no network, reads well on a telephone and prints well.

use super::document::{Block, Cell, Document, Patch, Picture, Table, Tone};
use super::language::Language;
use base64::Engine as _;
use std::fmt::Write;

/// The page.
pub fn page(document: &Document) -> String {
    let language = document.language;
    let (title, notice) = (escaped(&document.title), escaped(&document.notice));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}\n{}</style>\n</head>\n<body>\n\
         <p class=\"notice\">{notice}</p>\n<main>\n<h1>{title}</h1>\n",
        language.tag(),
        paper(&document.notice, language),
    );
    out += &contents(document);
    let mut open = false;
    for block in &document.blocks {
        match block {
            Block::Heading { name, text } => {
                if std::mem::replace(&mut open, true) {
                    out += "</section>\n";
                }
                let _ = writeln!(out, "<section aria-labelledby=\"{name}\">\n<h2 id=\"{name}\">{}</h2>", escaped(text));
            }
            Block::Text(text) => _ = writeln!(out, "<p>{}</p>", escaped(text)),
            Block::Banner(text, tone) => {
                let _ = writeln!(out, "<p class=\"banner {}\">{}</p>", class(*tone), escaped(text));
            }
            Block::Table(table) => out += &table_of(table, language),
            Block::Picture(picture) => out += &figure(picture),
            Block::Gallery(patches) => out += &gallery(patches),
        }
    }
    out + if open { "</section>\n" } else { "" } + "</main>\n</body>\n</html>\n"
}

fn contents(document: &Document) -> String {
    let label = document.language.of("Contents", "目录");
    let mut out = format!("<nav aria-label=\"{label}\"><ol>\n");
    for block in &document.blocks {
        if let Block::Heading { name, text } = block {
            let _ = writeln!(out, "<li><a href=\"#{name}\">{}</a></li>", escaped(text));
        }
    }
    out + "</ol></nav>\n"
}

fn figure(picture: &Picture) -> String {
    let svg = &picture.svg[picture.svg.find("<svg").unwrap_or(0)..];
    let caption = escaped(&picture.caption);
    format!(
        "<figure><div role=\"img\" aria-label=\"{caption}\">{svg}</div><figcaption>{caption}</figcaption></figure>\n"
    )
}

fn gallery(patches: &[Patch]) -> String {
    let mut out = "<div class=\"gallery\">\n".to_owned();
    for patch in patches {
        let caption = escaped(&patch.caption);
        let bytes = base64::engine::general_purpose::STANDARD.encode(&patch.png);
        let _ = writeln!(
            out,
            "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{bytes}\"><figcaption>{caption}</figcaption></figure>"
        );
    }
    out + "</div>\n"
}

fn table_of(table: &Table, language: Language) -> String {
    let mut out =
        format!("<div class=\"wide\" tabindex=\"0\"><table>\n<caption>{}</caption>\n", escaped(&table.caption));
    if table.head.iter().any(|head| !head.is_empty()) {
        out += "<thead><tr>";
        for head in &table.head {
            let _ = write!(out, "<th scope=\"col\">{}</th>", escaped(head));
        }
        out += "</tr></thead>\n";
    }
    out += "<tbody>\n";
    for row in table.rows.iter().take(table.shown) {
        out += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            out += &cell_of(cell, column == 0);
        }
        out += "</tr>\n";
    }
    out += "</tbody></table></div>\n";
    if let Some(more) = table.more(language) {
        let _ = writeln!(out, "<p>{}</p>", escaped(&more));
    }
    out
}

fn cell_of(cell: &Cell, first: bool) -> String {
    let class = match (cell.tone, cell.figure) {
        (Tone::Plain, Some(_)) => " class=\"figure\"".to_owned(),
        (Tone::Plain, None) => String::new(),
        (tone, _) => format!(" class=\"{}\"", class(tone)),
    };
    let text = escaped(&cell.text);
    if first { format!("<th scope=\"row\"{class}>{text}</th>") } else { format!("<td{class}>{text}</td>") }
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Quiet => "quiet",
    }
}

/// The notice and the number of the page on each sheet of paper.
fn paper(notice: &str, language: Language) -> String {
    let quoted = notice.replace('\\', "\\\\").replace('"', "\\\"");
    let of = language.of("\"page \" counter(page) \" of \" counter(pages)", "counter(page) \" / \" counter(pages)");
    format!(
        "@page{{size:A4;margin:20mm 15mm 16mm;@top-center{{content:\"{quoted}\";font:bold 8.5pt sans-serif;color:#7a3b00}}\
         @bottom-center{{content:{of};font:8.5pt sans-serif;color:#333}}}}"
    )
}

/// Dark on white, and nothing told by colour alone. Contrast of every text to its background is above 7.
const STYLE: &str = "\
:root{color-scheme:only light}\
body{margin:0;background:#fff;color:#111;font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Noto Sans CJK SC',\
'PingFang SC','Microsoft YaHei',sans-serif}\
main{max-width:60rem;margin:0 auto;padding:1rem}\
.notice{margin:0;max-width:none;padding:.55rem 1rem;background:#fff3cd;border-bottom:2px solid #8a5a00;font-weight:600;text-align:center;\
position:sticky;top:0;z-index:1}\
h1{font-size:1.75rem;line-height:1.25;margin:1.2rem 0 .6rem}\
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:1px solid #bbb;scroll-margin-top:3rem}\
p{max-width:48rem;margin:.6rem 0}\
nav ol{columns:16rem;margin:.4rem 0 1rem;padding-left:1.6rem;font-size:.93rem}a{color:#0b4a8f}\
.banner{border-left:.5rem solid #555;background:#f4f4f4;padding:.6rem .9rem;font-weight:600}\
.banner.good{border-color:#0b6b3a;background:#eaf6ef}.banner.bad{border-color:#a3161f;background:#fbecec}\
.wide{overflow-x:auto;margin:1rem 0}\
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}\
caption{text-align:left;font-weight:600;padding:.2rem 0 .4rem}\
th,td{padding:.32rem .8rem .32rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #ddd;overflow-wrap:break-word}\
thead th{border-bottom:2px solid #444}tbody th{font-weight:500}\
td.figure,td.good,td.bad{white-space:nowrap}td.good,th.good{color:#0a5a31;font-weight:600}td.bad,th.bad{color:#96121b;font-weight:700}td.quiet,th.quiet{color:#4a4a4a}\
figure{margin:1.2rem 0}figure svg{display:block;width:100%;max-width:52rem;height:auto}\
figcaption{color:#333;font-size:.88rem;max-width:48rem}\
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:1rem}\
.gallery figure{margin:0}.gallery img{width:100%;height:auto;display:block;background:#000}\
@media print{body{font-size:10pt}.notice{display:none}main{max-width:none;padding:0}nav{display:none}\
h2{margin-top:1.2rem;break-after:avoid}figure,.banner,tr,.wide{break-inside:avoid}figure svg{max-width:15cm}\
.wide{overflow:visible}table{font-size:8.5pt}th,td{padding-right:.5rem}a{color:inherit;text-decoration:none}\
.gallery{grid-template-columns:1fr 1fr}caption{break-after:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
