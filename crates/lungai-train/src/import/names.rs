//! Which tensor of a PyTorch file is which of ours.

use super::file::ForeignFile;
use crate::config::Network;
use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use lungai_models::frozen::{weights_from_bytes, weights_to_bytes};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;

/// A file in our names and layouts.
#[derive(Debug)]
pub struct Translated {
    /// As training would have written them.
    pub weights: Vec<u8>,
    /// What became of each tensor.
    pub tensors: Vec<Renamed>,
    /// Tensors that do not begin with the prefix: an optimiser's, another network's.
    pub others: usize,
}

/// A tensor that was found.
#[derive(Debug)]
pub struct Renamed {
    /// Its name in the file.
    pub from: String,
    /// Our name.
    pub to: String,
    /// Our shape.
    pub shape: Vec<usize>,
}

/// Finds every tensor of the network; all that is missing, left over or of another shape is named at once.
pub fn translate(network: &Network, foreign: &ForeignFile, prefix: Option<&str>) -> anyhow::Result<Translated> {
    let untrained = untrained(network);
    let ours = SafeTensors::deserialize(&untrained).context("our own weights file")?;
    let wanted: BTreeMap<String, (String, Vec<usize>)> =
        ours.tensors().into_iter().map(|(name, view)| (torch_name(&name), (name, view.shape().to_vec()))).collect();
    let prefix = match prefix {
        Some(prefix) => prefix.to_owned(),
        None => find_prefix(&wanted, foreign)?,
    };
    let mut faults = Vec::new();
    let mut tensors = Vec::new();
    for (theirs, (to, shape)) in &wanted {
        let from = format!("{prefix}{theirs}");
        // PyTorch keeps a matrix as [outputs, inputs], we as [inputs, outputs].
        let expected: Vec<usize> = if shape.len() == 2 { vec![shape[1], shape[0]] } else { shape.clone() };
        match foreign.get(&from) {
            None => faults.push(format!("`{from}` {expected:?} is missing")),
            Some(found) if found.shape != expected => {
                faults.push(format!("`{from}` is {:?}, the network needs {expected:?}", found.shape));
            }
            Some(_) => tensors.push(Renamed { from, to: to.clone(), shape: shape.clone() }),
        }
    }
    let (mine, others): (Vec<&String>, Vec<&String>) = foreign.keys().partition(|name| name.starts_with(&prefix));
    for name in mine {
        // How many batches batch normalisation has seen: nothing is computed from it.
        if !wanted.contains_key(&name[prefix.len()..]) && !name.ends_with(".num_batches_tracked") {
            faults.push(format!("`{name}` {:?} is unknown to the network", foreign[name].shape));
        }
    }
    if !faults.is_empty() {
        bail!("{} tensors do not fit:\n  {}", faults.len(), faults.join("\n  "));
    }
    let mut data = Vec::new();
    for Renamed { from, to, shape } in &tensors {
        let mut values = (foreign[from].read)().with_context(|| format!("`{from}`"))?;
        ensure!(values.len() == shape.iter().product::<usize>(), "`{from}` is cut short");
        ensure!(values.iter().all(|v| v.is_finite()), "`{from}` holds values that are not finite");
        if let [inputs, outputs] = shape[..] {
            values = (0..inputs * outputs).map(|i| values[i % outputs * inputs + i / outputs]).collect();
        }
        data.push((to.clone(), shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()));
    }
    let views = data
        .iter()
        .map(|(name, shape, bytes)| Ok((name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let weights = through_network(network, safetensors::serialize(views, None)?)?;
    Ok(Translated { weights, tensors, others: others.len() })
}

/// Name of one of our tensors in PyTorch.
fn torch_name(ours: &str) -> String {
    match ours.rsplit_once('.') {
        Some((module, "gamma")) => format!("{module}.weight"),
        Some((module, "beta")) => format!("{module}.bias"),
        Some((module, "mean")) if module.ends_with(".running") => format!("{module}_mean"),
        Some((module, "variance")) if module.ends_with(".running") => format!("{module}_var"),
        _ => ours.to_owned(),
    }
}

/// What stands before most of the names that are looked for: nothing, `module.`, `state_dict.`, ...
fn find_prefix(wanted: &BTreeMap<String, (String, Vec<usize>)>, foreign: &ForeignFile) -> anyhow::Result<String> {
    let mut fits: BTreeMap<&str, usize> = BTreeMap::new();
    for name in foreign.keys() {
        // Every tail that begins a part of the name may be one of ours.
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        for start in starts.filter(|start| wanted.contains_key(&name[*start..])) {
            *fits.entry(&name[..start]).or_default() += 1;
        }
    }
    let most = fits.values().copied().max().unwrap_or(0);
    let best: Vec<&str> = fits.iter().filter(|(_, count)| **count == most).map(|(prefix, _)| *prefix).collect();
    match best[..] {
        [] => Ok(String::new()),
        [prefix] => Ok(prefix.to_owned()),
        _ => bail!("the file holds several such networks; choose one with --prefix: {}", best.join(", ")),
    }
}

/// A weights file of the network before any training.
pub fn untrained(network: &Network) -> Vec<u8> {
    let device = Device::flex();
    match network {
        Network::Lung(config) => weights_to_bytes(&config.init(0, &device)),
        Network::Detector(config) => weights_to_bytes(&config.init(0, &device)),
        Network::Classifier(config) => weights_to_bytes(&config.init(0, &device)),
        Network::Reducer(config) => weights_to_bytes(&config.init(0, &device)),
    }
}

/// The bytes that training would have written for these weights.
fn through_network(network: &Network, weights: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    fn through<M: burn::module::Module>(mut net: M, weights: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        weights_from_bytes(&mut net, weights).map_err(anyhow::Error::msg)?;
        Ok(weights_to_bytes(&net))
    }
    let device = Device::flex();
    match network {
        Network::Lung(config) => through(config.init(0, &device), weights),
        Network::Detector(config) => through(config.init(0, &device), weights),
        Network::Classifier(config) => through(config.init(0, &device), weights),
        Network::Reducer(config) => through(config.init(0, &device), weights),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{floats, open};
    use super::*;
    use lungai_models::classifier::ClassifierConfig;
    use std::fs;
    use std::path::Path;

    fn classifier() -> Network {
        let window_hu = (-1000.0, 400.0);
        Network::Classifier(ClassifierConfig {
            width: 2,
            blocks: vec![1, 1],
            spacing_mm: 1.0,
            tile: 8,
            window_hu,
            middle: false,
        })
    }

    /// A tensor as PyTorch would have it: name, shape, values.
    type Torch = (String, Vec<usize>, Vec<f32>);

    /// The untrained network in PyTorch's names and layouts.
    fn torch_state(network: &Network) -> Vec<Torch> {
        let bytes = untrained(network);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.tensors()
            .into_iter()
            .map(|(name, view)| {
                let mut values = floats(view.data(), Dtype::F32).unwrap();
                let mut shape = view.shape().to_vec();
                if let [inputs, outputs] = shape[..] {
                    values = (0..outputs)
                        .flat_map(|o| (0..inputs).map(move |i| (i, o)))
                        .map(|(i, o)| values[i * outputs + o])
                        .collect();
                    shape = vec![outputs, inputs];
                }
                (torch_name(&name), shape, values)
            })
            .collect()
    }

    fn write_safetensors(path: &Path, state: &[Torch]) {
        let data: Vec<Vec<u8>> = state.iter().map(|(.., v)| v.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = state.iter().zip(&data).map(|((name, shape, _), bytes)| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    /// Imports a state dict that `change` has changed.
    fn try_import(prefix: Option<&str>, change: impl FnOnce(&mut Vec<Torch>)) -> Result<Translated, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut state = torch_state(&classifier());
        change(&mut state);
        write_safetensors(&path, &state);
        let (foreign, _) = open(&path).map_err(|error| format!("{error:#}"))?;
        translate(&classifier(), &foreign, prefix).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn names_and_layouts_of_pytorch_become_ours() {
        let translated = try_import(None, |_| ()).unwrap();
        assert_eq!(translated.weights, untrained(&classifier()));
        let shown = |to: &str| {
            let tensor = translated.tensors.iter().find(|t| t.to == to).unwrap();
            (tensor.from.clone(), tensor.shape.clone())
        };
        assert_eq!(shown("stem.norm.gamma"), ("stem.norm.weight".into(), vec![2]));
        assert_eq!(shown("head.weight"), ("head.weight".into(), vec![8, 7]));
    }

    #[test]
    fn a_state_dict_may_lie_inside_a_checkpoint() {
        let translated = try_import(None, |state| {
            for (name, ..) in state.iter_mut() {
                *name = format!("state_dict.module.{name}");
            }
            state.push(("optimizer.0.exp_avg".into(), vec![1], vec![0.0]));
        });
        let translated = translated.unwrap();
        assert_eq!((translated.weights, translated.others), (untrained(&classifier()), 1));
    }

    #[test]
    fn of_two_copies_the_user_names_one() {
        let twice = |state: &mut Vec<Torch>| {
            let copy: Vec<Torch> = state
                .iter()
                .map(|(name, shape, v)| (format!("ema.{name}"), shape.clone(), vec![1.0; v.len()]))
                .collect();
            for (name, ..) in state.iter_mut() {
                *name = format!("net.{name}");
            }
            state.extend(copy);
        };
        let error = try_import(None, twice).unwrap_err();
        assert_eq!(error, "the file holds several such networks; choose one with --prefix: ema., net.");
        assert_eq!(try_import(Some("net."), twice).unwrap().weights, untrained(&classifier()));
    }

    #[test]
    fn all_that_does_not_fit_is_named_at_once() {
        let error = try_import(None, |state| {
            state.retain(|(name, ..)| name != "stem.norm.bias");
            state.push(("stem.norm.running_mean".into(), vec![2], vec![0.0; 2]));
            let head = state.iter_mut().find(|(name, ..)| name == "head.weight").unwrap();
            head.1 = vec![8, 7];
        });
        assert_eq!(
            error.unwrap_err(),
            "3 tensors do not fit:\n  \
             `head.weight` is [8, 7], the network needs [7, 8]\n  \
             `stem.norm.bias` [2] is missing\n  \
             `stem.norm.running_mean` [2] is unknown to the network"
        );
    }

    #[test]
    fn values_that_are_no_numbers_are_refused() {
        let error = try_import(None, |state| {
            state.iter_mut().find(|(name, ..)| name == "head.bias").unwrap().2[3] = f32::NAN;
        });
        assert_eq!(error.unwrap_err(), "`head.bias` holds values that are not finite");
    }
}
