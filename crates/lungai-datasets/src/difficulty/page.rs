//! A page of slices to look at: what no figure tells, an eye does.

use super::{see, spread};
use crate::recipe::Recipe;
use crate::{DatasetError, Split};
use lungai_ct::{Spacing, Volume};
use lungai_imaging::resample;
use std::path::Path;

/// Height and width of a picture in pixels of 1 mm.
const PICTURE: [usize; 2] = [300, 380];
/// Lung window.
const WINDOW: [f32; 2] = [-1350.0, 150.0];
/// Slices of the maximum intensity projection.
const THICK_MM: usize = 10;

/// Writes a PNG: a row for each test centre, with its first patient's axial slice through the largest nodule, 10 mm of
/// maximum intensity projection there, and the coronal and sagittal slice through it. 1 pixel is 1 mm, -1350 to 150 HU.
///
/// # Errors
/// [`DatasetError::Io`]; [`DatasetError::Case`] where the recipe has no test centre.
pub fn draw_page(recipe: &Recipe, path: &Path) -> Result<(), DatasetError> {
    let centres = recipe.centres.iter().filter(|centre| centre.test > 0).count();
    let patients = spread(recipe, Split::Test, centres);
    if patients.is_empty() {
        return Err(DatasetError::Case { case: recipe.name.clone(), reason: "a page needs a test centre".into() });
    }
    let [rows, columns] = PICTURE;
    let width = 4 * columns;
    let mut page = vec![0u8; patients.len() * rows * width];
    for (row, patient) in patients.iter().enumerate() {
        let scan = see(patient, patient.centre.case_mix.difficulty, 0.8);
        let grid = scan.rendered.volume.geometry().respaced(Spacing::new([1.0; 3]).expect("positive"));
        let volume = resample(&scan.rendered.volume, &grid);
        let scored = scan.lesions.iter().filter(|lesion| !lesion.excluded);
        let largest = scored.max_by(|a, b| a.diameter_mm.total_cmp(&b.diameter_mm));
        let middle = volume.geometry().size().map(|n| n / 2);
        let at = largest.and_then(|lesion| grid.voxel_at(lesion.position)).map_or(middle, |at| at.0);
        for (column, picture) in pictures(&volume, at).into_iter().enumerate() {
            for (y, line) in picture.chunks(columns).enumerate() {
                let start = (row * rows + y) * width + column * columns;
                page[start..start + columns].copy_from_slice(line);
            }
        }
    }
    stamp(&mut page, width);
    write_grey(path, width, patients.len() * rows, &page)
}

/// Writes SYNTHETIC into the upper left corner, in letters of 5 by 7 squares.
fn stamp(page: &mut [u8], width: usize) {
    const SQUARE: usize = 2;
    // Of each letter seven rows of five bits, from the top.
    const LETTERS: [[u8; 7]; 9] = [
        [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e], // S
        [0x11, 0x11, 0x0a, 0x04, 0x04, 0x04, 0x04], // Y
        [0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11], // N
        [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04], // T
        [0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11], // H
        [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f], // E
        [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04], // T
        [0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e], // I
        [0x0f, 0x10, 0x10, 0x10, 0x10, 0x10, 0x0f], // C
    ];
    for (i, letter) in LETTERS.iter().enumerate() {
        for (y, x) in (0..7 * SQUARE).flat_map(|y| (0..5 * SQUARE).map(move |x| (y, x))) {
            if letter[y / SQUARE] >> (4 - x / SQUARE) & 1 == 1 {
                page[(4 + y) * width + 4 + i * 6 * SQUARE + x] = 255;
            }
        }
    }
}

/// Axial, projection, coronal, sagittal.
fn pictures(volume: &Volume, [z, y, x]: [usize; 3]) -> [Vec<u8>; 4] {
    let hu = volume.hu();
    let [nz, ny, nx] = volume.geometry().size();
    let slab = z.saturating_sub(THICK_MM / 2)..(z + THICK_MM / 2).min(nz);
    [
        picture([ny, nx], |row, column| hu[[z, row, column]]),
        picture([ny, nx], |row, column| slab.clone().map(|z| hu[[z, row, column]]).max().unwrap_or(-1024)),
        picture([nz, nx], |row, column| hu[[nz - 1 - row, y, column]]),
        picture([nz, ny], |row, column| hu[[nz - 1 - row, column, x]]),
    ]
}

/// The middle of an image, black around where it is smaller.
fn picture([height, width]: [usize; 2], hu: impl Fn(usize, usize) -> i16) -> Vec<u8> {
    let [rows, columns] = PICTURE;
    let source = |at: usize, n: usize, size: usize| (at + size / 2).checked_sub(n / 2).filter(|i| *i < size);
    let mut grey = vec![0; rows * columns];
    for (i, pixel) in grey.iter_mut().enumerate() {
        if let (Some(row), Some(column)) = (source(i / columns, rows, height), source(i % columns, columns, width)) {
            let share = (f32::from(hu(row, column)) - WINDOW[0]) / (WINDOW[1] - WINDOW[0]);
            *pixel = (255.0 * share.clamp(0.0, 1.0)) as u8;
        }
    }
    grey
}

fn write_grey(path: &Path, width: usize, height: usize, pixels: &[u8]) -> Result<(), DatasetError> {
    let file = std::fs::File::create(path).map_err(DatasetError::io(path))?;
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder
        .add_text_chunk("Comment".to_owned(), "SYNTHETIC: computed chest phantoms, no patients".to_owned())
        .and_then(|()| encoder.write_header())
        .and_then(|mut writer| {
            writer.write_image_data(pixels)?;
            writer.finish()
        });
    written.map_err(|error| DatasetError::io(path)(std::io::Error::other(error)))
}
