//! `qod-agent run`: puts the parts together and runs them until a signal.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::agent::{Agent, Parts};
use crate::config::Config;
use crate::confine::{self, confine};
use crate::link::Links;
use crate::netlink::Rtnetlink;
use crate::nft::Nft;
use crate::queue::Queues;
use crate::ruleset::Kernel;
use crate::status::{self, Identity};
use crate::uplink::Uplink;
use crate::{config, link, lock, nft};

/// A poll and a report, what each of them has given up and still waits for a name server or a handshake, and who gives
/// up.
const HTTP_THREADS: usize = 5;
/// Enough for TLS in a build without optimisation, too.
const HTTP_STACK: usize = 512 * 1024;
const HTTP_KEPT: Duration = Duration::from_hours(48);
/// News that wait for the loop. The poll stops while they do.
const NEWS: usize = 4;
const STATUS_REQUESTS: usize = 8;
/// procd starts an agent again before the old one is gone.
const PREDECESSOR: Duration = Duration::from_secs(2);

/// Why the agent does not run.
#[derive(Debug)]
pub enum Error {
    /// Another agent runs here.
    Lock(lock::Error),
    /// A credential file cannot be used.
    Credentials(config::Error),
    /// nf_tables may not be changed.
    Nft(nft::Error),
    /// There is no way to rtnetlink.
    Link(link::Error),
    /// The status address cannot be had.
    Status(status::ServerError),
    /// A privilege that the agent does not need cannot be given up.
    Confine(confine::Error),
    /// The machine lacks what every program needs.
    System(&'static str, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(error) => error.fmt(f),
            Self::Credentials(error) => error.fmt(f),
            Self::Nft(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::Status(error) => error.fmt(f),
            Self::Confine(error) => error.fmt(f),
            Self::System(doing, error) => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Runs until SIGTERM or SIGINT. The marks stay in the kernel, which ends them on time.
///
/// # Errors
/// See [`Error`]; once it runs, no fault ends it.
pub fn run(config: &Config) -> Result<(), Error> {
    let _lock = lock::take(PREDECESSOR).map_err(Error::Lock)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(HTTP_THREADS)
        .thread_stack_size(HTTP_STACK)
        // A thread that ends between two calls wakes up for it, and the next call has to make another.
        .thread_keep_alive(HTTP_KEPT)
        .build()
        .map_err(|error| Error::System("starting the runtime", error))?;
    let result = runtime.block_on(start(config));
    // A thread may still be inside a call that is being aborted; the process does not wait for it.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn start(config: &Config) -> Result<(), Error> {
    // First of all, so that a missing right is one sentence. Anything else may come with a module: until then
    // the agent says in every report what is missing.
    let mut nft = Nft::new(config.mark_bits);
    match nft.observe() {
        Err(error) if error.is_missing_right() => return Err(Error::Nft(error)),
        _ => {}
    }

    let uplink = Uplink::new(config).map_err(Error::Credentials)?;
    let rtnetlink = Rtnetlink::open()
        .map_err(|error| Error::System("opening a netlink socket to rtnetlink", error))?;
    let queues = Queues::new(rtnetlink.clone());
    let links = Links::new(rtnetlink, config.lan.clone(), config.wan.clone());
    // Listening comes first: what changes after the first look is an event.
    let watch = links.watch().map_err(Error::Link)?;
    let identity = Identity::new(&config.agent_id)
        .map_err(|error| Error::System("reading /dev/urandom", error))?;
    let handlers = |error| Error::System("installing a signal handler", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(handlers)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(handlers)?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };

    let (request, requests) = mpsc::channel(STATUS_REQUESTS);
    status::serve(&config.status, request)
        .await
        .map_err(Error::Status)?;
    // What needs more rights is open: credentials, and a status port below 1024. There is one thread
    // yet, and nobody outside has been heard.
    log::info!("{}", confine(config).map_err(Error::Confine)?);
    let (report, reports) = watch::channel(None);
    let (tell, news) = mpsc::channel(NEWS);
    tokio::spawn(uplink.clone().poll(tell));
    tokio::spawn(uplink.clone().report(reports));

    log::info!(
        "agent {} of version {} starts; backend {}",
        config.agent_id,
        env!("CARGO_PKG_VERSION"),
        config.backend.url
    );
    let agent = Agent::new(Parts {
        config: config.clone(),
        nft,
        links,
        watch,
        queues,
        identity,
        reports: report,
        uplink: uplink.clone(),
    });
    agent.run(news, requests, stop).await;
    log::info!("stopping; the marks stay until their sessions end");
    uplink.shutdown();
    Ok(())
}
