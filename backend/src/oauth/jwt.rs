//! Signed tokens: JWS compact serialisation (RFC 7515) and the claims of access tokens (RFC 9068).
//!
//! ring verifies, which is linked for TLS anyway; the usual JWT crate would bring a second cryptographic library of
//! 30 to 70 crates.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::jwk::{Algorithm, LONGEST_KID, PublicKey};
use crate::json;

/// Longest token that is looked at, in bytes: one with all the scopes that a consumer may have fits.
pub(super) const LONGEST: usize = 24 * 1024;
/// Longest header of a token, in bytes of base64.
const LONGEST_HEADER: usize = 4 * 1024;
/// Longest subject and client id, in bytes.
const LONGEST_NAME: usize = 256;
/// How far the issuer's clock and this one may differ, in seconds.
pub(super) const LEEWAY: i64 = 30;

/// A token whose signature was not looked at yet.
pub(super) struct Unverified<'a> {
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    /// How it says that it is signed.
    pub algorithm: Algorithm,
    /// The key that it names.
    pub kid: Option<String>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart. `None`: it is none, or nothing that is accepted could have signed it.
    pub(super) fn read(token: &'a str) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if header.len() > LONGEST_HEADER {
            return None;
        }
        let header = json::parse(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let text = |name| {
            header
                .get(name)
                .map(|value| value.as_str().ok_or(()))
                .transpose()
        };
        // Of extensions that must be understood (RFC 7515 §4.1.11) none is.
        if header.get("crit").is_some() || !text("typ").ok()?.is_none_or(is_access_token) {
            return None;
        }
        let kid = text("kid").ok()?;
        if kid.is_some_and(|kid| kid.len() > LONGEST_KID) {
            return None;
        }
        Some(Self {
            signed,
            payload,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            algorithm: Algorithm::named(text("alg").ok()??)?,
            kid: kid.map(str::to_owned),
        })
    }

    /// The claims, if `key` signed them.
    pub(super) fn verify(&self, key: &PublicKey) -> Option<Claims> {
        if !key.verifies(self.algorithm, self.signed.as_bytes(), &self.signature) {
            return None;
        }
        Claims::read(&URL_SAFE_NO_PAD.decode(self.payload).ok()?)
    }
}

/// Whether a token of this type may be an access token: `at+jwt` says so (RFC 9068 §2.1), `JWT` does not deny it.
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(
        typ.strip_prefix("application/").unwrap_or(&typ),
        "jwt" | "at+jwt"
    )
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `aud`, one or several (RFC 7519 §4.1.3).
    pub audiences: Vec<String>,
    /// `sub`: the user who agreed, or the consumer itself.
    pub subject: Option<String>,
    /// `client_id`, else `azp`: the consumer.
    pub client_id: String,
    /// `scope`, else `scp`: a string with spaces, or an array.
    pub scopes: Vec<String>,
    /// `exp`: end, in seconds since the epoch.
    pub ends: i64,
    /// `nbf`: beginning, in seconds since the epoch.
    pub begins: Option<i64>,
    /// `iat`: when it was issued, in seconds since the epoch.
    pub issued: Option<i64>,
}

impl Claims {
    fn read(payload: &[u8]) -> Option<Self> {
        let claims = json::parse(payload).ok()?;
        let audiences = match claims.get("aud")? {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => texts(many)?,
            _ => return None,
        };
        let scopes = match claims.get("scope").or_else(|| claims.get("scp")) {
            None => vec![],
            Some(Value::String(scopes)) => scopes.split_whitespace().map(str::to_owned).collect(),
            Some(Value::Array(scopes)) => texts(scopes)?,
            Some(_) => return None,
        };
        let subject = match claims.get("sub") {
            None => None,
            Some(subject) => Some(name(subject)?),
        };
        Some(Self {
            issuer: claims.get("iss")?.as_str()?.to_owned(),
            audiences,
            subject,
            client_id: name(claims.get("client_id").or_else(|| claims.get("azp"))?)?,
            scopes,
            ends: time(claims.get("exp")?)?,
            begins: optional_time(&claims, "nbf")?,
            issued: optional_time(&claims, "iat")?,
        })
    }

    /// Whether it is this issuer's, for this audience, and its time has begun and is not over at `now`, in seconds.
    pub(super) fn holds(&self, issuer: &str, audience: &str, now: i64) -> bool {
        let is_past = |time: Option<i64>| time.is_none_or(|time| time <= now + LEEWAY);
        self.issuer == issuer
            && self.audiences.iter().any(|one| one == audience)
            && self.ends.saturating_add(LEEWAY) > now
            && is_past(self.begins)
            && is_past(self.issued)
    }
}

/// A name that the store can hold: PostgreSQL refuses NUL in TEXT.
fn name(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|name| (1..=LONGEST_NAME).contains(&name.len()))
        .filter(|name| !name.contains(char::is_control))
        .map(str::to_owned)
}

fn texts(values: &[Value]) -> Option<Vec<String>> {
    values
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn optional_time(claims: &Value, name: &str) -> Option<Option<i64>> {
    claims
        .get(name)
        .map_or(Some(None), |value| time(value).map(Some))
}

/// A `NumericDate` (RFC 7519 §2), which may have a fraction, from 1970 to the year 9999.
fn time(value: &Value) -> Option<i64> {
    const LAST: i64 = 253_402_300_799;
    let seconds = value.as_i64().or_else(|| {
        value
            .as_f64()
            .filter(|seconds| (0.0..=LAST as f64).contains(seconds))
            .map(|seconds| seconds as i64)
    })?;
    (0..=LAST).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::jwk::read_set;
    use super::*;

    fn token(header: &Value) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header.to_string()))
    }

    #[test]
    fn headers() {
        let reads = |header: Value| Unverified::read(&token(&header)).is_some();
        for typ in ["JWT", "at+jwt", "application/at+JWT"] {
            assert!(
                reads(json!({"alg": "ES256", "kid": "k", "typ": typ})),
                "{typ}"
            );
        }
        assert!(reads(json!({"alg": "EdDSA"})));
        for header in [
            json!({}),
            json!({"alg": "none"}),
            json!({"alg": "None"}),
            json!({"alg": "HS256"}),
            json!({"alg": ["ES256"]}),
            json!({"alg": "ES256", "typ": "logout+jwt"}),
            json!({"alg": "ES256", "typ": 1}),
            json!({"alg": "ES256", "crit": []}),
            json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
            json!({"alg": "ES256", "kid": 1}),
            json!({"alg": "ES256", "kid": "k".repeat(257)}),
            json!({"alg": "ES256", "x": "x".repeat(4_000)}),
        ] {
            assert!(!reads(header.clone()), "{header}");
        }
        let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","alg":"none"}"#);
        assert!(Unverified::read(&format!("{twice}.e30.AA")).is_none());
        let deep = URL_SAFE_NO_PAD.encode("[".repeat(2_000));
        for broken in [
            "",
            ".",
            "..",
            "a.b.c",
            &"x".repeat(30_000),
            &format!("{deep}.."),
        ] {
            assert!(Unverified::read(broken).is_none());
        }
    }

    fn claims(change: &Value) -> Option<Claims> {
        let mut claims = json!({"iss": "i", "aud": "a", "sub": "s", "client_id": "c", "scope": "x y", "exp": 100});
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        Claims::read(claims.to_string().as_bytes())
    }

    #[test]
    fn claims_come_in_several_forms() {
        let scopes = |change: Value| claims(&change).unwrap().scopes;
        assert_eq!(scopes(json!({})), ["x", "y"]);
        assert_eq!(scopes(json!({"scope": null, "scp": "z"})), ["z"]);
        assert_eq!(
            scopes(json!({"scope": null, "scp": ["z", "w"]})),
            ["z", "w"]
        );
        assert!(scopes(json!({"scope": null})).is_empty());
        let azp = claims(&json!({"client_id": null, "azp": "d"})).unwrap();
        assert_eq!(azp.client_id, "d");
        assert_eq!(claims(&json!({"sub": null})).unwrap().subject, None);
        assert_eq!(claims(&json!({"exp": 7.9})).unwrap().ends, 7);
        for change in [
            json!({"exp": null}),
            json!({"exp": "100"}),
            json!({"exp": -1}),
            json!({"exp": 1e300}),
            json!({"nbf": "1"}),
            json!({"aud": null}),
            json!({"aud": [1]}),
            json!({"iss": null}),
            json!({"client_id": null}),
            json!({"client_id": ""}),
            json!({"client_id": "c\0"}),
            json!({"sub": 1}),
            json!({"sub": "s".repeat(257)}),
            json!({"scope": 1}),
            json!({"scope": [1]}),
        ] {
            assert!(claims(&change).is_none(), "{change}");
        }
    }

    #[test]
    fn time_issuer_and_audience() {
        let holds = |change: Value, now| claims(&change).unwrap().holds("i", "a", now);
        assert!(holds(json!({}), 129) && !holds(json!({}), 130));
        for name in ["nbf", "iat"] {
            assert!(holds(json!({name: 80}), 50) && !holds(json!({name: 80}), 49));
        }
        assert!(holds(json!({"aud": ["b", "a"]}), 0));
        assert!(!holds(json!({"aud": ["b"]}), 0));
        assert!(!holds(json!({"iss": "i/"}), 0));
    }
    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,200}", kty in "(EC|RSA|OKP)", member in "[A-Za-z0-9_-]{0,90}") {
            let encoded = URL_SAFE_NO_PAD.encode(&text);
            let _ = Unverified::read(&text);
            let _ = Unverified::read(&format!("{encoded}.{encoded}.{encoded}"));
            let _ = Claims::read(text.as_bytes());
            let _ = read_set(text.as_bytes());
            let key = json!({"kty": kty, "crv": "P-256", "x": member, "y": member, "n": member, "e": member});
            let signed = token(&json!({"alg": "RS256"}));
            for key in read_set(json!({"keys": [key]}).to_string().as_bytes()).unwrap() {
                let _ = Unverified::read(&signed).unwrap().verify(&key);
            }
        }
    }
}
