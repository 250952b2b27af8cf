//! The lung region by classical means: air inside of the body, without the airways, left and right apart.
//!
//! It needs no training, so it serves as fallback and as yardstick for the network. It never changes a voxel
//! of the image: nodules inside of a lung and on its border belong to the mask.
//!
//! The work is done on an axial grid of about 2 mm; where the scan is finer, the border is then decided again
//! on the scan's own voxels.

use crate::components::{Components, Connectivity, Region, components};
use crate::distance;
use crate::morphology::{close_mm, dilate_mm, fill_holes, open_mm};
use crate::resample::{resample, resample_labels};
use lungai_ct::{Geometry, LabelMap, Lung, Spacing, Volume, VoxelIndex, VoxelPoint, WorldPoint};
use lungai_trace::implements;
use ndarray::{Array3, Axis, Zip, s};
use std::collections::BinaryHeap;

/// Halfway between lung (about -860 HU) and soft tissue (about 40 HU).
const AIR_BELOW_HU: i16 = -410;
/// Air without tissue: around the patient, in the trachea and in the gut. Lung tissue lies above it.
const PURE_AIR_BELOW_HU: i16 = -950;
/// Padding outside of the scan circle (-2000, -2048, -3024), which nobody measured; noise in air stays above.
const UNMEASURED_BELOW_HU: i16 = -1500;
/// Finer axes are worked on at this spacing.
const WORK_MM: f64 = 2.0;
/// A ball of this radius closes the border: vessels at the hilum and nodules on the pleura.
const CLOSING_MM: f64 = 8.0;
/// Small pieces belong to a lung if they are as close as this; others are gut.
const SPLINTER_MM: f32 = 6.0;
/// Smaller pieces of air are not lung.
const SMALLEST_PIECE_ML: f64 = 2.0;

/// Segments both lungs: 0 background, [`Lung::Right`], [`Lung::Left`] as the patient's position tells, on the
/// grid of `volume`.
///
/// The trachea and the main bronchi are left out. A field of view with one lung gives one label; one
/// without lung gives an empty map.
#[implements("FR-003", "SW-301")]
pub fn segment(volume: &Volume) -> LabelMap {
    let axial = axial_grid(volume.geometry());
    let coarse = axial.respaced(work_spacing(axial.spacing()));
    let work = resample(volume, &coarse);
    let coarse_lungs = segment_axial(&work);
    if coarse == axial {
        let map = LabelMap::new(coarse_lungs.labels, coarse).expect("labels were made on the working grid");
        return resample_labels(&map, volume.geometry());
    }
    refine(volume, &work, &coarse_lungs)
}

/// The voxels of `source` listed along the patient's axes, where the source's axes follow them within a
/// thousandth; else an axial grid around it.
fn axial_grid(source: &Geometry) -> Geometry {
    let size = source.size();
    let spacing = source.spacing().zyx_mm();
    // Patient axis (0 = x) that the x-, y- and z-index follow most closely.
    let direction = source.direction();
    let along = direction.map(|d| (0..3).max_by(|a, b| d[*a].abs().total_cmp(&d[*b].abs())).unwrap_or(0));
    let mut low = [f64::INFINITY; 3];
    let mut high = [f64::NEG_INFINITY; 3];
    for corner in 0..8usize {
        let at = std::array::from_fn(|i| if corner >> i & 1 == 1 { size[i] as f64 - 1.0 } else { 0.0 });
        let world = source.to_world(VoxelPoint(at)).0;
        for axis in 0..3 {
            low[axis] = low[axis].min(world[axis]);
            high[axis] = high[axis].max(world[axis]);
        }
    }
    let mut own = [f64::INFINITY; 3]; // along patient x, y, z
    for (index, axis) in along.into_iter().enumerate() {
        own[axis] = own[axis].min(spacing[2 - index]);
    }
    let fallback = spacing.into_iter().fold(f64::INFINITY, f64::min);
    let own = own.map(|mm| if mm.is_finite() { mm } else { fallback });
    let zyx = [own[2], own[1], own[0]];
    let voxels = std::array::from_fn(|i| ((high[2 - i] - low[2 - i]) / zyx[i]).round() as usize + 1);
    Geometry::new(voxels, Spacing::new(zyx).expect("taken from a grid"), WorldPoint(low), Geometry::AXIAL)
        .expect("a box around a grid is a grid")
}

fn work_spacing(own: Spacing) -> Spacing {
    Spacing::new(own.zyx_mm().map(|mm| if mm < 0.8 * WORK_MM { WORK_MM } else { mm })).expect("no finer than a grid's")
}

/// What was found on the working grid.
struct Coarse {
    labels: Array3<u8>,
    /// Air that is not lung: around the patient, or in the airways with their walls.
    excluded: Array3<bool>,
}

fn segment_axial(work: &Volume) -> Coarse {
    let hu = work.hu();
    let spacing = work.geometry().spacing();
    let room = room_air(work);
    let inner = Zip::from(hu).and(&room).par_map_collect(|hu, room| is_air(*hu) && !*room);
    let airways = airways(work, &inner);
    let walls = dilate_mm(airways.view(), spacing, 1.01 * spacing.zyx_mm()[1].max(2.0));
    let gas = gut_gas(work, &inner, &walls);
    let candidate =
        Zip::from(&inner).and(&walls).and(&gas).par_map_collect(|inner, wall, gas| *inner && !*wall && !*gas);
    let mut labels = sides(work, pieces(work, &candidate));

    let excluded = Zip::from(&room).and(&airways).and(&gas).par_map_collect(|a, b, c| *a || *b || *c);
    close_each(&mut labels, spacing, &excluded);
    let excluded = Zip::from(&excluded).and(&walls).par_map_collect(|a, b| *a || *b);
    Coarse { labels, excluded }
}

fn is_air(hu: i16) -> bool {
    (UNMEASURED_BELOW_HU..AIR_BELOW_HU).contains(&hu)
}

/// Air that the body does not enclose (around the patient, in the table), and what was not measured. On the grid of `work`,
/// whose axes must be the patient's (x to the left, y to the back, z to the head).
///
/// Lung that a narrow field of view cuts off reaches the sides of the slices, too, but has the body on the other sides.
pub fn room_air(work: &Volume) -> Array3<bool> {
    let air = work.hu().mapv(is_air);
    let size = work.geometry().size();
    let spacing = work.geometry().spacing();
    // Opening drops table tops, sheets and cables from the patient.
    let tissue = work.hu().mapv(|hu| hu >= AIR_BELOW_HU);
    let thick = components(open_mm(tissue.view(), spacing, 5.0).view(), Connectivity::Faces);
    let body = thick.mask(|region| Some(region.label) == thick.largest().map(|r| r.label));
    let sides = enclosing_sides(&body);

    let found = components(air.view(), Connectivity::Faces);
    let pure = pure_share(work, &found);
    let mut enclosed = vec![0usize; found.regions.len()];
    for (label, sides) in found.labels.iter().zip(&sides) {
        if *label > 0 {
            enclosed[*label as usize - 1] += usize::from(*sides);
        }
    }
    let mut room = found.mask(|region| {
        let i = region.label as usize - 1;
        let sides = enclosed[i] as f64 / region.voxels as f64;
        let reaches_out = (1..3).any(|axis| region.touches(axis, size));
        sides < 1.5 || reaches_out && pure[i] > 0.5 && sides < 2.5
    });
    Zip::from(&mut room).and(work.hu()).par_for_each(|room, hu| *room |= *hu < UNMEASURED_BELOW_HU);
    room
}

/// On how many of its four sides in the slice each voxel has the body, from none to all.
fn enclosing_sides(body: &Array3<bool>) -> Array3<u8> {
    let mut sides = Array3::zeros(body.raw_dim());
    Zip::from(sides.outer_iter_mut()).and(body.outer_iter()).par_for_each(|mut sides, body| {
        for axis in 0..2 {
            for (mut line, body) in sides.lanes_mut(Axis(axis)).into_iter().zip(body.lanes(Axis(axis))) {
                let mut seen = 0;
                for (sides, body) in line.iter_mut().zip(body) {
                    seen |= u8::from(*body);
                    *sides += seen;
                }
                seen = 0;
                for (sides, body) in line.iter_mut().zip(body).rev() {
                    seen |= u8::from(*body);
                    *sides += seen;
                }
            }
        }
    });
    sides
}

/// Gas in stomach and gut: bodies of pure air with soft tissue around, while a bulla has lung around.
fn gut_gas(work: &Volume, inner: &Array3<bool>, airways: &Array3<bool>) -> Array3<bool> {
    let spacing = work.geometry().spacing();
    let size = work.geometry().size();
    let reach = 1.01 * spacing.zyx_mm().into_iter().fold(2.0, f64::max);
    let pure = Zip::from(inner)
        .and(work.hu())
        .and(airways)
        .par_map_collect(|inner, hu, airway| *inner && !*airway && *hu < PURE_AIR_BELOW_HU + 10);
    let found = components(open_mm(pure.view(), spacing, reach).view(), Connectivity::Faces);
    let mut gas = Array3::from_elem(inner.raw_dim(), false);
    for region in &found.regions {
        if (region.voxels as f64) * spacing.voxel_mm3() < 5_000.0 {
            continue;
        }
        let (from, to) = around(region.first.0, region.last.0, 3.0 * reach, spacing, size);
        let window = s![from[0]..to[0], from[1]..to[1], from[2]..to[2]];
        let core = found.labels.slice(window).mapv(|l| l == region.label);
        let distance = distance::mm(core.view(), spacing);
        let (mut tissue, mut shell) = (0usize, 0usize);
        Zip::from(&distance).and(work.hu().slice(window)).for_each(|d, hu| {
            if f64::from(*d) > 1.5 * reach && f64::from(*d) <= 3.0 * reach {
                shell += 1;
                tissue += usize::from(*hu > -300);
            }
        });
        // Measured: 0.9 and more round stomach and colon, up to 0.6 round bullae and emphysema.
        if tissue * 4 > shell * 3 {
            Zip::from(gas.slice_mut(window)).and(&distance).for_each(|gas, d| *gas |= f64::from(*d) <= 1.5 * reach);
        }
    }
    gas
}

/// The box `first..=last`, widened by `mm` as far as the array goes: start and end of each axis.
fn around(
    first: [usize; 3],
    last: [usize; 3],
    mm: f64,
    spacing: Spacing,
    size: [usize; 3],
) -> ([usize; 3], [usize; 3]) {
    let reach = spacing.zyx_mm().map(|step| (mm / step).ceil() as usize + 1);
    (
        std::array::from_fn(|i| first[i].saturating_sub(reach[i])),
        std::array::from_fn(|i| (last[i] + reach[i] + 1).min(size[i])),
    )
}

/// Share of pure air in each region.
fn pure_share(work: &Volume, found: &Components) -> Vec<f64> {
    let mut pure = vec![0usize; found.regions.len()];
    for (label, hu) in found.labels.iter().zip(work.as_slice()) {
        if *label > 0 && *hu < PURE_AIR_BELOW_HU {
            pure[*label as usize - 1] += 1;
        }
    }
    pure.iter().zip(&found.regions).map(|(pure, region)| *pure as f64 / region.voxels as f64).collect()
}

/// Trachea and main bronchi: a chain of round air spots within soft tissue, one per slice from the head down,
/// then growth into the bronchi with the most tolerant threshold that does not yet leak into the lung.
fn airways(work: &Volume, inner: &Array3<bool>) -> Array3<bool> {
    let spacing = work.geometry().spacing();
    let seed = trachea(work, inner);
    if !seed.iter().any(|v| *v) {
        return seed;
    }
    let voxels = |mask: &Array3<bool>| mask.iter().filter(|v| **v).count() as f64 * spacing.voxel_mm3() / 1000.0;
    let seed_ml = voxels(&seed);
    let mut best = seed.clone();
    for below in (-980..=-760i16).step_by(20) {
        let open = Zip::from(inner).and(work.hu()).and(&seed).par_map_collect(|i, hu, s| *s || *i && *hu < below);
        let grown = components(open.view(), Connectivity::Faces);
        let mut keep = vec![false; grown.regions.len() + 1];
        Zip::from(&grown.labels).and(&seed).for_each(|label, seed| keep[*label as usize] |= *seed);
        keep[0] = false;
        let grown = grown.mask(|region| keep[region.label as usize]);
        // Main and lobar bronchi hold some 30 ml; a leak into the lung is hundreds.
        if voxels(&grown) - seed_ml > 35.0 {
            break;
        }
        best = grown;
    }
    best
}

/// The longest chain of tracheal cross-sections.
fn trachea(work: &Volume, inner: &Array3<bool>) -> Array3<bool> {
    let [dz, dy, dx] = work.geometry().spacing().zyx_mm();
    let [nz, ny, nx] = work.geometry().size();
    let hu = work.hu();
    /// One spot and the length of the chain that it ends.
    struct Spot {
        label: u32,
        area: f64,
        length_mm: f64,
        from: Option<usize>,
    }
    let mut slices: Vec<(Components, Vec<Spot>)> = Vec::new();
    let mut best: Option<(f64, usize, usize)> = None;
    for k in 0..nz {
        let z = nz - 1 - k;
        let dark = Zip::from(hu.index_axis(Axis(0), z))
            .and(inner.index_axis(Axis(0), z))
            .map_collect(|hu, inner| *inner && *hu < -800)
            .insert_axis(Axis(0));
        let found = components(dark.view(), Connectivity::Faces);
        let mut spots: Vec<Spot> = Vec::new();
        for region in &found.regions {
            let area = region.voxels as f64 * dy * dx;
            let [_, height, width] = extent(region);
            let (height, width) = (height as f64 * dy, width as f64 * dx);
            let round = height.max(width) <= 2.5 * height.min(width) && area >= 0.45 * height * width;
            if !(40.0..=700.0).contains(&area)
                || !round
                || region.touches(1, [1, ny, nx])
                || region.touches(2, [1, ny, nx])
            {
                continue;
            }
            if tissue_around(&found, region, work, z) < 0.6 {
                continue;
            }
            let mut spot = Spot { label: region.label, area, length_mm: dz, from: None };
            if let Some((above, above_spots)) = slices.last() {
                for (i, other) in above_spots.iter().enumerate() {
                    let similar = (0.4..2.5).contains(&(area / other.area));
                    if similar && overlap(&found, region, above, other.label) && other.length_mm + dz > spot.length_mm {
                        spot.length_mm = other.length_mm + dz;
                        spot.from = Some(i);
                    }
                }
            }
            if best.is_none_or(|(length, ..)| spot.length_mm > length) {
                best = Some((spot.length_mm, k, spots.len()));
            }
            spots.push(spot);
        }
        slices.push((found, spots));
    }
    let mut mask = Array3::from_elem((nz, ny, nx), false);
    let Some((length, mut k, mut i)) = best else { return mask };
    if length < 20.0 {
        return mask;
    }
    loop {
        let (found, spots) = &slices[k];
        let mut slice = mask.index_axis_mut(Axis(0), nz - 1 - k);
        Zip::from(&mut slice)
            .and(found.labels.index_axis(Axis(0), 0))
            .for_each(|voxel, label| *voxel = *label == spots[i].label);
        match spots[i].from {
            Some(above) => (k, i) = (k - 1, above),
            None => return mask,
        }
    }
}

fn extent(region: &Region) -> [usize; 3] {
    std::array::from_fn(|i| region.last.0[i] - region.first.0[i] + 1)
}

/// Share of soft tissue on the frame 4 to 8 mm around a spot's box in slice `z`: high around the trachea, low
/// around a bulla.
fn tissue_around(found: &Components, region: &Region, work: &Volume, z: usize) -> f64 {
    let [_, dy, dx] = work.geometry().spacing().zyx_mm();
    let [_, ny, nx] = work.geometry().size();
    let (inner, outer) = (4.0, 8.0);
    let reach = |mm: f64, step: f64| (mm / step).round().max(1.0) as isize;
    let (mut tissue, mut all) = (0usize, 0usize);
    let [_, y0, x0] = region.first.0.map(|v| v as isize);
    let [_, y1, x1] = region.last.0.map(|v| v as isize);
    for y in y0 - reach(outer, dy)..=y1 + reach(outer, dy) {
        for x in x0 - reach(outer, dx)..=x1 + reach(outer, dx) {
            let close = y > y0 - reach(inner, dy)
                && y < y1 + reach(inner, dy)
                && x > x0 - reach(inner, dx)
                && x < x1 + reach(inner, dx);
            if close || y < 0 || x < 0 || y >= ny as isize || x >= nx as isize {
                continue;
            }
            let at = [0, y as usize, x as usize];
            if found.labels[at] != region.label {
                all += 1;
                tissue += usize::from(work.hu()[[z, at[1], at[2]]] > -500);
            }
        }
    }
    tissue as f64 / all.max(1) as f64
}

fn overlap(a: &Components, region: &Region, b: &Components, label: u32) -> bool {
    let (first, last) = (region.first.0, region.last.0);
    let window = s![0, first[1]..=last[1], first[2]..=last[2]];
    a.labels.slice(window).iter().zip(b.labels.slice(window)).any(|(x, y)| *x == region.label && *y == label)
}

/// Connected lung pieces, large ones that hold both lungs cut in two; 0 is background.
struct Pieces {
    labels: Array3<u32>,
    regions: Vec<Piece>,
}

#[derive(Clone)]
struct Piece {
    label: u32,
    ml: f64,
    centre: WorldPoint,
}

fn pieces(work: &Volume, candidate: &Array3<bool>) -> Pieces {
    let geometry = work.geometry();
    let found = components(candidate.view(), Connectivity::Faces);
    let pure = pure_share(work, &found);
    let ml = |region: &Region| region.voxels as f64 * geometry.spacing().voxel_mm3() / 1000.0;
    let lungs: Vec<Region> = found
        .regions
        .iter()
        .filter(|r| ml(r) >= SMALLEST_PIECE_ML && pure[r.label as usize - 1] < 0.5)
        .copied()
        .collect();
    let mut labels = Array3::zeros(candidate.raw_dim());
    let mut regions = Vec::new();
    for region in &lungs {
        let window = window(region);
        let mask = found.labels.slice(window).mapv(|l| l == region.label);
        let halves = halves(&mask, geometry.spacing());
        let grid = geometry.window(region.first.0.map(|v| v as isize), extent(region));
        for part in 1..=2u8 {
            let inside = match &halves {
                Some(halves) => halves.mapv(|h| h == part),
                None if part == 1 => mask.clone(),
                None => continue,
            };
            let label = regions.len() as u32 + 1;
            let (n, centre) = centre(&inside);
            regions.push(Piece {
                label,
                ml: n as f64 * geometry.spacing().voxel_mm3() / 1000.0,
                centre: grid.to_world(centre),
            });
            Zip::from(labels.slice_mut(window)).and(&inside).for_each(|l, inside| {
                if *inside {
                    *l = label;
                }
            });
        }
    }
    Pieces { labels, regions }
}

fn window(region: &Region) -> ndarray::SliceInfo<[ndarray::SliceInfoElem; 3], ndarray::Ix3, ndarray::Ix3> {
    let (f, l) = (region.first.0, region.last.0);
    s![f[0]..=l[0], f[1]..=l[1], f[2]..=l[2]]
}

fn centre(mask: &Array3<bool>) -> (usize, VoxelPoint) {
    let mut sum = [0usize; 3];
    let mut n = 0;
    for ((z, y, x), inside) in mask.indexed_iter() {
        if *inside {
            n += 1;
            for (sum, at) in sum.iter_mut().zip([z, y, x]) {
                *sum += at;
            }
        }
    }
    (n, VoxelPoint(sum.map(|s| s as f64 / n.max(1) as f64)))
}

/// Cuts a piece that holds both lungs: erosion until two large parts remain side by side, then both grow back
/// through the thick places first. `None` for a single lung, however deep its fissures.
fn halves(mask: &Array3<bool>, spacing: Spacing) -> Option<Array3<u8>> {
    let step = spacing.zyx_mm();
    let n = mask.iter().filter(|v| **v).count();
    if n as f64 * spacing.voxel_mm3() < 200_000.0 {
        return None;
    }
    // The box is tight: beyond it is no lung, so distances see a frame of background.
    let (nz, ny, nx) = mask.dim();
    let inner = s![1..=nz, 1..=ny, 1..=nx];
    let mut framed = Array3::from_elem((nz + 2, ny + 2, nx + 2), true);
    framed.slice_mut(inner).assign(&mask.mapv(|v| !v));
    let framed = distance::mm(framed.view(), spacing);
    let depth = framed.slice(inner);
    let finest = step.into_iter().fold(f64::INFINITY, f64::min);
    for radius in (1..=8).map(|k| (k as f64 * 0.75 * finest.max(2.0)) as f32) {
        let core = depth.mapv(|d| d > radius);
        let parts = components(core.view(), Connectivity::Faces);
        let mut sizes: Vec<&Region> = parts.regions.iter().collect();
        sizes.sort_by_key(|r| std::cmp::Reverse(r.voxels));
        let [a, b, ..] = sizes[..] else { continue };
        let total: usize = parts.regions.iter().map(|r| r.voxels).sum();
        let apart: [f64; 3] = std::array::from_fn(|i| (a.centroid.0[i] - b.centroid.0[i]).abs() * step[i]);
        if b.voxels * 10 >= total && apart[2] >= 50.0 && apart[2] > apart[0].max(apart[1]) {
            let seeds = parts.labels.mapv(|l| {
                if l == a.label {
                    1
                } else if l == b.label {
                    2
                } else {
                    0u8
                }
            });
            return Some(grow_back(mask, depth, seeds));
        }
    }
    None
}

/// Seeded watershed: within `mask`, deep voxels are reached first.
fn grow_back(mask: &Array3<bool>, depth: ndarray::ArrayView3<'_, f32>, mut labels: Array3<u8>) -> Array3<u8> {
    let (nz, ny, nx) = mask.dim();
    // Depth in hundredths of a mm; among equals the earlier entry leaves first.
    let mut queue = BinaryHeap::new();
    let mut entries = 0u64;
    let mut push = |queue: &mut BinaryHeap<_>, at: [usize; 3]| {
        entries += 1;
        queue.push(((depth[at] * 100.0) as u32, std::cmp::Reverse(entries), at));
    };
    for ((z, y, x), label) in labels.indexed_iter() {
        if *label > 0 {
            push(&mut queue, [z, y, x]);
        }
    }
    while let Some((_, _, at)) = queue.pop() {
        let label = labels[at];
        for axis in 0..3 {
            for side in [-1isize, 1] {
                let mut next = at;
                let Some(moved) = at[axis].checked_add_signed(side).filter(|v| *v < [nz, ny, nx][axis]) else {
                    continue;
                };
                next[axis] = moved;
                if mask[next] && labels[next] == 0 {
                    labels[next] = label;
                    push(&mut queue, next);
                }
            }
        }
    }
    labels
}

/// Right and left by patient position; pieces far smaller than the main ones only where they lie beside them.
fn sides(work: &Volume, pieces: Pieces) -> Array3<u8> {
    let mut by_size = pieces.regions.clone();
    by_size.sort_by(|a, b| b.ml.total_cmp(&a.ml));
    let Some(first) = by_size.first().cloned() else { return Array3::zeros(pieces.labels.raw_dim()) };
    // The other lung: large, and at another place along patient x rather than above or below.
    let second = by_size[1..].iter().find(|p| {
        let apart: [f64; 3] = std::array::from_fn(|i| (p.centre.0[i] - first.centre.0[i]).abs());
        p.ml >= 0.1 * first.ml && apart[0] >= 50.0 && apart[0] > apart[2]
    });
    // Patient x grows to the left.
    let side = |x: f64, midline: f64| if x < midline { Lung::Right } else { Lung::Left };
    let only = side(first.centre.0[0], mediastinal_x(work, &pieces, first.label).unwrap_or(0.0));
    let main = |label: u32| label == first.label || second.is_some_and(|s| s.label == label);
    let reach = distance::mm(pieces.labels.mapv(main).view(), work.geometry().spacing());
    let mut near = vec![false; pieces.regions.len() + 1];
    Zip::from(&pieces.labels).and(&reach).for_each(|label, mm| near[*label as usize] |= *mm <= SPLINTER_MM);
    let mut label_of = vec![0u8; pieces.regions.len() + 1];
    for piece in &pieces.regions {
        let lung = match second {
            Some(second) => side(piece.centre.0[0], 0.5 * (first.centre.0[0] + second.centre.0[0])),
            None => only,
        };
        if piece.ml >= 0.03 * first.ml || near[piece.label as usize] {
            label_of[piece.label as usize] = lung as u8;
        }
    }
    pieces.labels.mapv(|label| label_of[label as usize])
}

/// Mean patient x of what a single lung embraces from front and back: heart and hilum, which lie on its inner
/// side, whatever part of the body the field of view shows.
fn mediastinal_x(work: &Volume, pieces: &Pieces, label: u32) -> Option<f64> {
    let (mut moment, mut n) = (0usize, 0usize);
    for slice in pieces.labels.outer_iter() {
        for (x, column) in slice.columns().into_iter().enumerate() {
            let own = |l: &u32| *l == label;
            let (Some(front), Some(back)) = (column.iter().position(own), column.iter().rposition(own)) else {
                continue;
            };
            let gap = column.slice(s![front..=back]).iter().filter(|l| !own(l)).count();
            moment += gap * x;
            n += gap;
        }
    }
    let x = moment as f64 / n as f64;
    (n > 0).then(|| work.geometry().to_world(VoxelPoint([0.0, 0.0, x])).0[0])
}

/// Closes each lung's border and fills its holes, but for `excluded` and the other lung.
fn close_each(labels: &mut Array3<u8>, spacing: Spacing, excluded: &Array3<bool>) {
    let size = {
        let (z, y, x) = labels.dim();
        [z, y, x]
    };
    let mut closed = Vec::new();
    for lung in [Lung::Right as u8, Lung::Left as u8] {
        let Some((first, last)) = bounds(labels, lung) else { continue };
        let (from, to) = around(first.0, last.0, CLOSING_MM, spacing, size);
        let window = s![from[0]..to[0], from[1]..to[1], from[2]..to[2]];
        let own = labels.slice(window).mapv(|l| l == lung);
        let mask = fill_holes(close_mm(own.view(), spacing, CLOSING_MM).view());
        closed.push((lung, from, to, mask));
    }
    for (lung, from, to, mask) in closed {
        let window = s![from[0]..to[0], from[1]..to[1], from[2]..to[2]];
        Zip::from(labels.slice_mut(window)).and(&mask).and(excluded.slice(window)).for_each(
            |label, inside, excluded| {
                if *label == 0 && *inside && !*excluded {
                    *label = lung;
                }
            },
        );
    }
}

fn bounds(labels: &Array3<u8>, lung: u8) -> Option<(VoxelIndex, VoxelIndex)> {
    let mut first = [usize::MAX; 3];
    let mut last = [0; 3];
    for ((z, y, x), label) in labels.indexed_iter() {
        if *label == lung {
            for (i, at) in [z, y, x].into_iter().enumerate() {
                first[i] = first[i].min(at);
                last[i] = last[i].max(at);
            }
        }
    }
    (first[0] != usize::MAX).then_some((VoxelIndex(first), VoxelIndex(last)))
}

/// Brings the working grid's lungs to the scan's own: inside stays, a shell one working voxel thick on both
/// sides of the border is decided by the scan's own HU, and what closing had added stays.
fn refine(volume: &Volume, work: &Volume, coarse: &Coarse) -> LabelMap {
    const UNDECIDED: u8 = 2; // added to the label
    let labels = &coarse.labels;
    let size = {
        let (z, y, x) = labels.dim();
        [z, y, x]
    };
    let mut classes = labels.clone();
    for ((z, y, x), label) in labels.indexed_iter() {
        let at = [z, y, x];
        let mut other = 0;
        for axis in 0..3 {
            for side in [-1isize, 1] {
                let Some(moved) = at[axis].checked_add_signed(side).filter(|v| *v < size[axis]) else { continue };
                let mut next = at;
                next[axis] = moved;
                if labels[next] != *label && (*label == 0 || labels[next] == 0) {
                    other = other.max(labels[next].max(*label));
                }
            }
        }
        let decided = match label {
            0 => coarse.excluded[at],
            _ => work.hu()[at] >= AIR_BELOW_HU,
        };
        if other > 0 && !decided {
            classes[at] = other + UNDECIDED;
        }
    }
    let classes = LabelMap::new(classes, work.geometry().clone()).expect("made on the working grid");
    let (mut fine, grid) = resample_labels(&classes, volume.geometry()).into_parts();
    Zip::from(&mut fine).and(volume.hu()).par_for_each(|class, hu| {
        if *class > UNDECIDED {
            *class = if is_air(*hu) { *class - UNDECIDED } else { 0 };
        }
    });
    LabelMap::new(fine, grid).expect("only labels changed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Ball, Chest, box_grid, grid};
    use lungai_trace::{Limit, measured, verifies};

    fn dice(a: &LabelMap, b: &LabelMap, label: u8) -> f64 {
        let both = a.as_slice().iter().zip(b.as_slice()).filter(|(a, b)| **a == label && **b == label).count();
        let count = |m: &LabelMap| m.as_slice().iter().filter(|l| **l == label).count();
        2.0 * both as f64 / (count(a) + count(b)) as f64
    }

    fn check_both(chest: &Chest, grid: &Geometry, at_least: f64) {
        let (found, truth) = (segment(&chest.render(grid)), chest.lungs(grid));
        for lung in [Lung::Right, Lung::Left] {
            let dice = dice(&found, &truth, lung as u8);
            assert!(dice >= at_least, "{lung:?}: Dice {dice:.4}");
        }
    }

    #[verifies("FR-003")]
    #[test]
    fn both_lungs_are_found_at_any_spacing_without_table_and_airways() {
        for spacing in [[2.5, 1.5, 1.5], [5.0, 3.0, 3.0]] {
            check_both(&Chest::plain(), &grid(spacing), 0.97);
        }
    }

    #[verifies("FR-003", "SW-301")]
    #[test]
    fn sides_follow_the_patient_not_the_storage() {
        let plain = grid([3.0; 3]);
        let [nz, ny, nx] = plain.size();
        let last = plain.to_world(VoxelPoint([nz as f64 - 1.0, ny as f64 - 1.0, nx as f64 - 1.0]));
        let turned =
            Geometry::new([nx, nz, ny], plain.spacing(), last, [[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
                .unwrap();
        check_both(&Chest::plain(), &turned, 0.97);
    }

    #[test]
    fn joined_lungs_come_apart() {
        let chest = Chest { joined: true, ..Chest::plain() };
        check_both(&chest, &grid([2.5; 3]), 0.96);
    }

    #[verifies("FR-003", "SW-301")]
    #[test]
    fn nodules_inside_and_on_the_pleura_stay_in_the_lung() {
        let inside = Ball { centre: [-70.0, 0.0, 20.0], radius: 10.0, hu: 40.0 };
        let pleural = Ball { centre: [113.0, 0.0, 0.0], radius: 6.0, hu: 40.0 };
        let chest = Chest { balls: vec![inside, pleural], joined: false };
        let grid = grid([3.0, 2.0, 2.0]);
        let lungs = segment(&chest.render(&grid));
        for (ball, lung) in chest.balls.iter().zip([Lung::Right, Lung::Left]) {
            let centre = grid.voxel_at(WorldPoint(ball.centre)).unwrap();
            assert_eq!(lungs.at(centre), lung as u8);
        }
    }

    #[verifies("FR-003")]
    #[test]
    fn a_field_of_view_with_one_lung_gives_one_label() {
        let chest = Chest::plain();
        let right = box_grid([3.0; 3], [-150.0, -105.0, -140.0], [-12.0, 100.0, 140.0]);
        let lungs = segment(&chest.render(&right));
        assert_eq!(lungs.volume_ml(Lung::Left as u8), 0.0);
        let dice = dice(&lungs, &chest.lungs(&right), Lung::Right as u8);
        assert!(measured("lungs.dice_right", dice, Limit::AtLeast(0.95)), "Dice {dice:.3}");
    }

    #[verifies("FR-003", "R-001")]
    #[test]
    fn lungs_that_a_scan_circle_cuts_stay_lungs() {
        let grid = grid([2.5, 1.5, 1.5]);
        let circle = |p: [f64; 3]| p[0].hypot(p[1]) < 100.0; // the lungs reach out to 120 mm
        let at = |(z, y, x): (usize, usize, usize)| grid.to_world(VoxelPoint([z as f64, y as f64, x as f64])).0;
        for padding in [-2000, -3024] {
            let (mut hu, _) = Chest::plain().render(&grid).into_parts();
            hu.indexed_iter_mut().filter(|(i, _)| !circle(at(*i))).for_each(|(_, hu)| *hu = padding);
            let (mut truth, _) = Chest::plain().lungs(&grid).into_parts();
            truth.indexed_iter_mut().filter(|(i, _)| !circle(at(*i))).for_each(|(_, label)| *label = 0);
            let found = segment(&Volume::new(hu, grid.clone()).unwrap());
            let truth = LabelMap::new(truth, grid.clone()).unwrap();
            for lung in [Lung::Right, Lung::Left] {
                let dice = dice(&found, &truth, lung as u8);
                assert!(dice >= 0.97, "padding {padding}, {lung:?}: Dice {dice:.4}");
            }
        }
    }

    #[test]
    fn stomach_gas_and_water_are_not_lung() {
        let below = box_grid([3.0; 3], [-150.0, -105.0, -400.0], [150.0, 135.0, -200.0]);
        let stomach = Ball { centre: [60.0, -30.0, -300.0], radius: 30.0, hu: -995.0 };
        let chest = Chest { balls: vec![stomach], joined: false };
        assert!(segment(&chest.render(&below)).as_slice().iter().all(|l| *l == 0));
    }

    #[test]
    fn stomach_gas_that_touches_the_lung_is_cut_off() {
        let stomach = Ball { centre: [68.0, -10.0, -118.0], radius: 20.0, hu: -995.0 };
        let chest = Chest { balls: vec![stomach], joined: false };
        let grid = grid([3.0; 3]);
        let lungs = segment(&chest.render(&grid));
        assert_eq!(lungs.at(grid.voxel_at(WorldPoint([68.0, -10.0, -118.0])).unwrap()), 0);
        assert!(lungs.volume_ml(Lung::Left as u8) > 1400.0);
    }

    #[test]
    fn nothing_at_all_gives_an_empty_map() {
        let g = grid([6.0; 3]);
        let empty = Volume::new(Array3::from_elem(g.size(), -1000), g).unwrap();
        assert!(segment(&empty).as_slice().iter().all(|l| *l == 0));
    }
}
