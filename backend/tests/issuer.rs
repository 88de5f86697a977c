//! Tokens of an outside issuer, and of the user who agreed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::jwks::{Jwks, Signer, changed, encode};
use common::{ADMIN, Answer, Running, SCOPES, session};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example/realm";
const NOW: i64 = 1_700_000_000;
const PROFILES: &str = "/qod/v0/qos-profiles";
const SESSIONS: &str = "/qod/v0/sessions";

/// A backend that takes the tokens of an issuer whose keys are at `url`.
fn backend(url: &str) -> Running {
    Running::with(|config| {
        config.issuer.url = ISSUER.to_owned();
        config.issuer.jwks_url = Some(url.parse().unwrap());
    })
}

/// An issuer that publishes the keys of these, and a backend that takes its tokens.
fn with(signers: &[&Signer]) -> (Jwks, Running) {
    let jwks = Jwks::start(None);
    jwks.publish(signers);
    let running = backend(&jwks.url());
    (jwks, running)
}

/// The claims of a token of the home's user, some of them changed, or taken out by null.
fn claims(change: &Value) -> Value {
    let usual = json!({"iss": ISSUER, "aud": ["account", "qod"], "sub": "user-h", "client_id": "app",
        "scope": SCOPES.join(" "), "exp": NOW + 600, "iat": NOW, "nbf": NOW, "jti": "1"});
    changed(usual, change)
}

fn token(signer: &Signer, change: &Value) -> String {
    signer.sign(&json!({}), &claims(change))
}

fn status(running: &Running, token: &str) -> u16 {
    running.client.get(PROFILES, token).status
}

/// Waits until a token is answered so: keys are fetched in the background.
fn await_status(running: &Running, token: &str, wanted: u16) {
    let began = Instant::now();
    loop {
        let found = status(running, token);
        if found == wanted {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{found}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_algorithm_of_the_list_counts() {
    for alg in [
        "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "EdDSA",
    ] {
        let signer = Signer::new("k", alg);
        let (_jwks, running) = with(&[&signer]);
        assert_eq!(status(&running, &token(&signer, &json!({}))), 200, "{alg}");
        let other = token(&Signer::new("k", "ES256"), &json!({}));
        assert_eq!(status(&running, &other), 401, "{alg}");
    }
}

#[test]
fn only_right_tokens_count() {
    let (first, second) = (
        Signer::new("first", "ES256"),
        Signer::new("second", "RS256"),
    );
    let third = Signer::new("third", "ES256");
    let (_jwks, running) = with(&[&first, &second, &third]);
    let right = token(&first, &json!({}));
    assert_eq!(status(&running, &right), 200);
    for change in [
        json!({"aud": "qod"}),
        json!({"scope": null, "scp": ["qod-sessions-read"]}),
        json!({"client_id": null, "azp": "app"}),
        json!({"exp": NOW - 29}),
        json!({"nbf": NOW + 30, "iat": NOW + 30}),
        json!({"nbf": null, "iat": null, "jti": null, "sub": null}),
    ] {
        assert_eq!(status(&running, &token(&first, &change)), 200, "{change}");
    }
    for change in [
        json!({"exp": NOW - 30}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"nbf": NOW + 31}),
        json!({"iat": NOW + 31}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"iss": "https://issuer.example/realm/"}),
        json!({"iss": "qod-backend"}),
        json!({"iss": null}),
        json!({"client_id": null}),
        json!({"sub": 1}),
        json!({"scope": {}}),
        json!({"padding": "x".repeat(20_000)}),
    ] {
        assert_eq!(status(&running, &token(&first, &change)), 401, "{change}");
    }

    // Headers. Without a name, the one key that can verify it does; two leave it open.
    let header = |signer: &Signer, header: Value| signer.sign(&header, &claims(&json!({})));
    let unnamed = header(&second, json!({"kid": null}));
    assert_eq!(status(&running, &unnamed), 200);
    for (signer, change) in [
        (&first, json!({"kid": null})),
        (&first, json!({"kid": "third"})),
        (&first, json!({"kid": "unknown"})),
        (&first, json!({"kid": "second"})),
        (&first, json!({"alg": "RS256"})),
        (&first, json!({"alg": "none"})),
        (&first, json!({"alg": "HS256"})),
        (&second, json!({"alg": "PS256"})),
        (&first, json!({"crit": ["exp"]})),
        (&first, json!({"typ": "dpop+jwt"})),
        (&first, json!({"jwk": third.jwk(), "kid": "third"})),
    ] {
        assert_eq!(
            status(&running, &header(signer, change.clone())),
            401,
            "{change}"
        );
    }

    // What everybody can make of a token and of the published keys.
    let (signed, signature) = right.rsplit_once('.').unwrap();
    let (head, body) = signed.split_once('.').unwrap();
    let forged = encode(claims(&json!({"sub": "user-x"})).to_string());
    let none = encode(r#"{"alg":"none","kid":"first"}"#);
    for forged in [
        format!("{head}.{forged}.{signature}"),
        format!("{none}.{body}."),
        format!("{none}.{body}.{signature}"),
        format!("{signed}."),
        signed.to_owned(),
        format!("{right}.{signature}"),
        format!("{head}.{body}.{}", encode([0; 64])),
    ] {
        assert_eq!(status(&running, &forged), 401, "{forged}");
    }
    for secret in [second.jwk()["n"].to_string(), second.jwk().to_string()] {
        let head = encode(r#"{"alg":"HS256","kid":"second"}"#);
        let signed = format!("{head}.{body}");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let tag = ring::hmac::sign(&key, signed.as_bytes());
        assert_eq!(status(&running, &format!("{signed}.{}", encode(tag))), 401);
    }
    let bearer = format!("Bearer {right}");
    let twice = [
        ("authorization", bearer.as_str()),
        ("authorization", &bearer),
    ];
    let twice = running.client.send("GET", PROFILES, &twice, "");
    assert_eq!(
        twice.error(),
        (401, "UNAUTHORIZED", "No authorization to invoke operation")
    );
    assert_eq!(twice.headers["www-authenticate"], "Bearer");
}

#[test]
fn weak_keys_do_not_count() {
    let signer = Signer::new("k", "RS256");
    let jwks = Jwks::start(None);
    let mut weak = signer.jwk();
    weak["n"] = encode([0xff; 128]).into();
    let secret = json!({"kty": "oct", "k": encode("secret"), "kid": "s", "alg": "HS256"});
    jwks.answer_with(200, &json!({"keys": [weak, secret]}).to_string());
    let running = backend(&jwks.url());
    assert_eq!(status(&running, &token(&signer, &json!({}))), 401);
}

#[test]
fn a_user_speaks_for_the_home_and_scopes_for_operations() {
    let signer = Signer::new("k", "ES256");
    let (_jwks, running) = with(&[&signer]);
    running.home();
    let client = &running.client;
    let with_scope = |scope: &str| token(&signer, &json!({ "scope": scope }));
    // The token tells the home, so the private address is enough.
    let mut body = session();
    body["device"] = json!({"ipv4Address": {"privateAddress": "192.168.1.23"}});
    let post = |token: &str| client.json("POST", SESSIONS, token, &body);
    let forbidden = |answer: Answer| {
        assert_eq!(answer.error(), (403, "FORBIDDEN", "Operation not allowed"));
    };
    for other in [
        "",
        "qod-sessions-read qod-sessions-delete",
        "qod-sessions-writer",
    ] {
        forbidden(post(&with_scope(other)));
    }
    let created = post(&with_scope("qod-sessions-write"));
    assert_eq!(created.status, 201, "{}", created.body);
    let path = format!("{SESSIONS}/{}", created.body["sessionId"].as_str().unwrap());
    forbidden(client.get(&path, &with_scope("qod-sessions-write")));
    forbidden(client.delete(&path, &with_scope("qod-sessions-read")));
    let read = with_scope("qod-sessions-read");
    assert_eq!(client.get(&path, &read).status, 200);
    let foreign = token(&signer, &json!({"client_id": "other"}));
    assert_eq!(client.get(&path, &foreign).error().0, 404);
    assert_eq!(client.get(PROFILES, &with_scope("")).status, 200);
    let delete = with_scope("qod-sessions-delete");
    assert_eq!(client.delete(&path, &delete).status, 204);

    // Nobody agreed, for a home that is not known.
    let unknown = post(&token(&signer, &json!({"sub": "user-x"})));
    assert_eq!(unknown.error().0, 400);
    // A user agrees for no other home than the own.
    let mut other = common::home_h();
    other = changed(
        other,
        &json!({"agentIds": [], "subs": ["user-g"], "phoneNumbers": [], "prefixes": [],
        "networkAccessIdentifiers": [{"nai": "g@operator.example"}]}),
    );
    client.admin("PUT", "/homes/g", &other);
    let user_g = token(&signer, &json!({"sub": "user-g"}));
    let inconsistent = client.json("POST", SESSIONS, &user_g, &session());
    assert_eq!(
        inconsistent.error().2,
        "Multiple inconsistent parameters specified: device"
    );
    // The home takes its consent back.
    let closed = changed(common::home_h(), &json!({"consumers": ["other"]}));
    client.admin("PUT", "/homes/h", &closed);
    forbidden(post(&with_scope("qod-sessions-write")));
    assert_eq!(post(&foreign).status, 201);
}

#[test]
fn what_a_consumer_is_provisioned_with_bounds_its_tokens() {
    let signer = Signer::new("k", "ES256");
    let (_jwks, running) = with(&[&signer]);
    running.home();
    let client = &running.client;
    let token = token(&signer, &json!({}));
    let path = format!("{SESSIONS}/{}", "0".repeat(8));
    assert_eq!(client.get(&path, &token).error().0, 404, "not provisioned");
    let scopes = json!({"scopes": ["qod-sessions-write", "another"]});
    client.admin("PUT", "/consumers/app", &scopes);
    assert_eq!(client.get(&path, &token).error().0, 403);
    assert_eq!(
        client.json("POST", SESSIONS, &token, &session()).status,
        201
    );
    client.admin("PUT", "/consumers/app", &json!({"scopes": []}));
    assert_eq!(
        client.json("POST", SESSIONS, &token, &session()).error().0,
        403
    );
}

#[test]
fn nothing_is_issued_here() {
    let signer = Signer::new("k", "ES256");
    let (_jwks, running) = with(&[&signer]);
    running.home();
    let client = &running.client;
    let secret = client.admin("PUT", "/consumers/app", &json!({"scopes": SCOPES}));
    let secret = secret["clientSecret"].as_str().unwrap();
    let form = format!("grant_type=client_credentials&client_id=app&client_secret={secret}");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let mint = json!({"clientId": "app", "scope": "qod-sessions-read"});
    let said = "Tokens are issued by https://issuer.example/realm, not here";
    for answer in [
        client.send("POST", "/oauth2/token", &kind, form),
        client.json("POST", "/admin/v1/homes/h/token", ADMIN, &mint),
        client.send("GET", "/.well-known/jwks.json", &[], ""),
    ] {
        assert_eq!(answer.error(), (501, "NOT_IMPLEMENTED", said));
    }
    let embedded = Running::start();
    assert_eq!(
        status(&running, &embedded.client.consumer("app", &SCOPES)),
        401
    );
}

#[test]
fn keys_change() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let (jwks, running) = with(&[&old]);
    let (by_old, by_new) = (token(&old, &json!({})), token(&new, &json!({})));
    assert_eq!(status(&running, &by_old), 200);
    assert_eq!(jwks.asked(), 1);
    // Invented names make nobody ask more often than every five seconds.
    for _ in 0..20 {
        assert_eq!(status(&running, &by_new), 401);
    }
    assert_eq!(jwks.asked(), 1);
    jwks.publish(&[&new, &old]);
    running.clock.advance(5_000);
    assert_eq!(status(&running, &by_new), 200);
    assert_eq!(status(&running, &by_old), 200);
    assert_eq!(jwks.asked(), 2);
    // A key that is gone counts no more after the next fetch, also for tokens that were verified by it before.
    jwks.publish(&[&new]);
    running.clock.advance(300_000);
    await_status(&running, &by_old, 401);
    assert_eq!(status(&running, &by_new), 200);
    assert_eq!(jwks.asked(), 3);
}

#[test]
fn the_issuer_may_be_away_for_a_day() {
    let signer = Signer::new("k", "ES256");
    let (jwks, running) = with(&[&signer]);
    let token = token(&signer, &json!({"exp": NOW + 1_000_000}));
    assert_eq!(status(&running, &token), 200);
    jwks.fail();
    let hour = |running: &Running| running.clock.advance(3_600_000);
    for _ in 0..23 {
        hour(&running);
        assert_eq!(status(&running, &token), 200);
    }
    // Nobody can say whether a key that is not known is a new one.
    let other = signer.sign(
        &json!({"kid": "other"}),
        &claims(&json!({"exp": NOW + 1_000_000})),
    );
    assert_eq!(status(&running, &other), 503);
    hour(&running);
    let refused = running.client.get(PROFILES, &token);
    assert_eq!(
        refused.error(),
        (503, "SERVICE_UNAVAILABLE", "Service unavailable")
    );
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(status(&running, "nonsense"), 401);
    jwks.publish(&[&signer]);
    running.clock.advance(5_000);
    await_status(&running, &token, 200);
}

#[test]
fn the_issuer_need_not_be_there_at_the_start() {
    let signer = Signer::new("k", "ES256");
    let jwks = Jwks::start(None);
    let running = backend(&jwks.url());
    let token = token(&signer, &json!({}));
    assert_eq!(status(&running, &token), 503);
    for (status, body) in [(500, "{}"), (302, "{}"), (200, "<html>"), (200, "{}")] {
        jwks.answer_with(status, body);
        running.clock.advance(5_000);
        let asked = jwks.asked();
        while jwks.asked() == asked {
            assert_eq!(self::status(&running, &token), 503);
        }
    }
    jwks.answer_with(
        200,
        &json!({"keys": [signer.jwk()], "x": "x".repeat(300_000)}).to_string(),
    );
    running.clock.advance(5_000);
    assert_eq!(self::status(&running, &token), 503, "it is too long");
    jwks.publish(&[&signer]);
    running.clock.advance(5_000);
    await_status(&running, &token, 200);
}

#[test]
fn the_issuers_certificate_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let authority = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let signer = Signer::new("k", "ES256");
    let jwks = Jwks::start(Some(Arc::new(tls)));
    jwks.publish(&[&signer]);
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let url = format!("https://localhost:{}/keys", jwks.port);
    let trusting = |ca_file| {
        Running::with(|config| {
            config.issuer.url = ISSUER.to_owned();
            config.issuer.jwks_url = Some(url.parse().unwrap());
            config.issuer.ca_file = ca_file;
        })
    };
    let token = token(&signer, &json!({}));
    assert_eq!(status(&trusting(Some(file)), &token), 200);
    assert_eq!(status(&trusting(None), &token), 503);
}
