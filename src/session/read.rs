//! Reads the sessions of the instructions, each for itself.

use std::collections::HashSet;
use std::time::Duration;

use qod_wire::RejectCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse::parse;
use super::{Order, Rejection, SessionId};
use crate::excerpt::excerpt;

/// One entry of the instructions as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The backend's id.
    pub id: SessionId,
    /// What is asked for, or what is wrong with it.
    pub order: Result<Order, Rejection>,
}

/// Reads the sessions, each for itself.
///
/// `read_at` is the boot time at which the instructions were read. Entries without a usable id cannot be
/// reported; a text says how many there are, and what is wrong with the first.
pub fn read(raw: &[Box<RawValue>], read_at: Duration) -> (Vec<Item>, Option<String>) {
    let mut seen = HashSet::new();
    let mut items = Vec::with_capacity(raw.len());
    let mut nameless: Option<(usize, String)> = None;
    for (index, raw) in raw.iter().enumerate() {
        let id = match read_id(raw) {
            Ok(id) => id,
            Err(why) => {
                let (count, _) =
                    nameless.get_or_insert_with(|| (0, format!("session {index} {why}")));
                *count += 1;
                continue;
            }
        };
        let order = if seen.insert(id.clone()) {
            parse(&id, raw, read_at)
        } else {
            Err(Rejection::new(
                RejectCode::Invalid,
                "the same sessionId stands above",
            ))
        };
        items.push(Item { id, order });
    }
    let nameless = nameless.map(|(count, first)| match count {
        1 => first,
        count => format!("{first}; so it is with {} more", count - 1),
    });
    (items, nameless)
}

fn read_id(raw: &RawValue) -> Result<SessionId, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Id {
        session_id: String,
    }
    match serde_json::from_str::<Id>(raw.get()) {
        Ok(id) if qod_wire::is_session_id(&id.session_id) => Ok(id.session_id.into()),
        Ok(id) => {
            let start: String = id.session_id.chars().take(80).collect();
            Err(format!("has an illegal sessionId, {start:?}"))
        }
        Err(error) => Err(excerpt(&format!("has no usable sessionId: {error}"))),
    }
}
