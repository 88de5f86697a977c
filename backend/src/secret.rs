//! Random credentials, and how they are kept and compared.
//!
//! Every credential that the backend makes has 256 random bits, so its plain SHA-256 is safe to store: there
//! is nothing to guess. Comparing digests instead of credentials also makes the comparison's time useless to an
//! attacker, who cannot choose the digest's prefix. Secrets that people chose are in `oauth::client_secret`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("draw random bytes from the system: none are available")]
pub struct NoRandomness;

/// 256 random bits in base64url, 43 characters.
pub fn token() -> Result<String, NoRandomness> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

/// A random UUID (version 4, RFC 9562 §5.4) in its canonical spelling.
pub fn uuid() -> Result<String, NoRandomness> {
    let number = u128::from_be_bytes(random::<16>()?);
    // The version's four bits and the variant's two are fixed.
    let number = number & !(0xf << 76) | (0x4 << 76);
    let number = number & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let mut uuid = String::with_capacity(36);
    for (position, digit) in hex.chars().enumerate() {
        if matches!(position, 8 | 12 | 16 | 20) {
            uuid.push('-');
        }
        uuid.push(digit);
    }
    Ok(uuid)
}

/// A random number from 0 to `most`, for what need not be secret: without randomness the half of it.
pub fn up_to(most: i64) -> i64 {
    let most = u64::try_from(most).unwrap_or_default();
    let drawn = random::<8>().map_or(most / 2, |bytes| {
        u64::from_le_bytes(bytes) % most.saturating_add(1)
    });
    i64::try_from(drawn).unwrap_or_default()
}

/// SHA-256 of `secret` in hexadecimal.
pub fn hash(secret: &str) -> String {
    digest(&SHA256, secret.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|ring::error::Unspecified| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_of_version_4() {
        let uuid = uuid().unwrap();
        assert_eq!(uuid.len(), 36);
        let parts: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&uuid[14..15], "4");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn hashes_are_sha_256() {
        assert_eq!(
            hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_ne!(token().unwrap(), token().unwrap());
    }

    #[test]
    fn numbers_are_within_their_bounds() {
        let drawn: Vec<i64> = (0..200).map(|_| up_to(3)).collect();
        for number in 0..=3 {
            assert!(drawn.contains(&number), "{number}");
        }
        assert!(drawn.iter().all(|number| (0..=3).contains(number)));
        assert_eq!((up_to(0), up_to(-5)), (0, 0));
    }
}
