//! One line of the table, as the script reads it: words between tabs.

use std::fmt::Display;

/// What was measured, what beside it in the same run, and what is promised.
#[derive(Clone, Debug, Default)]
pub struct Row {
    what: String,
    measured: String,
    baseline: String,
    ratio: String,
    promised: String,
    held: Option<bool>,
}

impl Row {
    pub fn new(what: impl Display, measured: impl Display) -> Self {
        Self {
            what: what.to_string(),
            measured: measured.to_string(),
            ..Self::default()
        }
    }

    pub fn baseline(mut self, baseline: impl Display) -> Self {
        self.baseline = baseline.to_string();
        self
    }

    /// Ratio or difference of the two.
    pub fn ratio(mut self, ratio: impl Display) -> Self {
        self.ratio = ratio.to_string();
        self
    }

    /// Without it a row is for information.
    pub fn promised(mut self, promised: impl Display, held: bool) -> Self {
        self.promised = promised.to_string();
        self.held = Some(held);
        self
    }

    pub fn print(&self) {
        let verdict = match self.held {
            None => "",
            Some(true) => "ok",
            Some(false) => "MISSED",
        };
        println!(
            "row\t{}\t{}\t{}\t{}\t{}\t{verdict}",
            self.what, self.measured, self.baseline, self.ratio, self.promised
        );
    }
}

/// A sentence under the table: what a row alone does not say.
pub fn note(text: impl Display) {
    println!("note\t{text}");
}
