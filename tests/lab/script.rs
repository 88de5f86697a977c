//! The agent API with every word chosen by the test: HTTP with or without TLS, long poll, recorded
//! reports.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use serde::Serialize;
use serde_json::{Value, json};

use super::certificate::Certificates;
use super::conversation;
use super::netns::Netns;
use super::wait;

const BIND: Duration = Duration::from_secs(10);

/// What every fetch of the instructions is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Compared with `If-None-Match`; sent as `ETag` in quotes.
    pub tag: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What one call is answered, whatever it asked.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Well formed HTTP.
    Reply(Reply),
    /// These bytes, each piece after a pause; then as said.
    Bytes(Vec<(Duration, Vec<u8>)>, Then),
}

/// How raw bytes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The connection is closed.
    Close,
    /// The connection stays, and nothing more comes.
    Hang,
    /// The next call is read.
    Listen,
}

impl Answer {
    /// These bytes at once, and the connection is closed.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(vec![(Duration::ZERO, bytes.into())], Then::Close)
    }

    /// Nothing at all, ever.
    pub fn silence() -> Self {
        Self::Bytes(Vec::new(), Then::Hang)
    }

    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self::Reply(Reply::bare(status))
    }
}

impl Reply {
    /// A status without a body.
    pub fn bare(status: u16) -> Self {
        Self {
            status,
            tag: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

/// What an agent asked for.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn is_fetch(&self) -> bool {
        self.method == "GET" && self.path.ends_with("/instructions")
    }

    pub fn is_report(&self) -> bool {
        self.method == "PUT" && self.path.ends_with("/status")
    }
}

struct State {
    reply: Reply,
    /// What the next fetches are answered, one each, before `always` and `reply` are.
    next: VecDeque<Answer>,
    always: Option<Answer>,
    /// What reports are answered; the last of them from then on. None: 204.
    reports: VecDeque<Answer>,
    revision: u64,
    calls: Vec<Call>,
    open: Vec<TcpStream>,
    stopped: bool,
}

/// What the connections of one script share.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Serves until it is dropped; then its connections are closed.
pub struct Script {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
}

impl Script {
    /// Starts with no sessions. Port 0 is any free port.
    pub fn start(netns: &Netns, at: SocketAddr) -> Self {
        Self::listen(netns, at, None)
    }

    /// The same over TLS.
    pub fn start_tls(netns: &Netns, at: SocketAddr, certificates: &Certificates) -> Self {
        Self::start_with(netns, at, certificates.server_config())
    }

    /// The same with TLS as it is configured.
    pub fn start_with(netns: &Netns, at: SocketAddr, config: ServerConfig) -> Self {
        Self::listen(netns, at, Some(Arc::new(config)))
    }

    fn listen(netns: &Netns, at: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        // The one before may still be on its way out.
        let what = format!("{at} to be free");
        let bind = || wait::expect(&what, BIND, || TcpListener::bind(at).ok());
        let listener = netns.run(bind);
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                reply: instructions(1, &json!({ "sessions": [] })),
                next: VecDeque::new(),
                always: None,
                reports: VecDeque::new(),
                revision: 1,
                calls: Vec::new(),
                open: Vec::new(),
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, tls.as_ref(), &theirs));
        Self {
            shared,
            address,
            scheme,
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Serves instructions under the next revision, which is returned and written into them.
    pub fn serve(&self, instructions: &impl Serialize) -> u64 {
        let value = serde_json::to_value(instructions).unwrap();
        let mut state = self.shared.lock();
        state.revision += 1;
        let revision = state.revision;
        state.reply = self::instructions(revision, &value);
        state.always = None;
        drop(state);
        self.shared.changed.notify_all();
        revision
    }

    /// Serves a list of sessions.
    pub fn serve_sessions(&self, sessions: &[Value]) -> u64 {
        self.serve(&json!({ "sessions": sessions }))
    }

    /// Serves anything at all.
    pub fn serve_raw(&self, reply: Reply) {
        let mut state = self.shared.lock();
        state.reply = reply;
        state.always = None;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Answers every fetch so, held ones included, until something else is served.
    pub fn answer_always(&self, answer: Answer) {
        self.shared.lock().always = Some(answer);
        self.shared.changed.notify_all();
    }

    /// Answers the next fetches so, one after the other; a held one is the first.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().next.extend(answers);
        self.shared.changed.notify_all();
    }

    /// Answers the next reports so, one after the other, and all later ones as the last; with none, as it
    /// should be.
    pub fn answer_reports(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().reports = answers.into_iter().collect();
    }

    /// Fetches so far.
    pub fn fetches(&self) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(Call::is_fetch);
        calls
    }

    /// The next fetch after the first `seen`.
    pub fn wait_fetch(&self, seen: usize, limit: Duration) -> Call {
        let fetch = |calls: &[Call]| calls.iter().filter(|c| c.is_fetch()).nth(seen).cloned();
        self.wait_calls(&format!("fetch {seen}"), limit, fetch)
    }

    /// What `wanted` finds in the calls, now or within `limit`.
    pub fn wait_calls<T>(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&[Call]) -> Option<T>,
    ) -> T {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = wanted(&state.calls) {
                return found;
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                let last = state.calls.last().cloned();
                drop(state);
                panic!("not within {limit:?}: {what}; the last call: {last:?}");
            };
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// When the first report of that revision arrived.
    pub fn reported_at(&self, revision: u64) -> Option<Instant> {
        let state = self.shared.lock();
        let mut reports = state.calls.iter().filter(|call| call.method == "PUT");
        let report = reports.find(|call| {
            let status: Option<Value> = serde_json::from_slice(&call.body).ok();
            status.is_some_and(|status| status["revision"] == revision)
        });
        report.map(|call| call.at)
    }

    /// Forgets all calls but the newest hundred: a test that runs for long needs no more.
    pub fn forget_calls(&self) {
        let calls = &mut self.shared.lock().calls;
        calls.drain(..calls.len().saturating_sub(100));
    }

    /// Every report so far that is JSON.
    pub fn statuses(&self) -> Vec<Value> {
        statuses(&self.shared.lock().calls)
    }

    /// The first report from now on, or the newest so far, for which `wanted` holds.
    pub fn wait_status(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let limit = wait::patient(limit);
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            let newest = statuses(&state.calls).pop();
            if let Some(status) = newest.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                drop(state);
                panic!("not within {limit:?}: {what}; the newest report: {newest:?}");
            };
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// The report that speaks of `revision` with every session of it in force or refused.
    pub fn wait_revision(&self, revision: u64) -> Value {
        let what = format!("a report of revision {revision}");
        self.wait_status(&what, Duration::from_secs(20), |status| {
            status["revision"] == revision
        })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        for connection in state.open.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has left nothing half done.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Records a call, and says what it is answered: a fetch as late as it asks for.
    pub(super) fn answer(&self, call: &Call) -> Answer {
        let mut state = self.lock();
        state.calls.push(call.clone());
        self.changed.notify_all();
        if call.is_report() {
            return match state.reports.len() {
                0 => Answer::status(204),
                1 => state.reports[0].clone(),
                _ => state.reports.pop_front().unwrap(),
            };
        }
        if !call.is_fetch() {
            return Answer::status(404);
        }
        let wait = call
            .header("prefer")
            .and_then(|value| value.strip_prefix("wait="))
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(0);
        let end = Instant::now() + Duration::from_secs(wait);
        let held = call
            .header("if-none-match")
            .map(|tag| tag.trim_matches('"'));
        loop {
            if let Some(answer) = state.next.pop_front().or_else(|| state.always.clone()) {
                return answer;
            }
            let current = state.reply.status != 200 || held != Some(state.reply.tag.as_str());
            if current || state.stopped {
                return Answer::Reply(state.reply.clone());
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return Answer::Reply(Reply {
                    tag: state.reply.tag.clone(),
                    ..Reply::bare(304)
                });
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// Waits until the script ends.
    pub(super) fn wait_stopped(&self) {
        let mut state = self.lock();
        while !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }
}

fn instructions(revision: u64, value: &Value) -> Reply {
    let mut value = value.clone();
    value["revision"] = revision.into();
    Reply {
        status: 200,
        tag: revision.to_string(),
        headers: Vec::new(),
        body: value.to_string().into_bytes(),
    }
}

fn statuses(calls: &[Call]) -> Vec<Value> {
    calls
        .iter()
        .filter(|call| call.is_report())
        .filter_map(|call| serde_json::from_slice(&call.body).ok())
        .collect()
}

fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, shared: &Arc<Shared>) {
    loop {
        if shared.lock().stopped {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                let theirs = Arc::clone(shared);
                shared.lock().open.push(stream.try_clone().unwrap());
                let tls = tls.cloned();
                thread::spawn(move || conversation::hold(stream, tls, &theirs));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}
