//! Sessions made and deleted per second, over HTTP, by callers that keep their connections.

use std::process;
use std::time::{Duration, Instant};

use super::lab::proc;
use super::operator::{Connection, Operator, create, delete, request};
use super::row::{Row, note};
use super::sample::Sample;

const HOMES: usize = 512;
const CALLERS: usize = 32;
const LASTS: Duration = Duration::from_secs(10);

const PROMISED: f64 = 2_000.0;
const PROMISED_P99: f64 = 50.0;

/// What the callers of one measurement saw, and what it took.
struct Load {
    per_second: f64,
    times: Sample,
    backend_micros: f64,
    generator_share: f64,
}

pub async fn measure() {
    let operator = Operator::start().await;
    let token = operator.consumer().await;
    let mut connection = operator.connect().await;
    for home in 0..HOMES {
        connection.provision(home).await;
    }
    let health = run(&operator, |connection, _| {
        health(connection, Instant::now() + LASTS / 3)
    })
    .await;
    let sessions = run(&operator, |connection, caller| {
        sessions(connection, caller, token.clone(), Instant::now() + LASTS)
    })
    .await;
    Row::new(
        "backend, sessions made and deleted, per second",
        format!("{:.0}", sessions.per_second),
    )
    .baseline(format!("/healthz {:.0}", health.per_second))
    .ratio(format!("{:.3}", sessions.per_second / health.per_second))
    .promised("≥ 2000", sessions.per_second >= PROMISED)
    .print();
    let p99 = sessions.times.percentile(99);
    Row::new(
        "backend, answer to such a call, p50 / p99",
        format!("{:.1} / {p99:.1} ms", sessions.times.median()),
    )
    .baseline(format!(
        "/healthz {:.1} / {:.1} ms",
        health.times.median(),
        health.times.percentile(99)
    ))
    .promised("p99 ≤ 50 ms", p99 <= PROMISED_P99)
    .print();
    Row::new(
        "backend, processor time of such a call",
        format!("{:.0} µs", sessions.backend_micros),
    )
    .baseline(format!("/healthz {:.0} µs", health.backend_micros))
    .ratio(format!(
        "{:.1}",
        sessions.backend_micros / health.backend_micros
    ))
    .print();
    note(format!(
        "backend: {CALLERS} callers on kept connections to {HOMES} homes for {} s, SQLite, plain HTTP; the callers \
         took {:.0} % of one processor",
        LASTS.as_secs(),
        sessions.generator_share * 100.0
    ));
}

/// Lets every caller make its calls, and waits for all.
async fn run<F>(operator: &Operator, call: impl Fn(Connection, usize) -> F) -> Load
where
    F: Future<Output = Vec<Duration>> + Send + 'static,
{
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        connections.push(operator.connect().await);
    }
    let took = || {
        (
            proc::processor_time(operator.pid()),
            proc::processor_time(process::id()),
        )
    };
    let before = took();
    let began = Instant::now();
    let callers: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(caller, connection)| tokio::spawn(call(connection, caller)))
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.unwrap());
    }
    let lasted = began.elapsed();
    let after = took();
    Load {
        per_second: times.len() as f64 / lasted.as_secs_f64(),
        backend_micros: (after.0 - before.0).as_secs_f64() * 1e6 / times.len() as f64,
        generator_share: (after.1 - before.1).as_secs_f64() / lasted.as_secs_f64(),
        times: Sample::millis(&times),
    }
}

async fn health(mut connection: Connection, end: Instant) -> Vec<Duration> {
    let get = request("GET", "/healthz", "none", "", "");
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        assert_eq!(connection.exchange(&get).await.unwrap().status, 200);
        times.push(began.elapsed());
    }
    times
}

/// Makes a session and deletes it, in one home after the other, each home the caller's own.
async fn sessions(
    mut connection: Connection,
    caller: usize,
    token: String,
    end: Instant,
) -> Vec<Duration> {
    let creates: Vec<_> = (caller..HOMES)
        .step_by(CALLERS)
        .map(|home| create(home, 5001, &token))
        .collect();
    let mut times = Vec::new();
    for post in creates.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        let began = Instant::now();
        let made = connection.exchange(post).await.unwrap();
        times.push(began.elapsed());
        assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
        let id = made.json()["sessionId"].as_str().unwrap().to_owned();
        let began = Instant::now();
        let gone = connection.exchange(&delete(&id, &token)).await.unwrap();
        times.push(began.elapsed());
        assert_eq!(gone.status, 204);
    }
    times
}
