//! Who draws, once the trunk has moved.

use super::*;

#[test]
fn selections_are_drawn_by_the_policy_as_it_has_moved() {
    let base = seeing();
    let (mut learner, first) = full(settings(), &base);
    let batch = batch_of(&base, &first, 4);
    let live = live_of(&learner);
    // As a phase before would: every variable of trunk and head goes a little way.
    for (_, variable) in live.variables() {
        let away = (variable.as_detached_tensor() * 0.8).unwrap();
        variable.set(&away).unwrap();
    }
    let groups = groups_of(&mut learner, &live, &batch.train);
    let champion = learner.champion.weights.head.clone();
    let (config, mut apart) = (&learner.config, 0.0f64);
    for group in &groups {
        let logged = group.moved.as_ref().unwrap();
        assert_ne!(logged.values(), group.states.values());
        let moved = list_logits(&live.head, logged, &Device::Cpu).unwrap();
        let before = list_logits(&champion, &group.states, &Device::Cpu).unwrap();
        for drawn in &group.drawn {
            let steps = |logits| {
                let (temperature, epsilon) = (config.temperature, config.epsilon);
                log_probs(logits, group.masks(), &drawn.order, temperature, epsilon).unwrap()
            };
            assert_eq!(drawn.step_log_probs, steps(&moved));
            let difference = drawn.step_log_probs.iter().zip(steps(&before)).map(|(a, b)| a - b);
            apart = difference.fold(apart, |apart, d| apart.max(d.abs()));
        }
    }
    assert!(apart > 1e-3, "the champion would have drawn alike: {apart}");
}
