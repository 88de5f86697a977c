//! The loop: instructions, an event of the kernel or a timer comes in; the kernel is brought to what is
//! wanted and read back; a report goes out.

mod devices;
mod enqueue;
mod instructed;
mod marks;
mod offload;
mod report;
mod round;

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
use crate::link::{self, Changed, Links, Snapshot, Watch};
use crate::nft::{self, Monitor, Nft};
use crate::plan;
use crate::queue::Queues;
use crate::reconcile::Outcome;
use crate::ruleset::Held;
use crate::status::{Identity, Request};
use crate::uplink::{News, Uplink};
use devices::Devices;
use instructed::Instructed;
use report::SessionSummary;

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
    /// Is told when the way to the backend changes.
    pub uplink: Arc<Uplink>,
}

/// The running agent.
pub struct Agent {
    config: Config,
    nft: Nft,
    /// None: it broke, or there is no nf_tables yet; it is opened with the next retry.
    monitor: Option<Monitor>,
    links: Links,
    /// None: it broke, and is opened anew with the next retry.
    watch: Option<Watch>,
    queues: Queues,
    identity: Identity,
    reports: watch::Sender<Option<Arc<Status>>>,
    uplink: Arc<Uplink>,

    snapshot: Snapshot,
    devices: Devices,
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
    /// When the ruleset was last looked at, on the boot-time clock.
    looked: Duration,
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

    /// Whether the queues work, without what the kernel does not have. Some never will.
    fn has_incomplete_queues(&self) -> bool {
        let queues = self.queues.as_ref();
        queues.is_some_and(|trouble| trouble.code == enqueue::INCOMPLETE)
    }

    /// Whether the agent itself can try something again.
    fn retryable(&self) -> bool {
        let queues = self.queues.is_some() && !self.has_incomplete_queues();
        self.links.is_some() || self.ruleset.is_some() || queues
    }
}

/// What is to be done in the next round.
#[derive(Clone, Copy, Default)]
struct Pending {
    /// Ports or the WAN device may have changed.
    links: bool,
    /// Devices may have come, gone or moved.
    neighbours: bool,
    /// Instructions, links, devices or time changed what the ruleset should be.
    ruleset: bool,
    /// The queues should be looked at.
    queues: bool,
    /// A report is owed whatever comes out.
    report: bool,
}

impl Pending {
    const ALL: Self = Self {
        links: true,
        neighbours: true,
        ruleset: true,
        queues: true,
        report: true,
    };

    fn any(self) -> bool {
        self.links || self.neighbours || self.ruleset || self.queues || self.report
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
            uplink,
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
            uplink,
            snapshot: Snapshot::default(),
            devices: Devices::default(),
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
            looked: clock::now(),
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
                result = changed(&mut self.watch) => self.changed(result),
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
                let Pending {
                    links, neighbours, ..
                } = self.pending;
                self.pending = Pending {
                    links,
                    neighbours,
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

    fn changed(&mut self, result: Result<Changed, link::Error>) {
        match result {
            Ok(changed) => {
                self.pending.links |= changed.links;
                self.pending.neighbours |= changed.neighbours;
                self.pending.queues |= changed.queues;
            }
            Err(error) => {
                log::error!("{error}");
                self.watch = None;
                self.pending.links = true;
                self.troubles.links = Some(Warning::new("KERNEL", error));
            }
        }
    }

    /// When something is to be done though nothing happens.
    fn wake(&self) -> Instant {
        if self.pending.any() {
            return self.earliest;
        }
        let now = clock::now();
        // Leases are renewed long before they end, however rare reports are.
        let renewal = Instant::now() + (self.looked + plan::LEASE / 4).saturating_sub(now);
        let mut wake = self.next_report.min(renewal);
        // An end that had not passed, with its margin, when the ruleset was looked at is still to be seen:
        // also if what was done since took longer than that.
        let seen = self.looked.saturating_sub(MARGIN);
        if let Some(end) = self.instructed.as_ref().and_then(|i| i.next_end(seen)) {
            wake = wake.min(Instant::now() + (end + MARGIN).saturating_sub(now));
        }
        if let Some(end) = self.devices.deadline() {
            wake = wake.min(Instant::now() + end.saturating_sub(now));
        }
        if self.wants_retry() {
            wake = wake.min(self.retry);
        }
        wake
    }

    fn wants_retry(&self) -> bool {
        let rejected = |s: &SessionStatus| s.state == SessionState::Rejected;
        self.troubles.retryable()
            // What was wrong with the ruleset may be over before somebody listens to it again.
            || self.monitor.is_none()
            || self.decommissioned == Some(Removal::Pending)
            || self.sessions.iter().any(rejected)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let due = now >= self.retry;
        self.pending.ruleset = true;
        if now >= self.next_report {
            self.pending.report = true;
            // Not between: a kernel that lacks it is not to wake up for that alone. And not with every report: the
            // kernel asks for the module each time, and all else waits for that.
            if due && self.troubles.has_incomplete_queues() {
                self.retry = now + RETRY;
                self.pending.queues = true;
                self.queues.look_again();
            }
        }
        // Who is waited for no longer is looked for once more first.
        self.pending.neighbours |= self
            .devices
            .deadline()
            .is_some_and(|end| end <= clock::now());
        if due && self.wants_retry() {
            self.retry = now + RETRY;
            self.pending.queues = true;
            self.queues.look_again();
            self.pending.neighbours = true;
            self.devices.ask_again();
            self.pending.links |= self.troubles.links.is_some();
            self.listen();
        }
    }
}

/// The next event of the links; never, while nobody listens to them.
async fn changed(watch: &mut Option<Watch>) -> Result<Changed, link::Error> {
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
