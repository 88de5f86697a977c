//! Agents that are asked for their status: who is due, who takes them, and how it went.

use std::collections::BTreeSet;

use qod_backend::store::{Admits, Home, Store};

use super::NOW;

pub(super) async fn conform(store: &Store) {
    let ids: Vec<String> = (0..20).map(|number| format!("poll-{number:02}")).collect();
    let home = Home {
        agent_ids: ids.clone(),
        subs: vec![],
        phone_numbers: vec![],
        network_access_identifiers: vec![],
        prefixes: vec![],
        link: None,
        consumers: Admits::These(vec![]),
    };
    store.put_home("polled", &home, NOW).await.unwrap();
    assert!(
        !store
            .set_status_poll("nobody", Some("http://x/"), None, NOW)
            .await
            .unwrap()
    );
    for id in &ids {
        let set = store.set_status_poll(id, Some("http://x/"), Some("sealed"), NOW);
        assert!(set.await.unwrap());
    }
    assert_eq!(store.count_status_polls().await.unwrap(), 20);
    let none = store.claim_status_polls(9, NOW + 9, NOW - 1).await.unwrap();
    assert!(none.is_empty(), "nobody is due");

    // Several take at once: each agent is taken once.
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                for _ in 0..8 {
                    // A server may end one of two that wait for each other.
                    match store.claim_status_polls(4, NOW + 1_000, NOW).await {
                        Ok(claimed) => taken.extend(claimed),
                        Err(error) => assert!(error.is_unavailability(), "{error}"),
                    }
                }
                taken
            })
        })
        .collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    assert_eq!(taken.len(), 20);
    let agents: BTreeSet<_> = taken.iter().map(|due| due.agent.clone()).collect();
    assert_eq!(agents.len(), 20);

    let (bad, good, anew) = (&taken[0], &taken[1], &taken[2]);
    let later = NOW + 1_000;
    store
        .note_status_poll(bad, Some("why"), later + 5, NOW + 1)
        .await
        .unwrap();
    store
        .note_status_poll(good, None, later + 6, NOW + 2)
        .await
        .unwrap();
    store
        .set_status_poll(&anew.agent, Some("http://y/"), None, NOW + 3)
        .await
        .unwrap();
    store
        .note_status_poll(anew, Some("of before"), later, NOW + 4)
        .await
        .unwrap();
    let read = async |agent: &str| store.status_polls(agent, agent).await.unwrap().remove(0);
    let failed = read(&bad.agent).await;
    assert_eq!(
        (failed.failures, failed.failure, failed.next_ms),
        (1, Some(("why".to_owned(), NOW + 1)), later + 5)
    );
    assert!(failed.has_token && failed.asked_ms == Some(NOW) && failed.answered_ms.is_none());
    let answered = read(&good.agent).await;
    assert_eq!(
        (answered.failures, answered.failure, answered.answered_ms),
        (0, None, Some(NOW + 2))
    );
    let fresh = read(&anew.agent).await;
    assert_eq!(
        (
            fresh.failures,
            fresh.url.as_str(),
            fresh.next_ms,
            fresh.has_token
        ),
        (0, "http://y/", NOW + 3, false)
    );

    // What was claimed and never noted is due when the claim ends.
    let due = store.claim_status_polls(99, later + 1_000, later).await;
    assert_eq!(due.unwrap().len(), 18);
    let again = store
        .claim_status_polls(99, later + 2_000, later + 5)
        .await
        .unwrap();
    assert_eq!((again.len(), again[0].failures), (1, 1));
    store
        .note_status_poll(&again[0], None, later + 3_000, later + 7)
        .await
        .unwrap();
    let recovered = read(&bad.agent).await;
    assert_eq!(
        (recovered.failures, recovered.failure),
        (0, Some(("why".to_owned(), NOW + 1))),
        "the last failure is still shown"
    );
    assert_eq!(
        store
            .status_polls("poll-05", "poll-09")
            .await
            .unwrap()
            .len(),
        5
    );
    store
        .set_status_poll(&bad.agent, None, None, NOW)
        .await
        .unwrap();
    assert_eq!(store.count_status_polls().await.unwrap(), 19);
}
