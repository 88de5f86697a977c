//! What is said in the log of a trouble that lasts. No I/O.

use log::Level;

/// Most sentences that are kept; further ones are taken for variations.
const MOST: usize = 8;

/// Who meets a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Poll,
    Report,
}

/// What was said since all was well: each thing once, whichever task meets it first, however often it is
/// tried again and whatever else goes wrong in between.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    said: Vec<Said>,
}

#[derive(Debug)]
struct Said {
    text: String,
    /// By whom it was met and is not over.
    met_by: Vec<Task>,
}

impl Trouble {
    /// At which level `text` is to be logged.
    pub(super) fn level(&mut self, task: Task, text: &str) -> Level {
        if let Some(said) = self.said.iter_mut().find(|said| said.text == text) {
            if !said.met_by.contains(&task) {
                said.met_by.push(task);
            }
            return Level::Debug;
        }
        if self.said.len() >= MOST {
            return Level::Debug;
        }
        self.said.push(Said {
            text: text.to_owned(),
            met_by: vec![task],
        });
        Level::Warn
    }

    /// All is well again for this task.
    pub(super) fn end(&mut self, task: Task) {
        for said in &mut self.said {
            said.met_by.retain(|met| *met != task);
        }
        self.said.retain(|said| !said.met_by.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::Task::{Poll, Report};
    use super::*;

    #[test]
    fn each_thing_is_said_once_until_all_is_well() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.level(Poll, "refused"), Level::Warn);
        assert_eq!(trouble.level(Poll, "timeout"), Level::Warn);
        assert_eq!(trouble.level(Poll, "refused"), Level::Debug);
        assert_eq!(trouble.level(Report, "refused"), Level::Debug);
        trouble.end(Poll);
        assert_eq!(trouble.level(Poll, "timeout"), Level::Warn);
        assert_eq!(
            trouble.level(Poll, "refused"),
            Level::Debug,
            "of the reports it is true"
        );
        trouble.end(Poll);
        trouble.end(Report);
        assert_eq!(trouble.level(Report, "refused"), Level::Warn);
    }

    #[test]
    fn variations_are_not_said_without_end() {
        let mut trouble = Trouble::default();
        let loud = (0..1000).filter(|n| trouble.level(Poll, &n.to_string()) == Level::Warn);
        assert_eq!(loud.count(), MOST);
    }
}
