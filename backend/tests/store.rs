//! One conformance test for both engines.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;
#[path = "store/credentials.rs"]
mod credentials;
#[path = "store/outbox.rs"]
mod outbox;
#[path = "store/removal.rs"]
mod removal;
#[path = "store/status_polls.rs"]
mod status_polls;

use std::collections::BTreeMap;

use common::postgresql::{postgresql, postgresql_directory};
use common::{ADMIN, Running, SCOPES, session as request};
use qod_backend::notifications::event::EventStatus;
use qod_backend::store::{
    Admits, Agent, AgentReport, All, Cap, Caps, ConsumerLimits, Created, Ending, Home, HomePut,
    IdentifierKind, Judge, KeyChange, Measured, Nai, NewSession, PhoneNumber, SessionFilter,
    SessionReport, SigningKey, Store, StoreError, StoredSession, UsagePlace,
};
use qod_wire::{Session, SessionState};
use serde_json::json;

const NOW: i64 = 1_700_000_000_000;
/// The homes that the conformance test leaves.
const HOMES: [&str; 7] = [
    "capped-a", "capped-b", "capped-c", "capped-d", "h", "n", "o",
];

fn home(name: &str) -> Home {
    Home {
        agent_ids: vec![format!("{name}-1"), format!("{name}-2")],
        subs: vec![format!("sub-{name}")],
        phone_numbers: vec![PhoneNumber {
            number: format!("+49{}", name.len()),
            mac: Some("02:00:00:00:00:17".to_owned()),
        }],
        network_access_identifiers: vec![Nai {
            nai: format!("{name}@x"),
            mac: None,
        }],
        prefixes: vec![format!("10.{}.0.0/16", name.len())],
        link: Some(qod_wire::Link {
            upstream_kbps: Some(5),
            downstream_kbps: None,
        }),
        consumers: Admits::All(All::All),
    }
}

fn session(id: &str, home: &str, port: u16, key: Option<&str>) -> NewSession {
    let instruction: Session = serde_json::from_value(json!({"sessionId": id, "dscp": 46,
        "device": {"ipv4Address": "192.168.1.23"}, "applicationServer": {"ipv4Address": "198.51.100.0/28"},
        "devicePorts": {"ports": [port]}}))
    .unwrap();
    NewSession {
        id: id.to_owned(),
        home: home.to_owned(),
        consumer: "app".to_owned(),
        expires_ms: NOW + 10_000,
        request: json!({"qosProfile": "QOS_E", "ä": "☃"}),
        sink: None,
        instruction,
        idempotency_key: key.map(str::to_owned),
        request_hash: "hash".to_owned(),
        heard_since_ms: NOW - 120_000,
        caps: Caps::default(),
    }
}

/// Tells nothing.
struct Nothing;

impl Judge for Nothing {
    fn status(&self, _: &StoredSession, _: &[Agent]) -> Option<EventStatus> {
        None
    }

    fn last_poll_ms(&self, agent: &Agent) -> i64 {
        agent.last_poll_ms
    }
}

async fn conforms(store: &Store) {
    store.ping().await.unwrap();
    homes(store).await;
    sessions(store).await;
    agents(store).await;
    credentials::conform(store).await;
    outbox::conform(store).await;
    status_polls::conform(store).await;
    removal::conform(store).await;

    let none = ConsumerLimits::default();
    let limits = ConsumerLimits {
        max_sessions: Some(7),
        max_sessions_per_home: Some(0),
        requests_per_second: Some(9),
    };
    assert!(
        store
            .put_consumer(
                "c",
                &["a".to_owned(), "b".to_owned()],
                "h1",
                false,
                none,
                NOW
            )
            .await
            .unwrap()
    );
    assert!(
        !store
            .put_consumer("c", &["a".to_owned()], "h2", false, limits, NOW)
            .await
            .unwrap()
    );
    let consumer = store.consumer("c").await.unwrap().unwrap();
    assert_eq!(
        (
            consumer.scopes,
            consumer.secret_hash.as_str(),
            consumer.limits
        ),
        (vec!["a".to_owned()], "h1", limits)
    );
    let renewed = store.put_consumer("c", &[], "h2", true, none, NOW);
    assert!(!renewed.await.unwrap());
    let consumer = store.consumer("c").await.unwrap().unwrap();
    assert_eq!(
        (consumer.secret_hash.as_str(), consumer.limits),
        ("h2", none)
    );
    assert_eq!(store.consumer_ids("", 9).await.unwrap(), ["c"]);

    signing_keys(store).await;
    caps(store).await;
}

async fn signing_keys(store: &Store) {
    let key = |kid: &str, created_ms| SigningKey {
        kid: kid.to_owned(),
        pkcs8: "x".to_owned(),
        created_ms,
    };
    // As many processes that start at once over an empty database: one key is made.
    let first = |keys: &[SigningKey]| KeyChange {
        add: keys.is_empty(),
        remove: vec![],
    };
    let news: Vec<_> = (0..8).map(|at| key(&format!("first-{at}"), at)).collect();
    let mut changes = tokio::task::JoinSet::new();
    for new in news {
        let store = store.clone();
        changes.spawn(async move { store.change_signing_keys(&new, first).await.unwrap() });
    }
    let after = changes.join_all().await;
    assert!(
        after
            .iter()
            .all(|keys| keys.len() == 1 && *keys == after[0])
    );
    let change = |keys: &[SigningKey]| KeyChange {
        add: true,
        remove: keys.iter().map(|key| key.kid.clone()).collect(),
    };
    let keys = store.change_signing_keys(&key("old", 10), change).await;
    assert_eq!(keys.unwrap().len(), 1);
    let add = |_: &[SigningKey]| KeyChange {
        add: true,
        remove: vec![],
    };
    let keys = store.change_signing_keys(&key("new", 11), add).await;
    assert!(keys.unwrap() == [key("new", 11), key("old", 10)]);
    assert!(store.signing_keys().await.unwrap() == [key("new", 11), key("old", 10)]);
}

/// Of many requests at once, in many homes, no more get through than may.
async fn caps(store: &Store) {
    let homes = ["capped-a", "capped-b", "capped-c", "capped-d"];
    for name in homes {
        let empty = Home {
            agent_ids: vec![],
            subs: vec![],
            phone_numbers: vec![],
            network_access_identifiers: vec![],
            prefixes: vec![],
            link: None,
            consumers: Admits::All(All::All),
        };
        store.put_home(name, &empty, NOW).await.unwrap();
    }
    let new = |name: &str, number: u16, caps| {
        let id = format!("{name}-{number}");
        let key = format!("key-{id}");
        NewSession {
            consumer: "capped".to_owned(),
            caps,
            ..session(&id, name, number + 1, Some(&key))
        }
    };
    let most = |sessions| Caps {
        sessions: Some(sessions),
        sessions_per_home: None,
    };
    let all_at_once = |round: u16, sessions| {
        let mut created = tokio::task::JoinSet::new();
        for name in homes {
            let (store, new) = (store.clone(), new(name, round, most(sessions)));
            created.spawn(async move { store.create_session(new, NOW).await.unwrap() });
        }
        created.join_all()
    };
    let mut made = vec![];
    for round in 0..20 {
        // Each round one more, and four that want to be it.
        for created in all_at_once(round, i64::from(round) + 1).await {
            match created {
                Created::New(session) => made.push(session),
                Created::Capped(cap) => assert_eq!(cap, Cap::Sessions(i64::from(round) + 1)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(made.len(), usize::from(round) + 1);
    }

    // What repeats a request is no further session.
    let (home, number) = made[0].id.rsplit_once('-').unwrap();
    let again = new(home, number.parse().unwrap(), most(1));
    let again = store.create_session(again, NOW).await.unwrap();
    assert!(matches!(again, Created::Before(_)), "{again:?}");
    // Another consumer's sessions do not count, and neither do those that are over.
    let per_home = Caps {
        sessions: Some(21),
        sessions_per_home: Some(1),
    };
    let other = NewSession {
        consumer: "other".to_owned(),
        ..new(home, 100, per_home)
    };
    let other = store.create_session(other, NOW).await.unwrap();
    assert!(matches!(other, Created::New(_)), "{other:?}");
    let full = store.create_session(new(home, 101, per_home), NOW);
    assert_eq!(
        full.await.unwrap(),
        Created::Capped(Cap::SessionsPerHome(1))
    );
    let later = store.create_session(new(home, 102, per_home), NOW + 10_000);
    assert!(matches!(later.await.unwrap(), Created::New(_)));
    let none = store.create_session(new(home, 103, most(0)), NOW + 10_000);
    assert_eq!(none.await.unwrap(), Created::Capped(Cap::Sessions(0)));
}

async fn homes(store: &Store) {
    let HomePut::Created(first) = store.put_home("h", &home("h"), NOW).await.unwrap() else {
        panic!("it is new");
    };
    let HomePut::Replaced(second) = store.put_home("h", &home("h"), NOW).await.unwrap() else {
        panic!("it is there");
    };
    assert!(first >= NOW && second > first);
    assert_eq!(store.home("h").await.unwrap(), Some((home("h"), second)));
    assert_eq!(
        store.homes_above(second - 1).await.unwrap(),
        [("h".to_owned(), second)]
    );
    let mut thief = home("other");
    thief.agent_ids = vec!["h-2".to_owned()];
    assert_eq!(
        store.put_home("o", &thief, NOW).await.unwrap(),
        HomePut::Taken("agent h-2".to_owned())
    );
    thief.agent_ids = vec![];
    thief.subs = vec!["sub-h".to_owned()];
    assert_eq!(
        store.put_home("o", &thief, NOW).await.unwrap(),
        HomePut::Taken("sub sub-h".to_owned())
    );
    assert_eq!(
        store.home("o").await.unwrap(),
        None,
        "nothing of it is left"
    );
    store.put_home("o", &home("other"), NOW).await.unwrap();
    let found = store
        .identify(IdentifierKind::Phone, "+491")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.home.as_str(), found.mac.as_deref()),
        ("h", Some("02:00:00:00:00:17"))
    );
    assert_eq!(
        store.identify(IdentifierKind::Nai, "+491").await.unwrap(),
        None
    );
    let prefixes: Vec<String> = qod_backend::prefix::prefixes_of([10, 5, 9, 9].into()).collect();
    assert_eq!(
        store.home_by_prefix(&prefixes).await.unwrap().as_deref(),
        Some("o")
    );
    assert_eq!(store.home_ids("h", 9).await.unwrap(), ["o"]);
}

async fn sessions(store: &Store) {
    let Created::New(first) = store
        .create_session(session("s-1", "h", 1, Some("k")), NOW)
        .await
        .unwrap()
    else {
        panic!("nothing is in its way");
    };
    let again = store
        .create_session(session("s-2", "h", 9, Some("k")), NOW)
        .await
        .unwrap();
    assert_eq!(again, Created::Before(first.clone()));
    let elsewhere = store
        .create_session(session("s-2", "o", 9, Some("k")), NOW)
        .await
        .unwrap();
    assert_eq!(
        elsewhere,
        Created::Before(first.clone()),
        "a key is the consumer's, not the home's"
    );
    assert_eq!(
        store
            .create_session(session("s-2", "h", 1, None), NOW)
            .await
            .unwrap(),
        Created::Overlap
    );
    assert_eq!(
        store
            .create_session(session("s-2", "x", 1, None), NOW)
            .await
            .unwrap(),
        Created::NoHome
    );
    assert_eq!(
        store.revision("h").await.unwrap(),
        Some(first.added_revision),
        "what was refused changes nothing"
    );
    store
        .create_session(session("s-0", "h", 2, None), NOW)
        .await
        .unwrap();
    let (revision, link, live) = store.instructions("h", NOW).await.unwrap().unwrap();
    assert!(revision > first.added_revision);
    assert_eq!(link.unwrap().upstream_kbps, Some(5));
    let order: Vec<_> = live
        .iter()
        .map(|live| live.instruction.session_id.as_str())
        .collect();
    assert_eq!(order, ["s-1", "s-0"], "the oldest first");
    assert_eq!(store.session("s-1", NOW).await.unwrap(), Some(first));
    assert_eq!(
        store
            .sessions(SessionFilter::default(), "s-0", 9, NOW)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        store
            .end_session("s-0", "h", Ending::Deleted, NOW)
            .await
            .unwrap(),
        Some(revision + 1)
    );
    assert_eq!(
        store
            .end_session("s-0", "h", Ending::Deleted, NOW)
            .await
            .unwrap(),
        None
    );
    assert_eq!(store.session_ids("h", NOW).await.unwrap(), ["s-1"]);
    let usage = store.usage(NOW, NOW + 1, &UsagePlace::default(), 9).await;
    let usage = usage.unwrap();
    assert_eq!(usage.len(), 1);
    assert_eq!(
        (usage[0].session.as_str(), usage[0].ending.as_str()),
        ("s-0", "DELETED")
    );
    assert!(!store.forget_usage(NOW).await.unwrap());
    assert_eq!(
        store
            .census_page("", 9, NOW)
            .await
            .unwrap()
            .unwrap()
            .sessions
            .len(),
        1
    );
    assert_eq!(
        store
            .census_page("h", 9, NOW)
            .await
            .unwrap()
            .map(|page| page.last),
        None
    );
    assert_eq!(store.last_polls("h-1", 9).await.unwrap().len(), 3);

    let later = NOW + 10_000;
    assert_eq!(store.session("s-1", later).await.unwrap(), None);
    let (_, _, live) = store.instructions("h", later).await.unwrap().unwrap();
    assert!(live.is_empty());
    let mut next = session("s-3", "h", 1, Some("k"));
    next.expires_ms = later + 1;
    assert!(matches!(
        store.create_session(next, later).await.unwrap(),
        Created::New(_)
    ));
    assert_eq!(store.end_expired(later + 1).await.unwrap(), 1);

    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .create_session(session(&format!("r-{number}"), "h", 7, None), NOW)
                    .await
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        match task.await.unwrap().unwrap() {
            Created::New(_) => made += 1,
            other => assert_eq!(other, Created::Overlap),
        }
    }
    assert_eq!(made, 1, "of overlapping sessions that race, one is made");
}

async fn agents(store: &Store) {
    let report = SessionReport {
        state: SessionState::Active,
        revision: 7,
        code: None,
        message: None,
        measured: Measured::default(),
    };
    let said = BTreeMap::from([("s".to_owned(), report)]);
    let write = |boot_id: &'static str, sequence| {
        let said = &said;
        async move {
            let report = AgentReport {
                agent: "h-1",
                boot_id,
                sequence,
                version: "1",
                revision: Some(7),
                source: Some("192.0.2.1".to_owned()),
                sessions: said,
                counted: &BTreeMap::new(),
                status: "{}",
                addresses: &["192.0.2.1".to_owned(), "192.0.2.1".to_owned()],
            };
            store
                .write_report(report, &Nothing, NOW)
                .await
                .unwrap()
                .is_some()
        }
    };
    assert!(write("b1", 2).await);
    assert!(
        !write("b1", 2).await && !write("b1", 1).await,
        "an older report is dropped"
    );
    assert!(write("b2", 1).await, "a new run begins anew");
    store
        .write_presence(&["h-1", "h-2", "nobody"], NOW)
        .await
        .unwrap();
    let agents = store.agents_of("h").await.unwrap();
    assert_eq!((agents[0].last_poll_ms, agents[1].last_poll_ms), (NOW, NOW));
    let kept = &agents[0].sessions["s"];
    assert_eq!(kept.state, SessionState::Active);
    assert_eq!(kept.measured.active_ms, Some(NOW));
    let at = store.agents_at("192.0.2.1").await.unwrap();
    assert_eq!(at, [("h-1".to_owned(), "h".to_owned(), NOW)]);
    assert_eq!(store.agents("h-1", 9).await.unwrap().len(), 3);
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn sqlite_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("s.sqlite").display());
    run(async {
        let store = Store::open(&url).await.unwrap();
        conforms(&store).await;
        store.close().await;
        let again = Store::open(&url).await.unwrap();
        assert_eq!(again.home_ids("", 9).await.unwrap(), HOMES);
    });
}

#[test]
fn a_token_that_was_issued_is_in_the_file_itself() {
    let directory = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("sqlite:{}", directory.path().join(name).display());
    run(async {
        let store = Store::open(&url("s.sqlite")).await.unwrap();
        store.put_home("h", &home("h"), NOW).await.unwrap();
        store.set_agent_token("h-1", "first").await.unwrap();
        let rotated = store.rotate_agent_token("h-1", Some("first"), "next", NOW);
        assert!(rotated.await.unwrap());
        // As after a power cut: of the log, which is not synced, nothing is left.
        let file = directory.path().join("s.sqlite");
        std::fs::copy(file, directory.path().join("copy.sqlite")).unwrap();
        let copy = Store::open(&url("copy.sqlite")).await.unwrap();
        assert!(copy.token_owner("next", NOW).await.unwrap().is_some());
    });
}

#[test]
fn tokens_of_the_first_version_live_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("s.sqlite");
    let url = format!("sqlite:{}?mode=rwc", file.display());
    run(credentials::migrate(&url));
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("s.sqlite").display());
    run(async {
        Store::open(&url).await.unwrap().close().await;
        let pool = sqlx::AnyPool::connect(&url).await.unwrap();
        sqlx::query("UPDATE schema_version SET version = 999")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let refused = Store::open(&url).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Newer { found: 999, .. }),
            "{refused}"
        );
        assert!(!refused.is_unavailability());
    });
}

#[test]
fn a_store_that_cannot_be_reached_is_unavailability() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("s.sqlite").display());
    run(async {
        let store = Store::open(&url).await.unwrap();
        store.put_home("h", &home("h"), NOW).await.unwrap();
        store.close().await;
        let refused = store.home("h").await.unwrap_err();
        assert!(refused.is_unavailability(), "{refused}");
    });
}

#[test]
#[ignore = "needs PostgreSQL's server programs: run with --ignored; QOD_POSTGRES_BIN names their directory"]
fn postgresql_conforms() {
    let directory = postgresql_directory();
    let (_cluster, url) = postgresql(directory.path());
    run(async {
        // Several processes start over an empty database at once.
        let (first, second) = tokio::join!(Store::open(&url), Store::open(&url));
        conforms(&first.unwrap()).await;
        assert_eq!(second.unwrap().home_ids("", 9).await.unwrap(), HOMES);

        let pool = sqlx::AnyPool::connect(&url).await.unwrap();
        sqlx::query("CREATE DATABASE first_version")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        credentials::migrate(&url.replace("/postgres?", "/first_version?")).await;
    });
}

#[test]
#[ignore = "needs PostgreSQL's server programs: run with --ignored; QOD_POSTGRES_BIN names their directory"]
fn postgresql_serves_and_bad_input_is_never_500() {
    let directory = postgresql_directory();
    let (_cluster, url) = postgresql(directory.path());
    let running = Running::with(|config| config.database = url.clone());
    running.home();
    let client = &running.client;
    let token = client.consumer("app", &SCOPES);
    let agent = client.agent_token("a");
    let created = client.json("POST", "/qod/v0/sessions", &token, &request());
    assert_eq!(created.status, 201, "{}", created.body);
    let id = created.body["sessionId"].as_str().unwrap();
    let revision = client.poll("a", &agent, None, 0).body["revision"].clone();
    client.report("a", &agent, 1, &revision, &[(id, "ACTIVE", "", "")]);
    let path = format!("/qod/v0/sessions/{id}");
    assert_eq!(client.get(&path, &token).body["qosStatus"], "AVAILABLE");
    assert_eq!(client.delete(&path, &token).status, 204);

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = "grant_type=client_credentials&client_id=%00&client_secret=x";
    assert_eq!(
        client.send("POST", "/oauth2/token", &form, body).status,
        401
    );
    for path in [
        "homes/%00",
        "consumers/%00",
        "agents/%00",
        "sessions/%00",
        "homes?after=%00",
    ] {
        let answer = client.get(&format!("/admin/v1/{path}"), ADMIN);
        assert_eq!(answer.error().0, 400, "{path}");
    }
    for path in [
        "homes/%00/token",
        "agents/%00/token",
        "agents/%00/bootstrap",
    ] {
        let body = json!({"clientId": "app", "scope": "x"});
        let answer = client.json("POST", &format!("/admin/v1/{path}"), ADMIN, &body);
        assert_eq!(answer.error().0, 400, "{path}");
    }

    // Somebody holds the home and does not let go.
    run(async {
        let pool = sqlx::AnyPool::connect(&url).await.unwrap();
        let mut held = pool.begin().await.unwrap();
        sqlx::query("UPDATE homes SET revision = revision")
            .execute(&mut *held)
            .await
            .unwrap();
        let refused = client.json("POST", "/qod/v0/sessions", &token, &request());
        assert_eq!(
            refused.error(),
            (503, "SERVICE_UNAVAILABLE", "Service unavailable")
        );
        held.rollback().await.unwrap();
    });
    let created = client.json("POST", "/qod/v0/sessions", &token, &request());
    assert_eq!(created.status, 201);
}
