//! The parts of a decoder layer between its products, on one thread each.
//!
//! All are written so that the compiler makes vectors of them, and inlined where `Level::with` names the
//! instructions. Sums go to `LANES` places in turn, so a result does not depend on the instructions.

/// Sums that are kept side by side.
const LANES: usize = 16;

/// The sum of the products of two slices of one length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (a_runs, b_runs) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_runs.remainder().iter().zip(b_runs.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_runs.zip(b_runs) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    total(sums) + rest
}

#[inline(always)]
fn total(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `out += x`.
#[inline(always)]
pub fn add(out: &mut [f32], x: &[f32]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out += x);
}

/// `out += factor * x`.
#[inline(always)]
pub fn add_scaled(out: &mut [f32], factor: f32, x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

/// Root mean square norm (arXiv:1910.07467): `out = x / sqrt(mean(x²) + eps) * weight`.
#[inline(always)]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let factor = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

/// Turns the pairs (i, i + half) of a head; the sines of the first half carry the minus sign.
#[inline(always)]
pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = head.len() / 2;
    let (first, second) = head.split_at_mut(half);
    for at in 0..half {
        let (a, b) = (first[at], second[at]);
        first[at] = a * cos[at] + b * sin[at];
        second[at] = b * cos[half + at] + a * sin[half + at];
    }
}

/// `gate = gate * sigmoid(gate) * up`.
#[inline(always)]
pub fn silu_times(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// Scores become shares of 1; where all are -inf there is nothing to look at, and all become 0.
#[inline(always)]
pub fn softmax(scores: &mut [f32]) {
    let mut greatest = [f32::NEG_INFINITY; LANES];
    let runs = scores.chunks_exact(LANES);
    let rest = runs.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for run in runs {
        for lane in 0..LANES {
            greatest[lane] = if run[lane] > greatest[lane] { run[lane] } else { greatest[lane] };
        }
    }
    let greatest = greatest.into_iter().fold(rest, f32::max);
    if greatest == f32::NEG_INFINITY && !scores.iter().any(|score| score.is_nan()) {
        scores.fill(0.0);
        return;
    }
    let mut sums = [0.0; LANES];
    let mut runs = scores.chunks_exact_mut(LANES);
    for run in &mut runs {
        for lane in 0..LANES {
            run[lane] = exp(run[lane] - greatest);
            sums[lane] += run[lane];
        }
    }
    let mut sum = 0.0;
    for score in runs.into_remainder() {
        *score = exp(*score - greatest);
        sum += *score;
    }
    let factor = 1.0 / (total(sums) + sum);
    scores.iter_mut().for_each(|score| *score *= factor);
}

/// Above it, e to the power of a float32 is infinite, but for the next 0.7.
const LARGEST: f32 = 88.0;
/// Below it, that is 0, but for the next 0.3 and subnormal numbers.
const SMALLEST: f32 = -87.0;
/// 1.5 · 2²³: added to a number, it leaves the nearest integer in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts, the first of which has few bits, so that its products with small integers are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// e to the power of x, within 2 units in the last place; 0 below -87, infinite above 88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Comparisons that let nan through.
    let within = if x < SMALLEST { SMALLEST } else { x };
    let within = if within > LARGEST { LARGEST } else { within };
    let shifted = within * std::f32::consts::LOG2_E + ROUNDER;
    let whole = shifted - ROUNDER;
    // |rest| is at most half of ln 2 and a little. The series of e to the power of it, to the 7th term.
    let rest = within - whole * LN_2_HIGH - whole * LN_2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * rest + 1.0 / 720.0;
    let series = series * rest + 1.0 / 120.0;
    let series = series * rest + 1.0 / 24.0;
    let series = series * rest + 1.0 / 6.0;
    let series = series * rest + 0.5;
    let series = series * rest * rest + rest + 1.0;
    // 2 to the power of `whole`, by its exponent.
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127)) << 23);
    let found = series * power;
    let found = if x < SMALLEST { 0.0 } else { found };
    if x > LARGEST {
        f32::INFINITY
    } else {
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst: f64 = 0.0;
        for step in -870_000..=880_000 {
            let x = step as f32 / 10_000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            let unit = f64::from(f32::EPSILON) * expected.log2().floor().exp2();
            worst = worst.max((found - expected).abs() / unit);
        }
        assert!(worst <= 2.0, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn softmax_of_any_length() {
        for length in 1..70 {
            let mut scores: Vec<f32> = (0..length).map(|at| ((at * 37 % 23) as f32) - 11.0).collect();
            let powers: Vec<f64> = scores.iter().map(|score| f64::from(*score).exp()).collect();
            let sum: f64 = powers.iter().sum();
            softmax(&mut scores);
            for (found, power) in scores.iter().zip(powers) {
                assert!((f64::from(*found) - power / sum).abs() < 1e-6);
            }
        }
        let mut none = [f32::NEG_INFINITY; 20];
        softmax(&mut none);
        assert_eq!(none, [0.0; 20]);
        let mut one = [f32::NEG_INFINITY, 3.0];
        softmax(&mut one);
        assert_eq!(one, [0.0, 1.0]);
        let mut wrong = [0.0; 20];
        wrong[3] = f32::NAN;
        softmax(&mut wrong);
        assert!(wrong.iter().all(|share| share.is_nan()));
    }
}
