//! Connected components by runs: rows become runs of set voxels in parallel, neighbouring runs are joined in
//! one pass of union-find, and labels follow the order of each component's first voxel.

use lungai_ct::{VoxelIndex, VoxelPoint};
use ndarray::{Array3, ArrayView1, ArrayView3};
use rayon::prelude::*;

/// Which voxels touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// The 6 voxels that share a face.
    Faces,
    /// The 18 voxels that share a face or an edge.
    Edges,
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
    let runs = Runs::of(mask, connectivity);
    let mut labels = Array3::<u32>::zeros(mask.raw_dim());
    runs.each_row(labels.as_slice_mut().expect("made in standard layout"), |out, run, label| {
        out[run.from as usize..run.to as usize].fill(label);
    });
    Components { labels, regions: runs.regions }
}

/// A mask as its runs, each with its label: a hundredth of the voxels.
pub(crate) struct Runs {
    /// Runs row by row.
    runs: Vec<Run>,
    /// First run of each row, and the end.
    start: Vec<usize>,
    /// Label of each run.
    labels: Vec<u32>,
    columns: usize,
    /// As [`Components::regions`].
    pub regions: Vec<Region>,
}

impl Runs {
    /// Finds and labels the runs of `mask`.
    pub fn of(mask: ArrayView3<'_, bool>, connectivity: Connectivity) -> Self {
        let (nz, ny, nx) = mask.dim();
        assert!(u32::try_from(nx).is_ok(), "a row of {nx} voxels");
        // A slice's runs, and how many each row has.
        let slices: Vec<(Vec<Run>, Vec<usize>)> = mask
            .outer_iter()
            .into_par_iter()
            .map(|slice| {
                let mut runs = Vec::new();
                let count = |row| {
                    let before = runs.len();
                    find_runs(row, &mut runs);
                    runs.len() - before
                };
                let counts = slice.rows().into_iter().map(count).collect();
                (runs, counts)
            })
            .collect();
        let mut start = Vec::with_capacity(nz * ny + 1);
        start.push(0usize);
        for count in slices.iter().flat_map(|(_, counts)| counts) {
            start.push(start[start.len() - 1] + count);
        }
        let mut runs = Vec::with_capacity(start[start.len() - 1]);
        slices.into_iter().for_each(|(of_slice, _)| runs.extend(of_slice));

        // Rows before this one in which a voxel may touch, and by how much their runs may miss each other.
        let earlier: &[(isize, isize, u32)] = match connectivity {
            Connectivity::Faces => &[(0, -1, 0), (-1, 0, 0)],
            Connectivity::Edges => &[(0, -1, 1), (-1, -1, 0), (-1, 0, 1), (-1, 1, 0)],
            Connectivity::Corners => &[(0, -1, 1), (-1, -1, 1), (-1, 0, 1), (-1, 1, 1)],
        };
        let mut forest = Forest { parent: (0..runs.len() as u32).collect() };
        for z in 0..nz {
            for y in 0..ny {
                let here = z * ny + y;
                for (dz, dy, reach) in earlier {
                    let (oz, oy) = (z as isize + dz, y as isize + dy);
                    if oz >= 0 && oy >= 0 && oy < ny as isize {
                        let there = oz as usize * ny + oy as usize;
                        let [a, b] = [here, there].map(|row| &runs[start[row]..start[row + 1]]);
                        forest.join_rows(a, start[here], b, start[there], *reach);
                    }
                }
            }
        }

        // Roots are the smallest run of their tree, so counting roots in run order follows first voxels.
        let mut labels = vec![0u32; runs.len()];
        let mut sums: Vec<Sum> = Vec::new();
        for row in 0..nz * ny {
            for id in start[row]..start[row + 1] {
                let root = forest.root(id as u32) as usize;
                if root == id {
                    sums.push(Sum::new());
                    labels[id] = sums.len() as u32;
                }
                labels[id] = labels[root];
                sums[labels[id] as usize - 1].add(row / ny, row % ny, runs[id]);
            }
        }
        let regions = sums.iter().enumerate().map(|(i, sum)| sum.region(i as u32 + 1)).collect();
        Self { runs, start, labels, columns: nx, regions }
    }

    /// Clears the regions that `keep` refuses from the mask that the runs were found in.
    pub fn keep(&self, mask: &mut Array3<bool>, keep: impl Fn(&Region) -> bool) {
        let cleared: Vec<bool> = self.regions.iter().map(|region| !keep(region)).collect();
        self.each_row(mask.as_slice_mut().expect("masks are in standard layout"), |out, run, label| {
            if cleared[label as usize - 1] {
                out[run.from as usize..run.to as usize].fill(false);
            }
        });
    }

    /// Every run of every row of an array of the mask's size.
    fn each_row<T: Send>(&self, voxels: &mut [T], work: impl Fn(&mut [T], Run, u32) + Sync) {
        voxels.par_chunks_mut(self.columns.max(1)).with_min_len(64).enumerate().for_each(|(row, out)| {
            for id in self.start[row]..self.start[row + 1] {
                work(out, self.runs[id], self.labels[id]);
            }
        });
    }
}

/// Appends the runs of a row.
fn find_runs(row: ArrayView1<'_, bool>, found: &mut Vec<Run>) {
    let row = row.as_standard_layout();
    let bytes: &[u8] = bytemuck::cast_slice(row.as_slice().expect("standard layout"));
    let mut at = 0;
    while let Some(from) = memchr::memchr(1, &bytes[at..]).map(|k| at + k) {
        at = memchr::memchr(0, &bytes[from..]).map_or(bytes.len(), |k| from + k);
        found.push(Run { from: from as u32, to: at as u32 });
    }
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
    fn faces_edges_and_corners_touch_with_6_18_and_26_neighbours() {
        let count = |other: [usize; 3]| {
            let mut mask = Array3::from_elem((2, 2, 2), false);
            mask[[0, 0, 0]] = true;
            mask[other] = true;
            [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners]
                .map(|c| components(mask.view(), c).regions.len())
        };
        assert_eq!(count([0, 1, 0]), [1, 1, 1]);
        assert_eq!(count([1, 0, 1]), [2, 1, 1]);
        assert_eq!(count([1, 1, 1]), [2, 2, 1]);
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
                        Connectivity::Edges => d.iter().all(|d| *d <= 1) && d.iter().sum::<usize>() <= 2,
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
            for connectivity in [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners] {
                prop_assert_eq!(components(mask.view(), connectivity).labels, brute(&mask, connectivity));
            }
        }
    }
}
