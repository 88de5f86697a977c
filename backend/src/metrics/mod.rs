//! What is counted for the operator, in the format of OpenMetrics 1.0 (which Prometheus reads).
//!
//! Labels have few values: paths are templates, and no id is ever a label. What others count already is read when
//! somebody scrapes ([`Metrics::read`]); what is dear to count is counted in the background ([`census`]).

pub mod census;
mod scrape;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::notifications::counters::Counters;
use crate::server::App;
use crate::store::failures;

pub use scrape::{scrape, scrape_openly};

/// Upper bounds of an answer's time, in seconds. A long poll takes up to 55.
const ANSWER: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 60.0,
];
/// Upper bounds of the time from an order to the first report that it is in force, in seconds.
const ACTIVATION: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    path: String,
    status: u16,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    answers: Family<Answer, Counter>,
    durations: Family<Request, Histogram>,
    activation: Histogram,
    connections: Gauge,
}

/// What a value that is read means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what is now.
    Gauge,
}

impl Metrics {
    /// Nothing is counted yet. `started_ms`: when the process started, in milliseconds since the epoch.
    pub fn new(started_ms: i64) -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            answers: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(ANSWER)),
            activation: Histogram::new(ACTIVATION),
            connections: Gauge::default(),
            registry: Mutex::default(),
        };
        registry.register_with_unit(
            "process_start_time",
            "When the process started, since the Unix epoch",
            Unit::Seconds,
            ConstGauge::new(started_ms as f64 / 1_000.0),
        );
        let qod = registry.sub_registry_with_prefix("qod");
        qod.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        qod.register(
            "http_requests",
            "Requests answered, by path template, method and status",
            metrics.answers.clone(),
        );
        qod.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its answer; long polls wait as long as they were asked to",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        qod.register_with_unit(
            "session_activation",
            "Time from a session's order to the first report that it is in force",
            Unit::Seconds,
            metrics.activation.clone(),
        );
        qod.register(
            "connections",
            "Connections that are open",
            metrics.connections.clone(),
        );
        *metrics
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }

    /// Adds a value that is kept elsewhere and read at every scrape. Counters' names get `_total` by themselves.
    pub fn read(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.collect(Reading {
            kind,
            name,
            help,
            read: Box::new(read),
        });
    }

    /// Adds values that belong together and are read at every scrape.
    pub fn collect(&self, collector: impl Collector) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry
            .sub_registry_with_prefix("qod")
            .register_collector(Box::new(collector));
    }

    /// Counts an answer. `path` is a template.
    pub fn answered(&self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        let method = name_of(method);
        let path = path.to_owned();
        self.durations
            .get_or_create(&Request {
                method,
                path: path.clone(),
            })
            .observe(took.as_secs_f64());
        let answer = Answer {
            method,
            path,
            status: status.as_u16(),
        };
        self.answers.get_or_create(&answer).inc();
    }

    /// Counts a session that is in force for the first time, so long after it was ordered.
    pub fn activated(&self, milliseconds: i64) {
        self.activation
            .observe(milliseconds.max(0) as f64 / 1_000.0);
    }

    /// Counts a connection until what is returned is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Lets what other modules count be read. Whoever counts something new adds it here.
pub fn read_app(app: &Arc<App>) {
    let metrics = &app.metrics;
    metrics.collect(census::Shown(app.census.clone()));
    let presence = app.presence.clone();
    metrics.read(
        Kind::Gauge,
        "polls_held",
        "Polls of agents that this process holds",
        move || presence.held() as u64,
    );
    metrics.read(
        Kind::Counter,
        "store_unavailable",
        "Statements that failed since the store was unreachable, busy or full",
        failures::unavailable,
    );
    metrics.read(
        Kind::Counter,
        "store_errors",
        "Statements that failed for another reason",
        failures::other,
    );
    let of = |read: fn(&Counters) -> u64| {
        let app = Arc::downgrade(app);
        move || {
            app.upgrade()
                .map_or(0, |app| read(&app.notifications.counters))
        }
    };
    metrics.read(
        Kind::Counter,
        "notifications_delivered",
        "Notifications that arrived",
        of(Counters::delivered),
    );
    metrics.read(
        Kind::Counter,
        "notification_failures",
        "Attempts to deliver a notification that failed",
        of(Counters::failed),
    );
    metrics.read(
        Kind::Counter,
        "notifications_given_up",
        "Notifications that were given up after their last attempt",
        of(Counters::given_up),
    );
}

/// A connection that is open.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A method as a label: a client may invent any.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

struct Reading {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let value = (self.read)();
        match self.kind {
            Kind::Counter => {
                let counter = ConstCounter::new(value);
                counter.encode(encoder.encode_descriptor(
                    self.name,
                    self.help,
                    None,
                    counter.metric_type(),
                )?)
            }
            Kind::Gauge => {
                let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                gauge.encode(encoder.encode_descriptor(
                    self.name,
                    self.help,
                    None,
                    gauge.metric_type(),
                )?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::new(1_500);
        metrics.read(Kind::Counter, "notes", "Notes.", || 7);
        metrics.answered(
            &Method::from_bytes(b"BREW").unwrap(),
            "/a/{id}",
            StatusCode::NOT_FOUND,
            Duration::from_millis(3),
        );
        metrics.activated(30);
        let open = metrics.connection();
        let text = metrics.text().unwrap();
        for line in [
            "process_start_time_seconds 1.5",
            "qod_notes_total 7",
            "qod_http_requests_total{method=\"other\",path=\"/a/{id}\",status=\"404\"} 1",
            "qod_http_request_duration_seconds_bucket{le=\"0.005\",method=\"other\",path=\"/a/{id}\"} 1",
            "qod_session_activation_seconds_bucket{le=\"0.025\"} 0",
            "qod_session_activation_seconds_bucket{le=\"0.05\"} 1",
            "qod_connections 1",
        ] {
            assert!(text.lines().any(|each| each == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(open);
        assert!(metrics.text().unwrap().contains("qod_connections 0"));
    }
}
