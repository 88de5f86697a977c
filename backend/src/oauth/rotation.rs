//! When signing keys come and go: decided from their ages alone, so that all processes over one database agree.
//!
//! A new key is published before it signs, long enough that every process and every gateway that keeps the
//! published set has seen it. The one before it verifies until the last token that it signed is over. There are two
//! at most: of a change either the next key waits, or the last one lingers.

use super::issuer::LIFETIME_SECONDS;
use crate::store::{KeyChange, SigningKey};

/// How long a key is published before it signs, in milliseconds.
const ANNOUNCED_MS: i64 = 3_600_000;
/// How long a key lingers after its successor began to sign: the lifetime of its tokens and some difference of clocks.
const LINGERS_MS: i64 = LIFETIME_SECONDS * 1_000 + 300_000;
/// A day, in milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;

/// The key that signs, of keys with the times at which they were made, the newest first: the newest that was
/// announced long enough. While there is none, the oldest does.
pub(super) fn signing<K>(keys: &[(i64, K)], now_ms: i64) -> Option<&K> {
    keys.iter()
        .find(|(created_ms, _)| signs_from(*created_ms) <= now_ms)
        .or(keys.last())
        .map(|(_, key)| key)
}

/// What is to change where a key signs for `period_ms`.
pub(super) fn change(keys: &[SigningKey], now_ms: i64, period_ms: i64) -> KeyChange {
    let Some(newest) = keys.first() else {
        return KeyChange {
            add: true,
            remove: vec![],
        };
    };
    let remove = keys
        .iter()
        .skip_while(|key| signs_from(key.created_ms) + LINGERS_MS > now_ms)
        .skip(1)
        .map(|key| key.kid.clone())
        .collect();
    KeyChange {
        // Of what the newest replaced nothing lingers then: no period is that short.
        add: newest.created_ms.saturating_add(period_ms.max(DAY_MS)) <= now_ms,
        remove,
    }
}

fn signs_from(created_ms: i64) -> i64 {
    created_ms.saturating_add(ANNOUNCED_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(created_ms: i64) -> SigningKey {
        SigningKey {
            kid: created_ms.to_string(),
            pkcs8: String::new(),
            created_ms,
        }
    }

    fn signer(keys: &[SigningKey], now_ms: i64) -> SigningKey {
        let keys: Vec<_> = keys.iter().map(|key| (key.created_ms, key)).collect();
        (*signing(&keys, now_ms).unwrap()).clone()
    }

    #[test]
    fn the_first_key_signs_at_once_and_others_are_announced() {
        assert!(change(&[], 0, DAY_MS).add);
        assert_eq!(signer(&[key(5)], 5).kid, "5");
        let two = [key(DAY_MS), key(5)];
        assert_eq!(signer(&two, DAY_MS + ANNOUNCED_MS - 1).kid, "5");
        assert_eq!(signer(&two, DAY_MS + ANNOUNCED_MS).created_ms, DAY_MS);
    }

    /// A process that looks every minute, for a hundred days.
    #[test]
    fn there_are_two_at_most_and_every_signature_verifies_until_it_ends() {
        let mut keys: Vec<SigningKey> = vec![];
        let mut signed = vec![];
        let mut made = 0;
        for now in (0..100 * DAY_MS).step_by(60_000) {
            let change = change(&keys, now, 7 * DAY_MS);
            keys.retain(|key| !change.remove.contains(&key.kid));
            if change.add {
                keys.insert(0, key(now));
                made += 1;
            }
            assert!((1..=2).contains(&keys.len()), "{now}");
            let signer = signer(&keys, now);
            assert!(made == 1 || signer.created_ms + ANNOUNCED_MS <= now);
            signed.push((signer.kid, now));
            signed.retain(|(kid, at)| {
                let lives = at + LIFETIME_SECONDS * 1_000 > now;
                assert!(!lives || keys.iter().any(|key| key.kid == *kid), "{now}");
                lives
            });
        }
        assert_eq!(made, 15);
    }

    #[test]
    fn what_lay_still_for_months_is_two_keys_too() {
        let keys = [key(29 * DAY_MS), key(0)];
        let change = change(&keys, 200 * DAY_MS, 30 * DAY_MS);
        assert_eq!((change.add, change.remove), (true, vec!["0".to_owned()]));
    }
}
