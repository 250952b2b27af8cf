//! What to do where memory does not suffice.

use anyhow::bail;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What helps, cheapest first.
pub const REMEDY: &str = "lower training.batch and raise training.accumulate by the same factor (the same steps, less at \
a time), on a GPU set training.checkpoint_gradients=true, or choose a smaller network.*.tile or patch; then start the run \
anew";

/// `work`, whose panic for want of a GPU's memory becomes an error that says what helps. On the CPU the system ends the
/// process instead; who started it says the same then.
pub fn with_remedy<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => {
            result.map_err(|error| if is_memory(&format!("{error:#}")) { error.context(message()) } else { error })
        }
        Err(panic) => {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            match text {
                Some(text) if is_memory(text) => bail!("{}: {text}", message()),
                _ => resume_unwind(panic),
            }
        }
    }
}

fn message() -> String {
    format!("the device's memory does not suffice: {REMEDY}")
}

fn is_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    ["out of memory", "outofmemory", "out_of_memory", "cannot allocate"].iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_names_the_remedy_and_any_other_panic_goes_on() {
        let full = || -> anyhow::Result<()> { panic!("CUDA_ERROR_OUT_OF_MEMORY: 2 GiB") };
        let error = with_remedy(full).unwrap_err().to_string();
        assert!(error.contains("training.accumulate") && error.ends_with("2 GiB"), "{error}");
        let other = || -> anyhow::Result<()> { panic!("index out of bounds") };
        assert!(catch_unwind(|| with_remedy(other)).is_err());
        let plain = with_remedy(|| -> anyhow::Result<()> { bail!("no such file") }).unwrap_err();
        assert_eq!(plain.to_string(), "no such file");
    }
}
