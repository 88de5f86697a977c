//! The configuration file.
//!
//! A JSON object. Every key has a default, an unknown key is an error, and so is a key of a later version: nothing
//! that an operator writes is silently without effect.

mod issuer;
mod limits;
mod notifications;
mod operation;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use issuer::IssuerConfig;
pub use limits::{Limits, cap, rate};
pub use operation::{LogFormat, Operation};

pub use self::notifications::Notifications;
use crate::json::{self, Invalid, Node, Object};
use crate::prefix::Prefix;
use crate::proxy::TrustedProxies;

/// Most entries of `trustedProxies`.
const MOST_PROXIES: usize = 256;

/// Keys that the design names and this version does not serve.
const NOT_SERVED: &[&str] = &["homeDevices"];

/// What the operator configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `listen`: where to listen. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// `database`: `sqlite:FILE` or `postgres://…`. Default `sqlite:qod-backend.sqlite`.
    pub database: String,
    /// `tls`: certificate chain and key. Absent: plain HTTP.
    pub tls: Option<Tls>,
    /// `adminTokenFile`: file with the admin token. Default: made beside the SQLite file.
    pub admin_token_file: Option<PathBuf>,
    /// `profilesFile`: file with the QoS profiles. Default: the built-in ones.
    pub profiles_file: Option<PathBuf>,
    /// `agentSilentSeconds`: an agent without a poll for so long is silent. Default 120.
    pub agent_silent_seconds: i64,
    /// `issuer`: whose access tokens count.
    pub issuer: IssuerConfig,
    /// `limits`: what a consumer may do that has no limits of its own. Default: anything.
    pub limits: Limits,
    /// `trustedProxies`: addresses and prefixes of proxies that say for whom they ask. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// How the process runs.
    pub operation: Operation,
    /// `notifications`: how consumers are notified.
    pub notifications: Notifications,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `cert`: the server's certificate, then its intermediates.
    pub cert: PathBuf,
    /// `key`: the private key.
    pub key: PathBuf,
    /// `clientCa`: authorities whose certificates agents may show in place of a token. Absent: none.
    pub client_ca: Option<PathBuf>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("the configuration {} is wrong at {invalid}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Key and reason.
        invalid: Invalid,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            database: "sqlite:qod-backend.sqlite".to_owned(),
            tls: None,
            admin_token_file: None,
            profiles_file: None,
            agent_silent_seconds: 120,
            issuer: IssuerConfig::default(),
            limits: Limits::default(),
            trusted_proxies: TrustedProxies::default(),
            operation: Operation::default(),
            notifications: Notifications::default(),
        }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// Names the file, the key and what is wrong.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(&bytes).map_err(|invalid| ConfigError::Invalid {
            file: file.to_owned(),
            invalid,
        })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Names the key and what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let document = json::parse(bytes)?;
        let object = Node::root(&document).object()?;
        for key in NOT_SERVED {
            if let Some(node) = object.get(key) {
                return Err(not_served(&node));
            }
        }
        object.only(&[
            "listen",
            "database",
            "tls",
            "adminTokenFile",
            "profilesFile",
            "agentSilentSeconds",
            "issuer",
            "limits",
            "trustedProxies",
            "metrics",
            "logFormat",
            "usage",
            "statusPollCaFile",
            "drainSeconds",
            "notifications",
            "statusPollSeconds",
        ])?;
        let mut config = Self::default();
        if let Some(node) = object.get("listen") {
            config.listen = address(&node)?;
        }
        if let Some(node) = object.get("database") {
            config.database = database(&node)?;
        }
        if let Some(node) = object.get("tls") {
            config.tls = Some(tls(&node.object()?)?);
        }
        config.admin_token_file = path(&object, "adminTokenFile")?;
        config.profiles_file = path(&object, "profilesFile")?;
        if let Some(node) = object.get("agentSilentSeconds") {
            // Below a poll's length, every agent would seem silent between two answers.
            config.agent_silent_seconds = node.integer(1..=86_400)?;
        }
        if let Some(node) = object.get("issuer") {
            config.issuer = issuer::read(&node.object()?)?;
        }
        if let Some(node) = object.get("limits") {
            config.limits = limits::read(&node.object()?)?;
        }
        if let Some(node) = object.get("trustedProxies") {
            config.trusted_proxies = trusted_proxies(&node)?;
        }
        config.operation = operation::read(&object)?;
        if let Some(node) = object.get("notifications") {
            config.notifications = notifications::read(&node.object()?)?;
        }
        if !config.is_sqlite() && config.admin_token_file.is_none() {
            return Err(Invalid {
                path: "adminTokenFile".to_owned(),
                reason: "is missing: without an SQLite file there is no place to make one"
                    .to_owned(),
            });
        }
        if !config.is_sqlite() && config.notifications.key_file.is_none() {
            return Err(Invalid {
                path: "notifications.keyFile".to_owned(),
                reason: "is missing: without an SQLite file there is no place to make one"
                    .to_owned(),
            });
        }
        Ok(config)
    }

    /// Whether the store is an SQLite file.
    pub fn is_sqlite(&self) -> bool {
        self.database.starts_with("sqlite:")
    }
}

fn not_served(node: &Node<'_>) -> Invalid {
    node.invalid("is not supported by this version")
}

fn address(node: &Node<'_>) -> Result<SocketAddr, Invalid> {
    node.string()?
        .parse()
        .map_err(|_| node.invalid("must be an address and a port, as 127.0.0.1:8080 or [::1]:8080"))
}

fn database(node: &Node<'_>) -> Result<String, Invalid> {
    let url = node.text(2_048)?;
    if let Some(file) = url.strip_prefix("sqlite:") {
        if file.is_empty() || file.contains(":memory:") || file.contains("mode=memory") {
            return Err(node.invalid("must name a file after sqlite:"));
        }
        if file.contains('%') {
            // The driver would decode it, and open another file than the one that was made private.
            return Err(node.invalid("must name a file without % in its name"));
        }
    } else if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(node.invalid("must be sqlite:FILE or postgres://…"));
    }
    Ok(url.to_owned())
}

fn tls(object: &Object<'_>) -> Result<Tls, Invalid> {
    object.only(&["cert", "key", "clientCa"])?;
    let file = |key| Ok::<_, Invalid>(PathBuf::from(object.require(key)?.text(4_096)?));
    Ok(Tls {
        cert: file("cert")?,
        key: file("key")?,
        client_ca: path(object, "clientCa")?,
    })
}

fn trusted_proxies(node: &Node<'_>) -> Result<TrustedProxies, Invalid> {
    node.array(MOST_PROXIES)?
        .iter()
        .map(|node| Prefix::any(node.text(64)?).map_err(|error| node.invalid(error.to_string())))
        .collect::<Result<_, _>>()
        .map(TrustedProxies)
}

fn path(object: &Object<'_>, key: &str) -> Result<Option<PathBuf>, Invalid> {
    object
        .get(key)
        .map(|node| node.text(4_096).map(PathBuf::from))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse(b"{}").unwrap(), Config::default());
    }

    #[test]
    fn processes_on_different_addresses_take_each_others_tokens() {
        let issuer = |listen: &str| {
            let file = format!(r#"{{"listen":"{listen}"}}"#);
            Config::parse(file.as_bytes()).unwrap().issuer.url
        };
        assert_eq!(issuer("10.0.0.1:8080"), issuer("10.0.0.2:8081"));
    }

    #[test]
    fn errors_name_the_key() {
        for (text, message) in [
            (r#"{"listn":1}"#, "listn: is not a known key"),
            (
                r#"{"listen":"localhost"}"#,
                "listen: must be an address and a port, as 127.0.0.1:8080 or [::1]:8080",
            ),
            (r#"{"tls":{"cert":"a"}}"#, "tls.key: is missing"),
            (
                r#"{"tls":{"cert":"a","key":"b","clientCa":1}}"#,
                "tls.clientCa: must be a string",
            ),
            (
                r#"{"homeDevices":{}}"#,
                "homeDevices: is not supported by this version",
            ),
            (
                r#"{"trustedProxies":["10.0.0.0/8","10.0.0.0/33"]}"#,
                "trustedProxies[1]: must have a mask from 0 to 32",
            ),
            (
                r#"{"issuer":{"url":"i","jwksUrl":"http://issuer.example/jwks"}}"#,
                "issuer.jwksUrl: must be https://…, or http://… at a loopback address, as 127.0.0.1",
            ),
            (
                r#"{"issuer":{"url":"i","jwksUrl":"/jwks"}}"#,
                "issuer.jwksUrl: must be https://…, or http://… at a loopback address, as 127.0.0.1",
            ),
            (
                r#"{"issuer":{"jwksUrl":"https://issuer.example/jwks"}}"#,
                "issuer.url: is missing",
            ),
            (
                r#"{"issuer":{"caFile":"ca.pem"}}"#,
                "issuer.caFile: has no use without jwksUrl",
            ),
            (
                r#"{"issuer":{"keyDays":0}}"#,
                "issuer.keyDays: must be from 1 to 365",
            ),
            (
                r#"{"limits":{"requestsPerSecond":0}}"#,
                "limits.requestsPerSecond: must be from 1 to 100000",
            ),
            (
                r#"{"limits":{"maxSession":1}}"#,
                "limits.maxSession: is not a known key",
            ),
            (
                r#"{"agentSilentSeconds":"1"}"#,
                "agentSilentSeconds: must be a whole number",
            ),
            (
                r#"{"database":"mysql://x"}"#,
                "database: must be sqlite:FILE or postgres://…",
            ),
            (
                r#"{"database":"sqlite::memory:"}"#,
                "database: must name a file after sqlite:",
            ),
            (
                r#"{"database":"sqlite:a%20b"}"#,
                "database: must name a file without % in its name",
            ),
            (
                r#"{"database":"postgres://x"}"#,
                "adminTokenFile: is missing: without an SQLite file there is no place to make one",
            ),
            (
                r#"{"database":"postgres://x","adminTokenFile":"a"}"#,
                "notifications.keyFile: is missing: without an SQLite file there is no place to make one",
            ),
            (
                r#"{"notifications":{"allowPrivate":1}}"#,
                "notifications.allowPrivate: must be true or false",
            ),
            (
                r#"{"statusPollSeconds":4}"#,
                "statusPollSeconds: must be from 5 to 86400",
            ),
            (
                r#"{"notifications":{"retry":1}}"#,
                "notifications.retry: is not a known key",
            ),
        ] {
            assert_eq!(
                Config::parse(text.as_bytes()).unwrap_err().to_string(),
                message
            );
        }
    }
}
