//! The usage text, made of the table.

use super::access::{DEFAULT_URL, TOKEN_FILE, URL, default_token_file};
use super::table::{Argument, COMMANDS, Command};

/// Widths of the columns in which commands and options stand.
const COMMAND_COLUMN: usize = 44;
const OPTION_COLUMN: usize = 20;

/// All commands and options.
pub fn usage() -> String {
    let mut text =
        "Commands for the operator, which ask a running backend (its admin API):\n".to_owned();
    for command in COMMANDS {
        let (what, about) = (synopsis(command), command.about);
        text.push_str(&format!("  {what:<COMMAND_COLUMN$} {about}\n"));
    }
    text.push_str(
        "FILE is a JSON document as the admin API takes it; - is standard input. TIME is in seconds since 1970\n\
         (`date -d 2026-11-01 +%s`), from the first on and before the second. Answers are JSON, on standard output.\n\
         * The answer holds a secret, which is shown this once: nobody can ask for it again.\n\n\
         Options of all of these:\n",
    );
    let token_file = default_token_file();
    for (option, about) in [
        (
            "--url URL",
            format!("where the backend is (else {URL}, else {DEFAULT_URL})"),
        ),
        (
            "--token-file FILE",
            format!(
                "the admin token (else {TOKEN_FILE}, else {})",
                token_file.display()
            ),
        ),
        (
            "--ca-file FILE",
            "authorities for https, PEM (else the system's)".to_owned(),
        ),
        (
            "--allow-plain-http",
            "lets the admin token leave this host unencrypted".to_owned(),
        ),
        (
            "--lines",
            "of a list: each entry on a line of its own".to_owned(),
        ),
    ] {
        text.push_str(&format!("  {option:<OPTION_COLUMN$} {about}\n"));
    }
    text.push_str(
        "\nExit status: 0 done, 1 failed or refused (the reason is on standard error), 2 wrong usage or \
         configuration.\n",
    );
    text
}

/// How the commands that begin with the same word as `arguments` are used; all commands, if none does.
pub(super) fn about(arguments: &[&str]) -> String {
    let of = |length: usize| {
        let begins = |command: &&Command| {
            let words = command.words.iter().take(length);
            arguments.len() >= length && words.eq(arguments.iter().take(length))
        };
        let mut lines = String::new();
        for command in COMMANDS.iter().filter(begins) {
            lines.push_str(&format!("  qod-backend {}\n", synopsis(command)));
        }
        lines
    };
    let lines = [2, 1].into_iter().map(of).find(|lines| !lines.is_empty());
    match lines {
        Some(lines) => format!("usage:\n{lines}`qod-backend help` explains all.\n"),
        None => "`qod-backend help` shows all commands.\n".to_owned(),
    }
}

fn synopsis(command: &Command) -> String {
    let operands = command.operands.iter().map(|operand| operand.name);
    let words = command.words.iter().copied().chain(operands);
    let mut synopsis = words.collect::<Vec<_>>().join(" ");
    for Argument { name, value, .. } in command.options {
        synopsis.push_str(&format!(" [{name} {value}]"));
    }
    synopsis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_explained() {
        let text = usage();
        for command in COMMANDS {
            assert!(text.contains(&format!("  {} ", synopsis(command))));
            assert!(synopsis(command).chars().count() <= COMMAND_COLUMN);
        }
        for shown in [
            "home token ID CLIENT SCOPE…",
            "agent bootstrap ID [--expires-in SECONDS]",
            "usage [--from TIME] [--to TIME]",
        ] {
            assert!(text.contains(shown), "{shown}");
        }
    }

    #[test]
    fn wrong_usage_shows_what_was_nearly_said() {
        assert_eq!(
            about(&["home", "get"]),
            "usage:\n  qod-backend home get ID\n`qod-backend help` explains all.\n"
        );
        assert_eq!(
            about(&["agent", "pit"])
                .matches("qod-backend agent")
                .count(),
            6
        );
        assert_eq!(about(&["agent"]).matches("qod-backend agent").count(), 6);
        assert_eq!(
            about(&["usage", "x"]),
            "usage:\n  qod-backend usage [--from TIME] [--to TIME]\n`qod-backend help` explains all.\n"
        );
        assert_eq!(about(&["x"]), "`qod-backend help` shows all commands.\n");
    }
}
