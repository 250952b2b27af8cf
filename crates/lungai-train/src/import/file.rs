//! Reading somebody else's file: what it lists first, a tensor only when it is asked for.

use anyhow::{Context, anyhow, bail, ensure};
use lungai_models::frozen::sha256_hex;
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Weights and what else a file may hold: optimiser states, copies.
const MOST_FILE_BYTES: u64 = 4 << 30;

/// A tensor of somebody else's file, not read yet.
pub struct Foreign {
    pub shape: Vec<usize>,
    pub read: Box<dyn Fn() -> anyhow::Result<Vec<f32>>>,
}

/// Tensors by name.
pub type ForeignFile = BTreeMap<String, Foreign>;

/// What the file lists, and its SHA-256.
pub fn open(path: &Path) -> anyhow::Result<(ForeignFile, String)> {
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    ensure!(size <= MOST_FILE_BYTES, "{size} bytes are more than a network's weights: at most 4 GiB are read");
    let mut magic = [0; 4];
    file.read_exact(&mut magic).context("empty file")?;
    if &magic == b"PK\x03\x04" {
        let mut hasher = Sha256::new_with_prefix(magic);
        let mut part = vec![0; 1 << 20];
        loop {
            match file.read(&mut part)? {
                0 => break,
                n => hasher.update(&part[..n]),
            }
        }
        let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        return Ok((open_pytorch(path)?, sha256));
    }
    let mut bytes = magic.to_vec();
    file.read_to_end(&mut bytes)?;
    let sha256 = sha256_hex(&bytes);
    Ok((open_safetensors(bytes)?, sha256))
}

/// PyTorch's zip. The reader refuses a pickle beyond 100 MiB, deep nesting and tensors that claim more than their storage
/// holds; older containers it would read whole, so that only this one is taken.
fn open_pytorch(path: &Path) -> anyhow::Result<ForeignFile> {
    let file = PytorchReader::new(path)
        // Its messages repeat their causes.
        .map_err(|error| anyhow!("no state dict (torch.save(net.state_dict(), FILE) writes one): {error}"))?;
    let foreign = |tensor: &pytorch_reader::Tensor| {
        let (shape, tensor) = (tensor.shape().to_vec(), tensor.clone());
        let kind = match tensor.dtype() {
            DType::F32 => Some(Dtype::F32),
            DType::F64 => Some(Dtype::F64),
            DType::F16 => Some(Dtype::F16),
            DType::BF16 => Some(Dtype::BF16),
            _ => None,
        };
        let read = move || match kind {
            Some(kind) => floats(&tensor.read()?, kind),
            None => bail!("`{}` holds {:?}, not floating-point numbers", tensor.name, tensor.dtype()),
        };
        Foreign { shape, read: Box::new(read) }
    };
    Ok(file.tensors().iter().map(|(name, tensor)| (name.clone(), foreign(tensor))).collect())
}

fn open_safetensors(bytes: Vec<u8>) -> anyhow::Result<ForeignFile> {
    let bytes = Arc::new(bytes);
    let file = SafeTensors::deserialize(&bytes)
        .context("neither PyTorch's zip (torch.save of PyTorch 1.6 or newer) nor safetensors")?;
    let foreign = |(name, view): (String, TensorView)| {
        let (start, length) = (view.data().as_ptr() as usize - bytes.as_ptr() as usize, view.data().len());
        let (bytes, kind, shape) = (Arc::clone(&bytes), view.dtype(), view.shape().to_vec());
        (name, Foreign { shape, read: Box::new(move || floats(&bytes[start..start + length], kind)) })
    };
    Ok(file.tensors().into_iter().map(foreign).collect())
}

/// Little-endian numbers as 32-bit floats: exact but for 64-bit ones, which are rounded.
pub fn floats(bytes: &[u8], kind: Dtype) -> anyhow::Result<Vec<f32>> {
    Ok(match kind {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        other => bail!("it holds {other:?}, not floating-point numbers"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// 1.5 and -2 by IEEE 754: half 0x3e00, 0xc000; bfloat16 the upper half of the 32 bits.
    #[test]
    fn narrow_and_wide_floats_become_32_bits() {
        let numbers = vec![1.5f32, -2.0];
        assert_eq!(floats(&[0x00, 0x3e, 0x00, 0xc0], Dtype::F16).unwrap(), numbers);
        assert_eq!(floats(&[0xc0, 0x3f, 0x00, 0xc0], Dtype::BF16).unwrap(), numbers);
        let wide: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(floats(&wide, Dtype::F64).unwrap(), numbers);
        assert!(floats(&[0; 8], Dtype::I64).unwrap_err().to_string().contains("not floating-point"));
    }

    /// How many tensors `open` finds in a zip with this pickle.
    fn open_pickle(pickle: &[u8]) -> Result<usize, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pt");
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        zip.start_file("x/data.pkl", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(pickle).unwrap();
        zip.finish().unwrap();
        open(&path).map(|(foreign, _)| foreign.len()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_pickle_that_calls_a_program_calls_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        // {"a": os.system("touch TRACE")} in protocol 2, as a program that loads pickles would run it.
        let text = |s: &str| [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat();
        let call = [b"cos\nsystem\n", &text(&format!("touch {}", trace.display()))[..], b"\x85R"].concat();
        let pickle = [b"\x80\x02}", &text("a")[..], &call, b"s."].concat();
        let found = open_pickle(&pickle);
        assert_eq!(found, Ok(0));
        assert!(!trace.exists());
    }

    #[test]
    fn hostile_and_broken_files_are_errors() {
        // A million lists in each other; then a pickle that ends early.
        let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999], vec![b'.']].concat();
        assert!(open_pickle(&deep).unwrap_err().contains("nesting"), "depth");
        assert!(open_pickle(b"\x80\x02}").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for bytes in [&b""[..], b"PK\x03\x04", b"PK\x03\x04 no zip", b"\x80\x02}q\x00.", &[0xff; 64]] {
            fs::write(&path, bytes).unwrap();
            assert!(open(&path).is_err(), "{bytes:?}");
        }
    }
}
