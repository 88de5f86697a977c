//! Secrets that operators chose: argon2id (RFC 9106), computed off the threads that serve requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::error_info::ErrorInfo;
use crate::secret;

/// Shortest secret that may be chosen, in characters.
pub const SHORTEST: usize = 16;
/// Memory of one computation in KiB, and passes: OWASP's choice for argon2id, about 20 ms of one processor.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Computations at once: they are made of memory and processor time.
const AT_ONCE: usize = 2;
/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Most secrets that are remembered as right.
const MOST: usize = 10_000;

/// Hashes and verifies chosen secrets.
pub struct ChosenSecrets {
    turns: Arc<Semaphore>,
    /// By hash as it is stored, the SHA-256 of it and the right secret: a consumer that comes every hour costs a
    /// computation once in a process's life, and no flood of guesses keeps it waiting.
    right: Mutex<HashMap<String, String>>,
}

impl Default for ChosenSecrets {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            right: Mutex::default(),
        }
    }
}

/// Whether what is stored is the hash of a chosen secret.
pub fn is_chosen(stored: &str) -> bool {
    stored.starts_with("$argon2id$")
}

impl ChosenSecrets {
    /// The hash of `secret`, as it is stored: a PHC string.
    ///
    /// # Errors
    /// 503: no randomness, or too many wait.
    pub async fn hash(&self, secret: String) -> Result<String, ErrorInfo> {
        let salt: [u8; 16] = secret::random()?;
        self.compute(move || {
            argon2()?
                .hash_password_with_salt(secret.as_bytes(), &salt)
                .map(|hash| hash.to_string())
                .ok()
        })
        .await?
        .ok_or_else(|| {
            tracing::error!("argon2 could not hash a secret");
            ErrorInfo::internal("Internal server error")
        })
    }

    /// Whether `secret` was verified against `stored` before.
    pub fn is_known(&self, stored: &str, secret: &str) -> bool {
        self.lock()
            .get(stored)
            .is_some_and(|right| *right == proof(stored, secret))
    }

    /// Whether `stored` is a hash of `secret`.
    ///
    /// # Errors
    /// 503: too many wait.
    pub async fn verify(&self, stored: &str, secret: &str) -> Result<bool, ErrorInfo> {
        let (hash, tried) = (stored.to_owned(), secret.to_owned());
        let right = self
            .compute(move || {
                // With the parameters that the hash names.
                argon2()?
                    .verify_password(tried.as_bytes(), hash.as_str())
                    .ok()
            })
            .await?
            .is_some();
        if right {
            let mut known = self.lock();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(stored.to_owned(), proof(stored, secret));
        }
        Ok(right)
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorInfo> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(ErrorInfo::unavailable());
        };
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|_| ErrorInfo::internal("Internal server error"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The stored hash has a random salt, so this is salted too.
fn proof(stored: &str, secret: &str) -> String {
    secret::hash(&format!("{stored}\n{secret}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_secret_verifies() {
        let secrets = ChosenSecrets::default();
        let secret = "correct horse battery".to_owned();
        let stored = secrets.hash(secret.clone()).await.unwrap();
        assert!(
            is_chosen(&stored) && stored.contains("m=19456,t=2,p=1"),
            "{stored}"
        );
        assert_ne!(secrets.hash(secret.clone()).await.unwrap(), stored);
        assert!(!secrets.is_known(&stored, &secret));
        assert!(secrets.verify(&stored, &secret).await.unwrap());
        assert!(secrets.is_known(&stored, &secret));
        assert!(
            !secrets
                .verify(&stored, "correct horse batterz")
                .await
                .unwrap()
        );
        assert!(!secrets.is_known(&stored, "correct horse batterz"));
        assert!(!secrets.verify("$argon2id$broken", &secret).await.unwrap());
        assert!(!is_chosen(&crate::secret::hash("x")));
    }
}
