//! Public keys as issuers publish them (RFC 7517), and what each may verify.
//!
//! The algorithm belongs to the key and not to the token: a key of one type never verifies by another type's
//! algorithm, and there is no symmetric algorithm and no `none` among those that exist here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use crate::json;

/// Most keys of a set that are looked at.
const MOST_KEYS: usize = 100;
/// Longest name of a key, in bytes.
pub(super) const LONGEST_KID: usize = 256;
/// Sizes of RSA keys that count, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Es256,
    Es384,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}

impl Algorithm {
    /// The algorithm that `alg` means. `None`: none that is accepted.
    pub(super) fn named(alg: &str) -> Option<Self> {
        Some(match alg {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    kid: Option<String>,
    /// The one algorithm that its publisher meant it for.
    meant: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// An uncompressed point: 4, x, y.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

impl PublicKey {
    /// A key for ES256: an uncompressed point.
    pub(super) fn es256(kid: String, point: Vec<u8>) -> Self {
        Self {
            kid: Some(kid),
            meant: Some(Algorithm::Es256),
            material: Material::P256(point),
        }
    }

    /// Reads a JWK. `None`: it is malformed, weak, or not for signatures that are accepted here.
    pub(super) fn read(jwk: &Value) -> Option<Self> {
        let text = |name| {
            jwk.get(name)
                .map(|value| value.as_str().ok_or(()))
                .transpose()
        };
        let is_for_signatures = matches!(text("use"), Ok(None | Some("sig")))
            && jwk.get("key_ops").is_none_or(|operations| {
                operations
                    .as_array()
                    .is_some_and(|operations| operations.iter().any(|one| one == "verify"))
            });
        if !is_for_signatures {
            return None;
        }
        let kid = text("kid").ok()?.map(str::to_owned);
        if kid.as_ref().is_some_and(|kid| kid.len() > LONGEST_KID) {
            return None;
        }
        let meant = match text("alg").ok()? {
            None => None,
            Some(alg) => Some(Algorithm::named(alg)?),
        };
        let bytes = |name| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
        let point = |width: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == width && y.len() == width).then(|| [vec![4], x, y].concat())
        };
        let material = match (text("kty").ok()??, text("crv").ok()?) {
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => {
                Material::Ed25519(bytes("x").filter(|key| key.len() == 32)?)
            }
            ("RSA", _) => rsa(&bytes("n")?, &bytes("e")?)?,
            _ => return None,
        };
        let key = Self {
            kid,
            meant: None,
            material,
        };
        // An algorithm of another type of key is a mistake of its publisher.
        (meant.is_none_or(|meant| key.fits(meant))).then_some(Self { meant, ..key })
    }

    /// Whether it may verify a token that names `kid` (any key, if it names none) and `algorithm`.
    pub(super) fn serves(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        kid.is_none_or(|kid| self.kid.as_deref() == Some(kid)) && self.fits(algorithm)
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.meant.is_none_or(|meant| meant == algorithm)
            && match self.material {
                Material::P256(_) => algorithm == Algorithm::Es256,
                Material::P384(_) => algorithm == Algorithm::Es384,
                Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
                Material::Rsa { .. } => algorithm.rsa().is_some(),
            }
    }

    /// Whether `signature` is this key's, by `algorithm`, of `message`.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let by = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key)
                .verify(message, signature)
                .is_ok()
        };
        self.fits(algorithm)
            && match &self.material {
                Material::P256(point) => by(&ECDSA_P256_SHA256_FIXED, point),
                Material::P384(point) => by(&ECDSA_P384_SHA384_FIXED, point),
                Material::Ed25519(key) => by(&ED25519, key),
                Material::Rsa { modulus, exponent } => algorithm.rsa().is_some_and(|how| {
                    RsaPublicKeyComponents {
                        n: modulus,
                        e: exponent,
                    }
                    .verify(how, message, signature)
                    .is_ok()
                }),
            }
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Material> {
    let (modulus, exponent) = (number(modulus), number(exponent));
    let zeros = usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    RSA_BITS
        .contains(&(modulus.len() * 8).checked_sub(zeros)?)
        .then_some(Material::Rsa { modulus, exponent })
}

/// Big-endian without the zeros that some publishers put before it.
fn number(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .copied()
        .skip_while(|byte| *byte == 0)
        .collect()
}

/// Reads a set of keys (RFC 7517 §5); keys that cannot be used are left out, as it demands. `None`: it is no set.
pub(super) fn read_set(bytes: &[u8]) -> Option<Vec<PublicKey>> {
    let set = json::parse(bytes).ok()?;
    let keys = set.get("keys")?.as_array()?;
    Some(
        keys.iter()
            .take(MOST_KEYS)
            .filter_map(PublicKey::read)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn coordinate(length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![1; length])
    }

    fn rsa_key(bytes: usize, first: u8) -> Value {
        let mut modulus = vec![1; bytes];
        modulus[0] = first;
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"})
    }

    #[test]
    fn keys_serve_the_algorithms_of_their_type_alone() {
        let mut ec = json!({"kty": "EC", "crv": "P-256", "x": coordinate(32), "y": coordinate(32), "kid": "a"});
        let key = PublicKey::read(&ec).unwrap();
        assert!(key.serves(Some("a"), Algorithm::Es256) && key.serves(None, Algorithm::Es256));
        assert!(!key.serves(Some("b"), Algorithm::Es256));
        for other in [Algorithm::Es384, Algorithm::Rs256, Algorithm::EdDsa] {
            assert!(!key.serves(None, other));
        }
        ec["alg"] = "RS256".into();
        assert_eq!(PublicKey::read(&ec), None);
        let mut rsa = rsa_key(256, 0x80);
        assert!(
            PublicKey::read(&rsa)
                .unwrap()
                .serves(None, Algorithm::Ps256)
        );
        rsa["alg"] = "RS256".into();
        assert!(
            !PublicKey::read(&rsa)
                .unwrap()
                .serves(None, Algorithm::Ps256)
        );
    }

    #[test]
    fn weak_and_foreign_keys_are_none() {
        assert!(PublicKey::read(&rsa_key(257, 0)).is_none(), "2041 bits");
        assert!(PublicKey::read(&rsa_key(256, 0x7f)).is_none(), "2047 bits");
        assert!(PublicKey::read(&rsa_key(1_025, 0x80)).is_none());
        assert!(PublicKey::read(&rsa_key(256, 0x80)).is_some());
        let ec = |change: Value| {
            let mut ec =
                json!({"kty": "EC", "crv": "P-256", "x": coordinate(32), "y": coordinate(32)});
            for (name, value) in change.as_object().unwrap() {
                ec[name] = value.clone();
            }
            PublicKey::read(&ec)
        };
        assert!(ec(json!({"use": "sig", "key_ops": ["verify"]})).is_some());
        for change in [
            json!({"use": "enc"}),
            json!({"use": 1}),
            json!({"key_ops": ["sign"]}),
            json!({"alg": "ES512"}),
            json!({"alg": "none"}),
            json!({"kty": "oct", "k": "AQAB", "alg": "HS256"}),
            json!({"crv": "P-521"}),
            json!({"crv": "secp256k1"}),
            json!({"x": coordinate(31)}),
            json!({"x": "!"}),
            json!({"kid": "k".repeat(300)}),
        ] {
            assert!(ec(change.clone()).is_none(), "{change}");
        }
    }

    #[test]
    fn a_set_is_what_can_be_used_of_it() {
        let set = json!({"keys": [rsa_key(128, 0x80), 1, rsa_key(256, 0x80)]}).to_string();
        assert_eq!(read_set(set.as_bytes()).unwrap().len(), 1);
        for none in ["", "[]", "{}", r#"{"keys":1}"#] {
            assert!(read_set(none.as_bytes()).is_none(), "{none}");
        }
    }
}
