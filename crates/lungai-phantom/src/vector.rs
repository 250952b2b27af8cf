//! Points and directions `[x, y, z]` in mm, and the few draws that rand's core does not offer.

use rand::{Rng, RngExt};

pub type V3 = [f64; 3];

pub fn add(a: V3, b: V3) -> V3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub fn sub(a: V3, b: V3) -> V3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub fn scale(a: V3, s: f64) -> V3 {
    [a[0] * s, a[1] * s, a[2] * s]
}

pub fn dot(a: V3, b: V3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub fn norm(a: V3) -> f64 {
    dot(a, a).sqrt()
}

pub fn distance(a: V3, b: V3) -> f64 {
    norm(sub(a, b))
}

/// A zero vector stays zero.
pub fn unit(a: V3) -> V3 {
    scale(a, 1.0 / norm(a).max(1e-12))
}

pub fn cross(a: V3, b: V3) -> V3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Two unit vectors at right angles to `a` and to each other.
pub fn across(a: V3) -> [V3; 2] {
    let helper = if a[0].abs() < 0.7 { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] };
    let u = unit(cross(a, helper));
    [u, unit(cross(a, u))]
}

/// Distance from `p` to the segment `a`-`b`.
pub fn to_segment(p: V3, a: V3, b: V3) -> f64 {
    let ab = sub(b, a);
    let t = (dot(sub(p, a), ab) / dot(ab, ab).max(1e-12)).clamp(0.0, 1.0);
    distance(p, add(a, scale(ab, t)))
}

/// The whole number below `t`, for `|t|` below a million: without SSE4.1 the standard one is a function call.
pub fn floor(t: f64) -> i64 {
    const UP: i64 = 1 << 20;
    (t + UP as f64) as i64 - UP
}

pub fn uniform(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// Standard normal (Box and Muller).
pub fn normal(rng: &mut impl Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>(); // not 0
    let v: f64 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Poisson (Knuth); means beyond 100 are cut there, the product would underflow.
pub fn poisson(rng: &mut impl Rng, mean: f64) -> usize {
    let limit = (-mean.min(100.0)).exp();
    let mut product = 1.0;
    let mut n = 0;
    loop {
        product *= rng.random::<f64>();
        if product <= limit {
            return n;
        }
        n += 1;
    }
}

/// Uniform on the unit sphere.
pub fn direction(rng: &mut impl Rng) -> V3 {
    unit([normal(rng), normal(rng), normal(rng)])
}

/// 64 well-mixed bits of two words (SplitMix64's finaliser).
pub fn hash(seed: u64, key: u64) -> u64 {
    let mut z = seed.wrapping_add(key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
