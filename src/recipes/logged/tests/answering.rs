//! Who answers, and what may not be learned from.

use super::*;

#[test]
fn weighing_by_the_chance_of_an_answer_undoes_who_answers() {
    // Lists of two documents are answered rarely: without weights they look as good as they are
    // among the few; the share of the answered is reported.
    let world = World {
        answered: |worth, _| if (worth - 0.6).abs() < 1e-9 { 0.2 } else { 0.8 },
        ..World::new(Thumbs::Honest)
    };
    let (_, report, _) =
        learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (1_000, 2)).unwrap();
    let share = report.figures["answered_share"];
    assert!(share > 0.4 && share < 0.8, "{share}");
    assert_eq!(report.figures["answered"] + report.figures["unanswered"], 700.0);
    // The rarely answered are the middling: counted as they came, rewards look another way.
    let effect = report.reward_mean - report.figures["reward_mean_as_answered"];
    assert!(effect.abs() > 0.001, "{effect}");
    assert!(report.figures["answered_share_explored"] > 0.0);
}

#[test]
fn users_who_answer_when_annoyed_do_not_turn_what_is_learned_round() {
    // Odds of a thumb up are a quarter of what they are among all, for every list alike.
    let world =
        World { answered: |_, up| if up { 0.2 } else { 0.8 }, ..World::new(Thumbs::Honest) };
    let (head, report, _) =
        learn(&world, &LoggedConfig::default(), Kind::DoublyRobust, (3_000, 2)).unwrap();
    assert!(report.reward_mean < 0.25, "the annoyed are heard: {}", report.reward_mean);
    assert!(world.value(&head) > 0.8, "{}", world.value(&head));
}

#[test]
fn rewards_out_of_range_and_foreign_widths_are_counted_and_not_used() {
    let world = World::new(Thumbs::Honest);
    let (mut train, _) = world.log(300, 0, 1);
    train[0].reward.total = 1.5;
    train[1].reward.total = f64::NAN;
    let narrow = CandidateStates::new(2, vec![0.0; 2 * N]).unwrap();
    train[2].episode.decision.as_mut().unwrap().states = narrow;
    let config = LoggedConfig::default();
    let batch = Batch { train, ..Batch::default() };
    let (_, report, _) =
        update(&recipe(&config, Kind::Weighted, 1), &world.champion, &batch).unwrap();
    assert_eq!(report.refused, 3);
    assert_eq!(report.figures["reward_out_of_range"], 2.0);
    assert_eq!(report.figures["foreign_width"], 1.0);
}
