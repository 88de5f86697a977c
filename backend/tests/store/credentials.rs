//! What agents show, on either engine.

use qod_backend::store::{MOST_TOKENS, OVERLAP_MS, REPEAT_MS, Store};
use sqlx::AnyPool;

use super::NOW;

async fn owner(store: &Store, hash: &str, now_ms: i64) -> Option<String> {
    let owner = store.token_owner(hash, now_ms).await.unwrap();
    owner.map(|owner| owner.agent)
}

async fn rotate(store: &Store, shown: &str, hash: &str, now_ms: i64) -> bool {
    let shown = Some(shown).filter(|shown| !shown.is_empty());
    store
        .rotate_agent_token("h-1", shown, hash, now_ms)
        .await
        .unwrap()
}

/// Needs a home `h` with the agents `h-1` and `h-2`.
pub(crate) async fn conform(store: &Store) {
    assert!(store.set_agent_token("h-1", "hash").await.unwrap());
    assert!(!store.set_agent_token("x", "other").await.unwrap());
    let found = store.token_owner("hash", NOW).await.unwrap().unwrap();
    assert_eq!(
        (found.agent.as_str(), found.home.as_deref()),
        ("h-1", Some("h"))
    );
    assert_eq!(store.owner("h-1").await.unwrap(), Some(found));
    assert_eq!(store.owner("x").await.unwrap(), None);

    rotation(store).await;
    bounds(store).await;
    bootstrap(store).await;
    races(store).await;
}

async fn rotation(store: &Store) {
    assert!(rotate(store, "hash", "r1", NOW).await);
    assert!(!rotate(store, "nothing", "r2", NOW).await);
    assert!(
        !store
            .rotate_agent_token("h-2", Some("hash"), "r2", NOW)
            .await
            .unwrap(),
        "it is another agent's"
    );
    let last = NOW + OVERLAP_MS - 1;
    assert!(owner(store, "hash", last).await.is_some());
    assert_eq!(owner(store, "hash", last + 1).await, None);

    // The answer was lost: the agent has nothing newer, and its token lives no longer for being shown again.
    assert!(rotate(store, "hash", "r2", NOW + 1_000).await);
    assert_eq!(owner(store, "hash", last + 1).await, None);
    assert!(!rotate(store, "hash", "r3", last + 1).await);
    // One arrived after all: what came before it is good for its time, and for nothing new.
    assert!(owner(store, "r1", NOW + 2_000).await.is_some());
    assert!(!rotate(store, "hash", "r3", NOW + 2_000).await);
    assert!(owner(store, "hash", NOW + 2_000).await.is_some());
    assert!(rotate(store, "r1", "r3", NOW + 2_000).await);
    assert!(owner(store, "r3", NOW + 90 * OVERLAP_MS).await.is_some());

    assert!(store.set_agent_token("h-1", "hash").await.unwrap());
    for void in ["r1", "r2", "r3"] {
        assert_eq!(owner(store, void, NOW).await, None);
    }
}

async fn bounds(store: &Store) {
    // However often an answer is lost, the token that the agent has stays.
    for number in 0..3 * MOST_TOKENS {
        assert!(rotate(store, "hash", &format!("lost-{number}"), NOW).await);
    }
    assert!(owner(store, "hash", NOW).await.is_some());
    let mut valid = 1;
    for number in 0..3 * MOST_TOKENS {
        let hash = format!("lost-{number}");
        valid += i64::from(owner(store, &hash, NOW).await.is_some());
    }
    assert_eq!(valid, MOST_TOKENS);

    assert!(store.set_agent_token("h-1", "used-0").await.unwrap());
    let chain: Vec<String> = (0..=MOST_TOKENS)
        .map(|number| format!("used-{number}"))
        .collect();
    for pair in chain.windows(2) {
        assert!(owner(store, &pair[0], NOW).await.is_some());
        assert!(rotate(store, &pair[0], &pair[1], NOW).await);
    }
    assert_eq!(owner(store, "used-0", NOW).await, None, "the oldest went");
    for hash in &chain[1..] {
        assert!(owner(store, hash, NOW).await.is_some(), "{hash}");
    }
    assert!(store.set_agent_token("h-1", "hash").await.unwrap());
}

async fn bootstrap(store: &Store) {
    let ends = NOW + 1_000;
    assert!(store.set_bootstrap_token("h-1", "b0", ends).await.unwrap());
    assert!(store.set_bootstrap_token("h-1", "b1", ends).await.unwrap());
    assert!(!store.set_bootstrap_token("x", "b2", ends).await.unwrap());
    let enrol = async |bootstrap, hash, now_ms| store.enrol(bootstrap, hash, now_ms).await.unwrap();
    assert_eq!(enrol("b0", "e0", NOW).await, None, "it was replaced");
    assert_eq!(enrol("b1", "e0", ends).await, None, "it has expired");
    let used = ends - 1;
    assert_eq!(enrol("b1", "e1", used).await.as_deref(), Some("h-1"));
    assert!(
        owner(store, "hash", used + OVERLAP_MS - 1).await.is_some(),
        "the agent's token lives on for a day"
    );
    assert_eq!(owner(store, "hash", used + OVERLAP_MS).await, None);
    // The answer was lost.
    assert_eq!(
        enrol("b1", "e2", used + REPEAT_MS - 1).await.as_deref(),
        Some("h-1")
    );
    assert_eq!(enrol("b1", "e3", used + REPEAT_MS).await, None);
    // Now it arrived.
    assert!(owner(store, "e2", used + 5).await.is_some());
    assert_eq!(enrol("b1", "e3", used + 5).await, None, "it has served");

    assert!(store.set_bootstrap_token("h-1", "b3", ends).await.unwrap());
    assert!(store.set_agent_token("h-1", "hash").await.unwrap());
    assert_eq!(enrol("b3", "e4", NOW).await, None, "void with all the rest");
}

async fn races(store: &Store) {
    assert!(
        store
            .set_bootstrap_token("h-1", "b", NOW + 1)
            .await
            .unwrap()
    );
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let hash = format!("race-{number}");
                let first = store.enrol("b", &hash, NOW).await.unwrap();
                assert_eq!(first.as_deref(), Some("h-1"));
                rotate(&store, "", &format!("race-{number}-c"), NOW).await
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    let mut without_end = 0;
    let far = NOW + 2 * OVERLAP_MS;
    for number in 0..20 {
        for hash in [format!("race-{number}"), format!("race-{number}-c")] {
            without_end += i32::from(owner(store, &hash, far).await.is_some());
        }
    }
    assert_eq!(without_end, 1, "one is the newest");
    assert!(store.set_agent_token("h-1", "hash").await.unwrap());
}

/// A database of the first version, with an agent `a` that has a token, and one that has none.
pub(crate) async fn migrate(url: &str) {
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(url).await.unwrap();
    for statement in [
        "CREATE TABLE schema_version (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)",
        "INSERT INTO schema_version (id, version) VALUES (1, 1)",
        "CREATE TABLE agents (id TEXT PRIMARY KEY, home_id TEXT, token_hash TEXT)",
        "CREATE UNIQUE INDEX agents_by_token ON agents (token_hash)",
        "CREATE TABLE consumers (client_id TEXT PRIMARY KEY, scopes TEXT NOT NULL, secret_hash TEXT NOT NULL, \
         created_ms BIGINT NOT NULL)",
        "CREATE TABLE sessions (id TEXT PRIMARY KEY, home_id TEXT NOT NULL, consumer TEXT NOT NULL, \
         expires_ms BIGINT NOT NULL)",
        "INSERT INTO agents (id, home_id, token_hash) VALUES ('a', 'h', 'hash'), ('b', 'h', NULL)",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let store = Store::open(url).await.unwrap();
    assert_eq!(owner(&store, "hash", NOW).await.as_deref(), Some("a"));
    let rotated = store.rotate_agent_token("a", Some("hash"), "next", NOW);
    assert!(rotated.await.unwrap());
    assert!(store.set_agent_token("b", "b").await.unwrap());
    store.close().await;
}
