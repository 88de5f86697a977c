//! SQLite's write-ahead log: when what it has comes into the file.
//!
//! Bringing it there syncs both, which takes as long as tens of sessions. SQLite would do that in the middle of
//! some commit, while all other writers wait; so a reader's connection does it, which no writer waits for.

use std::time::Duration;

use sqlx::{AnyPool, Row};

use super::{OrDoing, Store, StoreError};

/// How often, and how long between, what must not be lost is tried to be brought into the file while somebody else
/// is doing that.
const TRIES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(20);

/// `wal_autocheckpoint`: only a log that long, in pages (128 MiB), is brought into the file by the writer itself, which
/// then begins it anew. `journal_size_limit`: and no more than that, in bytes, is left of it.
pub(super) const SETTINGS: &str =
    "PRAGMA wal_autocheckpoint = 32000; PRAGMA journal_size_limit = 33554432;";

impl Store {
    /// Brings what the log has into the file as far as nobody has to wait for it. Nothing to do for PostgreSQL.
    ///
    /// # Errors
    /// The store failed; the log has it still.
    pub async fn fold_log(&self) -> Result<(), StoreError> {
        if self.sqlite {
            // Whether somebody else is doing the same does not matter.
            is_folded(&self.read, "PRAGMA wal_checkpoint(PASSIVE)").await?;
        }
        Ok(())
    }

    /// Brings all that is committed into the file, and waits for the disk. False: somebody else kept doing it.
    pub(super) async fn fold_log_for_good(&self) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            if is_folded(&self.write, "PRAGMA wal_checkpoint(FULL)").await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }
}

/// SQLite reports being busy as a value, and never waits for another one's checkpoint.
async fn is_folded(pool: &AnyPool, pragma: &'static str) -> Result<bool, StoreError> {
    let doing = "bring the log into the database";
    let row = sqlx::query(pragma).fetch_one(pool).await.or_doing(doing)?;
    let busy: i64 = row.try_get(0).or_doing(doing)?;
    Ok(busy == 0)
}
