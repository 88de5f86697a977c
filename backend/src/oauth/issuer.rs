//! The embedded issuer: signs tokens with the keys of the store.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use super::jwk::PublicKey;
use super::key_ring::KeyRing;
use super::rotation::{self, DAY_MS};
use super::signing_key::{Key, KeyError};
use crate::clock::Clock;
use crate::secret;
use crate::store::{SigningKey, Store, StoreError};

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
    keys: RwLock<Vec<(SigningKey, Arc<Key>)>>,
    pub(super) public: KeyRing,
    loaded_ms: AtomicI64,
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
            loaded_ms: AtomicI64::new(0),
        };
        issuer.load().await?;
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
        let stored: Vec<SigningKey> = keys.iter().map(|(stored, _)| stored.clone()).collect();
        rotation::signing(&stored, now_ms)
            .and_then(|signing| keys.iter().find(|(_, key)| key.kid() == signing.kid))
            .and_then(|(_, key)| key.sign(&claims))
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
        if found.is_some() || !self.is_older(RELOAD_MS) {
            return Ok(found);
        }
        self.load().await?;
        Ok(find(&self.public.keys()))
    }

    /// Looks for other processes' keys, and makes and drops keys, if it is time.
    ///
    /// # Errors
    /// As [`Issuer::open`].
    pub(super) async fn refresh(&self) -> Result<(), IssuerError> {
        if self.is_older(REFRESH_MS) {
            self.load().await?;
        }
        Ok(())
    }

    fn is_older(&self, ms: i64) -> bool {
        let age = self.clock.now_ms() - self.loaded_ms.load(Ordering::Relaxed);
        // A clock that went back tells nothing.
        age >= ms || age < 0
    }

    async fn load(&self) -> Result<(), IssuerError> {
        let now = self.clock.now_ms();
        self.loaded_ms.store(now, Ordering::Relaxed);
        let mut stored = self.store.signing_keys().await?;
        let decide = |keys: &[SigningKey]| rotation::change(keys, now, self.period_ms);
        if decide(&stored) != Default::default() {
            let new = Key::generate(now)?;
            stored = self.store.change_signing_keys(&new, decide).await?;
            tracing::info!(keys = stored.len(), "the signing keys changed");
        }
        let mut keys = Vec::with_capacity(stored.len());
        for stored in stored {
            let key = Arc::new(Key::read(&stored)?);
            keys.push((stored, key));
        }
        let public = keys.iter().map(|(_, key)| key.public()).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.public.replace(public);
        Ok(())
    }
}
