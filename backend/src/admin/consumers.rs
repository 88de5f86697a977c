//! `/admin/v1/consumers`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ListQuery, PAGE, authorize, check_id, document};
use crate::error_info::ErrorInfo;
use crate::json::{Invalid, Node};
use crate::oauth::is_scope;
use crate::removal;
use crate::secret;
use crate::server::App;

/// `PUT /admin/v1/consumers/{clientId} {scopes, newSecret?}`.
///
/// A new consumer is answered 201 with its secret, which is shown this once. For one that is there the scopes are
/// replaced (tokens that were issued keep theirs until they end) and the secret stays, unless `newSecret` is true:
/// then the old one is void and the new one is in the answer.
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
    if object
        .get("maxSessions")
        .or(object.get("maxSessionsPerHome"))
        .is_some()
    {
        return Err(ErrorInfo::not_implemented(
            "Limits per consumer (maxSessions, maxSessionsPerHome) are not supported by this version",
        ));
    }
    object.only(&["scopes", "newSecret"])?;
    let scopes = object
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
        .collect::<Result<Vec<_>, Invalid>>()?;
    let renew = object
        .get("newSecret")
        .map_or(Ok(false), |node| node.boolean())?;
    let secret = secret::token()?;
    let hash = secret::hash(&secret);
    let created = app
        .store
        .put_consumer(&client_id, &scopes, &hash, renew, app.clock.now_ms())
        .await?;
    tracing::info!(client_id, created, renew, "consumer provisioned");
    let mut shown = json!({"clientId": client_id, "scopes": scopes});
    if let (Value::Object(shown), true) = (&mut shown, created || renew) {
        shown.insert("clientSecret".to_owned(), secret.into());
    }
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(shown)))
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
    Ok(Json(
        json!({"clientId": consumer.client_id, "scopes": consumer.scopes}),
    ))
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
