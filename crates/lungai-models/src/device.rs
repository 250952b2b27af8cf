//! Where the networks run.

use burn::tensor::Device;
use std::{fmt, str::FromStr};

/// What the user asked for with `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device, or the CPU where there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
}

/// Why a device cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not one of the names.
    #[error("device `{0}` is unknown: use auto, cpu or cuda:N")]
    Unknown(String),
    /// There is no such CUDA device, or this program was built without CUDA.
    #[error("cuda:{index} is not available ({found} CUDA devices found{})", if cfg!(feature = "cuda") { "" } else { "; this build has no GPU code: set LUNGAI_FEATURES=cuda for cargo xtask" })]
    NoCuda {
        /// Requested index.
        index: usize,
        /// Devices that exist.
        found: usize,
    },
}

impl DeviceChoice {
    /// The device itself, without gradients, and its name for records (`cpu`, `cuda:0`).
    ///
    /// Devices are enumerated first: asking CUDA for a device on a machine without a driver panics.
    ///
    /// # Errors
    /// [`DeviceError::NoCuda`] where a CUDA device was asked for by index and is not there.
    pub fn open(self) -> Result<(Device, String), DeviceError> {
        let cuda = cuda_devices();
        let index = match self {
            Self::Cpu => None,
            Self::Auto => (!cuda.is_empty()).then_some(0),
            Self::Cuda(index) if index < cuda.len() => Some(index),
            Self::Cuda(index) => return Err(DeviceError::NoCuda { index, found: cuda.len() }),
        };
        Ok(match index {
            Some(index) => (cuda[index].clone(), format!("cuda:{index}")),
            None => {
                keep_freed_memory();
                (Device::flex(), "cpu".to_owned())
            }
        })
    }
}

/// From here on this process keeps memory that it frees, for its next tensors: they come and go with every layer, and glibc
/// would give each back to the system and be handed fresh zeroed pages, which took a sixth of a training step. The process
/// holds what it needed at its highest until it ends.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: `mallopt` sets two numbers of the allocator under its own lock; these are documented values.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

#[cfg(feature = "cuda")]
fn cuda_devices() -> Vec<Device> {
    Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec()
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Vec<Device> {
    Vec::new()
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| DeviceError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_refused() {
        for name in ["auto", "cpu", "cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert!("cuda:".parse::<DeviceChoice>().is_err());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn auto_falls_back_to_the_cpu_and_an_absent_gpu_is_an_error() {
        assert_eq!(DeviceChoice::Auto.open().unwrap().1, "cpu");
        assert!(DeviceChoice::Cuda(0).open().unwrap_err().to_string().contains("0 CUDA devices"));
    }
}
