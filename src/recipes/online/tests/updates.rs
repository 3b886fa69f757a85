//! What an update compares, and what holds it.

use super::*;
use crate::recipes::stop::Continuation;

fn laid_out<'a>(learner: &mut OnlineLearner, samples: &'a [Sample]) -> (Live, Vec<Group<'a>>) {
    learner.prepare().unwrap();
    let live = Live::new(&learner.config, &learner.champion.weights, None).unwrap();
    let (config, environment) = (&learner.config, &*learner.environment);
    let (champion, cpu) = (learner.contender(), Device::Cpu);
    let mut groups = groups::collect(config, champion, samples, environment, &cpu).unwrap().0;
    let mut rng = StdRng::seed_from_u64(0);
    groups::draw_from((&live, 0), config, &mut groups, environment, &cpu, &mut rng).unwrap();
    (live, groups)
}

#[test]
fn rewards_of_a_group_come_from_one_judge() {
    let (mut learner, first) = learner(config(Objective::Rrpo));
    let mut samples = samples(&first, 20, 1);
    // The user thought otherwise than the environment does.
    samples.iter_mut().for_each(|sample| sample.reward = reward(0.123));
    let (_, groups) = laid_out(&mut learner, &samples);
    for group in &groups {
        for rollout in group.tried() {
            let name = |&j: &u32| group.sample.episode.candidates[j as usize].document.id.as_str();
            let chosen: Vec<&str> = rollout.order.iter().map(name).collect();
            assert_eq!(rollout.reward(), planted(&chosen));
        }
    }
    assert!(groups.iter().any(|group| group.served.is_some()));
}

#[test]
fn advantages_of_draws_have_mean_zero_in_every_group() {
    let (mut learner, first) = learner(config(Objective::Rrpo));
    let samples = samples(&first, 20, 1);
    let (_, groups) = laid_out(&mut learner, &samples);
    let batch: Vec<&Group<'_>> = groups.iter().collect();
    let credits = credit::advantages(&learner.config, Objective::Rrpo, &batch);
    let (mut credits, mut largest) = (credits.into_iter(), 0.0f64);
    for group in &batch {
        // The served selection is compared with the draws and is none of them.
        credits.by_ref().take(group.served.iter().count()).for_each(drop);
        let own: Vec<f64> = credits.by_ref().take(group.drawn.len()).map(|c| c[0]).collect();
        assert_eq!(own.len(), group.drawn.len());
        assert!(own.iter().sum::<f64>().abs() < 1e-9, "{own:?}");
        largest = own.iter().fold(largest, |largest, value| largest.max(value.abs()));
    }
    assert!(largest > 0.1, "something was learned from: {largest}");
}

#[test]
fn a_draw_without_siblings_has_no_advantage() {
    let (mut learner, first) = learner(OnlineConfig { rollouts: 1, ..config(Objective::Rrpo) });
    let samples = samples(&first, 4, 1);
    let (_, mut groups) = laid_out(&mut learner, &samples);
    groups.iter_mut().for_each(|group| group.served = None);
    let batch: Vec<&Group<'_>> = groups.iter().collect();
    let credits = credit::advantages(&learner.config, Objective::Rrpo, &batch);
    assert!(credits.iter().flatten().all(|credit| *credit == 0.0), "{credits:?}");
}

/// Loss of one minibatch at a place in the sequence phase, from the champion's own weights.
fn loss_at(progress: f64, utility_weight: f64) -> f64 {
    let settings = OnlineConfig { utility_weight, singles: N, ..config(Objective::Rrpo) };
    let (mut learner, first) = learner(settings);
    let samples = samples(&first, 16, 1);
    let (live, groups) = laid_out(&mut learner, &samples);
    let batch: Vec<&Group<'_>> = groups.iter().collect();
    let champion = &learner.champion.weights.head;
    let phase = Phase {
        name: "rrpo",
        objective: Some(Objective::Rrpo),
        champion,
        drawing: champion,
        epochs: 1,
        rate: 1e-3,
    };
    let (cpu, mut rng) = (Device::Cpu, StdRng::seed_from_u64(0));
    let on = (&phase, progress);
    let step = objective::loss(&learner.config, &live, on, &batch, &cpu, &mut rng).unwrap();
    f64::from(step.unwrap().loss.to_scalar::<f32>().unwrap())
}

#[test]
fn the_regression_of_utilities_fades_while_the_sequence_objective_learns() {
    let without = loss_at(0.0, 0.0);
    let [start, middle, end] = [0.0, 0.5, 1.0].map(|progress| loss_at(progress, 2.0) - without);
    assert!(start > 0.5, "{start}");
    assert!((middle - start / 2.0).abs() < 1e-4, "{middle} is half of {start}");
    assert!(end.abs() < 1e-6, "{end}");
}

#[test]
fn a_strong_anchor_holds_the_regression_of_utilities_too() {
    let moved = |kl_weight: f64| {
        let settings = OnlineConfig {
            utility_weight: 1.0,
            singles: N,
            rollouts: 0,
            marginals: 0,
            kl_weight,
            dropout: 0.0,
            ..OnlineConfig::default()
        };
        let (mut learner, first) = learner(settings.with_trials());
        let batch = Batch { train: samples(&first, 64, 1), ..Batch::default() };
        learner.update(&batch, PolicyVersion(1)).unwrap().1.kl
    };
    let (free, held) = (moved(0.0), moved(10.0));
    assert!(held < free / 4.0, "KL to the champion {free} -> {held}");
}

#[test]
fn calibration_moves_the_stop_to_where_its_choices_are() {
    let (mut learner, first) = learner(OnlineConfig {
        utility_weight: 1.0,
        singles: 0,
        rollouts: 0,
        ..config(Objective::Rrpo)
    });
    let samples = samples(&first, 4, 1);
    let (live, mut groups) = laid_out(&mut learner, &samples);
    let rewards = vec![None, Some(0.2), Some(0.9)];
    for group in &mut groups {
        group.continuation = Continuation { order: vec![0, 1], rewards: rewards.clone() };
    }
    let margin = |groups: &[Group<'_>]| {
        let states = groups[0].drawing_states();
        let (n, width) = (states.rows(), states.width());
        let input = Tensor::from_slice(states.values(), (1, n, width), &Device::Cpu).unwrap();
        let present = Tensor::ones((1, n), DType::F32, &Device::Cpu).unwrap();
        let output = live.head.forward(&input, &present).unwrap();
        let choices = objective::choices(&output, &[&groups[0]], (n, &Device::Cpu));
        choices.unwrap().unwrap().points().unwrap()[0].0
    };
    learner.calibrate(&live, &groups).unwrap();
    // A gain of 0.7 less its price: σ(margin / 4) = 0.155 on the average of four lists.
    assert!(margin(&groups) < -2.0, "{}", margin(&groups));
}
