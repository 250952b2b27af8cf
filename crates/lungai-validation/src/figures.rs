//! The figures, as SVG and PNG from the same drawing.

use crate::record::ScanRecord;
use crate::results::{Curve, Group, Results};
use lungai_figures::{BLUE, Drawn, FONT, Figure, GREY, ORANGE, Plane, legend, save};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// A finished figure.
pub struct Picture {
    /// File name without extension.
    pub name: &'static str,
    /// What it shows.
    pub caption: String,
    /// The drawing; the PNG lies beside it.
    pub svg: String,
}

/// What every figure says of where it comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Model name and version.
    pub model: String,
    /// Data set.
    pub data_set: String,
    /// Whether the images were computed.
    pub synthetic: bool,
    /// Confidence in percent.
    pub percent: f64,
}

#[derive(Debug, Clone, Copy)]
enum Chart {
    Froc,
    Roc,
    Dice,
    Sizes,
    Centres,
}

struct Sheet<'a> {
    results: &'a Results,
    records: &'a [ScanRecord],
    origin: &'a Origin,
}

/// One chart of the sheet.
struct OnSheet<'a>(&'a Sheet<'a>, Chart);

/// Draws all figures that the results carry into `folder`.
///
/// # Errors
/// What the drawing backend says.
pub fn draw(
    results: &Results,
    records: &[ScanRecord],
    origin: &Origin,
    folder: &Path,
) -> Result<Vec<Picture>, Box<dyn std::error::Error>> {
    let sheet = Sheet { results, records, origin };
    let percent = origin.percent;
    let mut charts = vec![(
        Chart::Froc,
        "froc",
        format!("Sensitivity against false positives per scan, with the {percent} % band over patients."),
    )];
    if !results.malignancy.curve.is_empty() {
        charts.push((Chart::Roc, "roc", "ROC of malignancy over nodules with a diagnosis.".into()));
    }
    if records.iter().any(|r| r.lungs.is_some()) {
        charts.push((Chart::Dice, "dice", "Dice of each lung of each scan, by centre.".into()));
    }
    let at_the_point = |by: &str| format!("Sensitivity at the operating point by {by}, with {percent} % intervals.");
    charts.push((Chart::Sizes, "sizes", at_the_point("diameter")));
    charts.push((Chart::Centres, "centres", at_the_point("centre")));

    let mut pictures = Vec::new();
    for (chart, name, caption) in charts {
        let svg = save(&OnSheet(&sheet, chart), folder, name)?;
        let caption = if origin.synthetic { format!("{caption} SYNTHETIC data.") } else { caption };
        pictures.push(Picture { name, caption, svg });
    }
    Ok(pictures)
}

impl Figure for OnSheet<'_> {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let Self(sheet, chart) = self;
        let results = sheet.results;
        match chart {
            Chart::Froc => sheet.froc(area),
            Chart::Roc => sheet.roc(area),
            Chart::Dice => sheet.dice(area),
            Chart::Sizes => {
                sheet.groups(area, "Sensitivity by size", "Diameter of the reference nodule", &results.sizes)
            }
            Chart::Centres => sheet.groups(area, "Sensitivity by centre", "Centre", &results.centres),
        }
    }
}

impl Sheet<'_> {
    fn title(&self, of: &str) -> String {
        let Origin { model, data_set, synthetic, .. } = self.origin;
        format!("{of}: {model} on {data_set}{}", if *synthetic { " (SYNTHETIC)" } else { "" })
    }

    fn froc<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let detection = &self.results.detection;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title("FROC"), (FONT, 22))
            .margin(16)
            .x_label_area_size(52)
            .y_label_area_size(66)
            .build_cartesian_2d(-3.0..3.0f64, 0.0..1.02f64)?;
        chart
            .configure_mesh()
            .x_desc("False positives per scan")
            .y_desc("Sensitivity")
            .x_labels(7)
            .y_labels(11)
            .x_label_formatter(&|x| fraction(x.exp2()))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .label_style((FONT, 17))
            .axis_desc_style((FONT, 19))
            .light_line_style(WHITE)
            .draw()?;
        let percent = self.origin.percent;
        let baseline = self.results.baseline.as_ref().map(|curve| (curve, "threshold and blobs", GREY));
        for (curve, name, colour) in baseline.into_iter().chain([(&detection.curve, "model", BLUE)]) {
            if colour == BLUE {
                // One band only: two on top of each other hide both.
                let edge = |side: usize| curve.band.iter().map(move |p| (p.rate.log2(), p.ci[side]));
                let outline: Vec<(f64, f64)> = edge(1).chain(edge(0).collect::<Vec<_>>().into_iter().rev()).collect();
                chart.draw_series([Polygon::new(outline, colour.mix(0.15))])?;
            }
            chart
                .draw_series(LineSeries::new(within_axis(curve), colour.stroke_width(3)))?
                .label(format!("{name}: CPM {}", with_interval(curve, percent)))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], colour.stroke_width(3)));
        }
        if let (Some(rate), Some(sensitivity)) = (detection.fp_per_scan.value, detection.sensitivity.value) {
            let at = (rate.log2().clamp(-3.0, 3.0), sensitivity);
            let outside = if (0.125..=8.0).contains(&rate) { "" } else { ", outside of the axis" };
            chart
                .draw_series([Circle::new(at, 7, ORANGE.filled())])?
                .label(format!("operating point: {sensitivity:.3} at {rate:.2} per scan{outside}"))
                .legend(|(x, y)| Circle::new((x + 13, y), 6, ORANGE.filled()));
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }

    fn roc<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let m = &self.results.malignancy;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title("Malignancy ROC"), (FONT, 22))
            .margin(16)
            .x_label_area_size(52)
            .y_label_area_size(66)
            .build_cartesian_2d(0.0..1.0f64, 0.0..1.02f64)?;
        chart
            .configure_mesh()
            .x_desc("1 - specificity")
            .y_desc("Sensitivity")
            .x_labels(11)
            .y_labels(11)
            .x_label_formatter(&|x| format!("{x:.1}"))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .label_style((FONT, 17))
            .axis_desc_style((FONT, 19))
            .light_line_style(WHITE)
            .draw()?;
        chart.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], GREY.mix(0.5))])?;
        for (points, figure, name, colour) in [
            (&m.curve_found, m.auc_found, "found nodules", GREY),
            (&m.curve, m.auc, "all nodules, missed ones score 0", BLUE),
        ] {
            let (Some(value), Some([low, high])) = (figure.value, figure.ci) else { continue };
            let line = std::iter::once((0.0, 0.0)).chain(points.iter().map(|p| (p[1], p[2])));
            chart
                .draw_series(LineSeries::new(line, colour.stroke_width(3)))?
                .label(format!(
                    "{name} (n = {}): AUC {value:.3} ({} % {low:.3} to {high:.3})",
                    figure.n, self.origin.percent
                ))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], colour.stroke_width(3)));
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }

    fn dice<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let centres: Vec<&str> = self.results.centres.iter().map(|c| c.name.as_str()).collect();
        let values = self.records.iter().filter_map(|r| r.lungs).flatten().map(|side| side.dice);
        let lowest = values.fold(1.0, f64::min);
        let floor = ((lowest * 20.0).floor() / 20.0 - 0.01).max(0.0);
        let mut chart = self.by_name(area, "Lung Dice", "Centre", "Dice", &centres, floor..1.0)?;
        for (side, name, colour) in [(0usize, "right lung", BLUE), (1, "left lung", ORANGE)] {
            let shift = if side == 0 { -0.12 } else { 0.12 };
            let points = self.records.iter().filter_map(|r| {
                let place = centres.iter().position(|c| *c == r.centre)?;
                Some((place as f64 + shift, r.lungs?[side].dice))
            });
            chart
                .draw_series(points.map(|at| Circle::new(at, 6, colour.mix(0.6).filled())))?
                .label(name)
                .legend(move |(x, y)| Circle::new((x + 13, y), 6, colour.filled()));
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }

    fn groups<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        title: &str,
        axis: &str,
        groups: &[Group],
    ) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let names: Vec<String> = groups.iter().map(|g| format!("{} ({}/{})", g.name, g.found, g.nodules)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut chart = self.by_name(area, title, axis, "Sensitivity at the operating point", &names, 0.0..1.02)?;
        for (i, group) in groups.iter().enumerate() {
            let (Some(value), Some([low, high])) = (group.sensitivity.value, group.sensitivity.ci) else { continue };
            let x = i as f64;
            let colour = if group.descriptive { GREY } else { BLUE };
            let bar = [(x, low), (x, high)];
            let caps = [low, high].map(|y| PathElement::new([(x - 0.04, y), (x + 0.04, y)], colour.stroke_width(3)));
            chart.draw_series([PathElement::new(bar, colour.stroke_width(3))])?;
            chart.draw_series(caps)?;
            chart.draw_series([Circle::new((x, value), 7, colour.filled())])?;
        }
        for (colour, name) in [(BLUE, "judged"), (GREY, "too few nodules: descriptive")] {
            if groups.iter().any(|g| g.descriptive == (colour == GREY)) {
                chart
                    .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
                    .label(name)
                    .legend(move |(x, y)| Circle::new((x + 13, y), 6, colour.filled()));
            }
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }

    /// A chart with names along x, at 0, 1, 2, ...
    fn by_name<'b, B: DrawingBackend>(
        &self,
        area: &'b DrawingArea<B, Shift>,
        title: &str,
        x: &str,
        y: &str,
        names: &[&str],
        range: std::ops::Range<f64>,
    ) -> Result<Plane<'b, B>, Box<dyn std::error::Error>>
    where
        B::ErrorType: 'static,
    {
        let mut chart = ChartBuilder::on(area)
            .caption(self.title(title), (FONT, 22))
            .margin(16)
            .x_label_area_size(52)
            .y_label_area_size(74)
            .build_cartesian_2d(-0.5..names.len() as f64 - 0.5, range)?;
        let name = |x: &f64| {
            let near = x.round();
            let place = (near >= 0.0 && (x - near).abs() < 1e-6).then_some(near as usize);
            place.and_then(|i| names.get(i)).map_or(String::new(), |name| (*name).to_owned())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_desc(x)
            .y_desc(y)
            .x_labels(2 * names.len() + 1)
            .y_labels(11)
            .x_label_formatter(&name)
            .y_label_formatter(&|y| format!("{y:.2}"))
            .label_style((FONT, if names.len() > 5 { 12 } else { 16 }))
            .axis_desc_style((FONT, 19))
            .light_line_style(WHITE)
            .draw()?;
        Ok(chart)
    }
}

fn with_interval(curve: &Curve, percent: f64) -> String {
    match (curve.cpm.value, curve.cpm.ci) {
        (Some(value), Some([low, high])) => format!("{value:.3} ({percent} % {low:.3} to {high:.3})"),
        _ => "not defined".into(),
    }
}

/// The curve from 1/8 to 8 false positives per scan, with the logarithm of the rate.
fn within_axis(curve: &Curve) -> Vec<(f64, f64)> {
    let ends = [curve.band.first(), curve.band.last()].map(|p| p.map(|p| (p.rate.log2(), p.sensitivity)));
    let between = curve.points.iter().map(|p| (p[1].log2(), p[2])).filter(|(rate, _)| *rate > -3.0 && *rate < 3.0);
    ends[0].into_iter().chain(between).chain(ends[1]).collect()
}

/// 0.125 as `1/8`.
fn fraction(rate: f64) -> String {
    if rate < 0.99 { format!("1/{:.0}", 1.0 / rate) } else { format!("{rate:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{evaluate, tests};

    #[test]
    fn every_figure_is_labelled_and_says_where_it_comes_from() {
        let (records, folder) = (tests::records(), tempfile::tempdir().unwrap());
        let results = evaluate(&tests::protocol(), &records, &[], 0.5).unwrap();
        let mut origin = Origin { model: "demo 1".into(), data_set: "phantom".into(), synthetic: true, percent: 95.0 };
        let pictures = draw(&results, &records, &origin, folder.path()).unwrap();
        assert_eq!(pictures.iter().map(|p| p.name).collect::<Vec<_>>(), ["froc", "roc", "dice", "sizes", "centres"]);
        for picture in &pictures {
            let all = ["demo 1 on phantom (SYNTHETIC)"];
            let words: &[&str] = match picture.name {
                "froc" => &["False positives per scan", "Sensitivity", "1/8", "model: CPM", "operating point: 0.667"],
                "roc" => &["1 - specificity", "all nodules", "AUC 0.722"],
                "dice" => &["Dice", "coast-hospital", "left lung"],
                "sizes" => &["10 to &lt; 20 mm (2/2)", "descriptive"],
                _ => &["hill-screening (2/2)", "Centre"],
            };
            for word in all.iter().chain(words) {
                assert!(picture.svg.contains(word), "{word} in {}", picture.name);
            }
            assert!(picture.caption.contains("SYNTHETIC"));
            let png = std::fs::read(folder.path().join(format!("{}.png", picture.name))).unwrap();
            assert!(png.starts_with(b"\x89PNG"));
        }
        origin.synthetic = false;
        let real = draw(&results, &records, &origin, folder.path()).unwrap();
        assert!(real.iter().all(|p| !p.svg.contains("SYNTHETIC") && !p.caption.contains("SYNTHETIC")));
    }
}
