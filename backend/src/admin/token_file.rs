//! The admin token and its file.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::store::sqlite_file;
use crate::{private_file, secret};

/// Shortest token that an operator may choose, in characters.
const SHORTEST: usize = 16;

/// Why there is no admin token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file cannot be read or made.
    #[error("{doing} the admin token {}: {source}", file.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file's contents are no token.
    #[error("read the admin token {}: it must have at least {SHORTEST} characters in one line", file.display())]
    Short {
        /// The file.
        file: PathBuf,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] secret::NoRandomness),
}

/// Reads the configured file, or the one beside the SQLite file, which is made if it is not there. Returns the
/// token's SHA-256 in hexadecimal.
///
/// # Errors
/// The file cannot be read or made, or holds no token.
pub fn open(config: &Config) -> Result<String, TokenFileError> {
    let (file, may_make) = match &config.admin_token_file {
        Some(file) => (file.clone(), false),
        None => (beside(&config.database), true),
    };
    if may_make && !file.exists() {
        make(&file)?;
    }
    Ok(secret::hash(&read(&file)?))
}

/// The token in a file.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub fn read(file: &Path) -> Result<String, TokenFileError> {
    let text = std::fs::read_to_string(file).map_err(|source| TokenFileError::File {
        doing: "read",
        file: file.to_owned(),
        source,
    })?;
    let token = text.trim();
    if token.len() < SHORTEST || token.contains(char::is_whitespace) {
        return Err(TokenFileError::Short {
            file: file.to_owned(),
        });
    }
    Ok(token.to_owned())
}

/// `qod-backend.sqlite` has `qod-backend.admin-token` beside it.
pub fn beside(database: &str) -> PathBuf {
    sqlite_file(database).with_extension("admin-token")
}

/// Makes the file with a new token, unless it is there, or another process makes it.
fn make(file: &Path) -> Result<(), TokenFileError> {
    let token = secret::token()?;
    let made = private_file::make(file, &token).map_err(|source| TokenFileError::File {
        doing: "write",
        file: file.to_owned(),
        source,
    })?;
    if made {
        tracing::info!(file = %file.display(), "a new admin token was written");
    }
    Ok(())
}
