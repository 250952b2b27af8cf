//! One look for all figures: SVG and PNG from the same drawing, with a font, a size and colours of their own.
//!
//! What a figure shows is its owner's business; this crate knows how it looks and how it is written.

use plotters::coord::{Shift, types::RangedCoordf64};
use plotters::prelude::*;
use std::path::Path;

mod fonts;

pub use fonts::FONT;

/// Width and height in pixels.
pub const SIZE: (u32, u32) = (960, 640);
/// Colours that stay apart for colour-blind readers (Okabe and Ito 2008): the first choice,
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
/// the second,
pub const ORANGE: RGBColor = RGBColor(213, 94, 0);
/// the third,
pub const GREEN: RGBColor = RGBColor(0, 158, 115);
/// and what things are compared with.
pub const GREY: RGBColor = RGBColor(90, 90, 90);
/// For more series than three, first choice first; the same authors' colours, without the yellow that white swallows.
pub const PALETTE: [RGBColor; 6] =
    [BLUE, ORANGE, GREEN, RGBColor(204, 121, 167), RGBColor(86, 180, 233), RGBColor(230, 159, 0)];

/// What a drawing comes to.
pub type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A chart with two linear axes.
pub type Plane<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Something that can be drawn.
pub trait Figure {
    /// Draws on a white sheet of [`SIZE`].
    ///
    /// # Errors
    /// What the drawing backend says.
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static;
}

/// A figure on paper.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// As it stands in `name.svg`.
    pub svg: String,
    /// Whether `name.png` is there: not where no font of this machine has all of its letters. The SVG's reader has one.
    pub png: bool,
}

/// Writes `folder/name.svg` and `folder/name.png`; gives the SVG.
///
/// # Errors
/// A folder that cannot be written to, or what the drawing backend says.
pub fn save(figure: &impl Figure, folder: &Path, name: &str) -> Result<String, Box<dyn std::error::Error>> {
    fonts::register();
    let png = folder.join(format!("{name}.png"));
    sheet(figure, &BitMapBackend::new(&png, SIZE).into_drawing_area())?;
    let svg = svg(figure, SIZE)?;
    std::fs::write(folder.join(format!("{name}.svg")), &svg)?;
    Ok(svg)
}

/// As [`save`], for labels in any language: `figure` draws with the font family that it is given, the shipped one where it
/// has all letters, else one of the machine. The size is that of the sheet in pixels.
///
/// # Errors
/// As [`save`].
pub fn save_in_any_script<F: Figure>(
    figure: impl Fn(&'static str) -> F,
    size: (u32, u32),
    folder: &Path,
    name: &str,
) -> Result<Drawing, Box<dyn std::error::Error>> {
    fonts::register();
    let first = svg(&figure(FONT), size)?;
    let letters = first.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let family = fonts::family_for(&letters);
    let drawn = match family {
        Some(FONT) | None => first,
        Some(other) => svg(&figure(other), size)?,
    };
    let svg = fonts::for_browsers(&drawn, family == Some(FONT));
    let png = folder.join(format!("{name}.png"));
    match family {
        Some(family) => sheet(&figure(family), &BitMapBackend::new(&png, size).into_drawing_area())?,
        // What an earlier run left is another figure.
        None => _ = std::fs::remove_file(&png),
    }
    std::fs::write(folder.join(format!("{name}.svg")), &svg)?;
    Ok(Drawing { svg, png: family.is_some() })
}

/// Draws on pixels, rows from the top, three bytes each.
///
/// # Errors
/// What the drawing backend says.
pub fn onto(figure: &impl Figure, pixels: &mut [u8], size: (u32, u32)) -> Drawn {
    fonts::register();
    let area = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
    figure.paint(&area)?;
    area.present()?;
    Ok(())
}

fn svg(figure: &impl Figure, size: (u32, u32)) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    sheet(figure, &SVGBackend::with_string(&mut svg, size).into_drawing_area())?;
    Ok(svg)
}

fn sheet<B: DrawingBackend>(figure: &impl Figure, area: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    figure.paint(area)?;
    area.present()?;
    Ok(())
}

/// Axes from the origin to `last` along x, in whole numbers, and to `top` along y.
///
/// # Errors
/// What the drawing backend says.
pub fn plane<'a, B: DrawingBackend>(
    area: &'a DrawingArea<B, Shift>,
    title: &str,
    (x_name, last): (&str, f64),
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
        .x_desc(x_name)
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

/// A line with its name for the legend.
///
/// # Errors
/// What the drawing backend says.
pub fn line<'a, B: DrawingBackend + 'a>(
    chart: &mut Plane<'a, B>,
    points: impl IntoIterator<Item = (f64, f64)>,
    colour: RGBColor,
    name: String,
) -> Drawn
where
    B::ErrorType: 'static,
{
    chart
        .draw_series(LineSeries::new(points, colour.stroke_width(3)))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], colour.stroke_width(3)));
    Ok(())
}

/// The box that names the series.
///
/// # Errors
/// What the drawing backend says.
pub fn legend<'a, B: DrawingBackend + 'a>(chart: &mut Plane<'a, B>, position: SeriesLabelPosition) -> Drawn
where
    B::ErrorType: 'static,
{
    legend_in(chart, position, FONT)
}

/// [`legend`] in a font family of choice.
///
/// # Errors
/// What the drawing backend says.
pub fn legend_in<'a, B: DrawingBackend + 'a>(
    chart: &mut Plane<'a, B>,
    position: SeriesLabelPosition,
    font: &str,
) -> Drawn
where
    B::ErrorType: 'static,
{
    chart
        .configure_series_labels()
        .position(position)
        .margin(14)
        .legend_area_size(34)
        .background_style(WHITE.mix(0.9))
        .border_style(GREY.mix(0.4))
        .label_font((font, 17))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line;

    impl Figure for Line {
        fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
        where
            B::ErrorType: 'static,
        {
            let mut chart = ChartBuilder::on(area).build_cartesian_2d(0.0..1.0f64, 0.0..1.0f64)?;
            let line = LineSeries::new([(0.0, 0.0), (1.0, 1.0)], BLUE.stroke_width(3));
            chart.draw_series(line)?.label("rising").legend(|at| Circle::new(at, 3, BLUE.filled()));
            legend(&mut chart, SeriesLabelPosition::LowerRight)
        }
    }

    /// A word in the middle.
    struct Word(&'static str, &'static str);

    impl Figure for Word {
        fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
        where
            B::ErrorType: 'static,
        {
            area.draw(&Text::new(self.0, (100, 100), (self.1, 20).into_font()))?;
            Ok(())
        }
    }

    #[test]
    fn a_word_without_a_font_is_left_to_the_reader_of_the_svg() {
        let folder = tempfile::tempdir().unwrap();
        let png = folder.path().join("word.png");
        let save = |word| save_in_any_script(|font| Word(word, font), (300, 200), folder.path(), "word").unwrap();
        let latin = save("nodule & co");
        assert!(latin.png && png.exists() && latin.svg.contains("font-family=\"sans-serif\""));
        // A private-use code point that no font has: no PNG with a box in it, nor the one of before.
        let none = save("\u{f8d0}");
        assert!(!none.png && !png.exists() && none.svg.contains('\u{f8d0}'));
        // On a machine with a Chinese font there is a PNG, on others there is not; the SVG is there always.
        let chinese = save("肺结节");
        assert_eq!(chinese.png, png.exists());
        assert!(chinese.svg.contains("肺结节") && chinese.svg.contains("Noto Sans CJK SC"));
    }

    #[test]
    fn a_mark_is_drawn_on_pixels_that_are_there() {
        let mut pixels = vec![7u8; 3 * 40 * 30];
        onto(&Word("x", FONT), &mut pixels, (40, 30)).unwrap(); // outside: nothing changes
        assert!(pixels.iter().all(|p| *p == 7));
    }

    #[test]
    fn both_files_hold_the_same_drawing() {
        let folder = tempfile::tempdir().unwrap();
        let svg = save(&Line, folder.path(), "line").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("line.svg")).unwrap(), svg);
        assert!(svg.contains("rising") && svg.contains("#0072B2"));
        let png = std::fs::read(folder.path().join("line.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
        assert_eq!(png[16..24], [0, 0, 3, 192, 0, 0, 2, 128]); // 960 by 640, big endian
    }
}
