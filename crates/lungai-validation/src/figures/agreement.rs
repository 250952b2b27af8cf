//! Whether what is stated comes true: probabilities, diameters.

use super::{Axes, Sheet};
use crate::report::language::say;
use lungai_figures::{BLUE, Drawn, GREY, ORANGE};
use plotters::coord::Shift;
use plotters::prelude::*;

/// The reliability curve, over bars of how many nodules stand behind each point.
pub fn calibration<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let m = &sheet.results().malignancy;
    let area = sheet.titled(area, sheet.word("Calibration of malignancy", "恶性概率的校准"))?;
    let axes = Axes::shares(
        sheet.word("Stated probability", "所给概率"),
        sheet.word("Share of malignant nodules", "恶性结节比例"),
    );
    let mut chart = sheet.plane(&area, &axes)?;
    let most = m.reliability.iter().map(|p| p.nodules).max().unwrap_or(1).max(1) as f64;
    for bin in &m.reliability {
        // A fifth of the height at most, so that no bar is taken for a share.
        let height = 0.2 * bin.nodules as f64 / most;
        chart.draw_series([Rectangle::new([(bin.from, 0.0), (bin.to, height)], GREY.mix(0.18).filled())])?;
        let text = Text::new(bin.nodules.to_string(), ((bin.from + bin.to) / 2.0, height + 0.045), sheet.letters(15));
        chart.draw_series([text])?;
    }
    chart
        .draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], GREY.stroke_width(2))])?
        .label(sheet.label(sheet.word("perfect", "理想").to_owned()))
        .legend(|(x, y)| PathElement::new([(x, y), (x + 26, y)], GREY.stroke_width(2)));
    for bin in &m.reliability {
        let [low, high] = bin.interval;
        chart.draw_series([PathElement::new([(bin.stated, low), (bin.stated, high)], BLUE.stroke_width(2))])?;
        chart.draw_series([Circle::new((bin.stated, bin.observed), 6, BLUE.filled())])?;
    }
    let number = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.3}"));
    let (ece, brier) = (number(m.calibration_error.value), number(m.brier));
    let label = say!(
        sheet.language,
        "found nodules (n = {}): ECE {ece}, Brier {brier}",
        "检出结节（n = {}）：ECE {ece}，Brier {brier}",
        m.calibration_error.n
    );
    let points = m.reliability.iter().map(|p| (p.stated, p.observed));
    lungai_figures::line(&mut chart, points, BLUE, sheet.label(label))?;
    sheet.legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

/// Bland and Altman's plot of diameters.
pub fn diameters<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let Some(d) = &sheet.results().diameters else { return Ok(()) };
    let area = sheet.titled(area, sheet.word("Diameters: measured and reference", "直径：测量值与参考值"))?;
    let means = || d.pairs.iter().map(|[reference, measured]| (reference + measured) / 2.0);
    let gaps = || d.pairs.iter().map(|[reference, measured]| measured - reference);
    let last = (means().fold(0.0, f64::max) / 5.0).ceil() * 5.0;
    let edges = [d.lower_interval[0], d.upper_interval[1]];
    let low = gaps().chain(edges).fold(0.0, f64::min).floor() - 0.5;
    let high = gaps().chain(edges).fold(0.0, f64::max).ceil() + 0.5;
    let mut chart = sheet.plane(
        &area,
        &Axes {
            x: sheet.word("Mean of both, mm", "两者均值（mm）"),
            y: sheet.word("Measured less reference, mm", "测量值减参考值（mm）"),
            x_range: 0.0..last.max(5.0),
            y_range: low..high,
            x_labels: 9,
            y_labels: 9,
            x_format: &|x| format!("{x:.0}"),
            y_format: &|y| format!("{y:.1}"),
            x_lines: true,
            label_size: 17,
        },
    )?;
    let right = last.max(5.0);
    let bands = [(d.bias_interval, BLUE), (d.lower_interval, ORANGE), (d.upper_interval, ORANGE)];
    for ([from, to], colour) in bands {
        chart.draw_series([Rectangle::new([(0.0, from), (right, to)], colour.mix(0.13).filled())])?;
    }
    chart.draw_series(means().zip(gaps()).map(|at| Circle::new(at, 4, GREY.mix(0.75).filled())))?;
    let bias = say!(sheet.language, "bias {:.2} mm (n = {})", "偏倚 {:.2} mm（n = {}）", d.bias, d.pairs.len());
    let [lower, upper] = d.limits;
    let limits = say!(
        sheet.language,
        "limits of agreement {lower:.2} to {upper:.2} mm",
        "一致性界限 {lower:.2} 至 {upper:.2} mm"
    );
    lungai_figures::line(&mut chart, [(0.0, d.bias), (right, d.bias)], BLUE, sheet.label(bias))?;
    lungai_figures::line(&mut chart, [(0.0, lower), (right, lower)], ORANGE, sheet.label(limits))?;
    chart.draw_series(LineSeries::new([(0.0, upper), (right, upper)], ORANGE.stroke_width(3)))?;
    sheet.legend(&mut chart, SeriesLabelPosition::UpperRight)
}
