//! Consumers: the application servers that may ask for sessions.

use sqlx::Row;

use super::{OrDoing, Store, StoreError};

/// A consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// OAuth client id.
    pub client_id: String,
    /// Scopes that it may ask for.
    pub scopes: Vec<String>,
    /// SHA-256 of its random secret in hexadecimal, or the argon2id hash of a chosen one as a PHC string.
    pub secret_hash: String,
    /// Its own limits.
    pub limits: ConsumerLimits,
}

/// Limits of one consumer. `None`: the configuration's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// Sessions at once.
    pub max_sessions: Option<i64>,
    /// Sessions at once in one home.
    pub max_sessions_per_home: Option<i64>,
    /// Requests a second.
    pub requests_per_second: Option<i64>,
}

impl Store {
    /// Makes the consumer if its id is new, with the secret that `secret_hash` is of, and says whether it did. One
    /// that is there gets the new scopes and limits, and keeps its secret unless `renew` is set.
    ///
    /// # Errors
    /// The store failed.
    pub async fn put_consumer(
        &self,
        client_id: &str,
        scopes: &[String],
        secret_hash: &str,
        renew: bool,
        limits: ConsumerLimits,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let doing = "write a consumer";
        let scopes = scopes.join(" ");
        let created = sqlx::query(
            "INSERT INTO consumers (client_id, scopes, secret_hash, created_ms, max_sessions, max_sessions_per_home, \
             requests_per_second) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (client_id) DO NOTHING",
        )
        .bind(client_id)
        .bind(&scopes)
        .bind(secret_hash)
        .bind(now_ms)
        .bind(limits.max_sessions)
        .bind(limits.max_sessions_per_home)
        .bind(limits.requests_per_second)
        .execute(&self.write)
        .await
        .or_doing(doing)?
        .rows_affected()
            == 1;
        if !created {
            sqlx::query(
                "UPDATE consumers SET scopes = $2, max_sessions = $5, max_sessions_per_home = $6, \
                 requests_per_second = $7, secret_hash = CASE WHEN $4 = 1 THEN $3 ELSE secret_hash END WHERE client_id = $1",
            )
            .bind(client_id)
            .bind(&scopes)
            .bind(secret_hash)
            .bind(i64::from(renew))
            .bind(limits.max_sessions)
            .bind(limits.max_sessions_per_home)
            .bind(limits.requests_per_second)
            .execute(&self.write)
            .await
            .or_doing(doing)?;
        }
        Ok(created)
    }

    /// The consumer `client_id`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn consumer(&self, client_id: &str) -> Result<Option<Consumer>, StoreError> {
        let doing = "read a consumer";
        sqlx::query(
            "SELECT client_id, scopes, secret_hash, max_sessions, max_sessions_per_home, requests_per_second \
             FROM consumers WHERE client_id = $1",
        )
        .bind(client_id)
        .fetch_optional(&self.read)
        .await
        .or_doing(doing)?
        .map(|row| {
            let scopes: String = row.try_get(1).or_doing(doing)?;
            Ok(Consumer {
                client_id: row.try_get(0).or_doing(doing)?,
                scopes: scopes.split_whitespace().map(str::to_owned).collect(),
                secret_hash: row.try_get(2).or_doing(doing)?,
                limits: ConsumerLimits {
                    max_sessions: row.try_get(3).or_doing(doing)?,
                    max_sessions_per_home: row.try_get(4).or_doing(doing)?,
                    requests_per_second: row.try_get(5).or_doing(doing)?,
                },
            })
        })
        .transpose()
    }

    /// The ids of all consumers in order, at most `most`, after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn consumer_ids(&self, after: &str, most: i64) -> Result<Vec<String>, StoreError> {
        self.page_of_ids(
            "SELECT client_id FROM consumers WHERE client_id > $1 ORDER BY client_id LIMIT $2",
            "list consumers",
            after,
            most,
        )
        .await
    }
}
