//! From what a slice would be to what the scanner stores: noise, shading, calibration error, whole HU.

use crate::beam::{BAND, Beam, CUP, NOISE};
use crate::noise::Noise;
use crate::scanner::Scanner;
use crate::vector::V3;
use lungai_ct::{AIR_HU, Geometry};

/// Noise and shading are looked up at every eighth pixel of a row and interpolated.
const STRIDE: usize = 8;

pub struct Exposure<'a> {
    beam: &'a Beam,
    noise: Noise,
    level: f32,
    bias: f32,
    cupping: f32,
    band: f32,
    geometry: &'a Geometry,
    /// Lattice place of the first voxel, counted from the scan's own corner along the grid's axes, so that a window sees
    /// the noise of the whole.
    lattice: [i64; 3],
}

impl<'a> Exposure<'a> {
    /// - `corner`: first voxel of the whole scan, of which `geometry` may be a window
    pub fn new(beam: &'a Beam, scanner: &Scanner, geometry: &'a Geometry, corner: V3, seed: u64) -> Self {
        let [sz, _, sx] = geometry.spacing().zyx_mm();
        let from_corner = geometry.to_voxel(lungai_ct::WorldPoint(corner)).0;
        Self {
            beam,
            noise: Noise::new(scanner, sx, sz, seed),
            level: scanner.noise_at_centre_hu() as f32,
            bias: scanner.bias_hu as f32,
            cupping: scanner.artefacts.cupping_hu as f32,
            band: scanner.artefacts.band_hu as f32,
            geometry,
            lattice: from_corner.map(|steps| (-steps).round() as i64),
        }
    }

    /// - `clean`: slice `iz` without any of it, in HU
    pub fn develop(&self, iz: usize, clean: &[f32], out: &mut [i16]) {
        let [_, ny, nx] = self.geometry.size();
        let pad = self.noise.margin();
        let columns = nx + 2 * pad;
        let [lz, ly, lx] = self.lattice;
        let at = [lz + iz as i64, ly - pad as i64, lx - pad as i64];
        let grain = if self.level > 0.0 { self.noise.slice(at, ny + 2 * pad, columns) } else { Vec::new() };
        // Looked up at the same places by every window.
        let lead = lx.rem_euclid(STRIDE as i64) as usize;
        let stops = (lead + nx).div_ceil(STRIDE) + 1;
        let mut line = Vec::with_capacity(stops);
        for iy in 0..ny {
            line.clear();
            line.extend((0..stops).map(|stop| {
                let ix = (stop * STRIDE) as f64 - lead as f64;
                let place = lungai_ct::VoxelPoint([iz as f64, iy as f64, ix]);
                let node = self.beam.at(self.geometry.to_world(place).0);
                [self.level * node[NOISE], self.bias - self.cupping * node[CUP] - self.band * node[BAND]]
            }));
            for ix in 0..nx {
                let i = iy * nx + ix;
                let t = (ix + lead) as f32 / STRIDE as f32;
                let stop = (ix + lead) / STRIDE;
                let share = t - stop as f32;
                let [a, b] = [line[stop], line[stop + 1]];
                let mut value = clean[i];
                // Air is the scanner's own zero: nothing is lost on the way through it.
                let in_body = ((value + 1000.0) * (1.0 / 150.0)).clamp(0.0, 1.0);
                value += self.bias + in_body * (a[1] + share * (b[1] - a[1]) - self.bias);
                if self.level > 0.0 {
                    value += (a[0] + share * (b[0] - a[0])) * grain[(iy + pad) * columns + ix + pad];
                }
                out[i] = value.round().clamp(AIR_HU as f32, 3071.0) as i16;
            }
        }
    }
}
