//! Tokens whose signatures were verified a moment ago: a consumer sends one token with thousands of requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};

use super::jwt::Claims;

/// Most tokens that are remembered.
const MOST: usize = 8_192;
/// Longest token that is remembered, in bytes: with the number it bounds the memory.
const LONGEST: usize = 4_096;

/// SHA-256 of a whole token, signature and all.
pub(super) type Digest = [u8; 32];

/// What was verified.
#[derive(Default)]
pub(super) struct Remembered(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// Of the keys that verified all of it.
    generation: u64,
    claims: HashMap<Digest, Arc<Claims>>,
}

impl Remembered {
    /// What names a token here. `None`: it is too long to be kept.
    pub(super) fn digest(token: &str) -> Option<Digest> {
        if token.len() > LONGEST {
            return None;
        }
        digest(&SHA256, token.as_bytes()).as_ref().try_into().ok()
    }

    /// The claims of a token that keys of `generation` verified.
    pub(super) fn get(&self, digest: &Digest, generation: u64) -> Option<Arc<Claims>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (entries.generation == generation)
            .then(|| entries.claims.get(digest).cloned())
            .flatten()
    }

    /// Remembers a token that keys of `generation` verified, until it ends. `now` in seconds.
    pub(super) fn put(&self, digest: Digest, claims: Arc<Claims>, generation: u64, now: i64) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.generation > generation {
            // The keys changed meanwhile.
            return;
        }
        if entries.generation < generation {
            entries.claims.clear();
            entries.generation = generation;
        }
        if entries.claims.len() >= MOST {
            entries.claims.retain(|_, claims| claims.ends > now);
        }
        if entries.claims.len() >= MOST {
            entries.claims.clear();
        }
        entries.claims.insert(digest, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(ends: i64) -> Arc<Claims> {
        Arc::new(Claims {
            issuer: String::new(),
            audiences: vec![],
            subject: None,
            client_id: String::new(),
            scopes: vec![],
            ends,
            begins: None,
            issued: None,
        })
    }

    #[test]
    fn other_keys_end_what_was_remembered() {
        let remembered = Remembered::default();
        let token = Remembered::digest("a.b.c").unwrap();
        remembered.put(token, claims(9), 1, 0);
        assert_eq!(remembered.get(&token, 1), Some(claims(9)));
        assert_eq!(
            remembered.get(&Remembered::digest("a.b.d").unwrap(), 1),
            None
        );
        assert_eq!(remembered.get(&token, 2), None);
        remembered.put(Remembered::digest("x").unwrap(), claims(9), 2, 0);
        assert_eq!(remembered.get(&token, 2), None);
        remembered.put(token, claims(9), 1, 0);
        assert_eq!(
            remembered.get(&token, 2),
            None,
            "verified by the keys before"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let remembered = Remembered::default();
        for number in 0..3 * MOST {
            let token = Remembered::digest(&number.to_string()).unwrap();
            remembered.put(token, claims(i64::try_from(number % 2).unwrap()), 0, 0);
            assert!(remembered.0.lock().unwrap().claims.len() <= MOST);
        }
        assert_eq!(Remembered::digest(&"x".repeat(5_000)), None);
    }
}
