//! Chance as a function of a seed and a place, so that no order of calls or threads matters.

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014), one step per key.
pub(super) fn hash(seed: u64, key: u64) -> u64 {
    let mut z = seed.wrapping_add(key.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in `0..1`.
pub(super) fn unit(seed: u64, key: u64) -> f64 {
    (hash(seed, key) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Numbers of one part of a draw: switching another part on or off changes none of them.
pub(super) struct Chance {
    seed: u64,
    n: u64,
}

impl Chance {
    /// - `part`: any number that is the part's own
    pub fn of(seed: u64, part: u64) -> Self {
        Self { seed: hash(seed, part), n: 0 }
    }

    /// Uniform in `0..1`.
    pub fn unit(&mut self) -> f64 {
        self.n += 1;
        unit(self.seed, self.n)
    }

    /// True with `probability`.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `-limit..limit`.
    pub fn either_way(&mut self, limit: f64) -> f64 {
        limit * (2.0 * self.unit() - 1.0)
    }

    /// Uniform between the two.
    pub fn between(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Between the two, uniform in the logarithm: to halve is as likely as to double.
    pub fn between_log(&mut self, [low, high]: [f64; 2]) -> f64 {
        (low.ln() + (high / low).ln() * self.unit()).exp().clamp(low, high)
    }

    /// One of `n`.
    pub fn index(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    /// A seed.
    pub fn seed(&mut self) -> u64 {
        self.n += 1;
        hash(self.seed, self.n)
    }
}
