//! The settings of the online recipe, each with its bound.

use crate::chat::BudgetConfig;
use crate::recipes::gate::GateConfig;
use crate::recipes::logged::{Kind, LoggedConfig};
use serde::{Deserialize, Serialize};

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Clipped policy gradient over sampled selections.
    Rrpo,
    /// Preference of the best over the worst selection of each query.
    Dpo,
    /// The clipped policy gradient of RRPO with every selection credited against the mean of its
    /// query's; `advantage` has no effect.
    Grpo,
    /// Likelihood of the best selection of each query: imitation of what was tried and paid most.
    Sft,
    /// Doubly robust policy gradient on logged decisions: asks neither generator nor judge.
    #[default]
    Dr,
    /// Importance weights alone on logged decisions: a control of `dr`.
    Ips,
    /// Self-normalised importance weights on logged decisions: a control of `dr`.
    Snips,
}

impl Objective {
    /// Its name in configuration and lineage.
    pub fn name(self) -> &'static str {
        match self {
            Objective::Rrpo => "rrpo",
            Objective::Dpo => "dpo",
            Objective::Grpo => "grpo",
            Objective::Sft => "sft",
            Objective::Dr => "dr",
            Objective::Ips => "ips",
            Objective::Snips => "snips",
        }
    }

    /// How it learns from the log alone; `None` where it tries selections of its own.
    pub(crate) fn logged(self) -> Option<Kind> {
        match self {
            Objective::Rrpo | Objective::Dpo | Objective::Grpo | Objective::Sft => None,
            Objective::Dr => Some(Kind::DoublyRobust),
            Objective::Ips => Some(Kind::Weighted),
            Objective::Snips => Some(Kind::SelfNormalised),
        }
    }

    /// Whether selections are tried that were never served: generator and judge answer for them.
    pub fn simulates(self) -> bool {
        matches!(self, Objective::Rrpo | Objective::Dpo | Objective::Grpo | Objective::Sft)
    }
}

/// How a reward becomes credit for steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// Every step gets the whole selection's reward minus the mean of the other draws'.
    #[default]
    Terminal,
    /// RRPO over prefix rewards, minus the means of the other draws' prefixes.
    SelfCritical,
    /// RRPO over the same as printed, then whitened over the minibatch.
    Printed,
}

/// What trials may cost where generator or judge is behind an endpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrialBudgets {
    /// Answers to trials.
    pub generator: BudgetConfig,
    /// Verdicts on them; `judge.llm.budget` bounds them too, together with those on users' answers.
    pub judge: BudgetConfig,
}

/// Settings of the online recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineConfig {
    /// The loss.
    pub objective: Objective,
    /// How rewards become advantages (`rrpo`).
    pub advantage: Advantage,
    /// Seed of shuffling, rollouts and dropout.
    pub seed: u64,
    /// Fewest usable samples for an update.
    pub queries_min: usize,
    /// Passes of the sequence objective over the samples.
    pub epochs: usize,
    /// Passes of the regression of utilities before it.
    pub utility_epochs: usize,
    /// Peak learning rate of that.
    pub utility_learning_rate: f64,
    /// Queries a step.
    pub batch_queries: usize,
    /// Peak learning rate; warmed up over a tenth of the steps, then falls to 0.
    pub learning_rate: f64,
    /// First encoder layer that `full` trains, counted from 1: this one and all above. 0 trains the
    /// embeddings too. They stay frozen by default: a step sees few words, and its decay would wear
    /// the others away.
    pub trunk_from_layer: usize,
    /// Peak learning rate of the trunk (`full`), on the same schedule.
    pub trunk_learning_rate: f64,
    /// Queries whose pairs `full` encodes at once; a step adds up the gradients of as many such
    /// parts as `batch_queries` has. Bounds memory: activations are kept for every token of a part,
    /// for a query with 20 passages of 190 tokens about 1.5 GB under a MiniLM trained in whole.
    pub trunk_batch_queries: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm, those of head and trunk each.
    pub gradient_norm_max: f64,
    /// Share of state columns hidden at random in training, in [0, 1).
    pub dropout: f64,
    /// Selections drawn a query besides the served one.
    pub rollouts: usize,
    /// Softmax temperature of the rollouts and of the trained policy.
    pub temperature: f64,
    /// Uniform share in rollouts.
    pub epsilon: f64,
    /// Also tries each candidate alone, up to this many: the cheapest selections there are.
    pub singles: usize,
    /// Half-width of the ratio's free range (`rrpo`).
    pub clip: f64,
    /// Weight of the exact KL to the champion, in every phase.
    pub kl_weight: f64,
    /// Weight of the entropy bonus.
    pub entropy_weight: f64,
    /// Discount over steps for prefix advantages.
    pub gamma: f64,
    /// λ over steps for prefix advantages.
    pub lambda: f64,
    /// Weight of the regressions of each candidate's own utility and of the stop; needs `singles`.
    /// It falls to 0 over the passes of the sequence objective.
    pub utility_weight: f64,
    /// Documents by which each greedy list is made to go on beyond those it must have: what each adds
    /// teaches the stop. So many trials a query, and one; 0 leaves the stop as it is.
    pub marginals: usize,
    /// Weight of the list-wise loss of utilities beside the regression.
    pub listwise_weight: f64,
    /// Temperature of its targets, in reward.
    pub listwise_temperature: f64,
    /// Inverse temperature (`dpo`).
    pub beta: f64,
    /// Weight of the chosen selection's likelihood (`dpo`).
    pub sft_weight: f64,
    /// Least difference of rewards that makes a pair (`dpo`).
    pub gap_min: f64,
    /// Learning from the log alone (`dr`, `ips`, `snips`).
    pub logged: LoggedConfig,
    /// The check on held-out samples.
    pub gate: GateConfig,
    /// What objectives that try selections may spend.
    pub budget: TrialBudgets,
}

impl Default for OnlineConfig {
    fn default() -> Self {
        Self {
            objective: Objective::Dr,
            advantage: Advantage::Terminal,
            seed: 0,
            queries_min: 16,
            epochs: 4,
            utility_epochs: 12,
            utility_learning_rate: 3e-3,
            batch_queries: 32,
            learning_rate: 5e-4,
            trunk_from_layer: 1,
            trunk_learning_rate: 2e-5,
            trunk_batch_queries: 4,
            weight_decay: 0.05,
            gradient_norm_max: 1.0,
            dropout: 0.5,
            rollouts: 16,
            temperature: 1.0,
            epsilon: 0.1,
            singles: 20,
            clip: 0.2,
            kl_weight: 0.01,
            entropy_weight: 0.0,
            gamma: 1.0,
            lambda: 1.0,
            utility_weight: 3.0,
            marginals: 3,
            listwise_weight: 0.0,
            listwise_temperature: 0.2,
            beta: 0.1,
            sft_weight: 0.05,
            gap_min: 0.1,
            logged: LoggedConfig::default(),
            gate: GateConfig::default(),
            budget: TrialBudgets::default(),
        }
    }
}

impl OnlineConfig {
    /// The same with `rrpo` in the place of an objective that learns from the log: where references
    /// are known every selection can be tried, which teaches more than the served one alone.
    #[must_use]
    pub fn with_trials(&self) -> Self {
        let objective = if self.objective.simulates() { self.objective } else { Objective::Rrpo };
        Self { objective, ..self.clone() }
    }

    /// Names the first field that is out of its range, and the range.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let range = |field: &str, ok: bool, expected: &str| {
            if ok { Ok(()) } else { Err((field.to_owned(), expected.to_owned())) }
        };
        let unit = |v: f64| (0.0..=1.0).contains(&v);
        range("queries_min", self.queries_min >= 1, "at least 1")?;
        range("epochs", (1..=1000).contains(&self.epochs), "1 to 1000")?;
        range("utility_epochs", self.utility_epochs <= 1000, "at most 1000")?;
        range("batch_queries", (1..=4096).contains(&self.batch_queries), "1 to 4096")?;
        let rate = |v: f64| v > 0.0 && v < 1.0;
        range("learning_rate", rate(self.learning_rate), "above 0 and below 1")?;
        let utility_rate = rate(self.utility_learning_rate);
        range("utility_learning_rate", utility_rate, "above 0 and below 1")?;
        range("trunk_learning_rate", rate(self.trunk_learning_rate), "above 0 and below 1")?;
        let parts_ok = (1..=4096).contains(&self.trunk_batch_queries);
        range("trunk_batch_queries", parts_ok, "1 to 4096")?;
        range("weight_decay", unit(self.weight_decay), "0 to 1")?;
        range("gradient_norm_max", self.gradient_norm_max > 0.0, "above 0")?;
        range("dropout", (0.0..1.0).contains(&self.dropout), "0 to below 1")?;
        range("rollouts", self.rollouts <= 256, "at most 256")?;
        range("singles", self.singles <= 500, "at most 500")?;
        range(
            "temperature",
            self.temperature > 0.0 && self.temperature <= 100.0,
            "above 0, to 100",
        )?;
        range("epsilon", unit(self.epsilon), "0 to 1")?;
        range("clip", self.clip > 0.0 && self.clip < 1.0, "above 0 and below 1")?;
        range("kl_weight", self.kl_weight >= 0.0, "at least 0")?;
        range("entropy_weight", self.entropy_weight >= 0.0, "at least 0")?;
        range("gamma", unit(self.gamma), "0 to 1")?;
        range("lambda", unit(self.lambda), "0 to 1")?;
        range("utility_weight", self.utility_weight >= 0.0, "at least 0")?;
        range("marginals", self.marginals <= 100, "at most 100")?;
        let listwise = self.listwise_weight >= 0.0 && self.listwise_weight.is_finite();
        range("listwise_weight", listwise, "at least 0")?;
        let temperature = self.listwise_temperature > 0.0 && self.listwise_temperature <= 100.0;
        range("listwise_temperature", temperature, "above 0, to 100")?;
        range("beta", self.beta > 0.0, "above 0")?;
        range("sft_weight", self.sft_weight >= 0.0, "at least 0")?;
        range("gap_min", self.gap_min >= 0.0, "at least 0")?;
        self.logged.validate().map_err(|(f, e)| (format!("logged.{f}"), e))?;
        for (name, budget) in [("generator", &self.budget.generator), ("judge", &self.budget.judge)]
        {
            budget.validate().map_err(|(f, e)| (format!("budget.{name}.{f}"), e))?;
        }
        self.gate.validate().map_err(|(f, e)| (format!("gate.{f}"), e))
    }
}
