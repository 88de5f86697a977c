//! All commands, each with the request that it sends. Everything else in this module follows from this table.

use axum::http::Method;

/// One command.
#[derive(Debug)]
pub(super) struct Command {
    /// What it is called: what it is about, and what is done.
    pub(super) words: &'static [&'static str],
    /// What is said after the words, in this order.
    pub(super) operands: &'static [Argument],
    /// What may be said besides, by name.
    pub(super) options: &'static [Argument],
    /// How the backend is asked.
    pub(super) method: Method,
    /// Where, below `/admin/v1`. `{}` is the id.
    pub(super) path: &'static str,
    /// Of a list, how it goes on. `None`: one document, or nothing, is answered.
    pub(super) list: Option<List>,
    /// One line for the usage text.
    pub(super) about: &'static str,
}

/// An operand (`ID`), or an option (`--from TIME`).
#[derive(Debug)]
pub(super) struct Argument {
    /// As it is written on the command line; of an operand, the word in the usage text.
    pub(super) name: &'static str,
    /// Of an option, the word for its value in the usage text.
    pub(super) value: &'static str,
    /// Where it goes.
    pub(super) place: Place,
}

/// Where an argument goes in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An id, into the path.
    Path,
    /// A file (`-`: standard input), which is the body.
    Body,
    /// A text, under this key of the body.
    Text(&'static str),
    /// All that follow, at least one, under this key of the body as one text with spaces.
    Words(&'static str),
    /// A whole number, under this key of the body.
    Number(&'static str),
    /// Under this key of the query.
    Query(&'static str),
}

/// A list, of which the backend answers a page at a time.
#[derive(Debug)]
pub(super) struct List {
    /// The answer's key that holds the entries.
    pub(super) key: &'static str,
    /// How it goes on.
    pub(super) cursor: Cursor,
}

/// By what `after` names the place where the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// The last entry, which is an id.
    Entry,
    /// This key of the last entry.
    Key(&'static str),
    /// `next` of the answer; null on the last page.
    Next,
}

const fn operand(name: &'static str, place: Place) -> Argument {
    Argument {
        name,
        value: "",
        place,
    }
}

const fn option(name: &'static str, value: &'static str, place: Place) -> Argument {
    Argument { name, value, place }
}

const ID: Argument = operand("ID", Place::Path);
const FILE: Argument = operand("FILE|-", Place::Body);

/// A command without operands, which is answered with a list.
const fn list(
    words: &'static [&'static str],
    options: &'static [Argument],
    path: &'static str,
    key: &'static str,
    cursor: Cursor,
    about: &'static str,
) -> Command {
    Command {
        words,
        operands: &[],
        options,
        method: Method::GET,
        path,
        list: Some(List { key, cursor }),
        about,
    }
}

/// A command without options, which is answered with one document, or nothing.
const fn one(
    words: &'static [&'static str],
    operands: &'static [Argument],
    method: Method,
    path: &'static str,
    about: &'static str,
) -> Command {
    Command {
        words,
        operands,
        options: &[],
        method,
        path,
        list: None,
        about,
    }
}

/// All of them, in the order of the usage text.
pub(super) const COMMANDS: &[Command] = &[
    one(
        &["home", "put"],
        &[ID, FILE],
        Method::PUT,
        "/homes/{}",
        "makes the home, or replaces all of it",
    ),
    one(
        &["home", "get"],
        &[ID],
        Method::GET,
        "/homes/{}",
        "shows the home",
    ),
    list(
        &["home", "list"],
        &[],
        "/homes",
        "homes",
        Cursor::Entry,
        "shows the ids of all homes",
    ),
    one(
        &["home", "delete"],
        &[ID],
        Method::DELETE,
        "/homes/{}",
        "removes the home",
    ),
    one(
        &["home", "token"],
        &[
            ID,
            operand("CLIENT", Place::Text("clientId")),
            operand("SCOPE…", Place::Words("scope")),
        ],
        Method::POST,
        "/homes/{}/token",
        "makes an access token of the home's user for a consumer *",
    ),
    one(
        &["agent", "put"],
        &[ID, FILE],
        Method::PUT,
        "/agents/{}",
        "says where the agent's status is asked for",
    ),
    one(
        &["agent", "get"],
        &[ID],
        Method::GET,
        "/agents/{}",
        "shows the agent, with its last report",
    ),
    list(
        &["agent", "list"],
        &[],
        "/agents",
        "agents",
        Cursor::Key("id"),
        "shows all agents, without reports",
    ),
    one(
        &["agent", "delete"],
        &[ID],
        Method::DELETE,
        "/agents/{}",
        "removes the agent",
    ),
    one(
        &["agent", "token"],
        &[ID],
        Method::POST,
        "/agents/{}/token",
        "makes a token for the agent and voids all that it had *",
    ),
    Command {
        words: &["agent", "bootstrap"],
        operands: &[ID],
        options: &[option(
            "--expires-in",
            "SECONDS",
            Place::Number("expiresIn"),
        )],
        method: Method::POST,
        path: "/agents/{}/bootstrap",
        list: None,
        about: "makes a token with which the agent enrols once *",
    },
    one(
        &["consumer", "put"],
        &[ID, FILE],
        Method::PUT,
        "/consumers/{}",
        "makes the consumer, or replaces what is known of it *",
    ),
    one(
        &["consumer", "get"],
        &[ID],
        Method::GET,
        "/consumers/{}",
        "shows the consumer, without its secret",
    ),
    list(
        &["consumer", "list"],
        &[],
        "/consumers",
        "consumers",
        Cursor::Entry,
        "shows the ids of all consumers",
    ),
    one(
        &["consumer", "delete"],
        &[ID],
        Method::DELETE,
        "/consumers/{}",
        "removes the consumer",
    ),
    list(
        &["session", "list"],
        &[
            option("--home", "ID", Place::Query("home")),
            option("--consumer", "ID", Place::Query("consumer")),
        ],
        "/sessions",
        "sessions",
        Cursor::Key("sessionId"),
        "shows all sessions, or these",
    ),
    one(
        &["session", "get"],
        &[ID],
        Method::GET,
        "/sessions/{}",
        "shows the session",
    ),
    one(
        &["session", "delete"],
        &[ID],
        Method::DELETE,
        "/sessions/{}",
        "ends the session",
    ),
    list(
        &["usage"],
        &[
            option("--from", "TIME", Place::Query("from")),
            option("--to", "TIME", Place::Query("to")),
        ],
        "/usage",
        "usage",
        Cursor::Next,
        "shows what each session was that has ended",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_command_says_where_everything_goes() {
        let mut names = HashSet::new();
        for command in COMMANDS {
            let name = command.words.join(" ");
            assert!(names.insert(name.clone()), "{name} is there twice");
            let operands = |wanted: fn(Place) -> bool| {
                let all = command.operands.iter();
                all.filter(|operand| wanted(operand.place)).count()
            };
            assert_eq!(
                command.path.matches("{}").count(),
                operands(|place| place == Place::Path),
                "{name}"
            );
            assert_eq!(
                command.method == Method::PUT,
                operands(|place| place == Place::Body) == 1,
                "{name}"
            );
            // What swallows all that follow is the last.
            for operand in command.operands.iter().rev().skip(1) {
                assert!(!matches!(operand.place, Place::Words(_)), "{name}");
            }
            for option in command.options {
                assert!(option.name.starts_with("--"), "{name}");
                assert!(
                    matches!(option.place, Place::Number(_) | Place::Query(_)),
                    "{name}"
                );
            }
            assert!(
                command.list.is_none() || command.method == Method::GET,
                "{name}"
            );
        }
    }

    /// No command's words are the beginning of another's, so the first that fits is the one that is meant.
    #[test]
    fn no_command_hides_another() {
        for first in COMMANDS {
            let begins = |second: &&Command| second.words.starts_with(first.words);
            assert_eq!(COMMANDS.iter().filter(begins).count(), 1, "{first:?}");
        }
    }
}
