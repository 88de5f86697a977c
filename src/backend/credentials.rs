//! The credential files: what the agent shows to the backend, and whom it trusts.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustls::RootCertStore;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts};

use crate::config::{Backend, Error, Token};
use crate::token_file;

/// Where OpenWrt and Debian keep the authorities that a system trusts.
pub(crate) const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The agent's bearer token, if it has one.
pub(super) fn token(backend: &Backend) -> Result<Option<String>, Error> {
    let path = match &backend.token {
        None => return Ok(None),
        Some(Token::Inline(token)) => return Ok(Some(token.clone())),
        Some(Token::File(path)) => path,
    };
    let can_enrol = backend.bootstrap_token_file.is_some() || backend.client_cert.is_some();
    if can_enrol && is_absent(path) {
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
    (1..=token_file::LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The authorities that the backend's certificate may come from.
pub(super) fn authorities(backend: &Backend) -> Result<RootCerts, Error> {
    match authorities_file(backend) {
        None => Ok(RootCerts::from(Vec::new())),
        Some(path) if backend.ca_file.is_none() && is_absent(path) => Err(Error::new(
            path,
            "does not exist: install ca-bundle, or give backend.caFile",
        )),
        Some(path) => Ok(RootCerts::from(certificates(path)?)),
    }
}

/// None: plain HTTP, which needs none.
fn authorities_file(backend: &Backend) -> Option<&Path> {
    let path = backend.ca_file.as_deref();
    if path.is_none() && backend.url.starts_with("http:") {
        return None;
    }
    Some(path.unwrap_or(Path::new(SYSTEM_AUTHORITIES)))
}

/// The file of the trusted authorities, and how many of them TLS can use; None: plain HTTP.
///
/// # Errors
/// The file cannot be read, or none of its certificates can be used.
pub(crate) fn trusted(backend: &Backend) -> Result<Option<(&Path, usize)>, Error> {
    let Some(path) = authorities_file(backend) else {
        return Ok(None);
    };
    let certificates = certificates(path)?;
    let certificates = certificates
        .iter()
        .map(|certificate| certificate.der().into());
    // TLS skips what it cannot read without a word.
    match RootCertStore::empty().add_parsable_certificates(certificates) {
        (0, _) => Err(Error::new(path, "holds no certificate that TLS can use")),
        (usable, _) => Ok(Some((path, usable))),
    }
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

fn is_absent(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
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
