//! Several networks of one shape as one: the mean of what they say. Folds and seeds of one experiment agree more in what they
//! get right than in what they get wrong.

use burn::tensor::Tensor;
#[cfg(feature = "onnx")]
use lungai_onnx::{Graph, Node, Scope};

/// Mean output of the members; of one member exactly its own.
///
/// # Panics
/// If there is no member.
pub fn mean<N, const D: usize>(members: &[&N], output: impl Fn(&N) -> Tensor<D>) -> Tensor<D> {
    let sum = members.iter().map(|member| output(member)).reduce(|sum, next| sum + next).expect("at least one member");
    if members.len() == 1 { sum } else { sum / members.len() as f64 }
}

/// The same in ONNX: the layers of each member and the mean of each of its outputs. The first member's weights keep the names
/// that it has alone, those of the others begin with `further.0.`, `further.1.`, ..
#[cfg(feature = "onnx")]
pub(crate) fn export<N>(graph: &mut Graph, members: &[&N], layers: impl Fn(&N, &mut Scope) -> Vec<Node>) -> Vec<Node> {
    let (first, further) = members.split_first().expect("at least one member");
    let g = &mut graph.root();
    let mut outputs: Vec<Vec<Node>> = layers(first, g).into_iter().map(|output| vec![output]).collect();
    for (i, member) in further.iter().enumerate() {
        for (same, output) in outputs.iter_mut().zip(layers(member, &mut g.at("further").at(i))) {
            same.push(output);
        }
    }
    outputs
        .iter()
        .map(|same| if same.len() == 1 { same[0].clone() } else { g.mean(&same.iter().collect::<Vec<_>>()) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn of_one_member_it_is_its_output_bit_by_bit_and_of_several_the_mean() {
        let device = Device::flex();
        let say = |number: &f32| Tensor::<1>::from_floats([*number, 2.0 * *number], &device);
        let values = |members: &[&f32]| mean(members, say).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(values(&[&0.1]), [0.1, 0.2]);
        assert_eq!(values(&[&1.0, &2.0, &6.0]), [3.0, 6.0]);
    }
}
