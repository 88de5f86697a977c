//! The loop: instructions, an event of the kernel or a timer comes in; the kernel is brought to what is
//! wanted and read back; a report goes out.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use qod_wire::{Link, QueueMode, SessionState, SessionStatus, Status, WanStatus, Warning};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::backend::RawInstructions;
use crate::clock;
use crate::config::Config;
use crate::link::{self, Links, Snapshot, Watch};
use crate::nft::Nft;
use crate::queue::{Queues, Root, Shaper};
use crate::reconcile::{self, Outcome, Wanted};
use crate::ruleset::{Hook, Kernel};
use crate::session::{self, Entry};
use crate::status::{Identity, Report, Request};
use crate::uplink::News;

/// Changes are gathered: the first is made at once, then at most one transaction in this time.
const PACE: Duration = Duration::from_millis(100);
/// How often what is rejected is tried again, and the queues looked at.
const RETRY: Duration = Duration::from_secs(30);
/// Behind a session's end, by when the kernel has removed its elements.
const MARGIN: Duration = Duration::from_millis(20);

/// What the instructions in force ask for.
struct Instructed {
    revision: u64,
    entries: Vec<Entry>,
    link: Link,
    queues: QueueMode,
    nameless: Vec<String>,
}

impl Instructed {
    fn wanted<'a>(&'a self, hooks: &'a BTreeSet<Hook>, config: &Config) -> Wanted<'a> {
        Wanted {
            entries: &self.entries,
            hooks,
            max_sessions: config.max_sessions,
        }
    }
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
    outcome: Option<Outcome>,
    /// As last read back.
    sessions: Vec<SessionStatus>,
    poll_trouble: Option<Warning>,
    trouble: Option<Warning>,
    queue_trouble: Option<Warning>,
    pending: Pending,
    earliest: Instant,
    next_report: Instant,
}

/// What is to be done in the next round.
#[derive(Clone, Copy, Default)]
struct Pending {
    /// Ports or the WAN device changed.
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
    pub fn new(
        config: Config,
        nft: Nft,
        links: Links,
        watch: Watch,
        queues: Queues,
        identity: Identity,
        reports: watch::Sender<Option<Arc<Status>>>,
    ) -> Self {
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
                self.instructed = Some(instructed(raw, read_at, &self.config));
                self.pending = Pending {
                    ruleset: true,
                    queues: true,
                    report: true,
                    ..self.pending
                };
            }
            News::Trouble(trouble) => {
                let same = |a: &Warning, b: &Warning| a.code == b.code;
                let changed = match (&self.poll_trouble, &trouble) {
                    (Some(a), Some(b)) => !same(a, b),
                    (a, b) => a.is_some() != b.is_some(),
                };
                self.poll_trouble = trouble;
                self.pending.report |= changed;
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
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }

    /// Removes everything that is the agent's.
    async fn decommission(&mut self) {
        log::warn!("decommissioned: removing all marks and queues");
        self.instructed = None;
        self.outcome = None;
        self.sessions.clear();
        self.pending = Pending::default();
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
        if let Some(instructed) = &self.instructed {
            let now = clock::now();
            let ends = instructed
                .entries
                .iter()
                .filter_map(|e| e.session.as_ref().ok()?.ends);
            // A session that is over already has been dealt with.
            if let Some(end) = ends.filter(|end| *end + MARGIN > now).min() {
                wake = wake.min(Instant::now() + (end + MARGIN).saturating_sub(now));
            }
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
        if now >= self.next_report {
            self.pending.report = true;
        }
        self.pending.ruleset = self.instructed.is_some();
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
        if pending.queues {
            self.enqueue().await;
        }
        if pending.report || before != states(&self.sessions) {
            self.report().await;
        }
    }

    /// Whether ports or the WAN device are not as before.
    async fn look(&mut self) -> bool {
        match self.links.snapshot().await {
            Ok(snapshot) => {
                for device in &snapshot.missing {
                    if !self.snapshot.missing.contains(device) {
                        log::warn!("there is no device {device} yet; waiting for it");
                    }
                }
                let changed = self.snapshot != snapshot;
                self.snapshot = snapshot;
                changed
            }
            Err(error) => {
                log::error!("{error}");
                self.trouble = Some(warn("KERNEL", &error));
                false
            }
        }
    }

    fn reconcile(&mut self) {
        let Some(instructed) = &self.instructed else {
            return;
        };
        let hooks = hooks(&self.snapshot, self.queue_mode());
        let wanted = instructed.wanted(&hooks, &self.config);
        match reconcile::reconcile(&mut self.nft, &wanted, clock::now) {
            Ok(outcome) => {
                self.sessions = outcome.sessions(&wanted, clock::now());
                self.trouble = outcome.trouble().map(|trouble| warn("KERNEL", &trouble));
                self.outcome = Some(outcome);
            }
            Err(error) => self.trouble = Some(warn("KERNEL", &error)),
        }
        if let Some(trouble) = &self.trouble {
            log::error!("{}", trouble.message);
        }
    }

    fn queue_mode(&self) -> QueueMode {
        self.instructed
            .as_ref()
            .map_or(self.config.queues, |instructed| instructed.queues)
    }

    async fn enqueue(&mut self) {
        let Some(wan) = &self.snapshot.wan else {
            self.queue_trouble = None;
            return;
        };
        let link = self
            .instructed
            .as_ref()
            .map_or(self.config.link, |instructed| instructed.link);
        let result = match self.queue_mode() {
            QueueMode::Off => self.queues.remove(&wan.name).await.map(|()| None),
            QueueMode::Auto => {
                let shaper = Shaper {
                    device: wan.name.clone(),
                    upstream_kbps: link.upstream_kbps,
                };
                self.queues.apply(&shaper).await.map(Some)
            }
        };
        self.queue_trouble = match result {
            Ok(None | Some(Root::Ours { .. })) => None,
            Ok(Some(Root::Foreign { kind })) => Some(warn(
                "FOREIGN_QDISC",
                &format!(
                    "{} has a root qdisc of its own, {kind}: it is kept, and gives sessions no priority",
                    wan.name
                ),
            )),
            Ok(Some(Root::Unsupported)) => Some(warn(
                "NO_QUEUE",
                &"this kernel has no HTB (kmod-sched-core on OpenWrt)",
            )),
            Err(error) => Some(warn("NO_QUEUE", &error)),
        };
        if let Some(trouble) = &self.queue_trouble {
            log::warn!("{}", trouble.message);
        }
    }

    async fn report(&mut self) {
        self.next_report = Instant::now() + self.config.report_interval;
        let status = Arc::new(self.status().await);
        // The reporting task ends with the agent, so somebody listens.
        let _ = self.reports.send(Some(status));
    }

    /// The status as the kernel is at this moment.
    async fn status(&mut self) -> Status {
        // Counters and ends move by themselves; what is wanted does not.
        self.refresh();
        let mut queues = Vec::new();
        if let Some(wan) = &self.snapshot.wan {
            match self.queues.status(&wan.name).await {
                Ok(status) => queues.extend(status),
                Err(error) => log::warn!("{error}"),
            }
        }
        let attached = self
            .outcome
            .as_ref()
            .is_some_and(|o| !o.held().hooks.is_empty());
        self.identity.sign(Report {
            revision: self
                .instructed
                .as_ref()
                .map(|instructed| instructed.revision),
            placement: attached.then(|| "netdev".to_owned()),
            sessions: self.sessions.clone(),
            queues,
            wan: self.wan(),
            devices: Vec::new(),
            warnings: self.warnings(),
        })
    }

    fn refresh(&mut self) {
        let (Some(instructed), Some(outcome)) = (&self.instructed, &mut self.outcome) else {
            return;
        };
        match self.nft.observe() {
            Ok(held) => outcome.refresh(held),
            Err(error) => self.trouble = Some(warn("KERNEL", &error)),
        }
        let hooks = hooks(&self.snapshot, instructed.queues);
        let wanted = instructed.wanted(&hooks, &self.config);
        self.sessions = outcome.sessions(&wanted, clock::now());
    }

    fn wan(&self) -> Option<WanStatus> {
        let wan = self.snapshot.wan.as_ref()?;
        let prefixes = self.snapshot.prefixes.iter();
        Some(WanStatus {
            device: wan.name.clone(),
            addresses: wan.addresses.iter().map(ToString::to_string).collect(),
            prefixes: prefixes
                .map(|(first, length)| format!("{first}/{length}"))
                .collect(),
        })
    }

    fn warnings(&self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = [&self.poll_trouble, &self.trouble, &self.queue_trouble]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        for device in &self.snapshot.missing {
            let is_wan = self.config.wan.as_ref() == Some(device);
            let code = if is_wan { "NO_WAN" } else { "NO_LAN" };
            warnings.push(warn(code, &format!("there is no device {device}")));
        }
        if let Some(instructed) = &self.instructed {
            warnings.extend(
                instructed
                    .nameless
                    .iter()
                    .map(|what| warn("BAD_INSTRUCTIONS", what)),
            );
        }
        warnings
    }
}

fn instructed(raw: RawInstructions, read_at: Duration, config: &Config) -> Instructed {
    let (entries, nameless) = session::read(&raw.sessions, read_at);
    for what in &nameless {
        log::warn!("{what}");
    }
    Instructed {
        revision: raw.revision,
        entries,
        link: raw.link.unwrap_or(config.link),
        queues: raw.queues.unwrap_or(config.queues),
        nameless,
    }
}

/// Where packets meet the table: both sides of every LAN port, and the WAN's egress where there are queues.
fn hooks(snapshot: &Snapshot, queues: QueueMode) -> BTreeSet<Hook> {
    let ports = snapshot.ports.iter().map(|port| port.name.clone());
    let mut hooks: BTreeSet<Hook> = ports
        .flat_map(|name| [Hook::Up(name.clone()), Hook::Down(name)])
        .collect();
    if let (Some(wan), QueueMode::Auto) = (&snapshot.wan, queues) {
        hooks.insert(Hook::Out(wan.name.clone()));
    }
    hooks
}

/// What a backend is told at once when it changes.
fn states(sessions: &[SessionStatus]) -> Vec<(String, SessionState, Option<qod_wire::RejectCode>)> {
    sessions
        .iter()
        .map(|s| (s.session_id.clone(), s.state, s.code))
        .collect()
}

fn warn(code: &str, message: &dyn std::fmt::Display) -> Warning {
    Warning {
        code: code.to_owned(),
        message: message.to_string(),
    }
}
