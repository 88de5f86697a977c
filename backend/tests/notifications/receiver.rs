//! A receiver of notifications: a real server on loopback that answers as a test likes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Status and reason of the YAML's event, which must be whole.
    pub(crate) fn status(&self) -> (&str, Option<&str>) {
        let event = &self.body["event"];
        assert_eq!(event["eventType"], "QOS_STATUS_CHANGED", "{}", self.body);
        assert_eq!(event["eventId"].as_str().unwrap().len(), 36);
        assert!(event["eventTime"].as_str().unwrap().ends_with('Z'));
        let detail = &event["eventDetail"];
        (
            detail["qosStatus"].as_str().unwrap(),
            detail.get("statusInfo").and_then(Value::as_str),
        )
    }
}

/// Connections are kept open, so that a test may leave one unanswered.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// It answers 204.
    pub(crate) fn start() -> Self {
        Self::answering(|_| Some("HTTP/1.1 204 No Content\r\n\r\n".to_owned()))
    }

    /// It answers the request of this number, from 0, with these bytes, or not at all.
    pub(crate) fn answering(answer: impl Fn(usize) -> Option<String> + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    pub(crate) fn on(
        listener: TcpListener,
        answer: impl Fn(usize) -> Option<String> + Send + 'static,
    ) -> Self {
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            received: Arc::default(),
        };
        let (connections, received) = (receiver.connections.clone(), receiver.received.clone());
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let Some(request) = read(&stream) else {
                    continue;
                };
                let number = {
                    let mut received = received.lock().unwrap();
                    received.push(request);
                    received.len() - 1
                };
                match answer(number) {
                    Some(answer) => drop(stream.write_all(answer.as_bytes())),
                    None => hanging.push(stream),
                }
            }
        });
        receiver
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What was received, when it is so much.
    pub(crate) fn wait(&self, count: usize) -> Vec<Received> {
        self.wait_while(count, || ())
    }

    /// What was received, when it is so much; meanwhile something is done again and again.
    pub(crate) fn wait_while(&self, count: usize, mut meanwhile: impl FnMut()) -> Vec<Received> {
        wait_for(&format!("{count} notifications"), || {
            meanwhile();
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read(stream: &TcpStream) -> Option<Received> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut received = Received {
        line: lines.remove(0),
        headers: lines,
        body: Value::Null,
        at: Instant::now(),
    };
    let length: usize = received.header("content-length")?.parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    received.body = serde_json::from_slice(&body).unwrap();
    Some(received)
}
