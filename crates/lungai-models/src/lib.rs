//! The networks with their losses and box codec, and the frozen form in which they are validated and served.
//!
//! Refuses to read images, to sample training data and to know of patients. Built on Burn; the device decides at run
//! time where a tensor lives.

pub mod anchors;
pub mod classifier;
pub mod detector;
mod device;
pub mod frozen;
mod layers;
#[cfg(feature = "train")]
pub mod loss;
pub mod lung;
pub mod members;
pub mod ops;
#[cfg(feature = "train")]
pub mod optim;
pub mod reducer;

pub use device::{DeviceChoice, DeviceError};
