//! How single scans lie: lungs by centre, seconds by stage.

use super::Sheet;
use crate::record::Side;
use crate::report::words;
use lungai_figures::{BLUE, Drawn, GREY, ORANGE};
use plotters::coord::Shift;
use plotters::prelude::*;

pub fn dice<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let values = sheet.shown.records.iter().filter_map(|r| r.lungs).flatten().map(|side| side.dice);
    let lowest = values.fold(1.0, f64::min);
    let floor = ((lowest * 20.0).floor() / 20.0 - 0.01).max(0.0);
    let area = sheet.titled(area, sheet.word("Lung Dice", "肺分割 Dice"))?;
    sides(sheet, &area, "Dice", floor..1.0, 2, SeriesLabelPosition::LowerRight, |side| Some(side.dice))
}

pub fn distance<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let values = sheet.shown.records.iter().filter_map(|r| r.lungs).flatten().filter_map(|side| side.hd95_mm);
    let top = values.fold(1.0, f64::max).ceil();
    let area = sheet.titled(area, sheet.word("Lung surface distance", "肺表面距离"))?;
    sides(sheet, &area, "HD95, mm", 0.0..top, 1, SeriesLabelPosition::UpperRight, |side| side.hd95_mm)
}

/// A point for each lung of each scan.
fn sides<B: DrawingBackend>(
    sheet: &Sheet<'_>,
    area: &DrawingArea<B, Shift>,
    y: &str,
    range: std::ops::Range<f64>,
    digits: usize,
    legend: SeriesLabelPosition,
    value: impl Fn(&Side) -> Option<f64>,
) -> Drawn
where
    B::ErrorType: 'static,
{
    let centres: Vec<String> = sheet.results().centres.iter().map(|c| c.name.clone()).collect();
    let mut chart = sheet.by_name(area, [sheet.word("Centre", "中心"), y], &centres, range, digits)?;
    let names = [sheet.word("right lung", "右肺"), sheet.word("left lung", "左肺")];
    // A golden-ratio walk spreads the points of one centre, the same way every time.
    for (side, (name, colour)) in names.into_iter().zip([BLUE, ORANGE]).enumerate() {
        let shift = if side == 0 { -0.16 } else { 0.16 };
        let points = sheet.shown.records.iter().enumerate().filter_map(|(i, r)| {
            let place = centres.iter().position(|c| *c == r.centre)? as f64;
            let aside = (i as f64 * 0.618_034).fract() - 0.5;
            Some((place + shift + 0.18 * aside, value(&r.lungs?[side])?))
        });
        chart
            .draw_series(points.map(|at| Circle::new(at, 5, colour.mix(0.55).filled())))?
            .label(sheet.label(name.to_owned()))
            .legend(move |(x, y)| Circle::new((x + 13, y), 6, colour.filled()));
    }
    sheet.legend(&mut chart, legend)
}

/// A box for each stage.
pub fn seconds<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let times = &sheet.results().times;
    let area = sheet.titled(area, sheet.word("Processing time", "处理时间"))?;
    let names: Vec<String> = times.iter().map(|(stage, _)| words::stage(stage, sheet.language).to_owned()).collect();
    let top = times.iter().map(|(_, s)| s.highest).fold(0.0, f64::max) * 1.05;
    let titles = [sheet.word("Stage", "阶段"), sheet.word("Seconds", "秒")];
    let mut chart = sheet.by_name(&area, titles, &names, 0.0..top.max(0.1), if top < 5.0 { 2 } else { 0 })?;
    for (i, (_, s)) in times.iter().enumerate() {
        let x = i as f64;
        let half = 0.24;
        chart.draw_series([PathElement::new([(x, s.p5), (x, s.p95)], GREY.stroke_width(2))])?;
        for end in [s.p5, s.p95] {
            chart.draw_series([PathElement::new(
                [(x - half / 2.0, end), (x + half / 2.0, end)],
                GREY.stroke_width(2),
            )])?;
        }
        let corners = [(x - half, s.p25), (x + half, s.p75)];
        chart.draw_series([Rectangle::new(corners, WHITE.filled())])?;
        chart.draw_series([Rectangle::new(corners, BLUE.mix(0.25).filled())])?;
        chart.draw_series([Rectangle::new(corners, BLUE.stroke_width(2))])?;
        chart.draw_series([PathElement::new([(x - half, s.median), (x + half, s.median)], BLUE.stroke_width(3))])?;
        let extremes = [s.lowest, s.highest].map(|y| Circle::new((x, y), 4, GREY.filled()));
        chart.draw_series(extremes)?;
    }
    Ok(())
}
