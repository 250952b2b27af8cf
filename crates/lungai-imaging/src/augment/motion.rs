//! Where things of a patch go, and whence a voxel of the transformed patch comes.
//!
//! All in mm from the middle of the patch, `[z, y, x]`, so that a rotation stays one on voxels that are no cubes. A
//! place `p` of the patch goes to the `q` with `q + u(q) = A p + s`: `A` mirrors, magnifies and turns, `s` shifts and `u` is
//! the elastic displacement. The *backward* direction, `p = A^-1 (q + u(q) - s)`, is explicit, since an image asks
//! it for millions of voxels; the forward one iterates for a few points.

use super::Augmentation;
use super::elastic::Lattice;
use super::sample::Source;
use lungai_ct::{Geometry, Spacing, VoxelPoint, WorldPoint};

type Matrix = [[f64; 3]; 3];

/// A box of a patch, in voxels `[z, y, x]`; whole numbers are voxel centres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoxelBox {
    /// Its lower corner.
    pub low: VoxelPoint,
    /// Its upper corner.
    pub high: VoxelPoint,
}

/// A draw, made ready for patches of one size and spacing.
pub struct Motion {
    size: [usize; 3],
    /// Its origin is such that the middle of the patch is at 0.
    frame: Geometry,
    forward: Matrix,
    backward: Matrix,
    /// Of volumes, without the elastic part.
    magnification: f64,
    shift_mm: [f64; 3],
    lattice: Option<Lattice>,
}

impl Motion {
    pub(super) fn new(draw: &Augmentation, size: [usize; 3], spacing: Spacing) -> Self {
        let at_middle =
            Geometry::new(size, spacing, WorldPoint([0.0; 3]), Geometry::AXIAL).expect("a patch has voxels");
        let WorldPoint(first) = at_middle.to_world(VoxelPoint(size.map(|n| -0.5 * (n as f64 - 1.0))));
        let frame = Geometry::new(size, spacing, WorldPoint(first), Geometry::AXIAL).expect("only the origin moved");
        let mut turn = diagonal([1.0; 3]);
        for (axis, deg) in draw.rotate_deg.into_iter().enumerate() {
            turn = product(&rotation(axis, deg.to_radians()), &turn);
        }
        let stretch: [f64; 3] = std::array::from_fn(|i| if draw.flip[i] { -draw.scale[i] } else { draw.scale[i] });
        let back: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| turn[j][i]));
        Self {
            size,
            frame,
            forward: product(&turn, &diagonal(stretch)),
            backward: product(&diagonal(stretch.map(f64::recip)), &back),
            magnification: draw.scale.iter().product(),
            shift_mm: draw.shift_mm,
            lattice: draw.elastic.as_ref().map(|e| e.lattice()),
        }
    }

    /// Where a point of the patch goes; it may leave the patch.
    pub fn point(&self, point: VoxelPoint) -> VoxelPoint {
        self.voxel(self.ahead(self.mm(point)))
    }

    /// Where a point of the transformed patch comes from: the inverse of [`Motion::point`], to 1e-9 mm.
    pub fn point_back(&self, point: VoxelPoint) -> VoxelPoint {
        self.voxel(self.behind(self.mm(point)))
    }

    /// What the radius of a small ball about `centre` becomes: that of the ball of equal volume. Same unit in and out.
    pub fn radius(&self, centre: VoxelPoint, radius: f64) -> f64 {
        let stretched = match &self.lattice {
            None => self.magnification,
            Some(lattice) => self.magnification / determinant(&eased(lattice, self.ahead(self.mm(centre)))),
        };
        radius * stretched.cbrt()
    }

    /// The box of what a box held: it stands for the ellipsoid that it encloses, and the result encloses that ellipsoid's
    /// image. (A box about the turned *box* would grow with every rotation; nodules do not.)
    ///
    /// Exact without an elastic part, else to about 0.01 voxel for boxes smaller than the lattice's spacing.
    pub fn bounds(&self, of: VoxelBox) -> VoxelBox {
        let (low, high) = (self.mm(of.low), self.mm(of.high));
        let middle: [f64; 3] = std::array::from_fn(|i| 0.5 * (low[i] + high[i]));
        let reach: [f64; 3] = std::array::from_fn(|i| 0.5 * (high[i] - low[i]).abs());
        let extreme = |axis: usize, sign: f64| self.extreme(middle, reach, axis, sign);
        VoxelBox {
            low: self.voxel([0, 1, 2].map(|axis| extreme(axis, -1.0))),
            high: self.voxel([0, 1, 2].map(|axis| extreme(axis, 1.0))),
        }
    }

    /// The largest (`sign` 1) or least (-1) coordinate of an ellipsoid's image along `axis`.
    fn extreme(&self, middle: [f64; 3], reach: [f64; 3], axis: usize, sign: f64) -> f64 {
        let on_surface = |n: [f64; 3]| self.ahead(std::array::from_fn(|i| middle[i] + reach[i] * n[i]));
        // Of a linear map's image, the extreme is where the surface faces along `axis`: its normal is the map's row.
        let facing = |row: [f64; 3]| {
            let pull: [f64; 3] = std::array::from_fn(|i| sign * reach[i] * row[i]);
            let length = pull.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length > 0.0 { pull.map(|v| v / length) } else { [0.0; 3] }
        };
        let mut found = on_surface(facing(self.forward[axis]));
        let Some(lattice) = &self.lattice else { return found[axis] };
        let mut best = found[axis];
        for _ in 0..20 {
            // The forward map's derivative is (I + grad u)^-1 A.
            let slope = product(&inverse(&eased(lattice, found)), &self.forward);
            found = on_surface(facing(slope[axis]));
            let gained = sign * (found[axis] - best);
            if gained > 0.0 {
                best = found[axis];
            }
            if gained.abs() < 1e-6 {
                break;
            }
        }
        best
    }

    /// `q` of `p`.
    fn ahead(&self, p: [f64; 3]) -> [f64; 3] {
        let affine = times(&self.forward, p);
        let goal: [f64; 3] = std::array::from_fn(|i| affine[i] + self.shift_mm[i]);
        let Some(lattice) = &self.lattice else { return goal };
        // Newton's steps: a handful as a rule. Should they not settle, fixed-point steps halve the error each time.
        const NEWTON: usize = 20;
        let mut q = goal;
        for k in 0..NEWTON + 60 {
            let (u, gradient) = lattice.at(q);
            let miss: [f64; 3] = std::array::from_fn(|i| goal[i] - q[i] - u[i]);
            if miss.iter().all(|v| v.abs() < 1e-11) {
                break;
            }
            let step = if k < NEWTON { times(&inverse(&plus_one(gradient)), miss) } else { miss };
            q = std::array::from_fn(|i| q[i] + step[i]);
        }
        q
    }

    /// `p` of `q`.
    fn behind(&self, q: [f64; 3]) -> [f64; 3] {
        let u = self.lattice.as_ref().map_or([0.0; 3], |lattice| lattice.at(q).0);
        times(&self.backward, std::array::from_fn(|i| q[i] + u[i] - self.shift_mm[i]))
    }

    /// mm from the middle.
    fn mm(&self, point: VoxelPoint) -> [f64; 3] {
        let WorldPoint([x, y, z]) = self.frame.to_world(point);
        [z, y, x]
    }

    fn voxel(&self, [z, y, x]: [f64; 3]) -> VoxelPoint {
        self.frame.to_voxel(WorldPoint([x, y, z]))
    }

    /// [`Motion::point_back`] for whole rows, in single precision.
    pub(super) fn source(&self) -> Source {
        let linear = |at: [f64; 3]| {
            let q = self.mm(VoxelPoint(at));
            self.voxel(times(&self.backward, std::array::from_fn(|i| q[i] - self.shift_mm[i]))).0
        };
        let first = linear([0.0; 3]);
        let steps = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|unit| {
            let next = linear(unit);
            std::array::from_fn(|i| next[i] - first[i])
        });
        let rows = self.lattice.as_ref().map(|lattice| {
            let offset = |axis: usize, index: usize| {
                let mut at = [0.0; 3];
                at[axis] = index as f64;
                self.mm(VoxelPoint(at))[axis]
            };
            let origin = self.voxel([0.0; 3]).0;
            // mm of displacement to voxels of the patch: column by column the image of 1 mm.
            let columns = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
                .map(|unit| self.voxel(times(&self.backward, unit)).0);
            let matrix = std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i] - origin[i]));
            lattice.rows(self.size, offset, &matrix)
        });
        Source { size: self.size, first, steps, rows }
    }
}

/// `I + grad u` at a place.
fn eased(lattice: &Lattice, at: [f64; 3]) -> Matrix {
    plus_one(lattice.at(at).1)
}

fn plus_one(mut a: Matrix) -> Matrix {
    (0..3).for_each(|i| a[i][i] += 1.0);
    a
}

fn diagonal(v: [f64; 3]) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { v[i] } else { 0.0 }))
}

fn rotation(axis: usize, angle: f64) -> Matrix {
    let (s, c) = angle.sin_cos();
    let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
    let mut matrix = diagonal([1.0; 3]);
    matrix[a][a] = c;
    matrix[b][b] = c;
    matrix[a][b] = -s;
    matrix[b][a] = s;
    matrix
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

fn times(a: &Matrix, v: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| (0..3).map(|k| a[i][k] * v[k]).sum())
}

/// Cofactors over the determinant.
fn inverse(a: &Matrix) -> Matrix {
    let determinant = determinant(a);
    std::array::from_fn(|i| std::array::from_fn(|j| cofactor(a, j, i) / determinant))
}

fn determinant(a: &Matrix) -> f64 {
    (0..3).map(|j| a[0][j] * cofactor(a, 0, j)).sum()
}

fn cofactor(a: &Matrix, i: usize, j: usize) -> f64 {
    let (k, l, m, n) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
    a[k][m] * a[l][n] - a[k][n] * a[l][m]
}
