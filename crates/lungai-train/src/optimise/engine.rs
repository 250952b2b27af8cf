//! onnxruntime as another engine for the networks, in a Python of the user's (`engine.py`).

use anyhow::{Context, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = include_str!("engine.py");

/// A Python with onnxruntime and onnx.
pub struct Python {
    program: PathBuf,
    script: PathBuf,
}

impl Python {
    /// - `folder`: where the script is put
    pub fn new(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let script = folder.join("engine.py");
        fs::write(&script, SCRIPT)?;
        Ok(Self { program: program.to_owned(), script })
    }

    /// Writes the network with convolutions and products of 8-bit integers; their ranges are those that `inputs`, all of one
    /// shape, bring about.
    pub fn quantise(&self, net: &Path, out: &Path, inputs: &[Vec<f32>], shape: &[usize]) -> anyhow::Result<()> {
        let file = out.with_extension("f32");
        fs::write(&file, inputs.iter().flatten().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
        let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut command = Command::new(&self.program);
        command.arg(&self.script).arg("quantise").args([net, out, &file]).arg(shape);
        let output = command.output().with_context(|| format!("{}", self.program.display()))?;
        fs::remove_file(&file)?;
        if !output.status.success() {
            bail!("onnxruntime did not quantise the network: {}", last_line(&output.stderr));
        }
        Ok(())
    }

    /// Starts the network in a process of its own.
    pub fn start(&self, net: &Path, threads: usize) -> anyhow::Result<Engine> {
        let mut command = Command::new(&self.program);
        command.arg(&self.script).arg("run").arg(net).arg(threads.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}", self.program.display()))?;
        let requests = child.stdin.take().expect("piped");
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        let hello = line(&mut answers).context("onnxruntime did not start; see above")?;
        let version = hello["version"].as_str().unwrap_or("unknown").to_owned();
        Ok(Engine { child, pipes: RefCell::new((requests, answers)), version })
    }
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

fn line(answers: &mut impl BufRead) -> anyhow::Result<Value> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    ensure!(!line.is_empty(), "the engine ended");
    Ok(serde_json::from_str(&line)?)
}

/// A network that runs in onnxruntime; it ends with this value.
pub struct Engine {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    /// Of onnxruntime.
    pub version: String,
}

impl Engine {
    /// All outputs, each with its values and shape.
    pub fn run(&self, input: Tensor<5>) -> anyhow::Result<Vec<(Vec<f32>, Vec<usize>)>> {
        let (requests, answers) = &mut *self.pipes.borrow_mut();
        let shape = input.dims();
        let values: Vec<f32> = input.into_data().convert::<f32>().try_to_vec().map_err(|e| anyhow::anyhow!("{e:?}"))?;
        writeln!(requests, "{}", json!({ "shape": shape }))?;
        requests.write_all(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
        requests.flush()?;
        let answer = line(answers)?;
        let shapes: Vec<Vec<usize>> = serde_json::from_value(answer["shapes"].clone())?;
        let mut outputs = Vec::new();
        for shape in shapes {
            let mut bytes = vec![0; 4 * shape.iter().product::<usize>()];
            answers.read_exact(&mut bytes)?;
            outputs.push((bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(), shape));
        }
        Ok(outputs)
    }

    /// The `index`-th output as a tensor.
    ///
    /// # Panics
    /// If the engine fails: the pipeline has no way to say so, and there is nothing to go on with.
    pub fn tensor<const D: usize>(outputs: &mut [(Vec<f32>, Vec<usize>)], index: usize, device: &Device) -> Tensor<D> {
        let (values, shape) = std::mem::take(&mut outputs[index]);
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It waits for requests, and there are no more; that it is gone already is no matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
