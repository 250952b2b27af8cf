//! Sensitivity of groups with their intervals.

use super::Sheet;
use crate::report::language::say;
use crate::report::words;
use crate::results::{Group, StratumResult};
use lungai_figures::{BLUE, Drawn, GREY};
use plotters::coord::Shift;
use plotters::prelude::*;

pub fn paint<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>, stratum: &StratumResult) -> Drawn
where
    B::ErrorType: 'static,
{
    let by = words::property(stratum.of, sheet.language);
    let area = sheet.titled(area, &say!(sheet.language, "Sensitivity by {by}", "按{by}分组的灵敏度"))?;
    let groups: Vec<&Group> = stratum.filled().collect();
    let name = |g: &&Group| format!("{} ({}/{})", words::group(&g.name, sheet.language), g.found, g.nodules);
    let names: Vec<String> = groups.iter().map(name).collect();
    let y = sheet.word("Sensitivity at the operating point", "工作点灵敏度");
    let mut chart = sheet.by_name(&area, [by, y], &names, 0.0..1.02, 1)?;
    for (i, group) in groups.iter().enumerate() {
        let (Some(value), Some([low, high])) = (group.sensitivity.value, group.sensitivity.ci) else { continue };
        let x = i as f64;
        let colour = if group.descriptive { GREY } else { BLUE };
        let cap = 0.012 * groups.len() as f64;
        let caps = [low, high].map(|y| PathElement::new([(x - cap, y), (x + cap, y)], colour.stroke_width(3)));
        chart.draw_series([PathElement::new([(x, low), (x, high)], colour.stroke_width(3))])?;
        chart.draw_series(caps)?;
        chart.draw_series([Circle::new((x, value), 7, colour.filled())])?;
    }
    let judged = sheet.word("judged", "足够判断");
    let described = sheet.word("too few nodules: descriptive", "结节过少：仅作描述");
    for (colour, name) in [(BLUE, judged), (GREY, described)] {
        if groups.iter().any(|g| g.descriptive == (colour == GREY)) {
            chart
                .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
                .label(sheet.label(name.to_owned()))
                .legend(move |(x, y)| Circle::new((x + 13, y), 6, colour.filled()));
        }
    }
    sheet.legend(&mut chart, SeriesLabelPosition::LowerRight)
}
