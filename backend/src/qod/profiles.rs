//! QoS profiles: the file, the built-in ones, the filters, and how they are shown.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::request::is_profile_name;
use crate::error_info::ErrorInfo;
use crate::json::{self, Invalid, Node, Object};

/// The profiles that are there without a file.
const BUILT_IN: &str = include_str!("profiles.json");

/// Rates of a profile: the YAML's spelling, then the document's.
const RATES: &[(&str, &str)] = &[
    ("targetMinUpstreamRate", "targetMinimumUpstreamRate"),
    ("maxUpstreamRate", "maxUpstreamRate"),
    ("maxUpstreamBurstRate", "maxUpstreamBurstRate"),
    ("targetMinDownstreamRate", "targetMinimumDownstreamRate"),
    ("maxDownstreamRate", "maxDownstreamRate"),
    ("maxDownstreamBurstRate", "maxDownstreamBurstRate"),
];
/// Times of a profile, in the same way.
const TIMES: &[(&str, &str)] = &[
    ("minDuration", "minDuration"),
    ("maxDuration", "maxDuration"),
    ("packetDelayBudget", "packetDelayBudget"),
    ("jitter", "Jitter"),
];
/// Numbers of a profile and their ranges.
const NUMBERS: &[(&str, i64, i64)] = &[("priority", 1, 100), ("packetErrorLossRate", 1, 10)];
/// Units of a rate, in bit/s.
const RATE_UNITS: &[(&str, u128)] = &[
    ("bps", 1),
    ("kbps", 1_000),
    ("Mbps", 1_000_000),
    ("Gbps", 1_000_000_000),
    ("Tbps", 1_000_000_000_000),
];
/// Units of a time, in nanoseconds.
const TIME_UNITS: &[(&str, u128)] = &[
    ("Days", 86_400_000_000_000),
    ("Hours", 3_600_000_000_000),
    ("Minutes", 60_000_000_000),
    ("Seconds", 1_000_000_000),
    ("Milliseconds", 1_000_000),
    ("Microseconds", 1_000),
    ("Nanoseconds", 1),
];
const STATUSES: &[&str] = &["ACTIVE", "INACTIVE", "DEPRECATED"];

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

/// One profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name, which is also its id.
    pub name: String,
    /// `ACTIVE`, `INACTIVE` or `DEPRECATED`; only an active one takes new sessions.
    pub status: &'static str,
    /// The DSCP of its packets.
    pub dscp: u8,
    /// Shortest session in seconds.
    pub min_seconds: i64,
    /// Longest session in seconds, at most a day.
    pub max_seconds: i64,
    /// Upstream rate in kbit/s above which packets lose the queue.
    pub max_upstream_kbps: Option<u64>,
    /// Downstream rate in kbit/s above which packets lose the queue.
    pub max_downstream_kbps: Option<u64>,
    /// Whether a session must name device ports.
    pub ports_required: bool,
    /// Whether a session may name port ranges.
    pub ranges_allowed: bool,
    /// As it is shown.
    pub shown: Value,
    /// What filters compare: bit/s, nanoseconds and plain numbers.
    values: Vec<(&'static str, u128)>,
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
                            text.parse()
                                .map_err(|_| wrong("must be a whole number".to_owned()))?,
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

impl Profile {
    fn read(object: &Object<'_>) -> Result<Self, Invalid> {
        let mut known = vec![
            "name",
            "description",
            "status",
            "dscp",
            "portsRequired",
            "rangesAllowed",
        ];
        known.extend(RATES.iter().chain(TIMES).map(|(key, _)| *key));
        known.extend(NUMBERS.iter().map(|(key, ..)| *key));
        object.only(&known)?;

        let name = object.require("name")?;
        if !is_profile_name(name.string()?) {
            return Err(
                name.invalid("must be 3 to 256 letters, digits, dots, hyphens or underscores")
            );
        }
        let name = name.string()?.to_owned();
        let status = match object.get("status") {
            None => "ACTIVE",
            Some(node) => {
                let text = node.string()?;
                STATUSES
                    .iter()
                    .find(|status| **status == text)
                    .ok_or_else(|| node.invalid("must be ACTIVE, INACTIVE or DEPRECATED"))?
            }
        };
        let mut shown = Map::new();
        shown.insert("id".to_owned(), name.clone().into());
        shown.insert("name".to_owned(), name.clone().into());
        shown.insert("status".to_owned(), status.into());
        if let Some(node) = object.get("description") {
            shown.insert("description".to_owned(), node.text(4_096)?.into());
        }
        let mut values = Vec::new();
        for (table, units, least, most) in [
            (RATES, RATE_UNITS, 0, 1_024),
            (TIMES, TIME_UNITS, 1, i64::from(i32::MAX)),
        ] {
            for (key, old) in table {
                if let Some(node) = object.get(key) {
                    let (amount, unit, value) = measure(&node, units, least, most)?;
                    let json = json!({"value": amount, "unit": unit});
                    shown.insert((*old).to_owned(), json.clone());
                    shown.insert((*key).to_owned(), json);
                    values.push((*key, value));
                }
            }
        }
        for (key, least, most) in NUMBERS {
            if let Some(node) = object.get(key) {
                let number = node.integer(*least..=*most)?;
                shown.insert((*key).to_owned(), number.into());
                values.push((*key, u128::from(number.unsigned_abs())));
            }
        }
        let value = |key: &str| {
            values
                .iter()
                .find(|(known, _)| *known == key)
                .map(|(_, value)| *value)
        };
        let kbps = |key| value(key).map(|bps| u64::try_from(bps / 1_000).unwrap_or(u64::MAX));
        // A session lasts whole seconds: a shortest time is rounded up, a longest one down, to a day at most.
        let day = 86_400_u128;
        let min =
            value("minDuration").map_or(1, |time| time.div_ceil(1_000_000_000).clamp(1, day + 1));
        let max = value("maxDuration").map_or(day, |time| (time / 1_000_000_000).min(day));
        if min > max {
            return Err(object.require("name")?.invalid(
                "has no duration from 1 second to 1 day between minDuration and maxDuration",
            ));
        }
        let flag = |key, default| object.get(key).map_or(Ok(default), |node| node.boolean());
        Ok(Self {
            dscp: dscp(&object.require("dscp")?)?,
            min_seconds: i64::try_from(min).unwrap_or(1),
            max_seconds: i64::try_from(max).unwrap_or(86_400),
            max_upstream_kbps: kbps("maxUpstreamRate"),
            max_downstream_kbps: kbps("maxDownstreamRate"),
            ports_required: flag("portsRequired", false)?,
            ranges_allowed: flag("rangesAllowed", true)?,
            name,
            status,
            shown: Value::Object(shown),
            values,
        })
    }
}

fn measure<'a>(
    node: &Node<'a>,
    units: &[(&str, u128)],
    least: i64,
    most: i64,
) -> Result<(i64, &'a str, u128), Invalid> {
    let object = node.object()?;
    object.only(&["value", "unit"])?;
    let amount = object.require("value")?.integer(least..=most)?;
    let unit = object.require("unit")?;
    let (_, size) = units
        .iter()
        .find(|(name, _)| unit.string().is_ok_and(|unit| unit == *name))
        .ok_or_else(|| {
            let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
            unit.invalid(format!("must be one of {}", names.join(", ")))
        })?;
    Ok((
        amount,
        unit.string()?,
        u128::from(amount.unsigned_abs()) * size,
    ))
}

/// A number and its unit in one word, as queries have it: `10Mbps`, `30Seconds`.
fn quantity(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (amount, unit) = text.split_at(end);
    let (_, size) = units.iter().find(|(name, _)| *name == unit.trim())?;
    amount
        .parse::<u32>()
        .ok()
        .map(|amount| u128::from(amount) * size)
}

/// A number from 0 to 63, or a name: `EF`, `CS0` to `CS7`, `AF11` to `AF43`.
fn dscp(node: &Node<'_>) -> Result<u8, Invalid> {
    let wrong =
        || node.invalid("must be a DSCP: a number from 0 to 63, EF, CS0 to CS7 or AF11 to AF43");
    let Value::String(name) = node.value() else {
        let number = node.integer(0..=63).map_err(|_| wrong())?;
        return u8::try_from(number).map_err(|_| wrong());
    };
    match name.as_bytes() {
        b"EF" => Ok(46),
        [b'C', b'S', class @ b'0'..=b'7'] => Ok((class - b'0') * 8),
        // RFC 2597 §6: the class and twice the drop precedence.
        [b'A', b'F', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => {
            Ok((class - b'0') * 8 + (drop - b'0') * 2)
        }
        _ => Err(wrong()),
    }
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
