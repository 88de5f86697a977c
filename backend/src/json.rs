//! JSON from outside, read strictly: every complaint names the place in the document.
//!
//! serde's own messages give line and column, which say little to somebody who wrote the document with a
//! program, and `serde_json::Value` silently keeps the last of two equal keys.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Longest reason that is taken over from the parser, in characters.
const LONGEST_REASON: usize = 200;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Invalid {
    /// Place in the document, as `device.ipv4Address`; of the document itself: `body`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// Reads `bytes` as one JSON document without repeated keys.
///
/// # Errors
/// Not JSON, a repeated key, or more than 128 levels deep.
pub fn parse(bytes: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(bytes)
        .map(|Strict(value)| value)
        .map_err(|error| Invalid {
            path: "body".to_owned(),
            // It may repeat a key, which may be as long as the document.
            reason: error.to_string().chars().take(LONGEST_REASON).collect(),
        })
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    /// The document itself.
    pub fn root(value: &'a Value) -> Self {
        Self {
            path: String::new(),
            value,
        }
    }

    /// The value's place.
    pub fn path(&self) -> &str {
        if self.path.is_empty() {
            "body"
        } else {
            &self.path
        }
    }

    /// The value as it is.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// A complaint about this value.
    pub fn invalid(&self, reason: impl Into<String>) -> Invalid {
        Invalid {
            path: self.path().to_owned(),
            reason: reason.into(),
        }
    }

    /// The value as an object.
    pub fn object(&self) -> Result<Object<'a>, Invalid> {
        match self.value {
            Value::Object(map) => Ok(Object {
                path: self.path.clone(),
                map,
            }),
            _ => Err(self.invalid("must be an object")),
        }
    }

    /// The value as a string.
    pub fn string(&self) -> Result<&'a str, Invalid> {
        self.value
            .as_str()
            .ok_or_else(|| self.invalid("must be a string"))
    }

    /// The value as a string that is not empty and not longer than `longest` bytes.
    pub fn text(&self, longest: usize) -> Result<&'a str, Invalid> {
        let text = self.string()?;
        if text.is_empty() {
            return Err(self.invalid("must not be empty"));
        }
        if text.len() > longest {
            return Err(self.invalid(format!("must not be longer than {longest} bytes")));
        }
        if text.contains(char::is_control) {
            // PostgreSQL refuses NUL in TEXT, and no name here has use for the others.
            return Err(self.invalid("must not contain control characters"));
        }
        Ok(text)
    }

    /// The value as a whole number within `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Result<i64, Invalid> {
        let number = self
            .value
            .as_i64()
            .ok_or_else(|| self.invalid("must be a whole number"))?;
        if !range.contains(&number) {
            return Err(self.invalid(format!("must be from {} to {}", range.start(), range.end())));
        }
        Ok(number)
    }

    /// The value as a truth value.
    pub fn boolean(&self) -> Result<bool, Invalid> {
        self.value
            .as_bool()
            .ok_or_else(|| self.invalid("must be true or false"))
    }

    /// The value as an array of at most `most` elements.
    pub fn array(&self, most: usize) -> Result<Vec<Node<'a>>, Invalid> {
        let Value::Array(elements) = self.value else {
            return Err(self.invalid("must be an array"));
        };
        if elements.len() > most {
            return Err(self.invalid(format!("must not have more than {most} elements")));
        }
        Ok(elements
            .iter()
            .enumerate()
            .map(|(index, value)| Node {
                path: format!("{}[{index}]", self.path),
                value,
            })
            .collect())
    }
}

/// An object and its place.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The value of `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        self.map.get(key).map(|value| Node {
            path: self.at(key),
            value,
        })
    }

    /// The value of the first of `keys`; two of them at once are an error, since they are one property.
    pub fn get_alias(&self, keys: &[&str]) -> Result<Option<Node<'a>>, Invalid> {
        let mut found: Option<Node<'a>> = None;
        for key in keys {
            if let Some(node) = self.get(key) {
                if let Some(first) = found {
                    return Err(
                        node.invalid(format!("is given a second time, as {}", first.path()))
                    );
                }
                found = Some(node);
            }
        }
        Ok(found)
    }

    /// The value of `key`, which must be there.
    pub fn require(&self, key: &str) -> Result<Node<'a>, Invalid> {
        self.get(key).ok_or_else(|| Invalid {
            path: self.at(key),
            reason: "is missing".to_owned(),
        })
    }

    /// Whether the object has no keys.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Refuses every key that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Invalid> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Invalid {
                path: self.at(key),
                reason: "is not a known key".to_owned(),
            }),
        }
    }

    fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// A value in which no object has the same key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(Strict(element)) = access.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {key:?} is repeated"
                )));
            }
            let Strict(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_refused_at_any_depth() {
        assert!(parse(br#"{"a":[{"b":1,"b":2}]}"#).is_err());
        assert!(parse(br#"{"a":1,"a":1}"#).is_err());
        assert_eq!(
            parse(br#"{"a":[{"b":1.5},null,true,-3]}"#).unwrap(),
            serde_json::json!({"a":[{"b":1.5},null,true,-3]})
        );
    }

    #[test]
    fn nothing_panics_on_deep_or_broken_documents() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        for broken in ["", "{", "{\"a\"}", "nul", "1e999", "\"\\ud800\"", "{} {}"] {
            assert!(parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn complaints_name_the_place() {
        let value = serde_json::json!({"a": {"b": [{"c": "x"}]}});
        let a = Node::root(&value).object().unwrap().require("a").unwrap();
        let b = a.object().unwrap().require("b").unwrap().array(1).unwrap();
        let c = b[0].object().unwrap().require("c").unwrap();
        assert_eq!(
            c.integer(0..=9).unwrap_err().to_string(),
            "a.b[0].c: must be a whole number"
        );
        assert_eq!(a.object().unwrap().only(&["x"]).unwrap_err().path, "a.b");
    }
}
