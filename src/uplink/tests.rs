//! One poll after the other against answers of every kind: what is asked, and how long the agent waits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::poll::{Known, passes_with_the_clock};
use super::*;

/// Answers one request after the other with these, and returns their heads.
fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let serve = |answer: &String| {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<_> = lines
                .map(|line| line.unwrap())
                .take_while(|line| !line.is_empty())
                .collect();
            // One that is held begins with how long.
            let (held, answer) = answer.split_once("ms ").unwrap_or(("0", answer));
            std::thread::sleep(Duration::from_millis(held.parse().unwrap_or(0)));
            stream.write_all(answer.as_bytes()).unwrap();
            head.join("\n")
        };
        answers.iter().map(serve).collect()
    });
    (url, thread)
}

fn uplink(url: &str, wait: u32) -> Arc<Uplink> {
    let file = std::env::temp_dir().join(format!("qod-uplink-{}.json", url.replace('/', "")));
    let config = format!(
        r#"{{ "agentId": "a", "lan": ["lan"], "pollWaitSeconds": {wait},
             "backend": {{ "url": "{url}", "token": "t", "allowPlainHttp": true }} }}"#
    );
    std::fs::write(&file, config).unwrap();
    let uplink = Uplink::new(&Config::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    uplink
}

fn runtime(builder: &mut Builder) -> Runtime {
    builder.enable_all().build().unwrap()
}

/// Polls once for each answer: what was asked, and how long the agent would wait after each.
fn poll(answers: &[&str]) -> (Vec<String>, Vec<Duration>) {
    poll_with(50, answers)
}

fn poll_with(wait: u32, answers: &[&str]) -> (Vec<String>, Vec<Duration>) {
    let answers: Vec<_> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let count = answers.len();
    let (url, server) = server(answers);
    let uplink = uplink(&url, wait);
    let pauses = runtime(&mut Builder::new_current_thread()).block_on(async {
        let (tell, mut news) = mpsc::channel(16);
        let mut known = Known::default();
        let mut pauses = Vec::new();
        for _ in 0..count {
            pauses.push(uplink.poll_once(&mut known, &tell).await.unwrap());
            while news.try_recv().is_ok() {}
        }
        pauses
    });
    (server.join().unwrap(), pauses)
}

/// What a request has for `If-None-Match`.
fn asked_with(head: &str) -> Option<&str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let (_, tag) = fields.find(|(name, _)| name.eq_ignore_ascii_case("if-none-match"))?;
    Some(tag)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn state(headers: &str, revision: u64) -> String {
    let body = format!("{{\"revision\":{revision},\"sessions\":[]}}");
    answer("200 OK", headers, &body)
}

const UNCHANGED: &str = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";
const STATE: &str = "HTTP/1.1 200 OK\r\nETag: \"7\"\r\nContent-Length: 28\r\n\
                     Connection: close\r\n\r\n{\"revision\":7,\"sessions\":[]}";
const GONE: &str = "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[test]
fn an_agent_that_is_taken_back_asks_for_everything() {
    let (asked, pauses) = poll(&[STATE, GONE, STATE]);
    assert_eq!(asked_with(&asked[0]), None);
    assert_eq!(asked_with(&asked[1]), Some("\"7\""));
    assert_eq!(asked_with(&asked[2]), None, "{}", asked[2]);
    assert_eq!(pauses[0], Duration::ZERO);
    assert_eq!(pauses[1], WAIT_DECOMMISSIONED);
}

#[test]
fn a_decommissioned_agent_asks_every_hour_until_it_is_taken_back() {
    let (url, server) = server([STATE, GONE, GONE, STATE].map(str::to_owned).to_vec());
    let uplink = uplink(&url, 50);
    // The runtime's own clock jumps to whatever is next.
    let runtime = runtime(Builder::new_current_thread().start_paused(true));
    runtime.block_on(async {
        let (tell, mut news) = mpsc::channel(1);
        let began = tokio::time::Instant::now();
        tokio::spawn(uplink.poll(tell));
        let mut heard = Vec::new();
        while heard.len() < 5 {
            let what = match news.recv().await.unwrap() {
                News::Instructions(..) => "state",
                News::Decommissioned => "gone",
                News::Trouble(None) => "well",
                News::Trouble(Some(_)) => "trouble",
            };
            heard.push((what, began.elapsed().as_secs() / 3600));
        }
        let expected = [
            ("state", 0),
            ("gone", 0),
            ("gone", 1),
            ("state", 2),
            ("well", 2),
        ];
        assert_eq!(heard, expected);
    });
    let asked = server.join().unwrap();
    assert_eq!(asked_with(&asked[2]), None);
}

#[test]
fn a_backend_that_does_not_honour_the_tag_is_not_asked_in_a_circle() {
    let other_tag = state("ETag: \"of another server\"\r\n", 7);
    let (_, pauses) = poll(&[STATE, STATE, &other_tag, STATE]);
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(
        pauses.iter().skip(1).all(|pause| !pause.is_zero()),
        "{pauses:?}"
    );
}

#[test]
fn a_backend_that_always_has_something_new_is_not_asked_in_a_circle() {
    let mut known = Known::default();
    let mut after = |millis| {
        known
            .pause_after_state(Duration::from_millis(millis))
            .as_secs()
    };
    let pauses: Vec<_> = (0..13).map(|_| after(3)).collect();
    assert_eq!(
        pauses,
        [[0; 10].as_slice(), &[1, 1, 1]].concat(),
        "ten changes are followed at once"
    );
    assert_eq!((after(100), after(3)), (0, 0), "that one was waited for");
}

#[test]
fn a_poll_that_is_not_held_backs_off() {
    let (_, pauses) = poll(&[STATE, UNCHANGED, UNCHANGED, UNCHANGED]);
    assert!(
        pauses.iter().skip(1).all(|pause| !pause.is_zero()),
        "{pauses:?}"
    );
}

#[test]
fn a_poll_that_is_held_is_repeated_at_once() {
    let held = format!("1100ms {UNCHANGED}");
    let (asked, pauses) = poll_with(2, &[STATE, UNCHANGED, &held, UNCHANGED]);
    assert!(!pauses[1].is_zero());
    assert_eq!(pauses[2], Duration::ZERO);
    assert!(
        pauses[3] <= Duration::from_secs(1),
        "and all is forgotten: {pauses:?}"
    );
    assert_eq!(asked_with(&asked[3]), Some("\"7\""));
}

#[test]
fn after_a_failure_one_poll_is_not_held() {
    let away = answer("503 Service Unavailable", "", "");
    let (asked, pauses) = poll(&[STATE, &away, UNCHANGED, UNCHANGED]);
    assert!(asked[1].contains("wait=50"), "{}", asked[1]);
    assert!(asked[2].contains("wait=0"), "{}", asked[2]);
    assert_eq!(pauses[2], Duration::ZERO);
    assert!(asked[3].contains("wait=50"), "{}", asked[3]);
    assert!(!pauses[3].is_zero(), "that one was asked to be held");

    // Who fails whenever it is asked to hold one is not asked in a circle.
    let (_, pauses) = poll(&[&[STATE], [&away, UNCHANGED].repeat(20).as_slice()].concat());
    let longest = pauses.iter().max().unwrap();
    assert!(*longest > Duration::from_secs(8), "{pauses:?}");
}

#[test]
fn what_the_clock_may_end_is_tried_again_when_it_is_set() {
    let unreachable = |retry_after| Failure::Unreachable {
        what: String::new(),
        retry_after,
    };
    for failure in [
        Failure::Clock(String::new()),
        Failure::Tls(String::new()),
        unreachable(None),
    ] {
        assert!(passes_with_the_clock(&failure), "{failure:?}");
    }
    for failure in [
        unreachable(Some(Duration::from_secs(60))),
        Failure::Gone,
        Failure::Unauthorized(ureq::http::StatusCode::UNAUTHORIZED),
    ] {
        assert!(!passes_with_the_clock(&failure), "{failure:?}");
    }
}

#[test]
fn a_tag_comes_back_as_it_was_sent() {
    let tags = [
        "\"17\"",
        "W/\"17\"",
        "17",
        r#""a \"quoted\" \\ tag""#,
        "\"r\u{e9}vision\"",
        "\"a, b\"",
        "*",
    ];
    for tag in tags {
        let (asked, _) = poll(&[&state(&format!("ETag: {tag}\r\n"), 1), UNCHANGED]);
        assert_eq!(asked_with(&asked[1]), Some(tag));
        assert!(asked[1].contains("wait=50"), "{}", asked[1]);
        assert!(!asked[0].to_lowercase().contains("prefer"), "{}", asked[0]);
    }
    for headers in ["", "ETag:\r\n"] {
        let (asked, _) = poll(&[&state(headers, 23), UNCHANGED]);
        assert_eq!(
            asked_with(&asked[1]),
            Some("\"23\""),
            "the revision is the tag"
        );
    }
    let long = state(&format!("ETag: \"{}\"\r\n", "x".repeat(300)), 1);
    let (asked, _) = poll(&[&long, STATE]);
    assert_eq!(asked_with(&asked[1]), None, "such a state is not taken");
}

#[test]
fn what_cannot_be_used_leaves_the_tag_of_what_is_in_force() {
    let bad = [
        answer("200 OK", "ETag: \"8\"\r\n", "{"),
        answer("200 OK", "ETag: \"8\"\r\n", "{\"revision\":8}"),
        answer(
            "200 OK",
            "ETag: \"8\"\r\nContent-Encoding: gzip\r\n",
            "{\"revision\":8,\"sessions\":[]}",
        ),
        answer("204 No Content", "ETag: \"8\"\r\n", ""),
        answer("503 Service Unavailable", "ETag: \"8\"\r\n", ""),
        answer("401 Unauthorized", "ETag: \"8\"\r\n", ""),
        answer(
            "302 Found",
            "ETag: \"8\"\r\nLocation: http://127.0.0.1:9/\r\n",
            "",
        ),
    ];
    for bad in &bad {
        let (asked, pauses) = poll(&[STATE, bad, UNCHANGED]);
        assert_eq!(asked_with(&asked[2]), Some("\"7\""), "{bad}");
        assert!(!pauses[1].is_zero(), "{bad}");
    }
}

#[test]
fn revisions_are_not_ordered() {
    let (asked, pauses) = poll(&[STATE, &state("ETag: \"3\"\r\n", 3), UNCHANGED]);
    assert_eq!(asked_with(&asked[2]), Some("\"3\""));
    assert_eq!(pauses[1], Duration::ZERO);
}

#[test]
fn retry_after_is_waited_for() {
    let now = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let cases = [
        (
            "503 Service Unavailable",
            "Retry-After: 120\r\n".to_owned(),
            120..=120,
        ),
        (
            "429 Too Many Requests",
            "Retry-After: 315360000\r\n".to_owned(),
            600..=600,
        ),
        (
            "503 Service Unavailable",
            format!("{now}Retry-After: Sun, 06 Nov 1994 08:51:37 GMT\r\n"),
            120..=120,
        ),
        (
            "503 Service Unavailable",
            format!("{now}Retry-After: Sat, 06 Nov 2004 08:49:37 GMT\r\n"),
            600..=600,
        ),
        (
            "503 Service Unavailable",
            format!("{now}Retry-After: Fri, 06 Nov 1992 08:49:37 GMT\r\n"),
            0..=1,
        ),
        (
            "408 Request Timeout",
            "Retry-After: Sat, 06 Nov 2094 08:49:37 GMT\r\n".to_owned(),
            0..=1,
        ),
        ("500 Internal Server Error", String::new(), 0..=1),
    ];
    for (status, headers, expected) in cases {
        let (_, pauses) = poll(&[&answer(status, &headers, "")]);
        assert!(!pauses[0].is_zero());
        assert!(
            expected.contains(&pauses[0].as_secs()),
            "{headers}: {:?}",
            pauses[0]
        );
    }
}

#[test]
fn a_refusal_backs_off_up_to_ten_minutes_and_a_trouble_up_to_one() {
    let longest = |failure: &Failure| {
        let mut backoff = Backoff::default();
        let pauses = (0..60).map(|_| pause_after(failure, &mut backoff).as_secs());
        pauses.max().unwrap()
    };
    let refused = longest(&Failure::Unauthorized(ureq::http::StatusCode::UNAUTHORIZED));
    assert!((61..=600).contains(&refused), "{refused}");
    for failure in [
        Failure::Clock(String::new()),
        Failure::Tls(String::new()),
        Failure::BadInstructions(String::new()),
        Failure::Unreachable {
            what: String::new(),
            retry_after: None,
        },
    ] {
        let waited = longest(&failure);
        assert!((30..=60).contains(&waited), "{failure:?}: {waited}");
    }
}

#[test]
fn a_poll_is_given_up_when_the_way_changes_and_made_anew() {
    // Longer than the test may take; the answer would be another one than that of the next poll.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uplink = uplink(&format!("http://{}", listener.local_addr().unwrap()), 50);
    let asked = std::thread::spawn(move || {
        let (mut held, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let length = held.read(&mut head).unwrap();
        assert!(length > 0);
        (listener, held)
    });
    runtime(&mut Builder::new_current_thread()).block_on(async {
        let (tell, mut news) = mpsc::channel(16);
        let task = Arc::clone(&uplink);
        tokio::spawn(task.poll(tell));
        let asked = tokio::task::spawn_blocking(move || asked.join().unwrap());
        let (listener, mut held) = asked.await.unwrap();
        uplink.moved();
        let answers = tokio::task::spawn_blocking(move || {
            // The old connection is closed, and nothing more comes by it.
            assert_eq!(held.read(&mut [0; 16]).unwrap_or(0), 0);
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(STATE.as_bytes()).unwrap();
            stream
        });
        let _stream = answers.await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(10), news.recv()).await;
        assert!(
            matches!(heard.unwrap(), Some(News::Instructions(state, _)) if state.revision == 7)
        );
        uplink.shutdown();
    });
}
