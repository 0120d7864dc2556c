//! A decoder layer of the Llama architecture for one new token of each row.
//!
//! Touvron et al., 2023 (arXiv:2302.13971): norm, attention with rotary positions over the keys and values of the
//! tokens before, norm, gated feed-forward layer, each added to what came in. All of it is a handful of phases on
//! one set of threads; as single operations of a tensor library, these wait for each other longer than they
//! compute.

use std::cell::RefCell;
use std::ops::Range;

use half::f16;

use crate::kernel::{self, Level};
use crate::math;
use crate::shared::Shared;
use crate::threads::{Phase, Threads};
use crate::{check, Shape, SizeError, Weights};

/// A linear layer: a weight (outputs, inputs) and a bias (outputs).
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// The weight.
    pub weight: Weights<'a>,
    /// What is added.
    pub bias: Option<&'a [f32]>,
}

/// A layer's parameters. With H heads, K heads of keys and values, and D elements in a head:
#[derive(Debug, Clone, Copy)]
pub struct DecoderLayer<'a> {
    /// H.
    pub heads: usize,
    /// K, which divides H: as many heads share keys and values as there are of the former for one of the latter.
    pub kv_heads: usize,
    /// D, an even number.
    pub head_dim: usize,
    /// What is added to the mean of squares in both norms.
    pub eps: f32,
    /// What the products of queries and keys are multiplied by.
    pub scale: f32,
    /// The weight of the norm before attention, (hidden).
    pub input_norm: &'a [f32],
    /// Queries, keys and values: (H * D + 2 * K * D, hidden).
    pub qkv: Linear<'a>,
    /// The end of attention: (hidden, H * D).
    pub output: Linear<'a>,
    /// The weight of the norm before the feed-forward layer, (hidden).
    pub post_norm: &'a [f32],
    /// Its gate and what is gated: (2 * inner, hidden).
    pub gate_up: Linear<'a>,
    /// Its end: (hidden, inner).
    pub down: Linear<'a>,
}

/// Keys and values of the tokens so far, with room for more: (rows, K, room, D) each.
#[derive(Debug)]
pub struct Cache<'a> {
    /// Keys, already turned to their positions.
    pub keys: &'a mut [f32],
    /// Values.
    pub values: &'a mut [f32],
    /// Tokens that there is room for.
    pub room: usize,
    /// Tokens that are there; the new one becomes number `length`, counted from 0.
    pub length: usize,
}

/// What a layer is given for the new tokens.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Hidden states, (rows, hidden).
    pub x: &'a [f32],
    /// Cosines of the new positions, (D) for all rows or (rows, D).
    pub cos: &'a [f32],
    /// Sines, likewise; those of the first half of a head carry the minus sign of the rotation.
    pub sin: &'a [f32],
    /// Added to the scaled products, (length + 1) for all rows or (rows, length + 1).
    pub bias: Option<&'a [f32]>,
}

/// Elements of scratch memory that a calling thread keeps at most: 16 MiB.
const KEPT: usize = 4 << 20;

thread_local! {
    /// Room for what is between products: fresh memory is slow to write to.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl DecoderLayer<'_> {
    /// Writes the hidden states after the layer to `out`, (rows, hidden), and the new keys and values to the
    /// cache.
    ///
    /// Sums are float32, in an order that depends on the processor but not on the number of threads or of rows.
    ///
    /// # Errors
    /// A slice has not the size that the others ask for; nothing is written then.
    pub fn run(
        &self,
        step: Step<'_>,
        cache: Cache<'_>,
        out: &mut [f32],
        threads: Threads,
    ) -> Result<(), SizeError> {
        self.run_at(Level::best(), step, cache, out, threads)
    }

    /// [`run`](Self::run) with a given set of instructions.
    ///
    /// # Errors
    /// As there.
    pub fn run_at(
        &self,
        level: Level,
        step: Step<'_>,
        cache: Cache<'_>,
        out: &mut [f32],
        threads: Threads,
    ) -> Result<(), SizeError> {
        let sizes = self.sizes(&step, &cache, out.len())?;
        if step.rows == 0 {
            return Ok(());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let wanted = sizes.scratch;
            if scratch.len() < wanted {
                scratch.resize(wanted, 0.0);
            }
            self.compute(level, &step, cache, out, threads, sizes, &mut scratch[..wanted]);
            if scratch.len() > KEPT {
                scratch.truncate(0);
                scratch.shrink_to_fit();
            }
        });
        Ok(())
    }

    fn sizes(&self, step: &Step<'_>, cache: &Cache<'_>, out: usize) -> Result<Sizes, SizeError> {
        let hidden = self.input_norm.len();
        if hidden == 0 {
            return Err(SizeError::unfit("hidden states without elements".to_owned()));
        }
        let product = |a: usize, b: usize| a.checked_mul(b);
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads, self.head_dim);
        let groups = heads.checked_div(kv_heads).unwrap_or(0);
        if groups == 0 || heads % kv_heads != 0 {
            return Err(SizeError::unfit(format!("{heads} heads cannot share {kv_heads} heads of keys")));
        }
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(SizeError::unfit(format!(
                "a head must have an even number of elements, got {head_dim}"
            )));
        }
        if cache.length >= cache.room {
            let (length, room) = (cache.length, cache.room);
            return Err(SizeError::unfit(format!("the cache has {length} tokens and room for {room}")));
        }
        let inner = self.gate_up.weight.len().checked_div(2 * hidden).unwrap_or(0);
        let attended = product(heads, head_dim);
        let turned = kv_heads.checked_mul(2).and_then(|kv| kv.checked_add(heads));
        let projected = turned.and_then(|heads| product(heads, head_dim));
        let by = |size: Option<usize>, other: usize| size.and_then(|size| product(size, other));
        check("post_norm", self.post_norm.len(), Some(hidden))?;
        for (name, bias_name, linear, inputs, outputs) in [
            ("qkv", "qkv bias", &self.qkv, Some(hidden), projected),
            ("output", "output bias", &self.output, attended, Some(hidden)),
            ("gate_up", "gate_up bias", &self.gate_up, Some(hidden), product(2, inner)),
            ("down", "down bias", &self.down, Some(inner), Some(hidden)),
        ] {
            check(name, linear.weight.len(), outputs.and_then(|outputs| by(inputs, outputs)))?;
            if let Some(bias) = linear.bias {
                check(bias_name, bias.len(), outputs)?;
            }
        }
        let one_or_all = |found: usize, size: usize| {
            product(step.rows, size).map(|all| if found == size { size } else { all })
        };
        check("x", step.x.len(), product(step.rows, hidden))?;
        check("out", out, product(step.rows, hidden))?;
        check("cos", step.cos.len(), one_or_all(step.cos.len(), head_dim))?;
        check("sin", step.sin.len(), Some(step.cos.len()))?;
        if let Some(bias) = step.bias {
            check("bias", bias.len(), one_or_all(bias.len(), cache.length + 1))?;
        }
        let held = by(product(kv_heads, head_dim), cache.room).and_then(|row| product(row, step.rows));
        check("keys", cache.keys.len(), held)?;
        check("values", cache.values.len(), held)?;
        // None of them is greater than a weight that is in memory.
        let (attended, projected) = (heads * head_dim, (heads + 2 * kv_heads) * head_dim);
        let scratch = product(step.rows, 2 * hidden + 2 * inner + attended + projected)
            .ok_or_else(|| SizeError::unfit(format!("too many rows: {}", step.rows)))?;
        Ok(Sizes { hidden, inner, attended, projected, groups, scratch })
    }

    #[allow(clippy::too_many_arguments)]
    fn compute(
        &self,
        level: Level,
        step: &Step<'_>,
        cache: Cache<'_>,
        out: &mut [f32],
        threads: Threads,
        sizes: Sizes,
        scratch: &mut [f32],
    ) {
        let Sizes { hidden, inner, attended, projected, groups, .. } = sizes;
        let (rows, head_dim, length) = (step.rows, self.head_dim, cache.length);
        let mut rest = scratch;
        let mut matrix = |width: usize| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(rows * width);
            rest = others;
            Shared::new(part, rows, width)
        };
        let (normed, heads, mixed) = (matrix(hidden), matrix(projected), matrix(attended));
        let (middle, gate, up) = (matrix(hidden), matrix(inner), matrix(inner));
        let x = step.x;
        let out = Shared::new(out, rows, hidden);
        let keys = Shared::new(cache.keys, rows * self.kv_heads, cache.room * head_dim);
        let values = Shared::new(cache.values, rows * self.kv_heads, cache.room * head_dim);

        // SAFETY of all that follows: a phase starts when the one before is done. In each, every task writes to
        // places of its own, as told, and what tasks read was written by phases before.

        // Row `row` of `normed`.
        let input_norm = |row: usize| {
            // SAFETY: see above.
            let normed = unsafe { normed.part(row, 0, hidden) };
            level.with(|| math::rms_norm(&x[row * hidden..][..hidden], self.input_norm, self.eps, normed));
        };
        // Some columns of `heads`.
        let shape = Shape { rows, inputs: hidden, outputs: projected };
        let qkv = Tasks::new(&self.qkv, shape, threads);
        let project = |task: usize| {
            // SAFETY: see above.
            self.qkv.compute(level, unsafe { normed.all() }, heads, shape, qkv.outputs(task));
        };
        // All of `heads` in row `row` that is query or key, and the new token of that row in the cache.
        let turn = |row: usize| {
            let of_row = |all: &'_ [f32]| if all.len() == head_dim { 0 } else { row * head_dim };
            let cos = &step.cos[of_row(step.cos)..][..head_dim];
            let sin = &step.sin[of_row(step.sin)..][..head_dim];
            let turned = (self.heads + self.kv_heads) * head_dim;
            // SAFETY: see above.
            let (turning, value) = unsafe { heads.part(row, 0, projected) }.split_at_mut(turned);
            level.with(|| turning.chunks_exact_mut(head_dim).for_each(|head| math::rotate(head, cos, sin)));
            let key = &turning[attended..];
            for head in 0..self.kv_heads {
                let of_head = head * head_dim..(head + 1) * head_dim;
                let at = row * self.kv_heads + head;
                // SAFETY: see above.
                unsafe { keys.part(at, length * head_dim, head_dim) }.copy_from_slice(&key[of_head.clone()]);
                // SAFETY: see above.
                unsafe { values.part(at, length * head_dim, head_dim) }.copy_from_slice(&value[of_head]);
            }
        };
        // Some heads of a row of `mixed`: all that share keys and values, so that these are read once; or single
        // ones, where there would be too few tasks otherwise.
        let together = if rows * self.kv_heads >= threads.count().saturating_mul(2) { groups } else { 1 };
        let attend = |task: usize| {
            let first = task * together;
            let (row, first) = (first / self.heads, first % self.heads);
            let at = row * self.kv_heads + first / groups;
            let tokens = length + 1;
            let bias = step.bias.map(|bias| &bias[if bias.len() == tokens { 0 } else { row * tokens }..]);
            // SAFETY: see above; several tasks may read the same keys.
            let (query, keys, values, mixed) = unsafe {
                (
                    heads.read(row, first * head_dim, together * head_dim),
                    keys.read(at, 0, tokens * head_dim),
                    values.read(at, 0, tokens * head_dim),
                    mixed.part(row, first * head_dim, together * head_dim),
                )
            };
            level.with(|| attention(query, keys, values, bias, self.scale, head_dim, mixed));
        };
        // Some columns of `middle`.
        let output_shape = Shape { rows, inputs: attended, outputs: hidden };
        let output = Tasks::new(&self.output, output_shape, threads);
        let end_attention = |task: usize| {
            let outputs = output.outputs(task);
            // SAFETY: see above.
            self.output.compute(level, unsafe { mixed.all() }, middle, output_shape, outputs.clone());
            for row in 0..rows {
                // SAFETY: see above.
                let middle = unsafe { middle.part(row, outputs.start, outputs.len()) };
                math::add(middle, &x[row * hidden..][outputs.clone()]);
            }
        };
        // Row `row` of `normed`.
        let post_norm = |row: usize| {
            // SAFETY: see above.
            let (middle, normed) = unsafe { (middle.read(row, 0, hidden), normed.part(row, 0, hidden)) };
            level.with(|| math::rms_norm(middle, self.post_norm, self.eps, normed));
        };
        // Some columns of `gate` and of `up`.
        let (gate_linear, up_linear) = self.gate_up.halves(hidden);
        let gate_shape = Shape { rows, inputs: hidden, outputs: inner };
        let gating = Tasks::new(&gate_linear, gate_shape, threads);
        let gate_and_up = |task: usize| {
            let outputs = gating.outputs(task);
            // SAFETY: see above.
            let normed = unsafe { normed.all() };
            gate_linear.compute(level, normed, gate, gate_shape, outputs.clone());
            up_linear.compute(level, normed, up, gate_shape, outputs.clone());
            for row in 0..rows {
                // SAFETY: see above.
                let (gate, up) = unsafe {
                    (gate.part(row, outputs.start, outputs.len()), up.read(row, outputs.start, outputs.len()))
                };
                level.with(|| math::silu_times(gate, up));
            }
        };
        // Some columns of `out`.
        let down_shape = Shape { rows, inputs: inner, outputs: hidden };
        let down = Tasks::new(&self.down, down_shape, threads);
        let end_feed_forward = |task: usize| {
            let outputs = down.outputs(task);
            // SAFETY: see above.
            self.down.compute(level, unsafe { gate.all() }, out, down_shape, outputs.clone());
            for row in 0..rows {
                // SAFETY: see above.
                let (out, middle) = unsafe {
                    (
                        out.part(row, outputs.start, outputs.len()),
                        middle.read(row, outputs.start, outputs.len()),
                    )
                };
                math::add(out, middle);
            }
        };
        threads.run(&[
            Phase { tasks: rows, work: &input_norm },
            Phase { tasks: qkv.count, work: &project },
            Phase { tasks: rows, work: &turn },
            Phase { tasks: rows * self.heads / together, work: &attend },
            Phase { tasks: output.count, work: &end_attention },
            Phase { tasks: rows, work: &post_norm },
            Phase { tasks: gating.count, work: &gate_and_up },
            Phase { tasks: down.count, work: &end_feed_forward },
        ]);
    }
}

/// The widths of what is between products.
#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    inner: usize,
    attended: usize,
    projected: usize,
    groups: usize,
    /// Elements of all of it, for all rows.
    scratch: usize,
}

/// How a product is parted.
struct Tasks {
    count: usize,
    most: usize,
    all: usize,
}

impl Tasks {
    fn new(linear: &Linear<'_>, shape: Shape, threads: Threads) -> Self {
        let most = match linear.weight {
            Weights::Half(_) => kernel::task_rows::<f16>(shape.inputs, shape.outputs, threads),
            Weights::Full(_) => kernel::task_rows::<f32>(shape.inputs, shape.outputs, threads),
        };
        Self { count: shape.outputs.div_ceil(most), most, all: shape.outputs }
    }

    fn outputs(&self, task: usize) -> Range<usize> {
        task * self.most..((task + 1) * self.most).min(self.all)
    }
}

impl Linear<'_> {
    fn compute(&self, level: Level, x: &[f32], out: Shared<'_>, shape: Shape, outputs: Range<usize>) {
        match self.weight {
            Weights::Half(weight) => kernel::compute(level, x, weight, self.bias, out, shape, outputs),
            Weights::Full(weight) => kernel::compute(level, x, weight, self.bias, out, shape, outputs),
        }
    }

    /// The first half of the outputs, and the second.
    fn halves(&self, inputs: usize) -> (Self, Self) {
        let outputs = self.weight.len().checked_div(2 * inputs).unwrap_or(0);
        let at = outputs * inputs;
        let (first, second) = match self.weight {
            Weights::Half(weight) => (Weights::Half(&weight[..at]), Weights::Half(&weight[at..])),
            Weights::Full(weight) => (Weights::Full(&weight[..at]), Weights::Full(&weight[at..])),
        };
        let bias = self.bias.map(|bias| bias.split_at(outputs));
        (
            Self { weight: first, bias: bias.map(|bias| bias.0) },
            Self { weight: second, bias: bias.map(|bias| bias.1) },
        )
    }
}

/// Some heads over the keys and values that they share: `query` and `out` (heads, D), `keys` and `values`
/// (tokens, D), `bias` (tokens) or more.
#[inline(always)]
fn attention(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    bias: Option<&[f32]>,
    scale: f32,
    head_dim: usize,
    out: &mut [f32],
) {
    let tokens = keys.len() / head_dim;
    let mut scores = vec![0.0; query.len() / head_dim * tokens];
    for (token, key) in keys.chunks_exact(head_dim).enumerate() {
        let added = bias.map_or(0.0, |bias| bias[token]);
        for (head, query) in query.chunks_exact(head_dim).enumerate() {
            scores[head * tokens + token] = math::dot(query, key) * scale + added;
        }
    }
    scores.chunks_exact_mut(tokens).for_each(math::softmax);
    out.fill(0.0);
    for (token, value) in values.chunks_exact(head_dim).enumerate() {
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            math::add_scaled(out, scores[head * tokens + token], value);
        }
    }
}

#[cfg(test)]
mod tests;
