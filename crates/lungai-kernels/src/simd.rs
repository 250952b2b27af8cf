//! The vector units: one trait, three implementations, chosen at run time.

/// Which vector unit the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest one of this processor.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Every one that this processor can run.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            match Self::best() {
                Self::Avx512 => vec![Self::Portable, Self::Avx2, Self::Avx512],
                Self::Avx2 => vec![Self::Portable, Self::Avx2],
                Self::Portable => vec![Self::Portable],
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        vec![Self::Portable]
    }
}

/// A vector of `f32`.
///
/// Every method is `inline(always)` so that it is compiled inside a caller with the right `target_feature`.
///
/// # Safety
/// The processor must have the unit; pointers must be valid for `LANES` values (no alignment needed).
pub(crate) trait Simd {
    const LANES: usize;
    type V: Copy;
    unsafe fn zero() -> Self::V;
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Sum of the lanes, always in the same order.
    unsafe fn sum(v: Self::V) -> f32;
}

/// Four lanes in plain Rust; compilers turn them into SSE2 or NEON. Multiplies, then adds: without a hardware
/// instruction a fused multiply-add is a slow library call.
pub(crate) struct Portable;

impl Simd for Portable {
    const LANES: usize = 4;
    type V = [f32; 4];
    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for four values; the read is unaligned.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [f32; 4]) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn sum(v: [f32; 4]) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Eight lanes with fused multiply-add (needs `avx2` and `fma`).
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        const LANES: usize = 8;
        type V = __m256;
        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: the caller vouches for the processor and for eight values.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m256) {
            // SAFETY: the caller vouches for the processor and for eight values.
            unsafe { _mm256_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            // SAFETY: the caller vouches for the processor; a `__m256` is eight values.
            let lanes: [f32; 8] = unsafe { std::mem::transmute(v) };
            let half: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
            (half[0] + half[2]) + (half[1] + half[3])
        }
    }

    /// Sixteen lanes (needs `avx512f`).
    pub(crate) struct Avx512;

    impl Simd for Avx512 {
        const LANES: usize = 16;
        type V = __m512;
        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: the caller vouches for the processor and for sixteen values.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m512) {
            // SAFETY: the caller vouches for the processor and for sixteen values.
            unsafe { _mm512_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm512_reduce_add_ps(v) }
        }
    }
}

/// Calls `work` compiled for 256-bit vectors where the processor has them: for plain loops that memory limits. The
/// closure and what it calls must be `inline(always)`, or they are compiled for the common instructions. The bits are the same either way, because Rust never fuses or reorders.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the unit, as just asked.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}

/// Picks the expression for the vector unit that `isa` names.
///
/// An [`Isa`] other than `Portable` comes from [`Isa::best`] or [`Isa::available`] alone, so the processor has it.
macro_rules! on_isa {
    ($isa:expr, $portable:expr, $avx2:expr, $avx512:expr) => {
        match $isa {
            $crate::simd::Isa::Portable => $portable,
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx2 => $avx2,
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx512 => $avx512,
        }
    };
}
pub(crate) use on_isa;
