//! The masks and what is stated of each nodule are exact: of the shapes, not of a reader.

use lungai_ct::{Geometry, LabelMap, Lobe, Lung, Spacing, VoxelIndex, WorldPoint};
use lungai_phantom::{Airway, Body, CaseMix, Difficulty, Kernel, Masks, Nodule, Scanner, Scene, Vessel};
use ndarray::s;

fn coarse() -> Scanner {
    Scanner {
        matrix: 160,
        pixel_spacing_mm: 2.2,
        slice_spacing_mm: 2.5,
        slice_thickness_mm: 2.5,
        ..Scanner::screening()
    }
}

fn cube(centre: [f64; 3], n: usize, mm: f64) -> Geometry {
    let first = centre.map(|v| v - 0.5 * (n as f64 - 1.0) * mm);
    Geometry::new([n; 3], Spacing::new([mm; 3]).expect("positive"), WorldPoint(first), Geometry::AXIAL).expect("a cube")
}

/// A patient of nothing but homogeneous lung with nodules in it.
fn plain_patient(seed: u64) -> Scene {
    let preset = CaseMix::preset(Difficulty::Standard);
    let mix = CaseMix {
        nodules_mean: 16.0,
        nodules_max: 20,
        diameter_median_mm: 9.0,
        juxtapleural_share: 0.0,
        juxtavascular_share: 0.0,
        emphysema_share: 0.0,
        fibrosis_share: 0.0,
        ..preset
    };
    let mut scene = Scene::draw(&mix, seed);
    scene.mimics.clear();
    scene.tree_density = 1e-6;
    scene.chest.texture_hu = 0.0;
    scene.chest.gravity_hu_per_mm = 0.0;
    scene.chest.fissure_hu = 0.0;
    scene
}

/// Partial volume decides: at 0.7 mm two thirds of a 6 mm nodule's voxels lie across its border. The HU that a nodule adds
/// to homogeneous lung, over its contrast, is its volume, whatever the blur.
#[test]
fn the_rendered_volume_of_a_nodule_is_the_stated_one_within_a_hundredth() {
    let scanner = Scanner { noise_sd_hu: 0.0, slice_thickness_mm: 0.7, ..Scanner::screening() };
    let (mut checked, mut worst) = (0, 0.0f64);
    for seed in [21, 22] {
        let all = plain_patient(seed);
        let alone = |nodules: Vec<Nodule>| Body::of(&Scene { nodules, ..all.clone() });
        let empty = alone(Vec::new());
        for nodule in all.nodules.iter().filter(|n| (6.0..20.0).contains(&n.traits.diameter_mm)) {
            // One attenuation throughout.
            if nodule.core.is_some() {
                continue;
            }
            let n = (2.6 * nodule.traits.diameter_mm / 0.7) as usize + 12;
            let grid = cube(nodule.seed_point, n, 0.7);
            let hu = |body: &Body| -> f64 {
                body.render_window(&scanner, &grid, 0).volume.as_slice().iter().map(|hu| f64::from(*hu)).sum()
            };
            let added = hu(&alone(vec![nodule.clone()])) - hu(&empty);
            let volume = added / (nodule.hu - all.chest.parenchyma_hu) * 0.7f64.powi(3);
            let off = (volume / nodule.volume_mm3 - 1.0).abs();
            worst = worst.max(off);
            assert!(off < 0.01, "{}: {volume:.1} instead of {:.1} mm3", nodule.id, nodule.volume_mm3);
            checked += 1;
        }
    }
    println!("{checked} nodules, the worst off by {:.2} %", 100.0 * worst);
    assert!(checked >= 10, "only {checked} nodules were checked");
}

#[test]
fn five_lobes_make_up_the_lungs_in_the_shares_of_an_adult() {
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 4);
    let body = Body::of(&scene);
    let scan = body.render_with(&coarse(), &coarse().geometry(&scene), 4, Masks::ALL);
    let lobes = scan.lobes.expect("asked for");
    for (lobe, lung) in lobes.as_slice().iter().zip(scan.lungs.as_slice()) {
        let of_lobe = Lobe::ALL.into_iter().find(|known| *known as u8 == *lobe).map_or(0, |known| known.lung() as u8);
        assert_eq!(of_lobe, *lung);
    }
    let total = scan.lungs.volume_ml(Lung::Right as u8) + scan.lungs.volume_ml(Lung::Left as u8);
    // CT volumetry of healthy adults: about 20, 8, 25, 23 and 24 % of the lungs.
    for (lobe, low, high) in [
        (Lobe::RightUpper, 0.13, 0.27),
        (Lobe::RightMiddle, 0.05, 0.13),
        (Lobe::RightLower, 0.18, 0.33),
        (Lobe::LeftUpper, 0.17, 0.31),
        (Lobe::LeftLower, 0.17, 0.31),
    ] {
        let share = lobes.volume_ml(lobe as u8) / total;
        assert!((low..high).contains(&share), "{}: {share:.3} of the lungs", lobe.name());
    }
}

#[test]
fn masks_that_are_not_wanted_are_not_made_and_change_nothing() {
    let scene = Scene::draw(&CaseMix::preset(Difficulty::Standard), 4);
    let body = Body::of(&scene);
    let grid = cube([-70.0, 0.0, 0.0], 24, 1.5);
    let with = body.render_with(&coarse(), &grid, 4, Masks::ALL);
    let without = body.render_window(&coarse(), &grid, 4);
    assert!(without.lobes.is_none() && without.airways.is_none());
    assert!(without.vessels.is_none() && without.nodule_labels.is_none());
    assert_eq!((&with.volume, &with.lungs, &with.nodules), (&without.volume, &without.lungs, &without.nodules));
}

#[test]
fn a_nodule_lies_in_its_lobe_and_its_axes_are_those_of_its_mask() {
    let mix = CaseMix { nodules_mean: 14.0, nodules_max: 16, ..CaseMix::preset(Difficulty::Standard) };
    let scene = Scene::draw(&mix, 31);
    let body = Body::of(&scene);
    let mut compared = 0;
    for (number, nodule) in (1u8..).zip(&scene.nodules) {
        let d = nodule.traits.diameter_mm;
        let step = d / 40.0;
        let own = body.render_with(&coarse(), &cube(nodule.position, 1, 0.2), 0, Masks::ALL);
        let at = VoxelIndex([0; 3]);
        assert_eq!(own.lobes.expect("asked for").at(at), nodule.lobe as u8, "{}", nodule.id);
        assert_eq!(own.nodule_labels.expect("asked for").at(at), number, "its own centroid, {}", nodule.id);

        let map = body.nodule_labels(&cube(nodule.seed_point, 140, step));
        let slices: Vec<Vec<[f64; 2]>> = (0..140)
            .map(|z| {
                let held = map.labels().slice(s![z, .., ..]).to_owned();
                held.indexed_iter().filter(|(_, l)| **l == number).map(|((y, x), _)| [x as f64, y as f64]).collect()
            })
            .collect();
        let largest = slices.iter().max_by_key(|points| points.len()).expect("slices");
        // Widths of the section over all directions: the long axis is the largest of them.
        let width = |angle: f64| {
            let along = largest.iter().map(|p| p[0] * angle.cos() + p[1] * angle.sin());
            let (low, high) = along.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
            (high - low + 1.0) * step
        };
        let long = (0..180).map(|degree| width(f64::from(degree).to_radians())).fold(0.0, f64::max);
        let [stated_long, stated_short] = nodule.axes_mm;
        assert!(stated_short <= stated_long + 1e-9);
        // Thin spikes may end between two rays of the stated outline or between two voxels of the mask.
        let tolerance = if nodule.spikes.is_empty() { 0.06 } else { 0.15 };
        assert!((stated_long / long - 1.0).abs() < tolerance, "{}: {stated_long:.2} and {long:.2} mm", nodule.id);
        compared += 1;
    }
    assert!(compared >= 6);
}

fn centroid_share(map: &LabelMap, label: u8, hu: impl Fn(usize) -> bool) -> f64 {
    let of_label = map.as_slice().iter().enumerate().filter(|(_, l)| **l == label);
    let (mut right, mut all) = (0.0, 0.0);
    for (i, _) in of_label {
        all += 1.0;
        right += f64::from(u8::from(hu(i)));
    }
    right / f64::max(all, 1.0)
}

#[test]
fn airways_hold_air_and_vessels_hold_blood() {
    let preset = CaseMix::preset(Difficulty::Standard);
    let scene = Scene::draw(&CaseMix { nodules_mean: 0.0, emphysema_share: 0.0, ..preset }, 6);
    let body = Body::of(&scene);
    let scanner = Scanner { noise_sd_hu: 0.0, kernel: Kernel::Sharp, ..Scanner::screening() };
    // Round the right hilum.
    let scan = body.render_with(&scanner, &cube([-55.0, 12.0, 10.0], 120, 0.7), 0, Masks::ALL);
    let (airways, vessels) = (scan.airways.expect("asked for"), scan.vessels.expect("asked for"));
    let hu = scan.volume.as_slice();
    let free = |i: usize| vessels.as_slice()[i] == 0;
    let lumen = centroid_share(&airways, Airway::Lumen as u8, |i| hu[i] < -600);
    assert!(lumen > 0.85, "{lumen} of the lumen is air");
    let wall = centroid_share(&airways, Airway::Wall as u8, |i| !free(i) || hu[i] > -900);
    assert!(wall > 0.9, "{wall} of the walls is denser than air");
    for label in [Vessel::Artery, Vessel::Vein] {
        let blood = centroid_share(&vessels, label as u8, |i| hu[i] > -650);
        assert!(blood > 0.9, "{blood} of {label:?} is denser than lung");
    }
}

#[test]
fn windows_and_threads_give_the_bits_of_the_whole() {
    let preset = CaseMix::preset(Difficulty::Standard);
    let scene = Scene::draw(&CaseMix { emphysema_share: 1.0, fibrosis_share: 1.0, ..preset }, 8);
    let body = Body::of(&scene);
    let scanner = Scanner { slice_thickness_mm: 4.0, ..coarse() };
    let grid = scanner.geometry(&scene);
    let whole = body.render_with(&scanner, &grid, 1, Masks::ALL);
    // Corners, a thin slab, a single voxel, one that reaches beyond the scan's first slice.
    for (start, size) in [
        ([30, 50, 20], [15, 40, 50]),
        ([0, 0, 0], [4, 160, 160]),
        ([47, 81, 43], [1, 1, 1]),
        ([90, 100, 100], [7, 33, 60]),
    ] {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let window = grid.window(start, size);
            let part = pool.install(|| body.render_with(&scanner, &window, 1, Masks::ALL));
            let [z, y, x]: [usize; 3] = start.map(|v| v as usize);
            let [dz, dy, dx] = size;
            let cut = s![z..z + dz, y..y + dy, x..x + dx];
            assert!(part.volume.hu() == whole.volume.hu().slice(cut), "HU of the window at {start:?}");
            let maps = [
                (Some(part.lungs), Some(&whole.lungs)),
                (part.lobes, whole.lobes.as_ref()),
                (part.airways, whole.airways.as_ref()),
                (part.vessels, whole.vessels.as_ref()),
                (part.nodule_labels, whole.nodule_labels.as_ref()),
            ];
            for (part, whole) in maps {
                let (part, whole) = (part.expect("asked for"), whole.expect("asked for"));
                assert!(part.labels() == whole.labels().slice(cut), "a mask of the window at {start:?}");
            }
        }
    }
}

#[test]
fn emphysema_and_fibrosis_change_the_lungs_density_as_they_do_in_patients() {
    let preset = CaseMix::preset(Difficulty::Standard);
    let healthy = Scene::draw(&CaseMix { emphysema_share: 0.0, fibrosis_share: 0.0, nodules_mean: 0.0, ..preset }, 3);
    let share = |scene: &Scene, dark: i16, bright: i16| {
        let quiet = Scanner { noise_sd_hu: 0.0, ..coarse() };
        let scan = Body::of(scene).render(&quiet, 0);
        let lung = || scan.volume.as_slice().iter().zip(scan.lungs.as_slice()).filter(|(_, l)| **l != 0);
        let count =
            |held: &dyn Fn(i16) -> bool| lung().filter(|(hu, _)| held(**hu)).count() as f64 / lung().count() as f64;
        [count(&|hu| hu < dark), count(&|hu| hu > bright)]
    };
    let mut ill = healthy.clone();
    ill.disease.emphysema = 0.15;
    let ([before, _], [after, _]) = (share(&healthy, -950, 0), share(&ill, -950, 0));
    // Holes overlap, and their borders are brighter.
    assert!(before < 0.01 && (0.05..0.15).contains(&after), "LAA-950 {before} and {after}");
    let mut stiff = healthy.clone();
    stiff.disease.fibrosis = 1.0;
    let ([_, before], [_, after]) = (share(&healthy, 0, -700), share(&stiff, 0, -700));
    assert!(after > before + 0.02, "above -700 HU {before} and {after}");
}
