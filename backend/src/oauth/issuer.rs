//! The embedded issuer: signs tokens with the keys of the store, and verifies them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use super::jwt::{Audience, Claims, Key, KeyError, Unverified};
use crate::clock::Clock;
use crate::secret;
use crate::store::{Store, StoreError};

/// How long a token is valid, in seconds.
pub(super) const LIFETIME_SECONDS: i64 = 3_600;
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
    clock: Clock,
    store: Store,
    keys: RwLock<Vec<Arc<Key>>>,
    loaded_ms: AtomicI64,
}

impl Issuer {
    /// Reads the keys, and makes the first one if there is none.
    ///
    /// # Errors
    /// The store failed, or a key in it is malformed.
    pub async fn open(
        url: String,
        audience: String,
        clock: Clock,
        store: Store,
    ) -> Result<Self, IssuerError> {
        let issuer = Self {
            url,
            audience,
            clock,
            store,
            keys: RwLock::default(),
            loaded_ms: AtomicI64::new(0),
        };
        issuer.load().await?;
        if issuer.keys().is_empty() {
            // Two processes that start at once make two keys. Both are published and verify.
            issuer
                .store
                .add_signing_key(&Key::generate()?, issuer.clock.now_ms())
                .await?;
            issuer.load().await?;
        }
        Ok(issuer)
    }

    /// A token for `client`, on behalf of `sub`.
    ///
    /// # Errors
    /// No randomness, or no key.
    pub fn issue(&self, client: &str, sub: &str, scope: &str) -> Result<String, IssuerError> {
        let now = self.clock.now_ms() / 1_000;
        let claims = Claims {
            iss: self.url.clone(),
            aud: Audience::One(self.audience.clone()),
            sub: sub.to_owned(),
            client_id: client.to_owned(),
            scope: scope.to_owned(),
            exp: now + LIFETIME_SECONDS,
            nbf: None,
            iat: now,
            jti: secret::uuid().map_err(|_| KeyError::Generate)?,
        };
        let keys = self.keys();
        keys.first()
            .and_then(|key| key.sign(&claims))
            .ok_or(IssuerError::NoKey)
    }

    /// The claims of a token that this issuer signed for this audience and that is valid now.
    ///
    /// # Errors
    /// The keys had to be read again, and the store failed.
    pub async fn verify(&self, token: &str) -> Result<Option<Claims>, IssuerError> {
        let Some(token) = Unverified::read(token) else {
            return Ok(None);
        };
        let find = |kid: &str| self.keys().into_iter().find(|key| key.kid() == kid);
        let mut key = find(&token.kid);
        if key.is_none()
            && self.clock.now_ms() - self.loaded_ms.load(Ordering::Relaxed) >= RELOAD_MS
        {
            self.load().await?;
            key = find(&token.kid);
        }
        let now = self.clock.now_ms() / 1_000;
        Ok(key.and_then(|key| token.verify(&key)).filter(|claims| {
            claims.iss == self.url
                && claims.aud.contains(&self.audience)
                && claims.exp > now
                && claims.nbf.is_none_or(|begin| begin <= now)
                && !claims.sub.is_empty()
                && !claims.client_id.is_empty()
        }))
    }

    /// The public keys (RFC 7517 §5).
    pub fn key_set(&self) -> Value {
        let keys: Vec<Value> = self.keys().iter().map(|key| key.jwk()).collect();
        json!({ "keys": keys })
    }

    async fn load(&self) -> Result<(), IssuerError> {
        self.loaded_ms.store(self.clock.now_ms(), Ordering::Relaxed);
        let mut keys = Vec::new();
        for stored in self.store.signing_keys().await? {
            keys.push(Arc::new(Key::read(&stored)?));
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn keys(&self) -> Vec<Arc<Key>> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
