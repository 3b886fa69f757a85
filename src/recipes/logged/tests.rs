//! Learning from the log in a world whose rewards are known: what a thumb can teach, and what it must
//! not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod answering;

use super::*;
use crate::policy::features::SCALARS;
use crate::policy::selection::{Masks, select};
use crate::policy::serving::PolicyWeights;
use crate::recipes::gate::GateConfig;
use crate::recipes::online::list_logits;
use actors::ports::Examination;
use actors::types::{
    Answer, Candidate, CandidateStates, Decision, DecisionId, Document, Exploration, Gate, Outcome,
    PolicyStamp, Query, Reward, RewardPart, SelectionLimits,
};
use rand::Rng;

const EMBEDDING: usize = 4;
const N: usize = 5;
const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 2, token_budget: 1_000 };
const SAMPLED: Exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.2 };

/// How thumbs come about.
#[derive(Clone, Copy, PartialEq)]
enum Thumbs {
    /// Up with the list's worth; one in ten turned round.
    Honest,
    /// A coin.
    Noise,
    /// One user in ten says the opposite of all they think.
    OneInTenInverted,
}

struct World {
    champion: Head,
    exploration: Exploration,
    thumbs: Thumbs,
    /// Chance that a decision of this worth is answered, by what would be said.
    answered: fn(f64, bool) -> f64,
    shift: f64,
    /// What the good document is worth alone, and beside another.
    alone: f64,
    beside: f64,
    /// What the reward of a list loses by each document, whatever becomes of the answer.
    price: f64,
}

impl World {
    fn new(thumbs: Thumbs) -> Self {
        let champion = PolicyWeights::untrained(EMBEDDING, 1, &Device::Cpu).unwrap().head;
        Self {
            champion,
            exploration: SAMPLED,
            thumbs,
            answered: |_, _| 1.0,
            shift: 0.0,
            alone: 0.9,
            beside: 0.6,
            price: 0.0,
        }
    }

    /// What a list is worth: the chance of a thumb up. Which document is good is told by the first
    /// column of the states.
    fn worth(&self, order: &[u32], good: usize) -> f64 {
        match (order.contains(&(good as u32)), order.len()) {
            (true, 1) => self.alone,
            (true, _) => self.beside,
            (false, _) => 0.1,
        }
    }

    fn list(rng: &mut StdRng) -> (CandidateStates, usize) {
        let good = rng.random_range(0..N);
        let width = EMBEDDING + SCALARS.len();
        let mut values = vec![0.0; N * width];
        for (j, row) in values.chunks_mut(width).enumerate() {
            row[..EMBEDDING].fill_with(|| rng.random_range(-1.0..1.0));
            row[0] = if j == good { 3.0 } else { -1.0 };
        }
        (CandidateStates::new(width, values).unwrap(), good)
    }

    /// `count` decisions of the champion from `from` on: the judged, and those without an answer.
    fn log(&self, count: usize, from: u64, seed: u64) -> (Vec<Sample>, Vec<Episode>) {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut samples, mut silent) = (Vec::new(), Vec::new());
        for index in 0..count as u64 {
            let (states, good) = Self::list(&mut rng);
            let logits = list_logits(&self.champion, &states, &Device::Cpu).unwrap();
            let tokens = vec![10; N];
            let masks = Masks { tokens: &tokens, limits: LIMITS };
            let selection = select(&logits, masks, self.exploration, &mut rng).unwrap();
            let worth = self.worth(&selection.order, good);
            let documents = selection.order.len();
            let mut up = rng.random_bool(worth);
            match self.thumbs {
                Thumbs::Honest => up ^= rng.random_bool(0.1),
                Thumbs::Noise => up = rng.random_bool(0.5),
                Thumbs::OneInTenInverted => up ^= index % 10 == 0,
            }
            let decision = decision(from + index, selection, states, self.exploration);
            let episode = episode(from + index, decision);
            if rng.random_bool((self.answered)(worth, up)) {
                let total = f64::from(u8::from(up)) * (1.0 - self.shift) + self.shift;
                let reward = self.reward(total, documents);
                samples.push(Sample { episode, reward, references: vec![] });
            } else {
                silent.push(episode);
            }
        }
        (samples, silent)
    }

    fn reward(&self, value: f64, documents: usize) -> Reward {
        let mut parts = vec![RewardPart::new("human", value, 1.0 - self.price * 2.0)];
        if self.price > 0.0 {
            parts.push(RewardPart::new("document_cost", documents as f64, -self.price));
            parts.push(RewardPart::new("range", self.price * 2.0, 1.0));
        }
        Reward::from_parts(parts).unwrap()
    }

    /// What a head serving greedily is worth and how many documents it takes, over lists that were
    /// never logged.
    fn serve(&self, head: &Head) -> (f64, f64) {
        let mut rng = StdRng::seed_from_u64(99);
        let lists = 300;
        let (mut worth, mut documents) = (0.0, 0.0);
        for _ in 0..lists {
            let (states, good) = Self::list(&mut rng);
            let logits = list_logits(head, &states, &Device::Cpu).unwrap();
            let masks = Masks { tokens: &[10; N], limits: LIMITS };
            let order = select(&logits, masks, Exploration::Greedy, &mut rng).unwrap().order;
            worth += self.worth(&order, good) / f64::from(lists);
            documents += order.len() as f64 / f64::from(lists);
        }
        (worth, documents)
    }

    fn value(&self, head: &Head) -> f64 {
        self.serve(head).0
    }
}

fn decision(
    index: u64,
    selection: crate::policy::selection::Selection,
    states: CandidateStates,
    exploration: Exploration,
) -> Decision {
    Decision {
        id: DecisionId(format!("{index:06}")),
        gate: Gate::Retrieve,
        rewrite: 0,
        order: selection.order,
        step_log_probs: selection.step_log_probs,
        scores: vec![0.0; N],
        exploration,
        limits: LIMITS,
        deviates: None,
        candidate_tokens: vec![10; N],
        states,
        policy: PolicyStamp::default(),
    }
}

fn episode(index: u64, decision: Decision) -> Episode {
    let candidates = (0..N).map(|j| Candidate {
        document: Document { id: format!("d{j}").as_str().into(), ..Default::default() },
        score: 0.0,
        rank: j as u32,
    });
    Episode {
        schema: Episode::SCHEMA,
        query: Query { text: format!("q{index}"), ..Default::default() },
        rewrites: Vec::new(),
        candidates: candidates.collect(),
        decision: Some(decision),
        outcome: Outcome::Answered { answer: Answer::default() },
        degraded: None,
        assignment: None,
        interleaved: None,
        unusable_for_ope: None,
        finished_ms: index * 1_000,
        duration_ms: 0,
    }
}

fn recipe<'a>(config: &'a LoggedConfig, kind: Kind, seed: u64) -> Recipe<'a> {
    Recipe {
        config,
        kind,
        temperature: 1.0,
        weight_decay: 0.05,
        gradient_norm_max: 1.0,
        device: &Device::Cpu,
        seed,
        before: None,
    }
}

/// One update on the older 7 of 10 decisions, examined on the others.
fn learn(
    world: &World,
    config: &LoggedConfig,
    kind: Kind,
    sizes: (usize, u64),
) -> Result<(Head, LearnReport, Examination), LearnError> {
    let (head, report, (examination, _)) = look(world, config, kind, sizes)?;
    Ok((head, report, examination))
}

/// As [`learn`], with whether a look was taken.
fn look(
    world: &World,
    config: &LoggedConfig,
    kind: Kind,
    (count, seed): (usize, u64),
) -> Result<(Head, LearnReport, (Examination, bool)), LearnError> {
    let recipe = recipe(config, kind, seed);
    let (train, unanswered) = world.log(count * 7 / 10, 0, seed * 2 + 1);
    let (holdout, _) = world.log(count * 3 / 10, count as u64, seed * 2 + 2);
    let batch = Batch { train, unanswered, ..Batch::default() };
    let (head, report, knowledge) = update(&recipe, &world.champion, &batch)?;
    let gate = GateConfig { tolerance: 0.1, ..GateConfig::default() };
    let heads = (&world.champion, &head);
    let found = examine((&gate, &recipe), heads, &holdout, &knowledge, 1)?;
    Ok((head, report, found))
}

#[test]
fn thumbs_alone_find_the_good_document_and_the_length_of_the_list() {
    let world = World::new(Thumbs::Honest);
    let before = world.value(&world.champion);
    for kind in [Kind::DoublyRobust, Kind::Weighted, Kind::SelfNormalised] {
        let (head, report, examination) =
            learn(&world, &LoggedConfig::default(), kind, (1_500, 3)).unwrap();
        let after = world.value(&head);
        assert!(after > 0.8 && before < 0.4, "{kind:?}: {before} to {after}; {report:?}");
        assert!(examination.accepted, "{kind:?}: {}", examination.reason);
    }
}

#[test]
fn a_document_is_added_where_it_adds_more_than_its_price() {
    let documents = |price| {
        let world = World { alone: 0.6, beside: 0.8, price, ..World::new(Thumbs::Honest) };
        let (head, ..) =
            learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (1_500, 3)).unwrap();
        world.serve(&head).1
    };
    // Thumbs rise by 0.16 of 0.2 with the second: one in ten is turned round.
    let (free, dear) = (documents(0.0), documents(0.2));
    assert!(free > 1.8, "{free} documents where they complete each other and cost nothing");
    assert!(dear < 1.2, "{dear} documents where the second costs more than it brings");
}

#[test]
fn noise_teaches_nothing_and_is_not_let_through() {
    let world = World::new(Thumbs::Noise);
    let seeds = 40;
    let passed = (0..seeds).filter(|seed| {
        let found = learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (600, *seed));
        found.is_ok_and(|(_, _, examination)| examination.accepted)
    });
    let passed = passed.count();
    assert!(passed <= 2, "{passed} of {seeds} candidates passed on coin flips");
}

#[test]
fn no_error_rate_is_spent_on_a_candidate_that_nothing_can_be_told_of() {
    let found = |share| {
        let exploration = Exploration::Explore { share, temperature: 1.0, epsilon: 0.5 };
        let world = World { exploration, ..World::new(Thumbs::Honest) };
        let config = LoggedConfig::default();
        let (.., found) = look(&world, &config, Kind::DoublyRobust, (1_500, 3)).unwrap();
        found
    };
    let (examination, is_taken) = found(0.01);
    let text = examination.reason;
    assert!(!is_taken && !examination.accepted, "{text}");
    assert!(text.contains("varied too little") && text.contains("further answers"), "{text}");
    let (examination, is_taken) = found(1.0);
    assert!(is_taken && examination.accepted, "{}", examination.reason);
}

#[test]
fn one_client_in_ten_who_says_the_opposite_does_not_stop_it() {
    let world = World::new(Thumbs::OneInTenInverted);
    let (head, _, examination) =
        learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (1_500, 5)).unwrap();
    assert!(world.value(&head) > 0.8 && examination.accepted, "{}", examination.reason);
}

#[test]
fn greedy_decisions_support_nothing_and_the_refusal_says_what_to_do() {
    let world = World { exploration: Exploration::Greedy, ..World::new(Thumbs::Honest) };
    let error = learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (600, 1))
        .map(|_| ())
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, LearnError::TooLittle(_)), "{text}");
    assert!(text.contains("420 no_support") && text.contains("share of exploration"), "{text}");
}

#[test]
fn a_constant_added_to_every_reward_moves_no_weight_of_snips() {
    let config = LoggedConfig { variance_weight: 0.0, steps: 60, ..LoggedConfig::default() };
    let of = |shift| {
        // Half the scale and a shift: the affine map of a declared range.
        let world = World { shift, ..World::new(Thumbs::Honest) };
        let (train, _) = world.log(400, 0, 7);
        let batch = Batch { train, ..Batch::default() };
        let (head, ..) =
            update(&recipe(&config, Kind::SelfNormalised, 1), &world.champion, &batch).unwrap();
        world.value(&head)
    };
    assert!((of(0.0) - of(0.3)).abs() < 0.05);
}

/// Share of the lists of which some vote is for another first document than the head's; with a width,
/// lists such as no reward was ever given for.
fn disputed(head: &Head, width: f32) -> f64 {
    let mut rng = StdRng::seed_from_u64(5);
    let lists = 200;
    let differ = (0..lists).filter(|_| {
        let (mut states, _) = World::list(&mut rng);
        if width > 0.0 {
            let mut values = states.values().to_vec();
            values.chunks_mut(EMBEDDING + SCALARS.len()).for_each(|row| {
                row[..EMBEDDING].fill_with(|| rng.random_range(-width..width));
            });
            states = CandidateStates::new(EMBEDDING + SCALARS.len(), values).unwrap();
        }
        let logits = list_logits(head, &states, &Device::Cpu).unwrap();
        assert_eq!(logits.ensemble.len(), LoggedConfig::default().reward_model.folds);
        let best = |scores: &[f64]| (0..N).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        logits.ensemble.iter().any(|member| best(member) != best(&logits.scores))
    });
    differ.count() as f64 / f64::from(lists)
}

#[test]
fn votes_differ_where_little_is_known_and_agree_where_rewards_were_clear() {
    let world = World::new(Thumbs::Honest);
    let (head, ..) =
        learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (1_500, 3)).unwrap();
    let (known, foreign) = (disputed(&head, 0.0), disputed(&head, 3.0));
    assert!(known < 0.1 && foreign > 0.2 && foreign > 3.0 * known, "{known} and {foreign}");
}

#[test]
fn an_update_starts_from_the_moments_of_the_one_before_and_makes_as_many_passes_as_asked() {
    let world = World::new(Thumbs::Honest);
    let config = LoggedConfig { steps: 5, passes: 4.0, ..LoggedConfig::default() };
    let (train, _) = world.log(400, 0, 7);
    let batch = Batch { train, ..Batch::default() };
    let recipe = recipe(&config, Kind::Weighted, 1);
    let (_, report, first) = update(&recipe, &world.champion, &batch).unwrap();
    assert_eq!(report.steps, 50, "4 passes of 400 decisions, 32 at a time");
    let recipe = Recipe { before: Some(&first), ..recipe };
    let (_, report, second) = update(&recipe, &world.champion, &batch).unwrap();
    assert_eq!((report.steps, second.optimizer.steps()), (50, 100));
}

#[test]
fn a_seed_repeats_bit_for_bit() {
    let world = World::new(Thumbs::Honest);
    let of = || {
        let (head, ..) =
            learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (300, 4)).unwrap();
        head.tensors()["score.weight"].to_vec1::<f32>().unwrap()
    };
    assert_eq!(of(), of());
}
