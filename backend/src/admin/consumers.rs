//! `/admin/v1/consumers`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ListQuery, PAGE, authorize, check_id, document};
use crate::config::{cap, rate};
use crate::error_info::ErrorInfo;
use crate::json::{Invalid, Node, Object};
use crate::oauth::client_secret::SHORTEST;
use crate::oauth::is_scope;
use crate::removal;
use crate::secret;
use crate::server::App;
use crate::store::ConsumerLimits;

/// Longest secret that may be chosen, in bytes.
const LONGEST_SECRET: usize = 256;

/// `PUT /admin/v1/consumers/{clientId} {scopes, maxSessions?, maxSessionsPerHome?, requestsPerSecond?, newSecret?,
/// clientSecret?}`.
///
/// A new consumer is answered 201 with its secret, which is shown this once. For one that is there scopes and limits
/// are replaced, which counts for tokens that were issued before too (in other processes after five seconds), and
/// the secret stays, unless `newSecret` is true: then the old one is void and the new one is in the answer. With
/// `clientSecret` the operator chooses it, and it is in no answer.
pub async fn put(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(client_id): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&client_id)?;
    let document = document(body).await?;
    let object = Node::root(&document).object()?;
    object.only(&[
        "scopes",
        "newSecret",
        "clientSecret",
        "maxSessions",
        "maxSessionsPerHome",
        "requestsPerSecond",
    ])?;
    let scopes = scopes(&object)?;
    let limits = ConsumerLimits {
        max_sessions: cap(&object, "maxSessions")?,
        max_sessions_per_home: cap(&object, "maxSessionsPerHome")?,
        requests_per_second: rate(&object, "requestsPerSecond")?,
    };
    let renew = object
        .get("newSecret")
        .map_or(Ok(false), |node| node.boolean())?;
    let chosen = chosen_secret(&object)?;
    if renew && chosen.is_some() {
        return Err(Invalid {
            path: "newSecret".to_owned(),
            reason: "must not be given with clientSecret".to_owned(),
        }
        .into());
    }
    let is_chosen = chosen.is_some();
    let (secret, hash) = match chosen {
        Some(secret) => (None, app.chosen_secrets.hash(secret).await?),
        None => {
            let secret = secret::token()?;
            let hash = secret::hash(&secret);
            (Some(secret), hash)
        }
    };
    let now = app.clock.now_ms();
    let created = app
        .store
        .put_consumer(&client_id, &scopes, &hash, renew || is_chosen, limits, now)
        .await?;
    app.consumers.forget(&client_id);
    tracing::info!(client_id, created, renew, is_chosen, "consumer provisioned");
    let mut shown = show(&client_id, &scopes, limits);
    if let (Value::Object(shown), Some(secret), true) = (&mut shown, secret, created || renew) {
        shown.insert("clientSecret".to_owned(), secret.into());
    }
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(shown)))
}

fn scopes(object: &Object<'_>) -> Result<Vec<String>, Invalid> {
    object
        .require("scopes")?
        .array(100)?
        .iter()
        .map(|node| {
            let scope = node.string()?;
            is_scope(scope).then(|| scope.to_owned()).ok_or_else(|| {
                node.invalid(
                    "must be a scope: printable ASCII without spaces, quotes and backslashes",
                )
            })
        })
        .collect()
}

/// A secret that the consumer has from elsewhere. It is in no message.
fn chosen_secret(object: &Object<'_>) -> Result<Option<String>, Invalid> {
    let Some(node) = object.get("clientSecret") else {
        return Ok(None);
    };
    let secret = node.text(LONGEST_SECRET)?;
    if secret.chars().count() < SHORTEST {
        return Err(node.invalid(format!("must have at least {SHORTEST} characters")));
    }
    Ok(Some(secret.to_owned()))
}

fn show(client_id: &str, scopes: &[String], limits: ConsumerLimits) -> Value {
    let mut shown = json!({"clientId": client_id, "scopes": scopes});
    for (name, limit) in [
        ("maxSessions", limits.max_sessions),
        ("maxSessionsPerHome", limits.max_sessions_per_home),
        ("requestsPerSecond", limits.requests_per_second),
    ] {
        if let (Value::Object(shown), Some(limit)) = (&mut shown, limit) {
            shown.insert(name.to_owned(), limit.into());
        }
    }
    shown
}

/// `GET /admin/v1/consumers/{clientId}`.
pub async fn get(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(client_id): Path<String>,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&client_id)?;
    let consumer = app.store.consumer(&client_id).await?;
    let consumer = consumer.ok_or_else(|| ErrorInfo::not_found("There is no such consumer"))?;
    Ok(Json(show(
        &consumer.client_id,
        &consumer.scopes,
        consumer.limits,
    )))
}

/// `DELETE /admin/v1/consumers/{clientId}`: its tokens count no more, and its sessions end by the operator.
pub async fn delete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(client_id): Path<String>,
) -> Result<StatusCode, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&client_id)?;
    if removal::consumer(&app, client_id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ErrorInfo::not_found("There is no such consumer"))
    }
}

/// `GET /admin/v1/consumers[?after=ID]`: ids, a thousand at a time.
pub async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    let query = ListQuery::read(query, &[])?;
    let ids = app.store.consumer_ids(query.after()?, PAGE).await?;
    Ok(Json(json!({ "consumers": ids })))
}
