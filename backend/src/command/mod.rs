//! Subcommands for the operator: the admin API of a running backend, from a shell.
//!
//! A command is a line of [`table`]: its words, what follows them, and the request that they stand for. The backend
//! judges; this only carries. Two things are judged here: an id must not lead to another path, and the admin token
//! must not leave this host in clear. The token is read from a file, since arguments are seen by every user.

mod access;
mod arguments;
mod ask;
mod call;
mod table;
mod usage;

use std::io;
use std::path::PathBuf;

pub use access::UrlError;
pub use arguments::UsageError;
pub use usage::usage;

use crate::admin::TokenFileError;
use crate::client::ClientError;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line cannot be understood.
    #[error("{reason}\n{usage}")]
    Usage {
        /// Why.
        reason: UsageError,
        /// How it is used.
        usage: String,
    },
    /// The URL is not asked.
    #[error("use the URL {url}: {reason} (--url says where the backend is)")]
    Url {
        /// The URL, without credentials.
        url: String,
        /// Why.
        reason: UrlError,
    },
    /// There is no admin token.
    #[error("{0} (--token-file says where the admin token is)")]
    Token(#[from] TokenFileError),
    /// The admin token cannot be sent.
    #[error("send the admin token {}: it must be printable ASCII", file.display())]
    Unspeakable {
        /// The file.
        file: PathBuf,
    },
    /// What is to be sent cannot be read.
    #[error("read {name}: {source}")]
    Input {
        /// The file.
        name: String,
        /// The system's words.
        source: io::Error,
    },
    /// What is to be sent is more than the backend takes.
    #[error("read {name}: it is longer than {longest} bytes")]
    TooLong {
        /// The file.
        name: String,
        /// The limit.
        longest: usize,
    },
    /// What is to be sent is no JSON.
    #[error("read {name}: {reason}")]
    Json {
        /// The file.
        name: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Nothing can be asked.
    #[error(transparent)]
    Client(ClientError),
    /// The runtime does not start.
    #[error("start the runtime: {0}")]
    Runtime(io::Error),
    /// The request cannot be put together.
    #[error("ask {url}: {source}")]
    Request {
        /// The URL.
        url: String,
        /// Why.
        source: axum::http::Error,
    },
    /// There is no answer.
    #[error("ask {url}: {source}")]
    Ask {
        /// The URL.
        url: String,
        /// Why.
        source: ClientError,
    },
    /// The backend does not do it.
    #[error("{asked}: {message} ({status})")]
    Refused {
        /// Method and URL.
        asked: String,
        /// The backend's words.
        message: String,
        /// HTTP status, the backend's code, and what it may be about.
        status: String,
    },
    /// The answer is not one of a backend.
    #[error("read the answer of {url}: {what}")]
    Answer {
        /// The URL.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// The answer cannot be written.
    #[error("write the answer: {0}")]
    Output(io::Error),
}

impl CommandError {
    /// Whether the command line is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage { .. } | Self::Url { .. })
    }
}

/// Does what `arguments` say and writes the answer to standard output.
///
/// # Errors
/// The arguments cannot be understood, a file cannot be used, the backend cannot be asked, or it refuses.
pub fn run(arguments: &[&str]) -> Result<(), CommandError> {
    let parsed = arguments::parse(arguments).map_err(|reason| CommandError::Usage {
        reason,
        usage: usage::about(arguments),
    })?;
    // A name that is not UTF-8 is no URL, and no file that this program could name in a message.
    let access = access::Access::open(&parsed.connection, |name| std::env::var(name).ok())?;
    let body = call::body(&parsed.ask)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?
        .block_on(call::answer(
            &parsed,
            &access,
            &body,
            &mut io::stdout().lock(),
        ))
}
