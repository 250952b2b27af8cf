//! Connected components by runs: rows become runs of set voxels in parallel, neighbouring runs are joined in
//! one pass of union-find, and labels follow the order of each component's first voxel.

use lungai_ct::{VoxelIndex, VoxelPoint};
use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

/// Which voxels touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// The 6 voxels that share a face.
    Faces,
    /// All 26 neighbours.
    Corners,
}

/// One connected set of voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Its voxels in [`Components::labels`].
    pub label: u32,
    /// How many.
    pub voxels: usize,
    /// Smallest index along each axis.
    pub first: VoxelIndex,
    /// Largest index along each axis, inclusive.
    pub last: VoxelIndex,
    /// Mean position.
    pub centroid: VoxelPoint,
}

/// A labelled array and its regions.
#[derive(Debug, Clone)]
pub struct Components {
    /// 0 is background; the others count from 1 in the order of each region's first voxel, z slowest.
    pub labels: Array3<u32>,
    /// Region of label `i + 1` at `i`.
    pub regions: Vec<Region>,
}

impl Components {
    /// The region of most voxels; among equals the first.
    pub fn largest(&self) -> Option<&Region> {
        self.regions.iter().rev().max_by_key(|region| region.voxels)
    }

    /// Voxels of the regions that `keep` accepts.
    pub fn mask(&self, keep: impl Fn(&Region) -> bool) -> Array3<bool> {
        let mut kept = vec![false; self.regions.len() + 1];
        for region in &self.regions {
            kept[region.label as usize] = keep(region);
        }
        ndarray::Zip::from(&self.labels).par_map_collect(|label| kept[*label as usize])
    }
}

impl Region {
    /// Whether it reaches the first or last index along `axis` (0 = z) of an array of `size`.
    pub fn touches(&self, axis: usize, size: [usize; 3]) -> bool {
        self.first.0[axis] == 0 || self.last.0[axis] + 1 == size[axis]
    }
}

/// A stretch of set voxels `from..to` in one row.
#[derive(Clone, Copy)]
struct Run {
    from: u32,
    to: u32,
}

/// Labels the connected regions of `mask`.
///
/// # Panics
/// If a row is longer than `u32` counts.
pub fn components(mask: ArrayView3<'_, bool>, connectivity: Connectivity) -> Components {
    let (nz, ny, nx) = mask.dim();
    assert!(u32::try_from(nx).is_ok(), "a row of {nx} voxels");
    let mut labels = Array3::<u32>::zeros((nz, ny, nx));
    if labels.is_empty() {
        return Components { labels, regions: Vec::new() };
    }
    let slices: Vec<Vec<Vec<Run>>> = mask
        .outer_iter()
        .into_par_iter()
        .map(|slice| slice.rows().into_iter().map(|row| runs(row)).collect())
        .collect();
    let rows: Vec<&[Run]> = slices.iter().flatten().map(Vec::as_slice).collect();
    let mut start = Vec::with_capacity(rows.len() + 1);
    start.push(0usize);
    for row in &rows {
        start.push(start[start.len() - 1] + row.len());
    }

    let mut forest = Forest { parent: (0..start[rows.len()] as u32).collect() };
    let reach = u32::from(connectivity == Connectivity::Corners);
    let earlier: &[(isize, isize)] = match connectivity {
        Connectivity::Faces => &[(0, -1), (-1, 0)],
        Connectivity::Corners => &[(0, -1), (-1, -1), (-1, 0), (-1, 1)],
    };
    for z in 0..nz {
        for y in 0..ny {
            let here = z * ny + y;
            for (dz, dy) in earlier {
                let (oz, oy) = (z as isize + dz, y as isize + dy);
                if oz >= 0 && oy >= 0 && oy < ny as isize {
                    let there = oz as usize * ny + oy as usize;
                    forest.join_rows(rows[here], start[here], rows[there], start[there], reach);
                }
            }
        }
    }

    // Roots are the smallest run of their tree, so counting roots in run order follows first voxels.
    let mut label_of = vec![0u32; forest.parent.len()];
    let mut sums: Vec<Sum> = Vec::new();
    for (row, runs) in rows.iter().enumerate() {
        let (z, y) = (row / ny, row % ny);
        for (k, run) in runs.iter().enumerate() {
            let id = start[row] + k;
            let root = forest.root(id as u32) as usize;
            if root == id {
                sums.push(Sum::new());
                label_of[id] = sums.len() as u32;
            }
            label_of[id] = label_of[root];
            sums[label_of[id] as usize - 1].add(z, y, *run);
        }
    }
    let voxels = labels.as_slice_mut().expect("made in standard layout");
    voxels.par_chunks_mut(nx).enumerate().for_each(|(row, out)| {
        for (k, run) in rows[row].iter().enumerate() {
            out[run.from as usize..run.to as usize].fill(label_of[start[row] + k]);
        }
    });
    let regions = sums.iter().enumerate().map(|(i, sum)| sum.region(i as u32 + 1)).collect();
    Components { labels, regions }
}

fn runs(row: ndarray::ArrayView1<'_, bool>) -> Vec<Run> {
    let mut found = Vec::new();
    let mut from = None;
    for (x, inside) in row.iter().enumerate() {
        match (inside, from) {
            (true, None) => from = Some(x as u32),
            (false, Some(start)) => {
                found.push(Run { from: start, to: x as u32 });
                from = None;
            }
            _ => {}
        }
    }
    if let Some(start) = from {
        found.push(Run { from: start, to: row.len() as u32 });
    }
    found
}

struct Forest {
    parent: Vec<u32>,
}

impl Forest {
    fn root(&mut self, mut id: u32) -> u32 {
        while self.parent[id as usize] != id {
            self.parent[id as usize] = self.parent[self.parent[id as usize] as usize];
            id = self.parent[id as usize];
        }
        id
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }

    fn join_rows(&mut self, a: &[Run], a_start: usize, b: &[Run], b_start: usize, reach: u32) {
        let (mut i, mut j) = (0, 0);
        while i < a.len() && j < b.len() {
            if a[i].from < b[j].to + reach && b[j].from < a[i].to + reach {
                self.join((a_start + i) as u32, (b_start + j) as u32);
            }
            if a[i].to < b[j].to { i += 1 } else { j += 1 }
        }
    }
}

/// What is summed over a region; whole numbers, so that the order of runs cannot matter.
struct Sum {
    voxels: u64,
    position: [u64; 3],
    first: [usize; 3],
    last: [usize; 3],
}

impl Sum {
    fn new() -> Self {
        Self { voxels: 0, position: [0; 3], first: [usize::MAX; 3], last: [0; 3] }
    }

    fn add(&mut self, z: usize, y: usize, run: Run) {
        let (from, to) = (u64::from(run.from), u64::from(run.to));
        let n = to - from;
        self.voxels += n;
        self.position[0] += n * z as u64;
        self.position[1] += n * y as u64;
        self.position[2] += (from + to - 1) * n / 2;
        let low = [z, y, from as usize];
        let high = [z, y, to as usize - 1];
        for i in 0..3 {
            self.first[i] = self.first[i].min(low[i]);
            self.last[i] = self.last[i].max(high[i]);
        }
    }

    fn region(&self, label: u32) -> Region {
        Region {
            label,
            voxels: self.voxels as usize,
            first: VoxelIndex(self.first),
            last: VoxelIndex(self.last),
            centroid: VoxelPoint(self.position.map(|p| p as f64 / self.voxels as f64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn corners_touch_only_with_26_neighbours() {
        let mut mask = Array3::from_elem((2, 2, 2), false);
        mask[[0, 0, 0]] = true;
        mask[[1, 1, 1]] = true;
        assert_eq!(components(mask.view(), Connectivity::Faces).regions.len(), 2);
        assert_eq!(components(mask.view(), Connectivity::Corners).regions.len(), 1);
    }

    #[test]
    fn a_region_states_its_box_and_centre() {
        let mut mask = Array3::from_elem((4, 5, 6), false);
        mask.slice_mut(ndarray::s![1..3, 2..5, 1..3]).fill(true);
        let found = components(mask.view(), Connectivity::Faces);
        let region = found.largest().unwrap();
        assert_eq!((region.voxels, region.first, region.last), (12, VoxelIndex([1, 2, 1]), VoxelIndex([2, 4, 2])));
        assert_eq!(region.centroid, VoxelPoint([1.5, 3.0, 1.5]));
        assert!(region.touches(1, [4, 5, 6]) && !region.touches(0, [4, 5, 6]));
        assert_eq!(found.mask(|r| r.voxels > 11), mask);
    }

    #[test]
    fn a_spiral_is_one_region() {
        let mut mask = Array3::from_elem((1, 5, 5), true);
        mask.slice_mut(ndarray::s![0, 1, 0..4]).fill(false);
        mask.slice_mut(ndarray::s![0, 3, 1..5]).fill(false);
        assert_eq!(components(mask.view(), Connectivity::Faces).regions.len(), 1);
    }

    /// Flood fill, voxel by voxel.
    fn brute(mask: &Array3<bool>, connectivity: Connectivity) -> Array3<u32> {
        let mut labels = Array3::zeros(mask.raw_dim());
        let mut next = 0;
        for (seed, inside) in mask.indexed_iter() {
            if !inside || labels[seed] != 0 {
                continue;
            }
            next += 1;
            let mut stack = vec![seed];
            while let Some(at) = stack.pop() {
                if labels[at] != 0 {
                    continue;
                }
                labels[at] = next;
                for (other, inside) in mask.indexed_iter() {
                    let d = [at.0.abs_diff(other.0), at.1.abs_diff(other.1), at.2.abs_diff(other.2)];
                    let touches = match connectivity {
                        Connectivity::Faces => d.iter().sum::<usize>() == 1,
                        Connectivity::Corners => d.iter().all(|d| *d <= 1),
                    };
                    if *inside && touches && labels[other] == 0 {
                        stack.push(other);
                    }
                }
            }
        }
        labels
    }

    proptest! {
        #[test]
        fn equals_a_flood_fill(bits in proptest::collection::vec(proptest::bool::weighted(0.4), 4 * 5 * 6)) {
            let mask = Array3::from_shape_vec((4, 5, 6), bits).unwrap();
            for connectivity in [Connectivity::Faces, Connectivity::Corners] {
                prop_assert_eq!(components(mask.view(), connectivity).labels, brute(&mask, connectivity));
            }
        }
    }
}
