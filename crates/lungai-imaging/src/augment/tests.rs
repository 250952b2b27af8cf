use super::*;
use lungai_trace::verifies;
use proptest::prelude::*;

fn geometric() -> AugmentConfig {
    serde_yaml::from_str(
        "
flip: {probability: [0.5, 0.5, 0.5]}
rotation: {probability: 1, max_deg: [30, 20, 20]}
scale: {probability: 1, range: [0.8, 1.25], anisotropy: 1.1}
shift: {probability: 1, max_mm: [3, 3, 3]}
",
    )
    .unwrap()
}

/// A lattice for patches of about 48 mm.
fn elastic() -> AugmentConfig {
    let elastic = Elastic { probability: 1.0, control: [5; 3], spacing_mm: [16.0; 3], amplitude_mm: 5.0 };
    AugmentConfig { elastic: Some(elastic), ..geometric() }
}

fn everything() -> AugmentConfig {
    let more = "
kernel: {probability: 1, sigma_mm: [0.4, 1.2], amount: [-1, 1]}
noise: {probability: 1, kernels: [none, soft, standard, sharp], sd_hu: [5, 30], dose: [0.2, 1], slice_mm: 1}
thickness: {probability: 1, range_mm: [2.5, 5], profile: gaussian}
contrast: {probability: 1, range: [0.95, 1.05]}
brightness: {probability: 1, max_hu: 20}
gamma: {probability: 1, range: [0.7, 1.4], window_hu: [-1200, 600]}
";
    elastic().and(serde_yaml::from_str(more).unwrap())
}

fn mm(zyx: [f64; 3]) -> Spacing {
    Spacing::new(zyx).unwrap()
}

/// Smooth and different everywhere.
fn waves(size: [usize; 3]) -> Array3<f32> {
    Array3::from_shape_fn(size, |(z, y, x)| {
        200.0 * (0.3 * z as f32).sin() + 300.0 * (0.2 * y as f32 + 0.1 * x as f32).cos() - 400.0
    })
}

#[test]
fn the_identity_changes_nothing() {
    let patch = waves([4, 5, 6]);
    let none = Augmentation::identity();
    let motion = none.motion([4, 5, 6], mm([2.0, 1.0, 1.0]));
    let point = VoxelPoint([1.0, 2.0, 3.0]);
    assert_eq!(none.image(&patch, mm([2.0, 1.0, 1.0]), -1024.0), patch);
    assert_eq!((motion.point(point), motion.point_back(point)), (point, point));
    assert_eq!(motion.radius(point, 7.0), 7.0);
    // The long way round, through sampling, is exact as well.
    let mut turned = none.clone();
    turned.rotate_deg = [0.0, 0.0, 1e-14];
    assert!(turned.moves());
    assert_eq!(turned.image(&patch, mm([1.0; 3]), -1024.0), patch);
}

/// A ball in a patch whose voxels have any shape. The image holds the distance from its surface in mm, so that places
/// between voxels can be told.
struct Ball {
    size: [usize; 3],
    spacing: [f64; 3],
    centre: [f64; 3],
    radius_mm: f64,
}

impl Ball {
    fn depth(&self) -> Array3<f32> {
        Array3::from_shape_fn(self.size, |(z, y, x)| {
            let off = [0, 1, 2].map(|i| ([z, y, x][i] as f64 - self.centre[i]) * self.spacing[i]);
            (self.radius_mm - off.iter().map(|v| v * v).sum::<f64>().sqrt()) as f32
        })
    }

    fn bounds(&self) -> VoxelBox {
        let reach = self.spacing.map(|s| self.radius_mm / s);
        VoxelBox {
            low: VoxelPoint([0, 1, 2].map(|i| self.centre[i] - reach[i])),
            high: VoxelPoint([0, 1, 2].map(|i| self.centre[i] + reach[i])),
        }
    }
}

/// Where along an axis the inside begins and ends: the deepest voxel of each slice, followed linearly to depth 0.
fn extent(depth: &Array3<f32>, axis: usize) -> [f64; 2] {
    let deepest: Vec<f64> = depth
        .axis_iter(ndarray::Axis(axis))
        .map(|s| f64::from(s.iter().copied().fold(f32::NEG_INFINITY, f32::max)))
        .collect();
    let crossing = |outer: usize, inner: usize| {
        let t = deepest[outer] / (deepest[outer] - deepest[inner]);
        outer as f64 + t * (inner as f64 - outer as f64)
    };
    let first = deepest.iter().position(|d| *d > 0.0).unwrap();
    let last = deepest.iter().rposition(|d| *d > 0.0).unwrap();
    [crossing(first - 1, first), crossing(last + 1, last)]
}

fn centroid(weights: &Array3<f64>) -> ([f64; 3], f64) {
    let sum = weights.sum();
    let mut middle = [0.0; 3];
    for ((z, y, x), w) in weights.indexed_iter() {
        [z, y, x].iter().zip(&mut middle).for_each(|(i, m)| *m += *i as f64 * w / sum);
    }
    (middle, sum)
}

/// Returns by how many voxels the mask's centroid is off.
fn check_everything_moves_together(config: &AugmentConfig, ball: &Ball, seed: u64) -> [f64; 3] {
    let spacing = mm(ball.spacing);
    let draw = Augmentation::draw(config, seed);
    let image = ball.depth();
    let moved = draw.image(&image, spacing, -100.0);
    let mask = draw.labels(&image.mapv(|d| u8::from(d > 0.0)), spacing);
    let motion = draw.motion(ball.size, spacing);
    let [found] = draw.boxes(ball.size, spacing, &[ball.bounds()])[..] else { panic!("one box in, one out") };
    for axis in 0..3 {
        let [low, high] = extent(&moved, axis);
        let (want_low, want_high) = (found.low.0[axis], found.high.0[axis]);
        assert!(
            (low - want_low).abs() < 0.1 && (high - want_high).abs() < 0.1,
            "seed {seed}, axis {axis}: image {low:.3}..{high:.3}, box {want_low:.3}..{want_high:.3}"
        );
    }
    // The centre stays the centre under affine maps; bending moves the centroid of a ball a little off its centre's image.
    // So the truth is the mean of the images of the ball's points, which stand for as much as they are stretched.
    let (mut want, mut volume) = ([0.0; 3], 0.0);
    for ((z, y, x), depth) in image.indexed_iter() {
        let share = (0.5 + f64::from(*depth)).clamp(0.0, 1.0);
        if share > 0.0 {
            let at = VoxelPoint([z as f64, y as f64, x as f64]);
            let stretched = share * motion.radius(at, 1.0).powi(3);
            motion.point(at).0.iter().zip(&mut want).for_each(|(v, sum)| *sum += v * stretched);
            volume += stretched;
        }
    }
    let want = want.map(|v| v / volume);
    let (inside, n) = centroid(&moved.mapv(|d| (0.5 + f64::from(d)).clamp(0.0, 1.0)));
    let (labelled, n_labelled) = centroid(&mask.mapv(f64::from));
    for axis in 0..3 {
        assert!((inside[axis] - want[axis]).abs() < 0.1, "seed {seed}: image {inside:?}, points {want:?}");
    }
    let radius_mm = motion.radius(VoxelPoint(ball.centre), ball.radius_mm);
    let ball_of = |n: f64| (n * spacing.voxel_mm3() * 0.75 / std::f64::consts::PI).cbrt();
    for n in [n, n_labelled] {
        let found = ball_of(n);
        assert!((found / radius_mm - 1.0).abs() < 0.03, "seed {seed}: radius {found} mm, not {radius_mm}");
    }
    std::array::from_fn(|axis| labelled[axis] - want[axis])
}

/// Labels are whole voxels before and after: the rounding of either may beat with the other's by a fifth of a voxel. It has
/// no preferred direction, so that over many draws less than a twentieth remains.
fn check_masks_are_unbiased(off: &[[f64; 3]]) {
    for axis in 0..3 {
        let mean = off.iter().map(|v| v[axis]).sum::<f64>() / off.len() as f64;
        let worst = off.iter().map(|v| v[axis].abs()).fold(0.0, f64::max);
        assert!(mean.abs() < 0.05 && worst < 0.2, "axis {axis}: off by {mean} on average, {worst} at most");
    }
}

#[verifies("FR-002")]
#[test]
fn image_mask_points_radii_and_boxes_move_together() {
    let ball = Ball { size: [54, 52, 56], spacing: [1.0; 3], centre: [28.0, 24.0, 29.0], radius_mm: 9.0 };
    for config in [geometric(), elastic()] {
        let off: Vec<_> = (0..30).map(|seed| check_everything_moves_together(&config, &ball, seed)).collect();
        check_masks_are_unbiased(&off);
    }
}

#[verifies("FR-002")]
#[test]
fn they_also_do_on_voxels_that_are_no_cubes() {
    let ball = Ball { size: [44, 64, 76], spacing: [1.2, 0.8, 0.7], centre: [22.0, 29.0, 39.0], radius_mm: 9.0 };
    for config in [geometric(), elastic()] {
        let off: Vec<_> = (100..130).map(|seed| check_everything_moves_together(&config, &ball, seed)).collect();
        check_masks_are_unbiased(&off);
    }
}

#[test]
fn a_quarter_turn_within_the_slice_turns_millimetres_not_voxels() {
    let mut draw = Augmentation::identity();
    draw.rotate_deg = [90.0, 0.0, 0.0];
    // Rows of 2 mm, columns of 1 mm, middle at (4, 10). 4 mm along x is 4 columns; turned about z it is 2 rows.
    let motion = draw.motion([1, 9, 21], mm([1.0, 2.0, 1.0]));
    let VoxelPoint([z, y, x]) = motion.point(VoxelPoint([0.0, 4.0, 14.0]));
    assert!(z.abs() < 1e-12 && ((y - 4.0).abs() - 2.0).abs() < 1e-12 && (x - 10.0).abs() < 1e-12, "{y} {x}");
    // A box of 6 mm by 2 mm lies across afterwards.
    let turned = motion.bounds(VoxelBox { low: VoxelPoint([0.0, 3.5, 7.0]), high: VoxelPoint([0.0, 4.5, 13.0]) });
    for (found, want) in turned.low.0.iter().chain(&turned.high.0).zip([0.0, 2.5, 9.0, 0.0, 5.5, 11.0]) {
        assert!((found - want).abs() < 1e-12, "{turned:?}");
    }
}

#[test]
fn a_radius_grows_as_the_cube_root_of_the_volume() {
    let mut draw = Augmentation::identity();
    draw.scale = [1.0, 2.0, 4.0];
    let motion = draw.motion([9; 3], mm([2.0, 1.0, 1.0]));
    assert!((motion.radius(VoxelPoint([4.0; 3]), 3.0) - 6.0).abs() < 1e-12);
    let grown = motion.bounds(VoxelBox { low: VoxelPoint([3.0; 3]), high: VoxelPoint([5.0; 3]) });
    for (found, want) in grown.low.0.iter().zip([3.0, 2.0, 0.0]) {
        assert!((found - want).abs() < 1e-12, "{grown:?}");
    }
}

proptest! {
    #[verifies("FR-002")]
    #[test]
    fn a_reversed_draw_returns_points(
        seed: u64,
        spacing in prop::array::uniform3(0.4f64..3.0),
        part in prop::array::uniform3(-0.3f64..1.3),
    ) {
        let size = [24, 40, 48];
        for config in [geometric(), elastic()] {
            let motion = Augmentation::draw(&config, seed).motion(size, mm(spacing));
            let point = VoxelPoint([0, 1, 2].map(|i| part[i] * size[i] as f64));
            for there_and_back in [motion.point_back(motion.point(point)), motion.point(motion.point_back(point))] {
                for ((found, want), mm) in there_and_back.0.iter().zip(point.0).zip(spacing) {
                    prop_assert!((found - want).abs() * mm < 1e-6, "{there_and_back:?} is not {point:?}");
                }
            }
        }
    }
}

#[verifies("FR-003")]
#[test]
fn a_mirror_image_has_its_lungs_renamed() {
    let patient = Array3::from_shape_fn((2, 2, 4), |(_, _, x)| [1u8, 1, 0, 2][x]);
    let along =
        |probability| Augmentation::draw(&AugmentConfig { flip: Some(Flip { probability }), ..AugmentConfig::NONE }, 3);
    let mirrored = along([0.0, 0.0, 1.0]);
    let row = |labels: Array3<u8>| labels.iter().take(4).copied().collect::<Vec<_>>();
    assert_eq!(row(mirrored.lungs(&patient, mm([1.0; 3]))), [1, 0, 2, 2]);
    assert_eq!(row(mirrored.labels(&patient, mm([1.0; 3]))), [2, 0, 1, 1]);
    // Head over heels, right stays right.
    assert_eq!(along([1.0, 0.0, 0.0]).lungs(&patient, mm([1.0; 3])), patient);
}

#[verifies("FR-002")]
#[test]
fn a_recorded_draw_gives_the_same_bits() {
    let (patch, spacing) = (waves([12, 20, 37]), mm([2.0, 0.9, 0.9]));
    let mask = patch.mapv(|hu| u8::from(hu > -400.0));
    for seed in 0..20 {
        let draw = Augmentation::draw(&everything(), seed);
        let text = serde_yaml::to_string(&draw).unwrap();
        let again: Augmentation = serde_yaml::from_str(&text).unwrap();
        assert_eq!(again, draw);
        assert_eq!(bits(&again.image(&patch, spacing, -1024.0)), bits(&draw.image(&patch, spacing, -1024.0)));
        assert_eq!(again.labels(&mask, spacing), draw.labels(&mask, spacing));
        assert_eq!(draw, Augmentation::draw(&everything(), seed));
    }
    assert_ne!(Augmentation::draw(&everything(), 1), Augmentation::draw(&everything(), 2));
    let broken = serde_yaml::to_string(&Augmentation::identity()).unwrap().replace("contrast: 1.0", "contrast: 0.0");
    let error = serde_yaml::from_str::<Augmentation>(&broken).unwrap_err().to_string();
    assert!(error.contains("contrast is 0, not within 0.1..=10"), "{error}");
}

fn bits(image: &Array3<f32>) -> Vec<u32> {
    image.iter().map(|v| v.to_bits()).collect()
}

#[verifies("FR-002")]
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (patch, spacing) = (waves([33, 20, 37]), mm([1.1, 0.9, 0.9]));
    let draw = Augmentation::draw(&everything(), 9);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| (bits(&draw.image(&patch, spacing, -1024.0)), draw.labels(&patch.mapv(|v| v as u8), spacing)))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn switching_a_part_on_leaves_the_others_as_they_were() {
    let alone = Augmentation::draw(&geometric(), 5);
    let joined = Augmentation::draw(&everything(), 5);
    assert_eq!((alone.flip, alone.rotate_deg, alone.scale), (joined.flip, joined.rotate_deg, joined.scale));
}

fn mean_sd(image: &Array3<f32>) -> (f64, f64) {
    let image = image.mapv(f64::from);
    (image.mean().unwrap(), image.std(0.0))
}

#[verifies("FR-002")]
#[test]
fn noise_grows_as_dose_and_thickness_shrink() {
    let patch = Array3::from_elem((64, 48, 48), -800.0);
    let sd = |dose: f64, slice_mm: f64, thickness_mm: Option<f64>| {
        let noise = NoiseDraw { kernel: NoiseKernel::Soft, sd_hu: 20.0, dose, slice_mm: 1.0, seed: 3 };
        let thickness = thickness_mm.map(|mm| ThicknessDraw { mm, profile: Profile::Box });
        let draw = Augmentation { noise: Some(noise), thickness, ..Augmentation::identity() };
        let noisy = draw.image(&patch, mm([slice_mm, 0.7, 0.7]), -1024.0);
        let (mean, sd) = mean_sd(&noisy);
        assert!((mean + 800.0).abs() < 1.0, "{mean}");
        // The middle slice is a thick slice; its neighbours are blends of two.
        let middle = noisy.index_axis(ndarray::Axis(0), 32).mapv(f64::from).std(0.0);
        if thickness_mm.is_some() { middle } else { sd }
    };
    for (found, want) in [
        (sd(1.0, 1.0, None), 20.0),
        (sd(0.25, 1.0, None), 40.0),     // a quarter of the dose
        (sd(1.0, 4.0, None), 10.0),      // slices four times as thick
        (sd(1.0, 1.0, Some(64.0)), 2.5), // one slice of all 64
    ] {
        assert!((found / want - 1.0).abs() < 0.1, "{found} is not {want}");
    }
}

#[test]
fn a_kernel_keeps_the_mean_and_blurs_or_sharpens() {
    let mut patch = Array3::zeros((3, 41, 41));
    patch[[1, 20, 20]] = 1000.0;
    let with = |amount| {
        let kernel = Some(KernelDraw { sigma_mm: 1.2, amount });
        Augmentation { kernel, ..Augmentation::identity() }.image(&patch, mm([1.0; 3]), 0.0)
    };
    let (blurred, sharp) = (with(-1.0), with(0.5));
    assert!((blurred.sum() - 1000.0).abs() < 0.1 && (sharp.sum() - 1000.0).abs() < 0.1);
    // The peak of a Gaussian of 1.2 pixels is 1 / (2 pi 1.2^2) = 0.1105 of its sum.
    let peak = blurred[[1, 20, 20]];
    assert!((peak - 110.5).abs() < 2.0, "{peak}");
    assert!((sharp[[1, 20, 20]] - (1000.0 + 0.5 * (1000.0 - peak))).abs() < 0.01);
    // Slices stay apart: that is the thickness' part.
    assert_eq!(blurred[[0, 20, 20]], 0.0);
    // Of a random patch blur keeps the mean, too, borders included within their share.
    let noise = NoiseDraw { kernel: NoiseKernel::White, sd_hu: 50.0, dose: 1.0, slice_mm: 1.0, seed: 1 };
    let random = Augmentation { noise: Some(noise), ..Augmentation::identity() }.image(&patch, mm([1.0; 3]), 0.0);
    let kernel = Some(KernelDraw { sigma_mm: 1.2, amount: -1.0 });
    let smooth = Augmentation { kernel, ..Augmentation::identity() }.image(&random, mm([1.0; 3]), 0.0);
    assert!((mean_sd(&smooth).0 - mean_sd(&random).0).abs() < 0.5);
    assert!(mean_sd(&smooth).1 < 0.5 * mean_sd(&random).1);
}

#[verifies("FR-002")]
#[test]
fn a_step_between_slices_becomes_a_ramp() {
    // As in the table of `filters`, now along z of a patch: slices of 6 mm on a grid of 2 mm.
    let patch = Array3::from_shape_fn((9, 2, 3), |(z, _, _)| if z < 5 { 0.0 } else { 90.0 });
    let thickness = Some(ThicknessDraw { mm: 6.0, profile: Profile::Box });
    let out = Augmentation { thickness, ..Augmentation::identity() }.image(&patch, mm([2.0, 1.0, 1.0]), 0.0);
    for (z, want) in [0.0, 0.0, 10.0, 20.0, 30.0, 50.0, 70.0, 90.0, 90.0].into_iter().enumerate() {
        assert!(out.index_axis(ndarray::Axis(0), z).iter().all(|v| (v - want).abs() < 1e-4), "slice {z}");
    }
}

#[verifies("FR-002")]
#[test]
fn contrast_brightness_and_gamma_by_hand() {
    let patch = Array3::from_shape_vec((1, 1, 5), vec![-1000.0, -600.0, 0.0, 400.0, 2000.0]).unwrap();
    let of = |draw: Augmentation| draw.image(&patch, mm([1.0; 3]), -1024.0).into_raw_vec_and_offset().0;
    let none = Augmentation::identity;
    // Air stays; 400 HU above it become 440.
    assert_close(&of(Augmentation { contrast: 1.1, ..none() }), &[-1000.0, -560.0, 100.0, 540.0, 2300.0]);
    assert_close(&of(Augmentation { offset_hu: -15.0, ..none() }), &[-1015.0, -615.0, -15.0, 385.0, 1985.0]);
    // Window -1000..600: -600 is 1/4 of it, 0 is 5/8, 400 is 7/8. Squares: 1/16, 25/64, 49/64. Beyond nothing changes.
    let gamma = Some(GammaDraw { exponent: 2.0, window_hu: [-1000.0, 600.0] });
    assert_close(&of(Augmentation { gamma, ..none() }), &[-1000.0, -900.0, -375.0, 225.0, 2000.0]);
    let root = Some(GammaDraw { exponent: 0.5, window_hu: [-1000.0, 600.0] });
    assert_close(&of(Augmentation { gamma: root, ..none() })[..2], &[-1000.0, -200.0]);
}

fn assert_close(found: &[f32], want: &[f32]) {
    for (f, w) in found.iter().zip(want) {
        assert!((f - w).abs() < 1e-3, "{found:?} is not {want:?}");
    }
}

#[verifies("FR-002")]
#[test]
fn the_six_augmentations_of_the_source_are_there_by_name() {
    let (size, spacing) = ([9, 33, 33], mm([1.0; 3]));
    let patch = waves(size);
    let off_centre = VoxelPoint([4.0, 16.0, 26.0]);
    for seed in 0..20 {
        let of = |config: &AugmentConfig| Augmentation::draw(config, seed);
        let to = |config: &AugmentConfig| of(config).motion(size, spacing).point(off_centre);
        // Ten voxels right of the middle: mirrored to the left, ...
        assert_eq!(to(&AugmentConfig::random_flip(1.0)), VoxelPoint([4.0, 16.0, 6.0]));
        // ... turned by at most 15 degrees within the slice, ...
        let VoxelPoint([z, y, x]) = to(&AugmentConfig::random_rotation(1.0, 15.0));
        let (dy, dx) = (y - 16.0, x - 16.0);
        assert!(z == 4.0 && (dy.hypot(dx) - 10.0).abs() < 1e-9 && dy.atan2(dx).to_degrees().abs() <= 15.0);
        assert!(dy != 0.0);
        // ... moved in or out with the size of things, which the source forgot.
        let scale = AugmentConfig::random_scale(1.0, [0.9, 1.1]);
        let grown = of(&scale).motion(size, spacing).radius(off_centre, 1.0);
        assert!((0.9..=1.1).contains(&grown) && (to(&scale).0[2] - 16.0 - 10.0 * grown).abs() < 1e-9);
        let change = |config: &AugmentConfig| of(config).image(&patch, spacing, -1024.0) - &patch;
        let (mean, sd) = mean_sd(&change(&AugmentConfig::random_noise(1.0, 10.0)));
        assert!(mean.abs() < 1.0 && sd > 0.0 && sd < 10.5, "{mean} {sd}");
        let contrast = of(&AugmentConfig::random_contrast(1.0, [0.95, 1.05])).image(&patch, spacing, -1024.0);
        let factor = (contrast[[0, 0, 0]] + 1000.0) / (patch[[0, 0, 0]] + 1000.0);
        assert!((0.95..=1.05).contains(&factor) && factor != 1.0);
        assert!((contrast[[5, 9, 9]] - (factor * (patch[[5, 9, 9]] + 1000.0) - 1000.0)).abs() < 0.01);
        let (offset, spread) = mean_sd(&change(&AugmentConfig::random_brightness(1.0, 20.0)));
        assert!(offset != 0.0 && offset.abs() <= 20.0 && spread < 1e-3);
        // With probability 0 none of them does anything.
        let never = AugmentConfig::random_flip(0.0)
            .and(AugmentConfig::random_rotation(0.0, 15.0))
            .and(AugmentConfig::random_scale(0.0, [0.9, 1.1]))
            .and(AugmentConfig::random_noise(0.0, 10.0))
            .and(AugmentConfig::random_contrast(0.0, [0.95, 1.05]))
            .and(AugmentConfig::random_brightness(0.0, 20.0));
        assert_eq!(of(&never), Augmentation::identity());
    }
}

#[test]
fn probabilities_hold() {
    let config = AugmentConfig::random_flip(0.3).and(AugmentConfig::random_rotation(0.7, 15.0));
    let draws: Vec<_> = (0..2000).map(|seed| Augmentation::draw(&config, seed)).collect();
    let share = |yes: &dyn Fn(&Augmentation) -> bool| draws.iter().filter(|d| yes(d)).count() as f64 / 2000.0;
    // Five standard errors are 0.05.
    assert!((share(&|d| d.flip[2]) - 0.3).abs() < 0.05);
    assert!((share(&|d| d.rotate_deg[0] != 0.0) - 0.7).abs() < 0.05);
    assert!((share(&|d| d.rotate_deg[0] > 0.0) - 0.35).abs() < 0.05);
    // The two are drawn apart: together as often as chance has it.
    assert!((share(&|d| d.flip[2] && d.rotate_deg[0] != 0.0) - 0.21).abs() < 0.05);
}

#[verifies("FR-002")]
#[test]
fn every_voxel_comes_from_where_the_points_say() {
    let (size, spacing) = ([20, 33, 38], mm([1.5, 0.8, 0.9]));
    let mask = Array3::from_shape_fn(size, |(z, y, x)| ((z * 31 + y * 17 + x * 7) % 251) as u8 + 1);
    // Linear along each axis, so that trilinear interpolation is exact.
    let ramp = |p: [f64; 3]| 3.0 * p[0] - 2.0 * p[1] + p[2] + 500.0;
    let image = Array3::from_shape_fn(size, |(z, y, x)| ramp([z as f64, y as f64, x as f64]) as f32);
    for (seed, config) in [(1, geometric()), (2, elastic()), (3, elastic()), (4, AugmentConfig::random_flip(1.0))] {
        let draw = Augmentation::draw(&config, seed);
        let motion = draw.motion(size, spacing);
        let (moved, labels) = (draw.image(&image, spacing, -1.0), draw.labels(&mask, spacing));
        let mut compared = 0;
        for ((z, y, x), found) in labels.indexed_iter() {
            let VoxelPoint(from) = motion.point_back(VoxelPoint([z as f64, y as f64, x as f64]));
            // Where a place lies on the border between two voxels, rounding may decide either way.
            if from.iter().any(|v| ((v - v.floor()) - 0.5).abs() < 1e-3) {
                continue;
            }
            compared += 1;
            let outside = from.iter().zip(size).any(|(v, n)| *v < -0.5 || *v > n as f64 - 0.5);
            let nearest = if outside { 0 } else { mask[from.map(|v| v.round() as usize)] };
            assert_eq!(*found, nearest, "{z} {y} {x} from {from:?}");
            let clamped = [0, 1, 2].map(|i| from[i].clamp(0.0, size[i] as f64 - 1.0));
            let want = if outside { -1.0 } else { ramp(clamped) };
            assert!((f64::from(moved[[z, y, x]]) - want).abs() < 2e-3, "{z} {y} {x}: {} {want}", moved[[z, y, x]]);
        }
        assert!(compared > 20_000);
    }
}
