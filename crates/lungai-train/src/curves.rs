//! Learning curves, drawn from the journal: training loss above, figures on the held-out scans below.

use anyhow::Context;
use lungai_figures::{BLUE, Drawn, FONT, Figure, GREEN, GREY, ORANGE, Plane, legend, save};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// File name without extension, in the run folder.
const CURVES: &str = "curves";

/// What a journal says of a run. A resumed run repeats the steps after its checkpoint; the later lines count.
#[derive(Debug, Default, PartialEq)]
struct Curves {
    /// Step and loss.
    losses: Vec<(f64, f64)>,
    /// Name and points (step, value) of each plotted figure.
    held_out: Vec<(String, Vec<(f64, f64)>)>,
}

struct Sheet<'a> {
    title: &'a str,
    curves: &'a Curves,
}

/// Draws `curves.svg` and `curves.png` beside the journal.
///
/// - `title`: run and data set
/// - `plotted`: the held-out figures to show, each within `0..=1`
///
/// # Errors
/// A journal that cannot be read.
pub fn draw(folder: &Path, title: &str, plotted: &[&str]) -> anyhow::Result<()> {
    let text = fs::read_to_string(folder.join("journal.jsonl")).context("journal.jsonl")?;
    let curves = Curves::read(&text, plotted);
    save(&Sheet { title, curves: &curves }, folder, CURVES).map_err(|error| anyhow::anyhow!("{CURVES}: {error}"))?;
    Ok(())
}

impl Curves {
    /// A line that a crash has cut is passed over.
    fn read(journal: &str, plotted: &[&str]) -> Self {
        let mut curves = Self::default();
        curves.held_out.extend(plotted.iter().map(|name| ((*name).to_owned(), Vec::new())));
        for line in journal.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let step = line["step"].as_f64().unwrap_or(0.0);
            match line["event"].as_str() {
                Some("step") => curves.losses.extend(line["loss"].as_f64().map(|loss| (step, loss))),
                Some("evaluation") => {
                    for (name, points) in &mut curves.held_out {
                        points.extend(line["metrics"][name.as_str()].as_f64().map(|value| (step, value)));
                    }
                }
                Some("resume") => {
                    curves.losses.retain(|point| point.0 <= step);
                    curves.held_out.iter_mut().for_each(|(_, points)| points.retain(|point| point.0 <= step));
                }
                _ => (),
            }
        }
        curves
    }
}

/// Mean of the last 30 or so steps (exponential, unbiased at the start).
fn smoothed(losses: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let decay = 1.0 - 1.0 / 30.0;
    let mean = |(step, loss): &(f64, f64)| {
        (sum, weight) = (decay * sum + loss, decay * weight + 1.0);
        (*step, sum / weight)
    };
    losses.iter().map(mean).collect()
}

impl Figure for Sheet<'_> {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let Curves { losses, held_out } = self.curves;
        let last = losses.last().map_or(1.0, |point| point.0).max(1.0);
        let (above, below) = area.split_vertically(310);

        let smooth = smoothed(losses);
        let top = smooth.iter().map(|point| point.1).fold(0.0, f64::max) * 1.15;
        let mut chart = plane(&above, self.title, last, top.max(1e-6))?;
        let shown = losses.iter().map(|(step, loss)| (*step, loss.min(top)));
        chart.draw_series(LineSeries::new(shown, GREY.mix(0.35)))?;
        chart
            .draw_series(LineSeries::new(smooth, BLUE.stroke_width(3)))?
            .label("training loss, smoothed")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 26, y)], BLUE.stroke_width(3)));
        legend(&mut chart, SeriesLabelPosition::UpperRight)?;

        let mut chart = plane(&below, "Held-out scans", last, 1.02)?;
        for ((name, points), colour) in held_out.iter().zip([ORANGE, BLUE, GREEN]) {
            let Some((_, newest)) = points.last() else { continue };
            chart.draw_series(points.iter().map(|at| Circle::new(*at, 5, colour.filled())))?;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(3)))?
                .label(format!("{} {newest:.3}", name.replace('_', " ")))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], colour.stroke_width(3)));
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }
}

/// Steps along x from 0 to `last`, values from 0 to `top`.
fn plane<'a, B: DrawingBackend>(
    area: &'a DrawingArea<B, Shift>,
    title: &str,
    last: f64,
    top: f64,
) -> Result<Plane<'a, B>, Box<dyn std::error::Error>>
where
    B::ErrorType: 'static,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..last, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("Step")
        .x_labels(9)
        .y_labels(6)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.2}"))
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .draw()?;
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: &str = r#"{"event":"start","run":{}}
{"event":"step","step":1,"loss":2.0,"learning_rate":0.1}
{"event":"step","step":2,"loss":1.0,"learning_rate":0.1}
{"event":"evaluation","step":2,"metrics":{"cpm":0.5,"threshold_at_2":0.9}}
{"event":"step","step":3,"loss":9.0,"learning_rate":0.1}
{"event":"resume","step":2}
{"event":"step","step":3,"loss":0.5,"learning_rate":0.1}
{"event":"evaluation","step":3,"metrics":{"cpm":0.75}}"#;

    #[test]
    fn steps_that_a_resumed_run_repeats_are_drawn_once() {
        let curves = Curves::read(JOURNAL, &["cpm"]);
        assert_eq!(curves.losses, [(1.0, 2.0), (2.0, 1.0), (3.0, 0.5)]);
        assert_eq!(curves.held_out, [("cpm".to_owned(), vec![(2.0, 0.5), (3.0, 0.75)])]);
    }

    #[test]
    fn the_figure_names_run_axes_and_newest_value() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("journal.jsonl"), JOURNAL).unwrap();
        draw(folder.path(), "demo on phantom (SYNTHETIC)", &["cpm"]).unwrap();
        let svg = fs::read_to_string(folder.path().join("curves.svg")).unwrap();
        for word in ["demo on phantom (SYNTHETIC)", "training loss", "Held-out scans", "cpm 0.750", "Step"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(folder.path().join("curves.png").exists());
    }
}
