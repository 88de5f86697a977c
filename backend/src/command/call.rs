//! The exchange with the backend: bodies in, answers out, lists page by page.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, StatusCode};
use serde_json::{Map, Value};

use super::CommandError;
use super::access::Access;
use super::arguments::Arguments;
use super::ask::{Ask, Body};
use super::table::{Cursor, List};
use crate::client::{Limits, Reach};
use crate::{admin, json};

/// What one request may take. The longest answer is a page of agents or sessions.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(60),
    body: 64 * 1024 * 1024,
};

/// Asks, and writes the answer: as one JSON document, or the entries of a list each on a line.
///
/// # Errors
/// The body cannot be read, the backend cannot be asked or refuses, or the answer cannot be written.
pub(super) async fn answer(
    arguments: &Arguments,
    access: &Access,
    body: &Bytes,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let ask = &arguments.ask;
    let Some(list) = &arguments.command.list else {
        let answer = exchange(access, ask, None, body).await?;
        return match answer {
            Some(answer) => print(out, &answer),
            None => Ok(()),
        };
    };
    let wrong = |what| CommandError::Answer {
        url: access.url.clone(),
        what,
    };
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = exchange(access, ask, after.as_deref(), body).await?;
        let Page { entries, next } = Page::read(page, list).map_err(wrong)?;
        if arguments.lines {
            for entry in &entries {
                serde_json::to_writer(&mut *out, entry)
                    .map_err(io::Error::from)
                    .and_then(|()| writeln!(out))
                    .map_err(CommandError::Output)?;
            }
        } else {
            all.extend(entries);
        }
        match next {
            None => break,
            Some(next) if after.as_ref() == Some(&next) => {
                return Err(wrong(format!("the list does not go on after {next:?}")));
            }
            next => after = next,
        }
    }
    if arguments.lines {
        return out.flush().map_err(CommandError::Output);
    }
    let mut whole = Map::new();
    whole.insert(list.key.to_owned(), all.into());
    print(out, &Value::Object(whole))
}

fn print(out: &mut impl Write, document: &Value) -> Result<(), CommandError> {
    serde_json::to_writer_pretty(&mut *out, document)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush())
        .map_err(CommandError::Output)
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    entries: Vec<Value>,
    /// What the next part is asked for by. `None`: there is none.
    next: Option<String>,
}

impl Page {
    fn read(answer: Option<Value>, list: &List) -> Result<Self, String> {
        let Some(Value::Object(mut answer)) = answer else {
            return Err("it is no JSON object".to_owned());
        };
        let Some(Value::Array(entries)) = answer.remove(list.key) else {
            return Err(format!("it holds no list {:?}", list.key));
        };
        let last = entries.last();
        let next = match list.cursor {
            Cursor::Entry => last,
            Cursor::Key(key) => match last.map(|last| last.get(key)) {
                Some(None) => Some(&Value::Null),
                named => named.flatten(),
            },
            Cursor::Next => answer.get("next").filter(|next| !next.is_null()),
        };
        let next = next
            .map(|next| next.as_str().map(str::to_owned))
            .map(|next| next.ok_or_else(|| format!("it does not say how {:?} goes on", list.key)))
            .transpose()?;
        Ok(Self { entries, next })
    }
}

/// The body that a command sends, which must be JSON: what a person wrote is told apart from what a backend thinks
/// of it.
///
/// # Errors
/// It cannot be read, is too long for the backend, or is no JSON.
pub(super) fn body(ask: &Ask) -> Result<Bytes, CommandError> {
    let (name, opened): (String, io::Result<Box<dyn Read>>) = match &ask.body {
        Body::Nothing => return Ok(Bytes::new()),
        Body::Said(value) => return Ok(Bytes::from(value.to_string())),
        Body::Input => (
            "standard input".to_owned(),
            Ok(Box::new(io::stdin().lock())),
        ),
        Body::File(file) => (
            file.display().to_string(),
            File::open(file).map(|file| Box::new(file) as Box<dyn Read>),
        ),
    };
    let mut bytes = Vec::new();
    let read = opened.and_then(|input| {
        let longest = u64::try_from(admin::LONGEST).unwrap_or(u64::MAX);
        input.take(longest + 1).read_to_end(&mut bytes)
    });
    if let Err(source) = read {
        return Err(CommandError::Input { name, source });
    }
    if bytes.len() > admin::LONGEST {
        return Err(CommandError::TooLong {
            name,
            longest: admin::LONGEST,
        });
    }
    match json::parse(&bytes) {
        Ok(_) => Ok(bytes.into()),
        Err(invalid) => Err(CommandError::Json {
            name,
            reason: invalid.reason,
        }),
    }
}

/// One request, and the document that answers it. `None`: it was done, and there is nothing to say.
async fn exchange(
    access: &Access,
    ask: &Ask,
    after: Option<&str>,
    body: &Bytes,
) -> Result<Option<Value>, CommandError> {
    let mut token = HeaderValue::from_str(&format!("Bearer {}", access.token)).map_err(|_| {
        CommandError::Unspeakable {
            file: access.token_file.clone(),
        }
    })?;
    token.set_sensitive(true);
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(format!("{}{}", access.url, ask.target(after)))
        .header(AUTHORIZATION, token);
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request
        .body(body.clone())
        .map_err(|source| CommandError::Request {
            url: access.url.clone(),
            source,
        })?;
    let answer = access
        .client
        .send(request, Reach::Any, LIMITS)
        .await
        .map_err(|source| CommandError::Ask {
            url: access.url.clone(),
            source,
        })?;
    let status = answer.status();
    let bytes = answer.into_body();
    if !status.is_success() {
        return Err(refusal(access, ask, status, &bytes));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| CommandError::Answer {
            url: access.url.clone(),
            what: format!("it is no JSON: {error}"),
        })
}

/// What the backend says, or whoever answers in its place.
fn refusal(access: &Access, ask: &Ask, status: StatusCode, body: &[u8]) -> CommandError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key| {
        let text = body.get(key).and_then(Value::as_str)?;
        // It goes to a terminal.
        Some(text.replace(char::is_control, " "))
    };
    let mut status = status.as_str().to_owned();
    if let Some(code) = text("code") {
        status = format!("{status} {code}");
    }
    if status.starts_with("401") {
        status = format!("{status}, for the token in {}", access.token_file.display());
    }
    CommandError::Refused {
        asked: format!("{} {}{}", ask.method, access.url, ask.target(None)),
        message: text("message").unwrap_or_else(|| "it was not done".to_owned()),
        status,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_says_how_the_list_goes_on() {
        let read = |cursor, answer| {
            let list = List { key: "all", cursor };
            Page::read(Some(answer), &list).map(|page| (page.entries.len(), page.next))
        };
        let next = |next: &str| Some(next.to_owned());
        let id = Cursor::Key("id");
        for (cursor, answer, page) in [
            (Cursor::Entry, json!({"all": ["a", "b"]}), (2, next("b"))),
            (Cursor::Entry, json!({"all": []}), (0, None)),
            (id, json!({"all": [{"id": "a"}]}), (1, next("a"))),
            (id, json!({"all": []}), (0, None)),
            (
                Cursor::Next,
                json!({"all": [{}], "next": "5.a"}),
                (1, next("5.a")),
            ),
            (Cursor::Next, json!({"all": [{}], "next": null}), (1, None)),
            (Cursor::Next, json!({"all": []}), (0, None)),
        ] {
            assert_eq!(read(cursor, answer).unwrap(), page, "{cursor:?}");
        }
        for (cursor, answer) in [
            (Cursor::Entry, json!({"all": [1]})),
            (Cursor::Entry, json!({"all": [null]})),
            (Cursor::Entry, json!({"all": {}})),
            (Cursor::Entry, json!({})),
            (Cursor::Entry, json!(["a"])),
            (id, json!({"all": [{"name": "a"}]})),
            (id, json!({"all": ["a"]})),
            (id, json!({"all": [{"id": 1}]})),
            (Cursor::Next, json!({"all": [{}], "next": 1})),
        ] {
            assert!(read(cursor, answer).is_err(), "{cursor:?}");
        }
    }
}
