//! Ten thousand agents that one process keeps waiting, and how soon one of them hears of a session.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::lab::proc;
use super::operator::{Connection, Operator, create, delete, request};
use super::row::{Row, note};
use super::sample::Sample;

const AGENTS: usize = 10_000;
/// Sessions that are made while all wait, each for another agent.
const SESSIONS: usize = 300;

const PROMISED_KIB: f64 = 20.0;
const PROMISED_P99: f64 = 100.0;
/// Longest wait for anything, or what is measured is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// An agent was answered with something new.
struct Heard {
    agent: usize,
    at: Instant,
    body: Vec<u8>,
}

pub async fn measure() {
    let operator = Operator::start().await;
    let token = operator.consumer().await;
    let mut admin = operator.connect().await;
    let mut agents = Vec::new();
    for agent in 0..AGENTS {
        admin.provision(agent).await;
        agents.push(admin.agent_token(agent).await);
    }
    settle(operator.pid()).await;
    let (resident, own) = (
        proc::resident(operator.pid()),
        proc::anonymous(operator.pid()),
    );
    let (tell, mut heard) = mpsc::unbounded_channel();
    for (agent, token) in agents.into_iter().enumerate() {
        let connection = operator.connect().await;
        tokio::spawn(poll(connection, agent, token, tell.clone()));
    }
    // Each hears the present state once, and waits from then on.
    for _ in 0..AGENTS {
        next(&mut heard).await;
    }
    settle(operator.pid()).await;
    let kib = |after: u64, before: u64| (after as f64 - before as f64) / AGENTS as f64 / 1024.0;
    let each = kib(proc::resident(operator.pid()), resident);
    let own = kib(proc::anonymous(operator.pid()), own);
    Row::new(
        format!("backend, memory for each of {AGENTS} held polls"),
        format!("{each:.1} KiB"),
    )
    .promised("≤ 20 KiB", each <= PROMISED_KIB)
    .print();

    let mut caller = operator.connect().await;
    let mut times = Vec::new();
    for number in 0..SESSIONS {
        let agent = number * (AGENTS / SESSIONS);
        let began = Instant::now();
        let made = caller.exchange(&create(agent, 5001, &token)).await.unwrap();
        assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
        let id = made.json()["sessionId"].as_str().unwrap().to_owned();
        let told = next(&mut heard).await;
        assert_eq!(told.agent, agent, "another home's agent was woken");
        assert!(String::from_utf8_lossy(&told.body).contains(&id));
        times.push(told.at - began);
        let gone = caller.exchange(&delete(&id, &token)).await.unwrap();
        assert_eq!(gone.status, 204);
        let told = next(&mut heard).await;
        assert!(!String::from_utf8_lossy(&told.body).contains(&id));
    }
    let times = Sample::millis(&times);
    Row::new(
        "backend, POST to the waiting agent's 200, p50 / p99",
        format!("{:.1} / {:.1} ms", times.median(), times.percentile(99)),
    )
    .promised("p99 ≤ 100 ms", times.percentile(99) <= PROMISED_P99)
    .print();
    note(format!(
        "backend: {AGENTS} agents of {AGENTS} homes hold polls over plain HTTP; memory is the growth of VmRSS \
         ({own:.1} KiB of it anonymous), the kernel's socket buffers not counted; the longest of {SESSIONS} times was \
         {:.1} ms",
        times.max()
    ));
}

/// Polls as an agent does, and tells of every new state.
async fn poll(
    mut connection: Connection,
    agent: usize,
    token: String,
    tell: mpsc::UnboundedSender<Heard>,
) {
    let path = format!("/agent/v1/agents/agent-{agent}/instructions");
    let mut known = String::from("\"\"");
    loop {
        let more = format!("if-none-match: {known}\r\nprefer: wait=50\r\n");
        let get = request("GET", &path, &token, &more, "");
        let answer = connection.exchange(&get).await.unwrap();
        let at = Instant::now();
        if answer.status == 304 {
            continue;
        }
        assert_eq!(answer.status, 200);
        known = answer.etag.unwrap();
        let body = answer.body;
        if tell.send(Heard { agent, at, body }).is_err() {
            return;
        }
    }
}

async fn next(heard: &mut mpsc::UnboundedReceiver<Heard>) -> Heard {
    let heard = tokio::time::timeout(LIMIT, heard.recv()).await;
    heard.unwrap().unwrap()
}

/// Waits until the process does next to nothing: what it was asked is done.
async fn settle(pid: u32) {
    let limit = Instant::now() + LIMIT;
    loop {
        let before = proc::processor_time(pid);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if proc::processor_time(pid) - before < Duration::from_millis(25) {
            return;
        }
        assert!(Instant::now() < limit, "qod-backend does not come to rest");
    }
}
