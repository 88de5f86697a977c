//! Reads the sessions of the instructions, each for itself.

use std::collections::HashSet;
use std::time::Duration;

use qod_wire::RejectCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse::parse;
use super::{Entry, Rejection, SessionId};

/// Reads the sessions of the instructions, each for itself.
///
/// `read_at` is the boot time at which the instructions were read. An entry without a usable id cannot be
/// reported and is returned as a text in the second list.
pub fn read(raw: &[Box<RawValue>], read_at: Duration) -> (Vec<Entry>, Vec<String>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Id {
        session_id: String,
    }

    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(raw.len());
    let mut nameless = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let id: SessionId = match serde_json::from_str::<Id>(raw.get()) {
            Ok(id) if qod_wire::is_session_id(&id.session_id) => id.session_id.into(),
            Ok(id) => {
                let start: String = id.session_id.chars().take(80).collect();
                nameless.push(format!(
                    "session {index} has an illegal sessionId {start:?}"
                ));
                continue;
            }
            Err(error) => {
                nameless.push(format!("session {index} has no usable sessionId: {error}"));
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
        entries.push(Entry { id, session });
    }
    (entries, nameless)
}
