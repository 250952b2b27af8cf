//! The graph builder.

use crate::proto::{
    Attribute, Dimension, FLOAT, GraphMessage, INT64, IR_VERSION, Initializer, Model, OPSET, Operation, OperatorSet,
    Property, Shape, TensorType, Type, Value,
};
use prost::Message;
use std::fmt::Display;

/// Added to the variance by [`Scope::group_norm`].
const NORM_EPSILON: f32 = 1e-5;

/// Protocol buffers hold less than 2 GiB; the rest is room for everything but the weights.
const MOST_BYTES: usize = (2 << 30) - (16 << 20);

/// Why there is no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// A file beyond what the format can hold.
    #[error("the weights take {0} bytes; an ONNX file holds less than 2 GiB: choose a narrower network")]
    TooLarge(usize),
}

/// A tensor while the network runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node(String);

/// Size of an axis of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// The same in every run.
    Fixed(usize),
    /// Chosen by the caller; axes of one name have one size.
    Named(&'static str),
}

/// A network being written.
#[derive(Debug, Default)]
pub struct Graph {
    graph: GraphMessage,
    properties: Vec<Property>,
    remarks: String,
}

/// A place in the network, named as modules are: `encoder.0.first`. Operations are added through it.
#[derive(Debug)]
pub struct Scope<'a> {
    graph: &'a mut Graph,
    path: String,
}

impl Graph {
    /// An empty network.
    pub fn new(name: &str) -> Self {
        Self { graph: GraphMessage { name: name.to_owned(), ..Default::default() }, ..Default::default() }
    }

    /// Adds a named remark that engines keep (`metadata_props`).
    pub fn property(&mut self, key: &str, value: impl Display) {
        self.properties.push(Property { key: key.to_owned(), value: value.to_string() });
    }

    /// Sets what the file says to people (`doc_string`).
    pub fn remark(&mut self, text: &str) {
        text.clone_into(&mut self.remarks);
    }

    /// Adds a tensor of 32-bit floats that the caller gives.
    pub fn input(&mut self, name: &str, dims: &[Dim]) -> Node {
        self.graph.input.push(value(name, dims));
        Node(name.to_owned())
    }

    /// Adds a tensor of 32-bit floats that the caller gets.
    pub fn output(&mut self, name: &str, node: &Node, dims: &[Dim]) {
        self.graph.output.push(value(name, dims));
        self.graph.node.push(Operation {
            input: vec![node.0.clone()],
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: "Identity".into(),
            attribute: Vec::new(),
        });
    }

    /// The outermost place.
    pub fn root(&mut self) -> Scope<'_> {
        Scope { graph: self, path: String::new() }
    }

    /// The file.
    ///
    /// # Errors
    /// [`OnnxError::TooLarge`].
    pub fn into_bytes(self) -> Result<Vec<u8>, OnnxError> {
        let weights: usize = self.graph.initializer.iter().map(|tensor| tensor.raw_data.len()).sum();
        if weights > MOST_BYTES {
            return Err(OnnxError::TooLarge(weights));
        }
        let model = Model {
            ir_version: IR_VERSION,
            producer_name: "LungAI".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: self.remarks,
            graph: Some(self.graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
            metadata_props: self.properties,
        };
        Ok(model.encode_to_vec())
    }

    /// Integers that are part of the network's structure; written once however often they are used.
    fn integers(&mut self, values: &[i64]) -> Node {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("constant/{}", words.join("_"));
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, INT64, values.len(), raw_data)
    }

    /// A number that is part of the network's structure.
    fn number(&mut self, number: f32) -> Node {
        self.constant(format!("constant/{number}"), FLOAT, 1, number.to_le_bytes().to_vec())
    }

    fn constant(&mut self, name: String, data_type: i32, count: usize, raw_data: Vec<u8>) -> Node {
        if !self.graph.initializer.iter().any(|known| known.name == name) {
            self.graph.initializer.push(Initializer {
                dims: vec![count as i64],
                data_type,
                name: name.clone(),
                raw_data,
            });
        }
        Node(name)
    }
}

/// Operations on volumes `[batch, channel, depth, height, width]`.
impl Scope<'_> {
    /// The place `part` in this one: a field's name or an index.
    pub fn at(&mut self, part: impl Display) -> Scope<'_> {
        let path = if self.path.is_empty() { part.to_string() } else { format!("{}.{part}", self.path) };
        Scope { graph: self.graph, path }
    }

    /// Adds a weight under the name of this place.
    ///
    /// # Panics
    /// If the shape does not hold the values, or there is a weight of this name already.
    pub fn weight(&mut self, dims: &[usize], values: &[f32]) -> Node {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "shape and values of `{}`", self.path);
        let known = &mut self.graph.graph.initializer;
        assert!(known.iter().all(|other| other.name != self.path), "two weights are named `{}`", self.path);
        let raw_data = if cfg!(target_endian = "little") {
            bytemuck::cast_slice(values).to_vec()
        } else {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let dims = dims.iter().map(|&size| size as i64).collect();
        known.push(Initializer { dims, data_type: FLOAT, name: self.path.clone(), raw_data });
        Node(self.path.clone())
    }

    /// Convolution with a cubic, odd kernel, padded so that stride 1 keeps the size.
    ///
    /// - weight: `[outputs, inputs, k, k, k]`, bias: `[outputs]`
    pub fn conv(&mut self, x: &Node, weight: &Node, bias: Option<&Node>, kernel: usize, stride: usize) -> Node {
        let inputs: Vec<&Node> = [x, weight].into_iter().chain(bias).collect();
        self.add(
            "Conv",
            &inputs,
            vec![cubic("kernel_shape", kernel), cubic("strides", stride), ints("pads", &[kernel as i64 / 2; 6])],
        )
    }

    /// Group normalisation (Wu & He 2018) with 1e-5 added to the variance.
    ///
    /// Means are taken axis by axis, not by `InstanceNormalization` over a whole group: onnxruntime adds up each row with one
    /// running 32-bit sum, and on a 96-voxel cube the lung network's logits were then off by 2e-4 of their range.
    ///
    /// - gamma, beta: `[channels]`
    pub fn group_norm(&mut self, x: &Node, gamma: &Node, beta: &Node, [channels, groups]: [usize; 2]) -> Node {
        let mean = self.group_mean(x, [channels, groups]);
        let centred = self.add("Sub", &[x, &mean], Vec::new());
        let squared = self.add("Mul", &[&centred, &centred], Vec::new());
        let variance = self.group_mean(&squared, [channels, groups]);
        let epsilon = self.graph.number(NORM_EPSILON);
        let variance = self.add("Add", &[&variance, &epsilon], Vec::new());
        let deviation = self.add("Sqrt", &[&variance], Vec::new());
        // The weights stay as they are in the frozen model; engines fold these two away.
        let axes = self.graph.integers(&[1, 2, 3]);
        let gamma = self.add("Unsqueeze", &[gamma, &axes], Vec::new());
        let beta = self.add("Unsqueeze", &[beta, &axes], Vec::new());
        let scale = self.add("Div", &[&gamma, &deviation], Vec::new());
        let scaled = self.add("Mul", &[&centred, &scale], Vec::new());
        self.add("Add", &[&scaled, &beta], Vec::new())
    }

    /// Mean of each channel's group over all voxels: `[b, channels, 1, 1, 1]`.
    fn group_mean(&mut self, x: &Node, [channels, groups]: [usize; 2]) -> Node {
        let over = |axis| vec![ints("axes", &[axis]), int("keepdims", 1)];
        let along_x = self.add("ReduceMean", &[x], over(4));
        let along_y = self.add("ReduceMean", &[&along_x], over(3));
        let each = self.add("ReduceMean", &[&along_y], over(2));
        let members = (channels / groups) as i64;
        let [grouped, apart] = [[0, groups as i64, members, 1, 1].as_slice(), &[0, channels as i64, 1, 1, 1]]
            .map(|s| self.graph.integers(s));
        let each = self.add("Reshape", &[&each, &grouped], Vec::new());
        let mean = self.add("ReduceMean", &[&each], over(2));
        let repeated = self.graph.integers(&[1, 1, members, 1, 1]);
        let mean = self.add("Expand", &[&mean, &repeated], Vec::new());
        self.add("Reshape", &[&mean, &apart], Vec::new())
    }

    /// The larger of each value and 0.
    pub fn relu(&mut self, x: &Node) -> Node {
        self.add("Relu", &[x], Vec::new())
    }

    /// Sum of two tensors of one shape.
    pub fn sum(&mut self, a: &Node, b: &Node) -> Node {
        self.add("Add", &[a, b], Vec::new())
    }

    /// Mean of several tensors of one shape.
    pub fn mean(&mut self, parts: &[&Node]) -> Node {
        self.add("Mean", parts, Vec::new())
    }

    /// The voxels in the middle: of each of the three axes two, where it has an even number, or one.
    pub fn middle(&mut self, x: &Node) -> Node {
        let size = self.add("Shape", &[x], vec![int("start", 2), int("end", 5)]);
        let [one, two, axes] = [&[1][..], &[2], &[2, 3, 4]].map(|values| self.graph.integers(values));
        let last = self.add("Sub", &[&size, &one], Vec::new());
        let starts = self.add("Div", &[&last, &two], Vec::new());
        let half = self.add("Div", &[&size, &two], Vec::new());
        let ends = self.add("Add", &[&half, &one], Vec::new());
        self.add("Slice", &[x, &starts, &ends, &axes], Vec::new())
    }

    /// Maximum over blocks of 2x2x2; sizes must be even.
    pub fn max_pool2(&mut self, x: &Node) -> Node {
        self.add("MaxPool", &[x], vec![cubic("kernel_shape", 2), cubic("strides", 2)])
    }

    /// Mean over blocks of 2x2x2; sizes must be even.
    pub fn mean_pool2(&mut self, x: &Node) -> Node {
        self.add("AveragePool", &[x], vec![cubic("kernel_shape", 2), cubic("strides", 2)])
    }

    /// The channels of all, one after the other.
    pub fn concat(&mut self, parts: &[&Node]) -> Node {
        self.add("Concat", parts, vec![int("axis", 1)])
    }

    /// `[b, 8 outputs, d, h, w]` to `[b, outputs, 2d, 2h, 2w]`: sub-channel `4 dz + 2 dy + dx` of each output goes to voxel
    /// `(2z + dz, 2y + dy, 2x + dx)`.
    ///
    /// No `ConvTranspose` in its place: that has one bias an output, and here each of the eight voxels has its own.
    pub fn depth_to_space(&mut self, x: &Node, outputs: usize) -> Node {
        let size = self.add("Shape", &[x], vec![int("start", 2), int("end", 5)]);
        let head = self.graph.integers(&[0, outputs as i64, 2, 2, 2]);
        let split = self.add("Concat", &[&head, &size], vec![int("axis", 0)]);
        let x = self.add("Reshape", &[x, &split], Vec::new()); // [b, outputs, 2, 2, 2, d, h, w]
        let x = self.add("Transpose", &[&x], vec![ints("perm", &[0, 1, 5, 2, 6, 3, 7, 4])]);
        let twice = self.graph.integers(&[2, 2, 2]);
        let size = self.add("Mul", &[&size, &twice], Vec::new());
        let head = self.graph.integers(&[0, outputs as i64]);
        let joined = self.add("Concat", &[&head, &size], vec![int("axis", 0)]);
        self.add("Reshape", &[&x, &joined], Vec::new())
    }

    /// Mean of each channel over all voxels: `[b, channels, 1, 1, 1]`.
    pub fn global_mean(&mut self, x: &Node) -> Node {
        self.add("GlobalAveragePool", &[x], Vec::new())
    }

    /// Maximum of each channel over all voxels: `[b, channels, 1, 1, 1]`.
    pub fn global_max(&mut self, x: &Node) -> Node {
        self.add("GlobalMaxPool", &[x], Vec::new())
    }

    /// All of `[b, ..]` in one row a batch, times `weight: [inputs, outputs]`, plus `bias: [outputs]`.
    pub fn linear(&mut self, x: &Node, weight: &Node, bias: &Node) -> Node {
        let rows = self.add("Flatten", &[x], vec![int("axis", 1)]);
        self.add("Gemm", &[&rows, weight, bias], Vec::new())
    }

    fn add(&mut self, operator: &str, inputs: &[&Node], attribute: Vec<Attribute>) -> Node {
        let nodes = &mut self.graph.graph.node;
        // The count keeps names apart; nobody has to read it.
        let name = format!("{}/{operator}_{}", self.path, nodes.len());
        nodes.push(Operation {
            input: inputs.iter().map(|node| node.0.clone()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.to_owned(),
            attribute,
        });
        Node(name)
    }
}

fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: name.into(), i: Some(i), kind: 2, ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute { name: name.into(), ints: values.to_vec(), kind: 7, ..Default::default() }
}

fn cubic(name: &str, value: usize) -> Attribute {
    ints(name, &[value as i64; 3])
}

fn value(name: &str, dims: &[Dim]) -> Value {
    let dim = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => Dimension { dim_value: Some(*size as i64), dim_param: None },
            Dim::Named(name) => Dimension { dim_value: None, dim_param: Some((*name).to_owned()) },
        })
        .collect();
    let tensor = TensorType { elem_type: FLOAT, shape: Some(Shape { dim }) };
    Value { name: name.to_owned(), kind: Some(Type { tensor: Some(tensor) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(graph: Graph) -> (Vec<u8>, Model) {
        let bytes = graph.into_bytes().unwrap();
        let model = Model::decode(bytes.as_slice()).unwrap();
        (bytes, model)
    }

    /// By hand from `onnx.proto3`: key = tag * 8 + wire type (0 number, 2 bytes with a length, 5 four bytes).
    #[test]
    fn fields_have_the_tags_of_the_published_schema() {
        assert_eq!(OperatorSet { domain: String::new(), version: 17 }.encode_to_vec(), [0x10, 17]);
        assert_eq!(int("i", 0).encode_to_vec(), [0x0a, 1, b'i', 0x18, 0, 0xa0, 1, 2]);
        assert_eq!(ints("p", &[1, 2]).encode_to_vec(), [0x0a, 1, b'p', 0x42, 2, 1, 2, 0xa0, 1, 7]);
        let weight =
            Initializer { dims: vec![1], data_type: FLOAT, name: "w".into(), raw_data: 1f32.to_le_bytes().into() };
        assert_eq!(weight.encode_to_vec(), [0x0a, 1, 1, 0x10, 1, 0x42, 1, b'w', 0x4a, 4, 0, 0, 0x80, 0x3f]);
        let (bytes, _) = model(Graph::new("g"));
        assert_eq!(bytes[..2], [0x08, 8]); // ir_version
        assert!(bytes.ends_with(&[0x3a, 3, 0x12, 1, b'g', 0x42, 2, 0x10, 17])); // graph with its name; operator set
    }

    #[test]
    fn what_is_written_reads_back_with_names_shapes_and_remarks() {
        let mut graph = Graph::new("net");
        graph.property("network", "lung");
        graph.remark("SYNTHETIC");
        let x = graph.input("x", &[Dim::Named("batch"), Dim::Fixed(2)]);
        let mut root = graph.root();
        let mut first = root.at("encoder");
        let mut first = first.at(0);
        let weight = first.at("weight").weight(&[4, 2, 1, 1, 1], &[0.5; 8]);
        let y = first.conv(&x, &weight, None, 1, 1);
        let y = first.relu(&y);
        graph.output("y", &y, &[Dim::Named("batch"), Dim::Fixed(4)]);

        let (_, model) = model(graph);
        assert_eq!((model.ir_version, model.opset_import[0].version), (8, 17));
        assert_eq!(model.doc_string, "SYNTHETIC");
        assert_eq!(model.metadata_props, [Property { key: "network".into(), value: "lung".into() }]);
        let graph = model.graph.unwrap();
        assert_eq!(graph.initializer[0].name, "encoder.0.weight");
        assert_eq!((&graph.initializer[0].dims[..], graph.initializer[0].raw_data.len()), (&[4, 2, 1, 1, 1][..], 32));
        let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["Conv", "Relu", "Identity"]);
        assert_eq!(graph.node[0].input, ["x", "encoder.0.weight"]);
        assert_eq!(graph.node[2].output, ["y"]);
        let dims = &graph.input[0].kind.as_ref().unwrap().tensor.as_ref().unwrap().shape.as_ref().unwrap().dim;
        assert_eq!((dims[0].dim_param.as_deref(), dims[1].dim_value), (Some("batch"), Some(2)));
    }

    #[test]
    fn constants_are_written_once_and_every_input_is_made_before_it_is_used() {
        let mut graph = Graph::new("net");
        let x = graph.input("x", &[Dim::Named("batch"), Dim::Fixed(8)]);
        let mut root = graph.root();
        let gamma = root.at("gamma").weight(&[8], &[1.0; 8]);
        let beta = root.at("beta").weight(&[8], &[0.0; 8]);
        let y = root.group_norm(&x, &gamma, &beta, [8, 2]);
        let y = root.group_norm(&y, &gamma, &beta, [8, 2]);
        let y = root.depth_to_space(&y, 1);
        graph.output("y", &y, &[Dim::Named("batch"), Dim::Fixed(1)]);

        let graph = model(graph).1.graph.unwrap();
        let mut made: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(made.iter().filter(|name| **name == "constant/0_2_4_1_1").count(), 1);
        made.push("x");
        for node in &graph.node {
            assert!(node.input.iter().all(|name| made.contains(&name.as_str())), "{node:?}");
            made.extend(node.output.iter().map(String::as_str));
        }
        let distinct: std::collections::BTreeSet<&&str> = made.iter().collect();
        assert_eq!(distinct.len(), made.len());
    }

    #[test]
    #[should_panic(expected = "two weights are named `gamma`")]
    fn two_weights_of_one_name_are_our_own_mistake() {
        let mut graph = Graph::new("net");
        for _ in 0..2 {
            graph.root().at("gamma").weight(&[1], &[1.0]);
        }
    }
}
