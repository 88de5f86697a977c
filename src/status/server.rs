//! The local status server: `GET /v1/status` over HTTP/1.1, one request a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qod_wire::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep, timeout};

use super::answers::Answers;
use super::places::{Admission, PLACES, Places, Source, Stage};
use crate::config::StatusServer;

/// Longest request line with headers, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;
/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether a place can be had.
const PAUSE: Duration = Duration::from_millis(20);
/// What a client may go on sending behind its request, and for how long: closing a connection with
/// bytes in it that nobody read would take the answer away from the client (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 64 * 1024;
const LINGER: Duration = Duration::from_millis(500);

/// Somebody wants to know the status.
pub type Request = oneshot::Sender<Status>;

/// Why there is no status server.
#[derive(Debug)]
pub struct Error {
    listen: SocketAddr,
    error: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "listening for status requests on {}: {}",
            self.listen, self.error
        )
    }
}

impl std::error::Error for Error {}

/// Listens, and hands each request to `agent` from then on in a task of its own.
///
/// # Errors
/// The address cannot be had.
pub async fn serve(config: &StatusServer, agent: mpsc::Sender<Request>) -> Result<(), Error> {
    let listen = config.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Error { listen, error })?;
    let server = Server {
        token: config.token.as_deref().map(Into::into),
        answers: Answers::new(agent, PLACES),
        places: Arc::new(Mutex::new(Places::new())),
    };
    tokio::spawn(server.accept(listener));
    Ok(())
}

#[derive(Clone)]
struct Server {
    token: Option<Arc<str>>,
    answers: Answers,
    places: Arc<Mutex<Places<AbortHandle>>>,
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        let mut number = 0;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    number += 1;
                    self.admit(number, stream, peer).await;
                    // However many come, the agent's own work has its turn after each of them.
                    yield_now().await;
                }
                Err(error) => {
                    // Out of descriptors, most likely: others must give some back first.
                    log::warn!("accepting a status request: {error}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn admit(&self, number: u64, stream: TcpStream, peer: SocketAddr) {
        // A connection that is gone already has no address any more.
        let Ok(own) = stream.local_addr() else { return };
        let source = Source::of(peer.ip(), own.ip());
        loop {
            let admission = lock(&self.places).make_room(source);
            match admission {
                Admission::Free => break,
                Admission::Instead(other) => {
                    other.abort();
                    break;
                }
                Admission::Later => sleep(PAUSE).await,
                Admission::Never => return,
            }
        }
        let place = PlaceHeld {
            number,
            places: self.places.clone(),
        };
        let server = self.clone();
        let task = tokio::spawn(async move {
            let _ = timeout(PATIENCE, server.exchange(stream, &place)).await;
        });
        let now = Instant::now();
        lock(&self.places).enter(number, source, now, task.abort_handle());
    }

    async fn exchange(&self, mut stream: TcpStream, place: &PlaceHeld) -> io::Result<()> {
        let head = read_head(&mut stream).await?;
        place.set(Stage::Waiting);
        let (status, body) = match decide(&head, self.token.as_deref()) {
            Decision::Refuse(status) => (status, None),
            Decision::Answer => match self.answers.next().await {
                Some(body) => ("200 OK", Some(body)),
                None => ("503 Service Unavailable", None),
            },
        };
        place.set(Stage::Taking);
        let body =
            body.unwrap_or_else(|| format!("{{\"message\":\"{status}\"}}").as_bytes().into());
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        drop(body);
        place.set(Stage::Silent);
        let _ = timeout(LINGER, drain(&mut stream)).await;
        Ok(())
    }
}

/// A client's place, given back when dropped: also when the client has to go.
struct PlaceHeld {
    number: u64,
    places: Arc<Mutex<Places<AbortHandle>>>,
}

impl PlaceHeld {
    fn set(&self, stage: Stage) {
        lock(&self.places).set(self.number, stage);
    }
}

impl Drop for PlaceHeld {
    fn drop(&mut self) {
        lock(&self.places).leave(self.number);
    }
}

fn lock(places: &Mutex<Places<AbortHandle>>) -> MutexGuard<'_, Places<AbortHandle>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads on until the client closes, or has sent more than it should.
async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

/// Reads to the empty line; what is longer, or ends before it, is cut there and will not parse.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    let mut scanned = 0;
    while head.len() < LONGEST_HEAD && stream.read_buf(&mut head).await? > 0 {
        let new = head.get(scanned..).unwrap_or_default();
        if new.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
        // The end may begin in what is here already.
        scanned = head.len().saturating_sub(3);
    }
    Ok(head)
}

enum Decision {
    Answer,
    Refuse(&'static str),
}

fn decide(head: &[u8], token: Option<&str>) -> Decision {
    const BAD: Decision = Decision::Refuse("400 Bad Request");
    let Some(head) = std::str::from_utf8(head)
        .ok()
        .and_then(|head| head.split_once("\r\n\r\n"))
        .map(|(head, _)| head)
    else {
        return BAD;
    };
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path), Some(version)) =
        (request.next(), request.next(), request.next())
    else {
        return BAD;
    };
    if !version.starts_with("HTTP/1.") {
        return BAD;
    }
    if path != "/v1/status" {
        return Decision::Refuse("404 Not Found");
    }
    if method != "GET" {
        return Decision::Refuse("405 Method Not Allowed");
    }
    let Some(token) = token else {
        return Decision::Answer;
    };
    let presented = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("authorization")
            .then(|| value.trim())
    });
    match presented.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(presented) if same(presented.as_bytes(), token.as_bytes()) => Decision::Answer,
        _ => Decision::Refuse("401 Unauthorized"),
    }
}

/// Compares in a time that does not tell how much of a secret was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .fold(0, |differing, (a, b)| differing | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(head: &str, token: Option<&str>) -> &'static str {
        match decide(head.as_bytes(), token) {
            Decision::Answer => "200",
            Decision::Refuse(status) => status.split(' ').next().unwrap(),
        }
    }

    #[test]
    fn only_one_thing_is_answered() {
        assert_eq!(
            answer("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", None),
            "200"
        );
        assert_eq!(answer("POST /v1/status HTTP/1.1\r\n\r\n", None), "405");
        assert_eq!(answer("GET / HTTP/1.1\r\n\r\n", None), "404");
        for bad in [
            "",
            "GET",
            "GET /v1/status",
            "\r\n\r\n",
            "GET /v1/status SIP/2.0\r\n\r\n",
            "GET /v1/status HTTP/1.1\r\nHost: cut off",
        ] {
            assert_eq!(answer(bad, None), "400", "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_asked_for_where_there_is_one() {
        let with =
            |value: &str| format!("GET /v1/status HTTP/1.1\r\nauthorization: {value}\r\n\r\n");
        assert_eq!(answer(&with("Bearer s3cret"), Some("s3cret")), "200");
        for wrong in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
            "",
        ] {
            assert_eq!(answer(&with(wrong), Some("s3cret")), "401", "{wrong:?}");
        }
        assert_eq!(
            answer("GET /v1/status HTTP/1.1\r\n\r\n", Some("s3cret")),
            "401"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decided_on(head in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(!matches!(decide(&head, Some("s3cret")), Decision::Answer));
            decide(&head, None);
        }

        #[test]
        fn only_the_token_opens(line in "[ -~]{0,40}", presented in "[ -~]{0,8}") {
            let head = format!("GET /v1/status HTTP/1.1\r\n{line}\r\nAuthorization: Bearer {presented}\r\n\r\n");
            let opens = matches!(decide(head.as_bytes(), Some("s3cret")), Decision::Answer);
            let right = presented.trim() == "s3cret" || line.contains("Bearer s3cret");
            prop_assert!(!opens || right, "{}", head);
        }
    }
}
