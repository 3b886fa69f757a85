//! Shortlists over a policy whose choices are written in the documents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixed::FixedK;
use crate::policy::pointwise::ranking;
use actors::types::{Candidate, Document, Gate, SelectionLimits};
use rand::SeedableRng as _;
use std::sync::{Arc, Mutex};

/// Takes the documents whose text is a number above 0, largest first, up to k_max; a text of `?`
/// makes it choose a candidate that is not there.
#[derive(Clone, Default)]
struct Marked {
    seen: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Policy for Marked {
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        _rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        let one = |request: &DecideRequest| {
            let texts = request.candidates.iter().map(|c| c.document.text.as_str());
            let scores: Vec<f32> =
                texts.clone().map(|text| text.parse().unwrap_or_default()).collect();
            let ids = request.candidates.iter().map(|c| c.document.id.0.clone());
            self.seen.lock().unwrap().push(ids.collect());
            let chosen = ranking(&scores).into_iter().filter(|place| scores[*place] > 0.0);
            let mut order: Vec<u32> =
                chosen.map(|p| p as u32).take(request.limits.k_max as usize).collect();
            if texts.clone().any(|text| text == "?") {
                order.push(scores.len() as u32);
            }
            if texts.clone().any(|text| text == "!") {
                order.extend([0, 0]);
            }
            let tokens = texts.map(|text| text.len() as u32).collect();
            let mut decision = unlearned(request, "marked", (order, scores, tokens));
            decision.exploration = request.exploration;
            Ok(decision)
        };
        requests.iter().map(one).collect()
    }

    fn swap(&mut self, _snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        Ok(())
    }

    fn stamp(&self) -> PolicyStamp {
        crate::policy::baselines::stamp("marked")
    }
}

fn request(texts: &[&str], k_max: u32) -> DecideRequest {
    let candidate = |(place, text): (usize, &&str)| Candidate {
        document: Document {
            id: format!("d{place}").as_str().into(),
            text: (*text).to_owned(),
            ..Document::default()
        },
        score: -(place as f32),
        rank: place as u32,
    };
    DecideRequest {
        policy: None,
        id: "decision".into(),
        query: Query { text: "q".to_owned(), ..Query::default() },
        candidates: texts.iter().enumerate().map(candidate).collect(),
        limits: SelectionLimits { k_min: 0, k_max, token_budget: 10_000 },
        exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.1 },
    }
}

fn decide(
    inner: impl Policy + 'static,
    (window, rounds_max): (usize, usize),
    request: &DecideRequest,
) -> Result<Decision, PolicyError> {
    let mut shortlist = Shortlist::new(Box::new(inner), window, rounds_max).unwrap();
    let mut rng = StdRng::seed_from_u64(0);
    shortlist.decide(std::slice::from_ref(request), &mut rng).pop().unwrap()
}

/// n documents of text `0` but for some.
fn texts<'a>(n: usize, marked: &[(usize, &'a str)]) -> Vec<&'a str> {
    let mut texts = vec!["0"; n];
    for (place, text) in marked {
        texts[*place] = text;
    }
    texts
}

#[test]
fn documents_of_every_block_keep_their_own_names() {
    // The released code of DynamicRAG took an index within a block for one of the whole list, so
    // that block 2 onwards stood for the documents of the first: 3, 5 and 19 here.
    let marked = [(23, "9"), (45, "8"), (499, "7"), (2, "5")];
    let request = request(&texts(500, &marked), 10);
    let decision = decide(Marked::default(), (20, 5), &request).unwrap();
    assert_eq!(decision.order, [23, 45, 499, 2], "by the policy's order, in places of the list");
    let names: Vec<&str> = decision
        .order
        .iter()
        .map(|place| request.candidates[*place as usize].document.text.as_str())
        .collect();
    assert_eq!(names, ["9", "8", "7", "5"]);
}

#[test]
fn a_list_that_fits_is_the_inner_policys_own_decision() {
    let request = request(&texts(20, &[(4, "2"), (7, "3")]), 10);
    let decision = decide(Marked::default(), (20, 5), &request).unwrap();
    let mut rng = StdRng::seed_from_u64(0);
    let own = Marked::default().decide(std::slice::from_ref(&request), &mut rng).pop().unwrap();
    assert_eq!(decision, own.unwrap());
    assert!(decision.is_explored(), "one block can be explored: its probability is exact");
}

#[test]
fn a_longer_list_is_decided_greedily_and_says_so() {
    let request = request(&texts(41, &[(40, "2"), (7, "33")]), 10);
    let decision = decide(Marked::default(), (20, 5), &request).unwrap();
    assert_eq!(decision.order, [7, 40]);
    assert!(!decision.is_explored());
    assert!(decision.step_log_probs.iter().all(|p| *p == 0.0));
    assert_eq!(decision.states.rows(), 0);
    assert_eq!((decision.scores.len(), decision.candidate_tokens.len()), (41, 41));
    assert_eq!(decision.candidate_tokens[7], 2);
    assert_eq!(decision.candidate_tokens[40], 1);
    assert_eq!(decision.limits, request.limits);
    let by_score = ranking(&decision.scores);
    assert_eq!(by_score[..3], [7, 40, 0], "what was dropped ranks below, in retrieval order");
}

#[test]
fn what_was_dropped_later_ranks_higher() {
    // Round 1: blocks of 4 keep 2 each, 8 of 16. Round 2: 4 of 8 are left. Final: 2.
    let numbers: Vec<String> = (0..16).map(|n| (16 - n).to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let inner = Marked::default();
    let decision = decide(inner.clone(), (4, 5), &request(&numbers, 2)).unwrap();
    assert_eq!(decision.order, [0, 1]);
    let seen = inner.seen.lock().unwrap();
    assert_eq!(seen.len(), 4 + 2 + 1);
    assert_eq!(seen[4], ["d0", "d1", "d4", "d5"], "the union is in retrieval order");
    assert_eq!(seen[6], ["d0", "d1", "d8", "d9"]);
    assert_eq!(ranking(&decision.scores)[..10], [0, 1, 8, 9, 4, 5, 12, 13, 2, 3]);
}

#[test]
fn a_policy_that_keeps_everything_comes_to_an_end() {
    let numbers: Vec<&str> = vec!["1"; 100];
    let inner = Marked::default();
    let decision = decide(inner.clone(), (20, 50), &request(&numbers, 100)).unwrap();
    let calls = inner.seen.lock().unwrap().len();
    assert_eq!(calls, 5 + 1, "one round that drops nothing, and the final list");
    // The first four of each block of 20, equally good.
    assert_eq!(
        decision.order,
        [0, 1, 2, 3, 20, 21, 22, 23, 40, 41, 42, 43, 60, 61, 62, 63, 80, 81, 82, 83]
    );
}

#[test]
fn rounds_are_bounded_and_the_final_list_too() {
    // A block of 10 keeps 9: 100, 90, 81, … would take many rounds.
    let numbers: Vec<&str> = vec!["1"; 100];
    let inner = Marked::default();
    let decision = decide(inner.clone(), (10, 2), &request(&numbers, 9)).unwrap();
    let seen = inner.seen.lock().unwrap();
    assert_eq!(seen.len(), 10 + 9 + 1);
    assert_eq!(seen.last().unwrap().len(), 10);
    assert_eq!(decision.order.len(), 9);
    assert!(seen.iter().all(|block| block.len() <= 10));
}

#[test]
fn a_document_found_twice_is_decided_once() {
    let mut request = request(&texts(50, &[(3, "5"), (30, "5"), (45, "4")]), 10);
    request.candidates[30].document.id = "d3".into();
    let decision = decide(Marked::default(), (20, 5), &request).unwrap();
    assert_eq!(decision.order, [3, 45]);
    assert_eq!(decision.candidate_tokens[30], decision.candidate_tokens[3]);
    assert_eq!(*ranking(&decision.scores).last().unwrap(), 30);
}

#[test]
fn nothing_selected_is_a_legal_end() {
    let decision = decide(Marked::default(), (20, 5), &request(&texts(100, &[]), 10)).unwrap();
    assert!(decision.order.is_empty());
    assert_eq!(decision.gate, Gate::Retrieve);
    assert_eq!(ranking(&decision.scores), (0..100).collect::<Vec<_>>());
}

#[test]
fn an_inner_policy_that_chooses_what_is_not_there_is_an_error() {
    for text in ["?", "!"] {
        let request = request(&texts(50, &[(33, text)]), 10);
        let error = decide(Marked::default(), (20, 5), &request).unwrap_err().to_string();
        assert!(error.contains("of a block of 20"), "{error}");
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let told = |window, rounds_max| {
        let made = Shortlist::new(Box::new(FixedK::new(1)), window, rounds_max);
        made.err().map(|error| error.to_string())
    };
    assert_eq!(told(2, 1), None);
    let expected = "cannot shortlist with `window` = 1; expected a number from 2";
    assert_eq!(told(1, 1).as_deref(), Some(expected));
    assert!(told(20, 0).unwrap().contains("`rounds_max` = 0"));
}
