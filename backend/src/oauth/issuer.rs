//! The embedded issuer: signs tokens with the keys of the store.

use std::sync::{PoisonError, RwLock};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::jwk::PublicKey;
use super::key_ring::KeyRing;
use super::rotation::{self, DAY_MS};
use super::signing_key::{Key, KeyError};
use crate::clock::Clock;
use crate::secret;
use crate::store::{KeyChange, SigningKey, Store, StoreError};

/// How long a token is valid, in seconds.
pub(super) const LIFETIME_SECONDS: i64 = 3_600;
/// How often keys that other processes made are looked for, in milliseconds.
const REFRESH_MS: i64 = 60_000;
/// An unknown key makes the store be asked at most this often, in milliseconds: anybody can invent key names.
const RELOAD_MS: i64 = 5_000;

/// Why the issuer cannot work.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A key could not be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The keys could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing to sign with.
    #[error("sign a token: there is no usable key")]
    NoKey,
}

/// The issuer.
pub struct Issuer {
    url: String,
    audience: String,
    period_ms: i64,
    clock: Clock,
    store: Store,
    /// With the times at which they were made, the newest first.
    keys: RwLock<Vec<(i64, Key)>>,
    pub(super) public: KeyRing,
    /// When the keys were last read, or were to be. Who reads them holds it.
    loaded_ms: Mutex<i64>,
}

impl Issuer {
    /// Reads the keys, and makes one if it is time. A key signs for `key_days`.
    ///
    /// # Errors
    /// The store failed, or a key in it is malformed.
    pub(super) async fn open(
        url: String,
        audience: String,
        key_days: i64,
        clock: Clock,
        store: Store,
    ) -> Result<Self, IssuerError> {
        let issuer = Self {
            url,
            audience,
            period_ms: key_days.saturating_mul(DAY_MS),
            clock,
            store,
            keys: RwLock::default(),
            public: KeyRing::default(),
            loaded_ms: Mutex::new(i64::MIN / 2),
        };
        issuer.refresh().await?;
        Ok(issuer)
    }

    /// A token for `client`, on behalf of `sub`.
    ///
    /// # Errors
    /// No randomness, or no key.
    pub fn issue(&self, client: &str, sub: &str, scope: &str) -> Result<String, IssuerError> {
        let now_ms = self.clock.now_ms();
        let now = now_ms / 1_000;
        let claims = json!({
            "iss": self.url, "aud": self.audience, "sub": sub, "client_id": client, "scope": scope,
            "exp": now + LIFETIME_SECONDS, "iat": now, "jti": secret::uuid().map_err(|_| KeyError::Generate)?,
        });
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        rotation::signing(&keys, now_ms)
            .and_then(|key| key.sign(&claims))
            .ok_or(IssuerError::NoKey)
    }

    /// The public keys (RFC 7517 §5).
    pub(super) fn key_set(&self) -> Value {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<Value> = keys.iter().map(|(_, key)| key.jwk()).collect();
        json!({ "keys": keys })
    }

    /// The key that verifies what `find` looks for. One that is not known may be another process's new one.
    pub(super) async fn find(
        &self,
        find: impl Fn(&[PublicKey]) -> Option<PublicKey>,
    ) -> Result<Option<PublicKey>, IssuerError> {
        let found = find(&self.public.keys());
        if found.is_some() {
            return Ok(found);
        }
        self.load_if_older(RELOAD_MS).await?;
        Ok(find(&self.public.keys()))
    }

    /// Looks for other processes' keys, and makes and drops keys, if it is time.
    ///
    /// # Errors
    /// As [`Issuer::open`].
    pub(super) async fn refresh(&self) -> Result<(), IssuerError> {
        self.load_if_older(REFRESH_MS).await
    }

    async fn load_if_older(&self, ms: i64) -> Result<(), IssuerError> {
        let mut loaded_ms = self.loaded_ms.lock().await;
        let now = self.clock.now_ms();
        // A clock that went back tells nothing.
        if (0..ms).contains(&(now - *loaded_ms)) {
            return Ok(());
        }
        *loaded_ms = now;
        let mut stored = self.store.signing_keys().await?;
        let decide = |keys: &[SigningKey]| rotation::change(keys, now, self.period_ms);
        if decide(&stored) != KeyChange::default() {
            let new = Key::generate(now)?;
            stored = self.store.change_signing_keys(&new, decide).await?;
            tracing::info!(keys = stored.len(), "the signing keys changed");
        }
        let mut keys = Vec::with_capacity(stored.len());
        for stored in stored {
            keys.push((stored.created_ms, Key::read(&stored)?));
        }
        let public = keys.iter().map(|(_, key)| key.public()).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.public.replace(public);
        Ok(())
    }
}
