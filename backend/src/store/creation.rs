//! How a session is made: everything that forbids it is decided under the lock of its home.

use qod_wire::{Session, Status};
use serde_json::Value;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::ending::end_expired_key;
use super::homes::admits;
use super::outbox::Sink;
use super::sessions::{COLUMNS, StoredSession, read_session};
use super::{OrDoing, Store, StoreError, is_taken, lock_home, lock_name};
use crate::flow::Flow;
use crate::known_devices::KnownDevices;

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: String,
    /// The home that it is in.
    pub home: String,
    /// Client id of the consumer that asked for it.
    pub consumer: String,
    /// When it ends.
    pub expires_ms: i64,
    /// What the consumer asked for, as it is echoed, without the token of its receiver.
    pub request: Value,
    /// Where its notifications go.
    pub sink: Option<Sink>,
    /// What agents are told.
    pub instruction: Session,
    /// The consumer's own name for the request.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the request, in hexadecimal.
    pub request_hash: String,
    /// Agents that polled or reported since then are believed when they say which addresses are one device.
    pub heard_since_ms: i64,
    /// How many sessions the consumer may have.
    pub caps: Caps,
}

/// How many sessions a consumer may have at once. `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// In all homes together.
    pub sessions: Option<i64>,
    /// In one home.
    pub sessions_per_home: Option<i64>,
}

/// A cap that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// [`Caps::sessions`].
    Sessions(i64),
    /// [`Caps::sessions_per_home`].
    SessionsPerHome(i64),
}

/// What became of a session to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It is stored, and the home is at its revision.
    New(StoredSession),
    /// The idempotency key was used before, for this session.
    Before(StoredSession),
    /// It overlaps another session of the home.
    Overlap,
    /// The consumer has as many sessions as it may.
    Capped(Cap),
    /// The home is gone.
    NoHome,
    /// The home does not admit the consumer any more.
    NotAdmitted,
}

impl Store {
    /// Makes a session, if it overlaps no other of its home.
    ///
    /// # Errors
    /// The store failed; then nothing was made.
    pub async fn create_session(
        &self,
        new: NewSession,
        now_ms: i64,
    ) -> Result<Created, StoreError> {
        let doing = "write a session";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let Some(revision) = lock_home(&mut transaction, &new.home, now_ms).await? else {
            return Ok(Created::NoHome);
        };
        // One statement for what the home admits and what it has: each is a way to SQLite's thread and back.
        let rows = sqlx::query(
            "SELECT homes.config, sessions.instruction, sessions.consumer FROM homes \
             LEFT JOIN sessions ON sessions.home_id = homes.id AND sessions.expires_ms > $2 WHERE homes.id = $1",
        )
        .bind(&new.home)
        .bind(now_ms)
        .fetch_all(&mut *transaction)
        .await
        .or_doing(doing)?;
        // Consent may have been withdrawn since the request was judged. From here on it cannot be.
        if !rows
            .first()
            .map_or(Ok(false), |row| admits(row, &new.consumer))?
        {
            return Ok(Created::NotAdmitted);
        }
        if let Some(key) = &new.idempotency_key {
            // An ended session that is still there does not hold its key.
            end_expired_key(&mut transaction, &new.consumer, key, now_ms).await?;
            if let Some(before) = by_key(&mut transaction, &new.consumer, key).await? {
                return Ok(Created::Before(before));
            }
        }
        let flow = Flow::of(&new.instruction);
        let mut own = 0;
        let mut named_otherwise = Vec::new();
        for row in &rows {
            let Some(text): Option<String> = row.try_get(1).or_doing(doing)? else {
                // The home has no session.
                continue;
            };
            own += i64::from(row.try_get::<&str, _>(2).or_doing(doing)? == new.consumer);
            let other: Session = serde_json::from_str(&text).or_doing(doing)?;
            let other = Flow::of(&other);
            if flow.overlaps(&other) {
                return Ok(Created::Overlap);
            }
            if flow.overlaps_if_one_device(&other) {
                named_otherwise.push(other);
            }
        }
        // Reports are large: they are read only where they would decide.
        if !named_otherwise.is_empty() {
            let known = known_devices(&mut transaction, &new.home, new.heard_since_ms).await?;
            if named_otherwise
                .iter()
                .any(|other| flow.is_one_device(other, &known))
            {
                return Ok(Created::Overlap);
            }
        }
        if let Some(cap) = reached(&mut transaction, &new, own, now_ms).await? {
            return Ok(Created::Capped(cap));
        }
        let inserted = sqlx::query(
            "INSERT INTO sessions (id, home_id, consumer, created_ms, expires_ms, added_revision, request, instruction, \
             idempotency_key, request_hash, sink_form, sink_url, sink_receiver, sink_token) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(&new.id)
        .bind(&new.home)
        .bind(&new.consumer)
        .bind(now_ms)
        .bind(new.expires_ms)
        .bind(revision)
        .bind(new.request.to_string())
        .bind(serde_json::to_string(&new.instruction).or_doing(doing)?)
        .bind(new.idempotency_key.as_deref())
        .bind(&new.request_hash)
        .bind(new.sink.as_ref().map(|sink| sink.form.as_str()))
        .bind(new.sink.as_ref().map(|sink| sink.url.as_str()))
        .bind(new.sink.as_ref().map(|sink| sink.receiver.as_str()))
        .bind(new.sink.as_ref().and_then(|sink| sink.token.as_deref()))
        .execute(&mut *transaction)
        .await;
        match inserted {
            // The same key at the same moment for another home: that home's lock was not ours.
            Err(error) if is_taken(&error) => {
                drop(transaction);
                let key = new.idempotency_key.as_deref().unwrap_or_default();
                let mut transaction = self.write.begin().await.or_doing(doing)?;
                return by_key(&mut transaction, &new.consumer, key)
                    .await?
                    .map(Created::Before)
                    .ok_or(StoreError::Sql {
                        doing,
                        source: error,
                    });
            }
            inserted => inserted.or_doing(doing)?,
        };
        transaction.commit().await.or_doing(doing)?;
        Ok(Created::New(StoredSession {
            id: new.id,
            home: new.home,
            consumer: new.consumer,
            created_ms: now_ms,
            expires_ms: new.expires_ms,
            added_revision: revision,
            request: new.request,
            sink: new.sink,
            request_hash: new.request_hash,
        }))
    }
}

/// The cap that forbids `new`, where its consumer has `own` sessions in its home.
async fn reached(
    transaction: &mut Transaction<'_, Any>,
    new: &NewSession,
    own: i64,
    now_ms: i64,
) -> Result<Option<Cap>, StoreError> {
    let doing = "count the sessions of a consumer";
    if let Some(most) = new.caps.sessions_per_home
        && own >= most
    {
        return Ok(Some(Cap::SessionsPerHome(most)));
    }
    let Some(most) = new.caps.sessions else {
        return Ok(None);
    };
    // Other homes' locks are not ours: without this one, two of the consumer's requests for two homes would both find
    // the last place free.
    lock_name(transaction, &format!("sessions of {}", new.consumer)).await?;
    let count: i64 =
        sqlx::query("SELECT COUNT(*) FROM sessions WHERE consumer = $1 AND expires_ms > $2")
            .bind(&new.consumer)
            .bind(now_ms)
            .fetch_one(&mut **transaction)
            .await
            .and_then(|row| row.try_get(0))
            .or_doing(doing)?;
    Ok((count >= most).then_some(Cap::Sessions(most)))
}

/// Which addresses are one device, by the last reports of a home's agents.
async fn known_devices(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
    heard_since_ms: i64,
) -> Result<KnownDevices, StoreError> {
    let doing = "read which devices a home has";
    let reports = sqlx::query(
        "SELECT status FROM agents WHERE home_id = $1 AND (last_poll_ms >= $2 OR last_status_ms >= $2) \
         AND status IS NOT NULL",
    )
    .bind(home)
    .bind(heard_since_ms)
    .fetch_all(&mut **transaction)
    .await
    .or_doing(doing)?;
    let mut known = KnownDevices::default();
    for report in reports {
        let text: String = report.try_get(0).or_doing(doing)?;
        // What cannot be read tells nothing: the agent itself looks after conflicts then.
        if let Ok(status) = serde_json::from_str::<Status>(&text) {
            known.add(&status);
        }
    }
    Ok(known)
}

async fn by_key(
    transaction: &mut Transaction<'_, Any>,
    consumer: &str,
    key: &str,
) -> Result<Option<StoredSession>, StoreError> {
    let doing = "look an idempotency key up";
    let sql =
        format!("SELECT {COLUMNS} FROM sessions WHERE consumer = $1 AND idempotency_key = $2");
    sqlx::query(AssertSqlSafe(sql))
        .bind(consumer)
        .bind(key)
        .fetch_optional(&mut **transaction)
        .await
        .or_doing(doing)?
        .map(|row| read_session(&row, doing))
        .transpose()
}
