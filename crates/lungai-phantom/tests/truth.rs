//! What the phantom says about itself holds for its voxels.

use lungai_ct::{Geometry, Lung, NoduleKind, Spacing, VoxelIndex, WorldPoint};
use lungai_phantom::{Body, CaseMix, Difficulty, Kernel, KindShares, MimicKind, Scanner, Scene, render, render_window};

const RIGHT: u8 = Lung::Right as u8;
const LEFT: u8 = Lung::Left as u8;

fn many_nodules(difficulty: Difficulty) -> CaseMix {
    CaseMix { nodules_mean: 12.0, nodules_max: 20, ..CaseMix::preset(difficulty) }
}

/// 2.2 x 2.2 x 2.5 mm: the whole chest in 2 million voxels.
fn coarse() -> Scanner {
    Scanner {
        matrix: 160,
        pixel_spacing_mm: 2.2,
        slice_spacing_mm: 2.5,
        slice_thickness_mm: 2.5,
        ..Scanner::screening()
    }
}

fn noiseless(scanner: Scanner) -> Scanner {
    Scanner { noise_sd_hu: 0.0, ..scanner }
}

/// A cube of voxels of `mm` round a point.
fn cube(centre: [f64; 3], half_mm: f64, mm: f64) -> Geometry {
    let n = (2.0 * half_mm / mm).ceil() as usize;
    let first = centre.map(|v| v - 0.5 * (n as f64 - 1.0) * mm);
    let spacing = Spacing::new([mm; 3]).expect("positive");
    Geometry::new([n; 3], spacing, WorldPoint(first), Geometry::AXIAL).expect("a cube")
}

#[test]
fn a_nodules_stated_volume_and_centre_are_those_of_its_voxels() {
    let scene = Scene::draw(&many_nodules(Difficulty::Standard), 11);
    let body = Body::of(&scene);
    assert!(scene.nodules.len() >= 6);
    for (number, nodule) in scene.nodules.iter().enumerate() {
        let d = nodule.traits.diameter_mm;
        let map = body.nodule_labels(&cube(nodule.seed_point, 1.3 * d, d / 32.0));
        let label = number as u8 + 1;
        let volume = 1000.0 * map.volume_ml(label);
        // Also against the pleura.
        assert!((volume / nodule.volume_mm3 - 1.0).abs() < 0.01, "{volume} instead of {}", nodule.volume_mm3);
        let mut sum = [0.0; 3];
        let mut count = 0.0;
        for ((z, y, x), _) in map.labels().indexed_iter().filter(|(_, l)| **l == label) {
            let at = map.geometry().centre_of(VoxelIndex([z, y, x])).0;
            sum = [sum[0] + at[0], sum[1] + at[1], sum[2] + at[2]];
            count += 1.0;
        }
        let centroid = WorldPoint(sum.map(|v| v / count));
        let off = centroid.distance_mm(WorldPoint(nodule.position));
        assert!(off < 0.02 * d, "centre off by {off} mm at {d} mm");
    }
}

#[test]
fn nodules_lie_in_the_lung_and_the_reference_names_them() {
    for seed in 0..4 {
        let scene = Scene::draw(&many_nodules(Difficulty::Hard), seed);
        let rendered = render(&scene, &coarse(), seed);
        let stated: Vec<_> = rendered.nodules.iter().filter(|n| !n.excluded).collect();
        assert_eq!(stated.len(), scene.nodules.len());
        let body = Body::of(&scene);
        // Those with a volume: nodules and micronodules. The middle of a bent scar may lie anywhere.
        for nodule in rendered.nodules.iter().filter(|n| n.volume_mm3.is_some()) {
            // One voxel at the very centre: the scan's nearest voxel may lie beyond the pleura.
            let lungs = body.render_window(&coarse(), &cube(nodule.position.0, 0.1, 0.2), 0).lungs;
            assert_ne!(lungs.at(VoxelIndex([0; 3])), 0, "{} of seed {seed} lies outside the lungs", nodule.id);
        }
        for (nodule, own) in stated.iter().zip(&scene.nodules) {
            let volume = std::f64::consts::PI / 6.0 * nodule.diameter_mm.powi(3);
            assert!((volume / nodule.volume_mm3.unwrap() - 1.0).abs() < 1e-9);
            assert!((nodule.diameter_mm / own.traits.diameter_mm - 1.0).abs() < 0.01);
            assert_eq!(nodule.malignant, Some(own.traits.malignant));
        }
    }
}

#[test]
fn mimics_are_in_the_reference_standard_but_excluded_from_scoring() {
    let scene = Scene::draw(&many_nodules(Difficulty::Hard), 3);
    let rendered = render(&scene, &coarse(), 3);
    let (mimics, nodules): (Vec<_>, Vec<_>) = rendered.nodules.iter().partition(|n| n.excluded);
    assert_eq!([nodules.len(), mimics.len()], [scene.nodules.len(), scene.mimics.len()]);
    assert!(nodules.iter().all(|n| n.diameter_mm > 2.95 && n.malignant.is_some()));
    for (stated, mimic) in mimics.iter().zip(&scene.mimics) {
        let micronodule = mimic.kind == MimicKind::Micronodule;
        assert_eq!(stated.malignant.is_some(), micronodule, "only a micronodule is a nodule");
        assert!(!micronodule || stated.diameter_mm < 3.0);
        // The sphere of a scar holds all of its strands.
        for end in mimic.strands.iter().flat_map(|s| [s.from, s.to]).filter(|_| mimic.ellipsoids.is_empty()) {
            assert!(stated.position.distance_mm(WorldPoint(end)) <= 0.5 * stated.diameter_mm + 1e-9);
        }
    }
    let bulges = scene.mimics.iter().filter(|m| m.kind == MimicKind::BifurcationBulge).count();
    assert!(bulges > 3, "a hard scene holds {bulges} bulges of vessels");
}

#[test]
fn the_left_lung_lies_on_the_patients_left_and_is_the_smaller() {
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 5);
    let lungs = render(&scene, &coarse(), 5).lungs;
    let mean_x = |label: u8| {
        let geometry = lungs.geometry();
        let labels = lungs.labels();
        let xs = labels.indexed_iter().filter(|(_, l)| **l == label);
        let xs: Vec<f64> = xs.map(|((z, y, x), _)| geometry.centre_of(VoxelIndex([z, y, x])).0[0]).collect();
        xs.iter().sum::<f64>() / xs.len() as f64
    };
    assert!(mean_x(RIGHT) < -50.0 && mean_x(LEFT) > 50.0); // LPS: x grows towards the left
    assert!(lungs.volume_ml(LEFT) < lungs.volume_ml(RIGHT));
}

#[test]
fn lungs_hold_what_adults_hold_in_deep_inspiration() {
    let mut volumes = Vec::new();
    for seed in 0..8 {
        let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), seed);
        let lungs = render(&scene, &noiseless(coarse()), seed).lungs;
        let (right, left) = (lungs.volume_ml(RIGHT) / 1000.0, lungs.volume_ml(LEFT) / 1000.0);
        assert!((0.80..0.99).contains(&(left / right)), "left {left} l, right {right} l");
        volumes.push(left + right);
    }
    assert!(volumes.iter().all(|l| (3.3..6.8).contains(l)), "{volumes:?} l");
    let spread = volumes.iter().cloned().fold(f64::MIN, f64::max) - volumes.iter().cloned().fold(f64::MAX, f64::min);
    assert!(spread > 0.5, "{volumes:?} l");
}

#[test]
fn tissues_have_their_hounsfield_units() {
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 2);
    let rendered = render(&scene, &noiseless(Scanner::small()), 2);
    let (volume, lungs) = (&rendered.volume, &rendered.lungs);
    let at = |p: [f64; 3]| volume.hu()[volume.geometry().voxel_at(WorldPoint(p)).unwrap().0];
    let [sx, sy, sz] = scene.chest.scale;
    let near = |p: [f64; 3]| at([p[0] * sx, p[1] * sy, p[2] * sz]);
    assert_eq!(at([0.0, -170.0, 0.0]), -1000);
    assert!((-1000..-940).contains(&near([1.5, 11.0, 90.0])), "trachea {}", near([1.5, 11.0, 90.0]));
    assert!((20..70).contains(&near([24.0, -26.0, -48.0])), "heart {}", near([24.0, -26.0, -48.0]));
    assert!((30..90).contains(&near([-60.0, 0.0, -115.0])), "liver {}", near([-60.0, 0.0, -115.0]));
    let mut inside: Vec<i16> =
        volume.as_slice().iter().zip(lungs.as_slice()).filter(|(_, l)| **l != 0).map(|(hu, _)| *hu).collect();
    inside.sort_unstable();
    let median = inside[inside.len() / 2];
    assert!((-890..-835).contains(&median), "lung {median}");
    assert!(inside[inside.len() * 95 / 100] < -300, "vessels fill less than a twentieth");
    assert!(*volume.as_slice().iter().max().unwrap() > 350, "bone");
}

#[test]
fn nodules_of_each_kind_have_their_density() {
    let kinds = KindShares { solid: 0.25, part_solid: 0.25, ground_glass: 0.25, calcified: 0.25 };
    let mix = CaseMix {
        diameter_median_mm: 12.0,
        diameter_log_sd: 0.2,
        diameter_offset_mm: 0.0,
        kinds,
        emphysema_share: 0.0,
        ..many_nodules(Difficulty::Standard)
    };
    let scanner = noiseless(Scanner::small());
    let mut seen = std::collections::HashSet::new();
    for seed in 0..2 {
        let scene = Scene::draw(&mix, seed);
        let body = Body::of(&scene);
        for nodule in &scene.nodules {
            let centre = match &nodule.core {
                Some(core) => std::array::from_fn(|i| nodule.seed_point[i] + core.offset[i] * nodule.radius_mm),
                None => nodule.seed_point,
            };
            let rendered = body.render_window(&scanner, &cube(centre, 7.7, 1.4), 0);
            let hu = rendered.volume.hu()[[5, 5, 5]];
            let expected = match nodule.traits.kind {
                NoduleKind::Solid => 20..75,
                NoduleKind::PartSolid => -100..75,
                NoduleKind::GroundGlass => -760..-380,
                NoduleKind::Calcified => 200..760,
            };
            // A vessel through ground glass is as dense as blood.
            let vessel = nodule.traits.kind == NoduleKind::GroundGlass && hu > -380;
            assert!(vessel || expected.contains(&hu), "{:?}: {hu} HU", nodule.traits.kind);
            seen.insert(nodule.traits.kind);
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn the_same_seed_gives_the_same_bits_for_any_number_of_threads() {
    let render_with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 42);
            let scanner = Scanner { kernel: Kernel::Sharp, ..coarse() };
            let rendered = render(&scene, &scanner, 42);
            (scene, rendered)
        })
    };
    let (one, two) = (render_with(1), render_with(2));
    assert!(one == two);
    let other = render(&one.0, &coarse(), 43);
    assert!(other.volume != render(&one.0, &coarse(), 42).volume, "another seed is another exposure");
    assert!(other.lungs == one.1.lungs, "but the same patient");
}

#[test]
fn a_window_equals_the_same_part_of_the_whole() {
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 8);
    let scanner = Scanner { kernel: Kernel::Sharp, slice_thickness_mm: 4.0, ..coarse() };
    let whole = render(&scene, &scanner, 1);
    let window = whole.volume.geometry().window([30, 50, 20], [15, 40, 50]);
    let part = render_window(&scene, &scanner, &window, 1);
    let cut = whole.volume.hu().slice(ndarray::s![30..45, 50..90, 20..70]).to_owned();
    assert!(part.volume.hu() == cut);
    let labels = whole.lungs.labels().slice(ndarray::s![30..45, 50..90, 20..70]).to_owned();
    assert_eq!(part.lungs.labels(), labels);
}

#[test]
fn one_patient_has_the_same_lungs_on_two_scanners() {
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 9);
    let thick = Scanner { slice_spacing_mm: 5.0, slice_thickness_mm: 5.0, centre_mm: [5.0, -3.0], ..coarse() };
    let (a, b) = (render(&scene, &coarse(), 1), render(&scene, &thick, 2));
    for label in [RIGHT, LEFT] {
        let (a, b) = (a.lungs.volume_ml(label), b.lungs.volume_ml(label));
        assert!((a / b - 1.0).abs() < 0.01, "{a} ml and {b} ml");
    }
    let ids = |r: &lungai_phantom::Rendered| r.nodules.iter().map(|n| (n.id.clone(), n.volume_mm3)).collect::<Vec<_>>();
    assert_eq!(ids(&a), ids(&b));
}

#[test]
fn noise_has_the_stated_strength_and_the_kernels_texture() {
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Easy), 4);
    let body = Body::of(&scene);
    let heart = [20.0, -20.0, -40.0];
    let grain = |kernel: Kernel| {
        let scanner = Scanner { kernel, ..Scanner::screening() };
        let spacing = Spacing::new([1.25, 0.7, 0.7]).unwrap();
        let grid = Geometry::new([12, 40, 40], spacing, WorldPoint(heart), Geometry::AXIAL).unwrap();
        let noisy = body.render_window(&scanner, &grid, 1).volume;
        let clean = body.render_window(&noiseless(scanner.clone()), &grid, 1).volume;
        let values: Vec<f64> = noisy.as_slice().iter().zip(clean.as_slice()).map(|(a, b)| (a - b) as f64).collect();
        let sd = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        let pairs = values.chunks(40).flat_map(|row| row.windows(2));
        let neighbours =
            pairs.map(|pair| pair[0] * pair[1]).sum::<f64>() / (values.len() as f64 * 39.0 / 40.0) / (sd * sd);
        (sd / scanner.noise_at_centre_hu(), neighbours)
    };
    let (soft, sharp) = (grain(Kernel::Soft), grain(Kernel::Sharp));
    for (sd, _) in [soft, sharp] {
        assert!((0.85..1.10).contains(&sd), "{sd} of the stated noise");
    }
    assert!(soft.1 > 0.6 && sharp.1 < 0.35, "correlation of neighbours {} and {}", soft.1, sharp.1);
}

#[test]
fn a_scene_survives_its_file() {
    let scene = Scene::draw(&many_nodules(Difficulty::Hard), 6);
    let text = serde_json::to_string(&scene).unwrap();
    let back: Scene = serde_json::from_str(&text).unwrap();
    assert_eq!(scene, back);
    assert!(render(&back, &coarse(), 1) == render(&scene, &coarse(), 1));
    let unknown = text.replacen("\"seed\"", "\"sed\"", 1);
    assert!(serde_json::from_str::<Scene>(&unknown).is_err());
}
