//! What is said in the log of a trouble that lasts. No I/O.

use log::Level;

/// Most sentences that are kept; further ones are taken for variations.
const MOST: usize = 8;

/// What was said since all was well: each thing once, however often it is tried again and whatever else
/// goes wrong in between.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    said: Vec<String>,
}

impl Trouble {
    /// At which level `text` is to be logged.
    pub(super) fn level(&mut self, text: &str) -> Level {
        if self.said.len() >= MOST || self.said.iter().any(|said| said == text) {
            return Level::Debug;
        }
        self.said.push(text.to_owned());
        Level::Warn
    }

    /// Ends it; whether there was any.
    pub(super) fn end(&mut self) -> bool {
        !std::mem::take(&mut self.said).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_until_all_is_well() {
        let mut trouble = Trouble::default();
        assert!(!trouble.end());
        assert_eq!(trouble.level("refused"), Level::Warn);
        assert_eq!(trouble.level("timeout"), Level::Warn);
        assert_eq!(trouble.level("refused"), Level::Debug);
        assert!(trouble.end() && !trouble.end());
        assert_eq!(trouble.level("refused"), Level::Warn);
        let loud = (0..1000).filter(|n| trouble.level(&n.to_string()) == Level::Warn);
        assert_eq!(loud.count(), MOST - 1);
    }
}
