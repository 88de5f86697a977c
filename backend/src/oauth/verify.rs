//! Whose tokens count, and whether one does.

use std::sync::Arc;

use super::issuer::{Issuer, IssuerError};
use super::jwk::PublicKey;
use super::jwt::{Claims, Unverified};
use super::outside::{FetchError, Outside};
use super::remembered::Remembered;
use crate::client::{Client, ClientError};
use crate::clock::Clock;
use crate::config::IssuerConfig;
use crate::error_info::ErrorInfo;
use crate::store::Store;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The embedded issuer cannot work.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The outside issuer cannot be asked: `issuer.caFile` is wrong.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl AuthorityError {
    /// Whether the operator's files are at fault, and not the world.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

/// Why it was not found out whether a token counts.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The embedded issuer's keys had to be read again.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The outside issuer's keys are not known.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl From<VerifyError> for ErrorInfo {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Issuer(IssuerError::Store(error)) => return error.into(),
            VerifyError::Issuer(error) => tracing::error!(%error, "a token could not be verified"),
            VerifyError::Fetch(FetchError::Lately) => (),
            VerifyError::Fetch(error) => tracing::warn!(%error, "a token could not be verified"),
        }
        Self::unavailable()
    }
}

/// The one issuer whose tokens count.
pub struct Authority {
    issuer: String,
    audience: String,
    clock: Clock,
    keys: Keys,
    remembered: Remembered,
}

enum Keys {
    Embedded(Issuer),
    Outside(Outside),
}

impl Authority {
    /// The outside issuer, if one is configured; else the embedded one, with its keys read.
    ///
    /// An outside issuer need not be there yet.
    ///
    /// # Errors
    /// The store failed, or a file is wrong.
    pub async fn open(
        config: &IssuerConfig,
        clock: Clock,
        store: Store,
    ) -> Result<Self, AuthorityError> {
        let keys = match &config.jwks_url {
            Some(url) => {
                let client = Client::new(config.ca_file.as_deref())?;
                Keys::Outside(Outside::new(url.clone(), client, clock.clone()))
            }
            None => {
                let (url, audience) = (config.url.clone(), config.audience.clone());
                let days = config.key_days;
                Keys::Embedded(Issuer::open(url, audience, days, clock.clone(), store).await?)
            }
        };
        Ok(Self {
            issuer: config.url.clone(),
            audience: config.audience.clone(),
            clock,
            keys,
            remembered: Remembered::default(),
        })
    }

    /// The embedded issuer.
    ///
    /// # Errors
    /// 501: tokens come from elsewhere.
    pub fn embedded(&self) -> Result<&Issuer, ErrorInfo> {
        match &self.keys {
            Keys::Embedded(issuer) => Ok(issuer),
            Keys::Outside(_) => Err(ErrorInfo::not_implemented(format!(
                "Tokens are issued by {}, not here",
                self.issuer
            ))),
        }
    }

    /// The claims of a token that the issuer signed for this audience and that is valid now.
    ///
    /// # Errors
    /// The key that it names is not known, and could not be looked for.
    pub async fn verify(&self, token: &str) -> Result<Option<Arc<Claims>>, VerifyError> {
        let now = self.clock.now_ms() / 1_000;
        let generation = self.generation();
        let digest = Remembered::digest(token);
        let known = digest.and_then(|digest| self.remembered.get(&digest, generation));
        if let Some(claims) = known {
            return Ok(self.holds(&claims, now).then_some(claims));
        }
        let Some(token) = Unverified::read(token) else {
            return Ok(None);
        };
        let Some(key) = self.key(&token).await? else {
            return Ok(None);
        };
        let Some(claims) = token
            .verify(&key)
            .filter(|claims| self.holds(claims, now))
            .map(Arc::new)
        else {
            return Ok(None);
        };
        // The number may be older than the key: then it is not remembered this time.
        if let Some(digest) = digest {
            self.remembered.put(digest, claims.clone(), generation, now);
        }
        Ok(Some(claims))
    }

    fn holds(&self, claims: &Claims, now: i64) -> bool {
        claims.holds(&self.issuer, &self.audience, now)
    }

    fn generation(&self) -> u64 {
        match &self.keys {
            Keys::Embedded(issuer) => issuer.public.generation(),
            Keys::Outside(outside) => {
                outside.drop_stale();
                outside.public.generation()
            }
        }
    }

    async fn key(&self, token: &Unverified<'_>) -> Result<Option<PublicKey>, VerifyError> {
        let find = |keys: &[PublicKey]| {
            let mut fitting = keys
                .iter()
                .filter(|key| key.serves(token.kid.as_deref(), token.algorithm));
            let key = fitting.next()?;
            // Of two that fit it is not said which one is meant.
            fitting.next().is_none().then(|| key.clone())
        };
        Ok(match &self.keys {
            Keys::Embedded(issuer) => issuer.find(find).await?,
            Keys::Outside(outside) => outside.find(find).await?,
        })
    }

    /// Keeps the keys up to date. To be called often; mostly it finds nothing to do.
    pub async fn refresh(&self) {
        match &self.keys {
            Keys::Embedded(issuer) => {
                if let Err(error) = issuer.refresh().await {
                    tracing::warn!(%error, "the signing keys were not looked at");
                }
            }
            Keys::Outside(outside) => {
                if let Err(error) = outside.refresh().await {
                    tracing::warn!(%error, "the issuer's keys were not fetched: those before are used for a day");
                }
            }
        }
    }
}
