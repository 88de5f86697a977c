//! How sessions end: the only path by which one leaves the store.
//!
//! A session's row is taken away in the transaction that writes whatever its end leaves behind, so each end is
//! counted and told once, whichever process does it and whenever it is cut off.

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::outbox::add;
use super::sessions::{COLUMNS, StoredSession, read_session};
use super::usage::record;
use super::{OrDoing, Store, StoreError, lock_home};
use crate::notifications::event::{EventStatus, SinkForm, StatusInfo, status_changed, terminated};
use crate::secret;

/// Most sessions that are ended in one transaction: it holds SQLite's only writer.
const MOST: i64 = 200;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its consumer deleted it.
    Deleted,
    /// The operator ended it.
    Terminated,
    /// Its time is over.
    Expired,
}

impl Ending {
    /// As it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "DELETED",
            Self::Terminated => "TERMINATED",
            Self::Expired => "EXPIRED",
        }
    }
}

impl Store {
    /// Ends a session of `home` before its time. The home's new revision, or `None` if it had ended already.
    ///
    /// # Errors
    /// The store failed; then nothing was changed.
    pub async fn end_session(
        &self,
        id: &str,
        home: &str,
        ending: Ending,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let doing = "end a session";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let Some(revision) = lock_home(&mut transaction, home, now_ms).await? else {
            return Ok(None);
        };
        let sql = format!(
            "DELETE FROM sessions WHERE id = $1 AND home_id = $2 AND expires_ms > $3 RETURNING {COLUMNS}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .bind(home)
            .bind(now_ms)
            .fetch_all(&mut *transaction)
            .await
            .or_doing(doing)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let told = settle(&mut transaction, &rows, ending, now_ms).await?;
        transaction.commit().await.or_doing(doing)?;
        if told {
            self.outbox.notify_one();
        }
        Ok(Some(revision))
    }

    /// Ends some of the sessions whose time is over, and says how many: less than [`Store::MOST_EXPIRED`] when no
    /// others are left. Their end raises no revision: agents end them by themselves.
    ///
    /// # Errors
    /// The store failed; then nothing was changed.
    pub async fn end_expired(&self, now_ms: i64) -> Result<usize, StoreError> {
        let doing = "end the sessions whose time is over";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let sql = format!(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_ms <= $1 \
             ORDER BY expires_ms LIMIT $2) RETURNING {COLUMNS}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(now_ms)
            .bind(MOST)
            .fetch_all(&mut *transaction)
            .await
            .or_doing(doing)?;
        let told = settle(&mut transaction, &rows, Ending::Expired, now_ms).await?;
        transaction.commit().await.or_doing(doing)?;
        if told {
            self.outbox.notify_one();
        }
        Ok(rows.len())
    }

    /// When the next session ends by its time, which may be over already.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next_expiry(&self) -> Result<Option<i64>, StoreError> {
        let doing = "look for the next session whose time is over";
        sqlx::query("SELECT MIN(expires_ms) FROM sessions")
            .fetch_one(&self.read)
            .await
            .and_then(|row| row.try_get(0))
            .or_doing(doing)
    }

    /// How many sessions [`Store::end_expired`] ends at once.
    pub const MOST_EXPIRED: usize = MOST as usize;
}

/// Ends the session that holds an idempotency key, if its time is over.
pub(super) async fn end_expired_key(
    transaction: &mut Transaction<'_, Any>,
    consumer: &str,
    key: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let doing = "end the session that held an idempotency key";
    let sql = format!(
        "DELETE FROM sessions WHERE consumer = $1 AND idempotency_key = $2 AND expires_ms <= $3 RETURNING {COLUMNS}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(consumer)
        .bind(key)
        .bind(now_ms)
        .fetch_all(&mut **transaction)
        .await
        .or_doing(doing)?;
    settle(transaction, &rows, Ending::Expired, now_ms).await?;
    Ok(())
}

/// Ends sessions of a home that the transaction holds, of one consumer or of all, by the operator. Says how many: less
/// than [`MOST`] when no others are left.
pub(super) async fn terminate(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
    consumer: Option<&str>,
    now_ms: i64,
) -> Result<usize, StoreError> {
    let condition = consumer.map_or("", |_| "AND consumer = $4");
    let sql = format!(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE home_id = $1 AND expires_ms > $2 {condition} \
         ORDER BY id LIMIT $3) RETURNING {COLUMNS}"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(home)
        .bind(now_ms)
        .bind(MOST);
    if let Some(consumer) = consumer {
        query = query.bind(consumer);
    }
    let rows = query
        .fetch_all(&mut **transaction)
        .await
        .or_doing("end sessions of a home")?;
    settle(transaction, &rows, Ending::Terminated, now_ms).await?;
    Ok(rows.len())
}

/// Writes what the end of these sessions leaves behind, and says whether a notification is part of it.
async fn settle(
    transaction: &mut Transaction<'_, Any>,
    rows: &[AnyRow],
    ending: Ending,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sessions = rows
        .iter()
        .map(|row| read_session(row, "read a session that ended"))
        .collect::<Result<Vec<_>, _>>()?;
    record(transaction, &sessions, ending, now_ms).await?;
    let mut told = false;
    for session in &sessions {
        tracing::debug!(
            session = session.id,
            home = session.home,
            ?ending,
            "session ended"
        );
        told |= notify(transaction, session, ending, now_ms).await?;
    }
    Ok(told)
}

/// Writes the notification of a session's end, if there is one to write: a consumer knows of an end that it asked
/// for. Says whether there was.
async fn notify(
    transaction: &mut Transaction<'_, Any>,
    session: &StoredSession,
    ending: Ending,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let Some(sink) = &session.sink else {
        return Ok(false);
    };
    // A session ends when its time is over, however much later that is seen.
    let (info, ended_ms) = match ending {
        Ending::Deleted => return Ok(false),
        Ending::Terminated => (StatusInfo::NetworkTerminated, now_ms),
        Ending::Expired => (StatusInfo::DurationExpired, session.expires_ms),
    };
    let id = secret::uuid()?;
    let body = match sink.form {
        SinkForm::Top => terminated(&session.id),
        SinkForm::Webhook => status_changed(
            &id,
            &session.id,
            EventStatus::Unavailable,
            Some(info),
            ended_ms,
        ),
    };
    add(transaction, &id, session, sink, &body.to_string(), now_ms).await?;
    Ok(true)
}
