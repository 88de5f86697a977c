//! Agents: their presence and what they reported last.

use std::collections::BTreeMap;

use qod_wire::{RejectCode, SessionState};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::telling::{Judge, hold, tell};
use super::usage::{Counted, Measured, correct, read_said};
use super::{OrDoing, Store, StoreError, places};

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
    /// What was counted so far.
    #[serde(default)]
    pub measured: Measured,
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
    /// Where the report came from. `None`: it was fetched, and the agent's own reports came from where they did.
    pub source: Option<String>,
    /// What it says of sessions.
    pub sessions: &'a BTreeMap<String, SessionReport>,
    /// What it counted, of sessions that live and of others.
    pub counted: &'a BTreeMap<String, Counted>,
    /// The whole report.
    pub status: &'a str,
    /// The addresses in it that are believed.
    pub addresses: &'a [String],
}

/// What a report that was written changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// For how long sessions that are in force for the first time had waited for that, in milliseconds.
    pub activations: Vec<i64>,
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
    /// The agent `id`, unless it was decommissioned.
    ///
    /// # Errors
    /// The store failed.
    pub async fn agent(&self, id: &str) -> Result<Option<Agent>, StoreError> {
        let doing = "read an agent";
        sqlx::query(select(
            "status",
            "WHERE agents.id = $1 AND decommissioned_ms IS NULL",
        ))
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

    /// All agents but the decommissioned in order of their ids, at most `most`, after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn agents(&self, after: &str, most: i64) -> Result<Vec<Agent>, StoreError> {
        let doing = "list agents";
        sqlx::query(select(
            "NULL",
            "WHERE agents.id > $1 AND decommissioned_ms IS NULL ORDER BY agents.id LIMIT $2",
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

    /// Writes a report, unless a later one of the same run is there or the agent was decommissioned, and tells webhooks
    /// what it changes.
    /// `None`: it did not.
    ///
    /// # Errors
    /// The store failed.
    pub async fn write_report(
        &self,
        report: AgentReport<'_>,
        judge: &dyn Judge,
        now_ms: i64,
    ) -> Result<Option<Written>, StoreError> {
        let doing = "write a report";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let home = "(SELECT home_id FROM agents WHERE id = $1)";
        let watched = hold(&mut transaction, home, report.agent, now_ms).await?;
        let row = sqlx::query(
            // The right sides see the row as it was: the run before the last one speaks again.
            "UPDATE agents SET \
             duplicate_ms = CASE WHEN boot_id <> $2 AND previous_boot_id = $2 THEN $8 ELSE duplicate_ms END, \
             previous_boot_id = CASE WHEN boot_id <> $2 THEN boot_id ELSE previous_boot_id END, \
             boot_id = $2, sequence = $3, version = $4, applied_revision = $5, source = COALESCE($6, source), \
             status = $7, last_status_ms = $8 \
             WHERE id = $1 AND decommissioned_ms IS NULL AND (boot_id IS NULL OR boot_id <> $2 OR sequence < $3) \
             RETURNING home_id, sessions",
        )
        .bind(report.agent)
        .bind(report.boot_id)
        .bind(report.sequence)
        .bind(report.version)
        .bind(report.revision)
        .bind(report.source.as_deref())
        .bind(report.status)
        .bind(now_ms)
        .fetch_optional(&mut *transaction)
        .await
        .or_doing(doing)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let home: Option<String> = row.try_get(0).or_doing(doing)?;
        let said: String = row.try_get(1).or_doing(doing)?;
        let said = read_said(report.agent, &said);
        let home = home.unwrap_or_default();
        let written = measure(&mut transaction, &report, &home, said, now_ms).await?;
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
        Ok(Some(written))
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
            let sql = AssertSqlSafe(format!(
                "UPDATE agents SET last_poll_ms = $1 WHERE last_poll_ms < $1 AND id IN ({})",
                places(2, agents.len())
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

/// Writes what the agent says of sessions, with what it counted up to now. `before`: what it said last.
async fn measure(
    transaction: &mut Transaction<'_, Any>,
    report: &AgentReport<'_>,
    home: &str,
    before: BTreeMap<String, SessionReport>,
    now_ms: i64,
) -> Result<Written, StoreError> {
    let doing = "write what an agent counted";
    let mut sessions = report.sessions.clone();
    // The agent's row is held: a session that ends meanwhile is recorded after this, or is not there any more.
    let mut live: BTreeMap<String, i64> = BTreeMap::new();
    if !(report.counted.is_empty() && sessions.is_empty() && before.is_empty()) {
        let rows = sqlx::query("SELECT id, created_ms FROM sessions WHERE home_id = $1")
            .bind(home)
            .fetch_all(&mut **transaction)
            .await
            .or_doing(doing)?;
        for row in rows {
            let id = row.try_get(0).or_doing(doing)?;
            live.insert(id, row.try_get(1).or_doing(doing)?);
        }
    }
    let mut first = Vec::new();
    for (id, session) in &mut sessions {
        let known = before.get(id).map(|before| before.measured);
        let counted = report.counted.get(id).copied().unwrap_or_default();
        session.measured = known.unwrap_or_default().after(counted);
        if session.state == SessionState::Active && session.measured.active_ms.is_none() {
            session.measured.active_ms = Some(now_ms);
            first.extend(live.get(id).map(|created_ms| (id.clone(), *created_ms)));
        }
    }
    for (id, mut ended) in before {
        // Its time is over and nobody has recorded it yet.
        if live.contains_key(&id) && !sessions.contains_key(&id) {
            let counted = report.counted.get(&id).copied().unwrap_or_default();
            ended.measured = ended.measured.after(counted);
            sessions.insert(id, ended);
        }
    }
    sqlx::query("UPDATE agents SET sessions = $2 WHERE id = $1")
        .bind(report.agent)
        .bind(serde_json::to_string(&sessions).or_doing(doing)?)
        .execute(&mut **transaction)
        .await
        .or_doing(doing)?;
    for (id, counted) in report.counted {
        if !live.contains_key(id) {
            correct(transaction, id, home, report.agent, *counted, now_ms).await?;
        }
    }
    if first.is_empty() {
        return Ok(Written::default());
    }
    let agents = agents_in(transaction, home).await?;
    first.retain(|(id, _)| {
        !agents.iter().any(|agent| {
            let said = agent.sessions.get(id);
            agent.id != report.agent && said.is_some_and(|said| said.measured.active_ms.is_some())
        })
    });
    Ok(Written {
        activations: first
            .into_iter()
            .map(|(_, created_ms)| now_ms - created_ms)
            .collect(),
    })
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
