//! `overview.png`: the scan at a glance, with lung borders and findings.

use lungai_ct::{Finding, LabelMap, Lung, Volume, VoxelIndex, WorldPoint};
use std::io::{Result, Write};
use std::path::Path;

/// Side of one tile in pixels.
const TILE: usize = 320;
/// Tiles beside each other.
const COLUMNS: usize = 4;
/// Lung window: HU that are black and white.
const WINDOW: (f64, f64) = (-1350.0, 150.0);
const RIGHT: [u8; 3] = [86, 180, 233];
const LEFT: [u8; 3] = [230, 159, 0];
const MARK: [u8; 3] = [240, 228, 66];

/// Which plane a tile shows, in patient coordinates.
#[derive(Clone, Copy)]
enum Plane {
    /// Seen from the feet: the patient's right is on the left of the picture.
    Axial,
    /// Seen from the front.
    Coronal,
}

/// Draws a coronal overview, then an axial tile through each of the first findings; without findings axial tiles at
/// quarters of the lungs' height.
pub fn write(path: &Path, volume: &Volume, lungs: &LabelMap, findings: &[Finding]) -> Result<()> {
    let centre = centre_of(lungs);
    let mut tiles = vec![(Plane::Coronal, centre)];
    if findings.is_empty() {
        let (low, high) = extent_z(lungs);
        tiles.extend(
            [0.25, 0.5, 0.75]
                .map(|share| (Plane::Axial, WorldPoint([centre.0[0], centre.0[1], low + share * (high - low)]))),
        );
    } else {
        tiles.extend(
            findings
                .iter()
                .take(2 * COLUMNS - 1)
                .map(|finding| (Plane::Axial, WorldPoint([centre.0[0], centre.0[1], finding.position.0[2]]))),
        );
    }
    let rows = tiles.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS * TILE, rows * TILE);
    let mut picture = vec![0u8; width * height * 3];
    for (number, (plane, at)) in tiles.into_iter().enumerate() {
        let corner = (number % COLUMNS * TILE, number / COLUMNS * TILE);
        let mut put = |x: usize, y: usize, colour: [u8; 3]| {
            let at = 3 * ((corner.1 + y) * width + corner.0 + x);
            picture[at..at + 3].copy_from_slice(&colour);
        };
        draw(plane, at, volume, lungs, findings, &mut put);
    }
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
    }
}

/// Middle of the lungs' bounding box; of the grid where there are none.
fn centre_of(lungs: &LabelMap) -> WorldPoint {
    let grid = lungs.geometry();
    let [nz, ny, nx] = grid.size();
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    for ((z, y, x), label) in lungs.labels().indexed_iter() {
        if *label != 0 {
            for (i, v) in [z, y, x].into_iter().enumerate() {
                low[i] = low[i].min(v);
                high[i] = high[i].max(v);
            }
        }
    }
    let middle =
        if low[0] == usize::MAX { [nz / 2, ny / 2, nx / 2] } else { std::array::from_fn(|i| (low[i] + high[i]) / 2) };
    grid.centre_of(VoxelIndex(middle))
}

/// Lowest and highest slice with lung in mm; of the grid where there is none.
fn extent_z(lungs: &LabelMap) -> (f64, f64) {
    let grid = lungs.geometry();
    let height = |z: usize| grid.centre_of(VoxelIndex([z, 0, 0])).0[2];
    let with_lung: Vec<usize> = lungs
        .labels()
        .outer_iter()
        .enumerate()
        .filter(|(_, slice)| slice.iter().any(|l| *l != 0))
        .map(|(z, _)| z)
        .collect();
    let (first, last) = match (with_lung.first(), with_lung.last()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => (0, grid.size()[0] - 1),
    };
    (height(first), height(last))
}

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
