//! From what a language model says to an order of the window: the repair of RankGPT and rank_llm.
//!
//! Pure functions over text and numbers.

/// Places named in a reply such as `[2] > [1] > [3]`, counted from 0, as said: perhaps repeated, too
/// many or too few.
///
/// What stands before the last `</think>` is thinking and is dropped, as is a thought that never
/// ends. Superscript, circled and full-width digits count as the ASCII ones. Then every run of digits
/// is a number, whatever stands around it; 0 and numbers too large for any list name nothing and are
/// left out.
pub fn permutation_of(reply: &str) -> Vec<usize> {
    let said = match reply.rfind("</think>") {
        Some(at) => &reply[at..],
        None => reply.split("<think>").next().unwrap_or_default(),
    };
    let mut ascii = String::with_capacity(said.len());
    for c in said.chars() {
        push_digits(&mut ascii, c);
    }
    let numbers = ascii.split_whitespace().filter_map(|word| word.parse::<usize>().ok());
    numbers.filter_map(|number| number.checked_sub(1)).collect()
}

/// The digits that a character stands for, or a space.
fn push_digits(ascii: &mut String, c: char) {
    const SUPERSCRIPTS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let code = u32::from(c);
    // First character, last one, and the number of the first. A circled number is one of its own,
    // so a space goes before and after it.
    let circled =
        [(0x2460, 0x2473, 1), (0x3251, 0x325F, 21), (0x32B1, 0x32BF, 36), (0x2776, 0x277F, 1)];
    if c.is_ascii_digit() {
        ascii.push(c);
    } else if let Some(value) = SUPERSCRIPTS.iter().position(|digit| *digit == c) {
        ascii.push_str(&value.to_string());
    } else if (0xFF10..=0xFF19).contains(&code) {
        ascii.push_str(&(code - 0xFF10).to_string());
    } else if let Some((first, _, number)) =
        circled.iter().find(|(first, last, _)| (*first..=*last).contains(&code))
    {
        ascii.push_str(&format!(" {} ", code - first + number));
    } else {
        ascii.push(' ');
    }
}

/// Whether every place from 0 to n is named once.
pub fn is_permutation(said: &[usize], n: usize) -> bool {
    said.len() == n && repaired(said.iter().copied(), n) == said
}

/// A permutation of 0..n out of what was said: repeated places keep their first mention, places out
/// of range are dropped, missing ones follow in their old order.
pub fn repaired(said: impl IntoIterator<Item = usize>, n: usize) -> Vec<usize> {
    let mut is_named = vec![false; n];
    let mut order = Vec::with_capacity(n);
    for place in said {
        if is_named.get(place) == Some(&false) {
            is_named[place] = true;
            order.push(place);
        }
    }
    order.extend((0..n).filter(|place| !is_named[*place]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(reply: &str, n: usize) -> Vec<usize> {
        repaired(permutation_of(reply), n)
    }

    #[test]
    fn a_good_reply_is_taken_as_it_is() {
        assert_eq!(order("[2] > [1] > [3]", 3), [1, 0, 2]);
        assert!(is_permutation(&permutation_of("[2] > [1] > [3]"), 3));
        assert!(!is_permutation(&permutation_of("[2] > [1]"), 3));
        assert!(!is_permutation(&permutation_of("[2] > [1] > [2]"), 3));
        assert!(!is_permutation(&permutation_of("[2] > [1] > [3] > [3]"), 3));
    }

    #[test]
    fn repeated_missing_and_foreign_numbers_are_repaired() {
        assert_eq!(order("[3] > [3] > [1] > [3]", 4), [2, 0, 1, 3], "the first mention counts");
        assert_eq!(order("[4] > [9] > [0] > [2]", 4), [3, 1, 0, 2], "9 and 0 name nothing");
        assert_eq!(order("[2] > [", 3), [1, 0, 2], "cut off");
        assert_eq!(order("I cannot rank these.", 3), [0, 1, 2]);
        assert_eq!(order("", 3), [0, 1, 2]);
        assert_eq!(order("99999999999999999999999 > 2", 3), [1, 0, 2], "no number at all");
        assert_eq!(order("2, 3; 1", 3), [1, 2, 0], "whatever stands between");
        assert_eq!(order("[12] > [1]", 12)[..2], [11, 0]);
        assert!(order("[1]", 0).is_empty());
    }

    #[test]
    fn thinking_is_dropped() {
        assert_eq!(order("<think>[3] is best, then 1</think>[2] > [1]", 3), [1, 0, 2]);
        assert_eq!(order("[3] it seems</think>\n[2]", 3), [1, 0, 2], "the opening tag is optional");
        assert_eq!(order("<think>1</think> no, <think>2</think>[3]", 3), [2, 0, 1]);
        assert_eq!(order("<think>[3] > [2] but then", 3), [0, 1, 2], "a thought without an end");
    }

    #[test]
    fn digits_of_other_scripts_count() {
        assert_eq!(order("[³] > [¹] > [²]", 3), [2, 0, 1]);
        assert_eq!(order("③ > ① > ②", 3), [2, 0, 1]);
        assert_eq!(order("③①②", 3), [2, 0, 1], "circled numbers need no space");
        assert_eq!(order("[３] > [１]", 3), [2, 0, 1]);
        assert_eq!(order("[¹²] > [１１]", 12)[..2], [11, 10]);
        assert_eq!(order("⑳ > ❷", 20)[..2], [19, 1]);
    }
}
