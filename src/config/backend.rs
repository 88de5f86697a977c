//! The section `backend`: where the backend is, and how to be let in.

use std::path::{Path, PathBuf};

use super::{Section, check_token};

/// The token's file beside the configuration.
const TOKEN_FILE: &str = "token";

/// The operator's backend.
#[derive(Clone)]
pub struct Backend {
    /// Base URL without a slash at its end.
    pub url: String,
    /// The agent's bearer token.
    pub token: Option<Token>,
    /// A file with the bootstrap token, by which the agent comes by its own token once.
    pub bootstrap_token_file: Option<PathBuf>,
    /// Certificates of the authorities to be trusted, in PEM; none: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The agent's certificate chain and key, in PEM.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// Where a token is.
#[derive(Clone)]
pub enum Token {
    /// In the configuration itself.
    Inline(String),
    /// In a file, which enrolment writes, and which is read again when the backend refuses the token.
    File(PathBuf),
}

impl Backend {
    /// `folder` is that of the configuration: the token is there unless another place is given.
    pub(super) fn parse(mut section: Section, folder: &Path) -> Result<Self, String> {
        let url: String = section.required("url")?;
        let plain = section.optional("allowPlainHttp")?.unwrap_or(false);
        let legal = url.parse::<ureq::http::Uri>().is_ok_and(|uri| {
            let scheme = uri.scheme_str();
            let host = uri.host().is_some_and(|host| !host.is_empty());
            // A name and password there would be written to the log with the URL.
            let bare = uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'));
            host && bare
                && uri.query().is_none()
                && !url.contains('#')
                && (scheme == Some("https") || plain && scheme == Some("http"))
        });
        if !legal {
            let hint = if url.starts_with("http://") {
                "; plain HTTP needs allowPlainHttp"
            } else {
                ""
            };
            return Err(format!("backend.url: {url:?} is not an https URL{hint}"));
        }
        let bootstrap_token_file: Option<PathBuf> = section.optional("bootstrapTokenFile")?;
        let token = match (section.optional("token")?, section.optional("tokenFile")?) {
            (Some(_), Some(_)) => {
                return Err(
                    "backend.tokenFile: token is given too; one of them is enough".to_owned(),
                );
            }
            (Some(_), None) if bootstrap_token_file.is_some() => {
                return Err(
                    "backend.bootstrapTokenFile: token is given too, so there is nothing to enrol for"
                        .to_owned(),
                );
            }
            (Some(token), None) => Some(Token::Inline(check_token("backend.token", token)?)),
            (None, None) if bootstrap_token_file.is_some() => {
                Some(Token::File(folder.join(TOKEN_FILE)))
            }
            (None, file) => file.map(Token::File),
        };
        let client_cert = match (
            section.optional("clientCertFile")?,
            section.optional("clientKeyFile")?,
        ) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err("backend.clientKeyFile: is missing".to_owned()),
            (None, Some(_)) => return Err("backend.clientCertFile: is missing".to_owned()),
        };
        if token.is_none() && client_cert.is_none() {
            return Err(
                "backend: has neither token, tokenFile, bootstrapTokenFile nor clientCertFile"
                    .to_owned(),
            );
        }
        let ca_file = section.optional("caFile")?;
        section.finish()?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            bootstrap_token_file,
            ca_file,
            client_cert,
        })
    }
}
