//! What the operator removes: agents, homes, consumers.

use sqlx::{Any, Row, Transaction};

use super::ending::terminate;
use super::homes::read_home;
use super::{OrDoing, Store, StoreError, lock_home};

/// How long the last revision of a removed home is known, in milliseconds: longer than any poll.
const HOME_KNOWN_MS: i64 = 600_000;
/// How long it is looked for sessions that a removed consumer's last requests made, in milliseconds: longer than a
/// request takes, and than any process remembers the consumer.
const CONSUMER_SOUGHT_MS: i64 = 120_000;
/// Most homes of a consumer that are looked up at once.
const MOST_HOMES: i64 = 200;

/// How far the removal of a home is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeRemoval {
    /// There is no such home.
    NoHome,
    /// Some of its sessions ended, others are left: to be called again.
    Begun(i64),
    /// It is gone. Its last revision.
    Done(i64),
}

impl Store {
    /// Decommissions an agent: it serves no home, is not asked any more, and is known by its tokens alone, so that it
    /// can be told. The outer `None`: no such agent. The inner: its home at its new revision, if it had one.
    ///
    /// # Errors
    /// The store failed; then nothing was changed.
    pub async fn decommission_agent(
        &self,
        agent: &str,
        now_ms: i64,
    ) -> Result<Option<Option<(String, i64)>>, StoreError> {
        let doing = "decommission an agent";
        // A transaction begins with its home's lock, so the home is looked up before it, and looked at again within.
        let row =
            sqlx::query("SELECT home_id FROM agents WHERE id = $1 AND decommissioned_ms IS NULL")
                .bind(agent)
                .fetch_optional(&self.read)
                .await
                .or_doing(doing)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let home: Option<String> = row.try_get(0).or_doing(doing)?;
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let mut changed = None;
        if let Some(home) = home
            && let Some(revision) = lock_home(&mut transaction, &home, now_ms).await?
        {
            unname(&mut transaction, &home, agent).await?;
            changed = Some((home, revision));
        }
        let gone = sqlx::query(
            "UPDATE agents SET decommissioned_ms = $2, home_id = NULL, sessions = '{}', status = NULL, \
             applied_revision = NULL, source = NULL WHERE id = $1 AND decommissioned_ms IS NULL \
             AND (home_id IS NULL OR home_id = $3)",
        )
        .bind(agent)
        .bind(now_ms)
        .bind(changed.as_ref().map(|(home, _)| home.as_str()))
        .execute(&mut *transaction)
        .await
        .or_doing(doing)?;
        if gone.rows_affected() == 0 {
            // Another request removed it or moved it to another home a moment ago.
            return Ok(None);
        }
        for statement in [
            "DELETE FROM agent_addresses WHERE agent_id = $1",
            "DELETE FROM bootstrap_tokens WHERE agent_id = $1",
            "DELETE FROM status_polls WHERE agent_id = $1",
        ] {
            sqlx::query(statement)
                .bind(agent)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        self.commit_for_good(transaction, doing).await?;
        Ok(Some(changed))
    }

    /// Removes a home: its identifiers are free at once, its sessions end, its agents belong to no home. A home with
    /// many sessions takes several calls, since one holds SQLite's only writer.
    ///
    /// # Errors
    /// The store failed; then what this call would have done is not done.
    pub async fn remove_home(&self, home: &str, now_ms: i64) -> Result<HomeRemoval, StoreError> {
        let doing = "remove a home";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let Some(revision) = lock_home(&mut transaction, home, now_ms).await? else {
            return Ok(HomeRemoval::NoHome);
        };
        let ended = terminate(&mut transaction, home, None, now_ms).await?;
        let done = ended < Self::MOST_EXPIRED;
        // Who is not found gets no more sessions.
        let mut statements = vec!["DELETE FROM home_identifiers WHERE home_id = $1"];
        if done {
            statements.push("UPDATE agents SET home_id = NULL WHERE home_id = $1");
            statements.push("DELETE FROM homes WHERE id = $1");
        }
        for statement in statements {
            sqlx::query(statement)
                .bind(home)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        if done {
            sqlx::query("DELETE FROM removed_homes WHERE revision < $1")
                .bind(now_ms - HOME_KNOWN_MS)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
            sqlx::query(
                "INSERT INTO removed_homes (id, revision) VALUES ($1, $2) \
                 ON CONFLICT (id) DO UPDATE SET revision = excluded.revision",
            )
            .bind(home)
            .bind(revision)
            .execute(&mut *transaction)
            .await
            .or_doing(doing)?;
        }
        transaction.commit().await.or_doing(doing)?;
        self.outbox.notify_one();
        Ok(if done {
            HomeRemoval::Done(revision)
        } else {
            HomeRemoval::Begun(revision)
        })
    }

    /// Removes a consumer. Its sessions are to be ended then. `false`: no such consumer.
    ///
    /// # Errors
    /// The store failed; then nothing was changed.
    pub async fn remove_consumer(&self, client_id: &str, now_ms: i64) -> Result<bool, StoreError> {
        let doing = "remove a consumer";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let removed = sqlx::query("DELETE FROM consumers WHERE client_id = $1")
            .bind(client_id)
            .execute(&mut *transaction)
            .await
            .or_doing(doing)?;
        if removed.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO removed_consumers (client_id, removed_ms) VALUES ($1, $2) \
             ON CONFLICT (client_id) DO UPDATE SET removed_ms = excluded.removed_ms",
        )
        .bind(client_id)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await
        .or_doing(doing)?;
        self.commit_for_good(transaction, doing).await?;
        Ok(true)
    }

    /// The consumers that were removed lately and are not there again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn removed_consumers(&self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let doing = "look for consumers that were removed";
        let rows = sqlx::query(
            "SELECT removed_consumers.client_id, removed_ms, consumers.client_id FROM removed_consumers \
             LEFT JOIN consumers ON consumers.client_id = removed_consumers.client_id",
        )
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?;
        let mut removed = Vec::new();
        for row in rows {
            let client_id: String = row.try_get(0).or_doing(doing)?;
            let removed_ms: i64 = row.try_get(1).or_doing(doing)?;
            let again: Option<String> = row.try_get(2).or_doing(doing)?;
            let is_old = now_ms - removed_ms > CONSUMER_SOUGHT_MS;
            if again.is_none() {
                removed.push(client_id.clone());
            }
            if is_old || again.is_some() {
                sqlx::query(
                    "DELETE FROM removed_consumers WHERE client_id = $1 AND removed_ms = $2",
                )
                .bind(client_id)
                .bind(removed_ms)
                .execute(&self.write)
                .await
                .or_doing(doing)?;
            }
        }
        Ok(removed)
    }

    /// Homes in which a consumer has sessions, some of them if there are many.
    ///
    /// # Errors
    /// The store failed.
    pub async fn homes_of_consumer(
        &self,
        client_id: &str,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        let doing = "look for the sessions of a consumer";
        sqlx::query(
            "SELECT DISTINCT home_id FROM sessions WHERE consumer = $1 AND expires_ms > $2 LIMIT $3",
        )
        .bind(client_id)
        .bind(now_ms)
        .bind(MOST_HOMES)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| row.try_get(0).or_doing(doing))
        .collect()
    }

    /// Ends sessions of a consumer in a home, by the operator. The home's new revision, or `None` if there are none.
    ///
    /// # Errors
    /// The store failed; then nothing was changed.
    pub async fn terminate_sessions(
        &self,
        home: &str,
        client_id: &str,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let doing = "end a consumer's sessions in a home";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let Some(revision) = lock_home(&mut transaction, home, now_ms).await? else {
            return Ok(None);
        };
        if terminate(&mut transaction, home, Some(client_id), now_ms).await? == 0 {
            return Ok(None);
        }
        transaction.commit().await.or_doing(doing)?;
        self.outbox.notify_one();
        Ok(Some(revision))
    }
}

/// Takes an agent out of a home's document, for the next reader and for whoever puts it back as it was read.
async fn unname(
    transaction: &mut Transaction<'_, Any>,
    id: &str,
    agent: &str,
) -> Result<(), StoreError> {
    let doing = "take an agent out of its home";
    let row = sqlx::query("SELECT config, revision FROM homes WHERE id = $1")
        .bind(id)
        .fetch_one(&mut **transaction)
        .await
        .or_doing(doing)?;
    let (mut home, _) = read_home(&row, doing)?;
    home.agent_ids.retain(|named| named != agent);
    sqlx::query("UPDATE homes SET config = $2 WHERE id = $1")
        .bind(id)
        .bind(serde_json::to_string(&home).or_doing(doing)?)
        .execute(&mut **transaction)
        .await
        .or_doing(doing)?;
    Ok(())
}
