//! Networks as ONNX models, the form that onnxruntime and TensorRT read.
//!
//! A [`Graph`] is written layer by layer, as a forward pass is: each operation takes [`Node`]s and gives one. Batch, depth,
//! height and width stay open; weights keep the names, shapes and bytes that they have in the frozen model's safetensors
//! file. The same network gives the same bytes.
//!
//! Refuses to know of Burn, of files and of what a network is for.
//!
//! **Opset 17**: the newest thing needed is `Shape` of some axes only (opset 15). TensorRT 10 reads opsets 9 to 20 in its
//! first release and to 24 in 10.15; onnxruntime reads 17 since 1.12. A newer opset would only shut out older engines:
//! what it brings, `GroupNormalization`, had its meaning changed between 18 and 21. From 18 on `ReduceMean` takes its axes as
//! an input.

mod graph;
pub mod proto;

pub use graph::{Dim, Graph, Node, OnnxError, Scope};
