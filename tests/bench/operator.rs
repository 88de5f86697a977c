//! A backend over plain HTTP on this machine's loopback, with homes, as its callers see it.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::lab::backend::binary;
use super::lab::folder::Folder;

const ADMIN: &str = "bench-admin-token-0001";

/// Killed when dropped.
pub struct Operator {
    pub address: SocketAddr,
    child: Child,
    // After the process: it keeps its files here.
    _folder: Folder,
}

impl Operator {
    /// Starts `qod-backend serve` over a new SQLite file and waits until it answers.
    pub async fn start() -> Self {
        let folder = Folder::new();
        folder.write("admin", ADMIN);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = json!({"listen": address.to_string(), "adminTokenFile": "admin"});
        folder.write("config.json", config.to_string());
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(binary())
            .args(["serve", "--config", "config.json"])
            .current_dir(folder.path())
            .env("RUST_LOG", "info")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let operator = Self {
            address,
            child,
            _folder: folder,
        };
        let limit = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < limit, "qod-backend does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        operator
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream,
            read: Vec::with_capacity(2048),
        }
    }

    /// A consumer's token for everything of `/qod/v0`.
    pub async fn consumer(&self) -> String {
        let mut connection = self.connect().await;
        let scopes = [
            "qod-sessions-write",
            "qod-sessions-read",
            "qod-sessions-delete",
        ];
        let made = connection
            .admin("PUT", "/consumers/bench", &json!({"scopes": scopes}))
            .await;
        let secret = made["clientSecret"].as_str().unwrap();
        let form = format!("grant_type=client_credentials&client_id=bench&client_secret={secret}");
        let request = format!(
            "POST /oauth2/token HTTP/1.1\r\nhost: bench\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n{form}",
            form.len()
        );
        let answer = connection.exchange(request.as_bytes()).await.unwrap();
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// One connection that is kept. No more HTTP than the backend's answers need: what the generator takes from the
/// processors, the backend lacks.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Connection {
    /// Sends a request and reads its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let head = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.read[..head]).into_owned();
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < head + length {
            self.more().await?;
        }
        Ok(Answer {
            status: text[9..12].parse().unwrap(),
            etag: field("etag").map(str::to_owned),
            body: self.read[head..].to_vec(),
        })
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    pub async fn admin(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let request = request(
            method,
            &format!("/admin/v1{path}"),
            ADMIN,
            "",
            &body.to_string(),
        );
        let answer = self.exchange(&request).await.unwrap();
        assert!(answer.status < 300, "{method} {path}: {}", answer.status);
        answer.json()
    }

    /// Home `number` with one agent, at a public address of its own.
    pub async fn provision(&mut self, number: usize) {
        let home = json!({"agentIds": [format!("agent-{number}")], "subs": [], "phoneNumbers": [],
            "networkAccessIdentifiers": [], "prefixes": [format!("{}/32", public_address(number))],
            "consumers": "all"});
        self.admin("PUT", &format!("/homes/home-{number}"), &home)
            .await;
    }

    pub async fn agent_token(&mut self, number: usize) -> String {
        let path = format!("/agents/agent-{number}/token");
        let made = self.admin("POST", &path, &json!({})).await;
        made["token"].as_str().unwrap().to_owned()
    }
}

/// `more`: further header lines, each with its end.
pub fn request(method: &str, path: &str, token: &str, more: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n{more}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A session of one device of home `number`, to one port of the server.
pub fn create(number: usize, server_port: usize, token: &str) -> Vec<u8> {
    let body = json!({"device": {"ipv4Address": {"publicAddress": public_address(number), "privateAddress": "192.168.1.23"}},
        "applicationServer": {"ipv4Address": "198.51.100.7"}, "applicationServerPorts": {"ports": [server_port]},
        "qosProfile": "QOS_E", "duration": 3600});
    request("POST", "/qod/v0/sessions", token, "", &body.to_string())
}

pub fn delete(session: &str, token: &str) -> Vec<u8> {
    request(
        "DELETE",
        &format!("/qod/v0/sessions/{session}"),
        token,
        "",
        "",
    )
}

fn public_address(number: usize) -> String {
    format!("198.18.{}.{}", number / 256, number % 256)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
