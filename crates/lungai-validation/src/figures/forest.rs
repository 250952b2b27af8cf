//! The forest plot: each centre's sensitivity, their mean, and what a further centre may expect.

use super::Sheet;
use crate::report::language::say;
use lungai_figures::{BLUE, Drawn, GREY, ORANGE};
use plotters::coord::Shift;
use plotters::prelude::*;

const WIDTH: u32 = 960;
const ROW: i32 = 36;
/// Names to the left, figures to the right of the axis, in pixels.
const AXIS: [i32; 2] = [270, 690];
const FIGURES: i32 = 712;

/// As high as there are centres.
pub fn size(centres: usize) -> (u32, u32) {
    (WIDTH, (super::TITLE + ROW * (centres as i32 + 3) + 90) as u32)
}

pub fn paint<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let results = sheet.results();
    let area = sheet.titled(area, sheet.word("Sensitivity by centre", "各中心的灵敏度"))?;
    let lows = results.centres.iter().filter_map(|c| Some(c.sensitivity.ci?[0]));
    let predicted = results.heterogeneity.as_ref().and_then(|h| h.prediction).map(|p| p[0]);
    let lowest = lows.chain(predicted).fold(1.0, f64::min);
    let floor = ((lowest * 10.0).floor() / 10.0).clamp(0.0, 0.9);
    let x = |share: f64| AXIS[0] + ((share - floor) / (1.0 - floor) * f64::from(AXIS[1] - AXIS[0])).round() as i32;
    let heads = [
        (20, sheet.word("centre (found / nodules)", "中心（检出/结节）")),
        (FIGURES, sheet.word("sensitivity (interval)", "灵敏度（区间）")),
    ];
    for (at, head) in heads {
        area.draw(&Text::new(head.to_owned(), (at, 6), sheet.letters(16).color(&GREY)))?;
    }
    let bottom = ROW * (results.centres.len() as i32 + 3) + 8;
    let steps = ((1.0 - floor) * 10.0).round() as i32;
    for i in 0..=steps {
        let share = floor + f64::from(i) / 10.0;
        area.draw(&PathElement::new([(x(share), 30), (x(share), bottom)], GREY.mix(0.2)))?;
        area.draw(&Text::new(format!("{share:.1}"), (x(share) - 11, bottom + 6), sheet.letters(16)))?;
    }
    area.draw(&PathElement::new([(AXIS[0], bottom), (AXIS[1], bottom)], BLACK.stroke_width(1)))?;
    let most = results.centres.iter().map(|c| c.nodules).max().unwrap_or(1).max(1) as f64;
    let mut y = ROW + 14;
    let text = |at: (i32, i32), text: String, size: i32| -> Drawn {
        area.draw(&Text::new(text, (at.0, at.1 - size / 2 - 2), sheet.letters(size)))?;
        Ok(())
    };
    let figure = |value: f64, [low, high]: [f64; 2]| {
        say!(sheet.language, "{value:.3} ({low:.3} to {high:.3})", "{value:.3}（{low:.3} 至 {high:.3}）")
    };
    for centre in &results.centres {
        let colour = if centre.descriptive { GREY } else { BLUE };
        text((20, y), format!("{} ({}/{})", short(&centre.name, 20), centre.found, centre.nodules), 17)?;
        if let (Some(value), Some([low, high])) = (centre.sensitivity.value, centre.sensitivity.ci) {
            area.draw(&PathElement::new([(x(low), y), (x(high), y)], colour.stroke_width(2)))?;
            // An area in proportion to the nodules, as is the custom.
            let half = (4.0 + 7.0 * (centre.nodules as f64 / most).sqrt()) as i32;
            let at = x(value);
            area.draw(&Rectangle::new([(at - half, y - half), (at + half, y + half)], colour.filled()))?;
            text((FIGURES, y), figure(value, [low, high]), 17)?;
        }
        y += ROW;
    }
    let Some(h) = &results.heterogeneity else { return Ok(()) };
    let diamond = [(x(h.ci[0]), y), (x(h.sensitivity), y - 10), (x(h.ci[1]), y), (x(h.sensitivity), y + 10)];
    area.draw(&Polygon::new(diamond, ORANGE.filled()))?;
    text((20, y), sheet.word("mean over centres", "各中心均值").to_owned(), 17)?;
    text((FIGURES, y), figure(h.sensitivity, h.ci), 17)?;
    y += ROW;
    text((20, y), sheet.word("prediction interval", "预测区间").to_owned(), 17)?;
    match h.prediction {
        Some([low, high]) => {
            area.draw(&PathElement::new([(x(low), y), (x(high), y)], ORANGE.stroke_width(3)))?;
            for end in [low, high] {
                area.draw(&PathElement::new([(x(end), y - 7), (x(end), y + 7)], ORANGE.stroke_width(3)))?;
            }
            text((FIGURES, y), say!(sheet.language, "{low:.3} to {high:.3}", "{low:.3} 至 {high:.3}"), 17)?;
        }
        None => text((FIGURES, y), sheet.word("not defined for two centres", "两个中心时无定义").to_owned(), 17)?,
    }
    let line = say!(
        sheet.language,
        "random effects (logit): Q = {:.2} on {} df, p = {:.3}; tau2 = {:.3}; I2 = {:.0} %",
        "随机效应（logit）：Q = {:.2}，自由度 {}，p = {:.3}；tau2 = {:.3}；I2 = {:.0} %",
        h.q,
        h.centres.saturating_sub(1),
        h.p,
        h.tau2,
        100.0 * h.i2
    );
    text((20, bottom + 48), line, 16)
}

/// At most so many letters.
fn short(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        name.to_owned()
    } else {
        name.chars().take(most - 2).chain("..".chars()).collect()
    }
}
