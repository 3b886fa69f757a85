//! What the bundled questions must be for the demonstration to show anything.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use std::collections::{BTreeSet, HashMap};

#[test]
fn answers_stand_in_their_passages_and_sources_contradict_each_other() {
    let passages: HashMap<String, Document> =
        passages().unwrap().into_iter().map(|p| (p.id.0.clone(), p)).collect();
    let questions = questions().unwrap();
    assert!(questions.len() >= 2_000, "{} questions", questions.len());
    let (mut disputed, mut held_twice) = (0, 0);
    for question in &questions {
        let answer = question.answers[0].as_str();
        assert!(!question.positives.is_empty(), "{} has no source", question.id);
        for positive in &question.positives {
            assert!(passages[&positive.0].text.contains(answer), "{} in {positive}", question.id);
        }
        // Sources are named after the thing that they describe.
        let thing = question.cluster.clone().unwrap();
        let of = |id: &&String| id.rsplit_once('-').is_some_and(|(of, _)| of == thing);
        let sources = passages.keys().filter(of).count();
        disputed += usize::from(sources > question.positives.len());
        held_twice += usize::from(question.positives.len() > 1);
    }
    assert!(disputed * 10 >= questions.len() * 9, "{disputed} of {}", questions.len());
    assert!(held_twice * 5 >= questions.len(), "{held_twice} of {}", questions.len());
}

#[test]
fn nothing_is_asked_about_what_is_held_out() {
    let config = DemoConfig::default();
    let (asked, held_out) = split(questions().unwrap(), &config);
    assert_eq!((asked.len(), held_out.len()), (config.questions, config.held_out));
    let things = |of: &[Question]| -> BTreeSet<String> {
        of.iter().map(|q| q.split_key().to_owned()).collect()
    };
    assert!(things(&asked).is_disjoint(&things(&held_out)));
}
