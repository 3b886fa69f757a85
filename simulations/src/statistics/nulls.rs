//! A/A: two arms of the same policy, looked at after every observation. How often is one of them
//! promoted, or an alarm raised?

use super::Options;
use super::rewards::{MEAN, Rewards};
use super::table::{Cell, Table};
use actors::sequential::Moments;
use actors::sequential::bernstein::EmpiricalBernstein;
use actors::sequential::confidence::Estimate;
use actors::sequential::msprt::likelihood_ratio;
use actors::sequential::rule::{Finding, Rule};
use actors::sequential::units::Units;
use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _};

/// Observations of both arms together, 20,000 an arm at equal shares.
const OBSERVATIONS: u64 = 40_000;
/// One-sided 5% quantile of the normal distribution, for the test that is not made for looking.
const NORMAL: f64 = 1.644_853_626_951_472_2;
/// Share of a canary's traffic, stage after stage.
const STAGES: [f64; 4] = [0.01, 0.05, 0.25, 0.5];
/// Observations of a stage before the next may be entered.
const STAGE: u64 = 5_000;
/// Probability of a rare outcome.
const RARE: f64 = 0.01;
/// Queries of a user, and how often a query's luck is the user's.
const QUERIES: u64 = 10;
const OWN_LUCK: f64 = 0.5;

/// Which tests found something at any look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// The rule found a win.
    pub win: bool,
    /// The rule found a harm.
    pub harm: bool,
    /// The mSPRT rejected, either way.
    pub msprt: bool,
    /// The empirical-Bernstein bounds found a win.
    pub bernstein: bool,
    /// The fixed-sample z-test found a win.
    pub fixed: bool,
}

/// Two arms under all tests at once. None stops the others.
struct Watch {
    rule: Rule,
    treatment: Moments,
    control: Moments,
    bernstein: Option<[EmpiricalBernstein; 2]>,
    found: Found,
}

impl Watch {
    fn new(rule: Rule, with_bernstein: bool) -> Self {
        // A bound of each arm at half the error makes one of their difference.
        let arm = || EmpiricalBernstein::one_sided((0.0, 1.0), rule.alpha_win / 2.0);
        let bernstein = with_bernstein.then(|| Some([arm()?, arm()?])).flatten();
        let (treatment, control) = (Moments::default(), Moments::default());
        Self { rule, treatment, control, bernstein, found: Found::default() }
    }

    fn observe(&mut self, treated: bool, reward: f64) {
        let arm = if treated { &mut self.treatment } else { &mut self.control };
        arm.push(reward, 0.0);
        if let Some([treatment, control]) = &mut self.bernstein {
            let _in_range = if treated { treatment.push(reward) } else { control.push(reward) };
            self.found.bernstein |= treatment.interval().low > control.interval().high;
        }
        self.look();
    }

    fn look(&mut self) {
        if self.treatment.count.min(self.control.count) < self.rule.minimum {
            return;
        }
        let Some(seen) = Estimate::difference(&self.treatment, &self.control) else { return };
        // No bound that holds at all looks lies nearer than the one that holds at this look alone,
        // so a look without this much finds nothing.
        if seen.value.abs() < NORMAL * (seen.variance / seen.count).sqrt() {
            return;
        }
        self.found.fixed |= seen.value > 0.0;
        match self.rule.look(&self.treatment, &self.control).finding {
            Finding::Win => self.found.win = true,
            Finding::Harm => self.found.harm = true,
            Finding::Undecided => {}
        }
        // Effects of 2% of the mean are looked for.
        self.found.msprt |= likelihood_ratio(&seen, 0.0, 0.02 * MEAN) >= 1.0 / self.rule.alpha_win;
    }
}

/// One experiment with a constant share of treatment.
pub fn constant(rule: Rule, share: f64, with_bernstein: bool, rng: &mut SmallRng) -> Found {
    let mut watch = Watch::new(rule, with_bernstein);
    let rewards = Rewards::with_effect(0.0);
    for _ in 0..OBSERVATIONS {
        watch.observe(rng.random_bool(share), rewards.draw(rng));
    }
    watch.found
}

/// One experiment on an outcome that is rare, such as a failure.
fn rare(rule: Rule, share: f64, rng: &mut SmallRng) -> Found {
    let mut watch = Watch::new(rule, false);
    for _ in 0..OBSERVATIONS {
        watch.observe(rng.random_bool(share), f64::from(u8::from(rng.random_bool(RARE))));
    }
    watch.found
}

/// One canary: the share goes up a stage whenever, after the stage's observations, treatment looks
/// no worse. So the share follows the rewards, which the bounds do not provide for.
fn staged(rule: Rule, rng: &mut SmallRng) -> Found {
    let mut watch = Watch::new(rule, false);
    let rewards = Rewards::with_effect(0.0);
    let mut stage = 0;
    for observed in 1..=OBSERVATIONS {
        watch.observe(rng.random_bool(STAGES[stage]), rewards.draw(rng));
        if observed % STAGE == 0 && watch.treatment.mean >= watch.control.mean {
            stage = (stage + 1).min(STAGES.len() - 1);
        }
    }
    watch.found
}

/// One experiment whose users come back for ten queries and have luck of their own: query after
/// query a user at random sends one, so that a user's queries lie anywhere. Counted by user, or one
/// by one.
fn by_user(rule: Rule, is_by_user: bool, rng: &mut SmallRng) -> Found {
    let mut watch = Watch::new(rule, false);
    let rewards = Rewards::with_effect(0.0);
    let users = (OBSERVATIONS / QUERIES) as usize;
    let known: Vec<(bool, u32)> =
        (0..users).map(|_| (rng.random_bool(0.5), rng.next_u32())).collect();
    let mut arms = [Units::new(users), Units::new(users)];
    for _ in 0..OBSERVATIONS {
        let user = rng.random_range(0..users);
        let (treated, own) = known[user];
        let luck = if rng.random_bool(OWN_LUCK) { own } else { rng.next_u32() };
        let reward = rewards.at(luck);
        if is_by_user {
            let _within_limit = arms[usize::from(treated)].push(user as u64, reward, 0.0);
            watch.control = arms[0].moments();
            watch.treatment = arms[1].moments();
            watch.look();
        } else {
            watch.observe(treated, reward);
        }
    }
    watch.found
}

/// The share of experiments in which each test finds what is not there.
///
/// # Errors
/// None in practice: an interval of more hits than experiments.
pub fn tables(options: &Options) -> anyhow::Result<Vec<Table>> {
    let rule = Rule::default();
    let runs = options.experiments;
    let rows = [
        ("50/50", options.run("aa half", runs, |rng| constant(rule, 0.5, true, rng))),
        ("5/95", options.run("aa twentieth", runs, |rng| constant(rule, 0.05, false, rng))),
        ("5/95, 0 but for 1%", options.run("aa rare", runs, |rng| rare(rule, 0.05, rng))),
        ("1, 5, 25, 50% as it looks", options.run("aa staged", runs, |rng| staged(rule, rng))),
        ("50/50, counted by user", options.run("aa users", runs, |rng| by_user(rule, true, rng))),
        ("50/50, users one by one", options.run("aa users", runs, |rng| by_user(rule, false, rng))),
    ];
    let title = format!(
        "A/A: share of {runs} experiments with a false finding, {OBSERVATIONS} observations, a \
         look after each (95% Clopper-Pearson)"
    );
    let columns =
        ["shares", "promoted", "harm alarm", "mSPRT (two-sided)", "empirical Bernstein", "z-test"];
    let mut table = Table::new(&title, &columns);
    for (at, (name, found)) in rows.iter().enumerate() {
        let share = |is: fn(&Found) -> bool| {
            Cell::share(found.iter().filter(|found| is(found)).count() as u64, runs)
        };
        let bernstein = if at == 0 { share(|found| found.bernstein)? } else { Cell::Missing };
        table.rows.push(vec![
            (*name).into(),
            share(|found| found.win)?,
            share(|found| found.harm)?,
            share(|found| found.msprt)?,
            bernstein,
            share(|found| found.fixed)?,
        ]);
    }
    table.notes = vec![
        format!("Rule: {rule:?}."),
        "Rewards: 35% are 0, 30% are 1, the rest uniform. Promoted, harm, empirical Bernstein and \
         z-test: one-sided at 5%."
            .to_owned(),
        format!(
            "Users send {QUERIES} queries in the mean, at any time; half of a user's queries share \
             their luck."
        ),
    ];
    Ok(vec![table])
}
