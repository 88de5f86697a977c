//! Sessions.

use qod_wire::{Link, Session};
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::outbox::Sink;
use super::{OrDoing, Store, StoreError};
use crate::notifications::event::{EventStatus, SinkForm};

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
