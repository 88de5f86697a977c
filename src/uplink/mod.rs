//! The tasks that talk to the backend: one holds the long poll, one sends reports. Each blocking call
//! has a thread of its own, and each task waits by itself after an error.

mod poll;
mod report;
#[cfg(test)]
mod tests;
mod trouble;

use std::mem;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use log::Level;
use qod_wire::Warning;
use tokio::sync::Notify;

use crate::backend::{Client, Failure, RawInstructions};
use crate::backoff::Backoff;
use crate::config::{Config, Error};
use trouble::{Task, Trouble};

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
    /// A poll got through after one that did not.
    answers_again: Notify,
    /// The way to the backend is another one.
    moved: Notify,
    trouble: Mutex<Trouble>,
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
            answers_again: Notify::new(),
            moved: Notify::new(),
            trouble: Mutex::default(),
        }))
    }

    /// Ends every call that is under way.
    pub fn shutdown(&self) {
        self.client().shutdown();
    }

    /// The router's way to the internet is another one. A call that waits for its answer may wait in vain: NAT and
    /// firewall forget connections when a device goes, and then refuse what the backend sends, unseen by this side.
    pub fn moved(&self) {
        match self.reload() {
            Ok(old) => {
                old.shutdown();
                self.moved.notify_waiters();
            }
            // The calls then end by their limits.
            Err(error) => log::debug!("reading the credentials again: {error}"),
        }
    }

    fn client(&self) -> Arc<Client> {
        // Nothing panics with the lock held; if it did, the value would still be whole.
        let held = self.client.read();
        held.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credential files again, and returns the client of before. Until they can be used, that one stays.
    fn reload(&self) -> Result<Arc<Client>, Error> {
        let client = Arc::new(Client::new(&self.config)?);
        let mut held = self.client.write().unwrap_or_else(PoisonError::into_inner);
        Ok(mem::replace(&mut *held, client))
    }

    /// At which level a trouble is to be logged.
    fn level(&self, task: Task, text: &str) -> Level {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.level(task, text)
    }

    fn all_is_well(&self, task: Task) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.end(task);
    }

    /// Reads the credential files again where the two sides do not accept each other.
    fn renew_credentials(&self, task: Task, failure: &Failure) {
        // With a client certificate a refusal is an alert of TLS, not an answer.
        if let Failure::Unauthorized(_) | Failure::Tls(_) = failure
            && let Err(error) = self.reload()
        {
            let text = format!("reading the credentials again: {error}");
            log::log!(self.level(task, &text), "{text}");
        }
    }
}

/// Time to wait after a failure.
fn pause_after(failure: &Failure, backoff: &mut Backoff) -> Duration {
    match failure {
        Failure::Unauthorized(_) => backoff.next(LONGEST_WAIT_UNAUTHORIZED),
        Failure::Gone => WAIT_DECOMMISSIONED,
        Failure::Unreachable {
            retry_after: Some(time),
            ..
        } => (*time).max(backoff.next(LONGEST_WAIT)),
        _ => backoff.next(LONGEST_WAIT),
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
