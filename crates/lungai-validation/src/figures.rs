//! The figures, in each language as SVG and, where a font has the letters, as PNG from the same drawing.

mod agreement;
mod curves;
mod flow;
mod forest;
mod groups;
mod spreads;

pub use curves::{ENDS, froc_axes};

use crate::protocol::Property;
use crate::record::{FlowStep, ScanRecord};
use crate::report::document::Picture;
use crate::report::language::{Language, say};
use crate::report::words;
use crate::results::Results;
use lungai_figures::{Drawn, FONT, Figure, GREY, Plane, SIZE, legend_in, save_in_any_script};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

/// What the figures are of.
pub struct Shown<'a> {
    /// Figures.
    pub results: &'a Results,
    /// Scans.
    pub records: &'a [ScanRecord],
    /// From the test split to the analysed scans.
    pub flow: &'a [FlowStep],
    /// Model name and version.
    pub model: &'a str,
    /// Data set.
    pub data_set: &'a str,
    /// Whether the images were computed.
    pub synthetic: bool,
    /// Confidence in percent.
    pub percent: f64,
}

#[derive(Debug, Clone, Copy)]
enum Chart<'a> {
    Flow,
    Froc,
    FrocOfParts(&'a str, &'a [crate::results::PartCurve]),
    Roc,
    Forest,
    Groups(&'a crate::results::StratumResult),
    Calibration,
    Diameters,
    Readers,
    Dice,
    Distance,
    Seconds,
}

/// One chart in one language and font.
struct Sheet<'a> {
    shown: &'a Shown<'a>,
    language: Language,
    font: &'static str,
    chart: Chart<'a>,
}

/// Draws all figures that the results carry into `folder`. English ones have plain names.
///
/// # Errors
/// What the drawing backend says.
pub fn draw(shown: &Shown<'_>, language: Language, folder: &Path) -> Result<Vec<Picture>, Box<dyn std::error::Error>> {
    let mut pictures = Vec::new();
    for (name, chart, size, caption) in charts(shown, language) {
        let name = format!("{name}{}", language.suffix());
        let drawing = save_in_any_script(|font| Sheet { shown, language, font, chart }, size, folder, &name)?;
        let mark = if shown.synthetic { language.of(" SYNTHETIC data.", "合成数据（SYNTHETIC）。") } else { "" };
        pictures.push(Picture { name, caption: caption + mark, svg: drawing.svg, png: drawing.png });
    }
    Ok(pictures)
}

/// Name, chart, size and caption of all that there is something to show of.
fn charts<'a>(shown: &Shown<'a>, language: Language) -> Vec<(String, Chart<'a>, (u32, u32), String)> {
    let (r, percent) = (shown.results, shown.percent);
    let mut charts = Vec::new();
    let mut chart = |name: &str, chart, size, caption| charts.push((name.to_owned(), chart, size, caption));
    if !shown.flow.is_empty() {
        let caption =
            say!(language, "Flow of scans from the test split to the analysis.", "从测试集到分析的扫描流程图。");
        chart("flow", Chart::Flow, flow::size(shown.flow), caption);
    }
    let caption = say!(
        language,
        "Sensitivity against false positives per scan, with the {percent} % band over patients.",
        "灵敏度与每例扫描假阳性数的关系，阴影为按患者重抽样的 {percent} % 置信带。"
    );
    chart("froc", Chart::Froc, SIZE, caption);
    for (name, by, parts) in [
        ("froc-size", language.of("diameter", "直径"), &r.froc_by_size),
        ("froc-kind", language.of("type", "类型"), &r.froc_by_kind),
    ] {
        if !parts.is_empty() {
            let caption = say!(
                language,
                "Sensitivity for nodules by {by} against false positives per scan (all scans). Curves of too few nodules to \
                 judge are broken.",
                "按{by}分组的灵敏度与每例扫描假阳性数（全部扫描）的关系。结节过少、仅作描述的曲线为虚线。"
            );
            chart(name, Chart::FrocOfParts(by, parts), SIZE, caption);
        }
    }
    if r.centres.len() > 1 {
        let caption = say!(
            language,
            "Sensitivity at the operating point at each centre, with {percent} % intervals; the diamond is the mean over \
             centres (random effects), the line below it the prediction interval for a further centre.",
            "各中心在工作点的灵敏度及 {percent} % 置信区间；菱形为各中心的随机效应均值，其下的线为对新中心的预测区间。"
        );
        chart("centres", Chart::Forest, forest::size(r.centres.len()), caption);
    }
    // One group is the whole, and centres have the forest plot.
    let parted =
        |s: &&crate::results::StratumResult| s.is_known() && s.filled().count() > 1 && s.of != Property::Centre;
    for stratum in r.strata.iter().filter(parted) {
        let by = words::property(stratum.of, language);
        let caption = say!(
            language,
            "Sensitivity at the operating point by {by}, with {percent} % intervals; grey: too few nodules to judge.",
            "按{by}分组的工作点灵敏度及 {percent} % 置信区间；灰色：结节过少，仅作描述。"
        );
        chart(stratum.file_name(), Chart::Groups(stratum), GROUPS_SIZE, caption);
    }
    if !r.malignancy.curve.is_empty() {
        let caption = say!(
            language,
            "ROC of malignancy over nodules with a diagnosis, with the {percent} % band over patients.",
            "有诊断结节的良恶性 ROC 曲线，阴影为按患者重抽样的 {percent} % 置信带。"
        );
        chart("roc", Chart::Roc, SIZE, caption);
    }
    if !r.malignancy.reliability.is_empty() {
        let caption = say!(
            language,
            "Share of malignant nodules against the stated probability, found nodules, with {percent} % intervals (Wilson); \
             bars: number of nodules.",
            "检出结节的恶性比例与所给概率的关系及 {percent} % 置信区间（Wilson）；柱：结节数。"
        );
        chart("calibration", Chart::Calibration, SIZE, caption);
    }
    if r.diameters.is_some() {
        let caption = say!(
            language,
            "Difference of measured and reference diameter against their mean (Bland and Altman); shaded: {percent} % \
             intervals of bias and limits of agreement.",
            "测量直径与参考直径之差相对其均值（Bland-Altman）；阴影：偏倚和一致性界限的 {percent} % 置信区间。"
        );
        chart("diameters", Chart::Diameters, SIZE, caption);
    }
    if r.readers.is_some() {
        let caption = say!(
            language,
            "Readers and the system against the same reference standard, with {percent} % intervals.",
            "阅片者与系统对照同一参考标准的结果及 {percent} % 置信区间。"
        );
        chart("readers", Chart::Readers, SIZE, caption);
    }
    if shown.records.iter().any(|r| r.lungs.is_some()) {
        let caption = language.of("Dice of each lung of each scan, by centre.", "各中心每例扫描左右肺的 Dice。");
        chart("dice", Chart::Dice, SIZE, caption.to_owned());
        let caption = language.of(
            "95th percentile of the surface distance (HD95) of each lung of each scan, by centre.",
            "各中心每例扫描左右肺表面距离的第 95 百分位数（HD95）。",
        );
        chart("hd95", Chart::Distance, SIZE, caption.to_owned());
    }
    if !r.times.is_empty() {
        let caption = language.of(
            "Processing time of each stage: box 25th to 75th percentile with the median, line 5th to 95th, points the extremes.",
            "各阶段处理时间：箱为第 25 至 75 百分位数及中位数，线为第 5 至 95 百分位数，点为极值。",
        );
        chart("time", Chart::Seconds, SIZE, caption.to_owned());
    }
    charts
}

impl Figure for Sheet<'_> {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        match self.chart {
            Chart::Flow => flow::paint(self, area),
            Chart::Froc => curves::froc(self, area),
            Chart::FrocOfParts(by, parts) => curves::froc_of_parts(self, area, by, parts),
            Chart::Roc => curves::roc(self, area),
            Chart::Forest => forest::paint(self, area),
            Chart::Groups(stratum) => groups::paint(self, area, stratum),
            Chart::Calibration => agreement::calibration(self, area),
            Chart::Diameters => agreement::diameters(self, area),
            Chart::Readers => curves::readers(self, area),
            Chart::Dice => spreads::dice(self, area),
            Chart::Distance => spreads::distance(self, area),
            Chart::Seconds => spreads::seconds(self, area),
        }
    }
}

/// Two axes.
pub struct Axes<'a> {
    x: &'a str,
    y: &'a str,
    x_range: Range<f64>,
    y_range: Range<f64>,
    x_labels: usize,
    y_labels: usize,
    x_format: &'a dyn Fn(&f64) -> String,
    y_format: &'a dyn Fn(&f64) -> String,
    /// Whether there is a line at each label of x.
    x_lines: bool,
    label_size: i32,
}

impl<'a> Axes<'a> {
    /// Two shares, each from 0 to 1.
    fn shares(x: &'a str, y: &'a str) -> Self {
        Self {
            x,
            y,
            x_range: 0.0..1.0,
            y_range: 0.0..1.02,
            x_labels: 11,
            y_labels: 11,
            x_format: &|x| format!("{x:.1}"),
            y_format: &|y| format!("{y:.1}"),
            x_lines: true,
            label_size: 17,
        }
    }

    /// Draws them.
    ///
    /// # Errors
    /// What the drawing backend says.
    pub fn on<'b, B: DrawingBackend>(
        &self,
        area: &'b DrawingArea<B, Shift>,
        font: &str,
    ) -> Result<Plane<'b, B>, Box<dyn std::error::Error>>
    where
        B::ErrorType: 'static,
    {
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .margin_right(26)
            .x_label_area_size(54)
            .y_label_area_size(76)
            .build_cartesian_2d(self.x_range.clone(), self.y_range.clone())?;
        let mut mesh = chart.configure_mesh();
        if !self.x_lines {
            mesh.disable_x_mesh();
        }
        mesh.x_desc(self.x)
            .y_desc(self.y)
            .x_labels(self.x_labels)
            .y_labels(self.y_labels)
            .x_label_formatter(&self.x_format)
            .y_label_formatter(&self.y_format)
            .label_style((font, self.label_size))
            .axis_desc_style((font, 19))
            .light_line_style(WHITE)
            .draw()?;
        Ok(chart)
    }
}

/// Intervals side by side need less height than curves: two such figures fit on a page.
const GROUPS_SIZE: (u32, u32) = (960, 430);
/// Height of the title and the line under it.
const TITLE: i32 = 62;

impl Sheet<'_> {
    fn results(&self) -> &Results {
        self.shown.results
    }

    /// One of two texts.
    fn word<'t>(&self, en: &'t str, zh: &'t str) -> &'t str {
        self.language.of(en, zh)
    }

    /// Writes the title and where the figure comes from; gives what is left of the sheet.
    fn titled<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        title: &str,
    ) -> Result<DrawingArea<B, Shift>, Box<dyn std::error::Error>>
    where
        B::ErrorType: 'static,
    {
        let Shown { model, data_set, synthetic, .. } = self.shown;
        let mark = if *synthetic { self.word(" (SYNTHETIC)", "（合成数据 SYNTHETIC）") } else { "" };
        let origin = say!(self.language, "{model} on {data_set}{mark}", "{model}，数据集 {data_set}{mark}");
        area.draw(&Text::new(title.to_owned(), (20, 10), self.letters(24)))?;
        let small = self.letters(16).color(&GREY);
        area.draw(&Text::new(origin, (20, 40), small))?;
        Ok(area.margin(TITLE, 0, 0, 0))
    }

    fn letters(&self, size: i32) -> TextStyle<'static> {
        (self.font, size).into_font().color(&BLACK)
    }

    fn plane<'b, B: DrawingBackend>(
        &self,
        area: &'b DrawingArea<B, Shift>,
        axes: &Axes<'_>,
    ) -> Result<Plane<'b, B>, Box<dyn std::error::Error>>
    where
        B::ErrorType: 'static,
    {
        axes.on(area, self.font)
    }

    /// A chart with names along x, at 0, 1, 2, ...
    fn by_name<'b, B: DrawingBackend>(
        &self,
        area: &'b DrawingArea<B, Shift>,
        [x, y]: [&str; 2],
        names: &[String],
        y_range: Range<f64>,
        digits: usize,
    ) -> Result<Plane<'b, B>, Box<dyn std::error::Error>>
    where
        B::ErrorType: 'static,
    {
        let name = |x: &f64| {
            let near = x.round();
            let place = (near >= 0.0 && (x - near).abs() < 1e-6).then_some(near as usize);
            place.and_then(|i| names.get(i)).cloned().unwrap_or_default()
        };
        // Names share the width; a letter takes about half of its height.
        let longest = names.iter().map(|name| columns(name)).max().unwrap_or(1);
        let room = 820 / names.len().max(1);
        self.plane(
            area,
            &Axes {
                x,
                y,
                x_range: -0.5..names.len() as f64 - 0.5,
                y_range,
                x_labels: 2 * names.len() + 1,
                y_labels: 11,
                x_format: &name,
                y_format: &|y| format!("{y:.digits$}"),
                x_lines: false,
                label_size: ((room as f64 / (0.56 * longest as f64)) as i32).clamp(9, 17),
            },
        )
    }

    fn legend<'b, B: DrawingBackend + 'b>(&self, chart: &mut Plane<'b, B>, position: SeriesLabelPosition) -> Drawn
    where
        B::ErrorType: 'static,
    {
        legend_in(chart, position, self.font)
    }

    fn label(&self, text: String) -> String {
        roomy(text, self.font)
    }
}

/// A label, with room where the font at hand knows nothing of the width of its letters: the reader of the SVG brings one
/// that does. The spaces at the end are not seen.
pub fn roomy(text: String, font: &str) -> String {
    let wide = text.chars().filter(|c| !c.is_ascii()).count();
    if font == FONT { text + &" ".repeat(wide * 3 / 2) } else { text }
}

/// Width of a text in letters; Chinese ones are twice as wide.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// Breaks a text into lines of at most so many columns, between words or after a Chinese letter.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if c.is_ascii() && c != ' ' && word.is_ascii() && !word.ends_with(' ') => word.push(c),
            Some(word) if c == ' ' || "，。；：）、".contains(c) => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if columns(line) + columns(word.trim_end()) <= most => *line += &word,
            _ => lines.push(word),
        }
    }
    lines.into_iter().map(|line| line.trim().to_owned()).collect()
}

/// 0.125 as `1/8`.
fn fraction(rate: f64) -> String {
    if rate < 0.99 { format!("1/{:.0}", 1.0 / rate) } else { format!("{rate:.0}") }
}
