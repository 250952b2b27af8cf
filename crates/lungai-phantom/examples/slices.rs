//! Renders one patient and writes PGM pictures of it: `slices OUT_FOLDER [seed] [full] [hard] [emphysema] [fibrosis]`.

use lungai_phantom::{Body, CaseMix, Difficulty, Masks, Scanner, Scene};
use std::io::Write;
use std::time::Instant;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let out = std::path::PathBuf::from(arguments.first().expect("OUT_FOLDER"));
    let seed = arguments.get(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let has = |word: &str| arguments.iter().any(|a| a == word);
    let scanner = if has("full") { Scanner::screening() } else { Scanner::small() };
    let difficulty = if has("hard") { Difficulty::Hard } else { Difficulty::Standard };
    let start = Instant::now();
    let mut scene = Scene::draw(&CaseMix::preset(difficulty), seed);
    if has("emphysema") {
        scene.disease.emphysema = 0.15;
    }
    if has("fibrosis") {
        scene.disease.fibrosis = 0.9;
    }
    let drawn = start.elapsed();
    let start = Instant::now();
    let body = Body::of(&scene);
    println!("made ready in {:.2?}", start.elapsed());
    let rendered = body.render_with(&scanner, &scanner.geometry(&scene), seed, Masks::ALL);
    let seconds = start.elapsed().as_secs_f64();
    let [nz, ny, nx] = rendered.volume.geometry().size();
    println!("{nz}x{ny}x{nx}: drawn in {drawn:.2?}, rendered in {seconds:.2} s");
    println!("right {:.0} ml, left {:.0} ml", rendered.lungs.volume_ml(1), rendered.lungs.volume_ml(2));
    let spacing = rendered.volume.geometry().spacing().zyx_mm();
    let hu = rendered.volume.hu();
    let picture = |name: String, rows: usize, columns: usize, window: [f32; 2], at: &dyn Fn(usize, usize) -> i16| {
        let mut bytes = format!("P5 {columns} {rows} 255\n").into_bytes();
        for r in 0..rows {
            for c in 0..columns {
                let value = (at(r, c) as f32 - window[0]) / (window[1] - window[0]);
                bytes.push((255.0 * value.clamp(0.0, 1.0)) as u8);
            }
        }
        std::fs::File::create(out.join(name))?.write_all(&bytes)
    };
    const LUNG: [f32; 2] = [-1350.0, 150.0];
    const SOFT: [f32; 2] = [-160.0, 240.0];
    for percent in [15, 25, 35, 45, 55, 65, 75, 85, 92] {
        let z = nz * percent / 100;
        picture(format!("axial{percent}.pgm"), ny, nx, LUNG, &|r, c| hu[[z, r, c]])?;
        picture(format!("soft{percent}.pgm"), ny, nx, SOFT, &|r, c| hu[[z, r, c]])?;
    }
    // Brightest of 10 mm: how far vessels and airways reach.
    let thick = (10.0 / spacing[0]).ceil() as usize;
    for percent in [35, 65] {
        let from = nz * percent / 100;
        let brightest =
            |r: usize, c: usize| (from..(from + thick).min(nz)).map(|z| hu[[z, r, c]]).max().unwrap_or(-1024);
        picture(format!("mip{percent}.pgm"), ny, nx, [-1000.0, 300.0], &brightest)?;
    }
    let step = spacing[0] / spacing[1];
    let tall = (nz as f64 * step) as usize;
    let height = |r: usize| nz - 1 - ((r as f64 / step) as usize).min(nz - 1);
    for percent in [40, 50, 60] {
        let at = ny * percent / 100;
        picture(format!("coronal{percent}.pgm"), tall, nx, LUNG, &|r, c| hu[[height(r), at, c]])?;
    }
    for percent in [32, 65] {
        let at = nx * percent / 100;
        picture(format!("sagittal{percent}.pgm"), tall, ny, LUNG, &|r, c| hu[[height(r), c, at]])?;
    }
    for nodule in &rendered.nodules {
        let Some(at) = rendered.volume.geometry().voxel_at(nodule.position) else { continue };
        let [z, y, x] = at.0;
        println!(
            "{} {:.1} mm {:?} spiculation {:.2} malignant {:?} at {:?}, {} HU",
            nodule.id,
            nodule.diameter_mm,
            nodule.kind,
            nodule.spiculation.unwrap_or(0.0),
            nodule.malignant,
            at.0,
            hu[[z, y, x]]
        );
        let half = (24.0 / spacing[1]) as isize;
        let pixel = |r: usize, c: usize| {
            let y = (y as isize + r as isize - half).clamp(0, ny as isize - 1) as usize;
            let x = (x as isize + c as isize - half).clamp(0, nx as isize - 1) as usize;
            hu[[z, y, x]]
        };
        let side = 2 * half as usize + 1;
        picture(format!("nodule_{}.pgm", nodule.id), side, side, LUNG, &pixel)?;
    }
    Ok(())
}
