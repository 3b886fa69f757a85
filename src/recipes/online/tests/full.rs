//! The trainable part `full`: a trunk that learns below the head, from texts that a service served.

use super::*;
use crate::policy::fixture::write_tiny_model;
use crate::policy::model_folder::ModelFolder;
use crate::policy::reader::ReaderArgs;
use crate::policy::serving::EncoderPolicy;
use actors::ports::{DecideRequest, Policy as _};
use candle_core::{Tensor, Var};

const CANDIDATES: usize = 4;

/// A reader with random weights.
fn seeing() -> Arc<PairReader> {
    Arc::new(PairReader::new(folder(), ReaderArgs::default(), Device::Cpu).unwrap())
}

/// A reader whose `[CLS]` sees no other token and whose heads tell nothing: every pair has the same
/// state, so no head on it can tell documents apart.
fn blind() -> Arc<PairReader> {
    let mut folder = folder();
    for (name, tensor) in &mut folder.tensors {
        let mixes = name.ends_with("attention.output.dense.weight");
        if mixes || name.starts_with("span.") || name.starts_with("rel.") {
            *tensor = tensor.zeros_like().unwrap();
        }
    }
    Arc::new(PairReader::new(folder, ReaderArgs::default(), Device::Cpu).unwrap())
}

fn folder() -> ModelFolder {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path(), 5).unwrap();
    ModelFolder::load(dir.path(), &Device::Cpu).unwrap()
}

fn policy(base: &Arc<PairReader>, snapshot: &PolicySnapshot) -> EncoderPolicy {
    EncoderPolicy::new(Arc::clone(base), snapshot, Device::Cpu).unwrap()
}

/// Lists whose good document is told by one word, all of them equally long.
fn requests(count: usize, seed: u64, exploration: Exploration) -> Vec<DecideRequest> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|index| {
            let good = rng.random_range(0..CANDIDATES);
            let candidate = |j: usize| {
                let (id, word) =
                    if j == good { ("good".to_owned(), "zzzz") } else { (format!("d{j}"), "qqqq") };
                let text = format!("of the {word} {word}");
                let document = Document { id: id.as_str().into(), text, ..Default::default() };
                Candidate { document, score: 0.0, rank: j as u32 }
            };
            DecideRequest {
                policy: None,
                id: DecisionId(format!("{index}")),
                query: Query { text: format!("what is {}", index % 10), ..Default::default() },
                candidates: (0..CANDIDATES).map(candidate).collect(),
                limits: LIMITS,
                exploration,
            }
        })
        .collect()
}

/// What `policy` serves, rewarded as planted.
fn served(policy: &mut EncoderPolicy, count: usize, seed: u64) -> Vec<Sample> {
    let exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.2 };
    let requests = requests(count, seed, exploration);
    let decisions = policy.decide(&requests, &mut StdRng::seed_from_u64(seed));
    let sample = |(request, decision): (DecideRequest, Result<Decision, _>)| {
        let decision: Decision = decision.unwrap();
        let id = |j: &u32| request.candidates[*j as usize].document.id.as_str();
        let chosen: Vec<&str> = decision.order.iter().map(id).collect();
        let reward = reward(planted(&chosen));
        let episode = Episode {
            schema: Episode::SCHEMA,
            query: request.query,
            rewrites: Vec::new(),
            candidates: request.candidates,
            decision: Some(decision),
            outcome: Outcome::Answered { answer: Answer::default() },
            degraded: None,
            assignment: None,
            interleaved: None,
            unusable_for_ope: None,
            finished_ms: 0,
            duration_ms: 0,
        };
        Sample { episode, reward, references: vec![] }
    };
    requests.into_iter().zip(decisions).map(sample).collect()
}

/// The samples of `count` served lists and as many held out.
fn batch_of(base: &Arc<PairReader>, first: &PolicySnapshot, count: usize) -> Batch {
    let mut policy = policy(base, first);
    let (train, holdout) = (served(&mut policy, count, 1), served(&mut policy, count, 2));
    Batch { train, holdout, ..Batch::default() }
}

fn settings() -> OnlineConfig {
    OnlineConfig {
        epochs: 2,
        batch_queries: 8,
        trunk_from_layer: 0,
        trunk_learning_rate: 3e-3,
        trunk_batch_queries: 3,
        ..config(Objective::Rrpo)
    }
}

fn full(config: OnlineConfig, base: &Arc<PairReader>) -> (OnlineLearner, PolicySnapshot) {
    let first = serving::first_snapshot(base.width(), 1, &Device::Cpu).unwrap();
    let learner = OnlineLearner::new(config, &first, Arc::new(Planted), Device::Cpu).unwrap();
    (learner.with_trunk(Arc::clone(base)), first)
}

fn groups_of<'a>(learner: &mut OnlineLearner, samples: &'a [Sample]) -> Vec<Group<'a>> {
    learner.prepare().unwrap();
    let mut rng = StdRng::seed_from_u64(0);
    let (config, environment) = (&learner.config, &*learner.environment);
    let champion = learner.contender();
    let cpu = Device::Cpu;
    let mut groups =
        groups::collect(config, champion, samples, environment, &cpu, &mut rng).unwrap().0;
    groups::draw_from(champion.head, config, &mut groups, environment, &cpu, &mut rng).unwrap();
    groups
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn values(live: &Live) -> Vec<Vec<f32>> {
    let numbers = |v: &Var| v.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    live.variables().map(|(_, v)| numbers(v)).collect()
}

#[test]
fn one_minibatch_reaches_every_variable_of_trunk_and_head() {
    let base = seeing();
    let (mut learner, first) =
        full(OnlineConfig { utility_weight: 1.0, singles: CANDIDATES, ..settings() }, &base);
    let batch = batch_of(&base, &first, 8);
    let groups = groups_of(&mut learner, &batch.train);
    let live = Live::new(&learner.config, &learner.champion.weights, Some(&base)).unwrap();
    let batch: Vec<&Group<'_>> = groups.iter().collect();
    let mut pass = objective::Totals::default();
    let mut rng = StdRng::seed_from_u64(0);
    let reference = learner.champion.weights.head.clone();
    let objective = Some(Objective::Rrpo);
    let phase = Phase { objective, reference: &reference, epochs: 1, rate: 1e-3 };
    let gradients =
        learner.gradients(&live, &batch, &phase, (&mut rng, 0, &mut pass)).unwrap().unwrap();
    assert!(live.trunk.as_ref().unwrap().variables().len() > 30);
    for (name, variable) in live.variables() {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name} has none"));
        let size = largest(gradient);
        // Softmax does not see what is added to every key: that slope is rounding alone.
        let unseen = name.ends_with("attention.self.key.bias");
        assert!(size > 1e-9 || unseen, "{name}: {size}");
    }
}

#[test]
fn what_was_trained_is_what_is_served() {
    let base = seeing();
    let (mut learner, first) = full(settings(), &base);
    let batch = batch_of(&base, &first, 24);
    let mut groups = groups_of(&mut learner, &batch.train);
    let live = Live::new(&learner.config, &learner.champion.weights, Some(&base)).unwrap();
    let (mut rng, mut report) = (StdRng::seed_from_u64(0), LearnReport::default());
    learner.phases(&live, &mut groups, (&mut rng, &mut report)).unwrap();
    let weights = live.weights(&learner.champion.weights).unwrap();
    let bytes = serving::to_bytes(&weights).unwrap();
    let snapshot = PolicySnapshot::new(PolicyVersion(1), Some(first.version), "full", bytes);

    let mut serving = policy(&base, &first);
    let requests = requests(24, 1, Exploration::Greedy);
    let old = serving.decide(&requests, &mut StdRng::seed_from_u64(0));
    serving.swap(&snapshot).unwrap();
    let new = serving.decide(&requests, &mut StdRng::seed_from_u64(0));
    let mut moved = 0.0f32;
    for (group, (old, new)) in groups.iter().zip(old.into_iter().zip(new)) {
        let (old, new) = (old.unwrap(), new.unwrap());
        // The service of before logged what the champion saw: the trunk's part has changed.
        let (n, width) = (CANDIDATES, group.states.width());
        let logged =
            Tensor::from_slice(group.states.values(), (1, n, width), &Device::Cpu).unwrap();
        let trunk = live.trunk.as_ref().unwrap();
        let states = objective::read_anew(trunk, &logged, &[group], base.width()).unwrap();
        let present = Tensor::ones((1, n), candle_core::DType::F32, &Device::Cpu).unwrap();
        let scores = live.head.forward(&states, &present).unwrap().logits(0, n).unwrap().scores;
        for ((trained, served), before) in scores.iter().zip(&new.scores).zip(&old.scores) {
            assert!((trained - f64::from(*served)).abs() < 1e-4, "{trained} against {served}");
            moved = moved.max((served - before).abs());
        }
        for (old, new) in old.states.values().chunks(width).zip(new.states.values().chunks(width)) {
            assert_eq!(old[base.width()..], new[base.width()..], "a scalar moved with the trunk");
            assert_ne!(old[..base.width()], new[..base.width()]);
        }
    }
    assert!(moved > 1e-3, "nothing was trained: {moved}");
}

#[test]
fn a_trunk_learns_what_no_head_on_a_blind_one_can() {
    let base = blind();
    let settings = OnlineConfig {
        epochs: 12,
        batch_queries: 16,
        trunk_batch_queries: 8,
        trunk_learning_rate: 1e-2,
        ..settings()
    };
    let (mut learner, first) = full(settings.clone(), &base);
    let batch = batch_of(&base, &first, 64);
    let (candidate, report) = learner.update(&batch, PolicyVersion(1)).unwrap();
    assert_eq!((report.samples, report.steps), (64, 48));
    let trained = learner.examine(&candidate, &batch.holdout).unwrap();
    assert!(trained.accepted && trained.candidate > 0.85, "{}", trained.reason);

    let head = OnlineLearner::new(settings, &first, Arc::new(Planted), Device::Cpu);
    let mut head = head.unwrap();
    let (alone, _) = head.update(&batch, PolicyVersion(1)).unwrap();
    let alone = head.examine(&alone, &batch.holdout).unwrap();
    assert!(trained.candidate > alone.candidate + 0.1, "{} {}", trained.reason, alone.reason);

    // The examination is true of the service: what it serves now earns what was promised.
    let mut policy = policy(&base, &candidate);
    let requests = requests(64, 2, Exploration::Greedy);
    let decisions = policy.decide(&requests, &mut StdRng::seed_from_u64(0));
    let earned = requests.iter().zip(decisions).map(|(request, decision)| {
        let order = decision.unwrap().order;
        let id = |j: u32| request.candidates[j as usize].document.id.as_str();
        planted(&order.into_iter().map(id).collect::<Vec<_>>())
    });
    let earned = earned.sum::<f64>() / 64.0;
    assert!((earned - trained.candidate).abs() < 1e-9, "{earned} against {}", trained.candidate);
}

#[test]
fn a_second_update_reads_the_samples_of_the_first_policy_anew() {
    let base = seeing();
    let (mut learner, first) = full(settings(), &base);
    let batch = batch_of(&base, &first, 24);
    let (second, _) = learner.update(&batch, PolicyVersion(1)).unwrap();
    learner.adopt(&second).unwrap();
    let mut serving = policy(&base, &second);
    let own = served(&mut serving, 4, 7);
    let champion = learner.contender();
    // Its own samples are as they were logged; those of the first policy are as it would log them.
    for sample in &own {
        let logged = &sample.episode.decision.as_ref().unwrap().states;
        assert_eq!(&*champion.states(sample).unwrap().unwrap(), logged);
    }
    for sample in &batch.train[..4] {
        let request = DecideRequest {
            id: DecisionId::default(),
            query: sample.episode.query.clone(),
            candidates: sample.episode.candidates.clone(),
            policy: None,
            limits: LIMITS,
            exploration: Exploration::Greedy,
        };
        let decision = serving.decide(&[request], &mut StdRng::seed_from_u64(0)).remove(0);
        let anew = champion.states(sample).unwrap().unwrap();
        assert_ne!(*anew, sample.episode.decision.as_ref().unwrap().states);
        for (a, b) in anew.values().iter().zip(decision.unwrap().states.values()) {
            assert!((a - b).abs() < 2e-3, "{a} against {b}");
        }
    }
    let (third, report) = learner.update(&batch, PolicyVersion(2)).unwrap();
    assert_eq!((third.parent, report.refused), (Some(PolicyVersion(1)), 0));
    assert_eq!(third.recipe, "online/rrpo/full");
    assert!(policy(&base, &first).swap(&third).is_ok());
}

#[test]
fn only_the_layers_that_were_trained_are_carried_and_earlier_ones_stay() {
    let base = seeing();
    let (mut learner, first) = full(OnlineConfig { trunk_from_layer: 2, ..settings() }, &base);
    let batch = batch_of(&base, &first, 16);
    let (top, _) = learner.update(&batch, PolicyVersion(1)).unwrap();
    let names = |snapshot: &PolicySnapshot| -> Vec<String> {
        let weights = serving::from_snapshot(snapshot, &Device::Cpu).unwrap();
        weights.trunk.unwrap().keys().cloned().collect()
    };
    assert_eq!(names(&top).len(), 16);
    assert!(names(&top).iter().all(|name| name.starts_with("encoder.layer.1.")));
    let (mut learner, _) = full(OnlineConfig { trunk_from_layer: 0, ..settings() }, &base);
    let (all, _) = learner.update(&batch, PolicyVersion(1)).unwrap();
    assert_eq!(names(&all).len(), 5 + 32);
    learner.adopt(&all).unwrap();
    learner.config.trunk_from_layer = 2;
    let (after, _) = learner.update(&batch, PolicyVersion(2)).unwrap();
    assert_eq!(names(&after), names(&all));
    learner.config.trunk_from_layer = 3;
    let error = learner.update(&batch, PolicyVersion(3)).unwrap_err().to_string();
    assert!(error.contains("trunk_from_layer is 3, the encoder has 2 layers"), "{error}");
}

#[test]
fn a_gradient_that_is_not_a_number_leaves_everything_as_it_was() {
    let base = seeing();
    let (learner, _) = full(settings(), &base);
    let live = Live::new(&learner.config, &learner.champion.weights, Some(&base)).unwrap();
    let mut steps = Steps::new(&learner.config, &live, (1e-3, 10));
    let before = values(&live);
    for part in ["encoder.layer.1.output.dense.weight", "score.weight"] {
        let mut gradients = GradStore::default();
        for (name, variable) in live.variables() {
            let slope = if name == part { f64::NAN } else { 0.1 };
            gradients.insert(variable, (variable.ones_like().unwrap() * slope).unwrap());
        }
        let error = steps.step(&live, &gradients).unwrap_err();
        assert!(matches!(error, OptimizerError::NotFinite { step: 1, .. }), "{part}: {error}");
        assert_eq!(values(&live), before, "{part}");
    }
}

#[test]
fn a_trunk_that_overflows_is_no_candidate_and_the_champion_stays() {
    let base = seeing();
    let (mut learner, first) = full(settings(), &base);
    let batch = batch_of(&base, &first, 16);
    let mut weights = serving::from_snapshot(&first, &Device::Cpu).unwrap();
    let mut trunk = live_tensors(&learner, &base);
    for (name, tensor) in &mut trunk {
        if name.contains("attention.self") && name.ends_with("weight") {
            *tensor = (tensor.zeros_like().unwrap() + 3e38).unwrap();
        }
    }
    weights.trunk = Some(Arc::new(trunk));
    let bytes = serving::to_bytes(&weights).unwrap();
    let broken = PolicySnapshot::new(PolicyVersion(1), None, "broken", bytes);
    let error = learner.examine(&broken, &batch.holdout).unwrap_err();
    assert!(matches!(error, LearnError::Model(_)), "{error}");
    let mut stuck =
        OnlineLearner::new(settings(), &broken, Arc::new(Planted), Device::Cpu).unwrap();
    stuck = stuck.with_trunk(Arc::clone(&base));
    let mut logged = batch.clone();
    for sample in &mut logged.train {
        sample.episode.decision.as_mut().unwrap().policy.digest = broken.digest.clone();
    }
    let error = stuck.update(&logged, PolicyVersion(2)).unwrap_err();
    assert!(matches!(error, LearnError::Diverged { step: 0, .. }), "{error}");
    assert_eq!(stuck.champion.stamp.digest, broken.digest);
    let (fresh, _) = full(settings(), &base);
    let mut fresh = fresh;
    let expected = fresh.update(&batch, PolicyVersion(1)).unwrap().0.digest;
    assert_eq!(learner.update(&batch, PolicyVersion(1)).unwrap().0.digest, expected);
}

/// Every tensor of the trunk as the learner would train it.
fn live_tensors(
    learner: &OnlineLearner,
    base: &Arc<PairReader>,
) -> std::collections::BTreeMap<String, Tensor> {
    let live = Live::new(&learner.config, &learner.champion.weights, Some(base)).unwrap();
    live.trunk.unwrap().snapshot().unwrap()
}

#[test]
fn a_seed_repeats_a_trunk_bit_for_bit() {
    let base = seeing();
    let digest = |seed: u64| {
        let (mut learner, first) = full(OnlineConfig { seed, ..settings() }, &base);
        let batch = batch_of(&base, &first, 16);
        learner.update(&batch, PolicyVersion(1)).unwrap().0.digest
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}

#[test]
fn a_text_that_cannot_be_read_refuses_its_sample_alone() {
    let base = seeing();
    let (mut learner, first) = full(settings(), &base);
    let mut batch = batch_of(&base, &first, 24);
    batch.train[3].episode.query.text = "word ".repeat(20_000);
    let (_, report) = learner.update(&batch, PolicyVersion(1)).unwrap();
    assert_eq!((report.refused, report.samples), (1, 23));
}
