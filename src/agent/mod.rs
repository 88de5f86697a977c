//! The loop: instructions, an event of the kernel or a timer comes in; the kernel is brought to what is
//! wanted and read back; a report goes out.

mod enqueue;
mod instructed;
mod marks;
mod offload;
mod report;

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use qod_wire::{SessionState, SessionStatus, Status, Warning};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::config::Config;
use crate::flow::Match;
use crate::link::{self, Links, Snapshot, Watch};
use crate::nft::{self, Monitor, Nft};
use crate::plan;
use crate::queue::Queues;
use crate::reconcile::Outcome;
use crate::ruleset::{Changes, Held, Kernel};
use crate::status::{Identity, Request};
use crate::uplink::News;
use instructed::Instructed;
use report::{SessionSummary, states};

/// Changes are gathered: the first is made at once, then at most one transaction in this time.
const PACE: Duration = Duration::from_millis(100);
/// How often what went wrong, or is rejected, is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Behind a session's end, by when the kernel has removed its elements.
const MARGIN: Duration = Duration::from_millis(20);

/// The parts of which an agent is made.
pub struct Parts {
    /// What the file says.
    pub config: Config,
    /// The marks.
    pub nft: Nft,
    /// The ports and the WAN device.
    pub links: Links,
    /// Says when the links should be looked at.
    pub watch: Watch,
    /// The queues.
    pub queues: Queues,
    /// Signs the reports.
    pub identity: Identity,
    /// Takes the newest report to the backend.
    pub reports: watch::Sender<Option<Arc<Status>>>,
}

/// The running agent.
pub struct Agent {
    config: Config,
    nft: Nft,
    /// None: it broke, and is opened anew with the next retry.
    monitor: Option<Monitor>,
    links: Links,
    /// None: it broke, and is opened anew with the next retry.
    watch: Option<Watch>,
    queues: Queues,
    identity: Identity,
    reports: watch::Sender<Option<Arc<Status>>>,

    snapshot: Snapshot,
    /// Heard, and not yet applied.
    next: Option<Instructed>,
    /// Applied: what reports speak of.
    instructed: Option<Instructed>,
    /// Everything of the agent's is to be removed, or has been.
    decommissioned: Option<Removal>,
    outcome: Option<Outcome>,
    /// Whether packets meet the table, as last read back.
    attached: bool,
    /// The elements as last read back: what they counted outlives them.
    remembered: BTreeMap<Match, Held>,
    /// As last read back.
    sessions: Vec<SessionStatus>,
    /// What the backend was last told of them.
    reported: Vec<SessionSummary>,
    troubles: Troubles,

    pending: Pending,
    /// No round before this time.
    earliest: Instant,
    /// When what went wrong is tried again.
    retry: Instant,
    next_report: Instant,
    /// When the ruleset was last looked at.
    looked: Instant,
}

/// How far a removal of everything has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    Pending,
    Done,
}

/// What an engineer should know, by where it comes from.
#[derive(Default)]
struct Troubles {
    poll: Option<Warning>,
    links: Option<Warning>,
    ruleset: Option<Warning>,
    queues: Option<Warning>,
    offload: Option<Warning>,
}

impl Troubles {
    fn all(&self) -> impl Iterator<Item = &Warning> {
        [
            &self.poll,
            &self.links,
            &self.ruleset,
            &self.queues,
            &self.offload,
        ]
        .into_iter()
        .flatten()
    }

    /// Whether the agent itself can try something again.
    fn retryable(&self) -> bool {
        self.links.is_some() || self.ruleset.is_some() || self.queues.is_some()
    }
}

/// What is to be done in the next round.
#[derive(Clone, Copy, Default)]
struct Pending {
    /// Ports or the WAN device may have changed.
    links: bool,
    /// Instructions, links or time changed what the ruleset should be.
    ruleset: bool,
    /// The queues should be looked at.
    queues: bool,
    /// A report is owed whatever comes out.
    report: bool,
}

impl Pending {
    const ALL: Self = Self {
        links: true,
        ruleset: true,
        queues: true,
        report: true,
    };

    fn any(self) -> bool {
        self.links || self.ruleset || self.queues || self.report
    }
}

impl Agent {
    /// Puts the parts together; nothing is changed yet.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            config,
            nft,
            links,
            watch,
            queues,
            identity,
            reports,
        } = parts;
        let now = Instant::now();
        Self {
            next_report: now + config.report_interval,
            config,
            monitor: None,
            nft,
            links,
            watch: Some(watch),
            queues,
            identity,
            reports,
            snapshot: Snapshot::default(),
            next: None,
            instructed: None,
            decommissioned: None,
            outcome: None,
            attached: false,
            remembered: BTreeMap::new(),
            sessions: Vec::new(),
            reported: Vec::new(),
            troubles: Troubles::default(),
            pending: Pending {
                links: true,
                ruleset: true,
                ..Pending::default()
            },
            earliest: now,
            retry: now + RETRY,
            looked: now,
        }
    }

    /// Runs until `stop` is ready. What is in the kernel then stays there.
    pub async fn run(
        mut self,
        mut news: mpsc::Receiver<News>,
        mut requests: mpsc::Receiver<Request>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        self.listen();
        self.look_for_offload();
        loop {
            if self.pending.any() && Instant::now() >= self.earliest {
                self.round().await;
            }
            let wake = self.wake();
            tokio::select! {
                () = &mut stop => return,
                news = news.recv() => match news {
                    Some(news) => self.hear(news),
                    None => return,
                },
                result = changed(&mut self.watch) => self.links_changed(result),
                result = touched(&mut self.monitor) => self.touched(result),
                Some(request) = requests.recv() => {
                    self.refresh();
                    // Whoever asked may have gone; then nobody needs the answer.
                    let _ = request.send(self.status().await);
                }
                () = sleep_until(wake) => self.tick(),
            }
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Instructions(raw, read_at) => {
                self.decommissioned = None;
                self.next = Some(Instructed::read(raw, read_at, &self.config));
                let links = self.pending.links;
                self.pending = Pending {
                    links,
                    ..Pending::ALL
                };
            }
            News::Trouble(trouble) => {
                let code = |trouble: &Option<Warning>| trouble.as_ref().map(|t| t.code.clone());
                self.pending.report |= code(&self.troubles.poll) != code(&trouble);
                self.troubles.poll = trouble;
            }
            News::Decommissioned => {
                self.next = None;
                self.decommissioned = Some(Removal::Pending);
                self.pending.ruleset = true;
                let what =
                    "the backend says that this agent is decommissioned; it is asked every hour";
                self.troubles.poll = Some(Warning::new("DECOMMISSIONED", what));
            }
        }
    }

    fn links_changed(&mut self, result: Result<(), link::Error>) {
        self.pending.links = true;
        if let Err(error) = result {
            log::error!("{error}");
            self.watch = None;
            self.troubles.links = Some(Warning::new("KERNEL", error));
        }
    }

    /// When something is to be done though nothing happens.
    fn wake(&self) -> Instant {
        if self.pending.any() {
            return self.earliest;
        }
        // Leases are renewed long before they end, however rare reports are.
        let mut wake = self.next_report.min(self.looked + plan::LEASE / 4);
        let now = clock::now();
        // A session that ended within the margin is still to be looked at.
        let since = now.saturating_sub(MARGIN);
        if let Some(end) = self.instructed.as_ref().and_then(|i| i.next_end(since)) {
            wake = wake.min(Instant::now() + (end + MARGIN).saturating_sub(now));
        }
        if self.wants_retry() {
            wake = wake.min(self.retry);
        }
        wake
    }

    fn wants_retry(&self) -> bool {
        let rejected = |s: &SessionStatus| s.state == SessionState::Rejected;
        self.troubles.retryable()
            || self.decommissioned == Some(Removal::Pending)
            || self.sessions.iter().any(rejected)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.pending.ruleset = true;
        self.pending.report |= now >= self.next_report;
        if self.wants_retry() && now >= self.retry {
            self.retry = now + RETRY;
            self.pending.queues = true;
            self.pending.links |= self.troubles.links.is_some();
            self.listen();
        }
    }

    /// One round: look, change, read back, report.
    async fn round(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        self.earliest = Instant::now() + PACE;
        if self.decommissioned.is_some() {
            self.remove().await;
            return;
        }
        if pending.links && self.look().await {
            pending.ruleset = true;
            pending.queues = true;
        }
        if let Some(next) = self.next.take() {
            self.instructed = Some(next);
        }
        if pending.ruleset {
            self.reconcile();
        }
        self.earliest = Instant::now() + PACE;
        // What an earlier run left there stays as it is until the backend has spoken.
        if pending.queues && self.instructed.is_some() {
            self.enqueue().await;
        }
        if pending.report || self.reported != states(&self.sessions) {
            if !pending.ruleset {
                self.refresh();
            }
            self.report().await;
        }
    }

    /// Removes everything that is the agent's.
    async fn remove(&mut self) {
        if self.decommissioned == Some(Removal::Done) {
            return;
        }
        log::warn!("decommissioned: removing all marks and queues");
        self.instructed = None;
        self.outcome = None;
        self.attached = false;
        self.remembered.clear();
        self.sessions.clear();
        self.troubles = Troubles {
            poll: self.troubles.poll.take(),
            offload: self.troubles.offload.take(),
            ..Troubles::default()
        };
        let table = self.nft.commit(&Changes::clear());
        let queues = self.queues.remove_all().await;
        if let Err(error) = &table {
            log::error!("removing the table: {error}");
        }
        if let Err(error) = &queues {
            log::error!("removing the queues: {error}");
        }
        if table.is_ok() && queues.is_ok() {
            self.decommissioned = Some(Removal::Done);
        }
    }

    /// Whether ports or the WAN device are not as before.
    async fn look(&mut self) -> bool {
        if self.watch.is_none() {
            self.watch = Watch::new().ok();
        }
        let snapshot = match self.links.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                log::error!("{error}");
                self.troubles.links = Some(Warning::new("KERNEL", error));
                return false;
            }
        };
        if self.watch.is_some() {
            self.troubles.links = None;
        }
        for device in &snapshot.missing {
            if !self.snapshot.missing.contains(device) {
                log::warn!("there is no device {device} yet; waiting for it");
            }
        }
        let changed = self.snapshot != snapshot;
        self.snapshot = snapshot;
        changed
    }
}

/// The next event of the links; never, while nobody listens to them.
async fn changed(watch: &mut Option<Watch>) -> Result<(), link::Error> {
    match watch {
        Some(watch) => watch.changed().await,
        None => pending().await,
    }
}

/// The next change of the agent's tables by somebody else; never, while nobody listens.
async fn touched(monitor: &mut Option<Monitor>) -> Result<(), nft::Error> {
    match monitor {
        Some(monitor) => monitor.changed().await,
        None => pending().await,
    }
}
