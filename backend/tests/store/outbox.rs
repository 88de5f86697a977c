//! What is told of sessions, once each, and how it is claimed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use qod_backend::notifications::event::{EventStatus, SinkForm};
use qod_backend::store::{
    Admits, Agent, AgentReport, All, Claim, Created, Ending, Home, HomePut, Judge, Notification,
    Sink, Store, StoredSession,
};
use serde_json::Value;

use super::{NOW, session};

/// Says that sessions are AVAILABLE, or that they are not.
struct Says(AtomicBool);

impl Judge for Says {
    fn status(&self, _: &StoredSession, _: &[Agent]) -> Option<EventStatus> {
        Some(if self.0.load(Ordering::SeqCst) {
            EventStatus::Available
        } else {
            EventStatus::Unavailable
        })
    }

    fn last_poll_ms(&self, _: &Agent) -> i64 {
        NOW + 7
    }
}

async fn make(store: &Store, id: &str, port: u16, sink: Option<(SinkForm, &str)>) {
    let mut new = session(id, "n", port, None);
    new.sink = sink.map(|(form, receiver)| Sink {
        form,
        url: format!("http://{receiver}/"),
        receiver: receiver.to_owned(),
        token: Some("sealed".to_owned()),
        told: None,
    });
    let created = store.create_session(new.clone(), NOW).await.unwrap();
    let Created::New(created) = created else {
        panic!("{created:?}");
    };
    assert_eq!(created.sink, new.sink);
    let read = store.session(id, NOW).await.unwrap().unwrap();
    assert_eq!(read, created);
}

async fn claim(store: &Store, under_way: &[(String, usize)], now: i64) -> Vec<Notification> {
    let claim = Claim {
        most: 10,
        most_per_receiver: 2,
        under_way,
        until_ms: now + 1_000,
    };
    let mut claimed = store.claim_notifications(claim, now).await.unwrap();
    claimed.sort_by(|a, b| a.session.cmp(&b.session));
    claimed
}

fn sessions(claimed: &[Notification]) -> Vec<&str> {
    claimed.iter().map(|one| one.session.as_str()).collect()
}

pub(crate) async fn conform(store: &Store) {
    let home = Home {
        agent_ids: vec!["n-1".to_owned()],
        subs: vec![],
        phone_numbers: vec![],
        network_access_identifiers: vec![],
        prefixes: vec![],
        link: None,
        consumers: Admits::All(All::All),
    };
    let put = store.put_home("n", &home, NOW).await.unwrap();
    assert!(matches!(put, HomePut::Created(_)));
    changes(store).await;
    ends(store).await;
    claims(store).await;
    looks(store).await;
}

/// A change is told once, however many find it at once.
async fn changes(store: &Store) {
    make(store, "n-a", 1, Some((SinkForm::Webhook, "a:1"))).await;
    make(store, "n-b", 2, Some((SinkForm::Top, "a:1"))).await;
    make(store, "n-c", 3, None).await;
    let says = std::sync::Arc::new(Says(AtomicBool::new(true)));
    let tell = |times: usize| {
        let tasks: Vec<_> = (0..times)
            .map(|_| {
                let (store, says) = (store.clone(), says.clone());
                tokio::spawn(async move { store.tell_home("n", &*says, NOW).await.unwrap() })
            })
            .collect();
        async move {
            let mut told = 0;
            for task in tasks {
                told += task.await.unwrap();
            }
            told
        }
    };
    assert_eq!(tell(8).await, 1);
    assert_eq!(store.outbox_depth().await.unwrap(), 1);
    assert_eq!(
        store.agents_of("n").await.unwrap()[0].last_poll_ms,
        NOW + 7,
        "what was known of the agent is known to all"
    );
    says.0.store(false, Ordering::SeqCst);
    let report = AgentReport {
        agent: "n-1",
        boot_id: "b",
        sequence: 1,
        version: "1",
        revision: None,
        source: Some(String::new()),
        sessions: &BTreeMap::new(),
        counted: &BTreeMap::new(),
        status: "{}",
        addresses: &[],
    };
    assert!(
        store
            .write_report(report.clone(), &*says, NOW)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(store.outbox_depth().await.unwrap(), 2);
    says.0.store(true, Ordering::SeqCst);
    assert!(
        store
            .write_report(report, &*says, NOW)
            .await
            .unwrap()
            .is_none(),
        "an old report changes nothing"
    );
    assert_eq!(store.outbox_depth().await.unwrap(), 2);
    says.0.store(false, Ordering::SeqCst);
    assert_eq!(tell(3).await, 0);

    // In their order, the second when the first is gone.
    let first = claim(store, &[], NOW).await;
    assert_eq!(sessions(&first), ["n-a"]);
    assert_eq!(
        (
            first[0].attempts,
            first[0].token.as_deref(),
            first[0].url.as_str()
        ),
        (1, Some("sealed"), "http://a:1/")
    );
    let status = |one: &Notification| {
        let body: Value = serde_json::from_str(&one.body).unwrap();
        body["event"]["eventDetail"]["qosStatus"].clone()
    };
    assert_eq!(status(&first[0]), "AVAILABLE");
    assert!(claim(store, &[], NOW).await.is_empty());
    store.finish_notification(&first[0].id).await.unwrap();
    let second = claim(store, &[], NOW).await;
    assert_eq!(status(&second[0]), "UNAVAILABLE");
    store.finish_notification(&second[0].id).await.unwrap();
    assert_eq!(store.outbox_depth().await.unwrap(), 0);
}

/// An end is told once, but for one that the consumer asked for.
async fn ends(store: &Store) {
    make(store, "n-d", 4, Some((SinkForm::Webhook, "a:1"))).await;
    make(store, "n-e", 5, Some((SinkForm::Top, "a:1"))).await;
    for id in ["n-d", "n-e"] {
        let ended = store.end_session(id, "n", Ending::Deleted, NOW).await;
        assert!(ended.unwrap().is_some());
    }
    assert_eq!(store.outbox_depth().await.unwrap(), 0);
    assert_eq!(store.next_expiry().await.unwrap(), Some(NOW + 10_000));
    let end = |id: &'static str| store.end_session(id, "n", Ending::Terminated, NOW);
    assert!(end("n-a").await.unwrap().is_some());
    assert!(end("n-a").await.unwrap().is_none());
    assert_eq!(store.outbox_depth().await.unwrap(), 1);
    // Several at once find what is over.
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.end_expired(NOW + 10_000).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(store.session("n-b", NOW).await.unwrap().is_none());
    let claimed = claim(store, &[], NOW + 10_000).await;
    assert_eq!(sessions(&claimed), ["n-a", "n-b"]);
    assert!(claimed[0].body.contains("NETWORK_TERMINATED"));
    assert_eq!(
        claimed[1].body,
        r#"{"event":"SESSION_TERMINATED","sessionId":"n-b"}"#
    );
    for one in &claimed {
        store.finish_notification(&one.id).await.unwrap();
    }
    assert_eq!(store.outbox_depth().await.unwrap(), 0);
}

/// A claim ends, and no receiver takes the places of the others.
async fn claims(store: &Store) {
    for (port, (id, receiver)) in (10..).zip([
        ("n-1", "slow:1"),
        ("n-2", "slow:1"),
        ("n-3", "slow:1"),
        ("n-4", "slow:1"),
        ("n-5", "quick:1"),
    ]) {
        make(store, id, port, Some((SinkForm::Top, receiver))).await;
        store
            .end_session(id, "n", Ending::Terminated, NOW)
            .await
            .unwrap();
    }
    let under_way = [("slow:1".to_owned(), 1), ("other:1".to_owned(), 5)];
    let claimed = claim(store, &under_way, NOW).await;
    let slow = |claimed: &[Notification]| {
        let slow = claimed.iter().filter(|one| one.receiver == "slow:1");
        (slow.count(), claimed.len())
    };
    assert_eq!(slow(&claimed), (1, 2), "one more, and the other's");
    assert_eq!(slow(&claim(store, &[], NOW).await), (2, 2));
    assert_eq!(slow(&claim(store, &[], NOW).await), (1, 1));
    assert!(claim(store, &[], NOW + 999).await.is_empty());
    // Whoever had them is gone.
    let again = claim(store, &[], NOW + 1_000).await;
    assert_eq!(slow(&again), (2, 3));
    assert!(again.iter().all(|one| one.attempts == 2));
    // One that comes back late does not undo another's claim.
    let one = &again[0];
    store.retry_notification(&one.id, 1, NOW).await.unwrap();
    let due = claim(store, &[], NOW + 1_000).await;
    assert!(due.iter().all(|other| other.id != one.id));
    store.retry_notification(&one.id, 2, NOW).await.unwrap();
    let due = claim(store, &[], NOW + 1_000).await;
    assert_eq!((due.len(), due[0].attempts), (1, 3));
    // Many at once claim each once.
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { claim(&store, &[], NOW + 5_000).await })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.unwrap().into_iter().map(|one| one.id));
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), count), (5, 5));
    for id in ids {
        store.finish_notification(&id).await.unwrap();
    }
}

/// Which homes may have changed though nobody reported.
async fn looks(store: &Store) {
    let look = |before: i64| store.homes_to_look_at(before, NOW);
    assert!(look(NOW + 7).await.unwrap().is_empty(), "no webhook");
    make(store, "n-f", 20, Some((SinkForm::Webhook, "a:1"))).await;
    assert_eq!(store.homes_with_webhooks(NOW).await.unwrap(), ["n"]);
    let of = |agent: &str| {
        let agents = [agent.to_owned()];
        async move { store.homes_with_webhooks_of(&agents).await.unwrap() }
    };
    assert_eq!(of("n-1").await, ["n"]);
    assert!(of("h-1").await.is_empty());
    assert_eq!(look(NOW + 7).await.unwrap(), ["n"], "silent since");
    assert!(look(NOW + 6).await.unwrap().is_empty(), "there");
    let says = Says(AtomicBool::new(false));
    assert_eq!(store.tell_home("n", &says, NOW).await.unwrap(), 1);
    assert_eq!(look(NOW + 6).await.unwrap(), ["n"], "back");
    assert!(look(NOW + 7).await.unwrap().is_empty(), "still silent");
    store
        .end_session("n-f", "n", Ending::Deleted, NOW)
        .await
        .unwrap();
    for one in claim(store, &[], NOW).await {
        store.finish_notification(&one.id).await.unwrap();
    }
}
