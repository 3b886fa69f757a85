//! Moments, bounds and tests against numbers worked by hand or by numerical integration, and the
//! properties that must hold for any numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::confidence::{
    Estimate, asymptotic, asymptotic_high, asymptotic_low, difference, difference_high,
    difference_low, empirical_bernstein,
};
use super::discovery::{benjamini_hochberg, e_benjamini_hochberg};
use super::msprt::{Msprt, likelihood_ratio};
use super::quantile::{self, Exceedance};
use super::ratio;
use super::rule::{Finding, Rule};
use super::special::ln_gamma;
use super::units::Units;
use super::{Interval, Moments};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

fn near(left: f64, right: f64, relative: f64) {
    let scale = left.abs().max(right.abs()).max(1.0);
    assert!((left - right).abs() <= relative * scale, "{left} is not {right}");
}

/// Moments with this mean and this sample variance.
fn arm(count: u64, mean: f64, variance: f64) -> Moments {
    Moments { count, mean, m2: variance * (count - 1) as f64, noise: 0.0 }
}

#[test]
fn moments_are_those_worked_by_hand() {
    // Mean 3; deviations -2, -1, 3, squared 4 + 1 + 9 = 14; over n - 1 = 2 that is 7.
    let moments = Moments::of([1.0, 2.0, 6.0]);
    assert_eq!((moments.count, moments.mean, moments.m2), (3, 3.0, 14.0));
    assert_eq!(moments.variance(), 7.0);
    near(Moments::of_share(1, 4).variance(), Moments::of([1.0, 0.0, 0.0, 0.0]).variance(), 1e-15);
}

#[test]
fn variance_is_no_less_than_the_noise_that_the_judge_is_known_to_have() {
    let mut moments = Moments::default();
    // Three votes of spread 0.3: 0.09 / 3 = 0.03; and one of a judge that never wavers.
    moments.push(0.5, 0.03);
    assert_eq!(moments.variance(), 0.03);
    moments.push(0.5, 0.0);
    assert_eq!(moments.variance(), 0.015);
    moments.push(1.0, 0.0);
    // The sample's own 1/12 is above the floor of 0.01.
    near(moments.variance(), 1.0 / 12.0, 1e-15);
}

#[test]
fn units_that_send_several_observations_count_once_each() {
    let mut units = Units::new(3);
    // Sums 3, 1, 2 of 2, 1, 1 observations; mean 6/4. Residuals 3 - 3, 1 - 1.5, 2 - 1.5: squares sum
    // to 0.5; 4/3 observations a unit, so m2 is 0.5 / (16/9).
    for (unit, value) in [(7, 1.0), (8, 1.0), (9, 2.0), (7, 2.0)] {
        assert!(units.push(unit, value, 0.01));
    }
    assert!(!units.push(10, 5.0, 0.0));
    let moments = units.moments();
    assert_eq!((moments.count, units.observations()), (3, 4));
    near(moments.mean, 1.5, 1e-15);
    near(moments.m2, 0.28125, 1e-14);
    // The mean of four observations carries 0.01/4, that of three units 0.0075/3.
    near(moments.noise, 0.0075, 1e-15);
    assert_eq!(Units::new(1).moments(), Moments::default());
}

#[test]
fn the_two_sided_bound_is_where_the_normal_mixture_reaches_one_over_alpha() {
    // r² = (-2 ln a + ln(1 - 2 ln a)) / 1000; S solves
    // integral of exp(l S - l² 400 / 2) N(l; 0, r²) dl = 1/0.05 (scipy quad, brentq); 0.3 S / 400.
    let interval = asymptotic(&arm(400, 0.5, 0.09), 0.05, 1000.0).unwrap();
    near(interval.high - 0.5, 0.046_856_686_375_120_94, 1e-12);
    near(0.5 - interval.low, 0.046_856_686_375_120_94, 1e-12);
}

#[test]
fn the_difference_of_unequal_arms_counts_about_the_harmonic_mean_of_pairs() {
    let (treatment, control) = (arm(50, 0.8, 0.3), arm(950, 0.5, 0.25));
    // Both together: (49 0.3 + 949 0.25 + 0.3² 50 950 / 1000) / 999 = 0.25648, the floor of
    // control's. (0.3 + 0.25648) / (0.3/50 + 0.25648/950) = 88.75; width by the formula of the
    // two-sided bound.
    let seen = Estimate::difference(&treatment, &control).unwrap();
    near(seen.count, 88.753_303_279_962_67, 1e-13);
    let interval = difference(&treatment, &control, 0.05, 1000.0).unwrap();
    near(interval.high, 0.3 + 0.314_626_413_855_494_34, 1e-12);
    // One-sided: sqrt(2 v (n r² + 1) / (n² r²) ln(1 + sqrt(n r² + 1) / (2 a))), r² at 2 a.
    let low = difference_low(&treatment, &control, 0.05, 1000.0).unwrap();
    near(low, 0.3 - 0.301_220_480_042_371, 1e-12);
    let high = difference_high(&treatment, &control, 0.05, 1000.0).unwrap();
    near(high, 0.3 + 0.301_220_480_042_371, 1e-12);
    // 2 / sqrt(n r² + 1) (exp(r² S² / (2 v (n r² + 1))) - 1); the mixture itself gives 20.91.
    near(seen.evidence_above(0.0, 0.05, 1000.0).unwrap(), 19.550_138_949_770_23, 1e-12);
    assert_eq!(seen.evidence_below(0.0, 0.05, 1000.0), Some(0.0));
}

#[test]
fn an_arm_that_has_not_seen_a_rare_outcome_is_not_certain_of_it() {
    // Control fails in 1 of 500; treatment's 300 have not failed yet.
    let (treatment, control) = (Moments::of_share(0, 300), Moments::of_share(60, 30_000));
    assert_eq!(treatment.variance(), 0.0);
    let look = Rule::default().look(&treatment, &control);
    assert_eq!(look.finding, Finding::Undecided);
    assert!(look.difference.unwrap().width() > 0.01);
}

#[test]
fn nothing_is_said_below_two_observations_or_without_variance() {
    let one = Moments::of([1.0]);
    let flat = Moments::of([1.0, 1.0, 1.0]);
    let good = Moments::of([0.0, 1.0]);
    assert_eq!(asymptotic(&one, 0.05, 100.0), None);
    assert_eq!(asymptotic(&flat, 0.05, 100.0), None);
    assert_eq!(difference(&good, &one, 0.05, 100.0), None);
    assert_eq!(difference(&flat, &flat, 0.05, 100.0), None);
    assert!(difference(&good, &good, 0.05, 100.0).is_some());
    assert_eq!(asymptotic(&good, 0.0, 100.0), None);
    assert_eq!(asymptotic_low(&good, 0.5, 100.0), None);
    assert_eq!(asymptotic_high(&good, 0.05, 0.0), None);
}

#[test]
fn empirical_bernstein_is_the_plug_in_of_the_paper() {
    // x_i = (37 i mod 101) / 100, i < 300; numpy: running maximum of
    // sum(lam x)/sum(lam) - (ln 40 + sum(v psi))/sum(lam), v = 4 (x_i - mu_{i-1})²,
    // psi = (-ln(1 - lam) - lam)/4, lam = min(1/2, sqrt(2 ln 40 / (s²_{i-1} i ln(1 + i)))).
    let values: Vec<f64> = (0..300).map(|i| f64::from(i * 37 % 101) / 100.0).collect();
    let interval = empirical_bernstein(&values, (0.0, 1.0), 0.05).unwrap();
    near(interval.low, 0.440_371_665_686_413_95, 1e-12);
    near(interval.high, 0.557_205_737_654_565_7, 1e-12);
    // The same values on another scale.
    let scaled: Vec<f64> = values.iter().map(|value| 4.0 * value - 2.0).collect();
    let scaled = empirical_bernstein(&scaled, (-2.0, 2.0), 0.05).unwrap();
    near(scaled.low, 4.0 * interval.low - 2.0, 1e-12);
    assert_eq!(empirical_bernstein(&[0.5, 1.5], (0.0, 1.0), 0.05), None);
    assert_eq!(empirical_bernstein(&[], (0.0, 1.0), 0.05), None);
}

#[test]
fn the_msprt_integrates_the_likelihood_over_its_prior_and_never_takes_evidence_back() {
    // integral of exp((n m t - n t²/2) / V) N(t; 0, tau²) dt, n = 200, m = 0.05, V = 0.09,
    // tau = 0.02 (scipy quad).
    let strong = arm(200, 0.05, 0.09);
    let seen = Estimate::mean(&strong).unwrap();
    near(likelihood_ratio(&seen, 0.0, 0.02), 2.689_069_328_253_216_5, 1e-12);
    let mut test = Msprt::new(0.0, 0.02);
    assert_eq!(test.look(&Moments::of([1.0])), 1.0);
    let p = test.look(&strong);
    near(p, 1.0 / 2.689_069_328_253_216_5, 1e-12);
    assert_eq!(test.look(&arm(400, 0.0, 0.09)), p);
    assert!(test.e_value() < 1.0);
}

#[test]
fn several_candidates_are_stepped_up_together() {
    // Adjusted by scipy.stats.false_discovery_control: 0.006 0.036 0.04 0.0492 0.2 0.045.
    let p = [0.001, 0.012, 0.02, 0.041, 0.2, 0.03];
    assert_eq!(benjamini_hochberg(&p, 0.05), [true, true, true, true, false, true]);
    // K / q = 60 for K = 3: the largest must reach 60, two together 30, all three 20.
    assert_eq!(e_benjamini_hochberg(&[31.0, 2.0, 30.0], 0.05), [true, false, true]);
    assert_eq!(e_benjamini_hochberg(&[59.0, 2.0, 29.0], 0.05), [false; 3]);
    assert_eq!(e_benjamini_hochberg(&[f64::NAN, 60.0, 0.0], 0.05), [false, true, false]);
    assert_eq!(benjamini_hochberg(&[f64::NAN, 0.01], 0.05), [false, true]);
    assert!(e_benjamini_hochberg(&[], 0.05).is_empty());
}

#[test]
fn arms_of_the_wrong_size_are_caught_and_right_ones_are_not() {
    // scipy: betabinom.pmf(k, n, 100 p, 100 (1 - p)) / binom.pmf(k, n, p).
    near(ratio::mismatch((530, 470), 0.5), 1.548_747_324_507_863_8, 1e-10);
    near(ratio::mismatch((70, 930), 0.05), 8.119_796_635_530_188, 1e-10);
    near(ratio::mismatch((9, 1), 0.5), 1.278_837_536_468_352_6, 1e-10);
    assert_eq!(ratio::mismatch((0, 0), 0.3), 1.0);
    assert!(ratio::p_value((5_000, 5_000), 0.5) > 0.99);
    assert!(ratio::p_value((5_300, 4_700), 0.5) < 1e-4);
    assert_eq!(ratio::mismatch((7, 3), 1.0), 1.0);
    // math.lgamma.
    for (x, expected) in [
        (0.1, 2.252_712_651_734_205_5),
        (0.5, 0.572_364_942_924_700_4),
        (1.0, 0.0),
        (2.5, 0.284_682_870_472_919_6),
        (11.9, 17.258_477_450_595_52),
        (12.1, 17.747_007_270_798_74),
        (1_000_000.5, 12_815_511.476_902_764),
    ] {
        near(ln_gamma(x), expected, 1e-14);
    }
}

#[test]
fn a_quantile_is_bounded_by_the_counts_that_are_not_excluded() {
    // scipy: the k with betabinom.pmf(k, 1000, 95, 5) < 20 binom.pmf(k, 1000, 0.95) are 928..=969.
    let sorted: Vec<f64> = (1..=1000).map(f64::from).collect();
    let interval = quantile::interval(&sorted, 0.95, 0.05).unwrap();
    // 928 values lie at or below any quantile in [928, 929), 969 in [969, 970).
    assert_eq!(interval, Interval { low: 928.0, high: 970.0 });
    assert_eq!(quantile::nearest_rank(&sorted, 0.95), Some(950.0));
    let few = quantile::interval(&sorted[..20], 0.95, 0.05).unwrap();
    assert_eq!(few.high, f64::INFINITY);
    assert_eq!(quantile::interval(&[], 0.95, 0.05), None);
    assert_eq!(quantile::nearest_rank(&sorted, 1.0), None);
    let slower: Vec<f64> = sorted.iter().map(|value| value + 100.0).collect();
    let apart = quantile::difference(&slower, &sorted, 0.95, 0.05).unwrap();
    assert!(apart.low > 0.0 && apart.contains(100.0));
}

#[test]
fn a_heavier_tail_shows_as_a_larger_share_above_the_threshold() {
    let same = Exceedance { above: 100, total: 2_000 };
    let slow = Exceedance { above: 240, total: 2_000 };
    assert!(quantile::excess_low(&slow, &same, 0.05, 2_000.0).unwrap() > 0.0);
    assert!(quantile::excess_low(&same, &same, 0.05, 2_000.0).unwrap() < 0.0);
    assert!(quantile::excess_high(&same, &slow, 0.05, 2_000.0).unwrap() < 0.0);
    // Nothing above the threshold in 10 is no certainty: (0 + 1)/(10 + 2) as a share.
    let unseen = Exceedance { above: 0, total: 10 };
    near(unseen.moments().variance(), 11.0 / 144.0, 1e-15);
    let mut counted = Exceedance::default();
    [0.5, 2.0, 1.0].iter().for_each(|value| counted.push(*value, 1.0));
    assert_eq!(counted, Exceedance { above: 1, total: 3 });
}

#[test]
fn the_rule_finds_harm_before_a_win_and_neither_below_its_minimum() {
    let rule = Rule { margin: 0.05, tuned_for: 1000.0, ..Rule::default() };
    rule.check().unwrap();
    let control = arm(20_000, 0.5, 0.1);
    let better = rule.look(&arm(20_000, 0.54, 0.1), &control);
    assert_eq!(better.finding, Finding::Win);
    assert!(better.evidence_win > 20.0 && better.evidence_harm < 1.0);
    // Surely worse, and surely by less than the margin: a harm.
    let worse = rule.look(&arm(20_000, 0.485, 0.1), &control);
    assert!(worse.difference.unwrap().low > -0.05);
    assert_eq!(worse.finding, Finding::Harm);
    let patient = Rule { harm_margin: 0.03, ..rule };
    assert_eq!(patient.look(&arm(20_000, 0.485, 0.1), &control).finding, Finding::Win);
    let early = rule.look(&arm(99, 0.9, 0.01), &control);
    assert_eq!((early.finding, early.evidence_win), (Finding::Undecided, 0.0));
    assert!(early.difference.is_some());
    assert_eq!(rule.look(&Moments::of([1.0]), &control).difference, None);
    assert_eq!(rule.look(&arm(200, f64::NAN, 0.1), &control).finding, Finding::Undecided);
}

#[test]
fn a_rule_that_cannot_be_applied_is_refused_by_name() {
    let refused = |rule: Rule| rule.check().unwrap_err();
    assert!(refused(Rule { alpha_win: 0.5, ..Rule::default() }).starts_with("alpha_win:"));
    assert!(refused(Rule { alpha_harm: f64::NAN, ..Rule::default() }).starts_with("alpha_harm:"));
    assert!(refused(Rule { margin: -0.1, ..Rule::default() }).starts_with("margin:"));
    assert!(refused(Rule { tuned_for: 0.0, ..Rule::default() }).starts_with("tuned_for:"));
    assert!(refused(Rule { minimum: 1, ..Rule::default() }).starts_with("minimum:"));
    let twice = serde_json::to_string(&Rule::default()).unwrap();
    assert_eq!(serde_json::from_str::<Rule>(&twice).unwrap(), Rule::default());
    assert!(serde_json::from_str::<Rule>(r#"{"alpha": 0.05}"#).is_err());
}

/// The share of 400 seeded runs of 3,000 coins in which `misses` at any look from 50 on.
fn share_missing(misses: impl Fn(&Moments, f64) -> bool) -> f64 {
    let runs = 400;
    let missed = (0..runs).filter(|seed| {
        let mut rng = SmallRng::seed_from_u64(*seed);
        let mut moments = Moments::default();
        (0..3_000).any(|_| {
            moments.push(f64::from(u8::from(rng.random_bool(0.4))), 0.0);
            moments.count >= 50 && misses(&moments, 0.4)
        })
    });
    missed.count() as f64 / runs as f64
}

#[test]
fn looking_after_every_observation_errs_no_more_than_alpha() {
    // Of 400 runs at most 20 may miss in the mean; 0.083 is three standard deviations above.
    let limit = 0.083;
    let two_sided = |m: &Moments, truth: f64| !asymptotic(m, 0.05, 300.0).unwrap().contains(truth);
    assert!(share_missing(two_sided) <= limit);
    let low = |m: &Moments, truth: f64| asymptotic_low(m, 0.05, 300.0).unwrap() > truth;
    assert!(share_missing(low) <= limit);
    // The fixed-sample interval, looked at in the same way, does not hold.
    let fixed = |m: &Moments, truth: f64| {
        (m.mean - truth).abs() > 1.96 * (m.variance() / m.count as f64).sqrt()
    };
    assert!(share_missing(fixed) > 0.2);
}

proptest! {
    #[test]
    fn merging_is_pushing_in_any_order(
        left in prop::collection::vec((-1.0..2.0f64, 0.0..0.2f64), 0..40),
        right in prop::collection::vec((-1.0..2.0f64, 0.0..0.2f64), 0..40),
    ) {
        let pushed = |pairs: &[(f64, f64)]| {
            let mut moments = Moments::default();
            pairs.iter().for_each(|(value, noise)| moments.push(*value, *noise));
            moments
        };
        let mut merged = pushed(&right);
        merged.merge(&pushed(&left));
        let all = pushed(&[left, right].concat());
        prop_assert_eq!(merged.count, all.count);
        let sums = |m: &Moments| [m.mean, m.m2, m.noise];
        for (one, other) in sums(&merged).into_iter().zip(sums(&all)) {
            prop_assert!((one - other).abs() <= 1e-12 * one.abs().max(1.0), "{one} {other}");
        }
    }

    #[test]
    fn units_of_one_observation_are_observations(
        values in prop::collection::vec(99.0..101.0f64, 2..60),
    ) {
        let mut units = Units::new(100);
        for (unit, value) in (0u64..).zip(&values) {
            prop_assert!(units.push(unit, *value, 0.1));
        }
        let (all, own) = (Moments::of(values), units.moments());
        prop_assert!((all.mean - own.mean).abs() < 1e-10);
        prop_assert!((all.m2 - own.m2).abs() < 1e-9);
        prop_assert!((own.noise - 0.1).abs() < 1e-12);
    }

    #[test]
    fn bounds_tighten_with_observations_and_with_a_larger_error(
        count in 100u64..100_000, variance in 0.001..1.0f64, alpha in 0.001..0.2f64,
    ) {
        let (few, many) = (arm(count, 0.5, variance), arm(2 * count, 0.5, variance));
        let width = |m: &Moments, alpha: f64| asymptotic(m, alpha, 2_000.0).unwrap().width();
        prop_assert!(width(&many, alpha) < width(&few, alpha));
        prop_assert!(width(&few, alpha * 1.5) < width(&few, alpha));
        let low = asymptotic_low(&few, alpha, 2_000.0).unwrap();
        prop_assert!(low > asymptotic(&few, alpha, 2_000.0).unwrap().low);
        prop_assert!(asymptotic_low(&many, alpha, 2_000.0).unwrap() > low);
        // Mirrored about the mean.
        let high = asymptotic_high(&few, alpha, 2_000.0).unwrap();
        prop_assert!((low + high - 1.0).abs() < 1e-12);
    }

    #[test]
    fn evidence_reaches_one_over_alpha_where_the_bound_leaves_the_null(
        counts in (100u64..5_000, 100u64..5_000), apart in -0.3..0.3f64,
        margin in 0.0..0.1f64, alpha in 0.001..0.2f64,
    ) {
        let (treatment, control) = (arm(counts.0, 0.5 + apart, 0.2), arm(counts.1, 0.5, 0.1));
        let rule =
            Rule { alpha_win: alpha, alpha_harm: alpha, margin, ..Rule::default() };
        let look = rule.look(&treatment, &control);
        let bounds = look.difference.unwrap();
        // Away from the very edge, where both round.
        if (bounds.low + margin).abs() > 1e-9 {
            prop_assert_eq!(bounds.low > -margin, look.evidence_win >= 1.0 / alpha);
        }
        if bounds.high.abs() > 1e-9 {
            prop_assert_eq!(bounds.high < 0.0, look.evidence_harm >= 1.0 / alpha);
        }
    }
}
