//! What the monitor tells, and when.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use rand::Rng as _;

fn config() -> Config {
    Config { query_bank: 100, ..Config::default() }
}

/// A monitor that has seen `n` ordinary episodes, and the dice that made them.
fn settled(n: u32) -> (Monitor, StdRng) {
    let (mut monitor, mut rng) = (Monitor::new(&config()), StdRng::seed_from_u64(4));
    for _ in 0..n {
        assert_eq!(ordinary(&mut monitor, &mut rng, |_| ()), [], "a false alarm");
    }
    (monitor, rng)
}

const WORDS: [&str; 8] = ["who", "river", "king", "wrote", "city", "year", "born", "song"];

fn ordinary(monitor: &mut Monitor, rng: &mut StdRng, change: impl Fn(&mut Seen<'_>)) -> Vec<Alarm> {
    let words: Vec<&str> = (0..6).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
    let query = words.join(" ");
    let mut seen = Seen {
        query: &query,
        top_score: Some(rng.random_range(10.0..20.0)),
        margin: Some(rng.random_range(0.0..2.0)),
        reward: Some(rng.random()),
        judge: Some("judge-1"),
        is_abstention: rng.random::<f64>() < 0.02,
        time_ms: 0,
    };
    change(&mut seen);
    monitor.absorb(&seen)
}

fn first(detector: Detector, within: u32, change: impl Fn(&mut Seen<'_>) + Copy) -> Alarm {
    let (mut monitor, mut rng) = settled(500);
    let mut alarms = (0..within).flat_map(|_| ordinary(&mut monitor, &mut rng, change));
    let alarm = alarms.next().unwrap();
    assert_eq!(alarm.detector, detector, "{alarm:?}");
    assert!(alarm.statistic >= alarm.threshold && alarm.after > 500, "{alarm:?}");
    alarm
}

#[test]
fn each_change_is_told_by_its_detector() {
    first(Detector::QueryMix, 150, |seen| seen.query = "battery screen phone charger");
    first(Detector::RetrievalScores, 60, |seen| seen.top_score = seen.top_score.map(|s| s - 6.0));
    first(Detector::RetrievalScores, 60, |seen| seen.margin = seen.margin.map(|s| s / 8.0));
    first(Detector::Reward, 100, |seen| seen.reward = seen.reward.map(|r| r * 0.4));
    first(Detector::Reward, 100, |seen| seen.reward = seen.reward.map(|r| 0.6 + 0.4 * r));
    first(Detector::Abstention, 20, |seen| seen.is_abstention = true);
}

#[test]
fn another_judge_is_told_at_once_and_once() {
    let alarm = first(Detector::JudgeName, 1, |seen| seen.judge = Some("judge-2"));
    assert!(alarm.reason.contains("`judge-2`") && alarm.reason.contains("`judge-1`"));
    let config = Config { judges: vec!["a".into(), "b".into()], ..config() };
    let mut monitor = Monitor::new(&config);
    let mut told = |judge| monitor.absorb(&Seen { judge: Some(judge), ..Seen::default() }).len();
    assert_eq!(["a", "b", "c", "c", "a"].map(&mut told), [0, 0, 1, 0, 0]);
}

#[test]
fn a_biased_judge_is_found_on_the_probes_though_baselines_err() {
    let (mut monitor, mut rng) = (Monitor::new(&config()), StdRng::seed_from_u64(9));
    let baselines: Vec<f64> = (0..40).map(|_| rng.random_range(0.2..0.8)).collect();
    let errors: Vec<f64> = (0..40).map(|_| rng.random_range(-0.05..0.05)).collect();
    let mut probe = |monitor: &mut Monitor, at: usize, bias: f64| {
        let (baseline, error) = (baselines[at % 40], errors[at % 40]);
        monitor.probed(baseline, baseline + error + bias + rng.random_range(-0.1..0.1))
    };
    assert!((0..400).all(|at| probe(&mut monitor, at, 0.0).is_empty()), "a false alarm");
    let delay = (1..=100).find(|at| !probe(&mut monitor, *at, 0.06).is_empty());
    assert!(delay.is_some_and(|delay| delay > 3), "{delay:?}");
}

#[test]
fn after_an_alarm_it_is_silent_until_the_new_normal_is_taken() {
    let (mut monitor, mut rng) = settled(500);
    let worse = |seen: &mut Seen<'_>| seen.reward = Some(0.0);
    let alarms: usize = (0..300).map(|_| ordinary(&mut monitor, &mut rng, worse).len()).sum();
    assert_eq!(alarms, 1);
    let reward = |monitor: &Monitor| monitor.levels().iter().find(|l| l.0 == "reward").unwrap().1;
    assert!(reward(&monitor) >= 1.0);
    monitor.rebase();
    assert!(reward(&monitor) == 0.0);
    let alarms: usize = (0..300).map(|_| ordinary(&mut monitor, &mut rng, worse).len()).sum();
    assert_eq!(alarms, 0, "what was new is normal now");
}

#[test]
fn the_same_sequence_gives_the_same_levels_and_a_disabled_monitor_none() {
    let ((one, _), (two, _)) = (settled(300), settled(300));
    assert_eq!(one.levels(), two.levels());
    let mut off = Monitor::new(&Config { enabled: false, ..config() });
    let seen = |judge| Seen { judge: Some(judge), ..Seen::default() };
    assert!(off.absorb(&seen("a")).is_empty() && off.absorb(&seen("b")).is_empty());
    assert!(off.probed(0.0, 1.0).is_empty());
}

#[test]
fn settings_out_of_range_are_named() {
    assert_eq!(Config::default().validate(), Ok(()));
    let named = |config: Config| config.validate().unwrap_err();
    assert!(named(Config { reference: 3, ..config() }).starts_with("reference: "));
    assert!(named(Config { history_max: 300, ..config() }).starts_with("history_max: "));
    let hacking = hacking::Config { alpha: 1.5, ..hacking::Config::default() };
    assert!(named(Config { hacking, ..config() }).starts_with("hacking.alpha: "));
    let unknown: Result<Config, _> = serde_json::from_str(r#"{"windw": 3}"#);
    assert!(unknown.unwrap_err().to_string().contains("windw"));
    let alarm = Alarm {
        detector: Detector::JudgeProbe,
        after: 3,
        statistic: 2.0,
        threshold: 1.0,
        reason: String::new(),
    };
    let text = serde_json::to_string(&alarm).unwrap();
    assert!(text.contains(r#""detector":"judge_probe""#), "{text}");
    assert_eq!(serde_json::from_str::<Alarm>(&text).unwrap(), alarm);
}
