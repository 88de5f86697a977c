//! What sessions carried: counted up from agents' reports while they live, and recorded when they end.
//!
//! A record is written by the transaction that ends the session. Agents speak once more after it: what they say within
//! [`LATE_MS`] still counts. Whoever writes holds the agent's row, so that a report and an end that come at once see
//! each other.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::{Any, Row, Transaction};

use super::ending::Ending;
use super::sessions::StoredSession;
use super::{OrDoing, SessionReport, Store, StoreError};

/// How long after its session's end a record may still change, in milliseconds.
pub const LATE_MS: i64 = 600_000;
/// Most records that are removed in one transaction: it holds SQLite's only writer.
const MOST_REMOVED: i64 = 500;

/// What one agent counted of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// When the agent first said that the session is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_ms: Option<i64>,
    /// From the device.
    #[serde(default)]
    pub upstream: Tally,
    /// To the device.
    #[serde(default)]
    pub downstream: Tally,
}

/// A counter that may fall back to 0, added up. In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All that was counted.
    pub total: u64,
    /// The counter itself, as it was last seen.
    pub last: u64,
}

/// The counters of a session as one report has them, in bytes. Absent: not in force in that direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// From the device.
    pub upstream: Option<u64>,
    /// To the device.
    pub downstream: Option<u64>,
}

impl Measured {
    /// What is known after another report.
    #[must_use]
    pub fn after(self, counted: Counted) -> Self {
        Self {
            upstream: self.upstream.after(counted.upstream),
            downstream: self.downstream.after(counted.downstream),
            ..self
        }
    }
}

impl Tally {
    fn after(self, counter: Option<u64>) -> Self {
        let Some(counter) = counter else {
            return self;
        };
        // One that went back began anew: the router started again, or the session moved to another port.
        let more = counter.checked_sub(self.last).unwrap_or(counter);
        Self {
            total: self.total.saturating_add(more),
            last: counter,
        }
    }
}

/// Bytes of a session, from all agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the device.
    pub upstream: i64,
    /// To the device.
    pub downstream: i64,
}

impl Bytes {
    /// The sum of what agents measured.
    pub fn of<'a>(measured: impl IntoIterator<Item = &'a Measured>) -> Self {
        let add = |sum: i64, tally: Tally| {
            sum.saturating_add(i64::try_from(tally.total).unwrap_or(i64::MAX))
        };
        measured
            .into_iter()
            .fold(Self::default(), |bytes, measured| Self {
                upstream: add(bytes.upstream, measured.upstream),
                downstream: add(bytes.downstream, measured.downstream),
            })
    }
}

/// What a session was, for billing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRecord {
    /// The session's id.
    pub session: String,
    /// Client id of the consumer that asked for it.
    pub consumer: String,
    /// The home that it was in.
    pub home: String,
    /// Its QoS profile.
    pub profile: String,
    /// When it was made.
    pub from_ms: i64,
    /// When it ended.
    pub to_ms: i64,
    /// Why it ended: `DELETED`, `TERMINATED` or `EXPIRED`.
    pub ending: String,
    /// What it carried.
    pub bytes: Bytes,
    /// From when on it does not change any more.
    pub final_ms: i64,
}

/// Where a list of records goes on: after this end and, among those with the same, this session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsagePlace {
    /// End of a session.
    pub to_ms: i64,
    /// Its id.
    pub session: String,
}

impl Store {
    /// Records of sessions that ended at `from_ms` or later and before `to_ms`, in order of their end, at most `most`,
    /// after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn usage(
        &self,
        from_ms: i64,
        to_ms: i64,
        after: &UsagePlace,
        most: i64,
    ) -> Result<Vec<UsageRecord>, StoreError> {
        let doing = "list usage records";
        sqlx::query(
            "SELECT session_id, consumer, home_id, profile, from_ms, to_ms, ending, upstream, downstream, final_ms \
             FROM usage_records WHERE to_ms >= $1 AND to_ms < $2 AND (to_ms > $3 OR (to_ms = $3 AND session_id > $4)) \
             ORDER BY to_ms, session_id LIMIT $5",
        )
        .bind(from_ms.max(after.to_ms))
        .bind(to_ms)
        .bind(after.to_ms)
        .bind(&after.session)
        .bind(most)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| {
            Ok(UsageRecord {
                session: row.try_get(0).or_doing(doing)?,
                consumer: row.try_get(1).or_doing(doing)?,
                home: row.try_get(2).or_doing(doing)?,
                profile: row.try_get(3).or_doing(doing)?,
                from_ms: row.try_get(4).or_doing(doing)?,
                to_ms: row.try_get(5).or_doing(doing)?,
                ending: row.try_get(6).or_doing(doing)?,
                bytes: Bytes {
                    upstream: row.try_get(7).or_doing(doing)?,
                    downstream: row.try_get(8).or_doing(doing)?,
                },
                final_ms: row.try_get(9).or_doing(doing)?,
            })
        })
        .collect()
    }

    /// Removes some of the records of sessions that ended before `before_ms`, and says whether there may be more.
    ///
    /// # Errors
    /// The store failed; then nothing was removed.
    pub async fn forget_usage(&self, before_ms: i64) -> Result<bool, StoreError> {
        let removed = sqlx::query(
            "DELETE FROM usage_records WHERE session_id IN \
             (SELECT session_id FROM usage_records WHERE to_ms < $1 ORDER BY to_ms LIMIT $2)",
        )
        .bind(before_ms)
        .bind(MOST_REMOVED)
        .execute(&self.write)
        .await
        .or_doing("remove old usage records")?
        .rows_affected();
        Ok(removed >= MOST_REMOVED.unsigned_abs())
    }
}

/// Records sessions that end in this transaction.
pub(super) async fn record(
    transaction: &mut Transaction<'_, Any>,
    sessions: &[StoredSession],
    ending: Ending,
    now_ms: i64,
) -> Result<(), StoreError> {
    let doing = "write a usage record";
    // In one order, so that two transactions do not wait for each other.
    let mut homes: BTreeMap<&str, Vec<&StoredSession>> = BTreeMap::new();
    for session in sessions {
        homes.entry(&session.home).or_default().push(session);
    }
    for (home, sessions) in homes {
        let agents = hold_agents(transaction, home).await?;
        for session in sessions {
            let measured: BTreeMap<&str, Measured> = agents
                .iter()
                .filter_map(|(agent, said)| Some((agent.as_str(), said.get(&session.id)?.measured)))
                .collect();
            let bytes = Bytes::of(measured.values());
            let profile = session.request.get("qosProfile");
            // A session ends when its time is over, however much later that is seen.
            let to_ms = session.expires_ms.min(now_ms);
            sqlx::query(
                "INSERT INTO usage_records (session_id, consumer, home_id, profile, from_ms, to_ms, ending, \
                 upstream, downstream, final_ms, measured) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                 ON CONFLICT (session_id) DO NOTHING",
            )
            .bind(&session.id)
            .bind(&session.consumer)
            .bind(home)
            .bind(profile.and_then(|name| name.as_str()).unwrap_or_default())
            .bind(session.created_ms)
            .bind(to_ms)
            .bind(ending.as_str())
            .bind(bytes.upstream)
            .bind(bytes.downstream)
            .bind(now_ms + LATE_MS)
            .bind(serde_json::to_string(&measured).or_doing(doing)?)
            .execute(&mut **transaction)
            .await
            .or_doing(doing)?;
        }
    }
    Ok(())
}

/// What the agents of a home said of sessions; no report is written until the transaction ends.
async fn hold_agents(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
) -> Result<Vec<(String, HashMap<String, SessionReport>)>, StoreError> {
    let doing = "read what agents counted";
    sqlx::query("UPDATE agents SET sequence = sequence WHERE home_id = $1 RETURNING id, sessions")
        .bind(home)
        .fetch_all(&mut **transaction)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| {
            let agent: String = row.try_get(0).or_doing(doing)?;
            let said: String = row.try_get(1).or_doing(doing)?;
            Ok((agent.clone(), read_said(&agent, &said)))
        })
        .collect()
}

/// What an agent said last. If it cannot be read, its bytes are lost, but the session must end all the same.
pub(super) fn read_said<T: Default + DeserializeOwned>(agent: &str, said: &str) -> T {
    serde_json::from_str(said).unwrap_or_else(|error| {
        tracing::error!(agent, %error, "what the agent said last cannot be read");
        T::default()
    })
}

/// Adds what an agent counted of a session that has ended.
pub(super) async fn correct(
    transaction: &mut Transaction<'_, Any>,
    session: &str,
    home: &str,
    agent: &str,
    counted: Counted,
    now_ms: i64,
) -> Result<(), StoreError> {
    let doing = "complete a usage record";
    let row = sqlx::query(
        "UPDATE usage_records SET measured = measured \
         WHERE session_id = $1 AND home_id = $2 AND final_ms > $3 RETURNING measured",
    )
    .bind(session)
    .bind(home)
    .bind(now_ms)
    .fetch_optional(&mut **transaction)
    .await
    .or_doing(doing)?;
    let Some(row) = row else {
        return Ok(());
    };
    let text: String = row.try_get(0).or_doing(doing)?;
    let mut measured: BTreeMap<String, Measured> = serde_json::from_str(&text).or_doing(doing)?;
    let mine = measured.entry(agent.to_owned()).or_default();
    *mine = mine.after(counted);
    let bytes = Bytes::of(measured.values());
    sqlx::query(
        "UPDATE usage_records SET upstream = $2, downstream = $3, measured = $4 WHERE session_id = $1",
    )
    .bind(session)
    .bind(bytes.upstream)
    .bind(bytes.downstream)
    .bind(serde_json::to_string(&measured).or_doing(doing)?)
    .execute(&mut **transaction)
    .await
    .or_doing(doing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_goes_back_adds_on() {
        let mut tally = Tally::default();
        for (counter, total) in [
            (Some(100), 100),
            (Some(150), 150),
            (None, 150),
            (Some(150), 150),
            (Some(20), 170),
            (Some(0), 170),
            (Some(5), 175),
            (Some(u64::MAX), u64::MAX),
            (Some(1), u64::MAX),
        ] {
            tally = tally.after(counter);
            assert_eq!(tally.total, total, "{counter:?}");
        }
        let much = Measured {
            upstream: tally,
            ..Measured::default()
        };
        assert_eq!(Bytes::of([&much, &much]).upstream, i64::MAX);
    }
}
