//! The tasks that talk to the backend: one holds the long poll, one sends reports. Each blocking call
//! has a thread of its own, and each task waits by itself after an error.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use qod_wire::{Status, Warning};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::backend::{Client, Error, Failure, Poll, RawInstructions};
use crate::backoff::Backoff;
use crate::config::Config;

const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After 401, 403 and 404: somebody must do something first.
const LONGEST_WAIT_UNAUTHORIZED: Duration = Duration::from_secs(600);
const WAIT_DECOMMISSIONED: Duration = Duration::from_secs(3600);

/// What the poll brought.
pub enum News {
    /// A new desired state, read at that boot time.
    Instructions(RawInstructions, Duration),
    /// The agent is decommissioned: everything of its own is to be removed.
    Decommissioned,
    /// What hinders the polls now; `None`: nothing any more.
    Trouble(Option<Warning>),
}

/// The client, made anew when credential files are read again.
pub struct Uplink {
    config: Config,
    client: RwLock<Arc<Client>>,
}

impl Uplink {
    /// Reads the credential files; nothing is sent yet.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        let client = RwLock::new(Arc::new(Client::new(config)?));
        Ok(Arc::new(Self {
            config: config.clone(),
            client,
        }))
    }

    /// Ends every call that is under way.
    pub fn shutdown(&self) {
        self.client().shutdown();
    }

    fn client(&self) -> Arc<Client> {
        // Nothing panics with the lock held; if it did, the value would still be whole.
        self.client
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn reload(&self) {
        match Client::new(&self.config) {
            Ok(client) => {
                let mut held = self
                    .client
                    .write()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                *held = Arc::new(client);
            }
            Err(error) => log::warn!("reading the credentials again: {error}"),
        }
    }

    /// Polls until nobody listens any more.
    pub async fn poll(self: Arc<Self>, news: mpsc::Sender<News>) {
        let mut tag: Option<String> = None;
        let mut backoff = Backoff::default();
        let mut troubled = false;
        let wait = self.config.poll_wait;
        loop {
            let asked = Instant::now();
            let (client, known) = (self.client(), tag.clone());
            let result = blocking(move || client.poll(known.as_deref(), wait)).await;
            let mut pause = Duration::ZERO;
            let heard = match result {
                Ok(Poll::Changed {
                    instructions,
                    tag: new,
                    read_at,
                }) => {
                    backoff.reset();
                    tag = Some(new);
                    news.send(News::Instructions(instructions, read_at)).await
                }
                // A backend that does not hold the poll must not be asked in a circle.
                Ok(Poll::Unchanged) if asked.elapsed() < wait / 2 || wait.is_zero() => {
                    pause = backoff.next(LONGEST_WAIT);
                    Ok(())
                }
                Ok(Poll::Unchanged) => {
                    backoff.reset();
                    Ok(())
                }
                Err(failure) => {
                    pause = self.after(&failure, &mut backoff);
                    log::warn!("{failure}; asking again in {:.1} s", pause.as_secs_f64());
                    troubled = true;
                    let message = match failure {
                        Failure::Gone => News::Decommissioned,
                        failure => News::Trouble(Some(warning(&failure))),
                    };
                    let heard = news.send(message).await;
                    sleep(pause).await;
                    if heard.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let cured = std::mem::take(&mut troubled);
            if heard.is_err() || cured && news.send(News::Trouble(None)).await.is_err() {
                return;
            }
            sleep(pause).await;
        }
    }

    /// Sends the newest report whenever there is a new one; while that fails, older ones are dropped.
    pub async fn report(self: Arc<Self>, mut reports: watch::Receiver<Option<Arc<Status>>>) {
        let mut backoff = Backoff::default();
        while reports.changed().await.is_ok() {
            loop {
                let Some(status) = reports.borrow_and_update().clone() else {
                    break;
                };
                let client = self.client();
                match blocking(move || client.report(&status)).await {
                    Ok(()) => {
                        backoff.reset();
                        break;
                    }
                    Err(failure @ Failure::ReportRefused(_)) => {
                        log::warn!("{failure}");
                        break;
                    }
                    Err(failure) => {
                        let pause = self.after(&failure, &mut backoff);
                        log::warn!(
                            "reporting: {failure}; again in {:.1} s",
                            pause.as_secs_f64()
                        );
                        sleep(pause).await;
                    }
                }
            }
        }
    }

    /// Time to wait after a failure; credentials that were refused are read again meanwhile.
    fn after(&self, failure: &Failure, backoff: &mut Backoff) -> Duration {
        match failure {
            Failure::Unauthorized(_) => {
                self.reload();
                backoff.next(LONGEST_WAIT_UNAUTHORIZED)
            }
            Failure::Gone => WAIT_DECOMMISSIONED,
            Failure::Unreachable {
                retry_after: Some(time),
                ..
            } => (*time).max(backoff.next(LONGEST_WAIT)),
            _ => backoff.next(LONGEST_WAIT),
        }
    }
}

fn warning(failure: &Failure) -> Warning {
    let code = match failure {
        Failure::BadInstructions(_) => "BAD_INSTRUCTIONS",
        Failure::Unauthorized(_) => "UNAUTHORIZED",
        Failure::Clock(_) => "CLOCK",
        Failure::Gone | Failure::ReportRefused(_) | Failure::Unreachable { .. } => {
            "BACKEND_UNREACHABLE"
        }
    };
    Warning {
        code: code.to_owned(),
        message: failure.to_string(),
    }
}

/// Runs a blocking call on a thread.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = |error| Failure::Unreachable {
        what: format!("the call ended before its time: {error}"),
        retry_after: None,
    };
    tokio::task::spawn_blocking(call)
        .await
        .unwrap_or_else(|error| Err(ended(error)))
}
