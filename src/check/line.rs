//! One line of the doctor's.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// As it should be.
    Ok,
    /// Something is less than it could be.
    Warn,
    /// The agent cannot do its main job.
    Fail,
}

/// What was looked at, how it is, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) grade: Grade,
    pub(super) what: String,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(grade: Grade, what: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            grade,
            what: what.into(),
            text: text.into(),
        }
    }

    pub(super) fn ok(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Grade::Ok, what, text)
    }

    pub(super) fn warn(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Grade::Warn, what, text)
    }

    pub(super) fn fail(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Grade::Fail, what, text)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match self.grade {
            Grade::Ok => "ok",
            Grade::Warn => "warn",
            Grade::Fail => "FAIL",
        };
        let line = format!("{grade:<4}  {}: {}", self.what, self.text);
        // A file name or a text of the distribution's could have anything in it.
        f.write_str(&line.replace(char::is_control, " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let line = Line::warn("token", "/a\n\u{1b}[31mb: is there");
        assert_eq!(line.to_string(), "warn  token: /a  [31mb: is there");
        assert_eq!(Line::ok("HTB", "there").to_string(), "ok    HTB: there");
    }
}
