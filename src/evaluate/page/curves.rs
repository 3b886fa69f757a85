//! Rewards over training, found in the reports of training commands.

use serde_json::Value;

/// Keys under which reports tell the mean reward of a step, the most telling first.
const REWARDS: [&str; 3] = ["reward_mean", "mean_reward", "reward"];
/// Keys that number the steps.
const STEPS: [&str; 3] = ["step", "round", "epoch"];
/// Most curves that are taken from one report.
const CURVES_MAX: usize = 64;

/// Mean reward over the steps of one run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// Whose.
    pub name: String,
    /// Step and mean reward, in order.
    pub points: Vec<(f64, f64)>,
}

/// The curves of a training report, one for each list of steps in its `runs` that tell a reward;
/// none where it is not one. `name` is the report's.
pub fn curves(name: &str, report: &Value) -> Vec<Curve> {
    let mut found = Vec::new();
    let runs = report.get("runs").and_then(Value::as_array).into_iter().flatten();
    for run in runs {
        let text = |key: &str| match run.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(format!("{key} {number}")),
            _ => None,
        };
        let parts = [Some(name.to_owned()), text("recipe"), text("seed")];
        let named = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        lists(run, &named, &mut found);
    }
    found.truncate(CURVES_MAX);
    found
}

/// Every list of steps below a value.
fn lists(value: &Value, name: &str, found: &mut Vec<Curve>) {
    match value {
        Value::Array(steps) => {
            let points = steps.iter().enumerate().filter_map(|(at, step)| {
                let number = STEPS.iter().find_map(|key| step.get(key)?.as_f64());
                Some((number.unwrap_or(at as f64), reward(step)?))
            });
            let points: Vec<(f64, f64)> = points.collect();
            if points.is_empty() {
                steps.iter().for_each(|step| lists(step, name, found));
            } else {
                found.push(Curve { name: name.to_owned(), points });
            }
        }
        Value::Object(parts) => {
            for (key, part) in parts {
                // A phase is named by itself or by its key.
                let own = parts.get("phase").or_else(|| parts.get("name")).and_then(Value::as_str);
                let deeper = match (part, own) {
                    (Value::Array(_), Some(own)) => format!("{name}, {own}"),
                    (Value::Object(_), _) => format!("{name}, {key}"),
                    _ => name.to_owned(),
                };
                lists(part, &deeper, found);
            }
        }
        _ => {}
    }
}

/// The reward a step tells, itself or in its own report.
fn reward(step: &Value) -> Option<f64> {
    let own = |value: &Value| REWARDS.iter().find_map(|key| value.get(key)?.as_f64());
    own(step).or_else(|| step.get("report").and_then(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rewards_are_found_by_run_and_phase() {
        let report = json!({ "runs": [
            { "seed": 0, "recipe": "rrpo", "rounds": [
                { "round": 1, "report": { "reward_mean": 0.25 } },
                { "round": 2, "failed": "diverged" },
                { "round": 3, "report": { "reward_mean": 0.5 } },
            ] },
            { "seed": 1, "phases": [
                { "phase": "warm-up", "losses": [1.0, 0.5] },
                { "phase": "ppo", "steps": [{ "reward": 1.0 }, { "reward": 2.0 }] },
            ] },
        ] });
        let found = curves("train", &report);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name, "train, rrpo, seed 0");
        assert_eq!(found[0].points, [(1.0, 0.25), (3.0, 0.5)]);
        assert_eq!(found[1].name, "train, seed 1, ppo");
        assert_eq!(found[1].points, [(0.0, 1.0), (1.0, 2.0)]);
        assert!(curves("x", &json!({ "questions": 3 })).is_empty());
    }
}
