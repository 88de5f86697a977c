//! The operator's commands: the program itself against a real backend.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{ADMIN, Running, SCOPES, home_h, session};
use qod_backend::config::Tls;
use serde_json::{Value, json};

/// The program as an operator runs it: in a folder, with an environment.
struct Shell<'a> {
    directory: &'a Path,
    url: &'a str,
}

impl<'a> Shell<'a> {
    /// In the backend's own folder, where `admin` is the admin token.
    fn beside(running: &'a Running) -> Self {
        Self {
            directory: running.directory.path(),
            url: &running.client.url,
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qod-backend"));
        command
            .args(line.split_whitespace())
            .current_dir(self.directory)
            .env("QOD_BACKEND_URL", self.url)
            .env("QOD_ADMIN_TOKEN_FILE", "admin")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What a command that must succeed prints.
    fn text(&self, line: &str) -> String {
        let output = self.run(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.as_str()),
            (Some(0), ""),
            "{line}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(line)).unwrap()
    }

    /// What a command that must fail says, and its exit status.
    fn failure(&self, line: &str) -> (Option<i32>, String) {
        let output = self.run(line);
        assert!(output.stdout.is_empty(), "{line}");
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.directory.join(name), text).unwrap();
    }

    /// Runs a command that reads standard input.
    fn feed(&self, line: &str, input: &str) -> Output {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }
}

#[test]
fn from_nothing_to_a_session() {
    let running = Running::start();
    let shell = Shell::beside(&running);
    shell.file("home.json", home_h().to_string());
    let made = shell.json("home put h home.json");
    assert_eq!(
        (&made["id"], &made["subs"]),
        (&json!("h"), &json!(["user-h"]))
    );
    assert_eq!(shell.json("home get h"), made);

    let second = json!({"agentIds": ["b"], "consumers": []}).to_string();
    let output = shell.feed("home put h2 -", &second);
    assert_eq!(output.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["agentIds"], json!(["b"]));
    assert_eq!(shell.json("home list"), json!({"homes": ["h", "h2"]}));
    assert_eq!(shell.text("home list --lines"), "\"h\"\n\"h2\"\n");

    shell.file("app.json", json!({"scopes": SCOPES}).to_string());
    let consumer = shell.json("consumer put app app.json");
    assert!(consumer["clientSecret"].as_str().unwrap().len() > 40);
    assert_eq!(shell.json("consumer get app").get("clientSecret"), None);
    assert_eq!(shell.json("consumer list"), json!({"consumers": ["app"]}));

    let bootstrap = shell.json("agent bootstrap a --expires-in 60");
    assert_eq!(bootstrap["expiresIn"], 60);
    assert_eq!(shell.json("agent bootstrap a")["expiresIn"], 7 * 86_400);
    let agent = shell.json("agent token a")["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(running.client.poll("a", &agent, None, 0).status, 200);
    assert_eq!(shell.json("agent get a")["connected"], true);
    let agents = shell.json("agent list");
    assert_eq!(
        (&agents["agents"][0]["id"], &agents["agents"][1]["id"]),
        (&json!("a"), &json!("b"))
    );

    let token = shell.json(&format!("home token h app {}", SCOPES.join(" ")));
    let token = token["access_token"].as_str().unwrap();
    let created = running
        .client
        .json("POST", "/qod/v0/sessions", token, &session());
    let id = created.body["sessionId"].as_str().unwrap();
    assert_eq!(shell.json(&format!("session get {id}"))["home"], "h");
    assert_eq!(shell.json("session list")["sessions"][0]["sessionId"], id);
    assert_eq!(shell.text(&format!("session delete {id}")), "");
    assert_eq!(shell.json("session list"), json!({"sessions": []}));
    assert_eq!(shell.text("session list --lines"), "");
}

/// Lists of ids, of documents with an id, and of sessions.
#[test]
fn lists_are_followed_to_their_end() {
    let running = Running::start();
    running.home();
    let shell = Shell::beside(&running);
    let token = running.client.consumer("app", &SCOPES);
    let created = running
        .client
        .json("POST", "/qod/v0/sessions", &token, &session());
    assert_eq!(created.status, 201);
    running.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
         INSERT INTO homes (id, revision, config, created_ms) SELECT printf('many-%05d', i), 1, '{}', 0 FROM n",
    );
    running.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1999) \
         INSERT INTO agents (id, created_ms, last_poll_ms, last_status_ms, sequence, sessions) \
         SELECT printf('many-%05d', i), 0, 0, 0, 0, '{}' FROM n",
    );
    running.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
         INSERT INTO sessions (id, home_id, consumer, created_ms, expires_ms, added_revision, request, instruction, request_hash) \
         SELECT printf('many-%05d', i), home_id, consumer, created_ms, expires_ms, added_revision, request, instruction, \
         request_hash FROM sessions, n",
    );

    let homes = shell.json("home list");
    let homes: Vec<&str> = homes["homes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let mut wanted = vec!["h".to_owned()];
    wanted.extend((1..=2500).map(|i| format!("many-{i:05}")));
    assert_eq!(homes, wanted);

    for (line, key, many) in [
        ("agent list", "id", 2_000),
        ("session list", "sessionId", 1_001),
    ] {
        let lines = shell.text(&format!("{line} --lines"));
        let mut ids: Vec<String> = lines
            .lines()
            .map(|entry| {
                serde_json::from_str::<Value>(entry).unwrap()[key]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(ids.len(), many, "{line}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), many, "{line}: each once");
    }
}

#[test]
fn a_refusal_is_told_in_the_backends_words() {
    let running = Running::start();
    let shell = Shell::beside(&running);
    let url = &running.client.url;
    assert_eq!(
        shell.failure("home get nowhere"),
        (
            Some(1),
            format!(
                "qod-backend: GET {url}/admin/v1/homes/nowhere: There is no such home (404 NOT_FOUND)\n"
            )
        )
    );
    shell.file("home.json", r#"{"consumers":"all","agentId":"a"}"#);
    let (status, said) = shell.failure("home put h home.json");
    assert_eq!(status, Some(1));
    assert!(
        said.contains("agentId: is not a known key (400 INVALID_INPUT)"),
        "{said}"
    );

    shell.file("wrong", "another-token-of-nobody");
    assert_eq!(
        shell.failure("home list --token-file wrong"),
        (
            Some(1),
            format!(
                "qod-backend: GET {url}/admin/v1/homes: No authorization to invoke operation \
                 (401 UNAUTHORIZED, for the token in wrong)\n"
            )
        )
    );
}

#[test]
fn what_is_no_json_is_not_sent() {
    let running = Running::start();
    let shell = Shell::beside(&running);
    shell.file("home.json", "{\"consumers\": \"all\",\n \"subs\": [}");
    assert_eq!(
        shell.failure("home put h home.json"),
        (
            Some(1),
            "qod-backend: read home.json: expected value at line 2 column 11\n".to_owned()
        )
    );
    shell.file("twice.json", "{\"consumers\": \"all\", \"consumers\": []}");
    let (_, said) = shell.failure("home put h twice.json");
    assert!(
        said.contains("twice.json: the key \"consumers\" is repeated at line 1"),
        "{said}"
    );
    let output = shell.feed("home put h -", "");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("read standard input: EOF while parsing"),
        "{said}"
    );
    let (status, said) = shell.failure("home put h missing.json");
    assert_eq!(status, Some(1));
    assert!(said.contains("read missing.json: No such file"), "{said}");
    shell.file("long.json", vec![b' '; 256 * 1024 + 1]);
    let (status, said) = shell.failure("home put h long.json");
    assert_eq!(status, Some(1));
    assert!(
        said.contains("read long.json: it is longer than 262144 bytes"),
        "{said}"
    );
    assert_eq!(shell.json("home list"), json!({"homes": []}));
}

#[test]
fn wrong_usage_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell {
        directory: directory.path(),
        url: "http://127.0.0.1:1",
    };
    for (line, message) in [
        ("hom list", "there is no command `hom list`"),
        (
            "home get",
            "home get is missing ID\nusage:\n  qod-backend home get ID\n",
        ),
        ("home delete a/b", "the id \"a/b\" must be"),
        ("home delete ..", "the id \"..\" must be"),
        ("home get h --lines", "home get has no option --lines"),
        (
            "home list --url http://backend.example",
            "use the URL http://backend.example: over plain http the admin token can be read on the way",
        ),
        (
            "home list --url https://admin:hidden@backend.example",
            "use the URL backend.example: it must not hold credentials",
        ),
    ] {
        let (status, said) = shell.failure(line);
        assert!(said.contains(message), "{line}: {said}");
        assert!(!said.contains("hidden"), "{said}");
        assert_eq!(status, Some(2), "{line}");
    }
}

/// 0.0.0.0 is no loopback address, but on Linux leads to this host.
#[test]
fn plain_http_to_others_is_allowed_on_request_only() {
    let running = Running::start();
    let shell = Shell::beside(&running);
    let url = running.client.url.replace("127.0.0.1", "0.0.0.0");
    let line = format!("home list --url {url}");
    assert_eq!(shell.failure(&line).0, Some(2));
    assert_eq!(
        shell.json(&format!("{line} --allow-plain-http")),
        json!({"homes": []})
    );
}

#[test]
fn help_is_asked_for_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell {
        directory: directory.path(),
        url: "",
    };
    let help = shell.text("help");
    for line in [
        "--help",
        "-h",
        "home --help",
        "serve -h",
        "agent token a --help",
    ] {
        assert_eq!(shell.text(line), help, "{line}");
    }
    for said in [
        "qod-backend serve [--config FILE]",
        "home put ID FILE|-",
        "--token-file FILE",
        "secret, which is shown this once",
    ] {
        assert!(help.contains(said), "{said}");
    }
}

#[test]
fn who_cannot_be_asked_is_named() {
    let running = Running::start();
    // tcpmux, which nobody has served for decades.
    let url = "http://127.0.0.1:1";
    let shell = Shell {
        url,
        ..Shell::beside(&running)
    };
    let (status, said) = shell.failure("home list");
    assert_eq!(status, Some(1));
    assert!(said.contains(&format!("ask {url}: connect to ")), "{said}");

    let (status, said) = shell.failure("home list --token-file nothing");
    assert_eq!(status, Some(1));
    assert!(
        said.contains("read the admin token nothing: No such file")
            && said.contains("--token-file"),
        "{said}"
    );
}

/// The token of a backend without configuration is found where that one made it.
#[test]
fn the_token_beside_the_database_is_the_default() {
    let running = Running::start();
    let shell = Shell::beside(&running);
    let output = shell
        .command("home list")
        .env_remove("QOD_ADMIN_TOKEN_FILE")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("read the admin token qod-backend.admin-token: "),
        "{said}"
    );
    shell.file("qod-backend.admin-token", ADMIN);
    let output = shell
        .command("home list")
        .env_remove("QOD_ADMIN_TOKEN_FILE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn tls_is_verified_against_the_ca_file() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("cert.pem"), certificate.cert.pem()).unwrap();
    fs::write(path("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    fs::write(path("admin"), ADMIN).unwrap();
    let running = Running::with(|config| {
        config.tls = Some(Tls {
            cert: path("cert.pem"),
            key: path("key.pem"),
            client_ca: None,
        });
    });
    let url = running.client.url.replace("127.0.0.1", "localhost");
    let shell = Shell {
        directory: directory.path(),
        url: &url,
    };
    assert_eq!(
        shell.json("home list --ca-file cert.pem"),
        json!({"homes": []})
    );
    let (status, said) = shell.failure("home list");
    assert_eq!(status, Some(1));
    assert!(
        said.contains(&format!("ask {url}: speak TLS with localhost")),
        "{said}"
    );
    let (status, said) = shell.failure("home list --ca-file key.pem");
    assert_eq!(status, Some(1));
    assert!(
        said.contains("read the authorities key.pem: it holds no certificate"),
        "{said}"
    );
}

/// A server that answers each request by its head with a status and a body. Returns its URL.
fn answering(answer: impl Fn(&str) -> (&'static str, &'static str) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let (status, body) = answer(std::str::from_utf8(&head).unwrap());
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    url
}

/// A list whose answers say by `next` how it goes on.
#[test]
fn usage_records_are_followed_by_next() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("admin"), ADMIN).unwrap();
    let url = answering(|head| {
        assert!(
            head.contains(&format!("authorization: Bearer {ADMIN}\r\n")),
            "{head}"
        );
        match head.lines().next().unwrap() {
            "GET /admin/v1/usage?from=5&to=9 HTTP/1.1" => (
                "200 OK",
                "{\"usage\":[{\"sessionId\":\"a\"}],\"next\":\"6000.a\"}",
            ),
            "GET /admin/v1/usage?from=5&to=9&after=6000.a HTTP/1.1" => (
                "200 OK",
                "{\"usage\":[{\"sessionId\":\"b\"}],\"next\":null}",
            ),
            _ => ("404 Not Found", ""),
        }
    });
    let shell = Shell {
        directory: directory.path(),
        url: &url,
    };
    assert_eq!(
        shell.json("usage --from 5 --to 9"),
        json!({"usage": [{"sessionId": "a"}, {"sessionId": "b"}]})
    );
}

/// Whatever answers: a proxy's page, a list that begins anew at each page, and what a terminal would obey.
#[test]
fn answers_that_are_not_a_backends_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("admin"), ADMIN).unwrap();
    for (head, body, message) in [
        ("200 OK", "<html>", "it is no JSON"),
        ("200 OK", "{\"hosts\":[]}", "it holds no list \"homes\""),
        (
            "200 OK",
            "{\"homes\":[\"h\"]}",
            "the list does not go on after \"h\"",
        ),
        (
            "200 OK",
            "{\"homes\":[{}]}",
            "it does not say how \"homes\" goes on",
        ),
        ("502 Bad Gateway", "<html>", "it was not done (502)"),
        ("301 Moved Permanently", "", "it was not done (301)"),
        (
            "409 Conflict",
            "{\"code\":\"CONFLICT\",\"message\":\"a\\u001b[2Jb\"}",
            ": a [2Jb (409 CONFLICT)",
        ),
    ] {
        let url = answering(move |_| (head, body));
        let shell = Shell {
            directory: directory.path(),
            url: &url,
        };
        let (status, said) = shell.failure("home list");
        assert!(said.contains(message), "{head} {body}: {said}");
        assert_eq!(status, Some(1), "{body}");
    }
}
