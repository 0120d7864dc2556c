use proptest::prelude::*;

use super::*;
use crate::tests::numbers;

/// A layer of its own, with everything that is needed to run it.
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    hidden: usize,
    inner: usize,
    rows: usize,
    length: usize,
    room: usize,
    norms: [Vec<f32>; 2],
    /// qkv, output, gate_up, down: inputs, weight, bias.
    linears: [(usize, Vec<f16>, Vec<f32>); 4],
    x: Vec<f32>,
    angles: [Vec<f32>; 2],
    bias: Option<Vec<f32>>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

const EPS: f32 = 1e-5;
const SCALE: f32 = 0.3;

impl Case {
    fn new(
        (groups, kv_heads, half_dim): (usize, usize, usize),
        (hidden, inner): (usize, usize),
        (rows, length): (usize, usize),
        with_bias: bool,
        seed: u64,
    ) -> Self {
        let (heads, head_dim, room) = (groups * kv_heads, 2 * half_dim, length + 3);
        let some = |count: usize, salt: u64| numbers(count, seed * 100 + salt).collect::<Vec<_>>();
        let linear = |inputs: usize, outputs: usize, salt: u64| {
            let weight = some(inputs * outputs, salt).into_iter().map(f16::from_f32).collect();
            (inputs, weight, some(outputs, salt + 10))
        };
        let attended = heads * head_dim;
        let mut bias = some(rows * (length + 1), 1);
        // Padding on the left of the first row.
        bias[..length / 2].fill(f32::NEG_INFINITY);
        Self {
            heads,
            kv_heads,
            head_dim,
            hidden,
            inner,
            rows,
            length,
            room,
            norms: [some(hidden, 2), some(hidden, 3)],
            linears: [
                linear(hidden, (heads + 2 * kv_heads) * head_dim, 4),
                linear(attended, hidden, 5),
                linear(hidden, 2 * inner, 6),
                linear(inner, hidden, 7),
            ],
            x: some(rows * hidden, 8),
            angles: [some(rows * head_dim, 9), some(rows * head_dim, 20)],
            bias: with_bias.then_some(bias),
            keys: some(rows * kv_heads * room * head_dim, 21),
            values: some(rows * kv_heads * room * head_dim, 22),
        }
    }

    /// Hidden states, keys and values after the step.
    fn run(&self, level: Level, full: bool, threads: Threads) -> [Vec<f32>; 3] {
        let wide = self
            .linears
            .each_ref()
            .map(|(_, weight, _)| weight.iter().map(|weight| weight.to_f32()).collect::<Vec<_>>());
        let linear = |at: usize| {
            let (_, weight, bias) = &self.linears[at];
            let weight = if full { Weights::Full(&wide[at]) } else { Weights::Half(weight) };
            Linear { weight, bias: Some(bias) }
        };
        let layer = DecoderLayer {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            eps: EPS,
            scale: SCALE,
            input_norm: &self.norms[0],
            qkv: linear(0),
            output: linear(1),
            post_norm: &self.norms[1],
            gate_up: linear(2),
            down: linear(3),
        };
        let step = Step {
            rows: self.rows,
            x: &self.x,
            cos: &self.angles[0],
            sin: &self.angles[1],
            bias: self.bias.as_deref(),
        };
        let [mut keys, mut values] = [self.keys.clone(), self.values.clone()];
        let cache = Cache { keys: &mut keys, values: &mut values, room: self.room, length: self.length };
        let mut out = vec![f32::NAN; self.rows * self.hidden];
        layer.run_at(level, step, cache, &mut out, threads).unwrap();
        [out, keys, values]
    }

    fn linear(&self, at: usize, x: &[f64]) -> Vec<f64> {
        let (inputs, weight, bias) = &self.linears[at];
        let sum = |(row, bias): (&[f16], &f32)| {
            row.iter().zip(x).map(|(weight, x)| weight.to_f64() * x).sum::<f64>() + f64::from(*bias)
        };
        weight.chunks_exact(*inputs).zip(bias).map(sum).collect()
    }

    fn norm(&self, at: usize, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let factor = (mean + f64::from(EPS)).sqrt().recip();
        x.iter().zip(&self.norms[at]).map(|(x, weight)| x * factor * f64::from(*weight)).collect()
    }

    /// The hidden states of a row after the step, in float64, written as the paper has it.
    fn reference(&self, row: usize) -> Vec<f64> {
        let (dim, groups, tokens) = (self.head_dim, self.heads / self.kv_heads, self.length + 1);
        let wide = |slice: &[f32]| slice.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let x = wide(&self.x[row * self.hidden..][..self.hidden]);
        let projected = self.linear(0, &self.norm(0, &x));
        let [cos, sin] = self.angles.each_ref().map(|angles| wide(&angles[row * dim..][..dim]));
        let turned = |head: usize| -> Vec<f64> {
            let head = &projected[head * dim..][..dim];
            (0..dim).map(|at| head[at] * cos[at] + head[(at + dim / 2) % dim] * sin[at]).collect()
        };
        let held = |all: &[f32], kv: usize, token: usize| {
            let start = ((row * self.kv_heads + kv) * self.room + token) * dim;
            wide(&all[start..][..dim])
        };
        let mut mixed = Vec::new();
        for head in 0..self.heads {
            let (query, kv) = (turned(head), head / groups);
            let powers: Vec<f64> = (0..tokens)
                .map(|token| {
                    let new = token == self.length;
                    let key = if new { turned(self.heads + kv) } else { held(&self.keys, kv, token) };
                    let score: f64 = query.iter().zip(&key).map(|(a, b)| a * b).sum();
                    let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row * tokens + token]));
                    (score * f64::from(SCALE) + bias).exp()
                })
                .collect();
            let sum: f64 = powers.iter().sum();
            let mut out = vec![0.0; dim];
            for (token, power) in powers.iter().enumerate() {
                let new = token == self.length;
                let start = (self.heads + self.kv_heads + kv) * dim;
                let value =
                    if new { projected[start..][..dim].to_vec() } else { held(&self.values, kv, token) };
                out.iter_mut().zip(value).for_each(|(out, value)| *out += power / sum * value);
            }
            mixed.extend(out);
        }
        let add = |a: Vec<f64>, b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
        let middle = add(self.linear(1, &mixed), &x);
        let gate_up = self.linear(2, &self.norm(1, &middle));
        let (gate, up) = gate_up.split_at(self.inner);
        let gated: Vec<f64> =
            gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
        add(self.linear(3, &gated), &middle)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hidden_states_are_those_of_the_formula(
        heads in (1usize..4, 1usize..4, 1usize..20),
        widths in (1usize..50, 1usize..70),
        tokens in (1usize..6, 0usize..40),
        with_bias: bool,
        full: bool,
        threads in 1usize..4,
        seed in 0u64..1000,
    ) {
        let case = Case::new(heads, widths, tokens, with_bias, seed);
        let expected: Vec<f64> = (0..case.rows).flat_map(|row| case.reference(row)).collect();
        let largest = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
        for level in Level::available() {
            let [out, ..] = case.run(level, full, Threads::Own(threads));
            for (found, expected) in out.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs() / largest;
                prop_assert!(error < 2e-5, "{}: {found} for {expected}", level.name());
            }
        }
    }
}

#[test]
fn threads_and_whose_they_are_change_nothing() {
    let case = Case::new((3, 2, 32), (256, 700), (3, 70), true, 5);
    // SAFETY: it does what `GOMP_parallel` does.
    let openmp = unsafe { crate::OpenMp::new(crate::tests::parallel) };
    for full in [false, true] {
        let alone = case.run(Level::best(), full, Threads::Own(1));
        for count in 2..5 {
            assert_eq!(case.run(Level::best(), full, Threads::Own(count)), alone);
            assert_eq!(case.run(Level::best(), full, Threads::OpenMp(openmp, count)), alone);
        }
    }
}

#[test]
fn only_the_new_token_is_written_to_the_cache() {
    let case = Case::new((2, 2, 3), (7, 5), (2, 4), false, 6);
    let [_, keys, values] = case.run(Level::best(), true, Threads::Own(2));
    for (before, after) in [(&case.keys, keys), (&case.values, values)] {
        for (at, (before, after)) in before.iter().zip(after).enumerate() {
            let token = at / case.head_dim % case.room;
            assert_eq!(*before == after, token != case.length, "{at}");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    let case = Case::new((2, 2, 16), (64, 96), (3, 9), true, 7);
    let [all, ..] = case.run(Level::best(), false, Threads::Own(2));
    let mut alone = Case::new((2, 2, 16), (64, 96), (3, 9), true, 7);
    let part = |all: &[f32]| all[..all.len() / 3].to_vec();
    (alone.rows, alone.x, alone.angles) =
        (1, part(&case.x), case.angles.each_ref().map(|angles| part(angles)));
    (alone.keys, alone.values) = (part(&case.keys), part(&case.values));
    alone.bias = case.bias.as_deref().map(part);
    let [one, ..] = alone.run(Level::best(), false, Threads::Own(2));
    assert_eq!(one, part(&all));
}

type Change = fn(&mut DecoderLayer<'_>, &mut Step<'_>, &mut Cache<'_>);

#[test]
fn what_does_not_fit_is_refused() {
    let error = |change: Change| {
        let (x, half) = (vec![0.0; 4096], vec![f16::ZERO; 4096]);
        let (mut keys, mut values) = (vec![0.0; 2 * 2 * 5 * 4], vec![0.0; 2 * 2 * 5 * 4]);
        let linear = |count: usize| Linear { weight: Weights::Half(&half[..count]), bias: None };
        let mut layer = DecoderLayer {
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            eps: EPS,
            scale: SCALE,
            input_norm: &x[..6],
            qkv: linear(32 * 6),
            output: linear(6 * 16),
            post_norm: &x[..6],
            gate_up: linear(2 * 9 * 6),
            down: linear(6 * 9),
        };
        let mut step = Step { rows: 2, x: &x[..12], cos: &x[..4], sin: &x[..4], bias: None };
        let mut cache = Cache { keys: &mut keys, values: &mut values, room: 5, length: 4 };
        change(&mut layer, &mut step, &mut cache);
        let mut out = vec![0.0; 12];
        layer.run(step, cache, &mut out, Threads::Own(1)).map_err(|error| error.to_string())
    };
    assert_eq!(error(|_, _, _| ()), Ok(()));
    let cases: [(Change, &str); 9] = [
        (|layer, _, _| layer.heads = 5, "5 heads cannot share 2 heads of keys"),
        (|layer, _, _| layer.kv_heads = 0, "4 heads cannot share 0 heads of keys"),
        (|layer, _, _| layer.head_dim = 3, "a head must have an even number of elements, got 3"),
        (|_, _, cache| cache.length = 5, "the cache has 5 tokens and room for 5"),
        (|layer, _, _| layer.down = layer.output, "`down` must have 54 elements, got 96"),
        (|layer, _, _| layer.qkv.bias = Some(&[0.0]), "`qkv bias` must have 32 elements, got 1"),
        (|_, step, _| step.bias = Some(&[0.0; 4]), "`bias` must have 10 elements, got 4"),
        (|_, step, _| step.rows = 3, "`x` must have 18 elements, got 12"),
        (|_, _, cache| cache.room = 6, "`keys` must have 96 elements, got 80"),
    ];
    for (change, expected) in cases {
        assert_eq!(error(change), Err(expected.to_owned()));
    }
}
