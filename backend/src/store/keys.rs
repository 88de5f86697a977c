//! Keys that sign tokens.

use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{OrDoing, Store, StoreError, lock_name};

/// A signing key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Names the key in tokens and in the published set.
    pub kid: String,
    /// The private key: PKCS#8, base64. A secret, so the type cannot be printed.
    pub pkcs8: String,
    /// When it was made.
    pub created_ms: i64,
}

/// What is to become of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// Whether a new key is added.
    pub add: bool,
    /// The keys that go.
    pub remove: Vec<String>,
}

impl Store {
    /// All keys, the newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let rows = sqlx::query(SELECT).fetch_all(&self.read).await;
        read_keys(&rows.or_doing(READING)?)
    }

    /// Changes the keys as `decide` says when it sees them (all, the newest first), and returns what there is then.
    /// One process decides at a time, so that two do not both add one.
    ///
    /// # Errors
    /// The store failed; then nothing was changed.
    pub async fn change_signing_keys(
        &self,
        new: &SigningKey,
        decide: impl FnOnce(&[SigningKey]) -> KeyChange + Send,
    ) -> Result<Vec<SigningKey>, StoreError> {
        let doing = "change the signing keys";
        let mut transaction = self.write.begin().await.or_doing(doing)?;
        lock_name(&mut transaction, "signing keys").await?;
        let change = decide(&keys_now(&mut transaction).await?);
        for kid in &change.remove {
            sqlx::query("DELETE FROM signing_keys WHERE kid = $1")
                .bind(kid)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        if change.add {
            sqlx::query("INSERT INTO signing_keys (kid, pkcs8, created_ms) VALUES ($1, $2, $3)")
                .bind(&new.kid)
                .bind(&new.pkcs8)
                .bind(new.created_ms)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        let keys = keys_now(&mut transaction).await?;
        self.commit_for_good(transaction, doing).await?;
        Ok(keys)
    }
}

const SELECT: &str =
    "SELECT kid, pkcs8, created_ms FROM signing_keys ORDER BY created_ms DESC, kid";
const READING: &str = "read the signing keys";

async fn keys_now(transaction: &mut Transaction<'_, Any>) -> Result<Vec<SigningKey>, StoreError> {
    let rows = sqlx::query(SELECT).fetch_all(&mut **transaction).await;
    read_keys(&rows.or_doing(READING)?)
}

fn read_keys(rows: &[AnyRow]) -> Result<Vec<SigningKey>, StoreError> {
    rows.iter()
        .map(|row| {
            Ok(SigningKey {
                kid: row.try_get(0).or_doing(READING)?,
                pkcs8: row.try_get(1).or_doing(READING)?,
                created_ms: row.try_get(2).or_doing(READING)?,
            })
        })
        .collect()
}
