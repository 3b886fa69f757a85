//! Contexts as a policy might give them: how many documents, which, and in which order.
//!
//! Knows no weights: the relevance is the reader's.

use super::GeneratorSettings;
use super::examples::Example;
use rand::Rng;
use rand::seq::SliceRandom as _;

/// Indices of the candidates of one context, in its order; all different, at least one where there
/// is a candidate.
///
/// A size of [`GeneratorSettings::sizes`] (no more than there are); then either a uniform draw
/// without replacement or, by Gumbel noise on relevance / temperature, a Plackett–Luce sample.
pub fn draw(example: &Example, settings: &GeneratorSettings, rng: &mut impl Rng) -> Vec<usize> {
    let size = match settings.sizes.len() {
        0 => example.len(),
        sizes => settings.sizes[rng.random_range(0..sizes)],
    };
    let mut order: Vec<usize> = (0..example.len()).collect();
    if rng.random::<f64>() < settings.uniform_share {
        order.shuffle(rng);
    } else {
        let keys: Vec<f32> = example
            .readings
            .iter()
            .map(|reading| {
                let u: f32 = rng.random_range(1e-6..1.0);
                reading.rel / settings.temperature - (-u.ln()).ln()
            })
            .collect();
        order.sort_by(|&a, &b| keys[b].total_cmp(&keys[a]));
    }
    order.truncate(size);
    order
}

/// The first k candidates, in retrieval order.
pub(super) fn first(example: &Example, k: usize) -> Vec<usize> {
    (0..example.len().min(k)).collect()
}
