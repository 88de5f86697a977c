//! `qod-agent enrol`: the agent comes by its first token, or by the next one.
//!
//! An answer may be lost, or this process may be killed before the token is on the disk. What was shown for it
//! serves again then: a bootstrap token for ten minutes, the agent's own token as long as it is valid.

use std::fmt;
use std::path::Path;

use crate::backend::{Client, Failure};
use crate::config::{self, Config, Token};
use crate::token_file::{self, Replacement};

/// Which token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first one, with a bootstrap token or a factory certificate.
    First,
    /// Another one, with the one before it.
    Rotate,
}

/// Why there is no new token. The file is as it was.
#[derive(Debug)]
pub enum Error {
    /// The configuration does not provide for it.
    Configuration(&'static str),
    /// A credential file cannot be used.
    Credentials(config::Error),
    /// The backend did not take the bootstrap token in a file.
    Bootstrap(config::Error),
    /// The backend gave none.
    Backend(Failure),
    /// The credential is another agent's.
    OtherAgent {
        /// As the backend says.
        theirs: String,
        /// As configured.
        ours: String,
    },
    /// It cannot be kept.
    File(token_file::Error),
}

impl Error {
    /// Whether a key of the configuration is missing.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Configuration(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(what) => f.write_str(what),
            Self::Credentials(error) | Self::Bootstrap(error) => error.fmt(f),
            Self::Backend(failure) => failure.fmt(f),
            Self::OtherAgent { theirs, ours } => write!(
                f,
                "the backend says that this credential is of agent {theirs}, but agentId is {ours}; nothing was written"
            ),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Asks the backend for a token and writes it to `backend.tokenFile`. Returns a sentence for whoever called.
///
/// # Errors
/// See [`Error`].
pub fn enrol(config: &Config, step: Step) -> Result<String, Error> {
    let Some(Token::File(path)) = &config.backend.token else {
        return Err(Error::Configuration(
            "backend.tokenFile: is missing, so there is no place for a token that the backend gives",
        ));
    };
    let bootstrap = config.backend.bootstrap_token_file.as_deref();
    if step == Step::First && bootstrap.is_none() && config.backend.client_cert.is_none() {
        return Err(Error::Configuration(
            "backend.bootstrapTokenFile: is missing, and there is no clientCertFile either",
        ));
    }
    // Before the token is read: another process may be replacing it.
    let replacement = Replacement::begin(path).map_err(Error::File)?;
    let (token, done) = match step {
        Step::First => (first(config, bootstrap)?, "enrolled"),
        Step::Rotate => (rotated(config)?, "rotated"),
    };
    replacement.finish(&token).map_err(Error::File)?;
    let (agent, path) = (&config.agent_id, path.display());
    Ok(format!("agent {agent} {done}: its token is in {path}\n"))
}

fn first(config: &Config, bootstrap: Option<&Path>) -> Result<String, Error> {
    let client = Client::enrolling(config, bootstrap).map_err(Error::Credentials)?;
    let enrolled = client.enrol().map_err(|failure| match (&failure, bootstrap) {
        (Failure::Unauthorized(status), Some(file)) => {
            let what = format!(
                "the backend does not take this bootstrap token ({status}): it is unknown, has served, or has expired"
            );
            Error::Bootstrap(config::Error::new(file, what))
        }
        _ => Error::Backend(failure),
    })?;
    if enrolled.agent_id != config.agent_id {
        let named = qod_wire::is_agent_id(&enrolled.agent_id);
        return Err(Error::OtherAgent {
            theirs: if named {
                enrolled.agent_id
            } else {
                "with an id that is none".to_owned()
            },
            ours: config.agent_id.clone(),
        });
    }
    Ok(enrolled.token)
}

fn rotated(config: &Config) -> Result<String, Error> {
    let client = Client::new(config).map_err(Error::Credentials)?;
    let rotated = client.rotate().map_err(Error::Backend)?;
    Ok(rotated.token)
}
