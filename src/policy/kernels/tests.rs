//! Kernels against plain double-precision formulas.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;

#[test]
fn exp_is_right_to_two_parts_in_ten_million() {
    for i in -8700..8800 {
        let x = i as f32 / 100.0;
        let exact = f64::from(x).exp();
        let error = (f64::from(exp(x)) - exact).abs() / exact;
        assert!(error < 3e-7, "exp({x}) off by {error}");
    }
}

#[test]
fn normal_is_a_distribution_function_with_its_density() {
    assert!((normal(0.0).0 - 0.5).abs() < 2e-7);
    for (x, below) in [(1.0, 0.841_344_7), (-1.0, 0.158_655_26), (2.5, 0.993_790_3)] {
        assert!((normal(x).0 - below).abs() < 5e-7, "at {x}: {}", normal(x).0);
    }
    assert!((normal(1.0).1 - 0.241_970_73).abs() < 1e-6);
}

#[test]
fn softmax_sums_to_one_even_for_huge_logits() {
    let mut row: Vec<f32> = (0..37).map(|i| 1e4 + i as f32).collect();
    softmax_row(&mut row);
    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(row[36] > row[35]);
}

#[test]
fn a_matrix_outside_its_slice_is_refused() {
    let data = [0f32; 11];
    assert!(Matrix::rows(&data, 3, 4, 4).is_err());
    assert!(Matrix::rows(&data, 3, 3, 4).is_ok());
    assert!(Matrix::rows(&data, usize::MAX, 2, usize::MAX).is_err());
}

#[test]
fn a_product_of_strided_and_transposed_matrices_equals_the_sum_of_products() {
    let a: Vec<f32> = (0..5 * 9).map(|i| (i % 7) as f32 - 3.0).collect();
    let b: Vec<f32> = (0..4 * 6).map(|i| (i % 5) as f32 - 2.0).collect();
    // a: 5 rows of 6 out of width 9; b transposed: (6, 4).
    let mut out = vec![1f32; 20];
    let factors =
        (Matrix::rows(&a, 5, 6, 9).unwrap(), Matrix::rows(&b, 4, 6, 6).unwrap().transposed());
    let view = MatrixMut::rows(&mut out, 5, 4).unwrap();
    matmul(view, true, factors, 2.0, Threads::Caller).unwrap();
    for r in 0..5 {
        for c in 0..4 {
            let sum: f32 = (0..6).map(|k| a[r * 9 + k] * b[c * 6 + k]).sum();
            assert!((out[r * 4 + c] - (1.0 + 2.0 * sum)).abs() < 1e-4);
        }
    }
}

#[test]
fn a_gradient_has_the_same_bits_on_every_pool_size() {
    let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
    let (q, k, v, g) = (wave(70 * 8, 0.3), wave(70 * 8, 0.7), wave(70 * 8, 1.1), wave(560, 0.2));
    let shape = AttentionShape { offsets: &[0, 3, 40, 70], heads: 2, head_width: 4 };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let norm = layer_norm_backward(&q, &k[..8], &g, 1e-5).unwrap();
            let attention = attention_backward((&q, &k, &v), &g, shape).unwrap();
            (norm.weight, norm.bias, attention.query, attention.key, column_sums(&g, 8).unwrap())
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn an_empty_sequence_in_a_pack_is_harmless() {
    let x: Vec<f32> = (0..16).map(|i| i as f32).collect();
    let shape = AttentionShape { offsets: &[0, 0, 4], heads: 1, head_width: 4 };
    let out = attention(&x, &x, &x, shape).unwrap();
    assert_eq!(out.len(), 16);
}
