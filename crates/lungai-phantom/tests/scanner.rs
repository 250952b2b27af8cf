//! The scanner measured as a physicist measures one: noise spectrum, sharpness, slice profile, any orientation.
//!
//! Truth: the protocol's own figures and the formulas that the fields' documentation names.

use lungai_ct::{Geometry, NoduleKind, Spacing, Volume, VoxelIndex, WorldPoint};
use lungai_phantom::{
    Artefacts, Body, CaseMix, Difficulty, Kernel, Masks, Nodule, Place, Pose, Scanner, Scene, Traits,
};

const HEART: [f64; 3] = [20.0, -20.0, -40.0];

/// An empty chest without vessels, texture and mimics, and one smooth ball of 40 HU where there is a radius.
fn still_life(ball: Option<([f64; 3], f64)>) -> Scene {
    let mut scene = Scene::draw(&CaseMix { nodules_mean: 0.0, ..CaseMix::preset(Difficulty::Easy) }, 4);
    scene.mimics.clear();
    scene.tree_density = 0.0;
    scene.chest.texture_hu = 0.0;
    scene.chest.gravity_hu_per_mm = 0.0;
    scene.chest.fissure_hu = 0.0;
    if let Some((centre, radius_mm)) = ball {
        let drawn = Scene::draw(&CaseMix { nodules_mean: 20.0, ..CaseMix::preset(Difficulty::Easy) }, 1);
        let template = drawn.nodules.first().expect("one of twenty").clone();
        let traits = Traits { diameter_mm: 2.0 * radius_mm, kind: NoduleKind::Solid, ..template.traits.clone() };
        scene.nodules.push(Nodule {
            traits,
            place: Place::Intraparenchymal,
            seed_point: centre,
            position: centre,
            radius_mm,
            lobes: Vec::new(),
            spikes: Vec::new(),
            hu: 40.0,
            core: None,
            volume_mm3: 4.0 / 3.0 * std::f64::consts::PI * radius_mm.powi(3),
            ..template
        });
    }
    scene
}

fn grid(first: [f64; 3], size: [usize; 3], zyx_mm: [f64; 3]) -> Geometry {
    Geometry::new(size, Spacing::new(zyx_mm).expect("positive"), WorldPoint(first), Geometry::AXIAL).expect("a box")
}

fn quiet(scanner: &Scanner) -> Scanner {
    Scanner { noise_sd_hu: 0.0, ..scanner.clone() }
}

/// Noise alone: a scan minus the same scan without noise.
fn grain(body: &Body, scanner: &Scanner, grid: &Geometry, seed: u64) -> Vec<f64> {
    let noisy = body.render_window(scanner, grid, seed).volume;
    let clean = body.render_window(&quiet(scanner), grid, seed).volume;
    noisy.as_slice().iter().zip(clean.as_slice()).map(|(a, b)| f64::from(a - b)).collect()
}

fn sd(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
}

/// Power at a frequency per mm along rows, from rows of `n` pixels of 0.7 mm.
fn power(values: &[f64], n: usize, cycles: usize) -> f64 {
    let mut sum = 0.0;
    // The mean over columns keeps what does not vary along y: a cut through the two-dimensional spectrum.
    for slice in values.chunks(n * n) {
        let (mut re, mut im) = (0.0, 0.0);
        for (i, value) in slice.iter().enumerate() {
            let angle = std::f64::consts::TAU * (cycles * (i % n)) as f64 / n as f64;
            re += value * angle.cos();
            im += value * angle.sin();
        }
        sum += re * re + im * im;
    }
    sum
}

#[test]
fn the_noise_spectrum_is_that_of_the_kernel() {
    let body = Body::of(&still_life(None));
    let n = 48;
    let mut peaks = Vec::new();
    // Standard deviation in mm of the two Gaussians whose difference the kernel is, and the second one's weight.
    for (kernel, sigma, cut) in [(Kernel::Soft, 0.75, 0.6), (Kernel::Standard, 0.5, 0.7), (Kernel::Sharp, 0.3, 0.8)] {
        let scanner = Scanner { kernel, noise_sd_hu: 100.0, exposure_mas: 100.0, ..Scanner::screening() };
        let grid = grid(HEART, [160, n, n], [1.25, 0.7, 0.7]);
        let values = grain(&body, &scanner, &grid, 3);
        let measured: Vec<f64> = (1..n / 2).map(|k| power(&values, n, k)).collect();
        let expected: Vec<f64> = (1..n / 2)
            .map(|k| {
                let gauss = |s: f64| (-2.0 * (std::f64::consts::PI * s * k as f64 / (n as f64 * 0.7)).powi(2)).exp();
                (gauss(sigma) - cut * gauss(2.5 * sigma)).powi(2)
            })
            .collect();
        let (all, wanted) = (measured.iter().sum::<f64>(), expected.iter().sum::<f64>());
        // Distance between the two spectra as shares of the whole: 0 equal, 2 nothing in common.
        let apart: f64 = measured.iter().zip(&expected).map(|(m, e)| (m / all - e / wanted).abs()).sum();
        assert!(apart < 0.25, "{kernel:?}: spectra differ by {apart:.2}");
        let centre = measured.iter().enumerate().map(|(i, m)| (i + 1) as f64 * m).sum::<f64>() / all;
        peaks.push(centre / (n as f64 * 0.7));
    }
    assert!(peaks[0] < peaks[1] && peaks[1] < peaks[2], "mean frequency per mm {peaks:.2?}");
}

#[test]
fn noise_falls_with_the_root_of_dose_and_thickness() {
    let body = Body::of(&still_life(None));
    let at = |mas: f64, mm: f64| {
        let scanner = Scanner {
            noise_sd_hu: 30.0,
            exposure_mas: mas,
            slice_thickness_mm: mm,
            slice_spacing_mm: 1.25,
            ..Scanner::screening()
        };
        sd(&grain(&body, &scanner, &grid(HEART, [24, 40, 40], [1.25, 0.7, 0.7]), 1))
    };
    let full = at(100.0, 1.25);
    // Eur Radiol Exp 2018: 37.5 HU at full dose, by the root law 50.6, 59.3, 75.0 at 55, 40, 25 %.
    for (mas, published) in [(55.0, 50.6), (40.0, 59.3), (25.0, 75.0)] {
        let ratio = at(mas, 1.25) / full;
        assert!((ratio / (published / 37.5) - 1.0).abs() < 0.03, "{ratio} at {mas} mAs");
    }
    assert!((at(100.0, 5.0) / full - 0.5).abs() < 0.03, "four times the thickness, half of the noise");
}

#[test]
fn neighbouring_slices_share_photons_only_where_slices_overlap() {
    let body = Body::of(&still_life(None));
    let correlation = |thickness: f64| {
        let scanner = Scanner { noise_sd_hu: 60.0, slice_thickness_mm: thickness, ..Scanner::screening() };
        let values = grain(&body, &scanner, &grid(HEART, [24, 40, 40], [1.25, 0.7, 0.7]), 1);
        let pairs = values.len() - 1600;
        let sum: f64 = (0..pairs).map(|i| values[i] * values[i + 1600]).sum();
        sum / pairs as f64 / sd(&values).powi(2)
    };
    assert!(correlation(1.25).abs() < 0.03);
    // Slabs of 2.5 mm every 1.25 mm overlap by half; in cells of 1.25 mm: (1/2 + 1/2) / (1/4 + 1 + 1/4).
    assert!((correlation(2.5) - 2.0 / 3.0).abs() < 0.03);
}

#[test]
fn the_middle_of_the_chest_has_the_stated_noise_and_the_shoulders_more() {
    let body = Body::of(&still_life(None));
    let scanner = Scanner { noise_sd_hu: 40.0, ..Scanner::screening() };
    let at = |p: [f64; 3]| {
        sd(&grain(&body, &scanner, &grid(p, [12, 40, 40], [1.25, 0.7, 0.7]), 1)) / scanner.noise_at_centre_hu()
    };
    let (heart, shoulders, skin) = (at(HEART), at([-10.0, 30.0, 118.0]), at([-14.0, -120.0, 0.0]));
    assert!((0.9..1.1).contains(&heart), "heart {heart}");
    assert!((1.3..2.5).contains(&(shoulders / heart)), "shoulders {shoulders}");
    assert!((0.4..0.9).contains(&(skin / heart)), "skin {skin}");
}

/// Full width at half maximum of a Gaussian whose integral is the edge of a ball: HU against the distance to the centre.
fn edge_fwhm(volume: &Volume, centre: [f64; 3], radius: f64, keep: impl Fn([f64; 3]) -> bool) -> f64 {
    let [inside, outside] = [40.0, -862.0]; // see `still_life`; the lung is as drawn, so it is measured below
    let mut samples: Vec<(f64, f64)> = Vec::new();
    for ((z, y, x), hu) in volume.hu().indexed_iter() {
        let p = volume.geometry().centre_of(VoxelIndex([z, y, x])).0;
        let d: [f64; 3] = std::array::from_fn(|i| p[i] - centre[i]);
        let r = d.iter().map(|v| v * v).sum::<f64>().sqrt();
        if keep(d.map(|v| v / r)) && (r - radius).abs() < 6.0 {
            samples.push((r - radius, f64::from(*hu)));
        }
    }
    samples.sort_by(|a, b| a.0.total_cmp(&b.0));
    let far: Vec<f64> = samples.iter().filter(|s| s.0 > 4.0).map(|s| s.1).collect();
    let lung = if far.is_empty() { outside } else { far.iter().sum::<f64>() / far.len() as f64 };
    // Where the edge has fallen to 0.76 and 0.24 of its height lies half a full width of half maximum to either side:
    // Phi(1.1775 sigma) = 0.8805.
    let crossing = |share: f64| {
        let level = lung + share * (inside - lung);
        let bins: Vec<(f64, f64)> = samples
            .chunks((samples.len() / 120).max(1))
            .map(|c| {
                let n = c.len() as f64;
                (c.iter().map(|s| s.0).sum::<f64>() / n, c.iter().map(|s| s.1).sum::<f64>() / n)
            })
            .collect();
        let pair = bins.windows(2).find(|w| w[0].1 >= level && w[1].1 < level).expect("the edge falls");
        pair[0].0 + (pair[0].1 - level) / (pair[0].1 - pair[1].1) * (pair[1].0 - pair[0].0)
    };
    crossing(0.1195) - crossing(0.8805)
}

const BALL: [f64; 3] = [-75.0, 0.0, 10.0];

#[test]
fn an_edge_in_the_plane_is_as_blurred_as_the_kernel_says() {
    let body = Body::of(&still_life(Some((BALL, 12.0))));
    for (kernel, mm) in [(Kernel::Soft, 1.4), (Kernel::Standard, 1.0)] {
        let scanner = quiet(&Scanner { kernel, ..Scanner::screening() });
        let grid = grid([-95.0, -20.0, 8.5], [3, 60, 60], [1.25, 0.7, 0.7]);
        let volume = body.render_window(&scanner, &grid, 0).volume;
        let fwhm = edge_fwhm(&volume, BALL, 12.0, |u| u[2].abs() < 0.2);
        assert!((fwhm / mm - 1.0).abs() < 0.15, "{kernel:?}: {fwhm:.2} mm instead of {mm}");
    }
}

#[test]
fn the_slice_profile_is_as_wide_as_the_slice_is_thick_whatever_the_orientation() {
    let body = Body::of(&still_life(Some((BALL, 12.0))));
    let thick = quiet(&Scanner { slice_thickness_mm: 5.0, kernel: Kernel::Standard, ..Scanner::screening() });
    // A slab of width t turns an edge into a ramp of that width: from 0.1195 to 0.8805 in 0.761 t.
    let check = |direction: [[f64; 3]; 3]| {
        let n = 34.0;
        let along: [f64; 3] = std::array::from_fn(|i| {
            BALL[i] - 0.5 * 0.7 * n * (direction[0][i] + direction[1][i]) - 20.0 * direction[2][i]
        });
        let spacing = Spacing::new([0.625, 0.7, 0.7]).expect("positive");
        let grid = Geometry::new([64, 35, 35], spacing, WorldPoint(along), direction).expect("a box");
        let volume = body.render_window(&thick, &grid, 0).volume;
        let normal = direction[2];
        let width = edge_fwhm(&volume, BALL, 12.0, |u| (0..3).map(|i| u[i] * normal[i]).sum::<f64>().abs() > 0.99);
        assert!((width / (0.761 * 5.0) - 1.0).abs() < 0.12, "{direction:?}: {width:.2} mm");
    };
    check(Geometry::AXIAL);
    check([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]); // coronal
    check([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]); // sagittal
    let (s, c) = 0.5f64.sin_cos();
    check([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]]); // tilted
}

#[test]
fn a_slanted_grid_shows_the_same_patient() {
    let scene = Scene::draw(&CaseMix { nodules_mean: 8.0, ..CaseMix::preset(Difficulty::Standard) }, 3);
    let body = Body::of(&scene);
    let scanner = quiet(&Scanner { kernel: Kernel::Standard, slice_thickness_mm: 1.0, ..Scanner::screening() });
    let centre = [-70.0, 10.0, 0.0];
    let axial = grid(centre.map(|v| v - 20.0), [40; 3], [1.0; 3]);
    let straight = body.render_window(&scanner, &axial, 0);
    let (s, c) = 0.6f64.sin_cos();
    let direction = [[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]];
    let first: [f64; 3] =
        std::array::from_fn(|i| centre[i] - 12.0 * (direction[0][i] + direction[1][i] + direction[2][i]));
    let slanted = Geometry::new([25; 3], axial.spacing(), WorldPoint(first), direction).expect("a box");
    let tilted = body.render_window(&scanner, &slanted, 0);
    let (mut n, mut differ, mut labels, mut error) = (0, 0, 0, 0.0);
    for ((z, y, x), hu) in tilted.volume.hu().indexed_iter() {
        let at = axial.voxel_at(slanted.centre_of(VoxelIndex([z, y, x])));
        let Some(at) = at else { continue };
        n += 1;
        let there = f64::from(straight.volume.hu()[at.0]);
        error += (f64::from(*hu) - there).abs();
        differ += usize::from((f64::from(*hu) - there).abs() > 300.0);
        labels += usize::from(tilted.lungs.labels()[[z, y, x]] != straight.lungs.labels()[at.0]);
    }
    assert!(n > 10_000);
    // Nearest voxels lie up to 0.9 mm apart: only edges differ.
    assert!(error / f64::from(n) < 25.0, "mean difference {} HU", error / f64::from(n));
    assert!(differ * 50 < n as usize && labels * 100 < n as usize, "{differ} edges, {labels} labels of {n}");

    // The same on a window of the slanted grid, and for any number of threads.
    let noisy = Scanner { slice_thickness_mm: 1.0, ..Scanner::screening() };
    let whole = body.render_window(&noisy, &slanted, 7).volume;
    let part = body.render_window(&noisy, &slanted.window([9, 6, 5], [10, 12, 14]), 7).volume;
    let cut = whole.hu().slice(ndarray::s![9..19, 6..18, 5..19]).to_owned();
    let worst = part.hu().iter().zip(&cut).map(|(a, b)| (a - b).abs()).max().expect("voxels");
    assert!(worst <= 1, "{worst} HU");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    assert!(pool.install(|| body.render_window(&noisy, &slanted, 7).volume) == whole);
}

#[test]
fn hardening_darkens_the_middle_and_the_band_between_the_shoulders() {
    let body = Body::of(&still_life(None));
    let plain = quiet(&Scanner::screening());
    let loss = |cupping_hu: f64, band_hu: f64, p: [f64; 3]| {
        let hard = Scanner { artefacts: Artefacts { cupping_hu, band_hu, breath_mm: 0.0 }, ..plain.clone() };
        let grid = grid(p, [1, 1, 1], [1.25, 0.7, 0.7]);
        let hu = |scanner: &Scanner| body.render_window(scanner, &grid, 0).volume.as_slice()[0];
        hu(&plain) - hu(&hard)
    };
    let (heart, flank) = (loss(20.0, 0.0, HEART), loss(20.0, 0.0, [155.0, 0.0, -40.0]));
    assert!((15..=25).contains(&heart), "{heart}");
    assert!(flank < heart - 4, "{flank} HU near the skin, {heart} in the middle");
    let (heart, shoulders) = (loss(0.0, 60.0, HEART), loss(0.0, 60.0, [0.0, 35.0, 120.0]));
    assert!(
        (40..=80).contains(&shoulders) && 2 * heart < shoulders,
        "{shoulders} HU between the shoulders, {heart} in the heart"
    );
    assert_eq!(loss(20.0, 60.0, [0.0, -170.0, 0.0]), 0, "air stays air");
}

#[test]
fn breathing_doubles_the_diaphragm_and_the_reference_moves_along() {
    let scene = Scene::draw(&CaseMix { nodules_mean: 12.0, ..CaseMix::preset(Difficulty::Easy) }, 5);
    let held = quiet(&Scanner { artefacts: Artefacts::NONE, ..Scanner::small() });
    let breathing = Scanner { artefacts: Artefacts { breath_mm: 14.0, ..Artefacts::NONE }, ..held.clone() };
    let body = Body::of(&scene);
    let (still, moving) = (body.render(&held, 2), body.render(&breathing, 2));
    let height = |scan: &lungai_phantom::Rendered, id: &str| {
        scan.nodules.iter().find(|n| n.id == id).map(|n| n.position.0[2]).expect("in both")
    };
    let mut farthest = 0.0f64;
    for nodule in &scene.nodules {
        let moved = height(&moving, &nodule.id) - height(&still, &nodule.id);
        assert!(moved.abs() <= 7.0);
        assert!(nodule.position[2] < 70.0 || moved.abs() < 1e-6, "the apex stays");
        farthest = farthest.max(moved.abs());
        // The voxel at the stated centre of a large nodule is dense in both.
        if nodule.traits.diameter_mm > 12.0 && nodule.traits.kind == NoduleKind::Solid {
            let at = moving.nodules.iter().find(|n| n.id == nodule.id).expect("in both").position;
            let hu = moving.volume.hu()[moving.volume.geometry().voxel_at(at).expect("on the grid").0];
            assert!(hu > -250, "{} HU in {}", hu, nodule.id);
        }
    }
    assert!(farthest > 1.0, "nodules move by up to {farthest} mm");
    // Half-tones at the diaphragm: voxels between air and tissue near the base.
    let low = scene.chest.lung_extent_z()[0];
    let half_tones = |scan: &lungai_phantom::Rendered| {
        let hu = scan.volume.hu();
        let slices = hu.indexed_iter().filter(|((z, y, x), hu)| {
            let p = scan.volume.geometry().centre_of(VoxelIndex([*z, *y, *x])).0;
            p[2] < low + 60.0
                && p[0].abs() > 50.0
                && p[0].abs() < 90.0
                && (-60.0..30.0).contains(&p[1])
                && (-600..-250).contains(*hu)
        });
        slices.count()
    };
    let (a, b) = (half_tones(&still), half_tones(&moving));
    assert!(b > a * 13 / 10, "{a} half-tones at rest, {b} breathing");
}

#[test]
fn a_patient_who_lies_differently_is_the_same_patient() {
    let scene = Scene::draw(&CaseMix { nodules_mean: 8.0, ..CaseMix::preset(Difficulty::Standard) }, 3);
    let body = Body::of(&scene);
    let scanner = Scanner {
        matrix: 110,
        pixel_spacing_mm: 3.4,
        slice_spacing_mm: 4.0,
        slice_thickness_mm: 4.0,
        ..quiet(&Scanner::screening())
    };
    let grid = scanner.geometry(&scene);
    let at_rest = body.render(&scanner, 1);
    let same = body.render_posed(&scanner, &grid, &Pose::NONE, 1, Masks::NONE);
    assert!(same == at_rest, "no movement, no difference");

    let pose = Pose { shift_mm: [5.0, -3.0, 4.0], turn_deg: [2.0, -3.0, 4.0] };
    let posed = body.render_posed(&scanner, &grid, &pose, 1, Masks::NONE);
    assert_eq!(posed.volume.geometry(), at_rest.volume.geometry());
    for label in [1, 2] {
        let ratio = posed.lungs.volume_ml(label) / at_rest.lungs.volume_ml(label);
        assert!((ratio - 1.0).abs() < 0.01, "lung {label}: {ratio}");
    }
    // Where a large nodule is stated, it is seen: the image agrees with the one at rest at the same point of the patient.
    let (mut n, mut error) = (0.0, 0.0);
    for ((z, y, x), hu) in at_rest.volume.hu().indexed_iter().step_by(7) {
        let p = at_rest.volume.geometry().centre_of(VoxelIndex([z, y, x])).0;
        if let Some(at) = posed.volume.geometry().voxel_at(WorldPoint(pose.seen(p))) {
            n += 1.0;
            error += f64::from((posed.volume.hu()[at.0] - hu).abs());
        }
    }
    assert!(error / n < 60.0, "mean difference {} HU on voxels up to 3 mm apart", error / n);
    let other =
        body.render_posed(&scanner, &grid, &Pose { shift_mm: [-5.0, 3.0, -4.0], turn_deg: [0.0; 3] }, 1, Masks::NONE);
    let truth = |scan: &lungai_phantom::Rendered| scan.nodules[0].position;
    let moved = truth(&other).distance_mm(truth(&at_rest));
    assert!((moved - 50f64.sqrt()).abs() < 1e-9, "{moved}");
}

/// Volume by what a nodule adds to the image: the scan minus the scan without it, over the nodule's contrast.
#[test]
fn a_measured_doubling_time_is_the_true_one() {
    let first = still_life(Some((BALL, 4.0)));
    let scanner = quiet(&Scanner::screening());
    let grid = grid(BALL.map(|v| v - 14.0), [23, 41, 41], [1.25, 0.7, 0.7]);
    let empty = Body::of(&still_life(None)).render_window(&scanner, &grid, 0).volume;
    let lung = f64::from(empty.hu()[[11, 20, 20]]);
    let volume = |scene: &Scene| {
        let with = Body::of(scene).render_window(&scanner, &grid, 0).volume;
        let added: f64 = with.as_slice().iter().zip(empty.as_slice()).map(|(a, b)| f64::from(a - b)).sum();
        added / (40.0 - lung) * grid.spacing().voxel_mm3()
    };
    let v1 = volume(&first);
    assert!((v1 / first.nodules[0].volume_mm3 - 1.0).abs() < 0.01, "{v1} mm3");
    for (days, doubling) in [(90.0, 90.0), (200.0, 100.0), (365.0, 180.0)] {
        let v2 = volume(&first.grown(days, |_| doubling).expect("room"));
        let measured = days * 2f64.ln() / (v2 / v1).ln();
        assert!((measured / doubling - 1.0).abs() < 0.01, "{measured} days instead of {doubling}");
    }
}
