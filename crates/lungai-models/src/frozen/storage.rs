//! Weights of half the size: 16-bit floating point in the file, 32 bits where they are used.

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// A weights file rounded to f16. What it becomes is what was asked for: nothing is computed with in f16.
///
/// # Errors
/// Where the file is none of ours, or a weight is beyond f16's 65504.
pub fn halved(bytes: &[u8]) -> Result<Vec<u8>, String> {
    converted(bytes, Dtype::F32, Dtype::F16, |data| {
        let halves = data.as_chunks().0.iter().map(|b| f16::from_f32(f32::from_le_bytes(*b)));
        if halves.clone().any(|value| !value.is_finite()) {
            return Err("a weight is too large for 16 bits".into());
        }
        Ok(halves.flat_map(f16::to_le_bytes).collect())
    })
}

/// The same file in f32.
pub(super) fn widened(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    if file.tensors().iter().all(|(_, view)| view.dtype() != Dtype::F16) {
        return Ok(bytes);
    }
    converted(&bytes, Dtype::F16, Dtype::F32, |data| {
        Ok(data.as_chunks().0.iter().flat_map(|b| f16::from_le_bytes(*b).to_f32().to_le_bytes()).collect())
    })
}

fn converted(
    bytes: &[u8],
    from: Dtype,
    to: Dtype,
    convert: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let (data, dtype) =
            if view.dtype() == from { (convert(view.data())?, to) } else { (view.data().to_vec(), view.dtype()) };
        tensors.push((name, view.shape().to_vec(), dtype, data));
    }
    let mut views = Vec::new();
    for (name, shape, dtype, data) in &tensors {
        let view = TensorView::new(*dtype, shape.clone(), data).map_err(|error| error.to_string())?;
        views.push((name.clone(), view));
    }
    safetensors::serialize(views, None).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(values: &[f32]) -> Vec<u8> {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        safetensors::serialize([("w", TensorView::new(Dtype::F32, vec![values.len()], &data).unwrap())], None).unwrap()
    }

    fn values(bytes: &[u8]) -> Vec<f32> {
        let file = SafeTensors::deserialize(bytes).unwrap();
        file.tensor("w").unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn rounding_keeps_eleven_bits_and_what_has_no_more_survives_unchanged() {
        let halves = halved(&file(&[1.0, -0.333_333_34, 0.1, 0.0])).unwrap();
        let back = values(&widened(halves.clone()).unwrap());
        assert!(
            back.iter()
                .zip([1.0, -0.333_333_34, 0.1, 0.0])
                .all(|(a, b): (&f32, f32)| (a - b).abs() <= b.abs() / 2048.0)
        );
        assert_eq!(halved(&file(&back)).unwrap(), halves);
        assert!(halves.len() < file(&[0.0; 4]).len());
    }

    #[test]
    fn a_weight_that_16_bits_cannot_hold_is_refused() {
        assert!(halved(&file(&[1e6])).unwrap_err().contains("too large"));
    }
}
