//! What the operator provisioned about the consumers that call, kept for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::config::Limits;
use crate::error_info::ErrorInfo;
use crate::rate::{Buckets, Rate};
use crate::store::{Caps, Consumer, Store, StoreError};

/// How long what was read counts, in milliseconds: so long a change takes to reach the other processes.
const KEPT_MS: i64 = 5_000;
/// Most consumers that are kept.
const MOST: usize = 10_000;

/// What of a consumer, which may be one that only the issuer knows.
type Known = Option<Arc<Consumer>>;

/// The consumers that call.
pub struct Consumers {
    store: Store,
    clock: Clock,
    defaults: Limits,
    kept: Mutex<HashMap<String, (i64, Known)>>,
    rates: Buckets,
}

impl Consumers {
    /// `defaults` are the limits of all that have none of their own.
    pub fn new(store: Store, clock: Clock, defaults: Limits) -> Self {
        Self {
            store,
            clock,
            defaults,
            kept: Mutex::default(),
            rates: Buckets::new(MOST),
        }
    }

    /// The consumer, if it is provisioned.
    ///
    /// # Errors
    /// The store failed, and nothing was read before.
    pub(super) async fn get(&self, client_id: &str) -> Result<Known, StoreError> {
        let now = self.clock.now_ms();
        let kept = self.lock().get(client_id).cloned();
        if let Some((read_ms, known)) = &kept
            && (0..KEPT_MS).contains(&(now - read_ms))
        {
            return Ok(known.clone());
        }
        let known = match self.store.consumer(client_id).await {
            Ok(consumer) => consumer.map(Arc::new),
            Err(error) => {
                let Some((_, known)) = kept else {
                    return Err(error);
                };
                tracing::debug!(%error, client_id, "what was read of a consumer before counts");
                return Ok(known);
            }
        };
        let mut kept = self.lock();
        if kept.len() >= MOST && !kept.contains_key(client_id) {
            kept.clear();
        }
        kept.insert(client_id.to_owned(), (now, known.clone()));
        Ok(known)
    }

    /// What was read of a consumer counts no more.
    pub fn forget(&self, client_id: &str) {
        self.lock().remove(client_id);
    }

    /// Counts a request of a consumer.
    ///
    /// # Errors
    /// 429: there were too many.
    pub(super) fn count(&self, client_id: &str, known: &Known) -> Result<(), ErrorInfo> {
        let own = known
            .as_ref()
            .and_then(|consumer| consumer.limits.requests_per_second);
        let Some(number) = own.or(self.defaults.requests_per_second) else {
            return Ok(());
        };
        let rate = Rate::per_second(number, self.defaults.burst.unwrap_or(number));
        self.rates
            .take(client_id, rate, self.clock.now_ms())
            .map_err(|wait_ms| {
                let limit = format!("Too many requests: the limit is {number} a second");
                ErrorInfo::too_many_requests(limit, wait_ms)
            })
    }

    /// How many sessions a consumer may have.
    pub(super) fn caps(&self, known: &Known) -> Caps {
        let own = known
            .as_ref()
            .map(|consumer| consumer.limits)
            .unwrap_or_default();
        Caps {
            sessions: own.max_sessions.or(self.defaults.max_sessions),
            sessions_per_home: own
                .max_sessions_per_home
                .or(self.defaults.max_sessions_per_home),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (i64, Known)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
