//! A real backend on a real port over a real SQLite file, and a real HTTP client.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test uses a part of this, and may panic"
)]

pub(crate) mod jwks;
pub(crate) mod postgresql;
pub(crate) mod program;

use std::time::Duration;

use qod_backend::backend::Backend;
use qod_backend::clock::Clock;
use qod_backend::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const ADMIN: &str = "0123456789abcdef-admin";
pub(crate) const SCOPES: [&str; 3] = [
    "qod-sessions-write",
    "qod-sessions-read",
    "qod-sessions-delete",
];

/// Status, headers that matter, body (null if there is none).
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// Status, code and message of an error.
    pub(crate) fn error(&self) -> (u16, &str, &str) {
        assert_eq!(
            self.body["status"], self.status,
            "the body repeats the status: {}",
            self.body
        );
        (
            self.status,
            self.body["code"].as_str().unwrap(),
            self.body["message"].as_str().unwrap(),
        )
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    agent: ureq::Agent,
}

impl Client {
    pub(crate) fn new(url: String) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(70)))
            // A connection on which a body was refused unread is closed, perhaps under the next request.
            .max_idle_connections(0)
            .build()
            .into();
        Self { url, agent }
    }

    pub(crate) fn with_agent(url: String, agent: ureq::Agent) -> Self {
        Self { url, agent }
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    /// For a backend that may end meanwhile.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.as_ref()).unwrap();
        let mut response = self.agent.run(request)?;
        let text = response.body_mut().read_to_string()?;
        Ok(Answer {
            status: response.status().as_u16(),
            etag: response
                .headers()
                .get("etag")
                .map(|etag| etag.to_str().unwrap().to_owned()),
            headers: response.headers().clone(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        })
    }

    pub(crate) fn json(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        self.send(method, path, &headers, body.to_string())
    }

    pub(crate) fn get(&self, path: &str, token: &str) -> Answer {
        self.send(
            "GET",
            path,
            &[("authorization", &format!("Bearer {token}"))],
            "",
        )
    }

    pub(crate) fn delete(&self, path: &str, token: &str) -> Answer {
        self.send(
            "DELETE",
            path,
            &[("authorization", &format!("Bearer {token}"))],
            "",
        )
    }

    pub(crate) fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.json(method, &format!("/admin/v1{path}"), ADMIN, body);
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        answer.body
    }

    /// A consumer and its client-credentials token.
    pub(crate) fn consumer(&self, id: &str, scopes: &[&str]) -> String {
        let secret = self.admin(
            "PUT",
            &format!("/consumers/{id}"),
            &json!({"scopes": scopes}),
        )["clientSecret"]
            .as_str()
            .unwrap()
            .to_owned();
        self.token(id, &secret)
    }

    pub(crate) fn token(&self, id: &str, secret: &str) -> String {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.send("POST", "/oauth2/token", &headers, form);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    /// A token of the home's user.
    pub(crate) fn user_token(&self, home: &str, client: &str) -> String {
        let body = json!({"clientId": client, "scope": SCOPES.join(" ")});
        self.admin("POST", &format!("/homes/{home}/token"), &body)["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn agent_token(&self, agent: &str) -> String {
        self.admin("POST", &format!("/agents/{agent}/token"), &json!({}))["token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn poll(&self, agent: &str, token: &str, tag: Option<&str>, wait: u32) -> Answer {
        let bearer = format!("Bearer {token}");
        let prefer = format!("wait={wait}");
        let mut headers = vec![("authorization", bearer.as_str()), ("prefer", &prefer)];
        if let Some(tag) = tag {
            headers.push(("if-none-match", tag));
        }
        self.send(
            "GET",
            &format!("/agent/v1/agents/{agent}/instructions"),
            &headers,
            "",
        )
    }

    /// Reports these sessions as `(id, state, code, message)`.
    pub(crate) fn report(
        &self,
        agent: &str,
        token: &str,
        sequence: u64,
        revision: &Value,
        sessions: &[(&str, &str, &str, &str)],
    ) -> Answer {
        let sessions: Vec<Value> = sessions
            .iter()
            .map(|(id, state, code, message)| {
                let mut session = json!({"sessionId": id, "state": state});
                if !code.is_empty() {
                    session["code"] = (*code).into();
                    session["message"] = (*message).into();
                }
                session
            })
            .collect();
        let status = json!({"agentId": agent, "bootId": "boot", "sequence": sequence, "version": "0.1.0",
            "uptime": 1, "kernel": "6.6", "revision": revision, "sessions": sessions});
        self.json(
            "PUT",
            &format!("/agent/v1/agents/{agent}/status"),
            token,
            &status,
        )
    }
}

/// A backend in this process.
pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) directory: TempDir,
    config: Config,
    backend: Option<Backend>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    /// The clock stands at a time that tests like.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::at(1_700_000_000_250, change)
    }

    /// The clock stands at this time.
    pub(crate) fn at(now_ms: i64, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let admin_token = directory.path().join("admin");
        std::fs::write(&admin_token, ADMIN).unwrap();
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            database: format!("sqlite:{}", directory.path().join("q.sqlite").display()),
            admin_token_file: Some(admin_token),
            ..Config::default()
        };
        let key = directory.path().join("key");
        std::fs::write(&key, "5a".repeat(32)).unwrap();
        config.notifications.key_file = Some(key);
        change(&mut config);
        let clock = Clock::manual(now_ms);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let backend = runtime
            .block_on(Backend::start(&config, clock.clone()))
            .unwrap();
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        Self {
            client: Client::new(format!("{scheme}://{}", backend.address)),
            clock,
            directory,
            config,
            backend: Some(backend),
            runtime,
        }
    }

    /// A home `h` with agent `a`, subject `user-h`, a prefix and numbers, that admits everybody.
    pub(crate) fn home(&self) {
        self.client.admin("PUT", "/homes/h", &home_h());
    }

    /// Where metrics are shown to everybody.
    pub(crate) fn metrics_client(&self) -> Client {
        let backend = self.backend.as_ref().unwrap();
        Client::new(format!("http://{}", backend.metrics_address.unwrap()))
    }

    /// Waits until an agent holds a poll.
    pub(crate) fn await_poll(&self) {
        while self.backend.as_ref().unwrap().held_polls() == 0 {
            std::thread::yield_now();
        }
    }

    /// Changes the database behind the backend's back.
    pub(crate) fn sql(&self, statement: &'static str) {
        let url = format!(
            "sqlite:{}",
            self.directory.path().join("q.sqlite").display()
        );
        self.runtime.block_on(async {
            let pool = sqlx::AnyPool::connect(&url).await.unwrap();
            sqlx::query(statement).execute(&pool).await.unwrap();
            pool.close().await;
        });
    }

    /// Ends the backend and starts another one over the same files and with the same clock, at another port.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let backend = Backend::start(&self.config, self.clock.clone());
        let backend = self.runtime.block_on(backend).unwrap();
        let (scheme, _) = self.client.url.split_once("://").unwrap();
        self.client.url = format!("{scheme}://{}", backend.address);
        self.backend = Some(backend);
    }

    /// The number that a query of the database gives.
    pub(crate) fn number(&self, query: &'static str) -> i64 {
        let url = format!(
            "sqlite:{}",
            self.directory.path().join("q.sqlite").display()
        );
        self.runtime.block_on(async {
            let pool = sqlx::AnyPool::connect(&url).await.unwrap();
            let row = sqlx::query(query).fetch_one(&pool).await.unwrap();
            pool.close().await;
            sqlx::Row::get(&row, 0)
        })
    }

    pub(crate) fn stop(&mut self) {
        if let Some(backend) = self.backend.take() {
            self.runtime.block_on(backend.stop());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn home_h() -> Value {
    json!({"agentIds": ["a"], "subs": ["user-h"], "consumers": "all",
        "phoneNumbers": [{"number": "+4912345678923", "mac": "02:00:00:00:00:17"}, {"number": "+4911111"}],
        "networkAccessIdentifiers": [{"nai": "h@operator.example"}],
        "prefixes": ["2001:db8:85a3::/48", "203.0.113.7/32"],
        "link": {"upstreamKbps": 40000, "downstreamKbps": 200_000}})
}

/// A session for `.23` behind 203.0.113.7.
pub(crate) fn session() -> Value {
    json!({"device": {"ipv4Address": {"publicAddress": "203.0.113.7", "privateAddress": "192.168.1.23"}},
        "applicationServer": {"ipv4Address": "198.51.100.0/28"}, "qosProfile": "QOS_E", "duration": 3600})
}

/// [`session`] with some keys changed, or taken out by null.
pub(crate) fn session_with(change: &Value) -> Value {
    let mut body = session();
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => body.as_object_mut().unwrap().remove(key),
            value => body
                .as_object_mut()
                .unwrap()
                .insert(key.clone(), value.clone()),
        };
    }
    body
}
