//! How sessions end: the only path by which one leaves the store.
//!
//! A session's row is taken away in the transaction that writes whatever its end leaves behind, so each end is
//! counted and told once, whichever process does it and whenever it is cut off.

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::sessions::{COLUMNS, read_session};
use super::{OrDoing, Store, StoreError, lock_home};

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
        if settle(&mut transaction, &rows, ending, now_ms).await? == 0 {
            return Ok(None);
        }
        transaction.commit().await.or_doing(doing)?;
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
        let ended = settle(&mut transaction, &rows, Ending::Expired, now_ms).await?;
        transaction.commit().await.or_doing(doing)?;
        Ok(ended)
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

/// Writes what the end of these sessions leaves behind, and says how many there are.
async fn settle(
    _transaction: &mut Transaction<'_, Any>,
    rows: &[AnyRow],
    ending: Ending,
    _now_ms: i64,
) -> Result<usize, StoreError> {
    for row in rows {
        let session = read_session(row, "read a session that ended")?;
        tracing::debug!(
            session = session.id,
            home = session.home,
            ?ending,
            "session ended"
        );
    }
    Ok(rows.len())
}
