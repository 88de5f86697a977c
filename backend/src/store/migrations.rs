//! The schema, version by version.

use sqlx::{AnyPool, Row};

use super::{OrDoing, StoreError};

/// The statements that lead from one version to the next. An entry is never edited after a release.
const MIGRATIONS: &[&[&str]] = &[
    FIRST,
    AGENT_CREDENTIALS,
    CONSUMER_LIMITS,
    NOTIFICATIONS,
    STATUS_POLLS_AND_REMOVALS,
    USAGE,
];

const FIRST: &[&str] = &[
    // config: the provisioned document. link: what agents get of it, so that a poll need not read the rest.
    "CREATE TABLE homes (id TEXT PRIMARY KEY, revision BIGINT NOT NULL, config TEXT NOT NULL, link TEXT, \
     created_ms BIGINT NOT NULL)",
    // Revisions are close to the time: what changed lately in another process is found by this index.
    "CREATE INDEX homes_by_revision ON homes (revision)",
    // kind: sub, phone, nai, prefix. One identifier names one home.
    "CREATE TABLE home_identifiers (kind TEXT NOT NULL, value TEXT NOT NULL, home_id TEXT NOT NULL, mac TEXT, \
     PRIMARY KEY (kind, value))",
    "CREATE INDEX home_identifiers_by_home ON home_identifiers (home_id)",
    // sessions: what the last report says of each session, as JSON. status: that report as it came. duplicate_ms: when
    // a run reported that another run had followed; NULL: never.
    "CREATE TABLE agents (id TEXT PRIMARY KEY, home_id TEXT, token_hash TEXT, created_ms BIGINT NOT NULL, \
     last_poll_ms BIGINT NOT NULL, last_status_ms BIGINT NOT NULL, source TEXT, version TEXT, boot_id TEXT, \
     previous_boot_id TEXT, duplicate_ms BIGINT, sequence BIGINT NOT NULL, applied_revision BIGINT, sessions TEXT NOT NULL, status TEXT)",
    "CREATE INDEX agents_by_home ON agents (home_id)",
    "CREATE UNIQUE INDEX agents_by_token ON agents (token_hash)",
    // Public addresses that an agent reports and that the backend believes.
    "CREATE TABLE agent_addresses (address TEXT NOT NULL, agent_id TEXT NOT NULL, PRIMARY KEY (address, agent_id))",
    "CREATE INDEX agent_addresses_by_agent ON agent_addresses (agent_id)",
    "CREATE TABLE consumers (client_id TEXT PRIMARY KEY, scopes TEXT NOT NULL, secret_hash TEXT NOT NULL, \
     created_ms BIGINT NOT NULL)",
    // request: what the consumer asked for, as it is echoed. instruction: what agents are told, without the time.
    "CREATE TABLE sessions (id TEXT PRIMARY KEY, home_id TEXT NOT NULL, consumer TEXT NOT NULL, \
     created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, added_revision BIGINT NOT NULL, request TEXT NOT NULL, \
     instruction TEXT NOT NULL, idempotency_key TEXT, request_hash TEXT NOT NULL)",
    "CREATE INDEX sessions_by_home ON sessions (home_id, added_revision)",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_ms)",
    "CREATE UNIQUE INDEX sessions_by_idempotency_key ON sessions (consumer, idempotency_key)",
    "CREATE TABLE signing_keys (kid TEXT PRIMARY KEY, pkcs8 TEXT NOT NULL, created_ms BIGINT NOT NULL)",
];

/// An agent has several tokens while it changes from one to the next, and a bootstrap token before it has any.
const AGENT_CREDENTIALS: &[&str] = &[
    // serial: order of issue within the agent. expires_ms: NULL for the newest. used_ms: when it was first shown.
    "CREATE TABLE agent_tokens (hash TEXT PRIMARY KEY, agent_id TEXT NOT NULL, serial BIGINT NOT NULL, \
     expires_ms BIGINT, used_ms BIGINT)",
    "CREATE INDEX agent_tokens_by_agent ON agent_tokens (agent_id, serial)",
    "INSERT INTO agent_tokens (hash, agent_id, serial) \
     SELECT token_hash, id, 1 FROM agents WHERE token_hash IS NOT NULL",
    "DROP INDEX agents_by_token",
    "ALTER TABLE agents DROP COLUMN token_hash",
    // used_serial: of the agent's newest token when this was first used; NULL with used_ms.
    "CREATE TABLE bootstrap_tokens (agent_id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, expires_ms BIGINT NOT NULL, \
     used_ms BIGINT, used_serial BIGINT)",
];

/// What one consumer may have at once and how fast it may ask.
const CONSUMER_LIMITS: &[&str] = &[
    // NULL: the configuration's limit.
    "ALTER TABLE consumers ADD COLUMN max_sessions BIGINT",
    "ALTER TABLE consumers ADD COLUMN max_sessions_per_home BIGINT",
    "ALTER TABLE consumers ADD COLUMN requests_per_second BIGINT",
    // Counts the sessions of a consumer without reading them.
    "CREATE INDEX sessions_by_consumer ON sessions (consumer, expires_ms)",
    // A row is locked by writing it: what is decided about its name until the commit is decided by nobody else.
    "CREATE TABLE locks (name TEXT PRIMARY KEY)",
];

/// Where the notifications of a session go, and those that are on their way.
const NOTIFICATIONS: &[&str] = &[
    // sink_form: top or webhook; NULL: nobody is notified. sink_token: encrypted. told: what a webhook was told last.
    "ALTER TABLE sessions ADD COLUMN sink_form TEXT",
    "ALTER TABLE sessions ADD COLUMN sink_url TEXT",
    "ALTER TABLE sessions ADD COLUMN sink_receiver TEXT",
    "ALTER TABLE sessions ADD COLUMN sink_token TEXT",
    "ALTER TABLE sessions ADD COLUMN told TEXT",
    "CREATE INDEX sessions_by_webhook ON sessions (home_id) WHERE sink_form = 'webhook'",
    // It outlives its session, and has all that it takes to deliver it. due_ms: when it is to be delivered, or when
    // the claim of the process that does so ends.
    "CREATE TABLE outbox (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, serial BIGINT NOT NULL, \
     receiver TEXT NOT NULL, url TEXT NOT NULL, token TEXT, body TEXT NOT NULL, created_ms BIGINT NOT NULL, \
     due_ms BIGINT NOT NULL, attempts BIGINT NOT NULL)",
    "CREATE INDEX outbox_by_time ON outbox (due_ms)",
    "CREATE UNIQUE INDEX outbox_by_session ON outbox (session_id, serial)",
];

/// Agents that are asked for their status, and what must be remembered of what was removed.
const STATUS_POLLS_AND_REMOVALS: &[&str] = &[
    // token: encrypted. next_ms: when the agent is to be asked next, by whoever sets it forward. asked_ms, answered_ms:
    // NULL: never. failures: in a row. failure, failed_ms: the last one.
    "CREATE TABLE status_polls (agent_id TEXT PRIMARY KEY, url TEXT NOT NULL, token TEXT, next_ms BIGINT NOT NULL, \
     asked_ms BIGINT, answered_ms BIGINT, failures BIGINT NOT NULL, failure TEXT, failed_ms BIGINT)",
    "CREATE INDEX status_polls_by_time ON status_polls (next_ms)",
    // NULL: it serves, or may. Else its tokens are known, so that it can be told.
    "ALTER TABLE agents ADD COLUMN decommissioned_ms BIGINT",
    // The last revision of a home that is gone, for the polls that other processes hold for it.
    "CREATE TABLE removed_homes (id TEXT PRIMARY KEY, revision BIGINT NOT NULL)",
    // Requests that were under way when their consumer was removed may still make sessions, which are ended then.
    "CREATE TABLE removed_consumers (client_id TEXT PRIMARY KEY, removed_ms BIGINT NOT NULL)",
];

const USAGE: &[&str] = &[
    // measured: what each agent counted, as JSON. final_ms: until then an agent's last word still counts.
    "CREATE TABLE usage_records (session_id TEXT PRIMARY KEY, consumer TEXT NOT NULL, home_id TEXT NOT NULL, \
     profile TEXT NOT NULL, from_ms BIGINT NOT NULL, to_ms BIGINT NOT NULL, ending TEXT NOT NULL, \
     upstream BIGINT NOT NULL, downstream BIGINT NOT NULL, final_ms BIGINT NOT NULL, measured TEXT NOT NULL)",
    "CREATE INDEX usage_records_by_end ON usage_records (to_ms, session_id)",
];

/// Brings the schema up to date, one transaction a version.
///
/// # Errors
/// The database failed, or was written by a later version.
pub(super) async fn run(pool: &AnyPool) -> Result<(), StoreError> {
    let doing = "bring the database's schema up to date";
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let create = "CREATE TABLE IF NOT EXISTS schema_version (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)";
    if sqlx::query(create).execute(pool).await.is_err() {
        // Two processes that create it at once: on PostgreSQL one of them fails, and finds it made.
        sqlx::query(create).execute(pool).await.or_doing(doing)?;
    }
    sqlx::query(
        "INSERT INTO schema_version (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING",
    )
    .execute(pool)
    .await
    .or_doing(doing)?;
    loop {
        let mut transaction = pool.begin().await.or_doing(doing)?;
        // Writing the row takes its lock: other processes that start now wait here.
        let found: i64 = sqlx::query(
            "UPDATE schema_version SET version = version WHERE id = 1 RETURNING version",
        )
        .fetch_one(&mut *transaction)
        .await
        .and_then(|row| row.try_get(0))
        .or_doing(doing)?;
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        let Some(statements) = usize::try_from(found)
            .ok()
            .and_then(|version| MIGRATIONS.get(version))
        else {
            return Ok(());
        };
        for statement in *statements {
            sqlx::query(*statement)
                .execute(&mut *transaction)
                .await
                .or_doing(doing)?;
        }
        sqlx::query("UPDATE schema_version SET version = $1 WHERE id = 1")
            .bind(found + 1)
            .execute(&mut *transaction)
            .await
            .or_doing(doing)?;
        transaction.commit().await.or_doing(doing)?;
        tracing::info!(
            version = found + 1,
            "the database's schema was brought up to date"
        );
    }
}
