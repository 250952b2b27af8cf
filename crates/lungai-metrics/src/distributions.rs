//! The distributions behind the intervals and tests: normal, chi-squared, beta, Student's t, F.

/// The `x` below which a standard normal variable lies with probability `p`, `0 < p < 1`.
///
/// Acklam's rational start value (relative error 1e-9), then two Halley steps on `erfc`: full double precision.
///
/// # Panics
/// If `p` is not strictly between 0 and 1.
pub fn normal_quantile(p: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "a probability strictly between 0 and 1, not {p}");
    let mut x = acklam(p);
    for _ in 0..2 {
        let error = 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2) - p;
        let u = error * (2.0 * std::f64::consts::PI).sqrt() * (x * x / 2.0).exp();
        x -= u / (1.0 + x * u / 2.0);
    }
    x
}

/// Probability that a standard normal variable is further from zero than `z`, on either side.
pub fn normal_two_sided_p(z: f64) -> f64 {
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// Probability that a chi-squared variable with `df` degrees of freedom exceeds `x`.
pub fn chi_squared_upper_tail(x: f64, df: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    upper_gamma(df / 2.0, x / 2.0)
}

/// The `x` that a chi-squared variable exceeds with probability `1 - p`, by bisection to the last bit.
pub(crate) fn chi_squared_quantile(p: f64, df: f64) -> f64 {
    let (mut low, mut high) = (0.0, df.max(1.0));
    while chi_squared_upper_tail(high, df) > 1.0 - p {
        high *= 2.0;
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if chi_squared_upper_tail(middle, df) > 1.0 - p { low = middle } else { high = middle }
    }
}

/// Probability that a Student variable with `df` degrees of freedom (need not be whole, and may be infinite: the normal
/// distribution) is further from zero than `t`, on either side.
pub fn t_two_sided_p(t: f64, df: f64) -> f64 {
    if df.is_infinite() {
        return normal_two_sided_p(t);
    }
    beta(df / (df + t * t), df / 2.0, 0.5)
}

/// The `t` below which a Student variable with `df` degrees of freedom lies with probability `p`, `0 < p < 1`.
///
/// # Panics
/// If `p` is not strictly between 0 and 1.
pub fn t_quantile(p: f64, df: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "a probability strictly between 0 and 1, not {p}");
    if df.is_infinite() {
        return normal_quantile(p);
    }
    // t^2 / (df + t^2) is beta distributed; taken from the side of small t, where it keeps its digits for large df.
    let y = beta_quantile((1.0 - 2.0 * p).abs(), 0.5, df / 2.0);
    (df * y / (1.0 - y)).sqrt().copysign(p - 0.5)
}

/// Probability that an F variable with `d1` and `d2` degrees of freedom exceeds `f`; `d2` may be infinite.
pub fn f_upper_tail(f: f64, d1: f64, d2: f64) -> f64 {
    if f <= 0.0 {
        1.0
    } else if d2.is_infinite() {
        chi_squared_upper_tail(d1 * f, d1)
    } else {
        beta(d2 / (d2 + d1 * f), d2 / 2.0, d1 / 2.0)
    }
}

/// The `f` below which an F variable with `d1` and `d2` degrees of freedom lies with probability `p`.
pub fn f_quantile(p: f64, d1: f64, d2: f64) -> f64 {
    let y = beta_quantile(p, d1 / 2.0, d2 / 2.0);
    d2 * y / (d1 * (1.0 - y))
}

/// Probability that a noncentral F variable exceeds `f`: a Poisson mixture of beta distributions (Johnson, Kotz and
/// Balakrishnan, Continuous Univariate Distributions 2, 30.4). `d2` may be infinite: noncentral chi-squared by `d1`.
pub fn noncentral_f_upper_tail(f: f64, d1: f64, d2: f64, noncentrality: f64) -> f64 {
    let half = noncentrality / 2.0;
    let above = |extra: f64| {
        if d2.is_infinite() {
            upper_gamma(d1 / 2.0 + extra, d1 * f / 2.0)
        } else {
            beta(d2 / (d2 + d1 * f), d2 / 2.0, d1 / 2.0 + extra)
        }
    };
    if f <= 0.0 {
        return 1.0;
    }
    if half == 0.0 {
        return above(0.0);
    }
    // From the heaviest term to both sides, until the rest is below rounding.
    let weight = |n: f64| (n * half.ln() - half - libm::lgamma(n + 1.0)).exp();
    let start = half.floor();
    let (mut sum, mut n) = (0.0, start);
    loop {
        let term = weight(n);
        sum += term * above(n);
        n += 1.0;
        if term < 1e-18 {
            break;
        }
    }
    let mut n = start - 1.0;
    while n >= 0.0 {
        let term = weight(n);
        sum += term * above(n);
        n -= 1.0;
        if term < 1e-18 {
            break;
        }
    }
    sum.min(1.0)
}

/// The `x` with regularised incomplete beta `I_x(a, b) = p`, by bisection to the last bit.
pub(crate) fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if beta(middle, a, b) < p { low = middle } else { high = middle }
    }
}

/// Regularised incomplete beta function, DLMF 8.17.22 by modified Lentz.
pub(crate) fn beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast only on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(1.0 - x, b, a);
    }
    let front = (libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let fraction = lentz(1.0, |i| {
        let m = (i / 2) as f64;
        let coefficient = match i {
            i if i % 2 == 0 => m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            _ => -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        };
        (coefficient, 1.0)
    });
    front / fraction
}

/// Regularised upper incomplete gamma function: series DLMF 8.11.4 below `a + 1`, continued fraction 8.9.2 above.
fn upper_gamma(a: f64, x: f64) -> f64 {
    let front = (a * x.ln() - x - libm::lgamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * f64::EPSILON {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        1.0 - front * sum
    } else {
        let fraction = lentz(x + 1.0 - a, |i| {
            let n = i as f64;
            (-n * (n - a), x + 2.0 * n + 1.0 - a)
        });
        front / fraction
    }
}

/// `b0 + a1/(b1 + a2/(b2 + ...))` by the modified Lentz method; `term(i)` gives `(a_i, b_i)` from `i = 1`.
fn lentz(b0: f64, term: impl Fn(u32) -> (f64, f64)) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut value = away_from_zero(b0);
    let (mut c, mut d) = (value, 0.0);
    for i in 1..10_000 {
        let (a, b) = term(i);
        d = 1.0 / away_from_zero(b + a * d);
        c = away_from_zero(b + a / c);
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// The value below which lies the share `share` of ascending values, linear between ranks (NumPy's default; Hyndman and Fan's
/// type 7, The American Statistician 1996;50:361).
///
/// # Panics
/// If there is no value, or the share lies outside `0..=1`.
pub fn sample_quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    low + rank.fract() * (high - low)
}

/// P. J. Acklam's rational approximation of the normal quantile.
fn acklam(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 5] =
        [-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416];
    let polynomial = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |q: f64| polynomial(&C, q) / (polynomial(&D, q) * q + 1.0);
    if p < 0.02425 {
        tail((-2.0 * p.ln()).sqrt())
    } else if p > 1.0 - 0.02425 {
        -tail((-2.0 * (1.0 - p).ln()).sqrt())
    } else {
        let q = p - 0.5;
        polynomial(&A, q * q) * q / (polynomial(&B, q * q) * q * q + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_normal_and_chi_squared_distribution_are_met() {
        // Any statistics textbook: z(0.975), z(0.995), chi-squared 95 % points for 1 and 10 degrees of freedom.
        assert!((normal_quantile(0.975) - 1.959963984540054).abs() < 1e-14);
        assert!((normal_quantile(0.005) + 2.5758293035489004).abs() < 1e-13);
        assert!((normal_quantile(1e-10) + 6.361340902404056).abs() < 1e-12);
        assert!((chi_squared_upper_tail(3.841458820694124, 1.0) - 0.05).abs() < 1e-14);
        assert!((chi_squared_upper_tail(18.307038053275146, 10.0) - 0.05).abs() < 1e-14);
        assert!((chi_squared_upper_tail(2.0, 2.0) - (-1.0f64).exp()).abs() < 1e-15); // exponential for two degrees
    }

    #[test]
    fn tables_of_student_and_f_are_met() {
        // Any statistics textbook: t(0.975) for 1, 10 and 1e6 degrees of freedom, F(0.95) for 3 and 20.
        assert!((t_quantile(0.975, 1.0) - 12.706204736174705).abs() < 1e-11);
        assert!((t_quantile(0.025, 10.0) + 2.2281388519862744).abs() < 1e-13);
        assert!((t_quantile(0.975, 1e6) - 1.959966).abs() < 1e-6);
        assert_eq!(t_quantile(0.5, 7.0), 0.0);
        assert!((t_two_sided_p(2.2281388519862744, 10.0) - 0.05).abs() < 1e-14);
        assert!((f_quantile(0.95, 3.0, 20.0) - 3.0983912121407773).abs() < 1e-12);
        assert!((f_upper_tail(3.0983912121407773, 3.0, 20.0) - 0.05).abs() < 1e-14);
        // F with one degree above is the square of t, also with a broken number of degrees.
        assert!((f_upper_tail(4.0, 1.0, 15.26) - t_two_sided_p(2.0, 15.26)).abs() < 1e-15);
        assert_eq!(f_upper_tail(0.0, 1.0, 2.0), 1.0);
        assert!((f_upper_tail(2.0, 3.0, f64::INFINITY) - chi_squared_upper_tail(6.0, 3.0)).abs() < 1e-15);
        assert_eq!(t_quantile(0.975, f64::INFINITY), normal_quantile(0.975));
    }

    #[test]
    fn noncentral_tails_are_those_of_scipy() {
        // scipy 1.17: ncf.sf(4, 1, 20, 5), ncf.sf(2.5, 3, 11.7, 40), ncx2.sf(3.841458820694124, 1, 7.849).
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        close(noncentral_f_upper_tail(4.0, 1.0, 20.0, 5.0), 0.5985766198013912);
        close(noncentral_f_upper_tail(2.5, 3.0, 11.7, 40.0), 0.9995476792812863);
        close(noncentral_f_upper_tail(3.841458820694124, 1.0, f64::INFINITY, 7.849), 0.8000069694454768);
        close(noncentral_f_upper_tail(4.0, 2.0, 9.0, 0.0), f_upper_tail(4.0, 2.0, 9.0));
    }

    #[test]
    fn a_beta_quantile_is_found_where_it_is_known_in_closed_form() {
        assert!((beta_quantile(0.3, 1.0, 1.0) - 0.3).abs() < 1e-15); // uniform
        assert!((beta_quantile(0.25, 2.0, 1.0) - 0.5).abs() < 1e-14); // x^2
        assert!((beta_quantile(0.975, 1.0, 10.0) - (1.0 - 0.025f64.powf(0.1))).abs() < 1e-14);
    }
}
