//! `qod-agent reset`: removes everything that is an agent's, whichever agent left it. It needs no
//! configuration.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::netlink::Rtnetlink;
use crate::queue::{self, Queues};
use crate::{lock, nft};

/// Why something may be left.
#[derive(Debug)]
pub enum Error {
    /// An agent runs, which would make everything anew.
    Running,
    /// Whether an agent runs cannot be found out.
    Lock(lock::Error),
    /// nf_tables refuses.
    Nft(nft::Error),
    /// tc refuses.
    Queues(queue::Error),
    /// The machine lacks what every program needs.
    System(&'static str, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => write!(
                f,
                "{}: nothing was removed; stop it first, or use --force",
                lock::Error::Taken
            ),
            Self::Lock(error) => write!(f, "{error}; --force removes without the lock"),
            Self::Nft(error) => write!(f, "removing the tables: {error}"),
            Self::Queues(error) => error.fmt(f),
            Self::System(doing, error) => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Removes the agent's tables and root qdiscs from the network namespace of this process, and says line
/// by line what that was. With `force` also while an agent runs.
///
/// # Errors
/// See [`Error`]. The queues are removed even if the tables cannot be.
pub fn reset(force: bool) -> Result<String, Error> {
    // Held to the end, so that no agent starts meanwhile.
    let _lock = match lock::take(Duration::ZERO) {
        Ok(lock) => Some(lock),
        Err(_) if force => None,
        Err(lock::Error::Taken) => return Err(Error::Running),
        Err(error) => return Err(Error::Lock(error)),
    };
    let tables = nft::remove_tables();
    let queues = remove_queues()?;
    let tables = tables.map_err(Error::Nft)?;
    let tables = tables.iter().map(|name| format!("table netdev {name}"));
    let queues = queues.iter().map(|queue| format!("queue {queue}"));
    let removed: String = tables
        .chain(queues)
        .map(|what| format!("removed {what}\n"))
        .collect();
    Ok(match removed.as_str() {
        "" => "nothing of the agent's was there\n".to_owned(),
        _ => removed,
    })
}

fn remove_queues() -> Result<Vec<String>, Error> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::System("starting the runtime", error))?;
    runtime.block_on(async {
        let rtnetlink = Rtnetlink::open()
            .map_err(|error| Error::System("opening a netlink socket to rtnetlink", error))?;
        let mut queues = Queues::new(rtnetlink);
        queues.remove_leftovers().await.map_err(Error::Queues)
    })
}
