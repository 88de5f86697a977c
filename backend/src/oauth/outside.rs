//! An issuer elsewhere, whose public keys are fetched (RFC 7517) and kept.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::ACCEPT;
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use tokio::sync::Mutex;

use super::jwk::{PublicKey, read_set};
use super::key_ring::KeyRing;
use crate::client::{Client, ClientError, Limits, Reach};
use crate::clock::Clock;

/// How often the keys are fetched, in milliseconds: a key that vanished counts for so long at most.
const REFRESH_MS: i64 = 300_000;
/// A fetch begins at most so often, in milliseconds: anybody can invent key names, and an issuer may be in need.
const RETRY_MS: i64 = 5_000;
/// How long keys are used without hearing from the issuer, in milliseconds.
const STALE_MS: i64 = 86_400_000;
/// What a fetch may take.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    body: 256 * 1024,
};
/// Before any fetch.
const NEVER: i64 = i64::MIN / 2;

/// Why the keys are not known.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The issuer did not answer.
    #[error("fetch the issuer's keys: {0}")]
    Client(#[from] ClientError),
    /// It answered something else.
    #[error("fetch the issuer's keys: the answer is {0}, not 200")]
    Status(StatusCode),
    /// It is no set of keys.
    #[error("fetch the issuer's keys: the answer is no JSON Web Key Set")]
    Malformed,
    /// It was tried a moment ago.
    #[error("look a key up: the issuer could not be asked a moment ago")]
    Lately,
}

/// The issuer.
pub(super) struct Outside {
    url: Uri,
    client: Client,
    clock: Clock,
    pub(super) public: KeyRing,
    /// One fetch at a time.
    fetching: Mutex<()>,
    fetched_ms: AtomicI64,
    tried_ms: AtomicI64,
    /// Whether the last fetch failed.
    failed: AtomicBool,
}

impl Outside {
    pub(super) fn new(url: Uri, client: Client, clock: Clock) -> Self {
        Self {
            url,
            client,
            clock,
            public: KeyRing::default(),
            fetching: Mutex::new(()),
            fetched_ms: AtomicI64::new(NEVER),
            tried_ms: AtomicI64::new(NEVER),
            failed: AtomicBool::new(false),
        }
    }

    /// The key that verifies what `find` looks for. One that is not known may be new.
    ///
    /// # Errors
    /// It is not known, and the issuer could not be asked.
    pub(super) async fn find(
        &self,
        find: impl Fn(&[PublicKey]) -> Option<PublicKey>,
    ) -> Result<Option<PublicKey>, FetchError> {
        self.drop_stale();
        let found = find(&self.public.keys());
        if found.is_some() {
            return Ok(found);
        }
        let _one = self.fetching.lock().await;
        // Another request may have fetched them while this one waited.
        let found = find(&self.public.keys());
        if found.is_some() {
            return Ok(found);
        }
        if is_older(self.clock.now_ms(), &self.tried_ms, RETRY_MS) {
            self.fetch().await?;
        } else if self.failed.load(Ordering::Relaxed) {
            return Err(FetchError::Lately);
        }
        Ok(find(&self.public.keys()))
    }

    /// Fetches the keys, if it is time.
    ///
    /// # Errors
    /// The issuer could not be asked; the keys that are known are still used.
    pub(super) async fn refresh(&self) -> Result<(), FetchError> {
        self.drop_stale();
        let now = self.clock.now_ms();
        if !is_older(now, &self.fetched_ms, REFRESH_MS) || !is_older(now, &self.tried_ms, RETRY_MS)
        {
            return Ok(());
        }
        let _one = self.fetching.lock().await;
        self.fetch().await
    }

    /// Forgets the keys of an issuer that was not heard of for too long: it may have withdrawn them.
    pub(super) fn drop_stale(&self) {
        let fetched_ms = self.fetched_ms.load(Ordering::Relaxed);
        if self.clock.now_ms().saturating_sub(fetched_ms) >= STALE_MS {
            self.public.replace(vec![]);
        }
    }

    async fn fetch(&self) -> Result<(), FetchError> {
        let now = self.clock.now_ms();
        self.tried_ms.store(now, Ordering::Relaxed);
        // Also if this is cut off.
        self.failed.store(true, Ordering::Relaxed);
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.url.clone();
        let kinds = HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(ACCEPT, kinds);
        let answer = self.client.send(request, Reach::Any, LIMITS).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let keys = read_set(answer.body()).ok_or(FetchError::Malformed)?;
        if keys.is_empty() {
            tracing::warn!("the issuer publishes no key that can be used");
        }
        self.public.replace(keys);
        self.fetched_ms.store(now, Ordering::Relaxed);
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether `then` is so long ago. A clock that went back tells nothing, so that counts as long ago too.
fn is_older(now_ms: i64, then: &AtomicI64, ms: i64) -> bool {
    let age = now_ms.saturating_sub(then.load(Ordering::Relaxed));
    age >= ms || age < 0
}
