//! Section `issuer`: whose access tokens count.

use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::Uri;

use super::path;
use crate::json::{Invalid, Node, Object};

/// Whose tokens count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// `url`: what tokens name as their issuer. Default `qod-backend`: no address, since processes over one database
    /// listen on different ones and take each other's tokens. Required with `jwksUrl`.
    pub url: String,
    /// `audience`: what tokens name as their audience. Default `qod`.
    pub audience: String,
    /// `jwksUrl`: where the keys of an outside issuer are, whose tokens alone count then. Absent: the embedded one.
    pub jwks_url: Option<Uri>,
    /// `caFile`: authorities of the outside issuer's certificate, PEM. Absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// `keyDays`: days after which the embedded issuer signs with another key. Default 30.
    pub key_days: i64,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            url: "qod-backend".to_owned(),
            audience: "qod".to_owned(),
            jwks_url: None,
            ca_file: None,
            key_days: 30,
        }
    }
}

pub(super) fn read(object: &Object<'_>) -> Result<IssuerConfig, Invalid> {
    object.only(&["url", "audience", "jwksUrl", "caFile", "keyDays"])?;
    let mut issuer = IssuerConfig::default();
    if let Some(node) = object.get("jwksUrl") {
        issuer.jwks_url = Some(jwks_url(&node)?);
        object.require("url")?;
        if let Some(node) = object.get("keyDays") {
            return Err(node.invalid("is of the embedded issuer, and jwksUrl names another"));
        }
    } else if let Some(node) = object.get("caFile") {
        return Err(node.invalid("has no use without jwksUrl"));
    }
    issuer.ca_file = path(object, "caFile")?;
    if let Some(node) = object.get("url") {
        issuer.url = node.text(2_048)?.to_owned();
    }
    if let Some(node) = object.get("audience") {
        issuer.audience = node.text(2_048)?.to_owned();
    }
    if let Some(node) = object.get("keyDays") {
        issuer.key_days = node.integer(1..=365)?;
    }
    Ok(issuer)
}

/// Whoever can change what is fetched can let anybody in, so it comes by TLS, or from this host.
fn jwks_url(node: &Node<'_>) -> Result<Uri, Invalid> {
    let wrong =
        || node.invalid("must be https://…, or http://… at a loopback address, as 127.0.0.1");
    let url: Uri = node.text(2_048)?.parse().map_err(|_| wrong())?;
    let host = url
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(wrong)?;
    let is_loopback = host
        .trim_matches(['[', ']'])
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_loopback => Ok(url),
        _ => Err(wrong()),
    }
}
