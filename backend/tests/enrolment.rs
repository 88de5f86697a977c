//! How an agent comes by its credential, changes it, and does without one where it has a certificate.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use common::{ADMIN, Answer, Client, Running};
use qod_backend::config::Tls;
use qod_backend::store::{MOST_TOKENS, OVERLAP_MS, REPEAT_MS};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

const DAY: i64 = 86_400_000;

fn started() -> Running {
    let running = Running::start();
    running.home();
    running
}

fn post(client: &Client, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    client.send("POST", path, &[("authorization", &bearer)], "")
}

fn bootstrap(client: &Client, body: &Value) -> String {
    let answer = client.admin("POST", "/agents/a/bootstrap", body);
    answer["bootstrapToken"].as_str().unwrap().to_owned()
}

/// The token in an answer that is good.
fn token_in(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["token"].as_str().unwrap().to_owned()
}

fn enrol(client: &Client, bootstrap: &str) -> Answer {
    post(client, "/agent/v1/enrol", bootstrap)
}

fn rotate(client: &Client, token: &str) -> Answer {
    post(client, "/agent/v1/agents/a/token", token)
}

fn poll(client: &Client, token: &str) -> u16 {
    client.poll("a", token, None, 0).status
}

#[test]
fn a_bootstrap_token_serves_once() {
    let running = started();
    let client = &running.client;
    let bootstrap = bootstrap(client, &json!({}));
    assert_eq!(poll(client, &bootstrap), 401, "it opens nothing else");
    let answer = enrol(client, &bootstrap);
    assert_eq!(answer.body["agentId"], "a");
    let token = token_in(&answer);
    assert_eq!(poll(client, &token), 200);
    assert_eq!(enrol(client, &bootstrap).error().0, 401, "it has served");
    assert_eq!(enrol(client, &token).error().0, 401);
    assert_eq!(enrol(client, "unknown").error().0, 401);
    let nothing = client.send("POST", "/agent/v1/enrol", &[], "");
    assert_eq!(nothing.error().0, 401);
}

#[test]
fn a_lost_answer_costs_nothing() {
    let running = started();
    let client = &running.client;
    let bootstrap = bootstrap(client, &json!({}));
    let lost = token_in(&enrol(client, &bootstrap));
    running.clock.advance(REPEAT_MS - 1);
    let second = token_in(&enrol(client, &bootstrap));
    assert_ne!(lost, second);
    running.clock.advance(1);
    assert_eq!(enrol(client, &bootstrap).error().0, 401, "ten minutes");
    assert_eq!(poll(client, &second), 200);

    // The same for rotation, as long as the token has time left.
    let lost = token_in(&rotate(client, &second));
    let third = token_in(&rotate(client, &second));
    assert_eq!(poll(client, &third), 200);
    let refused = rotate(client, &second);
    assert_eq!(refused.error().0, 403, "the agent has a newer one");
    assert_eq!(poll(client, &second), 200);
    running.clock.advance(DAY);
    assert_eq!((poll(client, &lost), poll(client, &third)), (401, 200));
}

#[test]
fn a_bootstrap_token_expires_and_is_replaced() {
    let running = started();
    let client = &running.client;
    let first = client.admin("POST", "/agents/a/bootstrap", &json!({}));
    assert_eq!(first["expiresIn"], 604_800);
    let first = first["bootstrapToken"].as_str().unwrap().to_owned();
    let second = bootstrap(client, &json!({"expiresIn": 60}));
    assert_eq!(enrol(client, &first).error().0, 401);
    running.clock.advance(60_000);
    assert_eq!(enrol(client, &second).error().0, 401);
    let third = bootstrap(client, &json!({"expiresIn": 60}));
    running.clock.advance(59_999);
    token_in(&enrol(client, &third));

    let ask = |agent: &str, token: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let path = format!("/admin/v1/agents/{agent}/bootstrap");
        client
            .send("POST", &path, &[("authorization", &bearer)], body)
            .status
    };
    assert_eq!(ask("a", ADMIN, ""), 200, "the body is optional");
    assert_eq!(ask("nobody", ADMIN, ""), 404);
    assert_eq!(ask("a%00", ADMIN, ""), 400);
    assert_eq!(ask("a", "somebody", ""), 401);
    for body in [
        r#"{"expiresIn":0}"#,
        r#"{"expiresIn":-1}"#,
        r#"{"expiresIn":7776001}"#,
        r#"{"expiresIn":99999999999999999999}"#,
        r#"{"expiresIn":"60"}"#,
        r#"{"other":1}"#,
        "{",
        "[]",
    ] {
        assert_eq!(ask("a", ADMIN, body), 400, "{body}");
    }
}

#[test]
fn a_replaced_token_lives_a_day_to_the_millisecond() {
    let running = started();
    let client = &running.client;
    let old = client.agent_token("a");
    let new = token_in(&rotate(client, &old));
    running.clock.advance(OVERLAP_MS - 1);
    assert_eq!((poll(client, &old), poll(client, &new)), (200, 200));
    // A poll that is held does not carry it beyond its time.
    let tag = client.poll("a", &old, None, 0).etag.unwrap();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client.poll("a", &old, Some(&tag), 50).status);
        running.await_poll();
        running.clock.advance(1);
        client.admin("PUT", "/homes/h", &common::home_h());
        assert_eq!(held.join().unwrap(), 401);
    });
    assert_eq!((poll(client, &old), poll(client, &new)), (401, 200));
    assert_eq!(rotate(client, &old).error().0, 401);
    running.clock.advance(400 * DAY);
    assert_eq!(poll(client, &new), 200, "the newest has no end");
}

#[test]
fn an_agent_has_a_bounded_number_of_tokens() {
    let running = started();
    let client = &running.client;
    let mut tokens = vec![client.agent_token("a")];
    for _ in 0..MOST_TOKENS {
        let last = tokens.last().unwrap();
        tokens.push(token_in(&rotate(client, last)));
    }
    assert_eq!(poll(client, &tokens[0]), 401, "the oldest went");
    for token in &tokens[1..] {
        assert_eq!(poll(client, token), 200);
    }
    let fresh = client.agent_token("a");
    assert!(tokens.iter().all(|token| poll(client, token) == 401));
    assert_eq!(poll(client, &fresh), 200);
}

#[test]
fn a_token_is_rotated_by_its_agent_only() {
    let running = started();
    let client = &running.client;
    let other = json!({"agentIds": ["b"], "consumers": "all"});
    client.admin("PUT", "/homes/o", &other);
    let token = client.agent_token("b");
    assert_eq!(rotate(client, &token).error().0, 403);
    assert_eq!(rotate(client, "unknown").error().0, 401);
    let nobody = post(client, "/agent/v1/agents/c/token", &token);
    assert_eq!(nobody.error().0, 404);
    let long = "x".repeat(17 * 1024);
    let headers = [("authorization", "Bearer x")];
    let refused = client.send("POST", "/agent/v1/enrol", &headers, long);
    assert_eq!(refused.error().0, 413);
}

/// An authority and the files that it writes.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With the authority of its clients.
    fn server(&self, clients: &Self) -> Tls {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file("cert.pem"), certificate.pem()).unwrap();
        fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
        Tls {
            cert: self.file("cert.pem"),
            key: self.file("key.pem"),
            client_ca: Some(clients.file("ca.pem")),
        }
    }

    fn client(&self, names: Vec<SanType>, common: &str) -> ClientCert {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name.push(DnType::CommonName, common);
        params.not_after = date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let certificate = Certificate::from_der(certificate.der()).to_owned();
        let key = PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
        ClientCert::new_with_certs(&[certificate], key)
    }

    /// A client that trusts this authority's server.
    fn agent(&self, certificate: Option<ClientCert>) -> ureq::Agent {
        let authority = Certificate::from_der(self.issuer.der()).to_owned();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(vec![authority])))
            .client_cert(certificate)
            .build();
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .build()
            .into()
    }
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

struct WithCertificates {
    running: Running,
    servers: Authority,
    clients: Authority,
}

impl WithCertificates {
    /// Homes `h` with agent `a`, and `o` with `b` and `c`.
    fn start() -> Self {
        let (servers, clients) = (Authority::new(), Authority::new());
        let running = Running::with(|config| config.tls = Some(servers.server(&clients)));
        let started = Self {
            running,
            servers,
            clients,
        };
        let operator = started.client(None);
        operator.admin("PUT", "/homes/h", &common::home_h());
        let other = json!({"agentIds": ["b", "c"], "consumers": "all"});
        operator.admin("PUT", "/homes/o", &other);
        started
    }

    fn client(&self, certificate: Option<ClientCert>) -> Client {
        Client::with_agent(
            self.running.client.url.clone(),
            self.servers.agent(certificate),
        )
    }

    /// A client with a certificate of these names.
    fn named(&self, names: Vec<SanType>, common: &str) -> Client {
        self.client(Some(self.clients.client(names, common)))
    }
}

/// Of instructions without a token.
fn bare(client: &Client, method: &str, path: &str) -> Answer {
    client.send(method, &format!("/agent/v1{path}"), &[], "")
}

#[test]
fn a_client_certificate_stands_for_a_token() {
    let all = WithCertificates::start();
    for (names, common) in [
        (vec![uri("a")], "x"),
        (vec![dns("a"), dns("a.cpe.example")], "x"),
        (vec![], "a"),
    ] {
        let client = all.named(names, common);
        let instructions = bare(&client, "GET", "/agents/a/instructions");
        assert_eq!(instructions.status, 200, "{}", instructions.body);
        let status = json!({"agentId": "a", "bootId": common, "sequence": 1, "version": "1",
            "uptime": 1, "kernel": "6.6", "sessions": []});
        let path = "/agent/v1/agents/a/status";
        assert_eq!(
            client.send("PUT", path, &[], status.to_string()).status,
            204
        );
        let token = token_in(&bare(&client, "POST", "/agents/a/token"));
        assert_eq!(poll(&all.client(None), &token), 200);
        let foreign = bare(&client, "GET", "/agents/b/instructions");
        assert_eq!(foreign.error().0, 403);
        assert_eq!(bare(&client, "POST", "/agents/b/token").error().0, 403);
        assert_eq!(
            bare(&client, "GET", "/agents/z/instructions").error().0,
            404
        );
        // It opens nothing of the operator's.
        let admin = client.send("GET", "/admin/v1/homes", &[], "");
        assert_eq!(admin.error().0, 401);
    }
    let common_name_beside = all.named(vec![uri("b")], "a");
    let refused = bare(&common_name_beside, "GET", "/agents/a/instructions");
    assert_eq!(refused.error().0, 403);
    let nameless = all.named(vec![], "not an id");
    assert_eq!(
        bare(&nameless, "GET", "/agents/a/instructions").error().0,
        401
    );
    // A token that is shown counts alone.
    let client = all.named(vec![uri("a")], "x");
    assert_eq!(poll(&client, "wrong"), 401);
    assert_eq!(
        client.poll("b", &client.agent_token("b"), None, 0).status,
        200
    );
}

#[test]
fn a_certificate_is_accepted_and_not_required() {
    let all = WithCertificates::start();
    let client = all.client(None);
    assert_eq!(
        bare(&client, "GET", "/agents/a/instructions").error().0,
        401
    );
    assert_eq!(poll(&client, &client.agent_token("a")), 200);

    let stranger = Authority::new().client(vec![uri("a")], "a");
    let stranger = all.servers.agent(Some(stranger));
    let url = format!("{}/agent/v1/agents/a/instructions", all.running.client.url);
    let refused = stranger.get(&url).call().unwrap_err().to_string();
    assert!(refused.contains("fatal alert"), "{refused}");
}

#[test]
fn a_certificate_is_over_when_its_time_is_even_on_an_open_connection() {
    let all = WithCertificates::start();
    let client = all.named(vec![uri("a")], "x");
    let status = || bare(&client, "GET", "/agents/a/instructions").status;
    assert_eq!(status(), 200);
    // From November 2023 to January 2040.
    all.running
        .clock
        .advance(2_208_988_799_000 - 1_700_000_000_250);
    assert_eq!(status(), 200);
    all.running.clock.advance(2_000);
    assert_eq!(status(), 401);
    assert_eq!(bare(&client, "POST", "/enrol").error().0, 401);
}

#[test]
fn a_factory_certificate_enrols() {
    let all = WithCertificates::start();
    let client = all.named(vec![dns("a"), dns("router-7.factory.example")], "x");
    let enrolled = bare(&client, "POST", "/enrol");
    assert_eq!(enrolled.body["agentId"], "a");
    let operator = all.client(None);
    let first = token_in(&enrolled);
    assert_eq!(poll(&operator, &first), 200);
    let second = token_in(&bare(&client, "POST", "/enrol"));
    assert_eq!(poll(&operator, &second), 200);
    all.running.clock.advance(DAY);
    assert_eq!(
        (poll(&operator, &first), poll(&operator, &second)),
        (401, 200)
    );

    let unknown = all.named(vec![dns("z")], "a");
    assert_eq!(bare(&unknown, "POST", "/enrol").error().0, 404);
    let both = all.named(vec![dns("b"), dns("c")], "x");
    assert_eq!(bare(&both, "POST", "/enrol").error().0, 403);
    // A bootstrap token that is shown counts alone.
    let wrong = enrol(&client, "unknown");
    assert_eq!(wrong.error().0, 401);
}
