//! How long the phantom takes: a scan of 300 x 512 x 512 voxels with all masks, and a patch of 96 x 96 x 96. Prints wall
//! and processor time, the best of some runs, and the most memory that was in use. `speed [seed]`

use lungai_ct::{Geometry, WorldPoint};
use lungai_phantom::{Body, CaseMix, Difficulty, Masks, Scanner, Scene};
use std::time::{Duration, Instant};

fn main() {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(7);
    let scanner = Scanner::screening();
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), seed);
    let own = scanner.geometry(&scene);
    let [slices, ..] = own.size();
    let [x, y, z] = own.origin().0;
    let z = z + 0.5 * (slices as f64 - 300.0) * own.spacing().zyx_mm()[0];
    let whole = Geometry::new([300, 512, 512], own.spacing(), WorldPoint([x, y, z]), own.direction()).expect("a grid");
    let patch = own.window([slices as isize / 2, 200, 100], [96, 96, 96]);
    best("drawing a scene", 5, || Scene::draw(&CaseMix::preset(Difficulty::Standard), seed));
    best("making it ready", 5, || Body::of(&scene));
    let body = Body::of(&scene);
    best("a patch of 96^3", 10, || body.render_window(&scanner, &patch, seed));
    best("the patch, all masks", 10, || body.render_with(&scanner, &patch, seed, Masks::ALL));
    best("a scan of 300x512x512", 3, || body.render_window(&scanner, &whole, seed));
    best("the scan, all masks", 3, || body.render_with(&scanner, &whole, seed, Masks::ALL));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(line) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("{line}");
    }
}

fn best<T>(what: &str, runs: usize, work: impl Fn() -> T) {
    let (mut wall, mut processor) = (Duration::MAX, Duration::MAX);
    for _ in 0..runs {
        let (start, used) = (Instant::now(), processor_time());
        drop(work());
        wall = wall.min(start.elapsed());
        processor = processor.min(processor_time().saturating_sub(used));
    }
    println!("{what}: {:.1} ms, of processors {:.1} ms", 1e3 * wall.as_secs_f64(), 1e3 * processor.as_secs_f64());
}

/// Of all threads, in the kernel's clock ticks of 10 ms; zero where there is no `/proc`.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are the 12th and 13th field after it.
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10)
}
