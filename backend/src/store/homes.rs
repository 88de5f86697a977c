//! Homes.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::ending::terminate;
use super::identifiers::put_identifiers;
use super::{OrDoing, Store, StoreError, lock_home};

/// A home as it was provisioned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Home {
    /// Its access points.
    pub agent_ids: Vec<String>,
    /// Subjects of three-legged tokens that speak for it.
    pub subs: Vec<String>,
    /// Phone numbers in E.164 with `+`, each perhaps of one device.
    pub phone_numbers: Vec<PhoneNumber>,
    /// Network access identifiers, each perhaps of one device.
    pub network_access_identifiers: Vec<Nai>,
    /// Address prefixes in their canonical spelling.
    pub prefixes: Vec<String>,
    /// Rates of the access line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// The consumers that it admits.
    pub consumers: Admits,
}

/// A phone number of a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumber {
    /// E.164 with `+`.
    pub number: String,
    /// The device that the number means. Absent: the home alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// A network access identifier of a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nai {
    /// The identifier.
    pub nai: String,
    /// The device that it means. Absent: the home alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// Rates of the access line in kbit/s, as agents are told.
pub type Link = qod_wire::Link;

/// The consumers that a home admits: its consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Admits {
    /// Everybody: written as `"all"`.
    All(All),
    /// Those with these client ids.
    These(Vec<String>),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// The only one.
    All,
}

impl Admits {
    /// Whether `consumer` is admitted.
    pub fn admits(&self, consumer: &str) -> bool {
        match self {
            Self::All(All::All) => true,
            Self::These(consumers) => consumers.iter().any(|admitted| admitted == consumer),
        }
    }
}

/// What a home says to a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The consumers that it admits.
    pub consumers: Admits,
    /// Its agents, each with the time when a poll was last known to be held, or to end.
    pub agents: Vec<(String, i64)>,
}

/// What became of a home that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomePut {
    /// It is new.
    Created(i64),
    /// It was there and is now as given.
    Replaced(i64),
    /// An agent or an identifier belongs to another home: nothing was changed.
    Taken(String),
}

impl Store {
    /// Makes the home `id`, or replaces it. Agents that are named for the first time are made, those that were
    /// decommissioned are so no more, and those that are no longer named belong to no home. Sessions of consumers that
    /// are no longer admitted end.
    ///
    /// # Errors
    /// The store failed.
    pub async fn put_home(
        &self,
        id: &str,
        home: &Home,
        now_ms: i64,
    ) -> Result<HomePut, StoreError> {
        let doing = "write a home";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        let config = serde_json::to_string(home).or_doing(doing)?;
        let link = home
            .link
            .map(|link| serde_json::to_string(&link))
            .transpose()
            .or_doing(doing)?;
        let created = sqlx::query(
            "INSERT INTO homes (id, revision, config, link, created_ms) VALUES ($1, $2, $3, $4, $2) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(id)
        .bind(now_ms)
        .bind(&config)
        .bind(link.as_deref())
        .execute(&mut *transaction)
        .await
        .or_doing(doing)?
        .rows_affected()
            == 1;
        let revision = lock_home(&mut transaction, id, now_ms)
            .await?
            .unwrap_or(now_ms);
        if !created {
            sqlx::query("UPDATE homes SET config = $2, link = $3 WHERE id = $1")
                .bind(id)
                .bind(&config)
                .bind(link.as_deref())
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        if let Some(taken) = put_agents(&mut transaction, id, &home.agent_ids, now_ms).await? {
            return Ok(HomePut::Taken(taken));
        }
        if let Some(taken) = put_identifiers(&mut transaction, id, home).await? {
            return Ok(HomePut::Taken(taken));
        }
        end_unadmitted(&mut transaction, id, &home.consumers, now_ms).await?;
        transaction.commit().await.or_doing(doing)?;
        self.outbox.notify_one();
        Ok(if created {
            HomePut::Created(revision)
        } else {
            HomePut::Replaced(revision)
        })
    }

    /// The home `id` and its revision.
    ///
    /// # Errors
    /// The store failed.
    pub async fn home(&self, id: &str) -> Result<Option<(Home, i64)>, StoreError> {
        let doing = "read a home";
        sqlx::query("SELECT config, revision FROM homes WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?
            .map(|row| read_home(&row, doing))
            .transpose()
    }

    /// Whom the home `id` admits, and the agents that are to hear of a session: one statement, because every new
    /// session asks for both.
    ///
    /// # Errors
    /// The store failed.
    pub async fn admission(&self, id: &str) -> Result<Option<Admission>, StoreError> {
        /// The rest of the document is passed over.
        #[derive(Deserialize)]
        struct Consent {
            consumers: Admits,
        }

        let doing = "read whom a home admits";
        let rows = sqlx::query(
            "SELECT homes.config, agents.id, agents.last_poll_ms FROM homes \
             LEFT JOIN agents ON agents.home_id = homes.id WHERE homes.id = $1 ORDER BY agents.id",
        )
        .bind(id)
        .fetch_all(&self.read)
        .await
        .or_doing(doing)?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let config: String = first.try_get(0).or_doing(doing)?;
        let Consent { consumers } = serde_json::from_str(&config).or_doing(doing)?;
        let mut agents = Vec::with_capacity(rows.len());
        for row in &rows {
            let agent: Option<String> = row.try_get(1).or_doing(doing)?;
            if let Some(agent) = agent {
                agents.push((agent, row.try_get(2).or_doing(doing)?));
            }
        }
        Ok(Some(Admission { consumers, agents }))
    }

    /// The ids of all homes in order, at most `most`, after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn home_ids(&self, after: &str, most: i64) -> Result<Vec<String>, StoreError> {
        self.page_of_ids(
            "SELECT id FROM homes WHERE id > $1 ORDER BY id LIMIT $2",
            "list homes",
            after,
            most,
        )
        .await
    }

    /// Homes whose revision is above `revision`, with theirs: what changed lately, or was removed, in whatever process.
    ///
    /// # Errors
    /// The store failed.
    pub async fn homes_above(&self, revision: i64) -> Result<Vec<(String, i64)>, StoreError> {
        let doing = "look for homes that changed";
        sqlx::query(
            "SELECT id, revision FROM homes WHERE revision > $1 \
             UNION ALL SELECT id, revision FROM removed_homes WHERE revision > $1",
        )
        .bind(revision)
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

/// Whether a home, whose `config` is the row's first column, admits `consumer`.
pub(super) fn admits(row: &AnyRow, consumer: &str) -> Result<bool, StoreError> {
    let doing = "ask whether a home admits a consumer";
    let config: String = row.try_get(0).or_doing(doing)?;
    let home: Home = serde_json::from_str(&config).or_doing(doing)?;
    Ok(home.consumers.admits(consumer))
}

/// Ends what consumers have in a home that does not admit them (any more). It is consent that was withdrawn.
async fn end_unadmitted(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
    admits: &Admits,
    now_ms: i64,
) -> Result<(), StoreError> {
    if *admits == Admits::All(All::All) {
        return Ok(());
    }
    let doing = "list the consumers that have sessions in a home";
    let rows = sqlx::query(
        "SELECT DISTINCT consumer FROM sessions WHERE home_id = $1 AND expires_ms > $2",
    )
    .bind(home)
    .bind(now_ms)
    .fetch_all(&mut **transaction)
    .await
    .or_doing(doing)?;
    for row in rows {
        let consumer: String = row.try_get(0).or_doing(doing)?;
        if !admits.admits(&consumer) {
            while terminate(transaction, home, Some(&consumer), now_ms).await?
                == Store::MOST_EXPIRED
            {}
        }
    }
    Ok(())
}

pub(super) fn read_home(row: &AnyRow, doing: &'static str) -> Result<(Home, i64), StoreError> {
    let config: String = row.try_get(0).or_doing(doing)?;
    let home = serde_json::from_str(&config).or_doing(doing)?;
    Ok((home, row.try_get(1).or_doing(doing)?))
}

/// Returns the agent that belongs to another home, if any.
async fn put_agents(
    transaction: &mut Transaction<'_, Any>,
    home: &str,
    agents: &[String],
    now_ms: i64,
) -> Result<Option<String>, StoreError> {
    let doing = "write the agents of a home";
    sqlx::query("UPDATE agents SET home_id = NULL WHERE home_id = $1")
        .bind(home)
        .execute(&mut **transaction)
        .await
        .or_doing(doing)?;
    for agent in agents {
        let mine = sqlx::query(
            "INSERT INTO agents (id, home_id, created_ms, last_poll_ms, last_status_ms, sequence, sessions) \
             VALUES ($1, $2, $3, 0, 0, 0, '{}') \
             ON CONFLICT (id) DO UPDATE SET home_id = $2, decommissioned_ms = NULL WHERE agents.home_id IS NULL",
        )
        .bind(agent)
        .bind(home)
        .bind(now_ms)
        .execute(&mut **transaction)
        .await
        .or_doing(doing)?
        .rows_affected();
        if mine == 0 {
            return Ok(Some(format!("agent {agent}")));
        }
    }
    Ok(None)
}
