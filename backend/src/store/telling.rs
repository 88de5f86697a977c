//! Telling webhooks that a session's status changed.
//!
//! What a webhook was told last is kept with its session. A change is told by the transaction that notes it there and
//! writes the notification, so each is told once, whoever finds it. The transaction holds the session's row: of two
//! agents that report at once, the second one's transaction sees what the first one said.

use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::agents::{Agent, agents_in};
use super::outbox::add;
use super::sessions::{COLUMNS, StoredSession, read_session};
use super::{OrDoing, Store, StoreError, places};
use crate::notifications::event::{EventStatus, status_changed};
use crate::secret;

/// Homes in one statement.
const CHUNK: usize = 500;

/// Knows what agents' words mean, and which agents are there.
pub trait Judge: Sync {
    /// The status of a session whose home has these agents. `None`: there is nothing to tell at present.
    fn status(&self, session: &StoredSession, agents: &[Agent]) -> Option<EventStatus>;

    /// When the agent was last there, as far as this process knows.
    fn last_poll_ms(&self, agent: &Agent) -> i64;
}

impl Store {
    /// Tells the webhooks of a home what changed, and says how many were told something.
    ///
    /// # Errors
    /// The store failed; then nothing was told.
    pub async fn tell_home(
        &self,
        home: &str,
        judge: &dyn Judge,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let doing = "tell a home's webhooks what changed";
        // Mostly nothing did: that is seen without SQLite's only writer.
        let sql = format!(
            "SELECT {COLUMNS} FROM sessions WHERE home_id = $1 AND sink_form = 'webhook' AND expires_ms > $2"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(home)
            .bind(now_ms)
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?;
        let agents = if rows.is_empty() {
            vec![]
        } else {
            self.agents_of(home).await?
        };
        let mut changed = false;
        for row in &rows {
            changed = changed || news(&read_session(row, doing)?, &agents, judge).is_some();
        }
        if !changed {
            return Ok(0);
        }
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let sessions = hold(&mut transaction, "$1", home, now_ms).await?;
        let told = tell(&mut transaction, home, sessions, judge, now_ms).await?;
        transaction.commit().await.or_doing(doing)?;
        if told > 0 {
            self.outbox.notify_one();
        }
        Ok(told)
    }

    /// Homes with webhooks whose sessions' status may have changed though nobody reported: an agent was not there
    /// after `silent_before_ms`, or one was and its session is told to be UNAVAILABLE.
    ///
    /// # Errors
    /// The store failed.
    pub async fn homes_to_look_at(
        &self,
        silent_before_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        let doing = "look for agents that went silent or came back";
        let rows = sqlx::query(
            "SELECT DISTINCT home_id FROM sessions WHERE sink_form = 'webhook' AND expires_ms > $2 AND (\
             (told = 'UNAVAILABLE' AND EXISTS (SELECT 1 FROM agents \
             WHERE agents.home_id = sessions.home_id AND last_poll_ms > $1)) OR \
             (COALESCE(told, '') <> 'UNAVAILABLE' AND (NOT EXISTS (SELECT 1 FROM agents \
             WHERE agents.home_id = sessions.home_id) OR EXISTS (SELECT 1 FROM agents \
             WHERE agents.home_id = sessions.home_id AND last_poll_ms <= $1))))",
        )
        .bind(silent_before_ms)
        .bind(now_ms)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?;
        rows.iter()
            .map(|row| row.try_get(0).or_doing(doing))
            .collect()
    }

    /// All homes with webhooks.
    ///
    /// # Errors
    /// The store failed.
    pub async fn homes_with_webhooks(&self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let doing = "list the homes with webhooks";
        sqlx::query(
            "SELECT DISTINCT home_id FROM sessions WHERE sink_form = 'webhook' AND expires_ms > $1",
        )
        .bind(now_ms)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| row.try_get(0).or_doing(doing))
        .collect()
    }

    /// The homes of these agents that have webhooks.
    ///
    /// # Errors
    /// The store failed.
    pub async fn homes_with_webhooks_of(
        &self,
        agents: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let doing = "look for the webhooks of agents that came back";
        let mut homes = Vec::new();
        for agents in agents.chunks(CHUNK) {
            let sql = AssertSqlSafe(format!(
                "SELECT DISTINCT home_id FROM agents WHERE id IN ({}) AND EXISTS (SELECT 1 FROM sessions \
                 WHERE sessions.home_id = agents.home_id AND sink_form = 'webhook')",
                places(1, agents.len())
            ));
            let mut query = sqlx::query(sql);
            for agent in agents {
                query = query.bind(agent);
            }
            for row in query.fetch_all(&self.read).await.or_doing(doing)? {
                homes.push(row.try_get(0).or_doing(doing)?);
            }
        }
        Ok(homes)
    }
}

/// The sessions with webhooks of a home, held until the transaction ends. `home` is an expression of `$1`, from this
/// crate.
pub(super) async fn hold(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
    value: &str,
    now_ms: i64,
) -> Result<Vec<StoredSession>, StoreError> {
    let doing = "hold the sessions of a home that have webhooks";
    let sql = format!(
        "UPDATE sessions SET told = told WHERE home_id = {home} AND sink_form = 'webhook' AND expires_ms > $2 \
         RETURNING {COLUMNS}"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(value)
        .bind(now_ms)
        .fetch_all(&mut **transaction)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| read_session(row, doing))
        .collect()
}

/// Tells what changed for these sessions, which the transaction holds, and says how many were told something.
pub(super) async fn tell(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
    sessions: Vec<StoredSession>,
    judge: &dyn Judge,
    now_ms: i64,
) -> Result<usize, StoreError> {
    if sessions.is_empty() {
        return Ok(0);
    }
    let doing = "tell a webhook what changed";
    let agents = agents_in(transaction, home).await?;
    let mut told = 0;
    for session in &sessions {
        let (Some(status), Some(sink)) = (news(session, &agents, judge), &session.sink) else {
            continue;
        };
        sqlx::query("UPDATE sessions SET told = $2 WHERE id = $1")
            .bind(&session.id)
            .bind(status.as_str())
            .execute(&mut **transaction)
            .await
            .or_doing(doing)?;
        let id = secret::uuid()?;
        let body = status_changed(&id, &session.id, status, None, now_ms).to_string();
        add(transaction, &id, session, sink, &body, now_ms).await?;
        tracing::info!(
            session = session.id,
            status = status.as_str(),
            "qosStatus changed"
        );
        told += 1;
    }
    if told > 0 {
        // Other processes know what this one knows of these agents, or they would tell the opposite a moment later.
        for agent in &agents {
            let last_poll_ms = judge.last_poll_ms(agent);
            if last_poll_ms > agent.last_poll_ms {
                sqlx::query(
                    "UPDATE agents SET last_poll_ms = $2 WHERE id = $1 AND last_poll_ms < $2",
                )
                .bind(&agent.id)
                .bind(last_poll_ms)
                .execute(&mut **transaction)
                .await
                .or_doing(doing)?;
            }
        }
    }
    Ok(told)
}

/// The status that the session's webhook does not know yet.
fn news(session: &StoredSession, agents: &[Agent], judge: &dyn Judge) -> Option<EventStatus> {
    let told = session.sink.as_ref()?.told;
    judge
        .status(session, agents)
        .filter(|status| Some(*status) != told)
}
