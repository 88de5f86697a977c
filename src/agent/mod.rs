//! The loop: instructions, an event of the kernel or a timer comes in; the kernel is brought to what is
//! wanted and read back; a report goes out.

mod enqueue;
mod instructed;
mod report;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use qod_wire::{QueueMode, SessionState, SessionStatus, Status, Warning};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock;
use crate::config::Config;
use crate::link::{self, Links, Snapshot, Watch};
use crate::nft::Nft;
use crate::queue::Queues;
use crate::reconcile::{self, Outcome};
use crate::ruleset::{Hook, Kernel};
use crate::status::{Identity, Request};
use crate::uplink::News;
use instructed::Instructed;
use report::{states, warning};

/// Changes are gathered: the first is made at once, then at most one transaction in this time.
const PACE: Duration = Duration::from_millis(100);
/// How often what is rejected is tried again, and the queues looked at.
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
    links: Links,
    watch: Watch,
    queues: Queues,
    identity: Identity,
    reports: watch::Sender<Option<Arc<Status>>>,

    snapshot: Snapshot,
    instructed: Option<Instructed>,
    decommissioned: bool,
    outcome: Option<Outcome>,
    /// As last read back.
    sessions: Vec<SessionStatus>,

    poll_trouble: Option<Warning>,
    trouble: Option<Warning>,
    queue_trouble: Option<Warning>,

    pending: Pending,
    /// No round before this time.
    earliest: Instant,
    next_report: Instant,
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
            nft,
            links,
            watch,
            queues,
            identity,
            reports,
            snapshot: Snapshot::default(),
            instructed: None,
            decommissioned: false,
            outcome: None,
            sessions: Vec::new(),
            poll_trouble: None,
            trouble: None,
            queue_trouble: None,
            pending: Pending {
                links: true,
                queues: true,
                ..Pending::default()
            },
            earliest: now,
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
        loop {
            if self.pending.any() && Instant::now() >= self.earliest {
                self.round().await;
            }
            let wake = self.wake();
            tokio::select! {
                () = &mut stop => return,
                news = news.recv() => match news {
                    Some(news) => self.hear(news).await,
                    None => return,
                },
                changed = self.watch.changed() => self.changed(changed).await,
                Some(request) = requests.recv() => {
                    self.refresh();
                    // Whoever asked may have gone; then nobody needs the answer.
                    let _ = request.send(self.status().await);
                }
                () = sleep_until(wake) => self.tick(),
            }
        }
    }

    async fn hear(&mut self, news: News) {
        match news {
            News::Instructions(raw, read_at) => {
                self.decommissioned = false;
                self.instructed = Some(Instructed::read(raw, read_at, &self.config));
                let links = self.pending.links;
                self.pending = Pending {
                    links,
                    ruleset: true,
                    queues: true,
                    report: true,
                };
            }
            News::Trouble(trouble) => {
                let code = |trouble: &Option<Warning>| trouble.as_ref().map(|t| t.code.clone());
                self.pending.report |= code(&self.poll_trouble) != code(&trouble);
                self.poll_trouble = trouble;
            }
            News::Decommissioned => self.decommission().await,
        }
    }

    async fn changed(&mut self, result: Result<(), link::Error>) {
        self.pending.links = true;
        let Err(error) = result else { return };
        log::error!("{error}; listening anew");
        match Watch::new() {
            Ok(watch) => self.watch = watch,
            // What keeps it from being opened may pass; until then, not in a circle.
            Err(_) => sleep(RETRY).await,
        }
    }

    /// Removes everything that is the agent's.
    async fn decommission(&mut self) {
        if !self.decommissioned {
            log::warn!("decommissioned: removing all marks and queues");
        }
        self.decommissioned = true;
        self.instructed = None;
        self.outcome = None;
        self.sessions.clear();
        if let Err(error) = self.nft.clear() {
            log::error!("removing the table: {error}");
        }
        if let Err(error) = self.queues.remove_all().await {
            log::error!("removing the queues: {error}");
        }
    }

    /// When something is to be done though nothing happens.
    fn wake(&self) -> Instant {
        let mut wake = self.next_report;
        if self.pending.any() {
            wake = wake.min(self.earliest);
        }
        let now = clock::now();
        // A session that ended within the margin is still to be looked at.
        let since = now.saturating_sub(MARGIN);
        if let Some(end) = self.instructed.as_ref().and_then(|i| i.next_end(since)) {
            wake = wake.min(Instant::now() + (end + MARGIN).saturating_sub(now));
        }
        if self.is_troubled() {
            wake = wake.min(self.earliest + RETRY);
        }
        wake
    }

    fn is_troubled(&self) -> bool {
        let rejected = |s: &SessionStatus| s.state == SessionState::Rejected;
        self.trouble.is_some() || self.queue_trouble.is_some() || self.sessions.iter().any(rejected)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.pending.ruleset = true;
        self.pending.report |= now >= self.next_report;
        self.pending.queues |= self.is_troubled() && now >= self.earliest + RETRY;
    }

    /// One round: look, change, read back, report.
    async fn round(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        if pending.links && self.look().await {
            pending.ruleset = true;
            pending.queues = true;
        }
        let before = states(&self.sessions);
        if pending.ruleset {
            self.reconcile();
        }
        self.earliest = Instant::now() + PACE;
        if pending.queues && !self.decommissioned {
            self.enqueue().await;
        }
        if pending.report || before != states(&self.sessions) {
            if !pending.ruleset {
                self.refresh();
            }
            self.report().await;
        }
    }

    /// Whether ports or the WAN device are not as before.
    async fn look(&mut self) -> bool {
        let snapshot = match self.links.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                log::error!("{error}");
                self.trouble = Some(warning("KERNEL", &error));
                return false;
            }
        };
        for device in &snapshot.missing {
            if !self.snapshot.missing.contains(device) {
                log::warn!("there is no device {device} yet; waiting for it");
            }
        }
        let changed = self.snapshot != snapshot;
        self.snapshot = snapshot;
        changed
    }

    fn reconcile(&mut self) {
        let hooks = self.hooks();
        let Some(instructed) = &self.instructed else {
            return;
        };
        let wanted = instructed.wanted(&hooks, &self.config);
        let trouble = match reconcile::reconcile(&mut self.nft, &wanted, clock::now) {
            Ok(outcome) => {
                self.sessions = outcome.sessions(&wanted, clock::now());
                let trouble = outcome.trouble().map(|trouble| warning("KERNEL", &trouble));
                self.outcome = Some(outcome);
                trouble
            }
            Err(error) => Some(warning("KERNEL", &error)),
        };
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            log::error!("{}", trouble.message);
        }
        self.trouble = trouble;
    }

    /// Where packets are to meet the table: both sides of every LAN port, and the WAN's egress where
    /// there are queues.
    fn hooks(&self) -> BTreeSet<Hook> {
        let ports = self.snapshot.ports.iter().map(|port| port.name.clone());
        let mut hooks: BTreeSet<Hook> = ports
            .flat_map(|name| [Hook::Up(name.clone()), Hook::Down(name)])
            .collect();
        if let (Some(wan), QueueMode::Auto) = (&self.snapshot.wan, self.queue_mode()) {
            hooks.insert(Hook::Out(wan.name.clone()));
        }
        hooks
    }
}
