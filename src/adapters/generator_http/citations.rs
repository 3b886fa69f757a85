//! Reading `[1]`, `[1, 3]` and `[2][4]` out of an answer.

/// What an answer cites.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Citations {
    /// Numbers of documents from 1, each once, in the order of first mention.
    pub(super) numbers: Vec<usize>,
    /// Mentions of documents that were not given.
    pub(super) out_of_range: usize,
    /// The answer without its citations.
    pub(super) plain: String,
}

impl Citations {
    /// Reads an answer that was given documents 1 to `count`. Brackets that hold anything but
    /// numbers and commas are text.
    pub(super) fn read(text: &str, count: usize) -> Self {
        let mut found = Self::default();
        let mut rest = text;
        while let Some(open) = rest.find('[') {
            let (before, bracket) = rest.split_at(open);
            found.plain.push_str(before);
            let close = bracket.find(']');
            let numbers = close.and_then(|close| numbers(&bracket[1..close]));
            let (Some(close), Some(numbers)) = (close, numbers) else {
                found.plain.push('[');
                rest = &bracket[1..];
                continue;
            };
            for number in numbers {
                if !(1..=count).contains(&number) {
                    found.out_of_range += 1;
                } else if !found.numbers.contains(&number) {
                    found.numbers.push(number);
                }
            }
            found.plain.truncate(found.plain.trim_end_matches(' ').len());
            rest = &bracket[close + 1..];
        }
        found.plain.push_str(rest);
        found.plain = found.plain.trim().to_owned();
        found
    }
}

/// The numbers of `1, 3`; `None` where there is anything else. A number too large for any list is
/// out of range like every other.
fn numbers(inside: &str) -> Option<Vec<usize>> {
    let number = |part: &str| {
        let part = part.trim();
        let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse().unwrap_or(usize::MAX))
    };
    inside.split(',').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_are_read_in_order_of_first_mention_and_leave_the_text() {
        let cases: [(&str, &[usize], usize, &str); 9] = [
            ("Paris [2].", &[2], 0, "Paris."),
            ("Paris [1, 3], not Rome [3][1].", &[1, 3], 0, "Paris, not Rome."),
            ("[2][4] Paris", &[2, 4], 0, "Paris"),
            ("Paris [9] [0] [1]", &[1], 2, "Paris"),
            ("Paris [99999999999999999999999]", &[], 1, "Paris"),
            ("the array a[i] and [see 2]", &[], 0, "the array a[i] and [see 2]"),
            ("open [1", &[], 0, "open [1"),
            ("[] [,] [1,]", &[], 0, "[] [,] [1,]"),
            ("[[1]]", &[1], 0, "[]"),
        ];
        for (text, numbers, out_of_range, plain) in cases {
            let found = Citations::read(text, 4);
            assert_eq!(found.numbers, numbers, "{text}");
            assert_eq!(found.out_of_range, out_of_range, "{text}");
            assert_eq!(found.plain, plain, "{text}");
        }
        assert_eq!(
            Citations::read("x [1]", 0).out_of_range,
            1,
            "nothing can be cited from nothing"
        );
    }
}
