//! From the words on the command line to one request. Nothing is read here and nobody is asked.

use std::path::PathBuf;

use super::ask::{Ask, Parts};
use super::table::{COMMANDS, Command, Place};

/// What the command line says.
#[derive(Debug)]
pub(super) struct Arguments {
    /// The command.
    pub(super) command: &'static Command,
    /// The request.
    pub(super) ask: Ask,
    /// Where the backend is, and how it is to be met.
    pub(super) connection: Connection,
    /// `--lines`: one line for each entry of a list.
    pub(super) lines: bool,
}

/// The options that all commands have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    /// `--url`.
    pub(super) url: Option<String>,
    /// `--token-file`.
    pub(super) token_file: Option<PathBuf>,
    /// `--ca-file`.
    pub(super) ca_file: Option<PathBuf>,
    /// `--allow-plain-http`.
    pub(super) allow_plain_http: bool,
}

/// Why a command line cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// There are options alone.
    #[error("no command is given")]
    Nothing,
    /// There is no such command.
    #[error("there is no command `{0}`")]
    Unknown(String),
    /// There is no such option, or the command has no use for it.
    #[error("{command} has no option {option}")]
    Option {
        /// The command's words.
        command: String,
        /// The option.
        option: String,
    },
    /// An option is there twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// Something is missing after this option.
    #[error("{0} is given without a value")]
    NoValue(String),
    /// An option that says all by itself.
    #[error("{0} takes no value")]
    Value(String),
    /// An operand is missing.
    #[error("{command} is missing {operand}")]
    Missing {
        /// The command's words.
        command: String,
        /// The operand, as in the usage text.
        operand: &'static str,
    },
    /// More operands than the command takes.
    #[error("{command} has no use for {operand:?}")]
    Surplus {
        /// The command's words.
        command: String,
        /// The first of them.
        operand: String,
    },
    /// This cannot be an id.
    #[error(
        "the id {0:?} must be 1 to 64 letters, digits, dots, hyphens or underscores, and not . or .."
    )]
    Id(String),
    /// This is no number.
    #[error("{option} must be a whole number of seconds, not {value:?}")]
    Number {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
    },
}

/// Reads a command line.
///
/// # Errors
/// It cannot be understood.
pub(super) fn parse(arguments: &[&str]) -> Result<Arguments, UsageError> {
    let (words, options) = split(arguments)?;
    let command = find(&words)?;
    let name = command.words.join(" ");
    let mut parts = Parts::default();
    let mut connection = Connection::default();
    let mut lines = false;
    for (option, value) in options {
        let own = command.options.iter().find(|known| known.name == option);
        match (option, value) {
            ("--url", value) => connection.url = value,
            ("--token-file", value) => connection.token_file = value.map(PathBuf::from),
            ("--ca-file", value) => connection.ca_file = value.map(PathBuf::from),
            ("--allow-plain-http", _) => connection.allow_plain_http = true,
            ("--lines", _) if command.list.is_some() => lines = true,
            (_, value) => match (own, value) {
                (Some(known), Some(value)) => parts.put(known, value)?,
                _ => {
                    return Err(UsageError::Option {
                        command: name,
                        option: option.to_owned(),
                    });
                }
            },
        }
    }
    let mut rest = words.iter().skip(command.words.len());
    for operand in command.operands {
        let missing = || UsageError::Missing {
            command: name.clone(),
            operand: operand.name,
        };
        let mut said = (*rest.next().ok_or_else(missing)?).to_owned();
        if let Place::Words(_) = operand.place {
            for more in rest.by_ref() {
                said.push(' ');
                said.push_str(more);
            }
        }
        parts.put(operand, said)?;
    }
    if let Some(surplus) = rest.next() {
        return Err(UsageError::Surplus {
            command: name,
            operand: (*surplus).to_owned(),
        });
    }
    Ok(Arguments {
        command,
        ask: parts.ask(command),
        connection,
        lines,
    })
}

/// Options of all commands that have a value, and those that have none.
const WITH_VALUE: &[&str] = &["--url", "--token-file", "--ca-file"];
const WITHOUT_VALUE: &[&str] = &["--allow-plain-http", "--lines"];

/// An option's name and value.
type Said<'a> = (&'a str, Option<String>);

/// Options may stand anywhere; after `--` there are none.
fn split<'a>(arguments: &[&'a str]) -> Result<(Vec<&'a str>, Vec<Said<'a>>), UsageError> {
    let mut words = Vec::new();
    let mut options: Vec<Said<'_>> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "--" {
            words.extend(rest.by_ref());
        } else if !argument.starts_with("--") {
            words.push(*argument);
        } else {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (*argument, None),
            };
            if options.iter().any(|(known, _)| *known == name) {
                return Err(UsageError::Twice(name.to_owned()));
            }
            let value = if takes_value(name) {
                match value.or_else(|| rest.next().copied()) {
                    Some(value) if !value.is_empty() => Some(value.to_owned()),
                    _ => return Err(UsageError::NoValue(name.to_owned())),
                }
            } else if value.is_some() && WITHOUT_VALUE.contains(&name) {
                return Err(UsageError::Value(name.to_owned()));
            } else {
                None
            };
            options.push((name, value));
        }
    }
    Ok((words, options))
}

fn takes_value(name: &str) -> bool {
    let own = COMMANDS.iter().flat_map(|command| command.options);
    WITH_VALUE.contains(&name) || own.into_iter().any(|option| option.name == name)
}

fn find(words: &[&str]) -> Result<&'static Command, UsageError> {
    if words.is_empty() {
        return Err(UsageError::Nothing);
    }
    COMMANDS
        .iter()
        .find(|command| words.starts_with(command.words))
        .ok_or_else(|| {
            // What follows the two words of a command may be anything.
            let two: Vec<&str> = words.iter().take(2).copied().collect();
            UsageError::Unknown(two.join(" "))
        })
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use serde_json::json;

    use super::super::ask::Body;
    use super::*;

    fn ask(line: &str) -> Ask {
        let words: Vec<&str> = line.split(' ').collect();
        parse(&words).unwrap().ask
    }

    #[test]
    fn each_command_sends_its_request() {
        for (line, method, target, body) in [
            (
                "home put h f.json",
                Method::PUT,
                "/homes/h",
                Body::File("f.json".into()),
            ),
            ("home put h -", Method::PUT, "/homes/h", Body::Input),
            ("home get h", Method::GET, "/homes/h", Body::Nothing),
            ("home list", Method::GET, "/homes", Body::Nothing),
            ("home delete h", Method::DELETE, "/homes/h", Body::Nothing),
            (
                "home token h app a b",
                Method::POST,
                "/homes/h/token",
                Body::Said(json!({"clientId": "app", "scope": "a b"})),
            ),
            ("agent put a -", Method::PUT, "/agents/a", Body::Input),
            ("agent get a", Method::GET, "/agents/a", Body::Nothing),
            ("agent list", Method::GET, "/agents", Body::Nothing),
            ("agent delete a", Method::DELETE, "/agents/a", Body::Nothing),
            (
                "agent token a",
                Method::POST,
                "/agents/a/token",
                Body::Nothing,
            ),
            (
                "agent bootstrap a",
                Method::POST,
                "/agents/a/bootstrap",
                Body::Nothing,
            ),
            (
                "agent bootstrap a --expires-in 60",
                Method::POST,
                "/agents/a/bootstrap",
                Body::Said(json!({"expiresIn": 60})),
            ),
            (
                "consumer put c f",
                Method::PUT,
                "/consumers/c",
                Body::File("f".into()),
            ),
            ("consumer get c", Method::GET, "/consumers/c", Body::Nothing),
            ("consumer list", Method::GET, "/consumers", Body::Nothing),
            (
                "consumer delete c",
                Method::DELETE,
                "/consumers/c",
                Body::Nothing,
            ),
            ("session list", Method::GET, "/sessions", Body::Nothing),
            ("session get s", Method::GET, "/sessions/s", Body::Nothing),
            (
                "session delete s",
                Method::DELETE,
                "/sessions/s",
                Body::Nothing,
            ),
            ("usage", Method::GET, "/usage", Body::Nothing),
            (
                "session list --consumer https://a/b --home h",
                Method::GET,
                "/sessions?consumer=https%3A%2F%2Fa%2Fb&home=h",
                Body::Nothing,
            ),
            (
                "usage --to=2026-02-01T00:00:00+01:00 --from 5",
                Method::GET,
                "/usage?to=2026-02-01T00%3A00%3A00%2B01%3A00&from=5",
                Body::Nothing,
            ),
        ] {
            let asked = ask(line);
            assert_eq!(asked.method, method, "{line}");
            assert_eq!(asked.target(None), format!("/admin/v1{target}"), "{line}");
            assert_eq!(asked.body, body, "{line}");
        }
    }

    #[test]
    fn options_stand_anywhere() {
        let parsed = parse(&[
            "--url=http://a",
            "home",
            "--lines",
            "list",
            "--token-file",
            "t",
            "--ca-file",
            "c",
            "--allow-plain-http",
        ])
        .unwrap();
        let connection = Connection {
            url: Some("http://a".to_owned()),
            token_file: Some("t".into()),
            ca_file: Some("c".into()),
            allow_plain_http: true,
        };
        assert_eq!((parsed.ask.path.as_str(), parsed.lines), ("/homes", true));
        assert_eq!(parsed.connection, connection);
        let parsed = parse(&["home", "get", "--", "--lines"]).unwrap();
        assert_eq!(
            (parsed.ask.path.as_str(), parsed.lines),
            ("/homes/--lines", false)
        );
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (line, message) in [
            ("home", "there is no command `home`"),
            ("home pit h", "there is no command `home pit`"),
            ("usages", "there is no command `usages`"),
            ("--lines", "no command is given"),
            ("home get --lins a", "home get has no option --lins"),
            ("home get a --lins", "home get has no option --lins"),
            ("home get a --lins=1", "home get has no option --lins"),
            ("home put", "home put is missing ID"),
            ("home put h", "home put is missing FILE|-"),
            ("home token h app", "home token is missing SCOPE…"),
            ("home get a b", "home get has no use for \"b\""),
            ("home get a --lines", "home get has no option --lines"),
            ("home get a --from 1", "home get has no option --from"),
            ("home list --url", "--url is given without a value"),
            ("home list --url=", "--url is given without a value"),
            ("home list --lines=1", "--lines takes no value"),
            ("home list --url a --url=b", "--url is given twice"),
            (
                "agent bootstrap a --expires-in 1d",
                "--expires-in must be a whole number of seconds, not \"1d\"",
            ),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(parse(&words).unwrap_err().to_string(), message, "{line}");
        }
    }

    #[test]
    fn no_id_leads_to_another_path() {
        for id in ["..", ".", "", "a/b", "a%2fb", "a?b", "a#b", "ä", "a\nb"] {
            assert_eq!(
                parse(&["home", "delete", id]).unwrap_err(),
                UsageError::Id(id.to_owned())
            );
        }
        assert_eq!(ask("home get a..b").path, "/homes/a..b");
    }
}
