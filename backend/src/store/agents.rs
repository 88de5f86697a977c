//! Agents: their presence and what they reported last.

use std::collections::BTreeMap;

use qod_wire::{RejectCode, SessionState};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::telling::{Judge, hold, tell};
use super::{OrDoing, Store, StoreError};

/// An agent without its credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// The home that it serves.
    pub home: Option<String>,
    /// When a poll was last known to be held, or to end.
    pub last_poll_ms: i64,
    /// When it last reported; 0: never.
    pub last_status_ms: i64,
    /// The address that it reported from.
    pub source: Option<String>,
    /// Its version, as it reported it.
    pub version: Option<String>,
    /// The revision of its home.
    pub wanted_revision: Option<i64>,
    /// The revision of which it last reported.
    pub applied_revision: Option<i64>,
    /// When two runs were last seen to report in turn: two access points have one credential. 0: never.
    pub duplicate_ms: i64,
    /// What its last report says of sessions.
    pub sessions: BTreeMap<String, SessionReport>,
    /// Its last report, as it came.
    pub status: Option<String>,
}

/// What an agent says of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Where the session stands.
    pub state: SessionState,
    /// Revision of the instructions that the report spoke of.
    pub revision: i64,
    /// Why it is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<RejectCode>,
    /// The reason in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A report to be written.
#[derive(Clone, Debug)]
pub struct AgentReport<'a> {
    /// The agent that reports.
    pub agent: &'a str,
    /// Its run.
    pub boot_id: &'a str,
    /// The report's number within the run.
    pub sequence: i64,
    /// Its version.
    pub version: &'a str,
    /// The revision that it speaks of.
    pub revision: Option<i64>,
    /// Where the report came from.
    pub source: String,
    /// What it says of sessions.
    pub sessions: &'a BTreeMap<String, SessionReport>,
    /// The whole report.
    pub status: &'a str,
    /// The addresses in it that are believed.
    pub addresses: &'a [String],
}

/// Agents with their home's revision; `status` is the column of the whole report, or NULL where that is not needed,
/// since it may be large.
pub(super) fn select(status: &str, condition: &str) -> AssertSqlSafe<String> {
    // Both come from this file.
    AssertSqlSafe(format!(
        "SELECT agents.id, home_id, last_poll_ms, last_status_ms, source, version, applied_revision, sessions, \
         COALESCE(duplicate_ms, 0) AS duplicate_ms, homes.revision AS wanted_revision, {status} AS status \
         FROM agents LEFT JOIN homes ON homes.id = agents.home_id {condition}"
    ))
}

impl Store {
    /// The agent `id`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn agent(&self, id: &str) -> Result<Option<Agent>, StoreError> {
        let doing = "read an agent";
        sqlx::query(select("status", "WHERE agents.id = $1"))
            .bind(id)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?
            .map(|row| read_agent(&row, doing))
            .transpose()
    }

    /// The agents of a home.
    ///
    /// # Errors
    /// The store failed.
    pub async fn agents_of(&self, home: &str) -> Result<Vec<Agent>, StoreError> {
        let doing = "read the agents of a home";
        sqlx::query(select("NULL", "WHERE home_id = $1 ORDER BY agents.id"))
            .bind(home)
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?
            .iter()
            .map(|row| read_agent(row, doing))
            .collect()
    }

    /// All agents in order of their ids, at most `most`, after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn agents(&self, after: &str, most: i64) -> Result<Vec<Agent>, StoreError> {
        let doing = "list agents";
        sqlx::query(select(
            "NULL",
            "WHERE agents.id > $1 ORDER BY agents.id LIMIT $2",
        ))
        .bind(after)
        .bind(most)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| read_agent(row, doing))
        .collect()
    }

    /// Writes a report, unless a later one of the same run is there, and tells webhooks what it changes. Says whether
    /// it did.
    ///
    /// # Errors
    /// The store failed.
    pub async fn write_report(
        &self,
        report: AgentReport<'_>,
        judge: &dyn Judge,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let doing = "write a report";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let home = "(SELECT home_id FROM agents WHERE id = $1)";
        let watched = hold(&mut transaction, home, report.agent, now_ms).await?;
        let written = sqlx::query(
            // The right sides see the row as it was: the run before the last one speaks again.
            "UPDATE agents SET \
             duplicate_ms = CASE WHEN boot_id <> $2 AND previous_boot_id = $2 THEN $9 ELSE duplicate_ms END, \
             previous_boot_id = CASE WHEN boot_id <> $2 THEN boot_id ELSE previous_boot_id END, \
             boot_id = $2, sequence = $3, version = $4, applied_revision = $5, source = $6, \
             sessions = $7, status = $8, last_status_ms = $9 \
             WHERE id = $1 AND (boot_id IS NULL OR boot_id <> $2 OR sequence < $3)",
        )
        .bind(report.agent)
        .bind(report.boot_id)
        .bind(report.sequence)
        .bind(report.version)
        .bind(report.revision)
        .bind(&report.source)
        .bind(serde_json::to_string(report.sessions).or_doing(doing)?)
        .bind(report.status)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await
        .or_doing(doing)?
        .rows_affected()
            == 1;
        if !written {
            return Ok(false);
        }
        sqlx::query("DELETE FROM agent_addresses WHERE agent_id = $1")
            .bind(report.agent)
            .execute(&mut *transaction)
            .await
            .or_doing(doing)?;
        for address in report.addresses {
            sqlx::query("INSERT INTO agent_addresses (address, agent_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(address)
                .bind(report.agent)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        let home = watched.first().map(|session| session.home.clone());
        let told = match home {
            Some(home) => tell(&mut transaction, &home, watched, judge, now_ms).await?,
            None => 0,
        };
        transaction.commit().await.or_doing(doing)?;
        if told > 0 {
            self.outbox.notify_one();
        }
        Ok(true)
    }

    /// The agents that report `address` and are believed: agent, home and when it was last there.
    ///
    /// # Errors
    /// The store failed.
    pub async fn agents_at(&self, address: &str) -> Result<Vec<(String, String, i64)>, StoreError> {
        let doing = "look a public address up";
        sqlx::query(
            "SELECT agents.id, agents.home_id, agents.last_poll_ms FROM agent_addresses \
             JOIN agents ON agents.id = agent_addresses.agent_id \
             WHERE agent_addresses.address = $1 AND agents.home_id IS NOT NULL LIMIT 100",
        )
        .bind(address)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| {
            Ok((
                row.try_get(0).or_doing(doing)?,
                row.try_get(1).or_doing(doing)?,
                row.try_get(2).or_doing(doing)?,
            ))
        })
        .collect()
    }

    /// Notes when agents were last there. One statement for all that share a time.
    ///
    /// # Errors
    /// The store failed.
    pub async fn write_presence(
        &self,
        agents: &[&str],
        last_poll_ms: i64,
    ) -> Result<(), StoreError> {
        // A statement of at most 500 agents holds SQLite's only writer for about a millisecond.
        for agents in agents.chunks(500) {
            let places: Vec<String> = (2..agents.len() + 2)
                .map(|place| format!("${place}"))
                .collect();
            let sql = AssertSqlSafe(format!(
                "UPDATE agents SET last_poll_ms = $1 WHERE last_poll_ms < $1 AND id IN ({})",
                places.join(", ")
            ));
            let mut query = sqlx::query(sql).bind(last_poll_ms);
            for agent in agents {
                query = query.bind(*agent);
            }
            query
                .execute(&self.write)
                .await
                .or_doing("write when agents were last there")?;
        }
        Ok(())
    }
}

/// The agents of a home, as a transaction sees them.
pub(super) async fn agents_in(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
) -> Result<Vec<Agent>, StoreError> {
    let doing = "read the agents of a home";
    sqlx::query(select("NULL", "WHERE home_id = $1 ORDER BY agents.id"))
        .bind(home)
        .fetch_all(&mut **transaction)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| read_agent(row, doing))
        .collect()
}

pub(super) fn read_agent(row: &AnyRow, doing: &'static str) -> Result<Agent, StoreError> {
    let sessions: String = row.try_get("sessions").or_doing(doing)?;
    Ok(Agent {
        id: row.try_get("id").or_doing(doing)?,
        home: row.try_get("home_id").or_doing(doing)?,
        last_poll_ms: row.try_get("last_poll_ms").or_doing(doing)?,
        last_status_ms: row.try_get("last_status_ms").or_doing(doing)?,
        source: row.try_get("source").or_doing(doing)?,
        version: row.try_get("version").or_doing(doing)?,
        wanted_revision: row.try_get("wanted_revision").or_doing(doing)?,
        applied_revision: row.try_get("applied_revision").or_doing(doing)?,
        duplicate_ms: row.try_get("duplicate_ms").or_doing(doing)?,
        sessions: serde_json::from_str(&sessions).or_doing(doing)?,
        status: row.try_get("status").or_doing(doing)?,
    })
}
