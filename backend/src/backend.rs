//! One running backend: starts everything, keeps it going, and ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::admin::{self, TokenFileError};
use crate::client::{Client, ClientError};
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::{self, Metrics, census};
use crate::notifications::counters::Counters;
use crate::notifications::key_file::{self, KeyFileError};
use crate::notifications::{self, Notifications, deliver};
use crate::oauth::{self, Authority, AuthorityError, ChosenSecrets, Consumers};
use crate::polling::{self, Polling};
use crate::presence::{FLUSH_MS, Presence};
use crate::qod::profiles::{Profiles, ProfilesError};
use crate::rate::Buckets;
use crate::removal;
use crate::server::{App, router, watchers_router};
use crate::store::{Store, StoreError};
use crate::tls::{self, TlsError};
use crate::wake::Wake;
use crate::{expiry, listener};

/// How often other processes' changes are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Pause between two times that the store's log is brought into its file.
const FOLD: Duration = Duration::from_millis(500);
/// How far the clocks of two processes over one database may differ before one's changes reach the other's polls
/// only when those end, in milliseconds.
const CLOCK_SKEW_MS: i64 = 10_000;
/// How often old usage records are removed, in milliseconds.
const FORGET_MS: i64 = 600_000;
/// How long the store may take to write what is left and to close.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the backend did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The profiles cannot be used.
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
    /// The certificate or the key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no admin token.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// There is no key for notifications.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Nothing can be sent to other servers.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token can be signed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
}

impl StartError {
    /// Whether the operator's files are at fault, and not the world.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Profiles(_) | Self::Tls(_) | Self::Token(_) | Self::Key(_) | Self::Client(_) => {
                true
            }
            Self::Authority(error) => error.is_configuration(),
            Self::Store(_) | Self::Listen { .. } => false,
        }
    }
}

/// A backend that runs.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it shows its metrics to everybody, if it does.
    pub metrics_address: Option<SocketAddr>,
    app: Arc<App>,
    serving: Vec<JoinHandle<()>>,
    closing: watch::Sender<bool>,
    drain: Duration,
    delivering: JoinHandle<()>,
    polling: JoinHandle<()>,
}

impl Backend {
    /// Starts a backend. When this returns, it answers.
    ///
    /// # Errors
    /// Something that it needs is not there or is wrong.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let profiles = Profiles::load(config.profiles_file.as_deref())?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let admin_token_hash = admin::open_token_file(config)?;
        let notifications = Notifications {
            seal: key_file::open(config)?,
            client: Client::new(config.notifications.ca_file.as_deref())?,
            allow_private: config.notifications.allow_private,
            counters: Counters::default(),
        };
        let polling = Polling {
            client: Client::new(config.operation.status_poll_ca_file.as_deref())?,
            interval_ms: config.operation.status_poll_seconds * 1_000,
        };
        let store = Store::open(&config.database).await?;
        let authority = Authority::open(&config.issuer, clock.clone(), store.clone()).await?;
        let (listener, address) = listen(config.listen).await?;
        let (watchers, metrics_address) = match config.operation.metrics_listen {
            Some(address) => {
                let (listener, address) = listen(address).await?;
                (Some(listener), Some(address))
            }
            None => (None, None),
        };
        let app = Arc::new(App {
            presence: Presence::new(clock.clone()),
            consumers: Consumers::new(store.clone(), clock.clone(), config.limits),
            chosen_secrets: ChosenSecrets::default(),
            wrong_secrets: Buckets::new(oauth::MOST_GUESSED),
            trusted_proxies: config.trusted_proxies.clone(),
            clock,
            store,
            wake: Wake::default(),
            authority,
            profiles,
            notifications,
            admin_token_hash,
            silent_ms: config.agent_silent_seconds * 1_000,
            usage_retention_ms: config.operation.usage_retention_days * 86_400_000,
            draining: watch::Sender::new(false),
            metrics: Metrics::new(Clock::system().now_ms()),
            census: Arc::default(),
        });
        metrics::read_app(&app);
        tokio::spawn(follow(app.clone()));
        tokio::spawn(fold(app.clone()));
        tokio::spawn(oauth::follow(app.clone()));
        let closing = watch::Sender::new(false);
        tokio::spawn(expiry::run(app.clone(), closing.subscribe()));
        tokio::spawn(notifications::watch::run(app.clone(), closing.subscribe()));
        tokio::spawn(census::follow(app.clone()));
        let delivering = tokio::spawn(deliver::run(app.clone(), closing.subscribe()));
        let polling = tokio::spawn(polling::run(app.clone(), polling));
        let mut serving = vec![tokio::spawn(listener::serve(
            app.clone(),
            listener,
            tls,
            router(app.clone()),
            closing.subscribe(),
        ))];
        if let Some(listener) = watchers {
            serving.push(tokio::spawn(listener::serve(
                app.clone(),
                listener,
                None,
                watchers_router(app.clone()),
                closing.subscribe(),
            )));
        }
        tracing::info!(%address, tls = config.tls.is_some(), "listening");
        Ok(Self {
            address,
            metrics_address,
            app,
            serving,
            closing,
            drain: Duration::from_secs(config.operation.drain_seconds),
            delivering,
            polling,
        })
    }

    /// Number of polls that are held now.
    pub fn held_polls(&self) -> usize {
        self.app.presence.held()
    }

    /// Ends the backend, in bounded time. First it says so: it is not ready any more, and polls are answered. After
    /// `drainSeconds` no connection is accepted, requests under way are finished, and connections end.
    pub async fn stop(self) {
        self.app.draining.send_replace(true);
        tokio::time::sleep(self.drain).await;
        self.closing.send_replace(true);
        for serving in self.serving {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the listener failed");
            }
        }
        let leave = async {
            if let Err(error) = self.delivering.await {
                tracing::error!(%error, "the delivery of notifications failed");
            }
            if let Err(error) = self.polling.await {
                tracing::error!(%error, "asking agents for their status failed");
            }
            write_presence(&self.app).await;
            self.app.store.close().await;
        };
        if tokio::time::timeout(LEAVE_TIMEOUT, leave).await.is_err() {
            tracing::warn!("the store did not let go in time");
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// What is done all the time. A failing store is tried again at the next turn.
async fn follow(app: Arc<App>) {
    let mut draining = app.draining.subscribe();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written_ms = app.clock.now_ms();
    let mut forgotten_ms = 0;
    loop {
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => return,
            _ = tick.tick() => (),
        }
        let now = app.clock.now_ms();
        if let Err(error) = removal::carry_on(&app).await {
            tracing::warn!(%error, "sessions of removed consumers were not ended");
        }
        if let Err(error) = hear_others(&app, now).await {
            tracing::warn!(%error, "other processes' changes were not looked for");
        }
        if now - forgotten_ms >= FORGET_MS {
            match app.store.forget_usage(now - app.usage_retention_ms).await {
                // One step a turn while there is more.
                Ok(true) => (),
                Ok(false) => forgotten_ms = now,
                Err(error) => tracing::warn!(%error, "old usage records were not removed"),
            }
        }
        if now - written_ms >= FLUSH_MS {
            written_ms = now;
            write_presence(&app).await;
        }
    }
}

/// Keeps the store's log short, apart from all else: it waits for the disk.
async fn fold(app: Arc<App>) {
    let mut draining = app.draining.subscribe();
    loop {
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => return,
            () = tokio::time::sleep(FOLD) => (),
        }
        if let Err(error) = app.store.fold_log().await {
            tracing::warn!(%error, "the store's log was not folded");
        }
    }
}

/// Revisions are at least the time of the change, so what changed lately is one short query for all polls.
async fn hear_others(app: &App, now: i64) -> Result<(), StoreError> {
    if !app.wake.is_idle() {
        for (home, revision) in app.store.homes_above(now - CLOCK_SKEW_MS).await? {
            app.wake.raise(&home, revision);
        }
    }
    Ok(())
}

async fn write_presence(app: &App) {
    let now = app.clock.now_ms();
    let mut held = Vec::new();
    let unwritten = app.presence.take_unwritten(now);
    for (agent, last_ms) in &unwritten {
        if *last_ms == now {
            held.push(agent.as_str());
        } else if let Err(error) = app.store.write_presence(&[agent], *last_ms).await {
            tracing::warn!(%error, agent, "presence was not written");
        }
    }
    if let Err(error) = app.store.write_presence(&held, now).await {
        tracing::warn!(%error, "presence was not written");
    }
}
