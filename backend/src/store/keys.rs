//! Keys that sign tokens.

use sqlx::Row;

use super::{OrDoing, Store, StoreError};

/// A signing key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Names the key in tokens and in the published set.
    pub kid: String,
    /// The private key: PKCS#8, base64. A secret, so the type cannot be printed.
    pub pkcs8: String,
}

impl Store {
    /// All keys, the newest first. The newest signs; the others verify what they signed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let doing = "read the signing keys";
        sqlx::query("SELECT kid, pkcs8 FROM signing_keys ORDER BY created_ms DESC, kid")
            .fetch_all(&self.read)
            .await
            .or_doing(doing)?
            .iter()
            .map(|row| {
                Ok(SigningKey {
                    kid: row.try_get(0).or_doing(doing)?,
                    pkcs8: row.try_get(1).or_doing(doing)?,
                })
            })
            .collect()
    }

    /// Adds a key, which signs from now on.
    ///
    /// # Errors
    /// The store failed.
    pub async fn add_signing_key(&self, key: &SigningKey, now_ms: i64) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO signing_keys (kid, pkcs8, created_ms) VALUES ($1, $2, $3)")
            .bind(&key.kid)
            .bind(&key.pkcs8)
            .bind(now_ms)
            .execute(&self.write)
            .await
            .or_doing("write a signing key")?;
        Ok(())
    }
}
