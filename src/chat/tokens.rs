//! Counting tokens without the server's tokenizer: a likely figure, a safe one, and cutting by it.

use sha2::{Digest as _, Sha256};

/// Bytes of a token of English text, for the estimate.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens that a chat template puts around each message, at most.
const MESSAGE_TOKENS_MAX: usize = 64;

/// About how many tokens a text is: a quarter of its bytes, and at least one a word. For English
/// prose within a fifth of what common tokenizers count; low for code and other scripts.
pub fn estimated_tokens(text: &str) -> u32 {
    let words = text.split_whitespace().count();
    u32::try_from(text.len().div_ceil(BYTES_PER_TOKEN).max(words)).unwrap_or(u32::MAX)
}

/// More tokens than these texts, one a message, can be: a token is a byte at least in every
/// tokenizer in use, and a chat template adds a bounded number to each message.
pub fn most_tokens<'a>(messages: impl IntoIterator<Item = &'a str>) -> u64 {
    messages.into_iter().map(|text| (text.len() + MESSAGE_TOKENS_MAX) as u64).sum()
}

/// The start of a text that is about `tokens` tokens at most, cut between words where it can be.
pub fn truncated(text: &str, tokens: u32) -> &str {
    if estimated_tokens(text) <= tokens {
        return text;
    }
    let (mut words, mut end) = (0_u32, 0);
    let bytes_max = (tokens as usize).saturating_mul(BYTES_PER_TOKEN);
    for word in text.split_whitespace() {
        // Every word is a slice of `text`, so its place is the distance of the two starts.
        let stop = word.as_ptr() as usize - text.as_ptr() as usize + word.len();
        words += 1;
        if words > tokens || stop > bytes_max {
            break;
        }
        end = stop;
    }
    if end == 0 {
        end = (0..=bytes_max.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
    }
    &text[..end]
}

/// A seed for the server's dice from names, such as a query's id: equal names give equal seeds.
/// 31 bits, because that is what every server takes.
pub fn seed_of(names: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for name in names {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
    }
    let digest = hash.finalize();
    u64::from(u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_lie_between_words_and_bytes() {
        assert_eq!(estimated_tokens(""), 0);
        assert_eq!(estimated_tokens("a b c d e"), 5, "at least one a word");
        assert_eq!(estimated_tokens("internationalisation"), 5, "a quarter of the bytes");
        assert!(most_tokens(["Röntgen"]) > 8);
    }

    #[test]
    fn a_text_is_cut_between_words_where_it_can_be() {
        assert_eq!(truncated("one two three", 100), "one two three");
        assert_eq!(truncated("one two three four", 3), "one two");
        assert_eq!(truncated("  a b c d e f", 2), "  a b");
        assert_eq!(truncated("ééééééééé", 2), "éééé");
        assert_eq!(truncated("anything", 0), "");
        for tokens in 0..20 {
            let cut = truncated("the Nile ends in the Mediterranean Sea, they say", tokens);
            assert!(estimated_tokens(cut) <= tokens, "{tokens}: {cut:?}");
        }
    }

    #[test]
    fn seeds_follow_the_names_and_their_borders() {
        assert_eq!(seed_of(&["q1", "0"]), seed_of(&["q1", "0"]));
        assert_ne!(seed_of(&["q1", "0"]), seed_of(&["q10", ""]));
        assert!(seed_of(&["q"]) < 1 << 31);
    }
}
