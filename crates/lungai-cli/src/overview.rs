//! `overview.png`: the scan at a glance, with lung borders and findings.

use lungai_ct::{Finding, LabelMap, Lung, Volume, VoxelIndex, VoxelPoint, WorldPoint};
use std::io::{Result, Write};
use std::path::Path;

/// Side of one tile in pixels.
const TILE: usize = 320;
/// Height of the line of text below the tiles.
const FOOTER: usize = 22;
/// Tiles beside each other.
const COLUMNS: usize = 4;
/// Lung window: HU that are black and white.
const WINDOW: (f64, f64) = (-1350.0, 150.0);
const RIGHT: [u8; 3] = [86, 180, 233];
const LEFT: [u8; 3] = [230, 159, 0];
const MARK: [u8; 3] = [240, 228, 66];

/// Which plane a tile shows, in patient coordinates.
#[derive(Clone, Copy, PartialEq)]
enum Plane {
    /// Seen from the feet: the patient's right is on the left of the picture.
    Axial,
    /// Seen from the front.
    Coronal,
}

/// Draws a coronal overview, then an axial tile through each of the first findings, each marked with its id; without findings axial tiles at
/// quarters of the lungs' height. The line at the bottom says what kind of model looked.
pub fn write(path: &Path, volume: &Volume, lungs: &LabelMap, findings: &[Finding], synthetic: bool) -> Result<()> {
    let grid = volume.geometry();
    let middle = grid.to_world(VoxelPoint(grid.size().map(|n| (n as f64 - 1.0) / 2.0)));
    let axial = |z: f64| (Plane::Axial, WorldPoint([middle.0[0], middle.0[1], z]));
    let [low, centre, high] = extent(lungs).unwrap_or([middle; 3]);
    let mut tiles = vec![(Plane::Coronal, WorldPoint([middle.0[0], centre.0[1], middle.0[2]]))];
    if findings.is_empty() {
        tiles.extend([0.25, 0.5, 0.75].map(|share| axial(low.0[2] + share * (high.0[2] - low.0[2]))));
    }
    for finding in findings {
        let z = finding.position.0[2];
        let shown = |(plane, at): &(Plane, WorldPoint)| *plane == Plane::Axial && (at.0[2] - z).abs() < 2.0;
        if tiles.len() < 2 * COLUMNS && !tiles.iter().any(shown) {
            tiles.push(axial(z));
        }
    }
    let rows = tiles.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS * TILE, rows * TILE + FOOTER);
    let mut picture = vec![0u8; width * height * 3];
    for (number, (plane, at)) in tiles.into_iter().enumerate() {
        let corner = (number % COLUMNS * TILE, number / COLUMNS * TILE);
        let mut put = |x: usize, y: usize, colour: [u8; 3]| {
            let at = 3 * ((corner.1 + y) * width + corner.0 + x);
            picture[at..at + 3].copy_from_slice(&colour);
        };
        draw(plane, at, volume, lungs, findings, &mut put);
    }
    let words =
        if synthetic { "MODEL TRAINED ON SYNTHETIC DATA - NOT FOR CLINICAL USE" } else { "NOT FOR CLINICAL USE" };
    write_words(words, |x, y| {
        let at = 3 * ((rows * TILE + 4 + y) * width + 8 + x);
        picture[at..at + 3].copy_from_slice(&[255; 3]);
    });
    let mut bytes = Vec::new();
    encode(&mut bytes, width as u32, height as u32, &picture)?;
    let draft = path.with_extension("png.part");
    std::fs::write(&draft, bytes)?;
    std::fs::rename(&draft, path)
}

fn draw(
    plane: Plane,
    at: WorldPoint,
    volume: &Volume,
    lungs: &LabelMap,
    findings: &[Finding],
    put: &mut impl FnMut(usize, usize, [u8; 3]),
) {
    let extent = volume.geometry().extent_mm();
    let pixel_mm = extent.into_iter().fold(0.0, f64::max) / TILE as f64;
    // Picture axes in the patient: rightwards is towards the left, downwards to the back or to the feet.
    let world = |x: f64, y: f64| {
        let (dx, dy) = ((x - TILE as f64 / 2.0) * pixel_mm, (y - TILE as f64 / 2.0) * pixel_mm);
        match plane {
            Plane::Axial => WorldPoint([at.0[0] + dx, at.0[1] + dy, at.0[2]]),
            Plane::Coronal => WorldPoint([at.0[0] + dx, at.0[1], at.0[2] - dy]),
        }
    };
    let label = |x: f64, y: f64| lungs.geometry().voxel_at(world(x, y)).map_or(0, |index| lungs.at(index));
    for y in 0..TILE {
        for x in 0..TILE {
            let (fx, fy) = (x as f64 + 0.5, y as f64 + 0.5);
            let Some(VoxelIndex(index)) = volume.geometry().voxel_at(world(fx, fy)) else { continue };
            let share = (f64::from(volume.hu()[index]) - WINDOW.0) / (WINDOW.1 - WINDOW.0);
            let grey = (share.clamp(0.0, 1.0) * 255.0) as u8;
            let here = label(fx, fy);
            let border = here != 0
                && (label(fx + 1.0, fy) != here
                    || label(fx, fy + 1.0) != here
                    || label(fx - 1.0, fy) != here
                    || label(fx, fy - 1.0) != here);
            let colour = match here {
                l if border && l == Lung::Right as u8 => RIGHT,
                l if border && l == Lung::Left as u8 => LEFT,
                _ => [grey; 3],
            };
            put(x, y, colour);
        }
    }
    let mut taken = Vec::new();
    for finding in findings {
        let [dx, dy, dz] = std::array::from_fn(|i| finding.position.0[i] - at.0[i]);
        let radius_mm = finding.diameter_mm / 2.0;
        let (across, down, off) = match plane {
            Plane::Axial => (dx, dy, dz),
            Plane::Coronal => (dx, -dz, dy),
        };
        // The coronal tile shows all findings, wherever in depth they lie; an axial tile those that it cuts.
        if matches!(plane, Plane::Axial) && off.abs() > radius_mm.max(2.0) {
            continue;
        }
        let (cx, cy) = (across / pixel_mm + TILE as f64 / 2.0, down / pixel_mm + TILE as f64 / 2.0);
        let radius = radius_mm / pixel_mm + 5.0; // a gap, so that the mark does not hide what it marks
        let steps = (radius * 8.0) as usize;
        for step in 0..steps {
            let (sin, cos) = (step as f64 / steps as f64 * std::f64::consts::TAU).sin_cos();
            let (x, y) = ((cx + radius * cos).round(), (cy + radius * sin).round());
            if (0.0..TILE as f64).contains(&x) && (0.0..TILE as f64).contains(&y) {
                put(x as usize, y as usize, MARK);
            }
        }
        if (0.0..TILE as f64).contains(&cx) && (0.0..TILE as f64).contains(&cy) {
            let words = finding.id.to_string();
            let (x, y) = free_place((cx, cy), radius, ADVANCE * words.len(), &taken);
            taken.push((x, y, ADVANCE * words.len()));
            write_words(&words, |dx, dy| put(x + dx, y + dy, MARK));
        }
    }
}

/// Where a number of this width beside a circle covers no other number: above and to the right if that is free.
///
/// - `taken`: corners and widths of the numbers that are there
fn free_place(centre: (f64, f64), radius: f64, width: usize, taken: &[(usize, usize, usize)]) -> (usize, usize) {
    let (aside, height) = (0.7 * radius + 3.0, HEIGHT as f64);
    let columns = [aside, -aside - width as f64];
    let rows = [-aside - height, aside, -aside - 2.0 * height, aside + height];
    // As far as the tile goes.
    let within = |value: f64, size: usize| value.clamp(0.0, TILE.saturating_sub(size) as f64) as usize;
    let place = |dx: f64, dy: f64| (within(centre.0 + dx, width), within(centre.1 + dy, HEIGHT));
    let mut places = rows.into_iter().flat_map(|dy| columns.map(|dx| place(dx, dy)));
    let free = |(x, y): &(usize, usize)| {
        taken.iter().all(|(tx, ty, tw)| x + width <= *tx || tx + tw <= *x || y + HEIGHT <= *ty || ty + HEIGHT <= *y)
    };
    places.find(free).unwrap_or(place(columns[0], rows[0]))
}

/// Lowest corner, middle and highest corner of the lungs' bounding box; `None` where there are none.
fn extent(lungs: &LabelMap) -> Option<[WorldPoint; 3]> {
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for ((z, y, x), label) in lungs.labels().indexed_iter() {
        if *label != 0 {
            for (i, v) in [z, y, x].into_iter().enumerate() {
                low[i] = low[i].min(v as f64);
                high[i] = high[i].max(v as f64);
            }
        }
    }
    let middle = std::array::from_fn(|i| (low[i] + high[i]) / 2.0);
    low[0].is_finite().then(|| [low, middle, high].map(|at| lungs.geometry().to_world(VoxelPoint(at))))
}

/// From one letter to the next, pixels.
const ADVANCE: usize = 12;
/// Of a letter, pixels.
const HEIGHT: usize = 14;

/// Writes with the few letters that are needed, 5 x 7 dots of 2 pixels each.
fn write_words(words: &str, mut put: impl FnMut(usize, usize)) {
    for (number, letter) in words.chars().enumerate() {
        let Some((_, rows)) = LETTERS.iter().find(|(l, _)| *l == letter) else { continue };
        for (y, row) in rows.iter().enumerate() {
            for x in (0..5).filter(|x| row >> (4 - x) & 1 == 1) {
                for (dx, dy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    put(ADVANCE * number + 2 * x + dx, 2 * y + dy);
                }
            }
        }
    }
}

/// Rows from the top, the leftmost dot is the highest of five bits.
const LETTERS: [(char, [u8; 7]); 27] = [
    ('-', [0, 0, 0, 0b11111, 0, 0, 0]),
    ('0', [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110]),
    ('1', [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('2', [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111]),
    ('3', [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110]),
    ('4', [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110]),
    ('6', [0b01110, 0b10000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00100, 0b00100, 0b01000, 0b01000]),
    ('8', [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110]),
    ('9', [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00001, 0b01110]),
    ('A', [0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001]),
    ('C', [0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110]),
    ('D', [0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110]),
    ('E', [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111]),
    ('F', [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000]),
    ('H', [0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001]),
    ('I', [0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('L', [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111]),
    ('M', [0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001]),
    ('N', [0b10001, 0b11001, 0b10101, 0b10011, 0b10001, 0b10001, 0b10001]),
    ('O', [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('R', [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001]),
    ('S', [0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110]),
    ('T', [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100]),
    ('U', [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('Y', [0b10001, 0b10001, 0b01010, 0b00100, 0b00100, 0b00100, 0b00100]),
];

/// PNG with 8-bit RGB.
fn encode(out: &mut impl Write, width: u32, height: u32, rgb: &[u8]) -> Result<()> {
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lungai_ct::{Characteristics, Geometry, Malignancy, Spacing};
    use ndarray::Array3;

    #[test]
    fn a_mark_with_the_number_of_its_finding_lies_round_it_and_lungs_have_their_colours() {
        // 320 mm in each direction: one pixel of a tile is one millimetre.
        let grid = Geometry::new([32, 32, 32], Spacing::new([10.0; 3]).unwrap(), WorldPoint([5.0; 3]), Geometry::AXIAL)
            .unwrap();
        let volume = Volume::new(Array3::zeros((32, 32, 32)), grid.clone()).unwrap();
        let labels = Array3::from_shape_fn((32, 32, 32), |(_, _, x)| if x < 16 { 1 } else { 2 });
        let lungs = LabelMap::new(labels, grid).unwrap();
        let finding = Finding {
            id: 1,
            position: WorldPoint([100.5, 60.5, 160.0]),
            size_mm: [10.0; 3],
            diameter_mm: 10.0,
            volume_mm3: 523.6,
            score: 0.9,
            malignancy: Malignancy::from_probability(0.5),
            characteristics: Characteristics::default(),
        };
        let mut drawn = std::collections::HashMap::new();
        draw(Plane::Axial, WorldPoint([160.0; 3]), &volume, &lungs, &[finding], &mut |x, y, colour| {
            drawn.insert((x, y), colour);
        });
        for (x, y) in [(90, 60), (110, 60), (100, 50), (100, 70)] {
            let near = (-1i32..=1).flat_map(|dx| (-1i32..=1).map(move |dy| (x + dx, y + dy)));
            assert!(near.into_iter().any(|(x, y)| drawn[&(x as usize, y as usize)] == MARK), "{x} {y}");
        }
        assert_ne!(drawn[&(100, 60)], MARK);
        // A second finding at the same place has its number on the left.
        let first = free_place((100.5, 60.5), 10.0, ADVANCE, &[]);
        assert_eq!(free_place((100.5, 60.5), 10.0, ADVANCE, &[(first.0, first.1, ADVANCE)]), (78, 36));
        // The number 1 above and to the right: its upright is the third of five columns of dots.
        let upright = |x: usize| (36..50).filter(|y| drawn[&(x, *y)] == MARK).count();
        assert_eq!((0..10).map(|dx| upright(110 + dx)).max(), Some(14));
        assert_eq!((drawn[&(159, 10)], drawn[&(160, 10)]), (RIGHT, LEFT)); // the patient's right is on the left
    }
}
