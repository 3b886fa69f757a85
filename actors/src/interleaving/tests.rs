//! The draft, enumerated over all its coins, and the test that it feeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::{Credit, Merged, Outcome, Preference, Team, draft, drawn_length, team_draft};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// The merge of a draft whose coins are the bits of `coins`, lowest first.
fn drafted(a: &[u32], b: &[u32], length: usize, coins: u32) -> Merged {
    let mut left = coins;
    draft(a, b, length, || {
        let coin = left & 1 == 1;
        left >>= 1;
        coin
    })
}

/// Every list of different items of `0..items`, of every length.
fn lists(items: u32) -> Vec<Vec<u32>> {
    let mut all = vec![vec![]];
    let mut from = 0;
    while from < all.len() {
        for item in 0..items {
            if !all[from].contains(&item) {
                let longer = [all[from].clone(), vec![item]].concat();
                all.push(longer);
            }
        }
        from += 1;
    }
    all
}

/// Calls `check` with every pair of lists and every length, and the merges of all coins.
fn over_all_pairs(check: impl Fn(&[u32], &[u32], usize, &[Merged])) {
    let lists = lists(4);
    assert_eq!(lists.len(), 65);
    for a in &lists {
        for b in &lists {
            for length in 0..=4 {
                let merges: Vec<Merged> =
                    (0..16).map(|coins| drafted(a, b, length, coins)).collect();
                check(a, b, length, &merges);
            }
        }
    }
}

#[test]
fn a_draft_is_the_one_worked_by_hand() {
    let (a, b) = ([7, 1, 2, 3], [7, 2, 4, 1]);
    // 7 is shared. A first: A takes 1, B takes 2; then B first: 4, and A's 3.
    let merged = drafted(&a, &b, 5, 0b01);
    assert_eq!(merged.order, [7, 1, 2, 4, 3]);
    // In the last round B has only 4 left and A only 3: opposed.
    assert_eq!(merged.team, [Team::Neither, Team::A, Team::B, Team::B, Team::A]);
    // Positions 1 and 4 are A's, 2 and 3 B's; 9 is out of the context, 1 counts once.
    assert_eq!(merged.by_citation(&[0, 1, 1, 3, 2, 9]), Credit { a: 1.0, b: 2.0 });
    let credit = merged.by_ablation(&[0.9, 0.25, -0.5, 0.125]);
    assert_eq!(credit, Credit { a: 0.25, b: -0.375 });
    assert_eq!(credit.outcome(0.0), Outcome::AWins);
    assert_eq!(credit.outcome(0.7), Outcome::Tie);
    assert_eq!(Credit { a: f64::NAN, b: 1.0 }.outcome(0.0), Outcome::Tie);
}

#[test]
fn every_position_is_either_policys_with_the_same_probability_for_all_pairs_of_lists() {
    over_all_pairs(|a, b, length, merges| {
        for at in 0..length {
            let owned =
                |team: Team| merges.iter().filter(|m| m.team.get(at) == Some(&team)).count();
            assert_eq!(owned(Team::A), owned(Team::B), "{a:?} {b:?} {length} at {at}");
        }
    });
}

#[test]
fn exchanging_the_policies_and_turning_the_coins_exchanges_the_teams() {
    over_all_pairs(|a, b, length, merges| {
        for (merged, coins) in merges.iter().zip(0u32..) {
            let turned = drafted(b, a, length, !coins);
            assert_eq!(turned.order, merged.order, "{a:?} {b:?} {length} {coins}");
            let other = |team: &Team| match team {
                Team::A => Team::B,
                Team::B => Team::A,
                Team::Neither => Team::Neither,
            };
            assert_eq!(turned.team, merged.team.iter().map(other).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_context_holds_each_candidate_once_and_is_as_long_as_the_lists_allow() {
    over_all_pairs(|a, b, length, merges| {
        let both = (0..4).filter(|item| a.contains(item) || b.contains(item)).count();
        for merged in merges {
            assert_eq!(merged.order.len(), length.min(both));
            assert_eq!(merged.team.len(), merged.order.len());
            let once = |item| merged.order.iter().filter(|other| *other == item).count() == 1;
            assert!(merged.order.iter().all(once));
            // What a policy ranks first and the other does not own is never lost from the top two.
            if let (Some(best), true) = (a.first(), length >= 2) {
                assert!(merged.order[..2.min(both)].contains(best), "{a:?} {b:?} {merged:?}");
            }
        }
    });
}

#[test]
fn equal_lists_tie_on_every_query_and_a_longer_list_does_not_win_by_its_length() {
    over_all_pairs(|a, b, _, merges| {
        if a == b {
            assert!(merges.iter().all(|m| m.team.iter().all(|team| *team == Team::Neither)));
        }
    });
    // B is A and three more: nothing of it is owned.
    let merged = drafted(&[1, 2], &[1, 2, 3, 4, 5], 5, 0b1010);
    assert_eq!(merged.order, [1, 2, 3, 4, 5]);
    assert_eq!(merged.team, [Team::Neither; 5]);
}

#[test]
fn the_better_ranker_earns_more_in_expectation() {
    // Only document 0 is useful. A ranks it first, B last of three; two are shown.
    let (a, b) = ([0, 1, 2], [1, 2, 0]);
    let earned = |coins| {
        let merged = drafted(&a, &b, 2, coins);
        let useful: Vec<usize> = (0..2).filter(|at| merged.order[*at] == 0).collect();
        merged.by_citation(&useful).outcome(0.0)
    };
    assert_eq!((earned(0), earned(1)), (Outcome::AWins, Outcome::AWins));
}

#[test]
fn the_length_is_either_lists_half_of_the_time_and_a_seed_repeats_its_draft() {
    let (a, b) = ([1, 2, 3], [3, 4, 5, 6, 7]);
    let mut rng = SmallRng::seed_from_u64(3);
    let short = (0..10_000).filter(|_| drawn_length(&a, &b, &mut rng) == 3).count();
    // Standard deviation 50.
    assert!((4_800..=5_200).contains(&short), "{short}");
    let merged = |seed| team_draft(&a, &b, 5, &mut SmallRng::seed_from_u64(seed));
    assert_eq!(merged(9), merged(9));
    assert!((0..20).any(|seed| merged(seed) != merged(9)));
}

#[test]
fn the_sign_test_counts_ties_as_halves_and_weighs_only_the_decided() {
    let mut preference = Preference::default();
    assert_eq!((preference.statistic(), preference.p_value()), (0.0, 1.0));
    assert_eq!(preference.interval(0.05, 100.0), None);
    [Outcome::BWins, Outcome::BWins, Outcome::AWins, Outcome::Tie]
        .into_iter()
        .for_each(|outcome| preference.push(outcome));
    // (2 + 1/2)/4 - 1/2.
    assert_eq!(preference.statistic(), 0.125);
    let before = preference.e_value();
    preference.push(Outcome::Tie);
    assert_eq!(preference.e_value(), before);
    assert!(preference.interval(0.05, 100.0).unwrap().contains(0.0));
    (0..200).for_each(|_| preference.push(Outcome::BWins));
    assert_eq!(preference.winner(0.05), Outcome::BWins);
    assert!(preference.interval(0.05, 100.0).unwrap().low > 0.0);
    let p = preference.p_value();
    (0..100).for_each(|_| preference.push(Outcome::AWins));
    assert_eq!(preference.p_value(), p, "a p-value is never taken back");
}

#[test]
fn looking_at_every_query_names_a_winner_of_equals_no_more_often_than_alpha() {
    let runs = 400;
    let named = (0..runs).filter(|seed| {
        let mut rng = SmallRng::seed_from_u64(*seed);
        let mut preference = Preference::default();
        (0..1_000).any(|_| {
            let outcome = match rng.random_range(0..4) {
                0 => Outcome::AWins,
                1 => Outcome::BWins,
                _ => Outcome::Tie,
            };
            preference.push(outcome);
            preference.winner(0.05) != Outcome::Tie
        })
    });
    // At most 20 in the mean; 33 is three standard deviations above.
    let named = named.count();
    assert!(named <= 33, "{named}");
}
