//! Networks that look at a cube round a place.

use burn::tensor::{Device, Tensor, TensorData};
use lungai_ct::{Volume, WorldPoint};
use lungai_imaging::{axial, normalise, patch};

/// Cubes that usually go through a network together.
pub const CUBES_AT_ONCE: usize = 8;

/// The cubes that a network sees.
pub(crate) struct Shape {
    /// Voxels.
    pub edge: usize,
    /// Voxel edge.
    pub spacing_mm: f64,
    /// HU that map to -1 and +1.
    pub window_hu: (f32, f32),
    /// Cubes that go through the network together.
    pub at_once: usize,
}

/// One number for each centre: `output` gives `[b, 1]` for cubes `[b, 1, n, n, n]`.
pub(crate) fn first_outputs(
    shape: &Shape,
    volume: &Volume,
    centres: &[WorldPoint],
    device: &Device,
    output: impl Fn(Tensor<5>) -> Tensor<2>,
) -> Vec<f64> {
    let n = shape.edge;
    // As the network has learned it: a file may store the patient from the other side.
    let volume = axial(volume);
    let mut numbers = Vec::with_capacity(centres.len());
    for batch in centres.chunks(shape.at_once) {
        let mut values = Vec::with_capacity(batch.len() * n * n * n);
        for centre in batch {
            let cube = patch(&volume, *centre, [n; 3], shape.spacing_mm);
            values.extend(cube.iter().map(|hu| normalise(*hu, shape.window_hu)));
        }
        let input = Tensor::<5>::from_data(TensorData::new(values, [batch.len(), 1, n, n, n]), device);
        let out: Vec<f32> = output(input).into_data().convert::<f32>().try_to_vec().expect("converted");
        numbers.extend(out.into_iter().map(f64::from));
    }
    numbers
}
