//! One request to the admin API, and how it is put together.

use std::path::PathBuf;

use axum::http::Method;
use serde_json::{Map, Value};

use super::arguments::UsageError;
use super::table::{Argument, Command, Place};
use crate::form;

/// A request to the admin API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Method.
    pub(super) method: Method,
    /// Path below `/admin/v1`.
    pub(super) path: String,
    /// Query, without what pages add.
    pub(super) query: Vec<(&'static str, String)>,
    /// Where the body comes from.
    pub(super) body: Body,
}

/// Where a body comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none.
    Nothing,
    /// The command line.
    Said(Value),
    /// This file.
    File(PathBuf),
    /// Standard input.
    Input,
}

impl Ask {
    /// Path and query of the page after `after`, or of the first.
    pub(super) fn target(&self, after: Option<&str>) -> String {
        let mut target = format!("/admin/v1{}", self.path);
        let pairs = self.query.iter().map(|(key, value)| (*key, value.as_str()));
        for (index, (key, value)) in pairs.chain(after.map(|after| ("after", after))).enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(key);
            target.push('=');
            target.push_str(&form::encode(value));
        }
        target
    }
}

/// What the request is made of.
#[derive(Debug)]
pub(super) struct Parts {
    id: String,
    query: Vec<(&'static str, String)>,
    fields: Map<String, Value>,
    body: Body,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            id: String::new(),
            query: Vec::new(),
            fields: Map::new(),
            body: Body::Nothing,
        }
    }
}

impl Parts {
    /// Puts what was said for `argument` where it belongs.
    ///
    /// # Errors
    /// It cannot be that.
    pub(super) fn put(&mut self, argument: &Argument, said: String) -> Result<(), UsageError> {
        match argument.place {
            // The backend takes . and .. as ids too, but in a path they are none: proxies resolve them, even
            // percent-encoded.
            Place::Path if !qod_wire::is_agent_id(&said) || said == "." || said == ".." => {
                return Err(UsageError::Id(said));
            }
            Place::Path => self.id = said,
            Place::Body if said == "-" => self.body = Body::Input,
            Place::Body => self.body = Body::File(PathBuf::from(said)),
            Place::Text(key) | Place::Words(key) => {
                self.fields.insert(key.to_owned(), said.into());
            }
            Place::Number(key) => match said.parse::<i64>() {
                Ok(number) => {
                    self.fields.insert(key.to_owned(), number.into());
                }
                Err(_) => {
                    return Err(UsageError::Number {
                        option: argument.name,
                        value: said,
                    });
                }
            },
            Place::Query(key) => self.query.push((key, said)),
        }
        Ok(())
    }

    /// The request of `command`.
    pub(super) fn ask(self, command: &Command) -> Ask {
        Ask {
            method: command.method.clone(),
            path: command.path.replace("{}", &self.id),
            query: self.query,
            body: if self.fields.is_empty() {
                self.body
            } else {
                Body::Said(Value::Object(self.fields))
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::parse;

    #[test]
    fn the_next_page_is_asked_for_behind_the_query() {
        assert_eq!(
            parse(&["usage", "--from", "5"])
                .unwrap()
                .ask
                .target(Some("a&b")),
            "/admin/v1/usage?from=5&after=a%26b"
        );
        assert_eq!(
            parse(&["home", "list"]).unwrap().ask.target(Some("h")),
            "/admin/v1/homes?after=h"
        );
    }
}
