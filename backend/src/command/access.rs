//! Where the backend is, and by what it lets the operator in.

use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::Uri;
use axum::http::uri::Scheme;

use super::CommandError;
use super::arguments::Connection;
use crate::admin;
use crate::client::Client;
use crate::config::Config;

/// In the environment: where the backend is, unless `--url` says it.
pub(super) const URL: &str = "QOD_BACKEND_URL";
/// In the environment: the admin token's file, unless `--token-file` says it.
pub(super) const TOKEN_FILE: &str = "QOD_ADMIN_TOKEN_FILE";
/// Where a backend without configuration listens.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// A backend that can be asked.
pub(super) struct Access {
    /// Scheme, authority, and the path that stands before the backend's own; without a slash at the end.
    pub(super) url: String,
    /// The admin token's file.
    pub(super) token_file: PathBuf,
    /// The admin token.
    pub(super) token: String,
    /// What sends.
    pub(super) client: Client,
}

/// Why a URL is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is none.
    #[error("it must be http://HOST[:PORT] or https://HOST[:PORT]")]
    Malformed,
    /// Arguments are seen by all users of a machine.
    #[error("it must not hold credentials: the admin token is in a file (--token-file)")]
    Credentials,
    /// The admin token would be seen on its way.
    #[error(
        "over plain http the admin token can be read on the way: use https, or a tunnel to this host, or allow it \
         with --allow-plain-http"
    )]
    Plain,
    /// Without TLS nobody is verified.
    #[error("--ca-file is for https")]
    NoAuthorities,
}

impl Access {
    /// Reads the files that `connection` or the environment names.
    ///
    /// # Errors
    /// The URL may not be asked, or a file cannot be used.
    pub(super) fn open(
        connection: &Connection,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CommandError> {
        let (url, token_file) = choose(connection, environment);
        let url = check(&url, connection).map_err(|reason| CommandError::Url {
            // Without credentials.
            url: url.rsplit('@').next().unwrap_or_default().to_owned(),
            reason,
        })?;
        let token = admin::read_token_file(&token_file)?;
        let client = Client::new(connection.ca_file.as_deref()).map_err(CommandError::Client)?;
        Ok(Self {
            url,
            token_file,
            token,
            client,
        })
    }
}

/// The URL and the token's file: as said, or as in the environment, or as of a backend that runs here without
/// configuration.
fn choose(
    connection: &Connection,
    environment: impl Fn(&str) -> Option<String>,
) -> (String, PathBuf) {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    let url = connection.url.clone().or_else(|| set(URL));
    let token_file = connection.token_file.clone();
    (
        url.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        token_file
            .or_else(|| set(TOKEN_FILE).map(PathBuf::from))
            .unwrap_or_else(default_token_file),
    )
}

/// The file that a backend without configuration makes.
pub(super) fn default_token_file() -> PathBuf {
    admin::token_file_beside(&Config::default().database)
}

fn check(url: &str, connection: &Connection) -> Result<String, UrlError> {
    let uri: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(UrlError::Malformed);
    };
    if authority.as_str().contains('@') {
        return Err(UrlError::Credentials);
    }
    // Uri passes over a port that is none, so that another one would be asked, and has forgotten a fragment.
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port = |port: &str| {
        port.is_empty() || matches!(port.strip_prefix(':').map(str::parse::<u16>), Some(Ok(1..)))
    };
    if !port.is_some_and(is_port) {
        return Err(UrlError::Malformed);
    }
    if authority.host().is_empty() || uri.query().is_some() || url.contains('#') {
        return Err(UrlError::Malformed);
    }
    if *scheme == Scheme::HTTP {
        if connection.ca_file.is_some() {
            return Err(UrlError::NoAuthorities);
        }
        if !connection.allow_plain_http && !is_this_host(authority.host()) {
            return Err(UrlError::Plain);
        }
    } else if *scheme != Scheme::HTTPS {
        return Err(UrlError::Malformed);
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Whether what is sent to `host` stays on this machine. (RFC 6761 §6.3: `localhost` is loopback.)
fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str) -> Result<String, UrlError> {
        check(url, &Connection::default())
    }

    #[test]
    fn the_admin_token_does_not_travel_in_clear() {
        for url in [
            "http://127.0.0.1:8080",
            "http://127.1.2.3",
            "http://localhost:1",
            "http://LOCALHOST",
            "http://[::1]:8080",
            "http://[::ffff:127.0.0.1]",
            "https://backend.example",
            "https://192.0.2.1:8443",
        ] {
            assert_eq!(checked(url).as_deref(), Ok(url));
        }
        for url in [
            "http://backend.example",
            "http://192.0.2.1:8080",
            "http://0.0.0.0:8080",
            "http://[::]:8080",
            "http://localhost.example",
            "http://127.0.0.1.example",
        ] {
            assert_eq!(checked(url), Err(UrlError::Plain), "{url}");
            let allowed = Connection {
                allow_plain_http: true,
                ..Connection::default()
            };
            assert_eq!(check(url, &allowed).as_deref(), Ok(url));
        }
    }

    #[test]
    fn what_is_no_url_of_a_backend_is_refused() {
        for url in [
            "",
            "127.0.0.1:8080",
            "/admin",
            "ftp://127.0.0.1",
            "http://",
            "http://:8080",
            "https://a b",
            "https://a?b",
            "https://a#b",
            "https://a:port",
            "https://a:99999",
            "https://a:0",
            "https://a:",
        ] {
            assert_eq!(checked(url), Err(UrlError::Malformed), "{url}");
        }
        for url in ["https://admin:secret@a", "https://secret@a/"] {
            assert_eq!(checked(url), Err(UrlError::Credentials), "{url}");
        }
        let authorities = Connection {
            ca_file: Some("ca.pem".into()),
            ..Connection::default()
        };
        assert_eq!(
            check("http://127.0.0.1", &authorities),
            Err(UrlError::NoAuthorities)
        );
    }

    #[test]
    fn a_path_before_the_backends_own_is_kept() {
        assert_eq!(checked("https://a/qod/").as_deref(), Ok("https://a/qod"));
        assert_eq!(checked("https://a/").as_deref(), Ok("https://a"));
    }

    #[test]
    fn an_option_is_stronger_than_the_environment() {
        let environment = |name: &str| match name {
            URL => Some("https://e".to_owned()),
            TOKEN_FILE => Some("e".to_owned()),
            _ => None,
        };
        let said = Connection {
            url: Some("https://o".to_owned()),
            token_file: Some("o".into()),
            ..Connection::default()
        };
        let nothing = Connection::default();
        let pair = |url: &str, file: &str| (url.to_owned(), PathBuf::from(file));
        assert_eq!(choose(&said, environment), pair("https://o", "o"));
        assert_eq!(choose(&nothing, environment), pair("https://e", "e"));
        let default = pair(DEFAULT_URL, "qod-backend.admin-token");
        assert_eq!(choose(&nothing, |_| None), default);
        assert_eq!(choose(&nothing, |_| Some(String::new())), default);
    }
}
