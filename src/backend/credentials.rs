//! The credential files: what the agent shows to the backend, and whom it trusts.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts};

use crate::config::{Backend, Error, Token};

/// Where OpenWrt and Debian keep the authorities that a system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Longest token, in bytes.
const LONGEST_TOKEN: usize = 4096;

/// The agent's bearer token, if it has one.
pub(super) fn token(backend: &Backend) -> Result<Option<String>, Error> {
    let path = match &backend.token {
        None => return Ok(None),
        Some(Token::Inline(token)) => return Ok(Some(token.clone())),
        Some(Token::File(path)) => path,
    };
    let can_enrol = backend.bootstrap_token_file.is_some() || backend.client_cert.is_some();
    if can_enrol && fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let what = "does not exist: this agent is not enrolled yet (qod-agent enrol)";
        return Err(Error::new(path, what));
    }
    token_in(path).map(Some)
}

/// The token that a file holds.
pub(super) fn token_in(path: &Path) -> Result<String, Error> {
    let text = String::from_utf8(read(path)?).unwrap_or_default();
    let token = text.trim();
    if !is_token(token) {
        let what = "holds no token: one line of visible ASCII is needed".to_owned();
        return Err(Error::new(path, what));
    }
    Ok(token.to_owned())
}

/// Whether `text` can stand in an `Authorization` header.
pub(super) fn is_token(text: &str) -> bool {
    (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The authorities that the backend's certificate may come from.
pub(super) fn authorities(backend: &Backend) -> Result<RootCerts, Error> {
    if backend.ca_file.is_none() && backend.url.starts_with("http:") {
        return Ok(RootCerts::from(Vec::new()));
    }
    let path = backend
        .ca_file
        .as_deref()
        .unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    Ok(RootCerts::from(certificates(path)?))
}

/// The agent's own certificate and key, if it has them.
pub(super) fn client_certificate(backend: &Backend) -> Result<Option<ClientCert>, Error> {
    let Some((cert, key)) = &backend.client_cert else {
        return Ok(None);
    };
    let chain = certificates(cert)?;
    let key = PrivateKey::from_pem(&read(key)?)
        .map_err(|error| Error::new(key, format!("holds no private key: {error}")))?;
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let certificates: Vec<_> = ureq::tls::parse_pem(&read(path)?)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::new(path, "holds no certificate"));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::new(path, format!("cannot be read: {error}")))
}
