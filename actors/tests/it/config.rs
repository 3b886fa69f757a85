//! What a wrong configuration is told.

use crate::bench::world;
use actors::clock::Clock;
use actors::service::{Service, ServiceConfig, StartError};
use actors::types::{Exploration, SelectionLimits};
use serde_json::{Value, json};

fn refusal(config: &ServiceConfig) -> String {
    config.validate().unwrap_err()
}

#[test]
fn the_default_configuration_is_valid() {
    assert_eq!(ServiceConfig::default().validate(), Ok(()));
}

#[test]
fn every_bound_that_may_not_be_zero_is_refused_by_its_full_name() {
    // May be 0: nothing waits, no pause, never due, nothing held out, no lag, half of
    // the cores, not standing back, no chance, the first version.
    const MAY_BE_ZERO: &[&str] = &[
        "admission.queue_max",
        "supervision.restarts_max",
        "supervision.backoff_ms",
        "retriever.queue_max",
        "generator.backoff_ms",
        "generator.backoff_max_ms",
        "generator.queue_max",
        "replay_buffer.staleness_max",
        "replay_buffer.holdout_fraction",
        "learner.interval_ms",
        "learner.min_new_rewards",
        "learner.min_new_percent",
        "learner.holdout_max",
        "learner.threads",
        "learner.nice",
        "learner.keep_versions",
        "learner.keep_ms",
        "limits.k_min",
        "drift.seed",
        "exploration.share",
        "exploration.epsilon",
    ];
    let good = serde_json::to_value(ServiceConfig::default()).unwrap();
    let mut checked = 0;
    for (section, values) in good.as_object().unwrap() {
        let Some(values) = values.as_object() else { continue };
        for field in values.iter().filter(|(_, value)| value.is_number()).map(|(field, _)| field) {
            let name = format!("{section}.{field}");
            let mut bad = good.clone();
            bad[section][field] = Value::from(0);
            let config: ServiceConfig = serde_json::from_value(bad).unwrap();
            if MAY_BE_ZERO.contains(&name.as_str()) {
                assert_eq!(config.validate(), Ok(()), "{name}");
            } else {
                let said = refusal(&config);
                assert!(said.starts_with(&format!("{name}: ")), "{name}: {said}");
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "only {checked} bounds were tried");
}

#[test]
fn a_value_out_of_range_is_refused_by_name_with_what_it_may_be() {
    let config = ServiceConfig {
        limits: SelectionLimits { k_min: 3, k_max: 2, token_budget: 1 },
        ..ServiceConfig::default()
    };
    assert_eq!(refusal(&config), "limits.k_min: 3 is above k_max 2");
    for (temperature, epsilon, field) in
        [(0.0, 0.1, "temperature"), (f64::NAN, 0.1, "temperature"), (1.0, 1.5, "epsilon")]
    {
        let exploration = Exploration::Sample { temperature, epsilon };
        let explore = Exploration::Explore { share: 0.2, temperature, epsilon };
        for exploration in [exploration, explore] {
            let said = refusal(&ServiceConfig { exploration, ..ServiceConfig::default() });
            assert!(said.starts_with(&format!("exploration.{field}: ")), "{said}");
        }
    }
    for share in [-0.1, 1.1, f64::NAN] {
        let exploration = Exploration::Explore { share, temperature: 1.0, epsilon: 0.0 };
        let said = refusal(&ServiceConfig { exploration, ..ServiceConfig::default() });
        assert!(said.starts_with("exploration.share: "), "{said}");
    }
    let mut config = ServiceConfig::default();
    config.replay_buffer.holdout_fraction = 1.0;
    assert!(refusal(&config).starts_with("replay_buffer.holdout_fraction: 1 must lie in [0, 1)"));
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let said = serde_json::from_value::<ServiceConfig>(json!({"judge": {"windw_ms": 1}}));
    assert!(said.unwrap_err().to_string().contains("unknown field `windw_ms`"));
}

#[tokio::test(start_paused = true)]
async fn a_service_does_not_start_with_a_configuration_that_is_wrong() {
    let mut config = ServiceConfig::default();
    config.reranker.batch_max = 0;
    let started = Service::start(world().await.ports(Clock::simulated(0)), config).await;
    let expected = StartError::Config("reranker.batch_max: must be at least 1".to_owned());
    assert_eq!(started.err(), Some(expected));
}
