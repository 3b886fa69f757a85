//! How often the intervals of off-policy estimates hold the truth, and when they are withheld.
//!
//! A world of questions over five documents, small enough to write every selection down: the
//! target's mean reward is exact. Each log draws questions, lets a behaviour policy select, and
//! pays by chance; [`regrade::evaluate::off_policy`] then estimates a target of which it is told no
//! more than a log would tell. Policies are those of [`regrade::policy::selection`]: ordered, with
//! a stop.

use super::Options;
use super::table::{Cell, Table};
use actors::types::SelectionLimits;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use regrade::evaluate::off_policy::{
    Diagnostics, Estimator, OffPolicyConfig, Prediction, Row, evaluate,
};
use regrade::policy::selection::{Masks, SelectionLogits, log_probs};

/// Documents of a question.
const DOCUMENTS: usize = 5;
const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 3, token_budget: 1_000 };
const TOKENS: [u32; DOCUMENTS] = [10; DOCUMENTS];
/// Different questions there are; a log draws from them.
const QUESTIONS: usize = 64;
/// Decisions of one log.
const ROWS: usize = 500;
/// Most logs behind one figure.
const LOGS: u64 = 2_000;
/// Replicates of the bootstrap behind one interval.
const DRAWS: usize = 500;
/// What chance the behaviour leaves to every action.
const EPSILON: f64 = 0.1;
/// Whose intervals are counted.
const ESTIMATORS: [Estimator; 4] =
    [Estimator::Ips, Estimator::Snips, Estimator::Dr, Estimator::Sndr];

/// How a target differs from the behaviour.
#[derive(Debug, Clone, Copy)]
struct Support {
    name: &'static str,
    /// Share of the behaviour's scores in the target's; the rest is another opinion.
    agreement: f64,
    /// Temperature of the target.
    temperature: f64,
}

const SUPPORTS: [Support; 4] = [
    Support { name: "like the log", agreement: 0.8, temperature: 1.0 },
    Support { name: "ample", agreement: 0.5, temperature: 0.8 },
    Support { name: "thin", agreement: 0.3, temperature: 0.45 },
    Support { name: "poor", agreement: -1.0, temperature: 0.15 },
];

/// One selection of one question.
struct Selection {
    /// Step log-probabilities under the behaviour.
    behaviour: Vec<f64>,
    /// The same under the target.
    target: Vec<f64>,
    /// Mean of its reward, which is 0 or 1.
    reward: f64,
    /// What a model that is wrong says of it.
    model: f64,
}

/// One question: every selection, and the cumulated probabilities of the behaviour.
struct Question {
    selections: Vec<Selection>,
    cumulated: Vec<f64>,
    /// Mean of the model over the target.
    model: f64,
    /// Mean reward of the target.
    truth: f64,
}

/// All of it.
struct World {
    questions: Vec<Question>,
    truth: f64,
}

impl World {
    fn new(support: Support, seed: u64) -> anyhow::Result<Self> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let questions: Vec<Question> = (0..QUESTIONS)
            .map(|_| Question::new(support, &mut rng))
            .collect::<anyhow::Result<_>>()?;
        let truth = questions.iter().map(|q| q.truth).sum::<f64>() / QUESTIONS as f64;
        Ok(Self { questions, truth })
    }

    /// The rows of one log.
    fn log(&self, rng: &mut SmallRng) -> anyhow::Result<Vec<Row>> {
        (0..ROWS)
            .map(|n| {
                let question = &self.questions[rng.random_range(0..QUESTIONS)];
                let drawn = question.draw(rng);
                let reward = f64::from(u8::from(rng.random_bool(drawn.reward)));
                // Every decision is of a query of its own: its group holds nothing else.
                let name = n.to_string();
                let (behaviour, target) = (&drawn.behaviour, &drawn.target);
                let mut row = Row::new(name.as_str(), name.as_str(), behaviour, target, reward)?;
                row.prediction = Some(Prediction {
                    logged: drawn.model,
                    target: question.model,
                    steps: Vec::new(),
                });
                Ok(row)
            })
            .collect()
    }
}

impl Question {
    fn new(support: Support, rng: &mut SmallRng) -> anyhow::Result<Self> {
        let mut opinions =
            || -> Vec<f64> { (0..DOCUMENTS).map(|_| rng.random_range(-1.2..1.2)).collect() };
        let (served, other, worth) = (opinions(), opinions(), opinions());
        let blend =
            |(s, o): (&f64, &f64)| support.agreement * s + (1.0 - support.agreement.abs()) * o;
        let aimed = served.iter().zip(&other).map(blend).collect();
        let behaviour = SelectionLogits::from_scores(served, -0.2);
        let target = SelectionLogits::from_scores(aimed, 0.1);
        let masks = Masks { tokens: &TOKENS, limits: LIMITS };
        let mut selections = Vec::new();
        for order in orders() {
            let good = order.iter().map(|&j| worth[j as usize]).fold(f64::NEG_INFINITY, f64::max);
            let reward = (0.55 + 0.3 * good - 0.06 * order.len() as f64).clamp(0.02, 0.98);
            selections.push(Selection {
                behaviour: log_probs(&behaviour, masks, &order, 1.0, EPSILON)?,
                target: log_probs(&target, masks, &order, support.temperature, 0.0)?,
                reward,
                model: 0.3 + 0.5 * reward + rng.random_range(-0.15..0.15),
            });
        }
        let share = |steps: &[f64]| steps.iter().sum::<f64>().exp();
        let mut total = 0.0;
        let cumulated = selections.iter().map(|s| {
            total += share(&s.behaviour);
            total
        });
        let cumulated = cumulated.collect();
        let mean = |of: fn(&Selection) -> f64| {
            selections.iter().map(|s| share(&s.target) * of(s)).sum::<f64>()
        };
        let (model, truth) = (mean(|s| s.model), mean(|s| s.reward));
        Ok(Self { selections, cumulated, model, truth })
    }

    fn draw(&self, rng: &mut SmallRng) -> &Selection {
        let at = rng.random::<f64>() * self.cumulated.last().copied().unwrap_or(1.0);
        let index = self.cumulated.partition_point(|c| *c <= at);
        &self.selections[index.min(self.selections.len() - 1)]
    }
}

/// Every ordered selection of 1 to 3 documents.
fn orders() -> Vec<Vec<u32>> {
    let mut orders: Vec<Vec<u32>> = (0..DOCUMENTS as u32).map(|j| vec![j]).collect();
    let mut at = 0;
    while at < orders.len() {
        let order = orders[at].clone();
        at += 1;
        if order.len() < LIMITS.k_max as usize {
            let open = (0..DOCUMENTS as u32).filter(|j| !order.contains(j));
            orders.extend(open.map(|j| [order.as_slice(), &[j]].concat()));
        }
    }
    orders
}

/// What became of one log.
struct Outcome {
    ess: f64,
    /// For each estimator whether its interval held the truth, and its width; `None` where refused.
    intervals: Option<Vec<(bool, f64)>>,
}

/// Simulates `logs` logs of one kind of support.
fn outcomes(support: Support, options: &Options, logs: u64) -> anyhow::Result<Vec<Outcome>> {
    let world = World::new(support, options.seed)?;
    let config = OffPolicyConfig {
        bootstrap_draws: DRAWS,
        reward_range: [0.0, 1.0],
        ..OffPolicyConfig::default()
    };
    let one = |rng: &mut SmallRng| -> anyhow::Result<Outcome> {
        let rows = world.log(rng)?;
        let config = OffPolicyConfig { seed: rng.random(), ..config.clone() };
        let ess = Diagnostics::of(&rows, config.clip).ess;
        let found = evaluate(&rows, &config).ok();
        let intervals = found.map(|found| {
            let of = |estimator: Estimator| found.estimate(estimator).map(|e| e.reward);
            ESTIMATORS
                .into_iter()
                .filter_map(of)
                .map(|s| ((s.low..=s.high).contains(&world.truth), s.high - s.low))
                .collect()
        });
        Ok(Outcome { ess, intervals })
    };
    options.run(&format!("coverage {}", support.name), logs, one).into_iter().collect()
}

/// Coverage and refusals by support.
///
/// # Errors
/// Never but for a bug: the world's selections keep to its masks.
pub fn tables(options: &Options) -> anyhow::Result<Vec<Table>> {
    let logs = options.experiments.min(LOGS);
    let title = format!("Off-policy estimates: what {logs} logs of {ROWS} decisions each show");
    let mut columns = vec!["support".to_owned(), "effective n".to_owned(), "refused".to_owned()];
    for estimator in ESTIMATORS {
        columns.push(format!("{} covers", estimator.name()));
        columns.push("width".to_owned());
    }
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&title, &names);
    for support in SUPPORTS {
        let found = outcomes(support, options, logs)?;
        let shown: Vec<&Vec<(bool, f64)>> =
            found.iter().filter_map(|o| o.intervals.as_ref()).collect();
        let mut ess: Vec<f64> = found.iter().map(|o| o.ess).collect();
        ess.sort_unstable_by(f64::total_cmp);
        let refused = logs - shown.len() as u64;
        let mut row = vec![
            Cell::from(support.name),
            Cell::Number(ess.get(ess.len() / 2).copied().unwrap_or(0.0), 1),
            Cell::share(refused, logs)?,
        ];
        for at in 0..ESTIMATORS.len() {
            // Where most logs are refused the rest are a choice of lucky ones.
            if 2 * refused >= logs {
                row.extend([Cell::Missing, Cell::Missing]);
                continue;
            }
            let of: Vec<(bool, f64)> = shown.iter().filter_map(|s| s.get(at)).copied().collect();
            let covered = of.iter().filter(|(covered, _)| *covered).count() as u64;
            let width = of.iter().map(|(_, width)| width).sum::<f64>() / of.len().max(1) as f64;
            row.extend([Cell::share(covered, of.len() as u64)?, Cell::Number(width, 4)]);
        }
        table.rows.push(row);
    }
    table.notes.push(format!(
        "95% intervals of a bootstrap of {DRAWS} replicates; the effective n is the median; refused: \
         an effective n below {:.0}, or one decision with more than {:.0}% of the weight.",
        OffPolicyConfig::default().ess_min,
        100.0 * OffPolicyConfig::default().weight_share_max
    ));
    table.notes.push("Coverage is of the logs that were not refused.".to_owned());
    Ok(vec![table])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn a_question_is_a_probability_over_its_selections() {
        let world = World::new(SUPPORTS[0], 3).unwrap();
        assert_eq!(orders().len(), 5 + 20 + 60);
        for question in &world.questions {
            assert!((question.cumulated.last().unwrap() - 1.0).abs() < 1e-12);
            let target: f64 =
                question.selections.iter().map(|s| s.target.iter().sum::<f64>().exp()).sum();
            assert!((target - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn ample_support_is_covered_and_poor_support_refused() {
        let options = Options { experiments: 300, seed: 1 };
        let ample = outcomes(SUPPORTS[1], &options, 300).unwrap();
        for (at, estimator) in ESTIMATORS.iter().enumerate() {
            let covered = ample.iter().filter(|o| o.intervals.as_ref().unwrap()[at].0).count();
            assert!((270..=297).contains(&covered), "{}: {covered} of 300", estimator.name());
        }
        let poor = outcomes(SUPPORTS[3], &options, 100).unwrap();
        let refused = poor.iter().filter(|o| o.intervals.is_none()).count();
        assert!(refused >= 95, "{refused} of 100");
    }
}
