//! `online`: what production runs. Learns from judged episodes, off-policy corrected. The clip
//! holds the sequence objective near the policy that drew its selections, the KL every phase near the
//! champion; that the result may serve at all is for the gate to say.
//!
//! One update: take judged episodes → reward each candidate alone by the environment (generator and
//! judge, cached) and regress the scores on that → make greedy lists go on, and regress the stop on
//! what each further document adds → draw selections of each query from the policy so warmed, beside
//! the one that was served with its logged propensity → reward them and compare them with each other
//! → clipped policy-gradient steps (RRPO) or best/worst pairs (DynamicRAG's DPO).
//!
//! | constant | value | from |
//! |---|---|---|
//! | clip | 0.2 | PPO, eq. 7; RRPO does not state its own |
//! | β of DPO | 0.1 | default of the trainer DynamicRAG used; the paper states none |
//! | pairs | best vs worst of the group | DynamicRAG eq. 4, with a minimum gap and without duplicates |
//! | reference of DPO | the policy that drew | RRPO freezes its first policy; here the warmed one |
//! | KL | to the champion, in every phase | what serves is what a candidate is compared with |
//! | advantage | terminal, minus the mean of the other draws | REINFORCE leave-one-out |
//!
//! Changed from the papers, and why: the ratio is to the logged behaviour and not to the reference,
//! so a clipped step can still be taken back; a learned stop makes the sum of prefix rewards favour
//! long lists, therefore the default credit is the reward of the whole selection; the baseline is
//! what the same policy's other draws earn, for against another policy's greedy selection every
//! draw of a query may be good or bad.
//!
//! Two trainable parts. `head`: the logged states are the inputs, the trunk stays as it is. `full`
//! ([`OnlineLearner::with_trunk`]): each step reads the pairs of its queries anew by the trunk it
//! trains, and a candidate carries the trunk's trained tensors.

mod config;
mod credit;
mod from_log;
mod groups;
mod live;
mod objective;
mod price;
mod states;

pub use config::{Advantage, Objective, OnlineConfig, TrialBudgets};
pub(crate) use groups::logits as list_logits;
pub(crate) use live::carried_on;
pub use states::{Contender, StateSource};

use crate::policy::optimizer::OptimizerError;
use crate::policy::reader::PairReader;
use crate::policy::serving::{self, PolicyWeights};
use crate::recipes::logged::Knowledge;
use crate::recipes::{gate, stop};
use actors::ports::{Batch, Environment, Examination, LearnError, LearnReport, Learner, Purchases};
use actors::types::{PolicySnapshot, PolicyStamp, PolicyVersion, Sample};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use groups::Group;
use live::{Live, Steps};
use objective::Phase;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The weights that training starts from and candidates are compared with.
struct Champion {
    weights: PolicyWeights,
    stamp: PolicyStamp,
    /// Made when it is first needed: a trunk of its own is a model with a cache.
    source: Option<StateSource>,
}

/// Trains selection heads, and the encoder below where asked to, on judged episodes.
pub struct OnlineLearner {
    config: OnlineConfig,
    device: Device,
    champion: Champion,
    environment: Arc<dyn Environment>,
    /// The encoder to fine-tune; `None` while the trunk stays frozen.
    base: Option<Arc<PairReader>>,
    /// What the last update from the log knows of rewards: the gate's control variate.
    knowledge: Option<Knowledge>,
    /// Candidates of this process that nothing could be told of: no error rate was spent on them.
    untold: u64,
    /// The optimisers of the last update, by phase: the next goes on with their moments.
    kept: BTreeMap<&'static str, Steps>,
}

/// What an update carries through its phases.
struct Run<'a> {
    rng: &'a mut StdRng,
    report: &'a mut LearnReport,
    kept: &'a mut BTreeMap<&'static str, Steps>,
}

/// Where an update is.
#[derive(Debug, Clone, Copy)]
struct At {
    /// Steps made in it.
    step: u64,
    /// Share of the phase that is done, in [0, 1].
    progress: f64,
}

impl OnlineLearner {
    /// Starts from the champion's weights.
    pub fn new(
        config: OnlineConfig,
        champion: &PolicySnapshot,
        environment: Arc<dyn Environment>,
        device: Device,
    ) -> Result<Self, LearnError> {
        let champion = load(champion, &device)?;
        let kept = BTreeMap::new();
        Ok(Self {
            config,
            device,
            champion,
            environment,
            base: None,
            knowledge: None,
            kept,
            untold: 0,
        })
    }

    /// Trains the encoder too (`full`): states are read anew by a trunk of the policy's own. `base`
    /// is the reader that the policy serves on.
    #[must_use]
    pub fn with_trunk(mut self, base: Arc<PairReader>) -> Self {
        self.base = Some(base);
        self.champion.source = None;
        self
    }

    /// Sees to it that the champion's states can be had.
    fn prepare(&mut self) -> Result<(), LearnError> {
        if self.champion.source.is_none() {
            let Champion { weights, stamp, .. } = &self.champion;
            let source = StateSource::new(self.base.as_ref(), weights, stamp)?;
            self.champion.source = Some(source);
        }
        Ok(())
    }

    fn contender(&self) -> Contender<'_> {
        let source = self.champion.source.as_ref().unwrap_or(&StateSource::Logged);
        Contender { head: &self.champion.weights.head, source }
    }

    /// First the regression of utilities alone, then with the stop, then the sequence objective on
    /// selections that the policy draws once it knows them: the clip is a trust region, and from the
    /// champion's own selections no update could leave its neighbourhood.
    fn phases(
        &self,
        live: &Live,
        groups: &mut [Group<'_>],
        run: &mut Run<'_>,
    ) -> Result<(), LearnError> {
        let config = &self.config;
        let champion = &self.champion.weights.head;
        let (environment, device) = (&*self.environment, &self.device);
        let (epochs, rate) = (config.utility_epochs, config.utility_learning_rate);
        let utilities =
            Phase { name: "utilities", objective: None, champion, drawing: champion, epochs, rate };
        if config.utility_weight > 0.0 && epochs > 0 {
            self.train(live, groups, &utilities, run)?;
            if config.marginals > 0 {
                groups::go_on((live, run.report.steps), config, groups, environment, device)?;
                self.calibrate(live, groups)?;
                let epochs = epochs.div_ceil(stop::EPOCHS_FOR_ONE);
                self.train(live, groups, &Phase { name: "stop", epochs, ..utilities }, run)?;
            }
        }
        let drawing = (live, run.report.steps);
        groups::draw_from(drawing, config, groups, environment, device, run.rng)?;
        let drawing = &live.head.snapshot().map_err(model)?;
        let phase = Phase {
            name: config.objective.name(),
            objective: Some(config.objective),
            champion,
            drawing,
            epochs: config.epochs,
            rate: config.learning_rate,
        };
        self.train(live, groups, &phase, run)
    }

    /// Moves the stop to where the scores are now: the regression of utilities has given them another
    /// scale, and the steps of the next phase may be too few to follow.
    fn calibrate(&self, live: &Live, groups: &[Group<'_>]) -> Result<(), LearnError> {
        let mut points = Vec::new();
        for group in groups {
            let states = group.drawing_states();
            let (n, width) = (states.rows(), states.width());
            let choices = || {
                let input = Tensor::from_slice(states.values(), (1, n, width), &self.device)?;
                let present = Tensor::ones((1, n), DType::F32, &self.device)?;
                let output = live.head.forward(&input, &present)?;
                match objective::choices(&output, &[group], (n, &self.device))? {
                    None => Ok(Vec::new()),
                    Some(choices) => choices.points(),
                }
            };
            points.extend(choices().map_err(model)?);
        }
        stop::shift(live.head_variables(), stop::calibration(&points)).map_err(model)
    }

    /// Runs the passes over the groups; what is live is changed in place.
    fn train(
        &self,
        live: &Live,
        groups: &[Group<'_>],
        phase: &Phase<'_>,
        run: &mut Run<'_>,
    ) -> Result<(), LearnError> {
        let mut order: Vec<usize> = (0..groups.len()).collect();
        let per_pass = order.len().div_ceil(self.config.batch_queries);
        let total = (per_pass * phase.epochs) as u64;
        let before = run.kept.remove(phase.name);
        let mut steps = Steps::new(&self.config, live, (phase.rate, total), before.as_ref());
        let mut batches = 0u64;
        for _ in 0..phase.epochs {
            order.shuffle(run.rng);
            let mut pass = objective::Totals::default();
            for chunk in order.chunks(self.config.batch_queries) {
                let batch: Vec<&Group<'_>> = chunk.iter().map(|&i| &groups[i]).collect();
                let at = At { step: run.report.steps, progress: batches as f64 / total as f64 };
                batches += 1;
                let gradients =
                    self.gradients(live, &batch, (phase, at), (&mut *run.rng, &mut pass))?;
                let Some(gradients) = gradients else {
                    continue;
                };
                steps.step(live, &gradients).map_err(|error| match error {
                    OptimizerError::NotFinite { .. } => {
                        LearnError::Diverged { step: at.step, reason: error.to_string() }
                    }
                    other => LearnError::Model(other.to_string()),
                })?;
                run.report.steps += 1;
            }
            pass.write(run.report);
        }
        run.kept.insert(phase.name, steps);
        Ok(())
    }

    /// Gradients of one minibatch, a part at a time where a trunk reads it; `None` when it has
    /// nothing to teach.
    fn gradients(
        &self,
        live: &Live,
        batch: &[&Group<'_>],
        (phase, at): (&Phase<'_>, At),
        (rng, pass): (&mut StdRng, &mut objective::Totals),
    ) -> Result<Option<GradStore>, LearnError> {
        let size = match live.trunk {
            Some(_) => self.config.trunk_batch_queries.min(batch.len()),
            None => batch.len(),
        };
        let mut sum = None;
        for part in batch.chunks(size.max(1)) {
            let on = (phase, at.progress);
            let step = objective::loss(&self.config, live, on, part, &self.device, rng);
            let Some(step) = step.map_err(model)? else { continue };
            let loss = f64::from(step.loss.to_scalar::<f32>().map_err(model)?);
            if !loss.is_finite() {
                let reason = format!("the loss is {loss}");
                return Err(LearnError::Diverged { step: at.step, reason });
            }
            // The loss is a mean over its part.
            let share = part.len() as f64 / batch.len() as f64;
            let gradients = (&step.loss * share).and_then(|loss| loss.backward()).map_err(model)?;
            live.add(sum.get_or_insert_default(), &gradients).map_err(model)?;
            pass.add(loss, &step);
        }
        Ok(sum)
    }
}

impl Learner for OnlineLearner {
    fn update(
        &mut self,
        batch: &Batch,
        version: PolicyVersion,
    ) -> Result<(PolicySnapshot, LearnReport), LearnError> {
        if let Some(kind) = self.config.objective.logged() {
            return self.update_from_log(kind, batch, version);
        }
        let mut rng = StdRng::seed_from_u64(self.config.seed ^ version.0);
        self.prepare()?;
        price::check(&self.config, &*self.environment, batch)?;
        let (mut groups, refused) = groups::collect(
            &self.config,
            self.contender(),
            &batch.train,
            &*self.environment,
            &self.device,
        )?;
        if groups.len() < self.config.queries_min {
            let (found, needed) = (groups.len(), self.config.queries_min);
            let why = price::unscorable(&*self.environment, &batch.train);
            return Err(LearnError::TooLittle(format!(
                "{found} usable samples, {needed} needed ({refused} refused{why})"
            )));
        }
        let live = Live::new(&self.config, &self.champion.weights, self.base.as_ref())?;
        let mut report = LearnReport {
            samples: groups.len() as u64,
            refused,
            reward_mean: groups::reward_mean(&batch.train),
            ..Default::default()
        };
        // An update that fails leaves none: its moments led to where nothing is a number.
        let mut kept = std::mem::take(&mut self.kept);
        let mut run = Run { rng: &mut rng, report: &mut report, kept: &mut kept };
        self.phases(&live, &mut groups, &mut run)?;
        self.kept = kept;
        let weights = live.weights(&self.champion.weights).map_err(model)?;
        let bytes = serving::to_bytes(&weights).map_err(LearnError::Model)?;
        let part = if live.trunk.is_some() { "/full" } else { "" };
        let recipe = format!("online/{}{part}", self.config.objective.name());
        let parent = Some(self.champion.stamp.version);
        Ok((PolicySnapshot::new(version, parent, recipe, bytes), report))
    }

    fn examine(
        &mut self,
        candidate: &PolicySnapshot,
        holdout: &[Sample],
    ) -> Result<Examination, LearnError> {
        self.prepare()?;
        let Champion { weights, stamp, .. } = load(candidate, &self.device)?;
        if let Some(found) = self.examine_on_log((&weights, candidate.version), holdout)? {
            return Ok(found);
        }
        let source = StateSource::new(self.base.as_ref(), &weights, &stamp)?;
        gate::examine(
            &self.config.gate,
            self.contender(),
            Contender { head: &weights.head, source: &source },
            holdout,
            &*self.environment,
            &self.device,
        )
    }

    fn bought(&self) -> Purchases {
        self.environment.bought()
    }

    fn adopt(&mut self, champion: &PolicySnapshot) -> Result<(), LearnError> {
        let mut champion = load(champion, &self.device)?;
        let Champion { weights, stamp, .. } = &champion;
        champion.source = Some(StateSource::new(self.base.as_ref(), weights, stamp)?);
        self.champion = champion;
        Ok(())
    }
}

fn load(snapshot: &PolicySnapshot, device: &Device) -> Result<Champion, LearnError> {
    let weights = serving::from_snapshot(snapshot, device)
        .map_err(|error| LearnError::Model(error.to_string()))?;
    let stamp = PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() };
    Ok(Champion { weights, stamp, source: None })
}

fn model(error: candle_core::Error) -> LearnError {
    LearnError::Model(error.to_string())
}

#[cfg(test)]
mod tests;
