//! Sessions.

use qod_wire::{Link, Session};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::ending::end_expired_key;
use super::homes::admits;
use super::outbox::Sink;
use super::{OrDoing, Store, StoreError, is_taken, lock_home};
use crate::flow::Flow;
use crate::notifications::event::{EventStatus, SinkForm};

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
}

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSession {
    /// Its id.
    pub id: String,
    /// The home that it is in.
    pub home: String,
    /// Client id of the consumer that asked for it.
    pub consumer: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it ends.
    pub expires_ms: i64,
    /// The home's revision that first had it.
    pub added_revision: i64,
    /// What the consumer asked for, as it is echoed, without the token of its receiver.
    pub request: Value,
    /// Where its notifications go.
    pub sink: Option<Sink>,
    /// SHA-256 of the request, in hexadecimal.
    pub request_hash: String,
}

/// A session as agents are told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSession {
    /// The session without its time.
    pub instruction: Session,
    /// When it ends.
    pub expires_ms: i64,
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
    /// The home is gone.
    NoHome,
    /// The home does not admit the consumer any more.
    NotAdmitted,
}

/// Which sessions are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter<'a> {
    /// Those of this home. `None`: of all.
    pub home: Option<&'a str>,
    /// Those of this consumer. `None`: of all.
    pub consumer: Option<&'a str>,
}

pub(super) const COLUMNS: &str = "id, home_id, consumer, created_ms, expires_ms, added_revision, request, request_hash, \
     sink_form, sink_url, sink_receiver, sink_token, told";

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
        // Consent may have been withdrawn since the request was judged. From here on it cannot be.
        if !admits(&mut transaction, &new.home, &new.consumer).await? {
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
        let others =
            sqlx::query("SELECT instruction FROM sessions WHERE home_id = $1 AND expires_ms > $2")
                .bind(&new.home)
                .bind(now_ms)
                .fetch_all(&mut *transaction)
                .await
                .or_doing(doing)?;
        for other in others {
            let text: String = other.try_get(0).or_doing(doing)?;
            let other: Session = serde_json::from_str(&text).or_doing(doing)?;
            if flow.overlaps(&Flow::of(&other)) {
                return Ok(Created::Overlap);
            }
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

    /// The session `id`, if it has not ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session(
        &self,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<StoredSession>, StoreError> {
        let doing = "read a session";
        let sql = format!("SELECT {COLUMNS} FROM sessions WHERE id = $1 AND expires_ms > $2");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .bind(now_ms)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?
            .map(|row| read_session(&row, doing))
            .transpose()
    }

    /// The sessions that have not ended and pass the filter, in order of their ids, at most `most`, after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn sessions(
        &self,
        filter: SessionFilter<'_>,
        after: &str,
        most: i64,
        now_ms: i64,
    ) -> Result<Vec<StoredSession>, StoreError> {
        let doing = "list sessions";
        let given: Vec<(&str, &str)> = [("home_id", filter.home), ("consumer", filter.consumer)]
            .into_iter()
            .filter_map(|(column, value)| Some((column, value?)))
            .collect();
        let conditions: String = given
            .iter()
            .enumerate()
            .map(|(index, (column, _))| format!(" AND {column} = ${}", index + 4))
            .collect();
        // Only columns and places are put into the text; the values are bound.
        let sql = format!(
            "SELECT {COLUMNS} FROM sessions WHERE id > $1 AND expires_ms > $3{conditions} ORDER BY id LIMIT $2"
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(after)
            .bind(most)
            .bind(now_ms);
        for (_, value) in given {
            query = query.bind(value);
        }
        query
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?
            .iter()
            .map(|row| read_session(row, doing))
            .collect()
    }

    /// What the agents of a home are to do: its revision, its link and its sessions, the oldest first. `None`: no
    /// such home. It is one statement, so that revision and sessions belong together.
    ///
    /// # Errors
    /// The store failed.
    pub async fn instructions(
        &self,
        home: &str,
        now_ms: i64,
    ) -> Result<Option<(i64, Option<Link>, Vec<LiveSession>)>, StoreError> {
        let doing = "read the sessions of a home";
        let rows = sqlx::query(
            "SELECT homes.revision, homes.link, sessions.instruction, sessions.expires_ms FROM homes \
             LEFT JOIN sessions ON sessions.home_id = homes.id AND sessions.expires_ms > $2 \
             WHERE homes.id = $1 ORDER BY sessions.added_revision",
        )
        .bind(home)
        .bind(now_ms)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let revision = first.try_get(0).or_doing(doing)?;
        let link: Option<String> = first.try_get(1).or_doing(doing)?;
        let link = link
            .map(|link| serde_json::from_str(&link))
            .transpose()
            .or_doing(doing)?;
        let mut sessions = Vec::with_capacity(rows.len());
        for row in &rows {
            let instruction: Option<String> = row.try_get(2).or_doing(doing)?;
            if let Some(instruction) = instruction {
                sessions.push(LiveSession {
                    instruction: serde_json::from_str(&instruction).or_doing(doing)?,
                    expires_ms: row.try_get(3).or_doing(doing)?,
                });
            }
        }
        Ok(Some((revision, link, sessions)))
    }

    /// The revision of a home, which is all that a poll needs to know that nothing changed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn revision(&self, home: &str) -> Result<Option<i64>, StoreError> {
        let doing = "read the revision of a home";
        sqlx::query("SELECT revision FROM homes WHERE id = $1")
            .bind(home)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?
            .map(|row| row.try_get(0).or_doing(doing))
            .transpose()
    }

    /// The ids of the sessions of a home that have not ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_ids(&self, home: &str, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let doing = "list the sessions of a home";
        sqlx::query("SELECT id FROM sessions WHERE home_id = $1 AND expires_ms > $2")
            .bind(home)
            .bind(now_ms)
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?
            .iter()
            .map(|row| row.try_get(0).or_doing(doing))
            .collect()
    }
}

async fn by_key(
    transaction: &mut Transaction<'_, Any>,
    consumer: &str,
    key: &str,
) -> Result<Option<StoredSession>, StoreError> {
    let doing = "look an idempotency key up";
    let sql =
        format!("SELECT {COLUMNS} FROM sessions WHERE consumer = $1 AND idempotency_key = $2");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(consumer)
        .bind(key)
        .fetch_optional(&mut **transaction)
        .await
        .or_doing(doing)?
        .map(|row| read_session(&row, doing))
        .transpose()
}

pub(super) fn read_session(row: &AnyRow, doing: &'static str) -> Result<StoredSession, StoreError> {
    let request: String = row.try_get("request").or_doing(doing)?;
    let form: Option<String> = row.try_get("sink_form").or_doing(doing)?;
    let sink = form.map(|form| read_sink(row, &form, doing)).transpose()?;
    Ok(StoredSession {
        id: row.try_get("id").or_doing(doing)?,
        home: row.try_get("home_id").or_doing(doing)?,
        consumer: row.try_get("consumer").or_doing(doing)?,
        created_ms: row.try_get("created_ms").or_doing(doing)?,
        expires_ms: row.try_get("expires_ms").or_doing(doing)?,
        added_revision: row.try_get("added_revision").or_doing(doing)?,
        request: serde_json::from_str(&request).or_doing(doing)?,
        sink,
        request_hash: row.try_get("request_hash").or_doing(doing)?,
    })
}

fn read_sink(row: &AnyRow, form: &str, doing: &'static str) -> Result<Sink, StoreError> {
    let told: Option<String> = row.try_get("told").or_doing(doing)?;
    Ok(Sink {
        form: SinkForm::of(form).ok_or_else(|| StoreError::Corrupt {
            doing,
            what: format!("{form:?} is no form of a notification"),
        })?,
        url: row.try_get("sink_url").or_doing(doing)?,
        receiver: row.try_get("sink_receiver").or_doing(doing)?,
        token: row.try_get("sink_token").or_doing(doing)?,
        told: told.as_deref().and_then(EventStatus::of),
    })
}
