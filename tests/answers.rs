//! What a backend and a network answer, row by row of the contract's table: the state in force stays, the
//! backend is not asked in a circle, and somebody is told why, once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod lab;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use lab::certificate::Certificates;
use lab::folder::Folder;
use lab::home::{Device, server_v4};
use lab::script::{Answer, Call, Reply, Then};
use lab::{Agent, Exchange, Home, Observer, Script, agent, wait};
use serde_json::{Value, json};

const EF: u8 = 46;
/// Far above what anything takes: the kernel's one lock of all network namespaces may be held for seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// The backend was asked several times in vain, so the agent may wait for some seconds.
const RECOVERY: Duration = Duration::from_secs(60);

fn session(id: &str) -> Value {
    json!({ "sessionId": id, "dscp": EF, "expiresIn": 600,
        "device": { "ipv4Address": "192.168.1.23" }, "applicationServer": { "ipv4Address": "198.51.100.5" } })
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::new(server_v4(host).into(), 8080)
}

fn dscp(home: &Home) -> (u8, u8) {
    Observer::start(home, Device::Phone)
        .udp(&Exchange::new(5010, server_v4(5), 33001))
        .dscp()
}

/// A home whose agent holds one session, from a script that can say anything.
struct Case {
    agent: Agent,
    script: Script,
    home: Home,
    revision: u64,
}

impl Case {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut Value)) -> Self {
        let home = Home::without_modem();
        let script = Script::start(&home.internet, address(19));
        let mut config = agent::config(&script.url());
        change(&mut config);
        let agent = Agent::start(&home.router, &config);
        let revision = script.serve_sessions(&[session("a")]);
        script.wait_revision(revision);
        Self {
            agent,
            script,
            home,
            revision,
        }
    }

    fn tag(&self) -> String {
        format!("\"{}\"", self.revision)
    }

    fn marks_stay(&self) {
        assert_eq!(dscp(&self.home), (EF, EF));
    }

    /// The warning with this code, from the agent itself.
    fn warning(&self, code: &str) -> String {
        warning(&self.agent, &self.home, code, LIMIT)
    }

    /// The same session under the next revision, and a report of it without a warning of the poll.
    fn recover(&mut self) {
        self.revision = self.script.serve_sessions(&[session("a")]);
        let revision = self.revision;
        self.script.wait_status("recovery", RECOVERY, |status| {
            status["revision"] == revision && is_well(status)
        });
    }

    /// Lines of the log at WARN or ERROR, from this byte on.
    fn complaints(&self, from: usize) -> Vec<String> {
        complaints(&self.agent, from)
    }
}

/// Whether nothing hinders the polls.
fn is_well(status: &Value) -> bool {
    const OF_POLLS: [&str; 5] = [
        "BACKEND_UNREACHABLE",
        "BAD_INSTRUCTIONS",
        "CLOCK",
        "DECOMMISSIONED",
        "UNAUTHORIZED",
    ];
    let warnings = status["warnings"].as_array().unwrap();
    !warnings
        .iter()
        .any(|warning| OF_POLLS.contains(&warning["code"].as_str().unwrap()))
}

fn warning(agent: &Agent, home: &Home, code: &str, limit: Duration) -> String {
    wait::expect(&format!("a warning {code}"), limit, || {
        let status = agent.status(&home.router)?;
        let warnings = status["warnings"].as_array()?;
        let found = warnings.iter().find(|warning| warning["code"] == code)?;
        Some(found["message"].as_str()?.to_owned())
    })
}

fn complaints(agent: &Agent, from: usize) -> Vec<String> {
    let log = agent.process.log();
    let lines = log[from..].lines();
    lines
        .filter(|line| line.contains("WARN") || line.contains("ERROR") || line.contains("panicked"))
        .map(str::to_owned)
        .collect()
}

fn json_answer(body: impl Into<Vec<u8>>) -> Answer {
    Answer::Reply(Reply {
        status: 200,
        tag: "another".to_owned(),
        headers: Vec::new(),
        body: body.into(),
    })
}

fn with_header(status: u16, name: &str, value: &str) -> Answer {
    Answer::Reply(Reply {
        headers: vec![(name.to_owned(), value.to_owned())],
        ..Reply::bare(status)
    })
}

/// Peak resident memory of the agent, in bytes.
fn peak(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// What is never taken for instructions.
fn bad_documents() -> Vec<(&'static str, Answer)> {
    let valid = r#"{"revision":9,"sessions":[]}"#;
    let mut all: Vec<(&str, Answer)> = [
        ("nothing", ""),
        ("cut", "{\"revision\":9,"),
        ("a list", "[]"),
        ("a text", "\"x\""),
        ("null", "null"),
        ("no sessions", "{\"revision\":9}"),
        ("no revision", "{\"sessions\":[]}"),
        (
            "sessions that are an object",
            "{\"revision\":9,\"sessions\":{}}",
        ),
        (
            "sessions that are null",
            "{\"revision\":9,\"sessions\":null}",
        ),
        ("a negative revision", "{\"revision\":-1,\"sessions\":[]}"),
        ("a fraction", "{\"revision\":1.5,\"sessions\":[]}"),
        (
            "a text for a number",
            "{\"revision\":\"9\",\"sessions\":[]}",
        ),
        (
            "a number that no integer holds",
            "{\"revision\":18446744073709551616,\"sessions\":[]}",
        ),
        (
            "a number that nothing holds",
            "{\"revision\":1e999,\"sessions\":[]}",
        ),
        ("NaN", "{\"revision\":9,\"sessions\":[{\"expiresIn\":NaN}]}"),
        (
            "Infinity",
            "{\"revision\":9,\"sessions\":[{\"expiresIn\":Infinity}]}",
        ),
        (
            "a key twice",
            "{\"revision\":9,\"revision\":10,\"sessions\":[]}",
        ),
        (
            "sessions twice",
            "{\"revision\":9,\"sessions\":[],\"sessions\":[]}",
        ),
        (
            "a rate that is a text",
            "{\"revision\":9,\"link\":{\"upstreamKbps\":\"1\"},\"sessions\":[]}",
        ),
        (
            "a negative rate",
            "{\"revision\":9,\"link\":{\"upstreamKbps\":-1},\"sessions\":[]}",
        ),
        (
            "queues of no kind",
            "{\"revision\":9,\"queues\":\"fast\",\"sessions\":[]}",
        ),
        ("two documents", "{\"revision\":9,\"sessions\":[]}{}"),
        (
            "a byte order mark",
            "\u{feff}{\"revision\":9,\"sessions\":[]}",
        ),
        ("HTML", "<html><body>Please log in</body></html>"),
    ]
    .map(|(name, body)| (name, json_answer(body)))
    .into();
    all.push((
        "no UTF-8",
        json_answer(*b"{\"revision\":9,\"sessions\":[{\"a\":\"\xff\xfe\"}]}"),
    ));
    all.push(("a NUL", json_answer(format!("{valid}\0"))));
    all.push(("no JSON but gzip", {
        Answer::Reply(Reply {
            status: 200,
            tag: "another".to_owned(),
            headers: vec![("Content-Encoding".to_owned(), "gzip".to_owned())],
            body: vec![0x1f, 0x8b, 8, 0],
        })
    }));
    all.push(("eight megabytes of [", json_answer(vec![b'['; 8 << 20])));
    all.push(("nine megabytes", json_answer(vec![b' '; 9 << 20])));
    all.push(("a text of eight megabytes", {
        let mut text = vec![b'x'; 8 << 20];
        (text[0], text[(8 << 20) - 1]) = (b'"', b'"');
        json_answer(text)
    }));
    all.push(("zeros without end", {
        let list = format!(
            "{{\"revision\":9,\"sessions\":[{}0]}}",
            "0,".repeat(4 << 20)
        );
        json_answer(&list.as_bytes()[..8 << 20])
    }));
    all.push(("nine megabytes of chunks", {
        let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
        let head = "HTTP/1.1 200 OK\r\nETag: \"another\"\r\nTransfer-Encoding: chunked\r\n\r\n";
        Answer::raw(format!("{head}{}", chunk.repeat(9)))
    }));
    all
}

/// What is never taken for an answer.
fn bad_http() -> Vec<(&'static str, Answer)> {
    let valid = "{\"revision\":9,\"sessions\":[]}";
    let raw = |head: &str, body: &str| Answer::raw(format!("{head}\r\n\r\n{body}"));
    vec![
        ("nothing", Answer::raw("")),
        ("another protocol", Answer::raw("SSH-2.0-OpenSSH_9.2\r\n")),
        ("bytes", Answer::raw(vec![0xff; 4096])),
        (
            "half a head",
            Answer::raw("HTTP/1.1 200 OK\r\nETag: \"x\"\r\n"),
        ),
        (
            "a body that is cut",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 100", "{\"revision\":9,"),
        ),
        (
            "a length that is too great",
            raw(
                "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615",
                "{\"revision\":9,",
            ),
        ),
        (
            "a length that no number holds",
            raw(
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
                valid,
            ),
        ),
        (
            "a negative length",
            raw("HTTP/1.1 200 OK\r\nContent-Length: -1", valid),
        ),
        (
            "chunks that end early",
            raw(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                "f\r\n{\"revision\":9,\r\n",
            ),
        ),
        (
            "chunks without number",
            raw(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                "zz\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        (
            "a chunk without end",
            raw(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                "ffffffffffffffff\r\n{",
            ),
        ),
        (
            "HTTP/1.0 that is cut",
            raw("HTTP/1.0 200 OK", "{\"revision\":9,"),
        ),
        (
            "a header of 100 KB",
            raw(
                &format!(
                    "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 28",
                    "x".repeat(100_000)
                ),
                valid,
            ),
        ),
        (
            "10,000 headers",
            raw(
                &format!(
                    "HTTP/1.1 200 OK{}\r\nContent-Length: 28",
                    "\r\nX: y".repeat(10_000)
                ),
                valid,
            ),
        ),
        (
            "another protocol from here on",
            raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x", ""),
        ),
        (
            "early hints and no more",
            raw("HTTP/1.1 103 Early Hints\r\nLink: </x>", ""),
        ),
        (
            "many early hints",
            Answer::raw("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000)),
        ),
        ("204", Answer::status(204)),
        ("206", Answer::status(206)),
        ("400", Answer::status(400)),
        ("no number", raw("HTTP/1.1 abc OK", valid)),
        ("99", raw("HTTP/1.1 99 OK", valid)),
        ("999", raw("HTTP/1.1 999 OK\r\nContent-Length: 28", valid)),
    ]
}

/// Answers each: the state stays, the tag of what is in force comes back, and one line says why.
fn survive(cases: Vec<(&'static str, Answer)>, code: Option<&str>) {
    /// Above an idle agent's: an answer of the greatest length, and its sessions once more.
    const BOUND: u64 = 32 << 20;
    let mut case = Case::start();
    let idle = peak(&case.agent);
    for (number, (name, answer)) in cases.into_iter().enumerate() {
        eprintln!("{name}");
        let said = case.agent.process.log().len();
        let asked = case.script.fetches().len();
        // Some come twice in a row; all would take long.
        let count = if number % 8 == 0 { 2 } else { 1 };
        case.script.answer_next(vec![answer.clone(); count]);
        if code.is_some() {
            // The first good answer would end the warning.
            case.script.answer_always(answer);
        }
        let next = case.script.wait_fetch(asked + count - 1, LIMIT);
        assert_eq!(next.header("if-none-match"), Some(&*case.tag()), "{name}");
        if let Some(code) = code {
            case.warning(code);
        }
        case.marks_stay();
        case.recover();
        let complaints = case.complaints(said);
        assert_eq!(complaints.len(), 1, "{name}: {complaints:#?}");
        assert!(complaints[0].len() < 600, "{name}: {}", complaints[0]);
        for fetch in &case.script.fetches()[asked..] {
            assert!(fetch.header("if-none-match").is_some(), "{name}");
        }
    }
    let grown = peak(&case.agent) - idle;
    eprintln!("{} KiB above idle", grown / 1024);
    assert!(grown < BOUND, "{grown} bytes above idle");
}

#[test]
fn what_is_no_instructions_changes_nothing() {
    survive(bad_documents(), Some("BAD_INSTRUCTIONS"));
}

#[test]
fn what_is_no_answer_changes_nothing() {
    survive(bad_http(), None);
}

/// Answers that are instructions, though oddly told.
#[test]
fn what_is_an_answer_is_applied_however_it_is_told() {
    let case = Case::start();
    let forms: [&dyn Fn(&str) -> String; 5] = [
        &|body| format!("HTTP/1.0 200 OK\r\n\r\n{body}"),
        &|body| format!("HTTP/1.1 200\r\nConnection: close\r\n\r\n{body}"),
        &|body| {
            let length = body.len();
            format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
                 HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        },
        &|body| {
            let chunks: String = body.chars().map(|c| format!("1;x=y\r\n{c}\r\n")).collect();
            format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\nX: y\r\n\r\n"
            )
        },
        &|body| {
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\nconnection:close\r\ncontent-length:\t{length} \r\n\r\n{body}"
            )
        },
    ];
    for (number, form) in forms.iter().enumerate() {
        let revision = 100 + number;
        let document = json!({ "revision": revision, "later": [1], "sessions": [session("a")] });
        let said = case.agent.process.log().len();
        case.script
            .answer_always(Answer::raw(form(&document.to_string())));
        case.script.wait_status("the revision", LIMIT, |status| {
            status["revision"] == revision
        });
        case.marks_stay();
        assert_eq!(case.complaints(said), [""; 0]);
    }
}

#[test]
fn one_bad_session_costs_nobody_anything() {
    let case = Case::start();
    let long = "x".repeat(1 << 20);
    let bad = [
        r#"{"sessionId":"b","device":{"ipv4Address":"192.168.1.24"},"dscp":46,"expiresIn":1e999}"#.to_owned(),
        r#"{"sessionId":"b","device":{"ipv4Address":"192.168.1.24"},"dscp":46,"expiresIn":-1e999}"#.to_owned(),
        r#"{"sessionId":"b","device":{"ipv4Address":"192.168.1.24"},"dscp":1e99}"#.to_owned(),
        r#"{"sessionId":"b","device":{"ipv4Address":"192.168.1.24"},"dscp":46,"dscp":46}"#.to_owned(),
        r#"{"sessionId":"b","device":[[[[]]]],"dscp":46}"#.to_owned(),
        r#"{"sessionId":"b","device":{"ipv4Address":"192.168.1.24"},"dscp":46,"direction":"X"}"#.replace('X', &long),
        r#"{"sessionId":"b","device":{"ipv4Address":"X"},"dscp":46}"#.replace('X', &long),
        r#"{"sessionId":"b","device":{"macAddress":"X"},"dscp":46}"#.replace('X', &":".repeat(4 << 20)),
        r#"{"sessionId":"b","device":{"ipv4Address":"192.168.1.24"},"devicePorts":{"ports":[X1]},"dscp":46}"#
            .replace('X', &"1,".repeat(2 << 20)),
        format!(r#"{{"sessionId":"b","deep":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20)),
    ];
    let idle = peak(&case.agent);
    for bad in bad {
        let revision = case.script.serve_sessions(&[session("a")]);
        case.script.wait_revision(revision);
        let next = revision + 1000;
        let good = session("a");
        let document = format!(r#"{{"revision":{next},"sessions":[{bad},{good}]}}"#);
        let name: String = bad.chars().take(120).collect();
        case.script.answer_always(json_answer(document));
        let status = case
            .script
            .wait_status(&name, LIMIT, |status| status["revision"] == next);
        let states: Vec<_> = ["state", "code"]
            .iter()
            .flat_map(|key| {
                [
                    status["sessions"][0][key].clone(),
                    status["sessions"][1][key].clone(),
                ]
            })
            .collect();
        assert_eq!(
            states,
            [
                json!("REJECTED"),
                json!("ACTIVE"),
                json!("INVALID"),
                Value::Null
            ],
            "{name}"
        );
        let message = status["sessions"][0]["message"].as_str().unwrap();
        assert!(message.chars().count() <= 301, "{name}: {message}");
        case.marks_stay();
    }
    // Sessions without an id cannot be told apart in the report.
    for nameless in [
        format!(r#""{long}""#),
        "1".to_owned(),
        format!(r#"{{"sessionId":"{long}"}}"#),
    ] {
        let next = case.script.serve_sessions(&[session("a")]) + 1000;
        let good = session("a");
        let document = format!(r#"{{"revision":{next},"sessions":[{nameless},{good}]}}"#);
        case.script.answer_always(json_answer(document));
        let status = case
            .script
            .wait_status("nameless", LIMIT, |status| status["revision"] == next);
        assert_eq!(status["sessions"][0]["state"], "ACTIVE");
        let warnings = status["warnings"].as_array().unwrap();
        let warning = warnings.iter().find(|w| w["code"] == "BAD_INSTRUCTIONS");
        let warning = warning.unwrap_or_else(|| panic!("{status}"));
        assert!(warning["message"].as_str().unwrap().len() < 600);
        case.marks_stay();
    }
    let grown = peak(&case.agent) - idle;
    assert!(grown < 48 << 20, "{grown} bytes above idle");
}

/// The answer takes its time; the agent gives up within `limit`.
fn gives_up(answer: Answer, limit: Duration) {
    let mut case = Case::start();
    let asked = case.script.fetches().len();
    case.script.answer_next([answer]);
    let began = Instant::now();
    let next = case.script.wait_fetch(asked, limit);
    assert!(
        began.elapsed() > Duration::from_secs(5),
        "it did not even wait"
    );
    assert_eq!(next.header("if-none-match"), Some(&*case.tag()));
    case.marks_stay();
    case.recover();
}

/// A byte a second after `head`.
fn drip(head: &str, byte: u8) -> Answer {
    let mut pieces = vec![(Duration::ZERO, head.as_bytes().to_vec())];
    pieces.extend((0..60).map(|_| (Duration::from_secs(1), vec![byte])));
    Answer::Bytes(pieces, Then::Close)
}

#[test]
fn what_never_ends_is_given_up() {
    let seconds = Duration::from_secs;
    let body = "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nX: ";
    let hints = vec![(seconds(1), b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()); 60];
    // All at a time: each takes its 15 s, and before the head the 5 s that the backend may hold the poll.
    thread::scope(|scope| {
        for (answer, limit) in [
            (drip(body, b' '), seconds(28)),
            (drip(head, b'x'), seconds(34)),
            (Answer::Bytes(hints, Then::Close), seconds(34)),
            (Answer::silence(), seconds(34)),
        ] {
            scope.spawn(move || gives_up(answer, limit));
        }
    });
}

#[test]
fn a_poll_that_is_not_held_is_not_repeated_in_a_circle() {
    const WATCHED: Duration = Duration::from_secs(4);
    let case = Case::start();
    let answers = [
        Answer::status(304),
        // The same state again: neither the tag nor the wish to wait is honoured.
        Answer::Reply(Reply {
            status: 200,
            tag: case.revision.to_string(),
            headers: Vec::new(),
            body: json!({ "revision": case.revision, "sessions": [session("a")] })
                .to_string()
                .into_bytes(),
        }),
        Answer::status(401),
        Answer::status(503),
        json_answer("{"),
    ];
    for answer in answers {
        let before = case.script.fetches().len();
        case.script.answer_always(answer.clone());
        case.script.wait_fetch(before, LIMIT);
        let began = Instant::now();
        // Watching takes its time: that is what is measured.
        let count = || case.script.fetches().len() - before;
        wait::until(WATCHED, || (count() > 14).then_some(()));
        assert!(
            count() <= 14,
            "{} polls in {:?} of {answer:?}",
            count(),
            began.elapsed()
        );
        case.marks_stay();
        let revision = case.script.serve_sessions(&[session("a")]);
        case.script.wait_status("recovery", RECOVERY, |status| {
            status["revision"] == revision && is_well(status)
        });
    }
}

#[test]
fn a_poll_that_is_held_is_repeated_at_once() {
    let case = Case::start_with(|config| config["pollWaitSeconds"] = json!(1));
    let first = case.script.fetches().len();
    let held = case.script.wait_fetch(first, LIMIT);
    let next = case.script.wait_fetch(first + 1, LIMIT);
    let between = next.at - held.at;
    assert!(
        (Duration::from_millis(950)..LIMIT).contains(&between),
        "{between:?}"
    );
    assert_eq!(held.header("prefer"), Some("wait=1"));
    assert_eq!(held.header("if-none-match"), Some(&*case.tag()));
}

#[test]
fn every_run_begins_with_a_fetch_of_everything() {
    let mut case = Case::start();
    let first = &case.script.fetches()[0];
    assert_eq!(
        (first.header("if-none-match"), first.header("prefer")),
        (None, None)
    );
    let before = case.script.fetches().len();
    case.agent.restart(&case.home.router);
    let again = case.script.wait_fetch(before, LIMIT);
    assert_eq!(
        (again.header("if-none-match"), again.header("prefer")),
        (None, None)
    );
    case.marks_stay();
}

#[test]
fn a_smaller_revision_is_applied_too() {
    let case = Case::start();
    let document = json!({ "revision": 0, "sessions": [] });
    case.script.serve_raw(Reply {
        tag: "0".to_owned(),
        body: document.to_string().into_bytes(),
        ..Reply::bare(200)
    });
    let status = case
        .script
        .wait_status("revision 0", LIMIT, |s| s["revision"] == 0);
    assert_eq!(status["sessions"], json!([]));
    assert_eq!(dscp(&case.home), (0, 0));
    let asked = |calls: &[Call]| {
        let tags = calls.iter().filter_map(|call| call.header("if-none-match"));
        tags.into_iter().any(|tag| tag == "\"0\"").then_some(())
    };
    case.script.wait_calls("its tag", LIMIT, asked);
}

#[test]
fn a_new_token_in_the_file_lets_a_refused_agent_in_again() {
    for status in [401, 403, 404] {
        let folder = Folder::new();
        let file = folder.write("token", "first-token\n");
        let mut case = Case::start_with(|config| {
            let backend = config["backend"].as_object_mut().unwrap();
            backend.remove("token");
            backend.insert("tokenFile".to_owned(), json!(file));
        });
        let said = case.agent.process.log().len();
        case.script.answer_always(Answer::status(status));
        let message = case.warning("UNAUTHORIZED");
        assert!(message.contains(&status.to_string()), "{message}");
        case.marks_stay();
        folder.write("token", "second-token\n");
        let with_new = |calls: &[Call]| {
            let mut fetches = calls.iter().filter(|call| call.is_fetch());
            fetches
                .find(|call| call.header("authorization") == Some("Bearer second-token"))
                .cloned()
        };
        let fetch = case.script.wait_calls("the new token", RECOVERY, with_new);
        assert_eq!(fetch.header("if-none-match"), Some(&*case.tag()));
        case.recover();
        let complaints = case.complaints(said);
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        assert!(
            !case.agent.process.log().contains("-token"),
            "a token is in the log"
        );
    }
}

#[test]
fn a_token_file_that_cannot_be_used_is_named_and_the_old_token_stays() {
    let folder = Folder::new();
    let file = folder.write("token", "first-token");
    let mut case = Case::start_with(|config| {
        let backend = config["backend"].as_object_mut().unwrap();
        backend.remove("token");
        backend.insert("tokenFile".to_owned(), json!(file));
    });
    let said = case.agent.process.log().len();
    folder.write("token", "two words");
    let seen = case.script.fetches().len();
    case.script.answer_always(Answer::status(401));
    case.warning("UNAUTHORIZED");
    case.script.wait_fetch(seen + 1, RECOVERY);
    case.recover();
    let complaints = case.complaints(said);
    assert_eq!(complaints.len(), 2, "{complaints:#?}");
    assert!(complaints[1].contains("holds no token"), "{complaints:#?}");
    assert!(!case.agent.process.log().contains("two words"));
    let last = case.script.fetches().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer first-token"));
}

#[test]
fn a_decommissioned_agent_asks_no_more_and_comes_back() {
    let mut case = Case::start();
    case.script.answer_always(Answer::status(410));
    let nothing_left = || {
        let tables = case.home.router.output("nft", &["list", "tables"]);
        let queue = case
            .home
            .router
            .output("tc", &["qdisc", "show", "dev", "wan"]);
        (!tables.contains("qod") && !queue.contains("71d:")).then_some(())
    };
    wait::expect("nothing left", LIMIT, nothing_left);
    assert_eq!(dscp(&case.home), (0, 0));
    let (fetches, reports) = (case.script.fetches().len(), case.script.statuses().len());
    // One that still asked or reported would do so within this time, several times.
    wait::until(Duration::from_secs(3), || None::<()>);
    assert_eq!(case.script.fetches().len(), fetches);
    assert!(case.script.statuses().len() <= reports + 1);
    assert!(nothing_left().is_some());
    let status = case.agent.status(&case.home.router).unwrap();
    assert_eq!(status["warnings"][0]["code"], "DECOMMISSIONED", "{status}");
    assert!(!is_well(&status));

    // The next hour cannot be waited for here; a start is the same question.
    let revision = case.script.serve_sessions(&[session("a")]);
    case.agent.restart(&case.home.router);
    case.script.wait_revision(revision);
    case.marks_stay();
    assert_eq!(case.script.fetches()[fetches].header("if-none-match"), None);
}

#[test]
fn a_backend_that_wants_time_gets_it() {
    let mut case = Case::start();
    let seen = case.script.fetches().len();
    let past = Answer::Reply(Reply {
        headers: vec![
            (
                "Date".to_owned(),
                "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            ),
            (
                "Retry-After".to_owned(),
                "Sun, 06 Nov 1994 08:49:40 GMT".to_owned(),
            ),
        ],
        ..Reply::bare(503)
    });
    // The agent's clock is decades ahead of this backend's: three seconds are three seconds.
    case.script
        .answer_next([with_header(429, "Retry-After", "2"), past]);
    let first = case.script.wait_fetch(seen, LIMIT);
    let second = case.script.wait_fetch(seen + 1, LIMIT);
    let waited = second.at - first.at;
    assert!(
        (Duration::from_millis(2900)..LIMIT).contains(&waited),
        "{waited:?}"
    );
    case.marks_stay();
    case.recover();
}

#[test]
fn a_redirect_is_an_error_and_takes_the_token_nowhere() {
    let mut case = Case::start();
    let other = Script::start(&case.home.internet, address(18));
    let there = format!("{}/agent/v1/agents/home-0001/instructions", other.url());
    for status in [301, 302, 303, 307, 308] {
        for target in [&*there, "/agent/v1/agents/other/instructions"] {
            let said = case.agent.process.log().len();
            // The first good answer would end the warning.
            case.script
                .answer_always(with_header(status, "Location", target));
            let message = case.warning("BACKEND_UNREACHABLE");
            assert!(message.contains(&status.to_string()), "{message}");
            case.recover();
            assert_eq!(case.complaints(said).len(), 1);
        }
    }
    case.script
        .answer_reports([with_header(307, "Location", &there), Answer::status(204)]);
    case.recover();
    case.marks_stay();
    assert_eq!(other.calls().len(), 0);
    let paths: Vec<_> = case
        .script
        .calls()
        .into_iter()
        .map(|call| call.path)
        .collect();
    assert!(
        paths
            .iter()
            .all(|path| path.starts_with("/agent/v1/agents/home-0001/")),
        "{paths:?}"
    );
}

#[test]
fn a_name_that_is_nobodys_and_a_port_where_nobody_listens_are_named() {
    let home = Home::without_modem();
    for (url, expected) in [
        ("https://backend.invalid", "backend.invalid"),
        (
            "https://198.51.100.17:9",
            "reaching 198.51.100.17:9: Connection refused",
        ),
    ] {
        let mut config = agent::config("http://unused");
        config["backend"]["url"] = json!(url);
        let agent = Agent::start(&home.router, &config);
        let message = warning(&agent, &home, "BACKEND_UNREACHABLE", LIMIT);
        assert!(message.contains(expected), "{message}");
        let status = agent.status(&home.router).unwrap();
        assert_eq!(status["revision"], Value::Null);
    }
}

#[test]
fn reports_that_are_refused_are_dropped_and_the_next_goes_out() {
    let mut case = Case::start();
    let said = case.agent.process.log().len();
    for status in [400, 409, 410, 413, 422] {
        let before = reports(&case.script).len();
        case.script
            .answer_reports([Answer::status(status), Answer::status(204)]);
        let next = case.script.wait_calls("two more reports", LIMIT, |calls| {
            let reports: Vec<_> = calls.iter().filter(|c| c.is_report()).collect();
            (reports.len() >= before + 2).then(|| {
                let pair = [reports[before], reports[before + 1]];
                pair.map(|call| serde_json::from_slice::<Value>(&call.body).unwrap())
            })
        });
        let [refused, after] = next.map(|report| report["sequence"].as_u64().unwrap());
        assert!(after > refused, "{status}: {after} after {refused}");
        let log = case.agent.process.log();
        assert!(
            log[said..].contains(&format!("report {refused} is dropped")),
            "{status}"
        );
        case.marks_stay();
    }
    assert_eq!(
        case.complaints(said).len(),
        5,
        "{:#?}",
        case.complaints(said)
    );
    case.recover();
}

#[test]
fn a_refusal_of_every_report_is_said_once() {
    let case = Case::start();
    let said = case.agent.process.log().len();
    let before = reports(&case.script).len();
    case.script.answer_reports([Answer::status(400)]);
    case.script.wait_calls("four reports", LIMIT, |calls| {
        (calls.iter().filter(|call| call.is_report()).count() >= before + 4).then_some(())
    });
    let complaints = case.complaints(said);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0].contains("400"), "{complaints:#?}");
}

fn reports(script: &Script) -> Vec<Call> {
    let mut calls = script.calls();
    calls.retain(Call::is_report);
    calls
}

#[test]
fn after_failed_reports_the_newest_goes_out() {
    let case = Case::start();
    let said = case.agent.process.log().len();
    case.script.answer_reports([Answer::status(503)]);
    let before = reports(&case.script).len();
    case.script.wait_calls("failed reports", LIMIT, |calls| {
        (calls.iter().filter(|call| call.is_report()).count() >= before + 2).then_some(())
    });
    let mut last = 0;
    for number in 0..5 {
        let id = format!("s{number}");
        last = case.script.serve_sessions(&[session(&id)]);
        let asked = |calls: &[Call]| {
            let tag = format!("\"{last}\"");
            calls
                .iter()
                .any(|call| call.header("if-none-match") == Some(&tag))
                .then_some(())
        };
        case.script.wait_calls("the poll with it", LIMIT, asked);
    }
    let failed = reports(&case.script).len();
    case.script.answer_reports([]);
    case.script
        .wait_calls("a report that is taken", RECOVERY, |calls| {
            (calls.iter().filter(|call| call.is_report()).count() > failed).then_some(())
        });
    let sent: Vec<Value> = case.script.statuses();
    assert_eq!(sent[failed]["revision"], last, "{}", sent[failed]);
    assert_eq!(sent[failed]["sessions"][0]["sessionId"], "s4");
    let complaints = case.complaints(said);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0].contains("reporting"), "{complaints:#?}");
}

#[test]
fn reports_of_one_run_arrive_in_order() {
    let mut case = Case::start();
    for number in 0..12 {
        let id = format!("s{number}");
        case.script.serve_sessions(&[session(&id)]);
        // Who asks here takes numbers, too.
        case.agent.status(&case.home.router).unwrap();
    }
    case.recover();
    let first = case.script.statuses();
    case.agent.restart(&case.home.router);
    case.script
        .wait_status("another run", LIMIT, |s| s["bootId"] != first[0]["bootId"]);
    for run in case
        .script
        .statuses()
        .chunk_by(|a, b| a["bootId"] == b["bootId"])
    {
        let numbers: Vec<_> = run
            .iter()
            .map(|s| s["sequence"].as_u64().unwrap())
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
    let runs = case.script.statuses();
    assert_eq!(runs.chunk_by(|a, b| a["bootId"] == b["bootId"]).count(), 2);
}

#[test]
fn reports_go_out_at_every_interval_though_nothing_happens() {
    let case = Case::start();
    let before = reports(&case.script).len();
    let next = case.script.wait_calls("four reports", LIMIT, |calls| {
        let reports = calls.iter().filter(|call| call.is_report());
        let next: Vec<_> = reports.skip(before).map(|call| call.at).collect();
        (next.len() >= 4).then_some(next)
    });
    let took = next[3] - next[0];
    assert!(
        (Duration::from_millis(2700)..LIMIT).contains(&took),
        "three seconds and not less: {took:?}"
    );
}

#[test]
fn the_status_address_has_the_document_that_is_reported() {
    let case = Case::start();
    let asked = case.agent.status(&case.home.router).unwrap();
    let sequence = asked["sequence"].as_u64().unwrap();
    let reported = case.script.wait_status("the next report", LIMIT, |status| {
        status["sequence"].as_u64().unwrap() > sequence
    });
    let same = |mut status: Value| {
        // What moves by itself.
        for key in ["sequence", "uptime", "queues"] {
            assert!(!status[key].is_null(), "{key}");
            status[key] = Value::Null;
        }
        status["sessions"][0]["expiresIn"] = Value::Null;
        status
    };
    assert_eq!(same(asked), same(reported));
}

#[test]
fn a_stop_waits_for_no_call() {
    let mut case = Case::start();
    case.script.answer_reports([Answer::silence()]);
    let before = reports(&case.script).len();
    case.script
        .wait_calls("a report that hangs", LIMIT, |calls| {
            (calls.iter().filter(|call| call.is_report()).count() > before).then_some(())
        });
    let status = case.agent.process.terminate(Duration::from_secs(1));
    assert!(status.success(), "{status}");
    case.marks_stay();

    // Nor for a connection that does not come up.
    case.home.internet.nft(
        "table inet wall {\n chain wall {\n type filter hook input priority 0;\n tcp dport 8080 drop\n }\n}\n",
    );
    case.agent.restart(&case.home.router);
    wait::expect("its start", LIMIT, || case.agent.status(&case.home.router));
    let status = case.agent.process.terminate(Duration::from_secs(1));
    assert!(status.success(), "{status}");
    case.marks_stay();
}

/// An agent that was let in over TLS, and meets another server at the same address afterwards.
struct Secure {
    home: Home,
    folder: Folder,
    certificates: Certificates,
    agent: Agent,
    script: Option<Script>,
}

impl Secure {
    fn start() -> Self {
        let home = Home::without_modem();
        let folder = Folder::new();
        let certificates = Certificates::new(&folder, &["198.51.100.19"]);
        let script = Script::start_tls(&home.internet, address(19), &certificates);
        let mut config = agent::config(&script.url());
        config["backend"]["caFile"] = json!(certificates.ca);
        let agent = Agent::start(&home.router, &config);
        let revision = script.serve_sessions(&[session("a")]);
        script.wait_revision(revision);
        Self {
            home,
            folder,
            certificates,
            agent,
            script: Some(script),
        }
    }

    /// Another server takes the place: the marks stay, and this is said of it; then the first is back.
    fn meets(&mut self, config: rustls::ServerConfig, code: &str, expected: &str) {
        let said = self.agent.process.log().len();
        self.script = None;
        let other = Script::start_with(&self.home.internet, address(19), config);
        wait::expect(expected, RECOVERY, || {
            let status = self.agent.status(&self.home.router)?;
            let warnings = status["warnings"].as_array()?;
            let mut found = warnings.iter().filter(|warning| warning["code"] == code);
            found.find(|w| w["message"].as_str().unwrap().contains(expected))?;
            Some(())
        });
        assert_eq!(dscp(&self.home), (EF, EF));
        assert_eq!(other.calls().len(), 0, "nothing is said to it");
        drop(other);
        let script = Script::start_tls(&self.home.internet, address(19), &self.certificates);
        script.serve_sessions(&[session("a")]);
        let revision = script.serve_sessions(&[session("a")]);
        script.wait_status("recovery", RECOVERY, |status| {
            status["revision"] == revision && is_well(status)
        });
        self.script = Some(script);
        // Between the servers there is none: that is said, too.
        let complaints = complaints(&self.agent, said);
        let about = complaints.iter().filter(|line| line.contains(expected));
        assert_eq!(about.count(), 1, "{complaints:#?}");
    }
}

#[test]
fn a_certificate_of_tomorrow_is_a_matter_of_the_clock() {
    let mut secure = Secure::start();
    let early = secure.certificates.valid_between(
        &secure.folder,
        &["198.51.100.19"],
        (2090, 1, 1),
        (2095, 1, 1),
    );
    let config = secure.certificates.server_config_of(&early);
    secure.meets(
        config,
        "CLOCK",
        "not valid yet; is this router's clock set?",
    );
}

#[test]
fn a_certificate_of_yesterday_is_named() {
    let mut secure = Secure::start();
    let late = secure.certificates.valid_between(
        &secure.folder,
        &["198.51.100.19"],
        (1990, 1, 1),
        (1995, 1, 1),
    );
    let config = secure.certificates.server_config_of(&late);
    secure.meets(config, "BACKEND_UNREACHABLE", "certificate has expired");
}

#[test]
fn a_certificate_of_another_name_or_authority_is_named() {
    let mut secure = Secure::start();
    let other = secure.certificates.client(&secure.folder, "other.example");
    let config = secure.certificates.server_config_of(&other);
    secure.meets(config, "BACKEND_UNREACHABLE", "other.example");
    let elsewhere = Folder::new();
    let stranger = Certificates::new(&elsewhere, &["198.51.100.19"]);
    secure.meets(
        stranger.server_config(),
        "BACKEND_UNREACHABLE",
        "not trusted",
    );
}

#[test]
fn a_client_certificate_is_shown_and_read_again_when_it_is_refused() {
    let home = Home::without_modem();
    let folder = Folder::new();
    let certificates = Certificates::new(&folder, &["198.51.100.19"]);
    let elsewhere = Folder::new();
    let stranger = Certificates::new(&elsewhere, &["198.51.100.19"]);
    let (cert, key) = stranger.client(&folder, "home-0001");
    let config = certificates.server_config_asking();
    let script = Script::start_with(&home.internet, address(19), config);
    let mut config = agent::config(&script.url());
    config["backend"] = json!({ "url": script.url(), "caFile": certificates.ca,
        "clientCertFile": cert, "clientKeyFile": key });
    let agent = Agent::start(&home.router, &config);
    let message = warning(&agent, &home, "BACKEND_UNREACHABLE", LIMIT);
    assert!(message.contains("TLS"), "{message}");
    assert_eq!(script.calls().len(), 0);

    // Its successor has the same name, and so the same files.
    certificates.client(&folder, "home-0001");
    let revision = script.serve_sessions(&[session("a")]);
    script.wait_status("the new certificate", RECOVERY, |status| {
        status["revision"] == revision
    });
    assert_eq!(dscp(&home), (EF, EF));
    assert_eq!(script.calls()[0].header("authorization"), None);
}
