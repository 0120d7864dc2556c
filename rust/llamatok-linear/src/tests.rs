use proptest::prelude::*;

use super::*;
use crate::threads::Phase;

/// A product in float64, and the sum of the magnitudes that went into each of its elements.
fn reference(x: &[f32], weight: &[f16], bias: Option<&[f32]>, shape: Shape) -> Vec<(f64, f64)> {
    let mut found = Vec::new();
    for row in 0..shape.rows {
        for output in 0..shape.outputs {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[output]));
            let (mut sum, mut magnitude) = (bias, bias.abs());
            for input in 0..shape.inputs {
                let product =
                    f64::from(x[row * shape.inputs + input]) * weight[output * shape.inputs + input].to_f64();
                sum += product;
                magnitude += product.abs();
            }
            found.push((sum, magnitude));
        }
    }
    found
}

/// A sum of n products in any order is off by at most n + 1 roundings of the sum of their magnitudes.
fn assert_near(found: &[f32], expected: &[(f64, f64)], inputs: usize, level: Level) {
    assert_eq!(found.len(), expected.len());
    for (at, (&found, &(sum, magnitude))) in found.iter().zip(expected).enumerate() {
        let bound = magnitude * (inputs as f64 + 2.0) * f64::from(f32::EPSILON);
        assert!((f64::from(found) - sum).abs() <= bound, "{} {at}: {found} for {sum}", level.name());
    }
}

fn product(
    level: Level,
    x: &[f32],
    weight: &[f16],
    bias: Option<&[f32]>,
    shape: Shape,
    threads: usize,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; shape.rows * shape.outputs];
    linear_at(level, x, Weights::Half(weight), bias, &mut out, shape, Threads::Own(threads)).unwrap();
    // The same weights in float32 are the same numbers.
    let wide: Vec<f32> = weight.iter().map(|weight| weight.to_f32()).collect();
    let mut full = vec![f32::NAN; out.len()];
    linear_at(level, x, Weights::Full(&wide), bias, &mut full, shape, Threads::Own(threads)).unwrap();
    assert!(full.iter().zip(&out).all(|(full, half)| full == half || full.is_nan() && half.is_nan()));
    out
}

/// Numbers from -1 to 1 that are always the same.
pub fn numbers(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

proptest! {
    #[test]
    fn products_are_near_those_of_float64(
        rows in 0usize..18,
        inputs in 0usize..150,
        outputs in 0usize..40,
        threads in 1usize..4,
        with_bias: bool,
        seed: u64,
    ) {
        let shape = Shape { rows, inputs, outputs };
        let x: Vec<f32> = numbers(rows * inputs, seed).collect();
        let weight: Vec<f16> = numbers(outputs * inputs, seed ^ 1).map(f16::from_f32).collect();
        let biases: Vec<f32> = numbers(outputs, seed ^ 2).collect();
        let bias = with_bias.then_some(&biases[..]);
        let expected = reference(&x, &weight, bias, shape);
        for level in Level::available() {
            assert_near(&product(level, &x, &weight, bias, shape, threads), &expected, inputs, level);
        }
    }
}

/// More than one task, so that threads meet; and a last task that is short.
#[test]
fn results_do_not_depend_on_threads_or_on_the_other_rows() {
    let shape = Shape { rows: 140, inputs: 1003, outputs: 83 };
    let x: Vec<f32> = numbers(shape.rows * shape.inputs, 1).collect();
    let weight: Vec<f16> = numbers(shape.outputs * shape.inputs, 2).map(f16::from_f32).collect();
    let bias: Vec<f32> = numbers(shape.outputs, 3).collect();
    let expected = reference(&x, &weight, Some(&bias), shape);
    for level in Level::available() {
        let alone = product(level, &x, &weight, Some(&bias), shape, 1);
        assert_near(&alone, &expected, shape.inputs, level);
        for _ in 0..20 {
            assert_eq!(product(level, &x, &weight, Some(&bias), shape, 3), alone);
        }
        for rows in 1..20 {
            let few = Shape { rows, ..shape };
            let found = product(level, &x[..rows * shape.inputs], &weight, Some(&bias), few, 2);
            assert_eq!(found, alone[..rows * shape.outputs], "{} {rows}", level.name());
        }
    }
}

#[test]
fn every_float16_is_widened_exactly() {
    let weight: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let shape = Shape { rows: 1, inputs: 1, outputs: weight.len() };
    for level in Level::available() {
        let found = product(level, &[1.0], &weight, None, shape, 2);
        for (found, weight) in found.iter().zip(&weight) {
            assert!(*found == weight.to_f32() || found.is_nan() && weight.is_nan(), "{}", level.name());
        }
        // The same in whole vectors: each row has one weight that is not 0.
        let inputs = 32;
        for first in (0..weight.len()).step_by(inputs) {
            let mut rows = vec![f16::ZERO; inputs * inputs];
            (0..inputs).for_each(|i| rows[i * inputs + i] = weight[first + i]);
            let shape = Shape { rows: 1, inputs, outputs: inputs };
            let found = product(level, &[1.0; 32], &rows, None, shape, 1);
            for (found, weight) in found.iter().zip(&weight[first..]) {
                assert!(*found == weight.to_f32() || found.is_nan() && weight.is_nan(), "{}", level.name());
            }
        }
    }
}

#[test]
fn infinities_and_nans_stay_in_their_rows_and_columns() {
    let shape = Shape { rows: 5, inputs: 37, outputs: 9 };
    for level in Level::available() {
        let mut x = vec![1.0; shape.rows * shape.inputs];
        let mut weight = vec![f16::ONE; shape.outputs * shape.inputs];
        x[2 * shape.inputs + 36] = f32::NAN;
        weight[4 * shape.inputs + 36] = f16::INFINITY;
        let found = product(level, &x, &weight, None, shape, 1);
        for row in 0..shape.rows {
            for output in 0..shape.outputs {
                let found = found[row * shape.outputs + output];
                match (row, output) {
                    (2, _) => assert!(found.is_nan()),
                    (_, 4) => assert_eq!(found, f32::INFINITY),
                    _ => assert_eq!(found, 37.0),
                }
            }
        }
    }
}

#[test]
fn sizes_are_checked() {
    let shape = Shape { rows: 2, inputs: 3, outputs: 4 };
    let (x, weight, mut out) = ([0.0; 6], [f16::ZERO; 12], [0.0; 8]);
    let error = linear(&x[1..], Weights::Half(&weight), None, &mut out, shape, Threads::Own(1)).unwrap_err();
    assert_eq!(error.to_string(), "`x` must have 6 elements, got 5");
    let error = linear(&x, Weights::Half(&weight[1..]), None, &mut out, shape, Threads::Own(1)).unwrap_err();
    assert_eq!(error.to_string(), "`weight` must have 12 elements, got 11");
    let error =
        linear(&x, Weights::Half(&weight), Some(&[0.0]), &mut out, shape, Threads::Own(1)).unwrap_err();
    assert_eq!(error.to_string(), "`bias` must have 4 elements, got 1");
    let error = linear(&x, Weights::Half(&weight), None, &mut out[1..], shape, Threads::Own(1)).unwrap_err();
    assert_eq!(error.to_string(), "`out` must have 8 elements, got 7");
    let huge = Shape { rows: usize::MAX, inputs: 3, outputs: 4 };
    assert!(linear(&x, Weights::Half(&weight), None, &mut out, huge, Threads::Own(1)).is_err());
}

#[test]
fn several_callers_at_once_get_their_own_results() {
    let shape = Shape { rows: 3, inputs: 700, outputs: 500 };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let x: Vec<f32> = numbers(shape.rows * shape.inputs, seed).collect();
                let weight: Vec<f16> =
                    numbers(shape.outputs * shape.inputs, seed + 9).map(f16::from_f32).collect();
                let alone = product(Level::best(), &x, &weight, None, shape, 1);
                for _ in 0..50 {
                    assert_eq!(product(Level::best(), &x, &weight, None, shape, 3), alone);
                }
            });
        }
    });
}

/// An OpenMP runtime of sorts.
pub unsafe extern "C" fn parallel(
    body: extern "C" fn(*mut std::ffi::c_void),
    data: *mut std::ffi::c_void,
    count: std::ffi::c_uint,
    _flags: std::ffi::c_uint,
) {
    let data = data as usize;
    std::thread::scope(|scope| {
        (1..count).for_each(|_| drop(scope.spawn(move || body(data as *mut _))));
        body(data as *mut _);
    });
}

#[test]
fn the_threads_of_others_do_the_same() {
    let shape = Shape { rows: 3, inputs: 1003, outputs: 331 };
    let x: Vec<f32> = numbers(shape.rows * shape.inputs, 1).collect();
    let weight: Vec<f16> = numbers(shape.outputs * shape.inputs, 2).map(f16::from_f32).collect();
    let expected = product(Level::best(), &x, &weight, None, shape, 1);
    // SAFETY: it does what `GOMP_parallel` does.
    let openmp = unsafe { OpenMp::new(parallel) };
    for count in 0..4 {
        let mut out = vec![f32::NAN; expected.len()];
        linear(&x, Weights::Half(&weight), None, &mut out, shape, Threads::OpenMp(openmp, count)).unwrap();
        assert_eq!(out, expected);
    }
    let caught = std::panic::catch_unwind(|| {
        let work = |task| assert!(task != 50, "task 50");
        Threads::OpenMp(openmp, 3).run(&[Phase { tasks: 100, work: &work }; 2]);
    });
    assert!(caught.is_err());
}

#[test]
fn a_panic_in_a_task_comes_back_and_the_helpers_go_on() {
    for _ in 0..3 {
        let caught = std::panic::catch_unwind(|| {
            pool::run(100, 3, &|task| assert!(task != 50, "task 50"));
        });
        assert!(caught.is_err());
        let done = std::sync::atomic::AtomicUsize::new(0);
        pool::run(100, 3, &|_| {
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 100);
    }
}
