//! What the system missed and what it took for a nodule: the worst of both, as slices to look at.

use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::record::ScanRecord;
use crate::results::operated;
use lungai_ct::{Volume, WorldPoint};
use lungai_figures::{Drawn, FONT, Figure, onto};
use lungai_imaging::{axial, patch};
use lungai_metrics::matching::MarkOutcome;
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::Serialize;

/// Each kind has at most so many.
pub const OF_EACH: usize = 6;
/// Edge of a slice in mm.
pub const EDGE_MM: f64 = 48.0;
/// Lung window in HU.
pub const WINDOW: [f32; 2] = [-1350.0, 150.0];

/// Pixels per mm.
const SCALE: usize = 4;
/// Edge of a slice in pixels; odd, so that one is the middle.
const EDGE: usize = EDGE_MM as usize * SCALE + 1;
const GAP: usize = 6;
const WIDTH: usize = 3 * EDGE + 2 * GAP;

/// A nodule that was missed, or a mark on nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wrong {
    /// Case.
    pub case: String,
    /// Its centre.
    pub centre: String,
    /// Patient LPS mm.
    pub position_lps_mm: [f64; 3],
    /// Of the reference nodule, or as the system measured it, where it did.
    pub diameter_mm: Option<f64>,
    /// Which of the two.
    #[serde(flatten)]
    pub what: What,
}

/// Which of the two.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "failure", rename_all = "kebab-case")]
pub enum What {
    /// A scored nodule without a mark at the operating point.
    Missed {
        /// Attenuation class.
        kind: Option<String>,
        /// Highest score of a mark on it, below the operating point.
        best_score: Option<f64>,
    },
    /// A mark at the operating point on no finding of the reference standard.
    FalsePositive {
        /// Its score.
        score: f64,
    },
}

/// Slices through the place of a failure.
#[derive(Debug, Clone)]
pub struct Slices {
    /// File name in the report's folder.
    pub file: String,
    /// The file itself.
    pub png: Vec<u8>,
}

/// The largest missed nodules, then the false positives of highest score.
///
/// # Errors
/// A position or score that is no number.
pub fn worst(protocol: &Protocol, records: &[ScanRecord], threshold: f64) -> Result<Vec<Wrong>, Failure> {
    let (mut missed, mut false_positives) = (Vec::new(), Vec::new());
    for record in records {
        let matched = operated(protocol, record, &record.marks)?;
        let wrong = |position_lps_mm, diameter_mm, what| Wrong {
            case: record.case.clone(),
            centre: record.centre.clone(),
            position_lps_mm,
            diameter_mm,
            what,
        };
        for (place, best) in &matched.nodules {
            let best_score = best.map(|mark| record.marks[mark].score);
            if best_score.is_none_or(|score| score < threshold) {
                let nodule = &record.nodules[*place];
                let what = What::Missed { kind: nodule.kind.clone(), best_score };
                missed.push(wrong(nodule.position_lps_mm, Some(nodule.diameter_mm), what));
            }
        }
        for (mark, outcome) in record.marks.iter().zip(&matched.outcomes) {
            if *outcome == MarkOutcome::FalsePositive && mark.score >= threshold {
                let what = What::FalsePositive { score: mark.score };
                false_positives.push((mark.score, wrong(mark.position_lps_mm, mark.diameter_mm, what)));
            }
        }
    }
    missed.sort_by(|a, b| b.diameter_mm.unwrap_or(0.0).total_cmp(&a.diameter_mm.unwrap_or(0.0)));
    false_positives.sort_by(|a, b| b.0.total_cmp(&a.0));
    missed.truncate(OF_EACH);
    missed.extend(false_positives.into_iter().take(OF_EACH).map(|(_, wrong)| wrong));
    Ok(missed)
}

/// The axial, coronal and sagittal slice through the place side by side as PNG, seen as radiologists do (the patient's left
/// is on the right), with a ring round it: solid round a missed nodule, broken round a false positive.
pub fn picture(volume: &Volume, wrong: &Wrong, synthetic: bool) -> Vec<u8> {
    let upright = axial(volume);
    let centre = WorldPoint(wrong.position_lps_mm);
    let mut pixels = vec![0u8; 3 * WIDTH * EDGE];
    let spacing = 1.0 / SCALE as f64;
    for (panel, size) in [[1, EDGE, EDGE], [EDGE, 1, EDGE], [EDGE, EDGE, 1]].into_iter().enumerate() {
        let slice = patch(&upright, centre, size, spacing);
        for row in 0..EDGE {
            for column in 0..EDGE {
                // Slices ascend towards the head, which is up.
                let up = EDGE - 1 - row;
                let hu = match panel {
                    0 => slice[[0, row, column]],
                    1 => slice[[up, 0, column]],
                    _ => slice[[up, column, 0]],
                };
                let share = (hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0]);
                let at = 3 * (row * WIDTH + panel * (EDGE + GAP) + column);
                pixels[at..at + 3].fill((255.0 * share.clamp(0.0, 1.0)) as u8);
            }
        }
        ring(&mut pixels, panel * (EDGE + GAP), wrong);
    }
    let drawn = onto(&Labels { synthetic }, &mut pixels, (WIDTH as u32, EDGE as u32));
    assert!(drawn.is_ok(), "letters fit on the slices");
    encoded(&pixels)
}

/// A ring 2 mm outside of the nodule, so that it hides nothing; 5 mm wide where its size is not known.
fn ring(pixels: &mut [u8], left: usize, wrong: &Wrong) {
    let radius = (wrong.diameter_mm.unwrap_or(1.0) / 2.0 + 2.0) * SCALE as f64;
    let (colour, broken) = match wrong.what {
        What::Missed { .. } => ([255, 176, 0], false),
        What::FalsePositive { .. } => ([86, 200, 255], true),
    };
    let middle = (EDGE / 2) as f64;
    for row in 0..EDGE {
        for column in 0..EDGE {
            let (y, x) = (row as f64 - middle, column as f64 - middle);
            // Eight strokes and eight gaps.
            let gap = broken && (8.0 * y.atan2(x) / std::f64::consts::PI).rem_euclid(2.0) >= 1.0;
            if ((x * x + y * y).sqrt() - radius).abs() < 0.9 && !gap {
                let at = 3 * (row * WIDTH + left + column);
                pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }
}

/// Letters that radiologists know in any language, 10 mm, and where the images come from.
struct Labels {
    synthetic: bool,
}

impl Figure for Labels {
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let edge = EDGE as i32;
        let middle = edge / 2;
        let write = |text: &str, at: (i32, i32), size: i32| -> Drawn {
            // A shadow, for white on white.
            for (colour, by) in [(BLACK, 1), (WHITE, 0)] {
                area.draw(&Text::new(
                    text.to_owned(),
                    (at.0 + by, at.1 + by),
                    (FONT, size).into_font().color(&colour),
                ))?;
            }
            Ok(())
        };
        for (panel, [from, to, top]) in [["R", "L", "A"], ["R", "L", "H"], ["A", "P", "H"]].into_iter().enumerate() {
            let left = panel as i32 * (edge + GAP as i32);
            write(from, (left + 4, middle - 8), 16)?;
            write(to, (left + edge - 15, middle - 8), 16)?;
            write(top, (left + middle - 5, 3), 16)?;
            if self.synthetic {
                write("SYNTHETIC", (left + 5, edge - 19), 15)?;
            }
        }
        let (right, bottom) = (edge - 8, edge - 10);
        let bar = [(right - 10 * SCALE as i32, bottom), (right, bottom)];
        area.draw(&PathElement::new(bar, WHITE.stroke_width(3)))?;
        write("10 mm", (right - 41, bottom - 20), 14)?;
        Ok(())
    }
}

fn encoded(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH as u32, EDGE as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(pixels)?;
        writer.finish()
    });
    assert!(written.is_ok(), "memory takes any number of bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{protocol, records};
    use lungai_ct::{Geometry, Spacing};
    use lungai_trace::verifies;
    use ndarray::Array3;

    #[verifies("R-001")]
    #[test]
    fn the_largest_missed_nodules_come_first_then_the_surest_false_positives() {
        let wrong = worst(&protocol(), &records(), 0.5).unwrap();
        // Missed: 8 mm without a mark, 4 mm with one of 0.3; marks on nothing at 0.5: 0.7 and 0.55.
        let seen: Vec<(Option<f64>, &What)> = wrong.iter().map(|w| (w.diameter_mm, &w.what)).collect();
        let missed = |best_score| What::Missed { kind: Some("solid".into()), best_score };
        assert_eq!(
            seen,
            [
                (Some(8.0), &missed(None)),
                (Some(4.0), &missed(Some(0.3))),
                (Some(5.0), &What::FalsePositive { score: 0.7 }),
                (Some(5.0), &What::FalsePositive { score: 0.55 }),
            ]
        );
    }

    /// A bright ball of 8 mm to the left of the patient's middle, in air, on a grid whose x-index runs to the right.
    fn ball() -> (Volume, [f64; 3]) {
        let spacing = Spacing::new([2.0, 1.0, 1.0]).unwrap();
        let direction = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let geometry = Geometry::new([40, 80, 80], spacing, WorldPoint([40.0, -40.0, -40.0]), direction).unwrap();
        let middle = [20.0, 0.0, 0.0];
        let hu = Array3::from_shape_fn((40, 80, 80), |(z, y, x)| {
            let at = geometry.centre_of(lungai_ct::VoxelIndex([z, y, x]));
            if at.distance_mm(WorldPoint(middle)) <= 4.0 { 100 } else { -1000 }
        });
        (Volume::new(hu, geometry).unwrap(), middle)
    }

    fn decoded(png: &[u8]) -> Vec<u8> {
        let mut reader = png::Decoder::new(png).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    }

    #[test]
    fn a_nodule_lies_in_the_middle_of_three_slices_with_a_ring_round_it() {
        let (volume, position_lps_mm) = ball();
        let what = What::Missed { kind: None, best_score: None };
        let wrong = Wrong { case: "c".into(), centre: "x".into(), position_lps_mm, diameter_mm: Some(8.0), what };
        let pixels = decoded(&picture(&volume, &wrong, false));
        assert_eq!(pixels.len(), 3 * WIDTH * EDGE);
        for panel in 0..3 {
            let at = |down_mm: f64, right_mm: f64| {
                let [row, column] = [down_mm, right_mm].map(|mm| (EDGE as f64 / 2.0 + mm * SCALE as f64) as usize);
                let start = 3 * (row * WIDTH + panel * (EDGE + GAP) + column);
                <[u8; 3]>::try_from(&pixels[start..start + 3]).unwrap()
            };
            assert!(at(0.0, 0.0)[0] > 200, "the ball is white");
            assert!(at(0.0, 10.0)[0] < 80, "air is dark");
            assert_eq!(at(0.0, 6.0), [255, 176, 0], "the ring lies 2 mm outside of 4 mm");
        }
        // What comes from a phantom says so on each slice.
        assert_ne!(decoded(&picture(&volume, &wrong, true)), pixels);
    }

    #[test]
    fn the_left_of_the_patient_is_on_the_right_of_the_picture_whatever_the_grid() {
        let (volume, [x, y, z]) = ball();
        let what = What::FalsePositive { score: 0.9 };
        // 10 mm to the patient's right of the ball: the ball is right of the middle.
        let wrong = Wrong {
            case: "c".into(),
            centre: "x".into(),
            position_lps_mm: [x - 10.0, y, z],
            diameter_mm: Some(4.0),
            what,
        };
        let pixels = decoded(&picture(&volume, &wrong, false));
        let grey = |right_mm: f64| {
            let column = (EDGE as f64 / 2.0 + right_mm * SCALE as f64) as usize;
            pixels[3 * (EDGE / 2 * WIDTH + column)]
        };
        assert!(grey(10.0) > 200 && grey(-10.0) < 80);
    }
}
