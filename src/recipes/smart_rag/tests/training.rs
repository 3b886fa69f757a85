//! Samples, warm-up and PPO: labels, the ratio, seeds, resumption, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;

fn config() -> SmartRagConfig {
    SmartRagConfig {
        seed: 4,
        hidden: 8,
        warmup_epochs: 2,
        iterations: 3,
        questions: 6,
        rollouts: 2,
        minibatches: 2,
        validate_every: 2,
        ..SmartRagConfig::default()
    }
}

/// The bytes of what was trained, and the events.
async fn trained(
    config: &SmartRagConfig,
    checkpoints: Option<PathBuf>,
) -> Result<(Vec<u8>, Vec<Event>), RecipeError> {
    let (world, queries) = (world(), (0..24).map(query).collect::<Vec<_>>());
    let start = PolicyWeights::untrained(3, 1, &Device::Cpu).unwrap();
    let plan = Plan {
        world: &world,
        queries: &queries,
        start: &start,
        limits: LIMITS,
        config,
        checkpoints,
        device: Device::Cpu,
    };
    let mut events = Vec::new();
    let trained = train(&plan, &mut |event| events.push(event)).await?;
    Ok((to_bytes(&trained.weights).unwrap(), events))
}

#[tokio::test]
async fn the_best_branch_of_each_kind_of_question_is_the_label() {
    let (world, config) = (world(), SmartRagConfig::default());
    let rules = Rules::greedy(2, LIMITS);
    let mut lessons = Vec::new();
    for (number, best, worth) in
        [(2, Move::Answer, 2.0), (1, ASK, 1.8), (3, WORDS, 1.8), (5, ASK, 1.8)]
    {
        let lesson = lesson(&world, &query(number), &rules, &config).await.unwrap();
        let first = &lesson.turns[0];
        assert_eq!((first.best, first.retrievals), (best, 0), "riddle {number}");
        assert!((first.worth - worth).abs() < 1e-12);
        lessons.push(lesson);
    }
    // After the question as asked found nothing, the content words still help.
    let second = lessons[2].turns.iter().find(|t| t.retrievals == 1 && t.best == WORDS);
    assert!((second.unwrap().worth - 1.8).abs() < 1e-12);
    let kinds = Kinds::of(&lessons);
    assert!(kinds.answer_directly == 1 && kinds.retrieve >= 4, "{kinds:?}");
    assert!(kinds.answer_from_observation >= 3, "{kinds:?}");
    // Selections are cloned where one earned something: the good document alone.
    let (list, order) = &lessons[1].selections[0];
    assert_eq!(list.documents(order)[0].id.as_str(), "good");
    assert_eq!(order.len(), 1);
}

#[tokio::test]
async fn the_ratio_is_one_before_the_first_step() {
    let (world, policy, mut rng) = (world(), policy(2), StdRng::seed_from_u64(2));
    let mut played = Vec::new();
    for number in 0..20 {
        let rules = sampled(2, 0.0);
        played.push(play(&world, &policy, &query(number), &rules, &mut rng).await.unwrap());
    }
    assert!(played.iter().any(|t| t.order.len() > 1) && played.iter().any(|t| t.list.is_none()));
    for ratio in optimise::ratios(&policy, played, LIMITS).unwrap() {
        // The log is summed in f64, the loss in f32.
        assert!((ratio - 1.0).abs() < 1e-5, "{ratio}");
    }
}

#[tokio::test]
async fn a_seed_repeats_its_weights_and_another_does_not() {
    let (first, events) = trained(&config(), None).await.unwrap();
    assert_eq!(trained(&config(), None).await.unwrap().0, first);
    let other = SmartRagConfig { seed: 5, ..config() };
    assert_ne!(trained(&other, None).await.unwrap().0, first);
    let weights: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Iterated { figures } => Some(figures.kl_weight),
            _ => None,
        })
        .collect();
    // No divergence yet: the weight falls by its largest step, 0.1 · 0.2.
    assert_eq!(weights.len(), 3);
    assert!((weights[1] / weights[0] - 0.98).abs() < 1e-6, "{weights:?}");
}

#[tokio::test]
async fn a_run_that_went_on_from_checkpoints_ends_in_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let place = || Some(folder.path().to_owned());
    let (whole, _) = trained(&config(), None).await.unwrap();
    assert_eq!(trained(&config(), place()).await.unwrap().0, whole);
    // Killed in the middle of PPO: the last iteration is missing from the checkpoint.
    std::fs::remove_file(folder.path().join("ppo.checkpoint.safetensors")).unwrap();
    let (resumed, events) = trained(&config(), place()).await.unwrap();
    assert_eq!(resumed, whole);
    assert!(!events.iter().any(|event| matches!(event, Event::WarmedUp { pass: 1, .. })));
    let other = SmartRagConfig { gamma: 0.5, ..config() };
    let error = trained(&other, place()).await.unwrap_err();
    assert!(matches!(error, RecipeError::OtherRun { .. }), "{error}");
}

#[tokio::test]
async fn settings_out_of_bounds_and_empty_data_are_refused_by_name() {
    let wrong = SmartRagConfig { clip: 0.0, ..config() };
    let error = trained(&wrong, None).await.unwrap_err();
    assert_eq!(error.to_string(), "setting `smart_rag.clip` must be a number between 0 and 1");
    let (world, start) = (world(), PolicyWeights::untrained(3, 1, &Device::Cpu).unwrap());
    let plan = Plan {
        world: &world,
        queries: &[],
        start: &start,
        limits: LIMITS,
        config: &config(),
        checkpoints: None,
        device: Device::Cpu,
    };
    let error = train(&plan, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, RecipeError::Nothing { .. }), "{error}");
}

#[tokio::test]
async fn weights_that_are_no_numbers_stop_the_run_with_the_phase_named() {
    // Weights grow beyond what f32 holds within a few steps; the error names where.
    let wild = SmartRagConfig { warmup_rate: f32::MAX, ..config() };
    let error = trained(&wild, None).await.unwrap_err().to_string();
    let named = error.contains("warmup stopped at step") || error.contains("not finite");
    assert!(named, "{error}");
}

#[tokio::test]
async fn a_contestant_reports_what_it_did() {
    use crate::evaluate::{Asked, Contestant, Setting};
    let question = crate::datasets::Question {
        id: "riddle-1".into(),
        question: "what is the riddle 1".into(),
        answers: vec!["answer 1".into()],
        ..Default::default()
    };
    let asked_query = question.to_query();
    let asked = Asked { question: &question, query: &asked_query, candidates: &[] };
    let setting = Setting { index: &Riddles, generator: &Riddles, top_n: 2, limits: LIMITS };
    let world = Arc::new(world());
    for (gate, retrievals, answer) in [(Gate::Always, 1, "answer 1"), (Gate::Never, 0, "nonsense")]
    {
        let rules = Rules::greedy(2, LIMITS).with_gate(gate);
        let mut contestant = SmartRag::new(Arc::clone(&world), policy(1), rules);
        let attempt = contestant.attempt(&asked, &setting).await.unwrap();
        assert_eq!((attempt.retrievals, attempt.answer.text.as_str()), (retrievals, answer));
        assert_eq!(attempt.ranking.len(), 2 * retrievals as usize);
        assert_eq!(attempt.reader_calls as usize, attempt.documents.len());
    }
}
