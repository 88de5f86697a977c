//! One SQL store for SQLite and PostgreSQL.
//!
//! The same statements serve both: columns are TEXT and BIGINT only (what `sqlx::any` carries on either engine),
//! times are milliseconds since the Unix epoch, lists and documents are JSON text.
//!
//! **Homes are the unit of change.** Every change of what a home's agents should do begins with [`lock_home`],
//! which raises the home's revision and thereby takes the row's lock (SQLite: the write lock) until the commit.
//! Whatever is then read about the home cannot change any more, so checks made there hold.
//!
//! **Two pools.** On SQLite one connection writes and the others read. Writers queue in this process, fairly and
//! without the sleeping retries of SQLite's busy handler, and readers never wait for them (WAL).

mod agents;
mod census;
mod consumers;
mod creation;
mod credentials;
mod ending;
pub mod failures;
mod homes;
mod identifiers;
mod keys;
mod migrations;
mod outbox;
mod removal;
mod sessions;
mod status_polls;
mod telling;
mod usage;
mod wal;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, Executor, Row, Transaction};
use tokio::sync::Notify;

pub use agents::{Agent, AgentReport, SessionReport, Written};
pub use census::{CensusPage, CensusSession};
pub use consumers::{Consumer, ConsumerLimits};
pub use creation::{Cap, Caps, Created, NewSession};
pub use credentials::{MOST_TOKENS, OVERLAP_MS, Owner, REPEAT_MS};
pub use ending::Ending;
pub use identifiers::{Identifier, IdentifierKind};
pub use keys::{KeyChange, SigningKey};
pub use outbox::{Claim, Notification, Sink};
pub use removal::HomeRemoval;
pub use sessions::{LiveSession, SessionFilter, StoredSession};
pub use status_polls::{DueStatusPoll, StatusPoll};
pub use telling::Judge;
pub use usage::{Bytes, Counted, LATE_MS, Measured, Tally, UsagePlace, UsageRecord};

use crate::secret::NoRandomness;
pub use homes::{Admission, Admits, All, Home, HomePut, Link, Nai, PhoneNumber};

/// Longest wait for a connection before the store counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that read (SQLite), or that do everything (PostgreSQL).
const CONNECTIONS: u32 = 8;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement, or the connection under it, failed.
    #[error("{doing}: {source}")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// The database's own words.
        source: sqlx::Error,
    },
    /// What was read is not what was once written.
    #[error("{doing}: {what}")]
    Corrupt {
        /// What was being done.
        doing: &'static str,
        /// What was found.
        what: String,
    },
    /// No randomness for an id.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The database was written by a later version.
    #[error(
        "open the database: its schema version is {found}, and this version of qod-backend knows no later one than {known}"
    )]
    Newer {
        /// Version in the database.
        found: i64,
        /// Latest version that this program knows.
        known: i64,
    },
}

impl StoreError {
    /// Whether trying again later may help: the store is unreachable, busy or full.
    pub fn is_unavailability(&self) -> bool {
        let Self::Sql { source, .. } = self else {
            return false;
        };
        match source {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| match code.len() {
                // SQLSTATE: connection, a standby that only reads, a transaction that the server ended, resources, a
                // lock waited for too long, operator intervention, lost race. Five characters always; SQLite's
                // numbers have four at most but for a few that are none of these.
                5 => ["08", "25006", "25P03", "53", "55P03", "57", "40"]
                    .iter()
                    .any(|class| code.starts_with(class)),
                // SQLite: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN, in the low byte.
                _ => code
                    .parse::<u32>()
                    .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14)),
            }),
            _ => false,
        }
    }
}

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    sqlite: bool,
    read: AnyPool,
    write: AnyPool,
    /// Is told when a notification was written.
    outbox: Arc<Notify>,
}

impl Store {
    /// Opens the database at `url` (`sqlite:FILE` or `postgres://…`), and brings its schema up to date.
    ///
    /// # Errors
    /// The database cannot be reached or made, or its schema is newer than this program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let doing = "open the database";
        let url = if sqlite && !url.contains('?') {
            format!("{url}?mode=rwc")
        } else {
            url.to_owned()
        };
        if sqlite {
            make_private(&url).map_err(|error| StoreError::Sql {
                doing,
                source: error.into(),
            })?;
        }
        let parsed: Result<AnyConnectOptions, sqlx::Error> = url.parse();
        let options = parsed.or_doing(doing)?;
        let connect = |connections| {
            let pool = AnyPoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                // A connection to a file does not break, one to a server does: it is asked before each use.
                .test_before_acquire(!sqlite)
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        let settings = if sqlite {
                            SQLITE_SETTINGS
                        } else {
                            POSTGRES_SETTINGS
                        };
                        connection.execute(settings).await?;
                        if sqlite {
                            connection.execute(wal::SETTINGS).await?;
                        }
                        Ok(())
                    })
                });
            pool.connect_with(options.clone())
        };
        let write = connect(if sqlite { 1 } else { CONNECTIONS })
            .await
            .or_doing(doing)?;
        migrations::run(&write).await?;
        let read = if sqlite {
            connect(CONNECTIONS).await.or_doing(doing)?
        } else {
            write.clone()
        };
        Ok(Self {
            sqlite,
            read,
            write,
            outbox: Arc::default(),
        })
    }

    /// The ids that a statement selects after `after`, at most `most`.
    async fn page_of_ids(
        &self,
        sql: &'static str,
        doing: &'static str,
        after: &str,
        most: i64,
    ) -> Result<Vec<String>, StoreError> {
        sqlx::query(sql)
            .bind(after)
            .bind(most)
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?
            .iter()
            .map(|row| row.try_get(0).or_doing(doing))
            .collect()
    }

    /// Commits so that not even a power cut takes it back: somebody else will rely on it and ask nobody any more.
    async fn commit_for_good(
        &self,
        transaction: Transaction<'_, Any>,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        transaction.commit().await.or_doing(doing)?;
        if self.sqlite {
            let folded = self.fold_log_for_good().await;
            if !matches!(folded, Ok(true)) {
                tracing::warn!(
                    ?folded,
                    doing,
                    "a power cut now would take back what was written"
                );
            }
        }
        Ok(())
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT version FROM schema_version")
            .fetch_one(&self.read)
            .await
            .or_doing("ask the database for its version")?;
        Ok(())
    }

    /// Closes every connection. SQLite's log is folded into the file first, so that the file alone is a copy of
    /// everything; where that fails, the next start reads the log.
    pub async fn close(&self) {
        self.read.close().await;
        if self.sqlite {
            let fold = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
            if let Err(error) = fold.execute(&self.write).await {
                tracing::debug!(%error, "the log was not folded into the database");
            }
        }
        self.write.close().await;
    }
}

/// Makes the file, if it is not there, so that nobody else can read it: it holds the keys that sign tokens. SQLite
/// gives its log the permissions of the file.
fn make_private(url: &str) -> std::io::Result<()> {
    match OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(sqlite_file(url))
    {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The file that `sqlite:FILE?OPTIONS` names.
pub fn sqlite_file(url: &str) -> &Path {
    let file = url.strip_prefix("sqlite:").unwrap_or(url);
    let file = file.strip_prefix("//").unwrap_or(file);
    Path::new(file.split('?').next().unwrap_or(file))
}

/// WAL: readers and the writer do not block each other. `synchronous=NORMAL`: a commit is in the operating
/// system's hands when it is answered, so it survives the end of the process by any signal; a power cut may take
/// the last commits but never the database's consistency, and revisions do not repeat (see [`lock_home`]). FULL
/// would add an fsync to every session; what must not be lost is synced by itself (`Store::commit_for_good`). The
/// busy timeout concerns other processes over the same file only.
const SQLITE_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
     PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;";

/// A process that is cut off in the middle of a transaction holds its home until the server notices, which may take
/// hours. The server ends such a transaction, and others wait for a home no longer than for SQLite's writer.
const POSTGRES_SETTINGS: &str =
    "SET lock_timeout = 5000; SET idle_in_transaction_session_timeout = 20000;";

/// Raises the revision of `home` and returns it, and holds the home until the transaction ends. `None`: no such
/// home.
///
/// A revision is at least the time in milliseconds. So it does not repeat when a database was restored from a
/// copy: counting alone would give a number that agents already hold to other contents, and they would not ask
/// again. A clock that went back only makes it count by one.
async fn lock_home(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
    now_ms: i64,
) -> Result<Option<i64>, StoreError> {
    let doing = "raise the revision of a home";
    let row = sqlx::query(
        "UPDATE homes SET revision = CASE WHEN revision < $2 THEN $2 ELSE revision + 1 END \
         WHERE id = $1 RETURNING revision",
    )
    .bind(home)
    .bind(now_ms)
    .fetch_optional(&mut **transaction)
    .await
    .or_doing(doing)?;
    row.map(|row| row.try_get(0).or_doing(doing)).transpose()
}

/// Holds `name` until the transaction ends. Of a home and a name, the home is locked first: in one order nobody waits
/// for somebody who waits.
async fn lock_name(transaction: &mut Transaction<'_, Any>, name: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO locks (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name",
    )
    .bind(name)
    .execute(&mut **transaction)
    .await
    .or_doing("take a lock")?;
    Ok(())
}

/// Names what was being done when a statement failed.
trait OrDoing<T> {
    fn or_doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> OrDoing<T> for Result<T, sqlx::Error> {
    fn or_doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| {
            let error = StoreError::Sql { doing, source };
            failures::count(&error);
            error
        })
    }
}

impl<T> OrDoing<T> for Result<T, serde_json::Error> {
    fn or_doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Corrupt {
            doing,
            what: error.to_string(),
        })
    }
}

/// The places of a list in a statement, `$2, $3, $4` for three from the second on. The values are bound, and never
/// put into the text.
fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count)
        .map(|place| format!("${place}"))
        .collect();
    places.join(", ")
}

/// Whether a statement failed because the key is taken.
fn is_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}
