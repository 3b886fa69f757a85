//! Drift in simulation: a judge that is swapped for another in mid-stream, and how long every
//! detector of [`actors::drift`] runs without a change and after one.
//!
//! A judgement is a vote on a question's own quality plus noise. Some judgements are spent on a
//! fixed set of probes, whose baselines are means of earlier votes and therefore err; the rest are
//! of traffic, and the reward detector sees those. The judge's name stays the same: a name that
//! changes is told at once.

use super::Options;
use super::table::{Cell, Table};
use actors::drift::hacking::{self, Pair, examine};
use actors::drift::{Config, Detector, Monitor, Seen};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// Probes of the fixed set.
const PROBES: usize = 40;
/// Verdicts that each baseline is the mean of.
const BASELINE_VERDICTS: usize = 5;
/// Standard deviation of one vote of an unchanged judge.
const VOTE_SPREAD: f64 = 0.1;
/// Votes of one verdict, as a judge is asked by default.
const VOTES: u32 = 3;
/// Judgements before the swap.
const BEFORE: u32 = 1_000;
/// The promise: an alarm within so many judgements.
const WITHIN: u32 = 200;
/// Delays are followed for so long.
const MOST: u32 = 2_000;
/// Judgements of an unchanged judge.
const UNCHANGED: u32 = 10_000;
/// Shares of the judgements that are probes.
const SHARES: [f64; 3] = [0.25, 0.5, 1.0];

/// How the new judge differs.
#[derive(Clone, Copy, Debug)]
struct Judge {
    name: &'static str,
    /// Added to every verdict.
    bias: f64,
    /// Added for the longest answer, taken away for the shortest, in proportion between.
    for_length: f64,
    /// Standard deviation of one vote.
    spread: f64,
}

const fn judge(name: &'static str, bias: f64, for_length: f64, spread: f64) -> Judge {
    Judge { name, bias, for_length, spread }
}

/// The judge that baselines are of, and those that take its place.
const SAME: Judge = judge("unchanged", 0.0, 0.0, VOTE_SPREAD);
const SWAPS: [Judge; 5] = [
    judge("bias +0.05", 0.05, 0.0, VOTE_SPREAD),
    judge("bias +0.10", 0.1, 0.0, VOTE_SPREAD),
    judge("bias -0.10", -0.1, 0.0, VOTE_SPREAD),
    judge("prefers long answers, ±0.15", 0.0, 0.15, VOTE_SPREAD),
    judge("noisier, spread 0.25", 0.0, 0.0, 0.25),
];

impl Judge {
    /// The verdict on an answer of this quality and length, lengths in [-1, 1].
    fn verdict(&self, rng: &mut SmallRng, quality: f64, length: f64) -> f64 {
        let noise: f64 = (0..VOTES).map(|_| normal(rng)).sum::<f64>() / f64::from(VOTES);
        let said = quality + self.bias + self.for_length * length + self.spread * noise;
        said.clamp(0.0, 1.0)
    }
}

/// A draw of the standard normal distribution (Box, Muller).
fn normal(rng: &mut SmallRng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Traffic and probes before one monitor.
struct Stream {
    monitor: Monitor,
    /// Quality, length and baseline.
    probes: Vec<(f64, f64, f64)>,
    share: f64,
    asked: usize,
}

impl Stream {
    fn new(rng: &mut SmallRng, share: f64) -> Self {
        let monitor = Monitor::new(&Config { seed: rng.random(), ..Config::default() });
        let probes = (0..PROBES)
            .map(|_| {
                let (quality, length) = (rng.random_range(0.2..0.8), rng.random_range(-1.0..1.0));
                let verdicts = (0..BASELINE_VERDICTS).map(|_| SAME.verdict(rng, quality, length));
                (quality, length, verdicts.sum::<f64>() / BASELINE_VERDICTS as f64)
            })
            .collect();
        Self { monitor, probes, share, asked: 0 }
    }

    /// One judgement; which detectors alarmed.
    fn judgement(&mut self, rng: &mut SmallRng, judge: Judge) -> Vec<Detector> {
        let alarms = if rng.random::<f64>() < self.share {
            let (quality, length, baseline) = self.probes[self.asked % PROBES];
            self.asked += 1;
            self.monitor.probed(baseline, judge.verdict(rng, quality, length))
        } else {
            let (quality, length) = (rng.random(), rng.random_range(-1.0..1.0));
            let reward = Some(judge.verdict(rng, quality, length));
            self.monitor.absorb(&Seen { reward, judge: Some("same"), ..Seen::default() })
        };
        alarms.into_iter().map(|alarm| alarm.detector).collect()
    }

    /// Judgements after a swap until the first alarm; `None` within [`MOST`]. An alarm before the
    /// swap is acknowledged, and counted elsewhere.
    fn delay(rng: &mut SmallRng, share: f64, judge: Judge) -> Option<u32> {
        let mut stream = Self::new(rng, share);
        for _ in 0..BEFORE {
            if !stream.judgement(rng, SAME).is_empty() {
                stream.monitor.rebase();
            }
        }
        (1..=MOST).find(|_| !stream.judgement(rng, judge).is_empty())
    }

    /// Alarms of an unchanged judge, each acknowledged.
    fn false_alarms(rng: &mut SmallRng, share: f64) -> u64 {
        let mut stream = Self::new(rng, share);
        let mut alarms = 0;
        for _ in 0..UNCHANGED {
            let found = stream.judgement(rng, SAME).len();
            if found > 0 {
                alarms += found as u64;
                stream.monitor.rebase();
            }
        }
        alarms
    }
}

/// The tables of this part.
///
/// # Errors
/// An interval that cannot be computed.
pub fn tables(options: &Options) -> anyhow::Result<Vec<Table>> {
    Ok(vec![swaps(options)?, lengths(options)?, hacking(options)?])
}

/// Long streams take time: a twentieth of the experiments, 100 at least.
fn experiments(options: &Options) -> u64 {
    (options.experiments / 20).max(100)
}

fn swaps(options: &Options) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "A judge swapped in mid-stream under the same name: alarm by probes or rewards",
        &["judge", "probes", "alarm within 200 judgements", "median delay", "95th percentile"],
    );
    let runs = experiments(options);
    for share in SHARES {
        for judge in SWAPS {
            let name = format!("{}-{share}", judge.name);
            let delays = options.run(&name, runs, |rng| Stream::delay(rng, share, judge));
            let soon = delays.iter().filter(|d| d.is_some_and(|d| d <= WITHIN)).count();
            table.rows.push(vec![
                Cell::from(judge.name),
                Cell::Text(format!("{:.0}%", 100.0 * share)),
                Cell::share(soon as u64, runs)?,
                quantile(&delays, 0.5),
                quantile(&delays, 0.95),
            ]);
        }
        let name = format!("same-{share}");
        let alarms = options.run(&name, runs, |rng| Stream::false_alarms(rng, share));
        let touched = alarms.iter().filter(|alarms| **alarms > 0).count();
        table.notes.push(format!(
            "{:.0}% probes, judge unchanged: {} false alarms in {runs} streams of {UNCHANGED} \
             judgements ({:.2} a stream), {:.1}% of the streams had one",
            100.0 * share,
            alarms.iter().sum::<u64>(),
            alarms.iter().sum::<u64>() as f64 / runs as f64,
            100.0 * touched as f64 / runs as f64,
        ));
    }
    table.notes.push(format!(
        "{runs} streams a row; {PROBES} probes with baselines of {BASELINE_VERDICTS} verdicts, \
         {VOTES} votes of spread {VOTE_SPREAD} a verdict, {BEFORE} judgements before the swap"
    ));
    Ok(table)
}

/// The delay that a share of the streams stays within; a stream without an alarm is the longest.
fn quantile(delays: &[Option<u32>], share: f64) -> Cell {
    let mut sorted: Vec<u32> = delays.iter().map(|delay| delay.unwrap_or(u32::MAX)).collect();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    match sorted.get(at) {
        Some(delay) if *delay < u32::MAX => Cell::Count(u64::from(*delay)),
        _ => Cell::Missing,
    }
}

/// One observation for one detector, before or after its change.
type Draw = fn(&mut SmallRng, bool) -> Observation;

/// What a detector sees of it.
enum Observation {
    Query(String),
    TopScore(f64),
    Reward(f64),
    Abstention(bool),
    Probe(f64),
}

impl Observation {
    fn tell(self, monitor: &mut Monitor) -> bool {
        let judge = Some("same");
        let alarms = match self {
            Self::Query(query) => monitor.absorb(&Seen { query: &query, ..Seen::default() }),
            Self::TopScore(score) => {
                monitor.absorb(&Seen { top_score: Some(score), ..Seen::default() })
            }
            Self::Reward(reward) => {
                monitor.absorb(&Seen { reward: Some(reward), ..Seen::default() })
            }
            Self::Abstention(is_abstention) => {
                monitor.absorb(&Seen { judge, is_abstention, ..Seen::default() })
            }
            Self::Probe(difference) => monitor.probed(0.0, difference),
        };
        !alarms.is_empty()
    }
}

const CHANGES: [(&str, &str, Draw); 8] = [
    ("query_mix", "a fifth of the queries of another topic", |rng, is_changed| {
        Observation::Query(query(rng, if is_changed { 0.2 } else { 0.0 }))
    }),
    ("query_mix", "all queries of another topic", |rng, is_changed| {
        Observation::Query(query(rng, if is_changed { 1.0 } else { 0.0 }))
    }),
    ("retrieval_scores", "down by half a deviation", |rng, is_changed| {
        Observation::TopScore(12.0 + 3.0 * (normal(rng) - if is_changed { 0.5 } else { 0.0 }))
    }),
    ("reward", "0/1, mean 0.6 to 0.5", |rng, is_changed| {
        let mean = if is_changed { 0.5 } else { 0.6 };
        Observation::Reward(f64::from(u8::from(rng.random::<f64>() < mean)))
    }),
    ("reward", "graded, up by 0.1 (spread 0.25)", |rng, is_changed| {
        Observation::Reward(0.5 + 0.25 * normal(rng) + if is_changed { 0.1 } else { 0.0 })
    }),
    ("abstention", "2% to 10%", |rng, is_changed| {
        Observation::Abstention(rng.random::<f64>() < if is_changed { 0.1 } else { 0.02 })
    }),
    ("judge_probe", "bias of half a deviation", |rng, is_changed| {
        Observation::Probe(0.1 * (normal(rng) + if is_changed { 0.5 } else { 0.0 }))
    }),
    ("judge_probe", "spread doubled", |rng, is_changed| {
        Observation::Probe(0.1 * normal(rng) * if is_changed { 2.0 } else { 1.0 })
    }),
];

const TOPICS: [&[&str]; 2] = [
    &["who", "wrote", "the", "treaty", "of", "king", "river", "when", "was", "battle", "born"],
    &["how", "long", "does", "the", "battery", "last", "is", "this", "phone", "screen", "worth"],
];

/// Seven words of the first topic, or, as often as `share` says, of the second.
fn query(rng: &mut SmallRng, share: f64) -> String {
    let topic = TOPICS[usize::from(rng.random::<f64>() < share)];
    let words: Vec<&str> = (0..7).map(|_| topic[rng.random_range(0..topic.len())]).collect();
    words.join(" ")
}

/// Run length without a change, delay after one.
fn lengths(options: &Options) -> anyhow::Result<Table> {
    let bound = Config::default().mean_between_false_alarms;
    let mut table = Table::new(
        "Run length of the drift detectors, observations of each",
        &["detector", "change", "false alarm within 10,000", "median delay", "95th percentile"],
    );
    let runs = experiments(options);
    for (detector, change, draw) in CHANGES {
        let name = format!("{detector}-{change}");
        let found = options.run(&name, runs, |rng| {
            let quiet = first(rng, draw, (UNCHANGED, 0)).is_none();
            (quiet, first(rng, draw, (BEFORE, MOST)))
        });
        let alarmed = found.iter().filter(|(quiet, _)| !quiet).count();
        let delays: Vec<Option<u32>> = found.iter().map(|(_, delay)| *delay).collect();
        table.rows.push(vec![
            Cell::from(detector),
            Cell::from(change),
            Cell::share(alarmed as u64, runs)?,
            quantile(&delays, 0.5),
            quantile(&delays, 0.95),
        ]);
    }
    table.notes.push(format!(
        "{runs} streams a row; at most 1 alarm in {bound} observations on average while nothing \
         changes, so at most {:.0}% of the streams; {BEFORE} observations before a change",
        100.0 * f64::from(UNCHANGED) / bound as f64
    ));
    Ok(table)
}

/// Observations until an alarm: after the change where there is one (`after` > 0), else of all.
fn first(rng: &mut SmallRng, draw: Draw, (before, after): (u32, u32)) -> Option<u32> {
    let mut dice = SmallRng::seed_from_u64(rng.random());
    let mut monitor = Monitor::new(&Config { seed: rng.random(), ..Config::default() });
    for at in 1..=before {
        if draw(&mut dice, false).tell(&mut monitor) {
            if after == 0 {
                return Some(at);
            }
            monitor.rebase();
        }
    }
    (1..=after).find(|_| draw(&mut dice, true).tell(&mut monitor))
}

/// Change of judged and of gold reward by a policy: none, hacked a little, more, and worse by both.
const POLICIES: [(&str, f64, f64); 4] = [
    ("no change", 0.0, 0.0),
    ("judged +0.05, gold -0.10", 0.05, -0.1),
    ("judged +0.10, gold -0.20", 0.1, -0.2),
    ("judged -0.20, gold -0.20", -0.2, -0.2),
];

/// One look at canary questions.
fn hacking(options: &Options) -> anyhow::Result<Table> {
    let columns = ["policy", "25 canaries", "50 canaries", "100 canaries", "200 canaries"];
    let mut table = Table::new("Share of policies that one look at the canaries stops", &columns);
    let (runs, config) = (experiments(options), hacking::Config::default());
    for (name, judged, gold) in POLICIES {
        let mut row = vec![Cell::from(name)];
        for canaries in [25, 50, 100, 200] {
            let stopped = options.run(&format!("{name}-{canaries}"), runs, |rng| {
                let pairs = (0..canaries).map(|_| {
                    let quality = rng.random::<f64>();
                    let mut noisy =
                        |shift: f64| (quality + shift + 0.2 * normal(rng)).clamp(0.0, 1.0);
                    let pair = Pair { judged: noisy(judged), gold: noisy(gold) };
                    (pair, Pair { judged: noisy(0.0), gold: noisy(0.0) })
                });
                let (champion, reference): (Vec<Pair>, Vec<Pair>) = pairs.unzip();
                examine(&config, &champion, &reference, 1).alarm.is_some()
            });
            row.push(Cell::share(stopped.iter().filter(|is| **is).count() as u64, runs)?);
        }
        table.rows.push(row);
    }
    table.notes.push(format!(
        "{runs} policies a cell; level {} over all looks at one champion, half of it in the first",
        config.alpha
    ));
    Ok(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn options() -> Options {
        Options { experiments: 1, seed: 3 }
    }

    #[test]
    fn a_biased_judge_is_told_within_two_hundred_judgements() {
        let delays = options().run("test", 20, |rng| Stream::delay(rng, 0.5, SWAPS[1]));
        let soon = delays.iter().filter(|d| d.is_some_and(|d| d <= WITHIN)).count();
        assert!(soon >= 18, "{delays:?}");
    }

    #[test]
    fn an_unchanged_judge_raises_hardly_an_alarm() {
        let alarms = options().run("same", 10, |rng| Stream::false_alarms(rng, 0.5));
        assert!(alarms.iter().sum::<u64>() <= 4, "{alarms:?}");
    }

    #[test]
    fn quantiles_count_streams_without_an_alarm_as_longest() {
        let delays = [Some(5), None, Some(3), Some(9)];
        assert_eq!(quantile(&delays, 0.5), Cell::Count(5));
        assert_eq!(quantile(&delays, 1.0), Cell::Missing);
    }
}
