//! What is left of what was removed. Goes on where the agents of the home `polled` are asked for their status.

use qod_backend::store::{Admits, Created, HomeRemoval, Owner, SessionFilter, Store};

use super::{NOW, session};

pub(super) async fn conform(store: &Store) {
    let agent = "poll-07";
    assert!(store.set_agent_token(agent, "removal-token").await.unwrap());
    store
        .set_bootstrap_token(agent, "removal-bootstrap", NOW + 9_000)
        .await
        .unwrap();
    let (home, revision) = store
        .decommission_agent(agent, NOW)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(home, "polled");
    assert_eq!(store.revision("polled").await.unwrap(), Some(revision));
    let owner = store.token_owner("removal-token", NOW).await.unwrap();
    let gone = Owner {
        agent: agent.to_owned(),
        home: None,
        decommissioned: true,
    };
    assert_eq!(owner, Some(gone.clone()));
    assert_eq!(store.owner(agent).await.unwrap(), Some(gone));
    assert_eq!(store.agent(agent).await.unwrap(), None);
    assert!(store.status_polls(agent, agent).await.unwrap().is_empty());
    let enrolled = store.enrol("removal-bootstrap", "x", NOW).await.unwrap();
    assert_eq!(enrolled, None);
    let (mut polled, _) = store.home("polled").await.unwrap().unwrap();
    assert_eq!(polled.agent_ids.len(), 19);
    assert_eq!(store.decommission_agent(agent, NOW).await.unwrap(), None);
    let asked = store.set_status_poll(agent, Some("http://x/"), None, NOW);
    assert!(!asked.await.unwrap());
    polled.agent_ids.push(agent.to_owned());
    store.put_home("polled", &polled, NOW).await.unwrap();
    let owner = store.owner(agent).await.unwrap().unwrap();
    assert!(!owner.decommissioned && owner.home.as_deref() == Some("polled"));

    // Who is not admitted when the home is held makes nothing.
    let refused = store
        .create_session(session("gone-0", "polled", 1, None), NOW)
        .await;
    assert_eq!(refused.unwrap(), Created::NotAdmitted);
    polled.consumers = Admits::These(vec!["app".to_owned(), "other".to_owned()]);
    store.put_home("polled", &polled, NOW).await.unwrap();
    for (id, port, consumer) in [
        ("gone-1", 1, "app"),
        ("gone-2", 2, "app"),
        ("gone-3", 3, "other"),
    ] {
        let mut new = session(id, "polled", port, None);
        new.consumer = consumer.to_owned();
        let made = store.create_session(new, NOW).await.unwrap();
        assert!(matches!(made, Created::New(_)));
    }
    let ids = async |filter| -> Vec<String> {
        let found = store.sessions(filter, "gone-", 9, NOW).await.unwrap();
        let gone = found.into_iter().map(|session| session.id);
        gone.filter(|id| id.starts_with("gone-")).collect()
    };
    let of = |home, consumer| SessionFilter { home, consumer };
    assert_eq!(ids(of(Some("polled"), None)).await.len(), 3);
    assert_eq!(ids(of(Some("polled"), Some("other"))).await, ["gone-3"]);
    assert_eq!(ids(of(None, Some("app"))).await, ["gone-1", "gone-2"]);
    polled.consumers = Admits::These(vec!["app".to_owned()]);
    store.put_home("polled", &polled, NOW).await.unwrap();
    assert_eq!(ids(of(Some("polled"), None)).await, ["gone-1", "gone-2"]);

    assert!(!store.remove_consumer("nobody", NOW).await.unwrap());
    let homes = store.homes_of_consumer("app", NOW).await.unwrap();
    assert!(homes.contains(&"polled".to_owned()));
    let ended = store
        .terminate_sessions("polled", "app", NOW)
        .await
        .unwrap();
    assert_eq!(ended, store.revision("polled").await.unwrap());
    let none = store
        .terminate_sessions("polled", "app", NOW)
        .await
        .unwrap();
    assert_eq!(none, None);
    assert_eq!(ids(of(Some("polled"), None)).await, [""; 0]);

    assert_eq!(
        store.remove_home("nowhere", NOW).await.unwrap(),
        HomeRemoval::NoHome
    );
    let HomeRemoval::Done(last) = store.remove_home("polled", NOW).await.unwrap() else {
        panic!("it has no sessions");
    };
    assert_eq!(store.home("polled").await.unwrap(), None);
    let heard = store.homes_above(last - 1).await.unwrap();
    assert!(
        heard.contains(&("polled".to_owned(), last)),
        "polls for it are woken in every process"
    );
    assert_eq!(store.owner(agent).await.unwrap().unwrap().home, None);
}
