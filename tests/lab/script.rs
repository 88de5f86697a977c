//! The agent API with every word chosen by the test: HTTP with or without TLS, long poll, recorded
//! reports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificate::Certificates;
use super::netns::Netns;
use super::wait;

/// What every fetch of the instructions is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Compared with `If-None-Match`; sent as `ETag` in quotes.
    pub tag: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
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
}

struct State {
    reply: Reply,
    revision: u64,
    calls: Vec<Call>,
    open: Vec<TcpStream>,
    stopped: bool,
}

struct Shared {
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
        Self::listen(netns, at, Some(Arc::new(certificates.server_config())))
    }

    fn listen(netns: &Netns, at: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = netns.run(|| TcpListener::bind(at).unwrap());
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                reply: instructions(1, &json!({ "sessions": [] })),
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
        self.shared.lock().reply = reply;
        self.shared.changed.notify_all();
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
        self.wait_status(&what, Duration::from_secs(5), |status| {
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
        .filter(|call| call.method == "PUT" && call.path.ends_with("/status"))
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
                thread::spawn(move || connection(stream, tls, &theirs));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn connection(stream: TcpStream, tls: Option<Arc<ServerConfig>>, shared: &Shared) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    match tls {
        None => serve(stream, shared),
        Some(config) => {
            let connection = ServerConnection::new(config).ok()?;
            serve(StreamOwned::new(connection, stream), shared)
        }
    }
}

/// One connection, call after call. The first error ends it.
fn serve(stream: impl Read + Write, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let call = read(&mut reader)?;
        let reply = answer(&call, shared);
        let mut head = format!("HTTP/1.1 {} .\r\n", reply.status);
        if !reply.tag.is_empty() {
            head += &format!("ETag: \"{}\"\r\n", reply.tag);
        }
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !matches!(reply.status, 204 | 304) {
            head += &format!("Content-Length: {}\r\n", reply.body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        if !matches!(reply.status, 204 | 304) {
            bytes.extend_from_slice(&reply.body);
        }
        reader.get_mut().write_all(&bytes).ok()?;
        reader.get_mut().flush().ok()?;
    }
}

fn answer(call: &Call, shared: &Shared) -> Reply {
    let bare = |status| Reply {
        status,
        tag: String::new(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    let mut state = shared.lock();
    state.calls.push(call.clone());
    shared.changed.notify_all();
    match call.method.as_str() {
        "GET" if call.path.ends_with("/instructions") => {}
        "PUT" if call.path.ends_with("/status") => return bare(204),
        _ => return bare(404),
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
    while state.reply.status == 200 && held == Some(state.reply.tag.as_str()) && !state.stopped {
        let Some(left) = end.checked_duration_since(Instant::now()) else {
            return Reply {
                tag: state.reply.tag.clone(),
                ..bare(304)
            };
        };
        state = shared
            .changed
            .wait_timeout(state, left)
            .unwrap_or_else(|e| e.into_inner())
            .0;
    }
    state.reply.clone()
}

fn read(reader: &mut impl BufRead) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut call = Call {
        method,
        path,
        headers,
        body: Vec::new(),
        at: Instant::now(),
    };
    if let Some(length) = call.header("content-length") {
        call.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut call.body).ok()?;
    } else if call.header("transfer-encoding") == Some("chunked") {
        call.body = read_chunks(reader)?;
    }
    Some(call)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(body);
        }
        chunk.truncate(length);
        body.append(&mut chunk);
    }
}
