//! A running `qod-backend`.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::agent;
use super::certificate::Certificates;
use super::folder::Folder;
use super::http::{Answer, Client};
use super::netns::Netns;
use super::process::Process;
use super::wait;

/// The backend's binary: `QOD_BACKEND_BIN`, or the one beside the agent's.
pub fn binary() -> PathBuf {
    let path = env::var_os("QOD_BACKEND_BIN").map_or_else(
        || agent::binary().with_file_name("qod-backend"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "CANNOT RUN HERE: no {} (build it first: cargo build -p qod-backend)",
        path.display()
    );
    path
}

/// Killed when dropped.
pub struct Backend<'a> {
    pub process: Process,
    pub certificates: Certificates,
    pub client: Client,
    pub url: String,
    admin_token: String,
    netns: &'a Netns,
    config: PathBuf,
    level: &'static str,
    folder: Folder,
}

impl<'a> Backend<'a> {
    /// Starts `qod-backend serve` with TLS, an own store, and `more` configuration keys; waits until it
    /// is ready.
    pub fn start(netns: &'a Netns, listen: SocketAddr, more: &Value) -> Self {
        Self::logging(netns, listen, more, "info")
    }

    /// As [`Self::start`], and logs at this level.
    pub fn logging(
        netns: &'a Netns,
        listen: SocketAddr,
        more: &Value,
        level: &'static str,
    ) -> Self {
        let folder = Folder::new();
        let certificates = Certificates::new(&folder, &[&listen.ip().to_string()]);
        let admin_token_file = folder.write("admin-token", "lab-admin-token-0001");
        let mut config = json!({
            "listen": listen.to_string(),
            "database": format!("sqlite://{}", folder.path().join("store.db").display()),
            "tls": { "cert": certificates.cert, "key": certificates.key, "clientCa": certificates.ca },
            "adminTokenFile": admin_token_file,
        });
        if let (Some(all), Some(more)) = (config.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        let config = folder.write("config.json", config.to_string());
        let url = format!("https://{listen}");
        let mut backend = Self {
            process: serve(netns, &folder, &config, level),
            client: Client::new(&url, Some(&certificates.ca)),
            certificates,
            url,
            admin_token: fs::read_to_string(admin_token_file).unwrap(),
            netns,
            config,
            level,
            folder,
        };
        backend.wait_ready();
        backend
    }

    /// Ends it as a crash would and starts it again over the same store.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = serve(self.netns, &self.folder, &self.config, self.level);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        wait::expect("qod-backend is ready", Duration::from_secs(10), || {
            let ended = self.process.ended();
            assert!(ended.is_none(), "{ended:?}\n{}", self.process.log());
            self.client.is_good(self.netns, "/readyz").then_some(())
        });
    }

    /// A call of the admin API, from the backend's own host.
    pub fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.admin_token.trim());
        self.client.call(
            self.netns,
            method,
            &format!("/admin/v1{path}"),
            &[("authorization", &bearer)],
            body,
        )
    }

    /// A call with a consumer's token, from the backend's own host.
    pub fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        self.client.call(self.netns, method, path, &headers, body)
    }

    /// A consumer's token by client credentials.
    pub fn token(&self, client_id: &str, client_secret: &str, scope: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&client_id={client_id}\
             &client_secret={client_secret}&scope={}",
            scope.replace(' ', "+")
        );
        let answer = self.client.form(self.netns, "/oauth2/token", &[], &form);
        answer.expect(200)["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The agent's token, from the admin API.
    pub fn agent_token(&self, agent_id: &str) -> String {
        let path = format!("/agents/{agent_id}/token");
        let answer = self.admin("POST", &path, &json!({}));
        assert!(answer.status < 300, "{}", answer.text);
        answer.body["token"].as_str().unwrap().to_owned()
    }

    /// The configuration of an agent that calls this backend.
    pub fn agent_config(&self, agent_id: &str) -> Value {
        let mut config = agent::config(&self.url);
        config["agentId"] = agent_id.into();
        config["backend"]["token"] = self.agent_token(agent_id).into();
        config["backend"]["caFile"] = json!(self.certificates.ca);
        config
    }
}

fn serve(netns: &Netns, folder: &Folder, config: &Path, level: &str) -> Process {
    Process::start(
        netns
            .command(binary())
            .args(["serve", "--config"])
            .arg(config)
            .env("RUST_LOG", env::var_os("RUST_LOG").unwrap_or(level.into()))
            .current_dir(folder.path()),
        &folder.path().join("backend.log"),
    )
}
