//! Sessions by state, and agents: what only a look at the whole store tells.
//!
//! It is counted in the background while somebody scrapes, page by page, and rests 20 times as long as it took. So
//! a scrape costs the same with ten sessions and with 100,000, and nobody pays who does not scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::qod::QosStatus;
use crate::qod::response;
use crate::server::App;
use crate::store::StoreError;

/// Shortest rest between two counts.
const REST: Duration = Duration::from_secs(2);
/// After this many counts that nobody asked for, none are made until somebody asks.
const UNASKED: u32 = 30;
/// Homes, or agents, that are read at once.
const PAGE: i64 = 500;
/// Longest wait of a scrape for the first count.
const FIRST: Duration = Duration::from_secs(2);

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    requested: i64,
    available: i64,
    unavailable: i64,
    provisioned: i64,
    connected: i64,
    silent: i64,
    waiting: i64,
    at_ms: i64,
}

/// The last count, and whether another one is wanted.
#[derive(Debug)]
pub struct Census {
    latest: watch::Sender<Option<Counts>>,
    asked: AtomicBool,
    wake: Notify,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            latest: watch::Sender::new(None),
            asked: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }
}

impl Census {
    /// Asks for counts from now on, and waits a moment for the first one.
    pub async fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.wake.notify_one();
        let mut latest = self.latest.subscribe();
        // Without a count its gauges are absent.
        let _ = tokio::time::timeout(FIRST, latest.wait_for(Option::is_some)).await;
    }
}

/// Counts as long as it is wanted, until the process is about to end.
pub async fn follow(app: Arc<App>) {
    let mut draining = app.draining.subscribe();
    tokio::select! {
        _ = draining.wait_for(|draining| *draining) => (),
        () = count_when_asked(&app) => (),
    }
}

async fn count_when_asked(app: &App) {
    loop {
        app.census.wake.notified().await;
        let mut unasked = 0;
        while unasked < UNASKED {
            let began = Instant::now();
            match count(app).await {
                Ok(counts) => {
                    app.census.latest.send_replace(Some(counts));
                }
                Err(error) => tracing::warn!(%error, "sessions and agents were not counted"),
            }
            tokio::time::sleep(REST.max(began.elapsed() * 20)).await;
            unasked = if app.census.asked.swap(false, Ordering::Relaxed) {
                0
            } else {
                unasked + 1
            };
        }
    }
}

async fn count(app: &App) -> Result<Counts, StoreError> {
    let mut counts = Counts {
        at_ms: app.clock.now_ms(),
        waiting: app.store.outbox_depth().await?,
        ..Counts::default()
    };
    let mut after = String::new();
    while let Some(page) = app.store.census_page(&after, PAGE, counts.at_ms).await? {
        for session in &page.sessions {
            let agents = page
                .agents
                .get(&session.home)
                .map_or(&[][..], Vec::as_slice);
            let (status, _) = response::judge(
                app,
                &session.id,
                session.added_revision,
                session.created_ms,
                agents,
            );
            match status {
                QosStatus::Requested => counts.requested += 1,
                QosStatus::Available => counts.available += 1,
                QosStatus::Unavailable => counts.unavailable += 1,
            }
        }
        after = page.last;
    }
    let mut after = String::new();
    loop {
        let agents = app.store.last_polls(&after, PAGE).await?;
        for (agent, last_poll_ms) in &agents {
            counts.provisioned += 1;
            counts.connected += i64::from(app.is_connected(agent, *last_poll_ms));
            counts.silent += i64::from(app.is_silent(agent, *last_poll_ms, 0));
        }
        match agents.last() {
            Some((last, _)) => after.clone_from(last),
            None => return Ok(counts),
        }
    }
}

/// Shows the last count.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Arc<Census>);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(counts) = *self.0.latest.borrow() else {
            return Ok(());
        };
        let mut sessions = encoder.encode_descriptor(
            "sessions",
            "Sessions of all homes, by qosStatus",
            None,
            MetricType::Gauge,
        )?;
        for (status, value) in [
            ("REQUESTED", counts.requested),
            ("AVAILABLE", counts.available),
            ("UNAVAILABLE", counts.unavailable),
        ] {
            let labels = [("qos_status", status)];
            ConstGauge::new(value).encode(sessions.encode_family(&labels)?)?;
        }
        for (name, help, value) in [
            (
                "agents_provisioned",
                "Agents that are provisioned",
                counts.provisioned,
            ),
            ("agents_connected", "Agents that poll", counts.connected),
            (
                "agents_silent",
                "Agents that have not polled for agentSilentSeconds",
                counts.silent,
            ),
            (
                "notifications_waiting",
                "Notifications that are still to be delivered",
                counts.waiting,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let at = ConstGauge::new(counts.at_ms as f64 / 1_000.0);
        at.encode(encoder.encode_descriptor(
            "census_time",
            "When sessions and agents were counted, since the Unix epoch",
            Some(&Unit::Seconds),
            at.metric_type(),
        )?)
    }
}
