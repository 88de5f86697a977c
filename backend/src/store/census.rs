//! What is read to count sessions and agents, page by page.

use std::collections::HashMap;

use sqlx::Row;

use super::agents::{read_agent, select};
use super::{Agent, OrDoing, Store, StoreError};

/// Some homes that have sessions.
#[derive(Clone, Debug)]
pub struct CensusPage {
    /// Their sessions.
    pub sessions: Vec<CensusSession>,
    /// Their agents, by home, without the whole report.
    pub agents: HashMap<String, Vec<Agent>>,
    /// The last home of the page.
    pub last: String,
}

/// A session, as far as its state depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CensusSession {
    /// Its id.
    pub id: String,
    /// The home that it is in.
    pub home: String,
    /// The home's revision that first had it.
    pub added_revision: i64,
    /// When it was made.
    pub created_ms: i64,
}

impl Store {
    /// At most `most` homes with sessions, in order, after `after`. `None`: there are no more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn census_page(
        &self,
        after: &str,
        most: i64,
        now_ms: i64,
    ) -> Result<Option<CensusPage>, StoreError> {
        let doing = "count sessions";
        let homes = self
            .page_of_ids(
                "SELECT DISTINCT home_id FROM sessions WHERE home_id > $1 ORDER BY home_id LIMIT $2",
                doing,
                after,
                most,
            )
            .await?;
        let Some(last) = homes.into_iter().next_back() else {
            return Ok(None);
        };
        let sessions = sqlx::query(
            "SELECT id, home_id, added_revision, created_ms FROM sessions \
             WHERE home_id > $1 AND home_id <= $2 AND expires_ms > $3",
        )
        .bind(after)
        .bind(&last)
        .bind(now_ms)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?
        .iter()
        .map(|row| {
            Ok(CensusSession {
                id: row.try_get(0).or_doing(doing)?,
                home: row.try_get(1).or_doing(doing)?,
                added_revision: row.try_get(2).or_doing(doing)?,
                created_ms: row.try_get(3).or_doing(doing)?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
        let rows = sqlx::query(select("NULL", "WHERE home_id > $1 AND home_id <= $2"))
            .bind(after)
            .bind(&last)
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?;
        let mut agents: HashMap<String, Vec<Agent>> = HashMap::new();
        for row in &rows {
            let agent = read_agent(row, doing)?;
            agents
                .entry(agent.home.clone().unwrap_or_default())
                .or_default()
                .push(agent);
        }
        Ok(Some(CensusPage {
            sessions,
            agents,
            last,
        }))
    }

    /// When agents were last there as far as the store knows, at most `most` of them in order, after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn last_polls(
        &self,
        after: &str,
        most: i64,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let doing = "count agents";
        sqlx::query("SELECT id, last_poll_ms FROM agents WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(most)
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?
            .iter()
            .map(|row| {
                Ok((
                    row.try_get(0).or_doing(doing)?,
                    row.try_get(1).or_doing(doing)?,
                ))
            })
            .collect()
    }
}
