//! Learning curves, drawn from the journal: training loss above, figures on the held-out scans below.

use lungai_figures::{BLUE, Drawn, Figure, GREEN, GREY, ORANGE, legend, line, plane, save};
use lungai_runs::{CURVES, History, read_journal, smoothed};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

struct Sheet<'a> {
    title: &'a str,
    history: &'a History,
    plotted: &'a [&'a str],
}

/// Draws `curves.svg` and `curves.png` beside the journal.
///
/// - `title`: run and data set
/// - `plotted`: the held-out figures to show, each within `0..=1`
///
/// # Errors
/// A journal that cannot be read.
pub fn draw(folder: &Path, title: &str, plotted: &[&str]) -> anyhow::Result<()> {
    let history = History::of(&read_journal(folder)?.lines);
    save(&Sheet { title, history: &history, plotted }, folder, CURVES)
        .map_err(|error| anyhow::anyhow!("{CURVES}: {error}"))?;
    Ok(())
}

/// What is plotted: steps as plain numbers.
fn plain(points: &[(u64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    points.iter().map(|(step, value)| (*step as f64, *value))
}

impl Figure for Sheet<'_> {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let losses = &self.history.losses;
        let last = losses.last().map_or(1, |point| point.0).max(1) as f64;
        let (above, below) = area.split_vertically(310);

        let smooth = smoothed(losses);
        let top = smooth.iter().map(|point| point.1).fold(0.0, f64::max) * 1.15;
        let mut chart = plane(&above, self.title, ("Step", last), top.max(1e-6))?;
        let shown = plain(losses).map(|(step, loss)| (step, loss.min(top)));
        chart.draw_series(LineSeries::new(shown, GREY.mix(0.35)))?;
        line(&mut chart, plain(&smooth), BLUE, "training loss, smoothed".into())?;
        legend(&mut chart, SeriesLabelPosition::UpperRight)?;

        let mut chart = plane(&below, "Held-out scans", ("Step", last), 1.02)?;
        for (name, colour) in self.plotted.iter().zip([ORANGE, BLUE, GREEN]) {
            let points = self.history.figure(name);
            let Some((_, newest)) = points.last() else { continue };
            chart.draw_series(plain(&points).map(|at| Circle::new(at, 5, colour.filled())))?;
            line(&mut chart, plain(&points), colour, format!("{} {newest:.3}", name.replace('_', " ")))?;
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const JOURNAL: &str = r#"{"event":"start","experiment":{},"run":{"data":{"name":"d","manifest_sha256":"0"},"synthetic":true,"device":"cpu","threads":1,"precision":"f32","code":{"commit":"unknown","dirty":false,"lock_sha256":"0","toolchain":"unknown"}}}
{"event":"step","step":1,"loss":2.0,"learning_rate":0.1}
{"event":"step","step":2,"loss":1.0,"learning_rate":0.1}
{"event":"evaluation","step":2,"metrics":{"cpm":0.75,"threshold_at_2":0.9}}
"#;

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
