//! The key that tokens of receivers are encrypted with, and its file.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::seal::{KEY_LENGTH, Seal};
use crate::config::Config;
use crate::private_file;
use crate::secret::{self, NoRandomness};
use crate::store::sqlite_file;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or made.
    #[error("{doing} the key of notifications {}: {source}", file.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file's contents are no key.
    #[error("read the key of notifications {}: it must be {KEY_LENGTH} bytes in base64 or hexadecimal", file.display())]
    NotAKey {
        /// The file.
        file: PathBuf,
    },
    /// The database is on a server, and no file is configured.
    #[error(
        "read the key of notifications: notifications.keyFile is missing, and without an SQLite file there is no place to make one"
    )]
    Nowhere,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Reads the configured file, or the one beside the SQLite file, which is made if it is not there.
///
/// # Errors
/// The file cannot be read or made, or holds no key.
pub fn open(config: &Config) -> Result<Seal, KeyFileError> {
    let file = match &config.notifications.key_file {
        Some(file) => file.clone(),
        None if config.is_sqlite() => {
            // `qod-backend.sqlite` has `qod-backend.notification-key` beside it.
            let file = sqlite_file(&config.database).with_extension("notification-key");
            if !file.exists() {
                make(&file)?;
            }
            file
        }
        None => return Err(KeyFileError::Nowhere),
    };
    let text = fs::read_to_string(&file).map_err(|source| KeyFileError::File {
        doing: "read",
        file: file.clone(),
        source,
    })?;
    decode(text.trim())
        .and_then(|key| Seal::new(&key))
        .ok_or(KeyFileError::NotAKey { file })
}

fn decode(text: &str) -> Option<[u8; KEY_LENGTH]> {
    if text.len() == KEY_LENGTH * 2 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut key = [0; KEY_LENGTH];
        for (index, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        return Some(key);
    }
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
        .and_then(|key| key.try_into().ok())
}

/// Makes the file with a new key, unless another process does.
fn make(file: &Path) -> Result<(), KeyFileError> {
    let key = STANDARD.encode(secret::random::<KEY_LENGTH>()?);
    let made = private_file::make(file, &key).map_err(|source| KeyFileError::File {
        doing: "write",
        file: file.to_owned(),
        source,
    })?;
    if made {
        tracing::info!(file = %file.display(), "a new key for notifications was written");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(directory: &Path) -> Config {
        Config {
            database: format!("sqlite:{}", directory.join("q.sqlite").display()),
            ..Config::default()
        }
    }

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("q.notification-key");
        let config = config(directory.path());
        // Several processes at once find one key.
        let digests: Vec<String> = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| open(&config).unwrap().digest("x")))
                .collect();
            opening
                .into_iter()
                .map(|opening| opening.join().unwrap())
                .collect()
        });
        assert!(digests.iter().all(|digest| *digest == digests[0]));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn keys_in_every_spelling() {
        let key = [0xfb; KEY_LENGTH];
        let hex = "FB".repeat(KEY_LENGTH);
        for text in [
            hex.as_str(),
            &STANDARD.encode(key),
            &URL_SAFE_NO_PAD.encode(key),
        ] {
            assert_eq!(decode(text), Some(key), "{text}");
        }
        for text in ["", "short", &"f".repeat(63), &STANDARD.encode([1; 31])] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("k");
        let mut config = config(directory.path());
        config.notifications.key_file = Some(file.clone());
        let message = |config: &Config| open(config).err().unwrap().to_string();
        assert!(message(&config).starts_with("read the key of notifications "));
        fs::write(&file, "x").unwrap();
        assert!(message(&config).ends_with("it must be 32 bytes in base64 or hexadecimal"));
        config.notifications.key_file = None;
        config.database = "postgres://x".to_owned();
        assert!(matches!(open(&config), Err(KeyFileError::Nowhere)));
    }
}
