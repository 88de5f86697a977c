//! Notifications that are to be delivered.
//!
//! A row is written in the transaction of what it tells, and taken away when it arrived. Rows are claimed, not owned:
//! whoever delivers one moves its time into the future first, and if that process ends, the time comes again and any
//! other takes it. So each arrives at least once. Those of one session are claimed in their order, the next when the
//! one before it is gone.

use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};
use tokio::sync::Notify;

use super::sessions::StoredSession;
use super::{OrDoing, Store, StoreError};
use crate::notifications::event::{EventStatus, SinkForm};

/// Most notifications that one claim looks at, in the order of their time.
const MOST_LOOKED_AT: i64 = 500;

/// Where a session's consumer wants its notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// The form in which it asked.
    pub form: SinkForm,
    /// The URL.
    pub url: String,
    /// Host and port of the URL.
    pub receiver: String,
    /// The receiver's token, encrypted.
    pub token: Option<String>,
    /// The status that a webhook was told last.
    pub told: Option<EventStatus>,
}

/// A notification that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: String,
    /// The session that it speaks of.
    pub session: String,
    /// Host and port of its receiver.
    pub receiver: String,
    /// Where it goes.
    pub url: String,
    /// The receiver's token, encrypted.
    pub token: Option<String>,
    /// What it says.
    pub body: String,
    /// When it was written.
    pub created_ms: i64,
    /// Attempts, this one included.
    pub attempts: i64,
}

/// What may be claimed.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// Most notifications.
    pub most: usize,
    /// Most for one receiver.
    pub most_per_receiver: usize,
    /// What is being delivered to receivers now, each named once, which counts towards the most.
    pub under_way: &'a [(String, usize)],
    /// When the claim ends.
    pub until_ms: i64,
}

impl Store {
    /// Claims notifications whose time has come: of each session the first, and of each receiver no more than it may
    /// have at once, so that one whose deliveries hang does not take the places of the others. What waits for one that
    /// has all its places is passed over, and hides nothing behind it.
    ///
    /// # Errors
    /// The store failed; then nothing was claimed.
    pub async fn claim_notifications(
        &self,
        claim: Claim<'_>,
        now_ms: i64,
    ) -> Result<Vec<Notification>, StoreError> {
        let doing = "claim notifications";
        let some = sqlx::query("SELECT id FROM outbox WHERE due_ms <= $1 LIMIT 1")
            .bind(now_ms)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?;
        // Looking is cheap, and claiming takes SQLite's only writer.
        if some.is_none() || claim.most == 0 {
            return Ok(vec![]);
        }
        let (mut full, mut free) = (String::new(), String::new());
        for (index, (_, count)) in claim.under_way.iter().enumerate() {
            let (receiver, places) = (6 + index * 2, 7 + index * 2);
            if *count >= claim.most_per_receiver {
                full.push_str(&format!(" AND receiver <> ${receiver}"));
            }
            free.push_str(&format!(" WHEN ${receiver} THEN ${places}"));
        }
        let free = if free.is_empty() {
            "$4".to_owned()
        } else {
            format!("CASE receiver{free} ELSE $4 END")
        };
        let most_per_receiver = as_i64(claim.most_per_receiver);
        // Only places are put into the text; the values are bound. The last condition is asked again when a row was
        // waited for, and fails if another process claimed it.
        let sql = AssertSqlSafe(format!(
            "UPDATE outbox SET due_ms = $1, attempts = attempts + 1 WHERE id IN (\
             SELECT id FROM (SELECT id, due_ms, receiver, \
             ROW_NUMBER() OVER (PARTITION BY receiver ORDER BY due_ms, id) AS place FROM (\
             SELECT id, due_ms, receiver FROM outbox AS waiting \
             WHERE due_ms <= $2{full} AND NOT EXISTS (SELECT 1 FROM outbox AS earlier \
             WHERE earlier.session_id = waiting.session_id AND earlier.serial < waiting.serial) \
             ORDER BY due_ms LIMIT $5) AS first) AS due WHERE place <= {free} ORDER BY place, due_ms LIMIT $3) AND due_ms <= $2 \
             RETURNING id, session_id, receiver, url, token, body, created_ms, attempts"
        ));
        let mut query = sqlx::query(sql)
            .bind(claim.until_ms)
            .bind(now_ms)
            .bind(as_i64(claim.most))
            .bind(most_per_receiver)
            .bind(MOST_LOOKED_AT);
        for (receiver, count) in claim.under_way {
            query = query
                .bind(receiver)
                .bind((most_per_receiver - as_i64(*count)).max(0));
        }
        query
            .fetch_all(&self.write)
            .await
            .or_doing(doing)?
            .iter()
            .map(|row| read_notification(row, doing))
            .collect()
    }

    /// Takes a notification away: it arrived, or was given up.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish_notification(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM outbox WHERE id = $1")
            .bind(id)
            .execute(&self.write)
            .await
            .or_doing("take a notification away")?;
        Ok(())
    }

    /// Gives a claimed notification back, for another attempt at `due_ms`, unless it was claimed again meanwhile.
    ///
    /// # Errors
    /// The store failed.
    pub async fn retry_notification(
        &self,
        id: &str,
        attempts: i64,
        due_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE outbox SET due_ms = $3 WHERE id = $1 AND attempts = $2")
            .bind(id)
            .bind(attempts)
            .bind(due_ms)
            .execute(&self.write)
            .await
            .or_doing("give a notification back")?;
        Ok(())
    }

    /// How many notifications wait, in all processes.
    ///
    /// # Errors
    /// The store failed.
    pub async fn outbox_depth(&self) -> Result<i64, StoreError> {
        let doing = "count the notifications that wait";
        sqlx::query("SELECT COUNT(*) FROM outbox")
            .fetch_one(&self.read)
            .await
            .and_then(|row| row.try_get(0))
            .or_doing(doing)
    }

    /// Is told when this process wrote a notification.
    pub fn outbox_written(&self) -> Arc<Notify> {
        self.outbox.clone()
    }
}

/// Writes a notification of a session, whose row the transaction holds.
pub(super) async fn add(
    transaction: &mut Transaction<'_, Any>,
    id: &str,
    session: &StoredSession,
    sink: &Sink,
    body: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let doing = "write a notification";
    let serial: i64 =
        sqlx::query("SELECT COALESCE(MAX(serial), 0) + 1 FROM outbox WHERE session_id = $1")
            .bind(&session.id)
            .fetch_one(&mut **transaction)
            .await
            .and_then(|row| row.try_get(0))
            .or_doing(doing)?;
    sqlx::query(
        "INSERT INTO outbox (id, session_id, serial, receiver, url, token, body, created_ms, due_ms, attempts) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 0)",
    )
    .bind(id)
    .bind(&session.id)
    .bind(serial)
    .bind(&sink.receiver)
    .bind(&sink.url)
    .bind(sink.token.as_deref())
    .bind(body)
    .bind(now_ms)
    .execute(&mut **transaction)
    .await
    .or_doing(doing)?;
    Ok(())
}

fn read_notification(row: &AnyRow, doing: &'static str) -> Result<Notification, StoreError> {
    Ok(Notification {
        id: row.try_get("id").or_doing(doing)?,
        session: row.try_get("session_id").or_doing(doing)?,
        receiver: row.try_get("receiver").or_doing(doing)?,
        url: row.try_get("url").or_doing(doing)?,
        token: row.try_get("token").or_doing(doing)?,
        body: row.try_get("body").or_doing(doing)?,
        created_ms: row.try_get("created_ms").or_doing(doing)?,
        attempts: row.try_get("attempts").or_doing(doing)?,
    })
}

/// Counts of this program are far below what does not fit.
fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
