//! Agents that are asked for their status: where, when next, and how it went.
//!
//! Whoever sets an agent's next time forward has claimed the asking, so of all processes over the database one asks,
//! and one that ends in the middle costs one turn.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{OrDoing, Store, StoreError};

/// How asking an agent goes. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPoll {
    /// The agent.
    pub agent: String,
    /// What is asked.
    pub url: String,
    /// Whether a token is sent.
    pub has_token: bool,
    /// When it is asked next.
    pub next_ms: i64,
    /// When it was asked last.
    pub asked_ms: Option<i64>,
    /// When it last answered with a report.
    pub answered_ms: Option<i64>,
    /// How often it failed since then.
    pub failures: i64,
    /// The last failure, and when it was.
    pub failure: Option<(String, i64)>,
}

/// An agent that is to be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueStatusPoll {
    /// The agent.
    pub agent: String,
    /// What to ask.
    pub url: String,
    /// The token, encrypted.
    pub token: Option<String>,
    /// How often it failed in a row.
    pub failures: i64,
    /// Until when it is claimed.
    pub next_ms: i64,
}

impl Store {
    /// Has the agent asked at `url` with an encrypted token from now on, or not any more. `false`: no such agent.
    ///
    /// # Errors
    /// The store failed.
    pub async fn set_status_poll(
        &self,
        agent: &str,
        url: Option<&str>,
        token: Option<&str>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let doing = "write where an agent is asked for its status";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let locked =
            sqlx::query("UPDATE agents SET id = id WHERE id = $1 AND decommissioned_ms IS NULL")
                .bind(agent)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        if locked.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM status_polls WHERE agent_id = $1")
            .bind(agent)
            .execute(&mut *transaction)
            .await
            .or_doing(doing)?;
        if let Some(url) = url {
            sqlx::query(
                "INSERT INTO status_polls (agent_id, url, token, next_ms, failures) VALUES ($1, $2, $3, $4, 0)",
            )
            .bind(agent)
            .bind(url)
            .bind(token)
            .bind(now_ms)
            .execute(&mut *transaction)
            .await
            .or_doing(doing)?;
        }
        transaction.commit().await.or_doing(doing)?;
        Ok(true)
    }

    /// How many agents are asked.
    ///
    /// # Errors
    /// The store failed.
    pub async fn count_status_polls(&self) -> Result<i64, StoreError> {
        sqlx::query("SELECT COUNT(*) FROM status_polls")
            .fetch_one(&self.read)
            .await
            .and_then(|row| row.try_get(0))
            .or_doing("count the agents that are asked for their status")
    }

    /// Claims at most `most` agents whose time has come, until `next_ms`. When each is asked next comes with
    /// [`Store::note_status_poll`], or is then.
    ///
    /// # Errors
    /// The store failed; then nothing was claimed.
    pub async fn claim_status_polls(
        &self,
        most: i64,
        next_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<DueStatusPoll>, StoreError> {
        let doing = "claim agents to ask for their status";
        // Looking is cheap, and claiming takes SQLite's only writer.
        let some = sqlx::query("SELECT agent_id FROM status_polls WHERE next_ms <= $1 LIMIT 1")
            .bind(now_ms)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?;
        if some.is_none() || most <= 0 {
            return Ok(vec![]);
        }
        // The last condition is asked again when a row was waited for, and fails if another process claimed it.
        sqlx::query(
            "UPDATE status_polls SET next_ms = $1, asked_ms = $2 WHERE agent_id IN (\
             SELECT agent_id FROM status_polls WHERE next_ms <= $2 ORDER BY next_ms, agent_id LIMIT $3) \
             AND next_ms <= $2 RETURNING agent_id, url, token, failures, next_ms",
        )
        .bind(next_ms)
        .bind(now_ms)
        .bind(most)
        .fetch_all(&self.write)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| {
            Ok(DueStatusPoll {
                agent: row.try_get("agent_id").or_doing(doing)?,
                url: row.try_get("url").or_doing(doing)?,
                token: row.try_get("token").or_doing(doing)?,
                failures: row.try_get("failures").or_doing(doing)?,
                next_ms: row.try_get("next_ms").or_doing(doing)?,
            })
        })
        .collect()
    }

    /// Writes how asking went, and when the agent is asked next; unless it was claimed again or provisioned anew
    /// meanwhile.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note_status_poll(
        &self,
        due: &DueStatusPoll,
        failure: Option<&str>,
        next_ms: i64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let doing = "write how asking an agent for its status went";
        let sql = if failure.is_some() {
            "UPDATE status_polls SET next_ms = $3, failures = failures + 1, failure = $4, failed_ms = $5 \
             WHERE agent_id = $1 AND next_ms = $2"
        } else {
            // The last failure stays to be seen.
            "UPDATE status_polls SET next_ms = $3, failures = 0, failure = COALESCE($4, failure), answered_ms = $5 \
             WHERE agent_id = $1 AND next_ms = $2"
        };
        sqlx::query(sql)
            .bind(&due.agent)
            .bind(due.next_ms)
            .bind(next_ms)
            .bind(failure)
            .bind(now_ms)
            .execute(&self.write)
            .await
            .or_doing(doing)?;
        Ok(())
    }

    /// How asking goes for the agents with ids from `first` to `last`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn status_polls(
        &self,
        first: &str,
        last: &str,
    ) -> Result<Vec<StatusPoll>, StoreError> {
        let doing = "read how asking agents for their status goes";
        sqlx::query(
            "SELECT agent_id, url, token, next_ms, asked_ms, answered_ms, failures, failure, failed_ms \
             FROM status_polls WHERE agent_id >= $1 AND agent_id <= $2 ORDER BY agent_id",
        )
        .bind(first)
        .bind(last)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| read(row, doing))
        .collect()
    }
}

fn read(row: &AnyRow, doing: &'static str) -> Result<StatusPoll, StoreError> {
    let token: Option<String> = row.try_get("token").or_doing(doing)?;
    let failure: Option<String> = row.try_get("failure").or_doing(doing)?;
    let failed_ms: Option<i64> = row.try_get("failed_ms").or_doing(doing)?;
    Ok(StatusPoll {
        agent: row.try_get("agent_id").or_doing(doing)?,
        url: row.try_get("url").or_doing(doing)?,
        has_token: token.is_some(),
        next_ms: row.try_get("next_ms").or_doing(doing)?,
        asked_ms: row.try_get("asked_ms").or_doing(doing)?,
        answered_ms: row.try_get("answered_ms").or_doing(doing)?,
        failures: row.try_get("failures").or_doing(doing)?,
        failure: failure.zip(failed_ms),
    })
}
