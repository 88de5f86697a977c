//! `/admin/v1/sessions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ListQuery, PAGE, authorize, check_id};
use crate::error_info::ErrorInfo;
use crate::qod::{end_session, response};
use crate::server::App;
use crate::store::{Bytes, Ending, SessionFilter, StoreError, StoredSession};

/// `GET /admin/v1/sessions/{id}`.
pub async fn get(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    let session = app
        .store
        .session(&id, app.clock.now_ms())
        .await?
        .ok_or_else(no_session)?;
    Ok(Json(show(&app, &session).await?))
}

/// `GET /admin/v1/sessions[?home=ID&consumer=ID&after=ID]`: a thousand at a time.
pub async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    let query = ListQuery::read(query, &["home", "consumer"])?;
    let filter = SessionFilter {
        home: query.filter("home", 64)?,
        // As long as an issuer may call it.
        consumer: query.filter("consumer", 256)?,
    };
    let mut sessions = Vec::new();
    for session in app
        .store
        .sessions(filter, query.after()?, PAGE, app.clock.now_ms())
        .await?
    {
        sessions.push(show(&app, &session).await?);
    }
    Ok(Json(json!({ "sessions": sessions })))
}

/// `DELETE /admin/v1/sessions/{id}`.
pub async fn delete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    let session = app
        .store
        .session(&id, app.clock.now_ms())
        .await?
        .ok_or_else(no_session)?;
    end_session(&app, session.id, session.home, Ending::Terminated).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_session() -> ErrorInfo {
    ErrorInfo::not_found("Session Id does not exist")
}

/// As the consumer sees it, but for the token of its receiver, and whose it is.
async fn show(app: &App, session: &StoredSession) -> Result<Value, StoreError> {
    let mut shown = response::without_token(app, session).await?;
    let agents = app.store.agents_of(&session.home).await?;
    let said = agents
        .iter()
        .filter_map(|agent| agent.sessions.get(&session.id));
    let bytes = Bytes::of(said.map(|said| &said.measured));
    if let Value::Object(shown) = &mut shown {
        shown.insert("home".to_owned(), session.home.clone().into());
        shown.insert("clientId".to_owned(), session.consumer.clone().into());
        shown.insert("addedRevision".to_owned(), session.added_revision.into());
        shown.insert("upstreamBytes".to_owned(), bytes.upstream.into());
        shown.insert("downstreamBytes".to_owned(), bytes.downstream.into());
    }
    Ok(shown)
}
