//! A comparison as a report in both languages.

use super::{CaseChange, Compared, Comparison, Found, Method, NoduleChange, Shown, StratumDelta, Test};
use crate::coherence::{Kind, Statement};
use crate::failure::{Failure, io};
use crate::figures::{ENDS, froc_axes, roomy};
use crate::report::document::{Block, Cell, Document, Picture, Table, Tone, claim, shown};
use crate::report::language::{Language, say};
use crate::report::{notice_in, publish, words};
use crate::results::Figure;
use crate::staging::Staging;
use lungai_figures::{BLUE, Drawn, ORANGE, SIZE, legend_in, line, save_in_any_script};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// Rows of nodules and of scans that page and text show at most.
const SHOWN: usize = 40;
/// The population of most claims.
const NODULES: &str = "scored nodules";

/// Writes `compare.html`, `compare.md`, `compare.xlsx`, `tables/` and the FROC curves (Chinese ones as those of a validation
/// report), `statements.json`, and `compare.json` last. Returns what a terminal shows.
///
/// # Errors
/// What the file system, the drawing or the check of the tables' arithmetic says.
pub fn write(comparison: &Comparison, out: &Path) -> Result<String, Failure> {
    let staging = Staging::new(out)?;
    let folder = &staging.folder;
    let mut documents = Vec::new();
    for language in Language::ALL {
        let name = format!("froc{}", language.suffix());
        let drawing = save_in_any_script(|font| Froc { of: comparison, language, font }, SIZE, folder, &name)
            .map_err(|error| Failure::new("figures", error.to_string()))?;
        let caption = language
            .of(
                "Sensitivity against false positives per scan of both systems on the same scans.",
                "两个系统在相同扫描上的灵敏度与每例扫描假阳性数的关系。",
            )
            .to_owned();
        let picture = Picture { name, caption, svg: drawing.svg, png: drawing.png };
        documents.push(Said { of: comparison, language }.document(picture));
    }
    publish(&mut documents, "compare", comparison.synthetic, folder)?;
    let mut json = serde_json::to_value(comparison).expect("plain data");
    json["files"] = serde_json::json!(staging.files()?);
    let json = serde_json::to_string_pretty(&json).expect("plain data") + "\n";
    let path = folder.join("compare.json");
    std::fs::write(&path, json).map_err(io(&path))?;
    staging.publish("compare.json")?;
    Ok(Said { of: comparison, language: Language::En }.terminal())
}

/// A comparison in one language.
struct Said<'a> {
    of: &'a Comparison,
    language: Language,
}

impl Said<'_> {
    fn word<'t>(&self, en: &'t str, zh: &'t str) -> &'t str {
        self.language.of(en, zh)
    }

    fn title(&self) -> String {
        let Comparison { a, b, .. } = self.of;
        say!(self.language, "Comparison: {} and {}", "模型比较：{} 与 {}", a.name, b.name)
    }

    fn document(&self, picture: Picture) -> Document {
        let heading = |name, en: &str, zh: &str| Block::Heading { name, text: self.word(en, zh).to_owned() };
        let mut blocks: Vec<Block> = self.about().into_iter().map(Block::Text).collect();
        blocks.push(heading("figures", "Figures", "指标"));
        blocks.push(Block::Table(self.tests()));
        blocks.push(Block::Text(self.intervals()));
        blocks.push(Block::Picture(picture));
        blocks.push(heading("strata", "Sensitivity at the operating points, by stratum", "工作点灵敏度：分层分析"));
        blocks.push(Block::Table(self.strata()));
        blocks.push(heading(
            "nodules",
            "Nodules: those that one system found alone come first",
            "结节（仅一个系统检出者在前）",
        ));
        blocks.push(Block::Table(self.nodules()));
        blocks.push(heading("scans", "Scans: those that changed most come first", "扫描（变化最大者在前）"));
        blocks.push(Block::Table(self.scans()));
        let notice = notice_in(self.language, self.of.synthetic);
        Document { language: self.language, title: self.title(), notice, blocks }
    }

    /// What is compared, by which rules, on what.
    fn about(&self) -> Vec<String> {
        let c = self.of;
        let system = |letter: &str, system: &super::System| {
            let (name, at, sha) = (&system.name, system.operating_threshold, &system.predictions_sha256);
            say!(
                self.language,
                "{letter}: {name}, operated at score {at:.4} (predictions {sha:.16})",
                "{letter}：{name}，工作点分数阈值 {at:.4}（预测 {sha:.16}）"
            )
        };
        let percent = 100.0 * c.confidence_level;
        let found = c.found;
        let mut about = vec![
            system("A", &c.a),
            system("B", &c.b),
            say!(
                self.language,
                "Protocol {} ({:.16}), data {:.16}: {} scans of {} patients, {} scored nodules; intervals of {percent} %.",
                "方案 {}（{:.16}），数据 {:.16}：{} 例扫描，{} 名患者，{} 个计分结节；区间为 {percent} %。",
                c.protocol,
                c.protocol_sha256,
                c.data_fingerprint,
                c.scans,
                c.patients,
                c.nodules
            ),
            say!(
                self.language,
                "At the operating points both found {} nodules, A alone {}, B alone {}, neither {}.",
                "在工作点：两者均检出 {} 个结节，仅 A 检出 {} 个，仅 B 检出 {} 个，均未检出 {} 个。",
                found.both,
                found.only_a,
                found.only_b,
                found.neither
            ),
        ];
        let [a, b] = c.left_out;
        if a + b > 0 {
            about.insert(3, say!(
                self.language,
                "Only scans of both are compared: {a} of A are left out because the quality gate refused them for B, {b} of B \
                 because it refused them for A.",
                "仅比较两者共有的扫描：A 有 {a} 例因质量检查对 B 拒绝而未纳入，B 有 {b} 例因质量检查对 A 拒绝而未纳入。"
            ));
        }
        if c.exploratory {
            let text = self.word(
                "EXPLORATORY: the protocol was not locked before a run of the two.",
                "探索性（EXPLORATORY）：其中有运行之前方案未锁定。",
            );
            about.insert(0, text.to_owned());
        }
        about.extend(c.claims.iter().map(|shown| self.shown(shown)));
        about
    }

    fn shown(&self, shown: &Shown) -> String {
        let (bound, limit) = (shown.bound, shown.limit);
        let met = if shown.met { self.word("shown", "成立") } else { self.word("not shown", "不成立") };
        let claim = match shown.claim {
            "superior" => self.word("A is superior to B", "A 优于 B"),
            _ => self.word("A is not inferior to B", "A 不劣于 B"),
        };
        // Superiority was asked of the permutation test, too.
        let cpm = self.of.tests.iter().find(|test| test.figure == Compared::Cpm).and_then(|test| test.p);
        let p = cpm.filter(|_| shown.claim == "superior").map_or_else(String::new, |p| format!(", p = {p:.4}"));
        say!(
            self.language,
            "CPM, {claim}: {met} (lower bound {bound:.4} against {limit}{p}).",
            "CPM，{claim}：{met}（下界 {bound:.4}，界值 {limit}{p}）。"
        )
    }

    fn intervals(&self) -> String {
        self.word(
            "Intervals come from patients drawn with replacement, both systems on the same ones. The permutation tests swap the \
             systems within patients, and order marks and probabilities by what each is worth in its own system, so that the scale \
             of scores does not matter. No p is adjusted for the number of tests.",
            "区间由有放回抽取患者得到，两个系统使用相同的抽样。置换检验在患者内交换两个系统，并按各系统自身的排序比较标记与概率，\
             与分数尺度无关。p 值未作多重性校正。",
        )
        .to_owned()
    }

    fn tests(&self) -> Table {
        let caption = self.word("Both systems, and what differs (A less B)", "两个系统及其差值（A 减 B）");
        let head = [
            self.word("figure", "指标"),
            "A",
            "B",
            self.word("A less B (interval)", "A 减 B（区间）"),
            "p",
            "n",
            self.word("test", "检验"),
        ];
        let mut table = Table::new("tests", caption, &head);
        for test in &self.of.tests {
            let value = |of: &str, value: Option<f64>, found: usize| {
                let said = claim("tests", of, Kind::Proportion, NODULES).n(test.n).count(found);
                Cell::number(self.language, value, 4, (test.figure == Compared::Sensitivity).then_some(said))
            };
            let found = self.of.found;
            table.row(vec![
                Cell::text(self.figure(test.figure)),
                value("sensitivity of A", test.a, found.both + found.only_a),
                value("sensitivity of B", test.b, found.both + found.only_b),
                self.difference(test.difference, test.ci, test.n, claim("tests", self.name(test), Kind::Other, "all")),
                p(test.p),
                Cell::count(test.n, None),
                Cell::text(self.method(&test.method)),
            ]);
        }
        table
    }

    /// In claims, the same in both languages.
    fn name(&self, test: &Test) -> &'static str {
        Said { of: self.of, language: Language::En }.figure(test.figure)
    }

    fn figure(&self, figure: Compared) -> &'static str {
        let (en, zh) = match figure {
            Compared::Cpm => ("CPM", "CPM"),
            Compared::Sensitivity => ("sensitivity at the operating point", "工作点灵敏度"),
            Compared::FalsePositives => ("false positives per scan at the operating point", "工作点每例扫描假阳性数"),
            Compared::Auc => ("malignancy AUC, missed nodules score 0", "良恶性 AUC（漏检计 0 分）"),
            Compared::DiceRight => ("mean lung Dice, right", "右肺平均 Dice"),
            Compared::DiceLeft => ("mean lung Dice, left", "左肺平均 Dice"),
        };
        self.language.of(en, zh)
    }

    fn method(&self, method: &Method) -> String {
        match method {
            Method::Permutation { arrangements, exact: true } => {
                say!(self.language, "permutation, all {arrangements}", "置换检验，全部 {arrangements} 种")
            }
            Method::Permutation { arrangements, exact: false } => {
                say!(self.language, "permutation, {arrangements} at random", "置换检验，随机 {arrangements} 种")
            }
            Method::None { why } => say!(self.language, "none: {why}", "无（{why}）"),
        }
    }

    fn strata(&self) -> Table {
        let c = self.of;
        let caption = self.word(
            "Who found which nodules, by properties in which they differ",
            "各分组检出情况（结节全属一组的属性不列）",
        );
        let head = [
            self.word("property", "属性"),
            self.word("group", "分组"),
            self.word("nodules", "结节"),
            self.word("both", "均检出"),
            self.word("A alone", "仅 A"),
            self.word("B alone", "仅 B"),
            self.word("neither", "均未检出"),
            self.word("sensitivity, A less B (interval)", "灵敏度 A 减 B（区间）"),
            "p",
            self.word("note", "备注"),
        ];
        let mut table = Table::new("strata", caption, &head);
        let mut all = vec![Cell::text(self.word("all", "全部")), Cell::text("")];
        all.extend(self.found("strata", NODULES, "", c.nodules, c.found));
        all.extend([Cell::text(""), Cell::text(""), Cell::text("")]);
        table.row(all);
        for s in c.strata.iter().filter(|s| s.nodules > 0) {
            table.row(self.stratum(s));
        }
        table
    }

    fn stratum(&self, s: &StratumDelta) -> Vec<Cell> {
        let (by, population) = (format!("strata, {}", s.of.name()), format!("{NODULES}, {}: {}", s.of.name(), s.group));
        let mut row =
            vec![Cell::text(words::property(s.of, self.language)), Cell::text(words::group(&s.group, self.language))];
        row.extend(self.found(&by, &population, NODULES, s.nodules, s.found));
        row.extend([
            self.difference(s.difference, s.ci, s.nodules, claim(&by, "difference", Kind::Other, &population)),
            p(s.p),
            Cell::descriptive(self.language, s.descriptive),
        ]);
        row
    }

    /// Numbers of nodules, and of who found them, that claim to be a part of `whole`, where there is one.
    fn found(&self, table: &str, population: &str, whole: &str, nodules: usize, found: Found) -> [Cell; 5] {
        let Found { both, only_a, only_b, neither } = found;
        [
            ("nodules", Kind::Size, nodules),
            ("both", Kind::Count, both),
            ("A alone", Kind::Count, only_a),
            ("B alone", Kind::Count, only_b),
            ("neither", Kind::Count, neither),
        ]
        .map(|(what, kind, n)| {
            let said = claim(table, what, kind, population);
            Cell::count(n, Some(if whole.is_empty() { said } else { said.part_of(whole) }))
        })
    }

    fn nodules(&self) -> Table {
        let caption =
            self.word("Every scored nodule; scores are those of the marks on it", "全部计分结节；分数为其标记的分数");
        let head = [
            self.word("case", "病例"),
            self.word("nodule", "结节"),
            self.word("diameter, mm", "直径（mm）"),
            self.word("type", "类型"),
            self.word("lobe", "肺叶"),
            self.word("found by", "检出者"),
            self.word("score of A", "A 分数"),
            self.word("score of B", "B 分数"),
        ];
        let mut table = Table::new("nodules", caption, &head);
        table.shown = SHOWN;
        let group =
            |name: &Option<String>| Cell::text(words::group(name.as_deref().unwrap_or_default(), self.language));
        let row = |n: &NoduleChange| {
            let (who, tone) = match n.found {
                "both" => (self.word("both", "两者"), Tone::Plain),
                "only-a" => (self.word("A alone", "仅 A"), Tone::Bad),
                "only-b" => (self.word("B alone", "仅 B"), Tone::Bad),
                _ => (self.word("neither", "均未"), Tone::Quiet),
            };
            vec![
                Cell::text(&n.case),
                Cell::text(&n.nodule),
                Cell::number(self.language, Some(n.diameter_mm), 1, None),
                group(&n.kind),
                group(&n.lobe),
                Cell::toned(who, tone),
                score(n.score_a),
                score(n.score_b),
            ]
        };
        self.of.changes.iter().for_each(|n| table.row(row(n)));
        table.without_empty_columns()
    }

    fn scans(&self) -> Table {
        let caption = self.word("Every scan at the operating points", "全部扫描在工作点的结果");
        let head = [
            self.word("case", "病例"),
            self.word("centre", "中心"),
            self.word("nodules", "结节"),
            self.word("found by A", "A 检出"),
            self.word("found by B", "B 检出"),
            self.word("false by A", "A 假阳性"),
            self.word("false by B", "B 假阳性"),
            self.word("lung Dice, A less B", "肺 Dice，A 减 B"),
        ];
        let mut table = Table::new("scans", caption, &head);
        table.shown = SHOWN;
        let mut cases: Vec<&CaseChange> = self.of.cases.iter().collect();
        cases.sort_by_key(|case| {
            let changed = case.found_a.abs_diff(case.found_b) + case.false_positives_a.abs_diff(case.false_positives_b);
            std::cmp::Reverse(changed)
        });
        for case in cases {
            table.row(vec![
                Cell::text(&case.case),
                Cell::text(&case.centre),
                Cell::count(case.nodules, None),
                Cell::count(case.found_a, None),
                Cell::count(case.found_b, None),
                Cell::count(case.false_positives_a, None),
                Cell::count(case.false_positives_b, None),
                case.dice_change.map_or_else(|| Cell::text(""), |d| Cell::number(self.language, Some(d), 4, None)),
            ]);
        }
        table.without_empty_columns()
    }

    /// An interval of no width says that no draw of patients differs, not that the difference is known exactly.
    fn difference(&self, value: Option<f64>, ci: Option<[f64; 2]>, n: usize, said: Statement) -> Cell {
        let ci = ci.filter(|[low, high]| low < high);
        let mut cell = Cell::figure(self.language, &Figure { value, ci, n }, 4, Some(said));
        if value.is_some() && ci.is_none() {
            cell.text += self.word(" (too few to estimate an interval)", "（过少，无法估计区间）");
        }
        cell
    }

    /// What is compared and the figures, in columns.
    fn terminal(&self) -> String {
        let table = self.tests();
        let rows = std::iter::once(table.head.clone())
            .chain(table.rows.iter().map(|row| row.iter().map(|cell| cell.text.clone()).collect()));
        let rows: Vec<Vec<String>> = rows.collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
        let mut out = format!("{}\n{}\n\n", self.of.notice, self.about().join("\n"));
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            out += &format!("  {}\n", cells.join("  ").trim_end());
        }
        out
    }
}

fn p(value: Option<f64>) -> Cell {
    let Some(value) = value else { return Cell::text("") };
    let text = if value < 0.0001 { "< 0.0001".to_owned() } else { format!("{value:.4}") };
    Cell { figure: Some(Figure { value: Some(value), ci: None, n: 0 }), ..Cell::text(text) }
}

/// Nothing where there is no mark.
fn score(value: Option<f64>) -> Cell {
    value.map_or_else(|| Cell::text(""), |value| Cell::number(Language::En, Some(value), 3, None))
}

/// Both FROC curves.
struct Froc<'a> {
    of: &'a Comparison,
    language: Language,
    font: &'static str,
}

impl lungai_figures::Figure for Froc<'_> {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let Self { of: c, language, font } = *self;
        let mark = if c.synthetic { language.of(" (SYNTHETIC)", "（合成数据 SYNTHETIC）") } else { "" };
        let title = say!(language, "{} and {}{mark}", "{} 与 {}{mark}", c.a.name, c.b.name);
        area.draw(&Text::new(title, (20, 12), (font, 24).into_font().color(&BLACK)))?;
        let area = area.margin(44, 0, 0, 0);
        let mut chart = froc_axes(language).on(&area, font)?;
        let cpm = c.tests.iter().find(|test| test.figure == Compared::Cpm);
        let of = |pick: fn(&Test) -> Option<f64>| Figure { value: cpm.and_then(pick), ci: None, n: 0 };
        for (curve, letter, system, figure, colour) in
            [(&c.curves[0], "A", &c.a.name, of(|t| t.a), BLUE), (&c.curves[1], "B", &c.b.name, of(|t| t.b), ORANGE)]
        {
            let name = roomy(format!("{letter}, {}: CPM {}", short(system), shown(language, &figure, 3)), font);
            line(&mut chart, steps(curve), colour, name)?;
        }
        legend_in(&mut chart, SeriesLabelPosition::LowerRight, font)
    }
}

/// A name as a legend has room for it.
fn short(name: &str) -> String {
    const MOST: usize = 28;
    if name.chars().count() <= MOST { name.to_owned() } else { name.chars().take(MOST - 1).chain(['…']).collect() }
}

/// The curve's points within the axis, begun at its left end and ended at its right one.
fn steps(curve: &[[f64; 3]]) -> Vec<(f64, f64)> {
    let below = |x: f64| curve.iter().rev().find(|p| p[1].log2() <= x).map_or(0.0, |p| p[2]);
    let inside = curve.iter().map(|p| (p[1].log2(), p[2])).filter(|(x, _)| *x > ENDS[0] && *x < ENDS[1]);
    std::iter::once((ENDS[0], below(ENDS[0]))).chain(inside).chain([(ENDS[1], below(ENDS[1]))]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changed, results};
    use super::*;
    use crate::compare::compare;
    use crate::results::tests::records;
    use lungai_trace::verifies;

    #[verifies("SW-1106")]
    #[test]
    fn what_is_written_names_synthetic_data_and_the_changed_nodules_in_both_languages() {
        let out = tempfile::tempdir().unwrap();
        let c = compare(&results(records()), &results(changed()), None).unwrap();
        let text = write(&c, out.path()).unwrap();
        for system in [&c.a.name, &c.b.name] {
            let svg = std::fs::read_to_string(out.path().join("froc.svg")).unwrap();
            assert!(svg.contains(&format!(", {system}: CPM ")), "the legend names {system}");
        }
        let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
        assert!(text.starts_with("Not cleared for clinical use. SYNTHETIC data"));
        assert!(text.contains("both found 3 nodules, A alone 1, B alone 1, neither 1"), "{text}");
        for part in
            ["<svg", "EXPLORATORY", "SYNTHETIC", "A alone", "A is superior to B: not shown", "permutation, all 16"]
        {
            assert!(read("compare.html").contains(part), "{part}");
        }
        for part in ["合成数据", "仅 A 检出 1 个", "灵敏度"] {
            assert!(read("compare.zh.html").contains(part) && read("compare.zh.md").contains(part), "{part}");
        }
        assert_eq!(
            read("compare.html").matches("http://").count(),
            read("compare.html").matches("http://www.w3.org").count()
        );
        assert_eq!(read("tables/nodules.csv").lines().count(), 1 + 6);
        assert_eq!(read("tables/scans.csv").lines().count(), 1 + 4);
        assert!(
            read("tables/strata.csv").contains("diameter,3 to < 6 mm,2,1,0,1,0,-0.5,"),
            "{}",
            read("tables/strata.csv")
        );
        assert!(read("tables/strata.csv").lines().skip(1).all(|line| line.ends_with("SYNTHETIC")));
        let json: serde_json::Value = serde_json::from_str(&read("compare.json")).unwrap();
        assert_eq!((&json["found"]["only_a"], &json["tests"][0]["figure"]), (&1.into(), &"cpm".into()));
        assert!(out.path().join("froc.png").exists() && !out.path().join(".unfinished").exists());
    }

    #[verifies("SW-1106")]
    #[test]
    fn a_comparison_whose_parts_do_not_add_up_is_not_written() {
        let out = tempfile::tempdir().unwrap();
        let mut c = compare(&results(records()), &results(changed()), None).unwrap();
        c.strata[0].found.both += 1;
        assert_eq!(write(&c, out.path()).unwrap_err().rule, "incoherent-report");
        assert!(!out.path().join("compare.html").exists() && !out.path().join("compare.json").exists());
    }
}
