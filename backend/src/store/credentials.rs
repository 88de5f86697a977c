//! What agents show: their tokens, of which several are valid while one replaces another, and bootstrap tokens.
//!
//! Only SHA-256 sums are kept. An answer that carries a token may be lost, so whoever asked may ask again with what
//! it showed before, **until a token that was issued later has been used**: then it is known that one arrived.

use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{OrDoing, Store, StoreError};

/// How long a token stays valid after another one was issued in its place, in milliseconds.
pub const OVERLAP_MS: i64 = 24 * 3_600_000;
/// How long after its first use a bootstrap token may be used again, in milliseconds.
pub const REPEAT_MS: i64 = 600_000;
/// Most valid tokens of one agent. The next one takes the place of one that was never used, or else of the oldest.
pub const MOST_TOKENS: i64 = 8;

/// Whom a credential belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The agent's id.
    pub agent: String,
    /// The home that it serves.
    pub home: Option<String>,
    /// Whether the operator removed it: it is to be told so, and nothing else.
    pub decommissioned: bool,
}

impl Store {
    /// Gives the agent a new token, of which `hash` is the SHA-256, in place of everything that it could show so
    /// far. One that was decommissioned is so no more. `false`: no such agent.
    ///
    /// # Errors
    /// The store failed.
    pub async fn set_agent_token(&self, agent: &str, hash: &str) -> Result<bool, StoreError> {
        let doing = "write an agent's token";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        if !reinstate(&mut transaction, agent).await? {
            return Ok(false);
        }
        for statement in [
            "DELETE FROM agent_tokens WHERE agent_id = $1",
            "DELETE FROM bootstrap_tokens WHERE agent_id = $1",
        ] {
            sqlx::query(statement)
                .bind(agent)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        insert(&mut transaction, agent, hash, 1).await?;
        self.commit_for_good(transaction, doing).await?;
        Ok(true)
    }

    /// The agent whose valid token has this SHA-256. Notes the token's first use.
    ///
    /// # Errors
    /// The store failed.
    pub async fn token_owner(&self, hash: &str, now_ms: i64) -> Result<Option<Owner>, StoreError> {
        let doing = "look an agent's token up";
        let row = sqlx::query(
            "SELECT agents.id, agents.home_id, agent_tokens.used_ms, agents.decommissioned_ms FROM agent_tokens \
             JOIN agents ON agents.id = agent_tokens.agent_id \
             WHERE agent_tokens.hash = $1 AND (expires_ms IS NULL OR expires_ms > $2)",
        )
        .bind(hash)
        .bind(now_ms)
        .fetch_optional(&self.read)
        .await
        .or_doing(doing)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let used_ms: Option<i64> = row.try_get(2).or_doing(doing)?;
        if used_ms.is_none() {
            sqlx::query("UPDATE agent_tokens SET used_ms = $2 WHERE hash = $1 AND used_ms IS NULL")
                .bind(hash)
                .bind(now_ms)
                .execute(&self.write)
                .await
                .or_doing("note the first use of an agent's token")?;
        }
        Ok(Some(Owner {
            agent: row.try_get(0).or_doing(doing)?,
            home: row.try_get(1).or_doing(doing)?,
            decommissioned: is_set(&row, 3, doing)?,
        }))
    }

    /// The agent `id` and its home, for one that a certificate names.
    ///
    /// # Errors
    /// The store failed.
    pub async fn owner(&self, id: &str) -> Result<Option<Owner>, StoreError> {
        let doing = "look an agent up";
        let row = sqlx::query("SELECT id, home_id, decommissioned_ms FROM agents WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?;
        row.map(|row| {
            Ok(Owner {
                agent: row.try_get(0).or_doing(doing)?,
                home: row.try_get(1).or_doing(doing)?,
                decommissioned: is_set(&row, 2, doing)?,
            })
        })
        .transpose()
    }

    /// Issues a token, of which `hash` is the SHA-256, to an agent that showed a certificate, or the token with the
    /// SHA-256 `shown`. Its tokens so far end [`OVERLAP_MS`] from now at the latest. `false`: `shown` is not valid
    /// (any more), or a token that was issued after it is in use already.
    ///
    /// # Errors
    /// The store failed.
    pub async fn rotate_agent_token(
        &self,
        agent: &str,
        shown: Option<&str>,
        hash: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let doing = "rotate an agent's token";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        if !lock_agent(&mut transaction, agent).await? {
            return Ok(false);
        }
        if let Some(shown) = shown {
            let row = sqlx::query(
                "SELECT serial FROM agent_tokens WHERE hash = $1 AND agent_id = $2 \
                 AND (expires_ms IS NULL OR expires_ms > $3)",
            )
            .bind(shown)
            .bind(agent)
            .bind(now_ms)
            .fetch_optional(&mut *transaction)
            .await
            .or_doing(doing)?;
            let Some(row) = row else {
                return Ok(false);
            };
            let serial = row.try_get(0).or_doing(doing)?;
            if is_overtaken(&mut transaction, agent, serial).await? {
                return Ok(false);
            }
        }
        issue(&mut transaction, agent, shown, hash, now_ms).await?;
        self.commit_for_good(transaction, doing).await?;
        Ok(true)
    }

    /// Gives the agent a bootstrap token, of which `hash` is the SHA-256, in place of the one before. An agent that was
    /// decommissioned is so no more. `false`: no such agent.
    ///
    /// # Errors
    /// The store failed.
    pub async fn set_bootstrap_token(
        &self,
        agent: &str,
        hash: &str,
        expires_ms: i64,
    ) -> Result<bool, StoreError> {
        let doing = "write a bootstrap token";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        if !reinstate(&mut transaction, agent).await? {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO bootstrap_tokens (agent_id, hash, expires_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (agent_id) DO UPDATE SET hash = $2, expires_ms = $3, used_ms = NULL, used_serial = NULL",
        )
        .bind(agent)
        .bind(hash)
        .bind(expires_ms)
        .execute(&mut *transaction)
        .await
        .or_doing(doing)?;
        self.commit_for_good(transaction, doing).await?;
        Ok(true)
    }

    /// Uses the bootstrap token with the SHA-256 `bootstrap`: its agent gets a token, of which `hash` is the
    /// SHA-256. It serves once, and again for [`REPEAT_MS`] while no token that it gave was used. The agent's other
    /// tokens end as when one is rotated. `None`: it is unknown, or has served, or has expired.
    ///
    /// # Errors
    /// The store failed.
    pub async fn enrol(
        &self,
        bootstrap: &str,
        hash: &str,
        now_ms: i64,
    ) -> Result<Option<String>, StoreError> {
        let doing = "use a bootstrap token";
        // A transaction must begin with its lock: one that read before it wrote would be refused by SQLite when
        // another process wrote in between.
        let agent = sqlx::query("SELECT agent_id FROM bootstrap_tokens WHERE hash = $1")
            .bind(bootstrap)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?;
        let Some(agent) = agent else {
            return Ok(None);
        };
        let agent: String = agent.try_get(0).or_doing(doing)?;
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        if !lock_agent(&mut transaction, &agent).await? {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT expires_ms, used_ms, used_serial FROM bootstrap_tokens WHERE hash = $1",
        )
        .bind(bootstrap)
        .fetch_optional(&mut *transaction)
        .await
        .or_doing(doing)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let expires_ms: i64 = row.try_get(0).or_doing(doing)?;
        let used_ms: Option<i64> = row.try_get(1).or_doing(doing)?;
        let used_serial: Option<i64> = row.try_get(2).or_doing(doing)?;
        let is_good = match used_ms {
            None => now_ms < expires_ms,
            Some(used_ms) => {
                now_ms - used_ms < REPEAT_MS
                    && !is_overtaken(&mut transaction, &agent, used_serial.unwrap_or_default())
                        .await?
            }
        };
        if !is_good {
            return Ok(None);
        }
        let serial = issue(&mut transaction, &agent, None, hash, now_ms).await?;
        sqlx::query(
            "UPDATE bootstrap_tokens SET used_ms = $2, used_serial = $3 WHERE hash = $1 AND used_ms IS NULL",
        )
        .bind(bootstrap)
        .bind(now_ms)
        .bind(serial - 1)
        .execute(&mut *transaction)
        .await
        .or_doing(doing)?;
        self.commit_for_good(transaction, doing).await?;
        Ok(Some(agent))
    }
}

/// Takes the agent's lock until the transaction ends. `false`: no such agent.
async fn lock_agent(
    transaction: &mut Transaction<'_, Any>,
    agent: &str,
) -> Result<bool, StoreError> {
    let locked = sqlx::query("UPDATE agents SET id = id WHERE id = $1")
        .bind(agent)
        .execute(&mut **transaction)
        .await
        .or_doing("lock an agent")?;
    Ok(locked.rows_affected() == 1)
}

/// Takes the agent's lock until the transaction ends, and takes back that it was decommissioned. `false`: no such
/// agent.
async fn reinstate(
    transaction: &mut Transaction<'_, Any>,
    agent: &str,
) -> Result<bool, StoreError> {
    let locked = sqlx::query("UPDATE agents SET decommissioned_ms = NULL WHERE id = $1")
        .bind(agent)
        .execute(&mut **transaction)
        .await
        .or_doing("reinstate an agent")?;
    Ok(locked.rows_affected() == 1)
}

/// Whether a column that is NULL until something happens holds its time.
fn is_set(row: &AnyRow, column: usize, doing: &'static str) -> Result<bool, StoreError> {
    let time: Option<i64> = row.try_get(column).or_doing(doing)?;
    Ok(time.is_some())
}

/// Whether a token of the agent that is newer than `serial` was used.
async fn is_overtaken(
    transaction: &mut Transaction<'_, Any>,
    agent: &str,
    serial: i64,
) -> Result<bool, StoreError> {
    let doing = "look for newer tokens of an agent";
    let used: i64 = sqlx::query(
        "SELECT COUNT(*) FROM agent_tokens WHERE agent_id = $1 AND serial > $2 AND used_ms IS NOT NULL",
    )
    .bind(agent)
    .bind(serial)
    .fetch_one(&mut **transaction)
    .await
    .and_then(|row| row.try_get(0))
    .or_doing(doing)?;
    Ok(used > 0)
}

/// Adds a token after all others, gives those their end, and keeps their number within bounds. Returns its serial.
async fn issue(
    transaction: &mut Transaction<'_, Any>,
    agent: &str,
    shown: Option<&str>,
    hash: &str,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let doing = "let an agent's older tokens end";
    let serial: i64 =
        sqlx::query("SELECT COALESCE(MAX(serial), 0) FROM agent_tokens WHERE agent_id = $1")
            .bind(agent)
            .fetch_one(&mut **transaction)
            .await
            .and_then(|row| row.try_get(0))
            .or_doing(doing)?;
    sqlx::query("DELETE FROM agent_tokens WHERE agent_id = $1 AND expires_ms <= $2")
        .bind(agent)
        .bind(now_ms)
        .execute(&mut **transaction)
        .await
        .or_doing(doing)?;
    sqlx::query(
        "UPDATE agent_tokens SET expires_ms = $2 WHERE agent_id = $1 AND expires_ms IS NULL",
    )
    .bind(agent)
    .bind(now_ms + OVERLAP_MS)
    .execute(&mut **transaction)
    .await
    .or_doing(doing)?;
    // What was never used was most likely never received. The token that was shown must be good for another try.
    sqlx::query(
        "DELETE FROM agent_tokens WHERE agent_id = $1 AND hash <> $2 AND hash NOT IN \
         (SELECT hash FROM agent_tokens WHERE agent_id = $1 AND hash <> $2 \
          ORDER BY CASE WHEN used_ms IS NULL THEN 1 ELSE 0 END, serial DESC LIMIT $3)",
    )
    .bind(agent)
    .bind(shown.unwrap_or_default())
    .bind(MOST_TOKENS - 2)
    .execute(&mut **transaction)
    .await
    .or_doing(doing)?;
    insert(transaction, agent, hash, serial + 1).await?;
    Ok(serial + 1)
}

async fn insert(
    transaction: &mut Transaction<'_, Any>,
    agent: &str,
    hash: &str,
    serial: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO agent_tokens (hash, agent_id, serial) VALUES ($1, $2, $3)")
        .bind(hash)
        .bind(agent)
        .bind(serial)
        .execute(&mut **transaction)
        .await
        .or_doing("write an agent's token")?;
    Ok(())
}
