//! A number as it stands on paper.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A printed number: it stands for every value that rounds to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Printed {
    /// What is printed; of a percentage, the share.
    pub value: f64,
    /// Half a unit of the last digit.
    half: f64,
    decimals: usize,
    percent: bool,
}

impl Printed {
    /// With so many digits after the point.
    pub fn fixed(value: f64, decimals: usize) -> Self {
        let text = format!("{value:.decimals$}");
        Self::parse(&text).unwrap_or(Self { value, half: 0.0, decimals, percent: false })
    }

    /// A whole number, exactly.
    pub fn whole(n: usize) -> Self {
        Self { value: n as f64, half: 0.0, decimals: 0, percent: false }
    }

    /// `0.953`, `95.3 %`, `-1.2`. Digits after the point say how exact it is.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, percent) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), true),
            None => (text, false),
        };
        let plain = number.strip_prefix(['-', '+']).unwrap_or(number);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let value: f64 = number.parse().ok()?;
        let decimals = plain.split_once('.').map_or(0, |(_, digits)| digits.len());
        let unit = 10f64.powi(-i32::try_from(decimals).ok()?);
        let scale = if percent { 100.0 } else { 1.0 };
        Some(Self { value: value / scale, half: unit / 2.0 / scale, decimals, percent })
    }

    /// Smallest and largest value that rounds to it, and a little more for the arithmetic of machines: for comparison with
    /// a number that is known exactly, which may lie in the middle between two printed ones.
    pub fn range(&self) -> [f64; 2] {
        self.around(self.half)
    }

    /// The same without the ends, for comparison with another printed number: the middle between two is printed as one of
    /// them, everywhere.
    pub fn inner_range(&self) -> [f64; 2] {
        self.around(self.half * (1.0 - 1e-6))
    }

    fn around(&self, half: f64) -> [f64; 2] {
        let slack = half + 1e-12 * self.value.abs().max(1.0);
        [self.value - slack, self.value + slack]
    }

    /// Whether this can stand for a number that is at most one that `other` stands for.
    pub fn at_most(&self, other: &Self) -> bool {
        self.inner_range()[0] <= other.inner_range()[1]
    }

    /// Whether both can stand for one value.
    pub fn agrees(&self, other: &Self) -> bool {
        self.at_most(other) && other.at_most(self)
    }
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.decimals;
        if self.percent {
            write!(f, "{:.decimals$} %", 100.0 * self.value)
        } else {
            write!(f, "{:.decimals$}", self.value)
        }
    }
}

impl Serialize for Printed {
    /// As text, which keeps zeros at the end.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Printed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = match &value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) => number.to_string(),
            _ => return Err(serde::de::Error::custom(format!("`{value}` is not a number"))),
        };
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a number as one prints it")))
    }
}
