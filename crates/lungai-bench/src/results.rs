//! What a contestant computed: arrays and numbers by name, on disk as raw little-endian files.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A result in memory.
#[derive(Debug, Default)]
pub struct Output {
    /// Arrays, in memory order.
    pub arrays: BTreeMap<&'static str, Values>,
    /// Single numbers.
    pub numbers: BTreeMap<String, f64>,
}

/// One array's elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Masks.
    Bool(Vec<bool>),
    /// Labels.
    U8(Vec<u8>),
    /// HU.
    I16(Vec<i16>),
    /// Component labels.
    U32(Vec<u32>),
    /// Distances, patches.
    F32(Vec<f32>),
}

/// What a contestant says of its saved result; the arrays lie in `FOLDER/NAME.raw`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// Name to element type: `u8`, `i16`, `u32` or `f32`.
    pub arrays: BTreeMap<String, String>,
    /// Single numbers.
    pub numbers: BTreeMap<String, f64>,
}

impl Output {
    pub fn array(name: &'static str, values: Values) -> Self {
        Self { arrays: BTreeMap::from([(name, values)]), numbers: BTreeMap::new() }
    }

    pub fn numbers<const N: usize>(numbers: [(&str, f64); N]) -> Self {
        let numbers = numbers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { arrays: BTreeMap::new(), numbers }
    }

    pub fn save(&self, folder: &Path) -> anyhow::Result<Saved> {
        std::fs::create_dir_all(folder)?;
        let mut arrays = BTreeMap::new();
        for (name, values) in &self.arrays {
            let (kind, bytes): (&str, Vec<u8>) = match values {
                Values::Bool(v) => ("u8", v.iter().map(|v| u8::from(*v)).collect()),
                Values::U8(v) => ("u8", v.clone()),
                Values::I16(v) => ("i16", v.iter().flat_map(|v| v.to_le_bytes()).collect()),
                Values::U32(v) => ("u32", v.iter().flat_map(|v| v.to_le_bytes()).collect()),
                Values::F32(v) => ("f32", v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            };
            std::fs::write(folder.join(format!("{name}.raw")), bytes)?;
            arrays.insert((*name).to_owned(), kind.to_owned());
        }
        Ok(Saved { arrays, numbers: self.numbers.clone() })
    }
}

impl Saved {
    /// One array, read back.
    pub fn load(&self, folder: &Path, name: &str) -> anyhow::Result<Values> {
        let kind = self.arrays.get(name).with_context(|| format!("no array `{name}` in the result"))?;
        let bytes = std::fs::read(folder.join(format!("{name}.raw")))?;
        Ok(match kind.as_str() {
            "u8" => Values::U8(bytes),
            "i16" => Values::I16(bytes.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b)).collect()),
            "u32" => Values::U32(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()),
            "f32" => Values::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            other => bail!("elements of type {other}"),
        })
    }
}
