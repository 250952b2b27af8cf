//! The curves of several runs over each other: training loss above, the figure that decides below.

use lungai_figures::{Drawn, Figure, PALETTE, legend, line, plane, save};
use lungai_runs::{Run, selector, smoothed};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// File name without extension.
pub const NAME: &str = "compare";

/// What is drawn.
pub struct Sheet<'a> {
    pub runs: &'a [Run],
    /// One a run.
    pub names: &'a [String],
    /// What the reader must not miss.
    pub warning: Option<String>,
}

/// Writes `compare.svg` and `compare.png`.
pub fn draw(sheet: &Sheet, out: &Path) -> Result<(), String> {
    if sheet.runs.len() > PALETTE.len() {
        return Err(format!("{} runs are too many for one figure; draw {} at most", sheet.runs.len(), PALETTE.len()));
    }
    save(sheet, out, NAME).map(|_| ()).map_err(|error| error.to_string())
}

impl Sheet<'_> {
    /// Run, its name and its colour.
    fn each(&self) -> impl Iterator<Item = (&Run, &String, RGBColor)> {
        self.runs.iter().zip(self.names).zip(PALETTE).map(|((run, name), colour)| (run, name, colour))
    }

    fn title(&self) -> String {
        let synthetic = self.runs.iter().filter(|run| run.record.synthetic).count();
        let mark = match synthetic {
            0 => "",
            all if all == self.runs.len() => " (SYNTHETIC)",
            _ => " (partly SYNTHETIC)",
        };
        let warning = self.warning.as_ref().map_or(String::new(), |warning| format!(". {warning}"));
        format!("Training loss{mark}{warning}")
    }
}

impl Figure for Sheet<'_> {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let (above, below) = area.split_vertically(310);
        let last = self.runs.iter().map(|run| run.history.step).max().unwrap_or(1).max(1) as f64;
        let curves: Vec<Vec<(u64, f64)>> = self.runs.iter().map(|run| smoothed(&run.history.losses)).collect();
        let top = curves.iter().flatten().map(|point| point.1).filter(|loss| loss.is_finite()).fold(0.0, f64::max);
        let mut chart = plane(&above, &self.title(), ("Step", last), (top * 1.05).max(1e-6))?;
        for ((run, name, colour), curve) in self.each().zip(&curves) {
            let mark = if run.record.synthetic { " (SYNTHETIC)" } else { "" };
            line(&mut chart, plain(curve), colour, format!("{name}{mark}"))?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperRight)?;

        let mut chart = plane(&below, "Held-out scans", ("Step", last), 1.02)?;
        for (run, name, colour) in self.each() {
            let Some(figure) = selector(run.network()) else { continue };
            let points = run.history.figure(figure);
            let Some((_, newest)) = points.last() else { continue };
            chart.draw_series(plain(&points).map(|at| Circle::new(at, 5, colour.filled())))?;
            line(&mut chart, plain(&points), colour, format!("{name}: {figure} {newest:.3}"))?;
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }
}

/// Steps as plain numbers; a figure without a value is no point.
fn plain(points: &[(u64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    points.iter().filter(|point| point.1.is_finite()).map(|(step, value)| (*step as f64, *value))
}
