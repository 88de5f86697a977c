//! `notifications`.

use std::path::PathBuf;

use super::path;
use crate::json::{Invalid, Object};

/// How consumers are notified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// `allowPrivate`: receivers may be at addresses that are not public, this host's among them. Default: no.
    pub allow_private: bool,
    /// `keyFile`: the key that receivers' tokens are encrypted with in the store, 32 bytes in base64 or hexadecimal.
    /// All processes over one database need the same. Default: made beside the SQLite file.
    pub key_file: Option<PathBuf>,
    /// `caFile`: the authorities, PEM, that receivers' certificates are verified with. Default: the system's.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn read(object: &Object<'_>) -> Result<Notifications, Invalid> {
    object.only(&["allowPrivate", "keyFile", "caFile"])?;
    let allow_private = object
        .get("allowPrivate")
        .map(|node| node.boolean())
        .transpose()?;
    Ok(Notifications {
        allow_private: allow_private.unwrap_or_default(),
        key_file: path(object, "keyFile")?,
        ca_file: path(object, "caFile")?,
    })
}
