//! The public keys that are known now.

use std::sync::{Arc, PoisonError, RwLock};

use super::jwk::PublicKey;

/// Keys, and a number that grows whenever they change: what was verified by keys of another number counts no more.
#[derive(Default)]
pub(super) struct KeyRing(RwLock<(u64, Arc<Vec<PublicKey>>)>);

impl KeyRing {
    /// The keys.
    pub(super) fn keys(&self) -> Arc<Vec<PublicKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .clone()
    }

    /// Their number.
    pub(super) fn generation(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Puts other keys in their place.
    pub(super) fn replace(&self, keys: Vec<PublicKey>) {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *ring.1 != keys {
            *ring = (ring.0 + 1, Arc::new(keys));
        }
    }
}
