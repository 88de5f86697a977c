//! Reads the sessions of the instructions, each for itself.

use std::collections::HashSet;
use std::time::Duration;

use qod_wire::RejectCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse::parse;
use super::{Entry, Rejection, SessionId};
use crate::excerpt::excerpt;

/// Reads the sessions, each for itself.
///
/// `read_at` is the boot time at which the instructions were read. Entries without a usable id cannot be
/// reported; a text says how many there are, and what is wrong with the first.
pub fn read(raw: &[Box<RawValue>], read_at: Duration) -> (Vec<Entry>, Option<String>) {
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(raw.len());
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
        let session = if seen.insert(id.clone()) {
            parse(&id, raw, read_at)
        } else {
            Err(Rejection::new(
                RejectCode::Invalid,
                "the same sessionId stands above",
            ))
        };
        let standing = session.into();
        entries.push(Entry { id, standing });
    }
    let nameless = nameless.map(|(count, first)| match count {
        1 => first,
        count => format!("{first}; so it is with {} more", count - 1),
    });
    (entries, nameless)
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
