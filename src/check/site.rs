//! Looks at what the configuration names: devices, the WAN's root qdisc, credential files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use qod_wire::QueueStatus;
use tokio::runtime::Builder;

use super::facts::{Exposed, Site};
use crate::backend::{self, Client};
use crate::config::{Config, Token};
use crate::link::{Links, Snapshot};
use crate::netlink::Rtnetlink;
use crate::queue::{self, Queues};

/// `file` is the configuration's own.
pub(super) fn look(config: &Config, file: &Path) -> Site {
    let (links, root) = network(config);
    Site {
        lan: config.lan.clone(),
        wan: config.wan.clone(),
        queue_mode: config.queues,
        links,
        root,
        tls: config.backend.url.starts_with("https:"),
        credentials: credentials(config),
        exposed: secrets(config, file).filter_map(exposed).collect(),
    }
}

type Root = Result<Option<QueueStatus>, String>;

fn network(config: &Config) -> (Result<Snapshot, String>, Root) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = format!("starting the runtime: {error}");
            return (Err(error.clone()), Err(error));
        }
    };
    runtime.block_on(async {
        let rtnetlink = match Rtnetlink::open() {
            Ok(rtnetlink) => rtnetlink,
            Err(error) => {
                let error = format!("opening a netlink socket to rtnetlink: {error}");
                return (Err(error.clone()), Err(error));
            }
        };
        let queues = Queues::new(rtnetlink.clone());
        let links = Links::new(rtnetlink, config.lan.clone(), config.wan.clone());
        let snapshot = links.snapshot().await.map_err(|error| error.to_string());
        let root = match &config.wan {
            None => Ok(None),
            Some(wan) => match queues.status(wan).await {
                Err(queue::Error::NoDevice { .. }) => Ok(None),
                result => result.map_err(|error| error.to_string()),
            },
        };
        (snapshot, root)
    })
}

fn credentials(config: &Config) -> Result<String, String> {
    // Exactly what `run` does first.
    Client::new(config).map_err(|error| error.to_string())?;
    let backend = &config.backend;
    let mut all = Vec::new();
    match &backend.token {
        Some(Token::Inline(_)) => all.push("token in the configuration".to_owned()),
        Some(Token::File(file)) => all.push(format!("token in {}", file.display())),
        None => {}
    }
    if let Some((cert, _)) = &backend.client_cert {
        all.push(format!("client certificate in {}", cert.display()));
    }
    if let Some((file, count)) = backend::trusted(backend).map_err(|error| error.to_string())? {
        all.push(format!("{count} authorities in {}", file.display()));
    }
    Ok(all.join(", "))
}

/// The files that hold secrets.
fn secrets(config: &Config, file: &Path) -> impl Iterator<Item = PathBuf> {
    let backend = &config.backend;
    let inline = matches!(backend.token, Some(Token::Inline(_))) || config.status.token.is_some();
    let token = match &backend.token {
        Some(Token::File(file)) => Some(file.clone()),
        _ => None,
    };
    let key = backend.client_cert.as_ref().map(|(_, key)| key.clone());
    let own = inline.then(|| file.to_owned());
    [own, token, key].into_iter().flatten()
}

fn exposed(file: PathBuf) -> Option<Exposed> {
    /// Readable or writable by others than owner and group.
    const OTHERS: u32 = 0o006;
    let mode = fs::metadata(&file).ok()?.permissions().mode() & 0o7777;
    (mode & OTHERS != 0).then_some(Exposed { file, mode })
}
