//! Words of somebody else's, cut to what a line of a log and a report can hold. No I/O.

/// Longest excerpt, in characters.
const LONGEST: usize = 300;

/// The beginning of `text` on one line: an error that quotes eight megabytes is told in a sentence, and
/// nothing from outside begins a new line of the log.
pub fn excerpt(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if short.len() < text.len() && text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_stays_and_a_flood_is_cut() {
        assert_eq!(excerpt("as it is"), "as it is");
        assert_eq!(excerpt("a\nb\u{1b}[2J"), "a\u{fffd}b\u{fffd}[2J");
        assert_eq!(excerpt(&"ä".repeat(LONGEST)), "ä".repeat(LONGEST));
        let cut = excerpt(&"ä".repeat(8 << 20));
        assert_eq!(cut.chars().count(), LONGEST + 1);
        assert!(cut.ends_with('…'));
    }
}
