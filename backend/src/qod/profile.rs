//! One QoS profile: its fields, how they are read and how they are shown.

use serde_json::{Map, Value, json};

use super::request::is_profile_name;
use crate::json::{Invalid, Node, Object};

/// Rates of a profile: the YAML's spelling, then the document's.
pub(super) const RATES: &[(&str, &str)] = &[
    ("targetMinUpstreamRate", "targetMinimumUpstreamRate"),
    ("maxUpstreamRate", "maxUpstreamRate"),
    ("maxUpstreamBurstRate", "maxUpstreamBurstRate"),
    ("targetMinDownstreamRate", "targetMinimumDownstreamRate"),
    ("maxDownstreamRate", "maxDownstreamRate"),
    ("maxDownstreamBurstRate", "maxDownstreamBurstRate"),
];
/// Times of a profile, in the same way.
pub(super) const TIMES: &[(&str, &str)] = &[
    ("minDuration", "minDuration"),
    ("maxDuration", "maxDuration"),
    ("packetDelayBudget", "packetDelayBudget"),
    ("jitter", "Jitter"),
];
/// Numbers of a profile and their ranges.
pub(super) const NUMBERS: &[(&str, i64, i64)] =
    &[("priority", 1, 100), ("packetErrorLossRate", 1, 10)];
/// Units of a rate, in bit/s.
pub(super) const RATE_UNITS: &[(&str, u128)] = &[
    ("bps", 1),
    ("kbps", 1_000),
    ("Mbps", 1_000_000),
    ("Gbps", 1_000_000_000),
    ("Tbps", 1_000_000_000_000),
];
/// Units of a time, in nanoseconds.
pub(super) const TIME_UNITS: &[(&str, u128)] = &[
    ("Days", 86_400_000_000_000),
    ("Hours", 3_600_000_000_000),
    ("Minutes", 60_000_000_000),
    ("Seconds", 1_000_000_000),
    ("Milliseconds", 1_000_000),
    ("Microseconds", 1_000),
    ("Nanoseconds", 1),
];
pub(super) const STATUSES: &[&str] = &["ACTIVE", "INACTIVE", "DEPRECATED"];

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
    pub(super) values: Vec<(&'static str, u128)>,
}

impl Profile {
    /// Reads a profile of the file.
    pub(super) fn read(object: &Object<'_>) -> Result<Self, Invalid> {
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
        let kbps = |key| {
            // Below 1 kbit/s it would take the queue from every packet.
            value(key)
                .map(|bps| u64::try_from(bps / 1_000).unwrap_or(u64::MAX))
                .filter(|kbps| *kbps > 0)
        };
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
