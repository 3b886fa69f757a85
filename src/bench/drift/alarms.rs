//! The detectors over the streams: how long after a jump an alarm comes, and how often without one.

use super::streams::{Glance, Glances};
use actors::drift::{Config, Detector, Monitor, Seen};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

/// One domain under watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Its name.
    pub name: String,
    /// Queries watched.
    pub queries: usize,
    /// Every alarm: the detector, and the queries of this stretch until then.
    pub alarms: Vec<(Detector, usize)>,
}

/// One stream under watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Its name.
    pub stream: String,
    /// Seed of shuffles and detectors.
    pub seed: u64,
    /// In order. A stretch of one domain is shuffled, so that an alarm in it is false unless it is
    /// the answer to its beginning.
    pub stretches: Vec<Stretch>,
    /// The whole stream in a random order: no change at all, so every alarm is false.
    pub shuffled: Stretch,
}

/// Watches a stream with the settings as they come. Texts and scores are watched apart, and every
/// alarm is acknowledged at once, so that no detector silences another.
pub(super) fn watch(glances: &Glances, seed: u64) -> Watched {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut monitors = monitors(seed);
    let mut everything: Vec<&Glance> = Vec::new();
    let mut stretches = Vec::with_capacity(glances.stretches.len());
    for (name, queries) in &glances.stretches {
        let mut order: Vec<&Glance> = queries.iter().collect();
        if glances.is_stationary {
            order.shuffle(&mut rng);
        }
        stretches.push(stretch(&mut monitors, name, &order));
        everything.extend(order);
    }
    everything.shuffle(&mut rng);
    let shuffled = stretch(&mut self::monitors(seed), "shuffled", &everything);
    Watched { stream: glances.name.clone(), seed, stretches, shuffled }
}

/// One for texts, one for scores.
fn monitors(seed: u64) -> [Monitor; 2] {
    [(); 2].map(|()| Monitor::new(&Config { seed, ..Config::default() }))
}

fn stretch(monitors: &mut [Monitor; 2], name: &str, queries: &[&Glance]) -> Stretch {
    let mut alarms = Vec::new();
    for (at, (query, top_score, margin)) in queries.iter().enumerate() {
        let seen = [
            Seen { query, ..Seen::default() },
            Seen { top_score: *top_score, margin: *margin, ..Seen::default() },
        ];
        for (monitor, seen) in monitors.iter_mut().zip(seen) {
            let found = monitor.absorb(&seen);
            if !found.is_empty() {
                monitor.rebase();
            }
            alarms.extend(found.into_iter().map(|alarm| (alarm.detector, at + 1)));
        }
    }
    Stretch { name: name.to_owned(), queries: queries.len(), alarms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(words: &[&str]) -> Vec<Glance> {
        (0..900)
            .map(|i: usize| {
                let pick = |k: usize| words[(i * 7 + k * k * 3 + i / 5) % words.len()];
                (format!("{} {} {}", pick(1), pick(2), pick(3)), Some(10.0), Some(1.0))
            })
            .collect()
    }

    #[test]
    fn a_jump_is_told_in_the_stretch_it_begins() {
        let glances = Glances {
            name: "two".to_owned(),
            is_stationary: true,
            stretches: vec![
                ("history".to_owned(), queries(&["king", "battle", "treaty", "crown", "year"])),
                ("shop".to_owned(), queries(&["battery", "screen", "refund", "price", "box"])),
            ],
        };
        let watched = watch(&glances, 0);
        assert_eq!(watched.stretches[0].alarms, []);
        assert_eq!(watched.shuffled.queries, 1_800);
        assert_eq!(watched.shuffled.alarms, []);
        let (detector, after) = watched.stretches[1].alarms[0];
        assert!(detector == Detector::QueryMix && after < 200, "{after}");
    }
}
