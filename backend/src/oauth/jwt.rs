//! Signed tokens: JWS compact serialisation (RFC 7515) with ES256 (RFC 7518 §3.4), through ring.
//!
//! ring is linked for TLS anyway; the usual JWT crate would bring a second cryptographic library of 30 to 70 crates.
//! ES256 and not EdDSA: every API gateway knows it, and it signs in less than half the time (25 against 59 µs, both
//! verify in about 78 µs, measured with ring 0.17).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::secret;
use crate::store::SigningKey;

/// The only algorithm that is signed with and accepted.
const ALGORITHM: &str = "ES256";
/// Longest token that is looked at, in bytes: one with all the scopes that a consumer may have fits.
const LONGEST: usize = 24 * 1024;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness, or ring refused to make a key.
    #[error("make a signing key: ring could not")]
    Generate,
    /// The stored key is not one.
    #[error("read the signing key {kid}: it is not a P-256 key in PKCS#8")]
    Malformed {
        /// Its name.
        kid: String,
    },
}

/// A key that signs and verifies.
pub(super) struct Key {
    kid: String,
    pair: EcdsaKeyPair,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
}

/// What a token says (RFC 9068).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audience.
    pub aud: Audience,
    /// The consumer itself, or the user who agreed.
    pub sub: String,
    /// The consumer.
    pub client_id: String,
    /// Scopes, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// End, in seconds since the epoch.
    pub exp: i64,
    /// Beginning, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// When it was issued, in seconds since the epoch.
    pub iat: i64,
    /// Names the token.
    pub jti: String,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    /// Whether `audience` is one of them.
    pub(super) fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

impl Key {
    /// Makes a new key, in the form in which it is stored.
    pub(super) fn generate() -> Result<SigningKey, KeyError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Generate)?;
        let kid = secret::uuid().map_err(|_| KeyError::Generate)?;
        Ok(SigningKey {
            kid,
            pkcs8: URL_SAFE_NO_PAD.encode(document.as_ref()),
        })
    }

    /// Reads a stored key.
    pub(super) fn read(stored: &SigningKey) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed {
            kid: stored.kid.clone(),
        };
        let pkcs8 = URL_SAFE_NO_PAD
            .decode(&stored.pkcs8)
            .map_err(|_| malformed())?;
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &pkcs8,
            &SystemRandom::new(),
        )
        .map_err(|_| malformed())?;
        Ok(Self {
            kid: stored.kid.clone(),
            pair,
        })
    }

    /// The key's name.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half as a JWK (RFC 7517, RFC 7518 §6.2).
    pub(super) fn jwk(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .unwrap_or_default()
            .split_at(32.min(point.len().saturating_sub(1)));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": ALGORITHM, "kid": self.kid,
               "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    /// Signs claims. `None`: the system gave no randomness.
    pub(super) fn sign(&self, claims: &Claims) -> Option<String> {
        let header = Header {
            alg: ALGORITHM.to_owned(),
            kid: self.kid.clone(),
            typ: Some("at+jwt".to_owned()),
        };
        let encode = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let mut token = format!(
            "{}.{}",
            encode(serde_json::to_vec(&header).ok()?),
            encode(serde_json::to_vec(claims).ok()?)
        );
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .ok()?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Some(token)
    }

    /// Whether this key signed `token`.
    fn signed(&self, token: &Unverified<'_>) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(token.signed.as_bytes(), &token.signature)
            .is_ok()
    }
}

/// A token whose signature was not looked at yet.
pub(super) struct Unverified<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    /// The key that it names.
    pub kid: String,
    claims: Claims,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart. `None`: it is none, or of another algorithm.
    pub(super) fn read(token: &'a str) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.alg != ALGORITHM {
            return None;
        }
        Some(Self {
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            kid: header.kid,
            claims: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?,
        })
    }

    /// The claims, if `key` signed them.
    pub(super) fn verify(self, key: &Key) -> Option<Claims> {
        (self.kid == key.kid && key.signed(&self)).then_some(self.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            iss: "i".to_owned(),
            aud: Audience::Many(vec!["a".to_owned(), "b".to_owned()]),
            sub: "s".to_owned(),
            client_id: "c".to_owned(),
            scope: "x y".to_owned(),
            exp: 10,
            nbf: None,
            iat: 1,
            jti: "j".to_owned(),
        }
    }

    #[test]
    fn only_the_signed_token_verifies() {
        let stored = Key::generate().unwrap();
        let (key, other) = (
            Key::read(&stored).unwrap(),
            Key::read(&Key::generate().unwrap()).unwrap(),
        );
        let token = key.sign(&claims()).unwrap();
        assert_eq!(
            Unverified::read(&token).unwrap().verify(&key),
            Some(claims())
        );
        assert_eq!(Unverified::read(&token).unwrap().verify(&other), None);

        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let forged = Claims {
            sub: "t".to_owned(),
            ..claims()
        };
        let forged = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&forged).unwrap());
        let forged = format!("{header}.{forged}.{signature}");
        assert_eq!(Unverified::read(&forged).unwrap().verify(&key), None);
        let unsigned =
            URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","kid":"{}"}}"#, stored.kid));
        let (_, body) = signed.split_once('.').unwrap();
        assert!(Unverified::read(&format!("{unsigned}.{body}.")).is_none());
        for broken in ["", ".", "..", "a.b.c", &"x".repeat(30_000)] {
            assert!(Unverified::read(broken).is_none());
        }
    }

    #[test]
    fn a_jwk_has_both_coordinates() {
        let jwk = Key::read(&Key::generate().unwrap()).unwrap().jwk();
        for coordinate in ["x", "y"] {
            let bytes = URL_SAFE_NO_PAD
                .decode(jwk[coordinate].as_str().unwrap())
                .unwrap();
            assert_eq!(bytes.len(), 32);
        }
    }
}
