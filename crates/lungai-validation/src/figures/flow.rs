//! Which scans became of the test split: those that stay go down, those that are left out to the right.

use super::{Sheet, wrapped};
use crate::record::{FlowStep, Tally};
use crate::report::language::{Language, say};
use crate::report::words;
use lungai_figures::{BLUE, Drawn, GREY};
use plotters::coord::Shift;
use plotters::prelude::*;

const WIDTH: u32 = 960;
/// Height of a box, and distance of one from the next.
const BOX: i32 = 66;
const STEP: i32 = 100;
const LEFT: [i32; 2] = [30, 430];
const RIGHT: [i32; 2] = [490, 930];

/// As high as the flow is long.
pub fn size(flow: &[FlowStep]) -> (u32, u32) {
    let boxes = drawn(flow).len() as u32;
    (WIDTH, super::TITLE as u32 + boxes * STEP as u32 + 10)
}

/// The first step, those that leave something out, the last.
fn drawn(flow: &[FlowStep]) -> Vec<&FlowStep> {
    let last = flow.len().saturating_sub(1);
    let kept = flow.iter().enumerate().filter(|(i, step)| *i == 0 || *i == last || step.out.scans > 0);
    kept.map(|(_, step)| step).collect()
}

pub fn paint<B: DrawingBackend>(sheet: &Sheet<'_>, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    let area = sheet.titled(area, sheet.word("Flow of scans", "扫描流程图"))?;
    let language = sheet.language;
    let steps = drawn(sheet.shown.flow);
    let last = steps.len().saturating_sub(1);
    for (i, step) in steps.iter().enumerate() {
        let top = 4 + i as i32 * STEP;
        let title = if i == 0 {
            words::flow_step(&step.id, language)
        } else if i == last {
            sheet.word("analysed", "纳入分析").to_owned()
        } else {
            sheet.word("stay in", "保留").to_owned()
        };
        boxed(sheet, &area, LEFT, top, &[title, tally(&step.left, language)], i == 0 || i == last)?;
        if i > 0 {
            let x = (LEFT[0] + LEFT[1]) / 2;
            arrow(&area, [(x, top - STEP + BOX), (x, top)])?;
        }
        if step.out.scans > 0 {
            let why = say!(
                language,
                "left out, {}: {}",
                "排除，{}：{}",
                words::flow_step(&step.id, language),
                words::flow_reason(step, language)
            );
            // What is left out leaves the way down between this box and the one before.
            let middle = if i > 0 { top - STEP + BOX + (STEP - BOX) / 2 } else { top + BOX / 2 };
            let text = wrapped(&why, 56);
            let mut lines: Vec<String> = text.into_iter().take(2).collect();
            lines.push(tally(&step.out, language));
            let from = if i > 0 { (LEFT[0] + LEFT[1]) / 2 } else { LEFT[1] };
            boxed(sheet, &area, RIGHT, middle - BOX / 2, &lines, false)?;
            arrow(&area, [(from, middle), (RIGHT[0], middle)])?;
        }
    }
    Ok(())
}

fn tally(of: &Tally, language: Language) -> String {
    let Tally { scans, patients, nodules } = of;
    let text = say!(language, "{scans} scans, {patients} patients", "{scans} 例扫描，{patients} 名患者");
    // Where a scan has no reference, nobody knows.
    match nodules {
        Some(nodules) => text + &say!(language, ", {nodules} nodules", "，{nodules} 个结节"),
        None => text,
    }
}

fn boxed<B: DrawingBackend>(
    sheet: &Sheet<'_>,
    area: &DrawingArea<B, Shift>,
    [left, right]: [i32; 2],
    top: i32,
    lines: &[String],
    strong: bool,
) -> Drawn
where
    B::ErrorType: 'static,
{
    let corners = [(left, top), (right, top + BOX)];
    if strong {
        area.draw(&Rectangle::new(corners, BLUE.mix(0.08).filled()))?;
    }
    area.draw(&Rectangle::new(corners, if strong { BLUE } else { GREY }.stroke_width(2)))?;
    let size = if lines.len() > 2 { 15 } else { 18 };
    let height = if lines.len() > 2 { 20 } else { 27 };
    let first = top + (BOX - height * lines.len() as i32) / 2 + 2;
    for (i, line) in lines.iter().enumerate() {
        area.draw(&Text::new(line.clone(), (left + 12, first + i as i32 * height), sheet.letters(size)))?;
    }
    Ok(())
}

/// Along x or y, with its head at the end.
fn arrow<B: DrawingBackend>(area: &DrawingArea<B, Shift>, [from, to]: [(i32, i32); 2]) -> Drawn
where
    B::ErrorType: 'static,
{
    const HEAD: i32 = 8;
    area.draw(&PathElement::new([from, to], GREY.stroke_width(2)))?;
    let sides = if from.0 == to.0 {
        [(to.0 - HEAD / 2, to.1 - HEAD), (to.0 + HEAD / 2, to.1 - HEAD)]
    } else {
        [(to.0 - HEAD, to.1 - HEAD / 2), (to.0 - HEAD, to.1 + HEAD / 2)]
    };
    area.draw(&Polygon::new([to, sides[0], sides[1]], GREY.filled()))?;
    Ok(())
}
