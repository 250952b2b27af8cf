//! FROC and ROC curves.

use super::{Axes, Sheet, fraction};
use crate::report::language::{Language, say};
use crate::report::words;
use crate::results::readers::SYSTEM;
use crate::results::{AtRate, Curve, Figure, PartCurve};
use lungai_figures::{BLUE, Drawn, GREEN, GREY, ORANGE, PALETTE, Plane, line};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Ends of the axis: logarithms of 1/8 and 8 false positives per scan.
pub const ENDS: [f64; 2] = [-3.0, 3.0];

pub fn froc<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let detection = &sheet.results().detection;
    let area = sheet.titled(area, sheet.word("FROC", "FROC 曲线"))?;
    let mut chart = plane(sheet, &area)?;
    let baseline = sheet.word("threshold and blobs", "阈值与斑点基线");
    let baseline = sheet.results().baseline.as_ref().map(|curve| (curve, baseline, GREY));
    for (curve, name, colour) in baseline.into_iter().chain([(&detection.curve, sheet.word("model", "模型"), BLUE)]) {
        if colour == BLUE {
            // One band only: two on top of each other hide both.
            let edges = curve.band.iter().map(|p| (p.rate.log2(), p.ci));
            band(&mut chart, edges, colour)?;
        }
        let label = sheet.label(format!("{name}: CPM {}", with_interval(sheet, &curve.cpm)));
        line(&mut chart, within_axis(curve), colour, label)?;
    }
    if let (Some(rate), Some(sensitivity)) = (detection.fp_per_scan.value, detection.sensitivity.value) {
        let at = (rate.log2().clamp(ENDS[0], ENDS[1]), sensitivity);
        let outside =
            if (0.125..=8.0).contains(&rate) { "" } else { sheet.word(", outside of the axis", "，超出坐标轴") };
        let text = say!(
            sheet.language,
            "operating point: {sensitivity:.3} at {rate:.2} per scan{outside}",
            "工作点：{sensitivity:.3}，每例 {rate:.2} 个{outside}"
        );
        chart
            .draw_series([Circle::new(at, 7, ORANGE.filled())])?
            .label(sheet.label(text))
            .legend(|(x, y)| Circle::new((x + 13, y), 6, ORANGE.filled()));
    }
    sheet.legend(&mut chart, SeriesLabelPosition::LowerRight)
}

pub fn froc_of_parts<B: DrawingBackend>(
    sheet: &Sheet<'_>,
    area: &DrawingArea<B, Shift>,
    by: &str,
    parts: &[PartCurve],
) -> Drawn
where
    B::ErrorType: 'static,
{
    let area = sheet.titled(area, &say!(sheet.language, "FROC by {by}", "按{by}分组的 FROC 曲线"))?;
    let mut chart = plane(sheet, &area)?;
    for (part, colour) in parts.iter().zip(PALETTE.iter().cycle().copied()) {
        let points: Vec<(f64, f64)> = part.band.iter().map(|p| (p.rate.log2(), p.sensitivity)).collect();
        let name = words::group(&part.name, sheet.language);
        let label = sheet.label(format!("{name} (n = {})", part.nodules));
        if part.descriptive {
            let dashed = DashedLineSeries::new(points, 9, 6, colour.stroke_width(3));
            chart
                .draw_series(dashed)?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 10, y)], colour.stroke_width(3)));
        } else {
            line(&mut chart, points, colour, label)?;
        }
    }
    sheet.legend(&mut chart, SeriesLabelPosition::LowerRight)
}

/// Readers and the system: one point each, with both intervals.
pub fn readers<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let area = sheet.titled(area, sheet.word("Readers and system", "阅片者与系统"))?;
    let mut chart = plane(sheet, &area)?;
    line(
        &mut chart,
        within_axis(&sheet.results().detection.curve),
        GREY,
        sheet.label(sheet.word("system at other thresholds", "系统（其他阈值）").to_owned()),
    )?;
    let all = sheet.results().readers.iter().flat_map(|study| &study.readers);
    let mut colours = [GREEN, ORANGE, PALETTE[3], PALETTE[4], PALETTE[5]].into_iter().cycle();
    for reader in all {
        let colour = if reader.name == SYSTEM { BLUE } else { colours.next().unwrap_or(GREEN) };
        let (Some(rate), Some(found)) = (reader.fp_per_scan.value, reader.sensitivity.value) else { continue };
        let x = |rate: f64| rate.max(1e-9).log2().clamp(ENDS[0], ENDS[1]);
        if let Some([low, high]) = reader.sensitivity.ci {
            chart.draw_series([PathElement::new([(x(rate), low), (x(rate), high)], colour.stroke_width(2))])?;
        }
        if let Some([low, high]) = reader.fp_per_scan.ci {
            chart.draw_series([PathElement::new([(x(low), found), (x(high), found)], colour.stroke_width(2))])?;
        }
        let name = if reader.name == SYSTEM { sheet.word("system", "系统").to_owned() } else { reader.name.clone() };
        let text =
            say!(sheet.language, "{name}: {found:.3} at {rate:.2} per scan", "{name}：{found:.3}，每例 {rate:.2} 个");
        chart
            .draw_series([Circle::new((x(rate), found), 7, colour.filled())])?
            .label(sheet.label(text))
            .legend(move |(x, y)| Circle::new((x + 13, y), 6, colour.filled()));
    }
    sheet.legend(&mut chart, SeriesLabelPosition::LowerRight)
}

pub fn roc<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let m = &sheet.results().malignancy;
    let area = sheet.titled(area, sheet.word("ROC of malignancy", "良恶性 ROC 曲线"))?;
    let axes = Axes::shares(sheet.word("1 - specificity", "1 - 特异度"), sheet.word("Sensitivity", "灵敏度"));
    let mut chart = sheet.plane(&area, &axes)?;
    chart.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], GREY.mix(0.5))])?;
    band(&mut chart, m.band.iter().map(|p| (p.rate, p.ci)), BLUE)?;
    let found = sheet.word("found nodules", "检出结节");
    let all = sheet.word("all nodules, missed ones score 0", "全部结节（漏检计 0 分）");
    for (points, figure, name, colour) in [(&m.curve_found, m.auc_found, found, GREY), (&m.curve, m.auc, all, BLUE)] {
        if figure.value.is_none() {
            continue;
        }
        let path = std::iter::once((0.0, 0.0)).chain(points.iter().map(|p| (p[1], p[2])));
        let label = sheet.label(format!("{name} (n = {}): AUC {}", figure.n, with_interval(sheet, &figure)));
        line(&mut chart, path, colour, label)?;
    }
    sheet.legend(&mut chart, SeriesLabelPosition::LowerRight)
}

fn plane<'b, B: DrawingBackend>(
    sheet: &Sheet<'_>,
    area: &'b DrawingArea<B, Shift>,
) -> Result<Plane<'b, B>, Box<dyn std::error::Error>>
where
    B::ErrorType: 'static,
{
    sheet.plane(area, &froc_axes(sheet.language))
}

/// False positives per scan on a logarithmic axis from 1/8 to 8, and sensitivity.
pub fn froc_axes(language: Language) -> Axes<'static> {
    Axes {
        x_range: ENDS[0]..ENDS[1],
        x_labels: 7,
        x_format: &|x| fraction(x.exp2()),
        ..Axes::shares(
            language.of("False positives per scan", "每例扫描假阳性数"),
            language.of("Sensitivity", "灵敏度"),
        )
    }
}

/// Between lower and upper bound.
fn band<B: DrawingBackend>(
    chart: &mut Plane<'_, B>,
    points: impl Iterator<Item = (f64, [f64; 2])> + Clone,
    colour: RGBColor,
) -> Drawn
where
    B::ErrorType: 'static,
{
    let edge = |side: usize| points.clone().map(move |(x, ci)| (x, ci[side]));
    let outline: Vec<(f64, f64)> = edge(1).chain(edge(0).collect::<Vec<_>>().into_iter().rev()).collect();
    if !outline.is_empty() {
        chart.draw_series([Polygon::new(outline, colour.mix(0.15))])?;
    }
    Ok(())
}

fn with_interval(sheet: &Sheet<'_>, figure: &Figure) -> String {
    match (figure.value, figure.ci) {
        (Some(value), Some([low, high])) => {
            let percent = sheet.shown.percent;
            say!(
                sheet.language,
                "{value:.3} ({percent} % {low:.3} to {high:.3})",
                "{value:.3}（{percent} % {low:.3} 至 {high:.3}）"
            )
        }
        _ => sheet.word("not defined", "无定义").to_owned(),
    }
}

/// The curve from 1/8 to 8 false positives per scan, with the logarithm of the rate.
fn within_axis(curve: &Curve) -> Vec<(f64, f64)> {
    let end = |p: Option<&AtRate>| p.map(|p| (p.rate.log2(), p.sensitivity));
    let between = curve.points.iter().map(|p| (p[1].log2(), p[2]));
    let between = between.filter(|(rate, _)| *rate > ENDS[0] && *rate < ENDS[1]);
    end(curve.band.first()).into_iter().chain(between).chain(end(curve.band.last())).collect()
}
