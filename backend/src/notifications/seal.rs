//! Tokens of receivers, encrypted: they must stay readable, so no digest will do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

use super::target::Token;
use crate::secret::{self, NoRandomness};

/// Length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// Encrypts and decrypts tokens (AES-256-GCM). All processes over one database have one key.
pub struct Seal {
    key: LessSafeKey,
    digests: hmac::Key,
}

impl Seal {
    /// With this key.
    pub fn new(key: &[u8; KEY_LENGTH]) -> Option<Self> {
        // One key for each use, so that neither says anything about the other.
        let derive = |purpose: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), purpose);
        let sealing =
            UnboundKey::new(&AES_256_GCM, derive(b"notification tokens").as_ref()).ok()?;
        Some(Self {
            key: LessSafeKey::new(sealing),
            digests: hmac::Key::new(hmac::HMAC_SHA256, derive(b"requests with tokens").as_ref()),
        })
    }

    /// Encrypts the token of a session, for that session alone.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn close(&self, session: &str, token: &Token) -> Result<String, NoRandomness> {
        self.close_text(session, token.expose())
    }

    /// Decrypts the token of a session. `None`: it was encrypted with another key, or for another session, or changed.
    pub fn open(&self, session: &str, sealed: &str) -> Option<Token> {
        Token::read(&self.open_text(session, sealed)?)
    }

    /// Encrypts a text for `place` alone: base64 of nonce, text and tag. A nonce is 96 random bits, of which 2³² may
    /// be drawn with one key (NIST SP 800-38D §8.3).
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn close_text(&self, place: &str, text: &str) -> Result<String, NoRandomness> {
        let nonce = secret::random::<NONCE_LEN>()?;
        let mut text = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut text,
            )
            .map_err(|ring::error::Unspecified| NoRandomness)?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut text);
        Ok(STANDARD.encode(sealed))
    }

    /// Decrypts what was encrypted for `place`. `None`: it was with another key, or for another place, or changed.
    pub fn open_text(&self, place: &str, sealed: &str) -> Option<String> {
        let mut sealed = STANDARD.decode(sealed).ok()?;
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self
            .key
            .open_in_place(nonce, Aad::from(place.as_bytes()), text)
            .ok()?;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }

    /// A digest of a request that holds a token: without the key nothing can be tried against it. In hexadecimal.
    pub fn digest(&self, request: &str) -> String {
        hmac::sign(&self.digests, request.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_its_session_and_its_key_alone() {
        let seal = Seal::new(&[7; KEY_LENGTH]).unwrap();
        let token = Token::read("c8974e592c2fa383d4a3960714").unwrap();
        let sealed = seal.close("s", &token).unwrap();
        assert_eq!(seal.open("s", &sealed), Some(token.clone()));
        assert_ne!(sealed, seal.close("s", &token).unwrap());
        assert_eq!(seal.open("t", &sealed), None);
        assert_eq!(
            Seal::new(&[8; KEY_LENGTH]).unwrap().open("s", &sealed),
            None
        );
        for broken in ["", "AAAA", "~", &sealed.replace(&sealed[20..22], "AA")] {
            assert_eq!(seal.open("s", broken), None, "{broken}");
        }
    }

    #[test]
    fn digests_need_the_key() {
        let seal = Seal::new(&[7; KEY_LENGTH]).unwrap();
        assert_eq!(seal.digest("a"), seal.digest("a"));
        assert_ne!(seal.digest("a"), seal.digest("b"));
        assert_ne!(
            seal.digest("a"),
            Seal::new(&[8; KEY_LENGTH]).unwrap().digest("a")
        );
    }
}
