//! How long a prefix of a ranked list is kept: at a count, at a score, or where the scores break.
//!
//! Pure functions over scores that fall from place to place. They know no document, no limit and no
//! model.

/// Where a ranked list is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// After so many documents.
    First(usize),
    /// Before the first score below this.
    AtLeast(f32),
    /// Before the knee of the scores: [`knee`].
    Knee,
    /// Before the widest gap between two neighbours: [`largest_drop`].
    LargestDrop,
}

impl Cut {
    /// How many documents of a list with these scores are kept, `<= falling.len()`.
    ///
    /// `falling`: (n) scores from the best to the worst.
    pub fn kept(self, falling: &[f32]) -> usize {
        match self {
            Self::First(k) => k.min(falling.len()),
            Self::AtLeast(cut) => falling.partition_point(|score| *score >= cut),
            Self::Knee => knee(falling),
            Self::LargestDrop => largest_drop(falling),
        }
    }
}

/// Differences below this share of the scores' span count as equal: the rounding of f32.
const TIE: f64 = 1e-6;

/// How many documents stand before the knee of falling scores (Kneedle; Satopää et al., 2011).
///
/// Places and scores are scaled to [0, 1]; the knee is the place whose score lies furthest below
/// the straight line from the first score to the last, and what stands before it is kept. The
/// whole list is known, so the sensitivity of the on-line method has no part in it, and nothing is
/// smoothed. Of equal distances the last place counts: a straight line or one that falls only at
/// its end has its knee at the end, and keeps all but the last. Equal scores give no reason to cut
/// and are all kept; of one document, one is.
pub fn knee(falling: &[f32]) -> usize {
    let (n, span) = (falling.len(), span(falling));
    if n < 2 || span <= 0.0 {
        return n;
    }
    let last = f64::from(falling[n - 1]);
    let below = |place: usize| {
        let line = 1.0 - place as f64 / (n - 1) as f64;
        line - (f64::from(falling[place]) - last) / span
    };
    let (mut best, mut at) = (f64::NEG_INFINITY, n - 1);
    for place in 0..n {
        let distance = below(place);
        if distance >= best - TIE {
            best = best.max(distance);
            at = place;
        }
    }
    at
}

/// How many documents stand before the largest difference between neighbours; of equal ones the
/// first. Equal scores give no reason to cut and are all kept; of one document, one is.
pub fn largest_drop(falling: &[f32]) -> usize {
    let tie = TIE * span(falling);
    let (mut widest, mut kept) = (tie, falling.len());
    for (place, pair) in falling.windows(2).enumerate() {
        let drop = f64::from(pair[0]) - f64::from(pair[1]);
        if drop > widest + tie {
            (widest, kept) = (drop, place + 1);
        }
    }
    kept
}

fn span(falling: &[f32]) -> f64 {
    match falling {
        [first, .., last] => f64::from(*first) - f64::from(*last),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_keeps_what_reaches_it() {
        let falling = [0.9, 0.8, 0.8, 0.1];
        for (cut, kept) in [(0.8, 3), (0.81, 1), (1.0, 0), (0.0, 4), (f32::NEG_INFINITY, 4)] {
            assert_eq!(Cut::AtLeast(cut).kept(&falling), kept, "cut {cut}");
        }
        assert_eq!(Cut::First(3).kept(&falling), 3);
        assert_eq!(Cut::First(9).kept(&falling), 4);
        assert_eq!(Cut::AtLeast(0.5).kept(&[]), 0);
    }

    #[test]
    fn the_knee_is_where_the_scores_level_off() {
        // Below the line 1, .75, .5, .25, 0: by 0, -.15, .4, .2, 0.
        assert_eq!(knee(&[10.0, 9.0, 1.0, 0.5, 0.0]), 2);
        // By 0, .65, .4, .2, 0: the second place is furthest below, whatever the scale and shift.
        assert_eq!(knee(&[10.0, 1.0, 1.0, 0.5, 0.0]), 1);
        assert_eq!(knee(&[-5.0, -9.5, -9.5, -9.75, -10.0]), 1);
        // The scores hold out and fall at the end.
        assert_eq!(knee(&[10.0, 9.9, 9.8, 0.0]), 3);
        assert_eq!(knee(&[3.0, 2.0, 1.0]), 2, "a straight line");
        assert_eq!(knee(&[0.3, 0.2, 0.1]), 2, "a straight line but for rounding");
    }

    #[test]
    fn the_knee_and_the_widest_gap_may_differ() {
        let falling = [10.0, 7.0, 3.0, 2.5, 2.0, 1.5, 1.0];
        // Drops 3, 4, .5, …; distances 0, .17, .44, .33, …
        assert_eq!(largest_drop(&falling), 2);
        assert_eq!(knee(&falling), 2);
        let falling = [10.0, 9.0, 5.0, 2.0, 1.0, 0.5, 0.0];
        // Drops 1, 4, 3, …: after the second. Distances 0, -.07, .17, .3, .23, …: at the fourth.
        assert_eq!(largest_drop(&falling), 2);
        assert_eq!(knee(&falling), 3);
    }

    #[test]
    fn lists_that_do_not_fall_are_kept_whole() {
        for falling in [&[][..], &[1.0], &[2.0, 2.0], &[-3.0, -3.0, -3.0, -3.0]] {
            assert_eq!(knee(falling), falling.len());
            assert_eq!(largest_drop(falling), falling.len());
        }
        assert_eq!((knee(&[2.0, 1.0]), largest_drop(&[2.0, 1.0])), (1, 1));
        assert_eq!(largest_drop(&[3.0, 2.0, 1.0]), 1, "the first of equal drops");
    }
}
