//! The QoS profiles: the file, the built-in ones, and the filters.

use std::path::Path;

use serde_json::Value;

use super::profile::{NUMBERS, Profile, RATE_UNITS, RATES, STATUSES, TIME_UNITS, TIMES};
use crate::error_info::ErrorInfo;
use crate::json::{self, Invalid, Node};

/// The profiles that are there without a file.
const BUILT_IN: &str = include_str!("profiles.json");

/// Why the profiles cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// The file cannot be read.
    #[error("read the QoS profiles {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// A profile is wrong.
    #[error("the QoS profiles {file} are wrong at {invalid}")]
    Invalid {
        /// The file.
        file: String,
        /// Profile, field and reason.
        invalid: Invalid,
    },
}

/// All profiles.
#[derive(Clone, Debug)]
pub struct Profiles(Vec<Profile>);

impl Profiles {
    /// Reads `file`, or the built-in profiles without one.
    ///
    /// # Errors
    /// Names the file, the profile and the field.
    pub fn load(file: Option<&Path>) -> Result<Self, ProfilesError> {
        let name = file.map_or_else(
            || "(built in)".to_owned(),
            |file| file.display().to_string(),
        );
        let bytes = match file {
            None => BUILT_IN.as_bytes().to_vec(),
            Some(file) => std::fs::read(file).map_err(|source| ProfilesError::Read {
                file: name.clone(),
                source,
            })?,
        };
        Self::parse(&bytes).map_err(|invalid| ProfilesError::Invalid {
            file: name,
            invalid,
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let document = json::parse(bytes)?;
        let object = Node::root(&document).object()?;
        object.only(&["profiles"])?;
        let mut profiles: Vec<Profile> = Vec::new();
        for node in object.require("profiles")?.array(1_000)? {
            let profile =
                Profile::read(&node.object()?).map_err(|invalid| named(&node, invalid))?;
            if profiles.iter().any(|known| known.name == profile.name) {
                return Err(named(
                    &node,
                    node.invalid("has the name of an earlier profile"),
                ));
            }
            profiles.push(profile);
        }
        Ok(Self(profiles))
    }

    /// The profile `name`.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.0.iter().find(|profile| profile.name == name)
    }

    /// The profiles that fit every filter of a query; other parameters are left alone.
    ///
    /// # Errors
    /// 400 for a malformed filter, 404 if nothing fits.
    pub fn find(&self, query: &[(String, String)]) -> Result<Vec<Value>, ErrorInfo> {
        let mut found: Vec<&Profile> = self.0.iter().collect();
        for (key, text) in query {
            let wrong = |reason| {
                ErrorInfo::from(Invalid {
                    path: key.clone(),
                    reason,
                })
            };
            match key.as_str() {
                "id" | "name" => found.retain(|profile| profile.name == *text),
                "status" => {
                    if !STATUSES.contains(&text.as_str()) {
                        return Err(wrong("must be ACTIVE, INACTIVE or DEPRECATED".to_owned()));
                    }
                    found.retain(|profile| profile.status == text);
                }
                key => {
                    let spelt = |table: &[(&'static str, &'static str)]| {
                        table
                            .iter()
                            .find(|(new, old)| *new == key || *old == key)
                            .map(|(new, _)| *new)
                    };
                    let (field, value) = if let Some(field) = spelt(RATES) {
                        (
                            field,
                            quantity(text, RATE_UNITS)
                                .ok_or_else(|| wrong("must be a rate, as 10Mbps".to_owned()))?,
                        )
                    } else if let Some(field) = spelt(TIMES) {
                        (
                            field,
                            quantity(text, TIME_UNITS)
                                .ok_or_else(|| wrong("must be a time, as 30Seconds".to_owned()))?,
                        )
                    } else if let Some((field, ..)) =
                        NUMBERS.iter().find(|(field, ..)| *field == key)
                    {
                        (
                            *field,
                            number(text)
                                .ok_or_else(|| wrong("must be a whole number".to_owned()))?,
                        )
                    } else {
                        continue;
                    };
                    found.retain(|profile| profile.values.contains(&(field, value)));
                }
            }
        }
        if found.is_empty() {
            return Err(ErrorInfo::not_found("No QoS Profiles found"));
        }
        Ok(found
            .into_iter()
            .map(|profile| profile.shown.clone())
            .collect())
    }
}

/// Puts the profile's name where its number stands.
fn named(node: &Node<'_>, invalid: Invalid) -> Invalid {
    match node.value().get("name").and_then(Value::as_str) {
        Some(name) => Invalid {
            path: invalid.path.replacen(node.path(), name, 1),
            reason: invalid.reason,
        },
        None => invalid,
    }
}

/// Digits alone.
fn number(text: &str) -> Option<u128> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// A number and its unit in one word, as queries have it: `10Mbps`, `30Seconds`.
fn quantity(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (amount, unit) = text.split_at(end);
    let (_, size) = units.iter().find(|(name, _)| *name == unit.trim())?;
    amount
        .parse::<u64>()
        .ok()
        .map(|amount| u128::from(amount) * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles() {
        let profiles = Profiles::load(None).unwrap();
        let dscps: Vec<_> = profiles
            .0
            .iter()
            .map(|p| (p.name.as_str(), p.dscp))
            .collect();
        assert_eq!(
            dscps,
            [("QOS_E", 46), ("QOS_S", 34), ("QOS_M", 26), ("QOS_L", 18)]
        );
        for profile in &profiles.0 {
            assert_eq!((profile.min_seconds, profile.max_seconds), (1, 86_400));
            assert_eq!(profile.shown["id"], profile.shown["name"]);
            assert_eq!(
                profile.shown["targetMinUpstreamRate"],
                profile.shown["targetMinimumUpstreamRate"]
            );
        }
    }

    #[test]
    fn filters() {
        let profiles = Profiles::load(None).unwrap();
        let names = |key: &str, value: &str| {
            profiles
                .find(&[(key.to_owned(), value.to_owned())])
                .map(|found| {
                    found
                        .iter()
                        .map(|p| p["name"].as_str().unwrap().to_owned())
                        .collect::<Vec<_>>()
                })
        };
        assert_eq!(names("name", "QOS_M").unwrap(), ["QOS_M"]);
        assert_eq!(
            names("targetMinimumUpstreamRate", "500000bps").unwrap(),
            ["QOS_E"]
        );
        assert_eq!(names("maxDuration", "24Hours").unwrap().len(), 4);
        assert_eq!(
            names("maxDuration", "86400000000000Nanoseconds")
                .unwrap()
                .len(),
            4,
            "as many digits as the smallest unit takes"
        );
        assert_eq!(
            names("maxUpstreamRate", "5000000000bps").unwrap_err().code,
            "NOT_FOUND"
        );
        assert_eq!(names("somethingElse", "x").unwrap().len(), 4);
        assert_eq!(
            names("id", "QOS_X").unwrap_err().message,
            "No QoS Profiles found"
        );
        for (key, value) in [
            ("status", "active"),
            ("maxUpstreamRate", "10"),
            ("Jitter", "Seconds"),
            ("priority", "x"),
        ] {
            assert_eq!(
                names(key, value).unwrap_err().code,
                "INVALID_INPUT",
                "{key}"
            );
        }
    }

    #[test]
    fn errors_name_profile_and_field() {
        for (profile, message) in [
            (r#"{"name":"QOS_X"}"#, "QOS_X.dscp: is missing"),
            (
                r#"{"name":"QOS_X","dscp":64}"#,
                "QOS_X.dscp: must be a DSCP: a number from 0 to 63, EF, CS0 to CS7 or AF11 to AF43",
            ),
            (
                r#"{"name":"QOS_X","dscp":"EF","prio":1}"#,
                "QOS_X.prio: is not a known key",
            ),
            (
                r#"{"name":"QOS_X","dscp":"EF","maxUpstreamRate":{"value":2000,"unit":"kbps"}}"#,
                "QOS_X.maxUpstreamRate.value: must be from 0 to 1024",
            ),
            (r#"{"dscp":1}"#, "profiles[0].name: is missing"),
        ] {
            let file = format!(r#"{{"profiles":[{profile}]}}"#);
            assert_eq!(
                Profiles::parse(file.as_bytes()).unwrap_err().to_string(),
                message
            );
        }
    }
}
