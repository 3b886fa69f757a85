//! Fitting a score threshold: the one number of a threshold baseline, from training questions.
//!
//! Owns an exact search over all cuts that differ on the lists at hand. Knows no reward: that is a
//! function of how many documents of a question are kept. Give it training questions only; a cut
//! fitted on what it is reported on is no baseline.

/// The best cut and what it earned where it was fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FittedThreshold {
    /// Documents with this score or a higher one are kept.
    pub cut: f32,
    /// Mean reward over the questions at that cut.
    pub reward: f64,
    /// Mean number of documents kept, before any limit of the caller's.
    pub kept: f64,
}

/// Why there is no threshold.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FitThresholdError {
    /// Nothing to fit on.
    #[error(
        "cannot fit a threshold without a single score: give training questions with documents"
    )]
    NoScores,
    /// A score or a reward that is no number.
    #[error("cannot fit a threshold: a {what} of question {question} is not finite")]
    NotFinite {
        /// `score` or `reward`.
        what: &'static str,
        /// Place of the question.
        question: usize,
    },
}

/// The cut with the highest mean reward over the questions.
///
/// scores: the scores of each question's documents, in any order. `reward(question, kept)` is what
/// the question earns with its `kept` best documents, 0 to all of them; limits such as a k_max are
/// its own affair. It is asked once for each number of documents that some cut keeps.
///
/// Between two neighbouring scores every cut keeps the same documents, so the middle of each gap is
/// tried, the lowest score (keep all), and a cut above the highest (keep none). Of equal rewards the
/// highest cut wins: the fewest documents.
///
/// # Errors
/// No scores, or a score or reward that is not finite.
pub fn fit_threshold(
    scores: &[Vec<f32>],
    mut reward: impl FnMut(usize, usize) -> f64,
) -> Result<FittedThreshold, FitThresholdError> {
    let mut falling: Vec<(f32, usize)> = Vec::new();
    for (question, scores) in scores.iter().enumerate() {
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(FitThresholdError::NotFinite { what: "score", question });
        }
        falling.extend(scores.iter().map(|score| (*score, question)));
    }
    falling.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let Some(&(highest, _)) = falling.first() else { return Err(FitThresholdError::NoScores) };
    let mut earned = |question: usize, kept: usize| {
        let value = reward(question, kept);
        let wrong = FitThresholdError::NotFinite { what: "reward", question };
        if value.is_finite() { Ok(value) } else { Err(wrong) }
    };
    let count = scores.len() as f64;
    let mut kept = vec![0_usize; scores.len()];
    let mut rewards = Vec::with_capacity(scores.len());
    for question in 0..scores.len() {
        rewards.push(earned(question, 0)?);
    }
    let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / count;
    let mut sum = mean(&rewards) * count;
    let mut best = FittedThreshold { cut: highest.next_up(), reward: sum / count, kept: 0.0 };
    for (done, &(score, question)) in falling.iter().enumerate() {
        kept[question] += 1;
        let next = falling.get(done + 1).map(|(next, _)| *next);
        // All documents of one score are kept together, so only the end of a tie is a cut; the
        // reward of a question is asked for when its own tie is over.
        let is_last_of_question = falling.get(done + 1) != Some(&(score, question));
        if is_last_of_question {
            let value = earned(question, kept[question])?;
            sum += value - std::mem::replace(&mut rewards[question], value);
        }
        if next == Some(score) {
            continue;
        }
        if sum / count > best.reward + 1e-12 {
            let cut = next.map_or(score, |next| between(score, next));
            best = FittedThreshold { cut, reward: sum / count, kept: (done + 1) as f64 / count };
        }
    }
    Ok(best)
}

/// A number that `high` reaches and `low` does not.
fn between(high: f32, low: f32) -> f32 {
    let middle = low + 0.5 * (high - low);
    if middle > low && middle <= high { middle } else { high }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Two questions; the good documents score 0.9 and 0.6, the others 0.4, 0.3 and 0.2. A good
    /// one earns 1, every document costs 0.25.
    fn two() -> (Vec<Vec<f32>>, impl FnMut(usize, usize) -> f64) {
        let rewards = [vec![0.0, 0.75, 0.5], vec![0.0, 0.75, 0.5, 0.25]];
        (vec![vec![0.4, 0.9], vec![0.2, 0.6, 0.3]], move |q, kept| rewards[q][kept])
    }

    #[test]
    fn the_best_cut_lies_between_the_good_documents_and_the_rest() {
        let (scores, reward) = two();
        let fitted = fit_threshold(&scores, reward).unwrap();
        // 0.9 alone earns .375, with 0.6 .75, with 0.4 .625, then .5 and .375.
        assert_eq!(fitted, FittedThreshold { cut: 0.5, reward: 0.75, kept: 1.0 });
    }

    #[test]
    fn keeping_none_and_keeping_all_are_cuts_too() {
        let (scores, _) = two();
        let none = fit_threshold(&scores, |_, kept| -(kept as f64)).unwrap();
        assert!(none.cut > 0.9 && none.kept == 0.0 && none.reward == 0.0, "{none:?}");
        let all = fit_threshold(&scores, |_, kept| kept as f64).unwrap();
        assert_eq!((all.cut, all.kept, all.reward), (0.2, 2.5, 2.5));
        let same = fit_threshold(&scores, |_, _| 0.3).unwrap();
        assert_eq!(same.kept, 0.0, "of equal rewards the fewest documents");
    }

    #[test]
    fn documents_of_one_score_are_kept_together() {
        // One of two equal documents would earn 1, but no cut can take one alone.
        let rewards = [0.0, 1.0, 0.4, 0.5];
        let fitted = fit_threshold(&[vec![2.0, 2.0, 1.0]], |_, kept| rewards[kept]).unwrap();
        assert_eq!((fitted.reward, fitted.kept), (0.5, 3.0));
        let across = fit_threshold(&[vec![2.0], vec![2.0]], |q, kept| {
            if q == 0 { kept as f64 } else { -2.0 * kept as f64 }
        });
        assert_eq!(across.unwrap().kept, 0.0, "both or none: -1 against 0");
    }

    #[test]
    fn a_cut_is_as_good_as_the_best_of_all_numbers() {
        // Scores and rewards by a rule of no meaning; every cut is tried on a fine grid.
        let scores: Vec<Vec<f32>> = (0..7_u32)
            .map(|q| (0..5_u32).map(|d| ((q * 31 + d * 17) % 23) as f32 / 23.0).collect())
            .collect();
        let reward = |q: usize, kept: usize| ((q * 7 + kept * 13) % 11) as f64 / 11.0;
        let at = |cut: f32| {
            let kept = |list: &Vec<f32>| list.iter().filter(|score| **score >= cut).count();
            scores.iter().enumerate().map(|(q, list)| reward(q, kept(list))).sum::<f64>() / 7.0
        };
        let fitted = fit_threshold(&scores, reward).unwrap();
        let best = (0..=1_100).map(|step| at(step as f32 / 1_000.0)).fold(0.0_f64, f64::max);
        assert!((fitted.reward - best).abs() < 1e-9, "{fitted:?} against {best}");
        assert!((at(fitted.cut) - fitted.reward).abs() < 1e-9, "the cut does what it says");
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        assert_eq!(fit_threshold(&[vec![], vec![]], |_, _| 0.0), Err(FitThresholdError::NoScores));
        let score = fit_threshold(&[vec![1.0], vec![f32::NAN]], |_, _| 0.0).unwrap_err();
        assert_eq!(score, FitThresholdError::NotFinite { what: "score", question: 1 });
        let reward = fit_threshold(&[vec![1.0]], |_, kept| 0.0 / (1.0 - kept as f64));
        assert!(matches!(reward, Err(FitThresholdError::NotFinite { what: "reward", .. })));
    }

    #[test]
    fn a_cut_between_neighbouring_floats_keeps_the_higher_one() {
        let (low, high) = (1.0_f32, 1.0_f32.next_up());
        let cut = between(high, low);
        assert!(high >= cut && low < cut);
        assert!(between(f32::MAX, f32::MIN).is_finite());
    }
}
