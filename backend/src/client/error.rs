//! Why a request to another server got no answer.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no answer. Messages name host and port alone: path and query of a URL may be secrets.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of authorities cannot be used.
    #[error("read the authorities {}: {reason}", file.display())]
    Roots {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// TLS cannot be spoken at all.
    #[error("set TLS up: {0}")]
    Setup(rustls::Error),
    /// The URL cannot be asked.
    #[error("use the URL: {what}")]
    Url {
        /// What is wrong.
        what: &'static str,
    },
    /// The name could not be resolved.
    #[error("resolve {peer}: {source}")]
    Resolve {
        /// Host and port.
        peer: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The name has no address.
    #[error("resolve {peer}: it has no address")]
    NoAddress {
        /// Host and port.
        peer: String,
    },
    /// No address of the name is a public one.
    #[error("connect to {peer}: its address {address} is not a public one")]
    OutOfReach {
        /// Host and port.
        peer: String,
        /// One of the addresses.
        address: IpAddr,
    },
    /// Nobody accepts.
    #[error("connect to {peer} at {address}: {source}")]
    Connect {
        /// Host and port.
        peer: String,
        /// The address that was tried last.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The handshake failed.
    #[error("speak TLS with {peer}: {source}")]
    Tls {
        /// Host and port.
        peer: String,
        /// rustls' words.
        source: std::io::Error,
    },
    /// The answer is not HTTP, or there is none.
    #[error("exchange HTTP with {peer}: {source}")]
    Http {
        /// Host and port.
        peer: String,
        /// hyper's words.
        source: hyper::Error,
    },
    /// The answer breaks off.
    #[error("read the answer of {peer}: {source}")]
    Broken {
        /// Host and port.
        peer: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is too long.
    #[error("read the answer of {peer}: it is longer than {longest} bytes")]
    TooLong {
        /// Host and port.
        peer: String,
        /// The limit.
        longest: usize,
    },
    /// It took too long.
    #[error("ask {peer}: no whole answer within {} s", limit.as_secs_f32())]
    Timeout {
        /// Host and port.
        peer: String,
        /// The limit.
        limit: Duration,
    },
}
