//! Simulated users: what they ask, what they say of the answers, and when.
//!
//! All chance is a function of the seed and the number of the question asked, so that the same is
//! said whatever the order in which answers come back. Knows no service.

use super::answer_scores;
use crate::datasets::{Question, bucket};
use crate::rewards::UNANSWERABLE;
use actors::types::{DecisionId, Feedback, Query, QueryId};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// Clients that the traffic comes from; of [`Temper::Inverted`] users the first is the one that lies.
const CLIENTS: u32 = 10;

/// How far users can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Temper {
    /// They say what they think.
    Honest,
    /// What they say has nothing to do with the answer.
    Noise,
    /// One client in ten says the contrary of what it thinks.
    Inverted,
}

impl Temper {
    /// Its name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Noise => "noise",
            Self::Inverted => "inverted",
        }
    }
}

/// What users say of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// A thumb: up with the chance that is the answer's token F1.
    Overlap,
    /// A thumb: up where the answer matches exactly.
    Exact,
    /// The right answers, and no thumb.
    References,
}

/// What users are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Habits {
    /// Share of the answers that they say something about, in [0, 1].
    pub share: f64,
    /// Chance that a thumb is turned round, in [0, 1].
    pub flips: f64,
    /// Most questions that are asked between an answer and what is said of it.
    pub delay: usize,
    /// How far they can be believed.
    pub temper: Temper,
    /// What they say.
    pub tells: Tells,
}

/// What is said of one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// After the question of this number.
    pub due: usize,
    /// What.
    pub feedback: Feedback,
}

/// Users who ask a set of questions over and over.
#[derive(Debug)]
pub struct Users<'a> {
    questions: &'a [Question],
    habits: Habits,
    seed: u64,
    order: Vec<usize>,
    pass: usize,
}

impl<'a> Users<'a> {
    /// Users with these habits; `questions` is not empty.
    pub fn new(questions: &'a [Question], habits: Habits, seed: u64) -> Self {
        Self { questions, habits, seed, order: Vec::new(), pass: usize::MAX }
    }

    /// The question of this number, from 0: every question once, then all again in another order.
    /// The query carries no right answer; its id is its own each time.
    pub fn query(&mut self, number: usize) -> (&'a Question, Query) {
        let count = self.questions.len().max(1);
        let (pass, at) = (number / count, number % count);
        if pass != self.pass {
            self.pass = pass;
            self.order = (0..self.questions.len()).collect();
            let mut rng = self.rng("order", pass);
            self.order.shuffle(&mut rng);
        }
        let question = &self.questions[self.order[at]];
        let mut query = question.to_query();
        query.id = QueryId(format!("{}#{pass}", question.id));
        query.references = Vec::new();
        query.metadata.remove(UNANSWERABLE);
        // Askings of one fact never straddle a split of the log.
        query.metadata.insert("cluster".to_owned(), question.split_key().to_owned());
        (question, query)
    }

    /// What is said of an answer, if anything.
    pub fn say(
        &self,
        number: usize,
        question: &Question,
        (decision_id, answer): (DecisionId, &str),
    ) -> Option<Said> {
        let habits = &self.habits;
        let mut rng = self.rng("said", number);
        let (f1, em) = answer_scores(answer, &question.answers);
        let worth = if habits.tells == Tells::Overlap { f1 } else { em };
        let speaks = rng.random::<f64>() < habits.share;
        let (content, slips) = (rng.random::<f64>() < worth, rng.random::<f64>() < habits.flips);
        let client = rng.random_range(0..CLIENTS);
        let coin = rng.random::<bool>();
        let delay = rng.random_range(1..=habits.delay.max(1));
        if !speaks {
            return None;
        }
        let is_up = match habits.temper {
            Temper::Honest => content != slips,
            Temper::Noise => coin,
            Temper::Inverted => (content != slips) != (client == 0),
        };
        let (value, references) = match habits.tells {
            Tells::References => (None, question.answers.clone()),
            Tells::Overlap | Tells::Exact => (Some(f64::from(u8::from(is_up))), Vec::new()),
        };
        let (id, source) = (format!("said-{number}"), format!("client-{client}"));
        let feedback =
            Feedback { id, decision_id, value, references, source, ..Feedback::default() };
        Some(Said { due: number + delay, feedback })
    }

    fn rng(&self, purpose: &str, number: usize) -> StdRng {
        let key = format!("{}-{number}", self.seed);
        let high = u64::from(bucket(&key, purpose, u32::MAX));
        StdRng::seed_from_u64((high << 32) | u64::from(bucket(&key, "low", u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const HABITS: Habits =
        Habits { share: 0.3, flips: 0.1, delay: 20, temper: Temper::Honest, tells: Tells::Overlap };

    fn questions(count: usize) -> Vec<Question> {
        let question = |at: usize| Question {
            id: format!("q{at}"),
            question: format!("question {at}"),
            answers: vec!["right".to_owned()],
            ..Question::default()
        };
        (0..count).map(question).collect()
    }

    #[test]
    fn every_question_comes_once_a_pass_and_carries_no_answer() {
        let questions = questions(7);
        let mut users = Users::new(&questions, HABITS, 3);
        let mut pass = |from: usize| -> Vec<String> {
            (from..from + 7).map(|number| users.query(number).1.text).collect()
        };
        let (mut first, mut second) = (pass(0), pass(7));
        assert_ne!(first, second);
        first.sort();
        second.sort();
        assert_eq!(first, second);
        let (first, second) = (users.query(0).1, users.query(7).1);
        assert!(first.references.is_empty() && first.id != second.id);
    }

    /// Share of thumbs that are up on so many answers, and how many there are.
    fn thumbs(habits: Habits, answer: &str, client: Option<&str>) -> (f64, usize) {
        let questions = questions(1);
        let users = Users::new(&questions, habits, 0);
        let said: Vec<Said> = (0..20_000)
            .filter_map(|number| users.say(number, &questions[0], ("d".into(), answer)))
            .filter(|said| client.is_none_or(|client| said.feedback.source == client))
            .collect();
        let up: f64 = said.iter().filter_map(|said| said.feedback.value).sum();
        (up / said.len() as f64, said.len())
    }

    #[test]
    fn honest_users_slip_noisy_ones_toss_a_coin_and_one_client_in_ten_inverts() {
        let (up, said) = thumbs(HABITS, "right", None);
        assert!((up - 0.9).abs() < 0.01 && said.abs_diff(6_000) < 300, "{up} {said}");
        // F1 of the answer is 2/3: content by chance, then flipped by chance.
        let (up, _) = thumbs(HABITS, "right so", None);
        assert!((up - (2.0 / 3.0 * 0.9 + 1.0 / 3.0 * 0.1)).abs() < 0.02, "{up}");
        let exact = Habits { tells: Tells::Exact, ..HABITS };
        assert!((thumbs(exact, "right so", None).0 - 0.1).abs() < 0.02);
        let noise = Habits { temper: Temper::Noise, ..HABITS };
        assert!((thumbs(noise, "right", None).0 - 0.5).abs() < 0.02);
        let inverted = Habits { temper: Temper::Inverted, ..HABITS };
        let (up, said) = thumbs(inverted, "right", Some("client-0"));
        assert!((up - 0.1).abs() < 0.05 && said.abs_diff(600) < 100, "{up} {said}");
        assert!((thumbs(inverted, "right", Some("client-1")).0 - 0.9).abs() < 0.05);
    }

    #[test]
    fn what_is_said_comes_later_and_is_the_same_in_any_order() {
        let questions = questions(2);
        let habits = Habits { tells: Tells::References, ..HABITS };
        let users = Users::new(&questions, habits, 0);
        let say = |number| users.say(number, &questions[1], ("d".into(), "wrong"));
        let forth: Vec<Option<Said>> = (0..200).map(say).collect();
        let back: Vec<Option<Said>> = (0..200).rev().map(say).collect();
        assert!(forth.iter().eq(back.iter().rev()));
        for (number, said) in forth.iter().enumerate() {
            let Some(said) = said else { continue };
            assert!((number + 1..=number + 20).contains(&said.due));
            assert_eq!((said.feedback.value, said.feedback.references.len()), (None, 1));
        }
    }
}
