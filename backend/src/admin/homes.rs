//! `/admin/v1/homes`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ListQuery, PAGE, authorize, check_id, document};
use crate::error_info::ErrorInfo;
use crate::json::{Invalid, Node, Object};
use crate::oauth::is_scope;
use crate::prefix::{self, Prefix};
use crate::qod::device::phone_number;
use crate::removal;
use crate::server::App;
use crate::store::{Admits, All, Home, HomePut, Link, Nai, PhoneNumber};

/// Most entries of one list of a home.
const MOST: usize = 1_000;

/// `PUT /admin/v1/homes/{id}`: makes the home, or replaces all of it. Sessions of consumers that it admits no more end
/// by the operator.
pub async fn put(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    let home = read(&Node::root(&document(body).await?).object()?)?;
    let (status, revision) = match app.store.put_home(&id, &home, app.clock.now_ms()).await? {
        HomePut::Created(revision) => (StatusCode::CREATED, revision),
        HomePut::Replaced(revision) => (StatusCode::OK, revision),
        HomePut::Taken(what) => {
            return Err(ErrorInfo::conflict(format!(
                "{what} belongs to another home, or is given twice"
            )));
        }
    };
    app.wake.raise(&id, revision);
    // Its agents may have changed. What fails here is told by whoever looks next.
    if let Err(error) = app.store.tell_home(&id, &*app, app.clock.now_ms()).await {
        tracing::warn!(%error, home = id, "changes of a home were not told yet");
    }
    Ok((status, Json(show(&id, &home, revision))))
}

/// `GET /admin/v1/homes/{id}`.
pub async fn get(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    let (home, revision) = app.store.home(&id).await?.ok_or_else(no_home)?;
    Ok(Json(show(&id, &home, revision)))
}

/// `GET /admin/v1/homes[?after=ID]`: ids, a thousand at a time.
pub async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    let query = ListQuery::read(query, &[])?;
    let ids = app.store.home_ids(query.after()?, PAGE).await?;
    Ok(Json(json!({ "homes": ids })))
}

/// `DELETE /admin/v1/homes/{id}`: its sessions end by the operator, its agents are told to do nothing and belong to no
/// home, what identified it may identify another one.
pub async fn delete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    if removal::home(&app, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_home())
    }
}

/// `POST /admin/v1/homes/{id}/token {clientId, scope}`: a token of the home's first subject for a consumer, as the
/// operator's login would give it. For demonstrations and tests; 501 where an outside issuer's tokens count.
pub async fn token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ErrorInfo> {
    authorize(&app, &headers)?;
    check_id(&id)?;
    let issuer = app.authority.embedded()?;
    let document = document(body).await?;
    let object = Node::root(&document).object()?;
    object.only(&["clientId", "scope"])?;
    let client_id = object.require("clientId")?.text(64)?;
    let scope = object.require("scope")?;
    let scopes: Vec<&str> = scope.string()?.split_whitespace().collect();
    if !scopes.iter().all(|scope| is_scope(scope)) {
        return Err(scope.invalid("must be scopes separated by spaces").into());
    }
    let (home, _) = app.store.home(&id).await?.ok_or_else(no_home)?;
    let consumer = app.store.consumer(client_id).await?;
    let consumer = consumer.ok_or_else(|| ErrorInfo::not_found("There is no such consumer"))?;
    if let Some(beyond) = scopes
        .iter()
        .find(|asked| !consumer.scopes.iter().any(|known| known == *asked))
    {
        return Err(scope
            .invalid(format!("{beyond} is not a scope of this consumer"))
            .into());
    }
    let sub = home
        .subs
        .first()
        .ok_or_else(|| ErrorInfo::conflict("The home has no subs, so no token can speak for it"))?;
    if *sub == consumer.client_id {
        return Err(ErrorInfo::conflict(
            "The home's first sub is this consumer's own id",
        ));
    }
    let scope = scopes.join(" ");
    let token = issuer.issue(client_id, sub, &scope).map_err(|error| {
        tracing::error!(%error, "a token could not be issued");
        ErrorInfo::unavailable()
    })?;
    Ok(Json(
        json!({"access_token": token, "token_type": "Bearer", "scope": scope}),
    ))
}

fn no_home() -> ErrorInfo {
    ErrorInfo::not_found("There is no such home")
}

fn show(id: &str, home: &Home, revision: i64) -> Value {
    let mut shown = json!(home);
    if let Value::Object(shown) = &mut shown {
        shown.insert("id".to_owned(), id.into());
        shown.insert("revision".to_owned(), revision.into());
    }
    shown
}

fn read(object: &Object<'_>) -> Result<Home, Invalid> {
    object.only(&[
        "agentIds",
        "subs",
        "phoneNumbers",
        "networkAccessIdentifiers",
        "prefixes",
        "link",
        "consumers",
    ])?;
    let agent_ids = list_of(object, "agentIds", |node| {
        let id = node.text(64)?;
        qod_wire::is_agent_id(id)
            .then(|| id.to_owned())
            .ok_or_else(|| {
                node.invalid("must be 1 to 64 letters, digits, dots, hyphens or underscores")
            })
    })?;
    let phone_numbers = list_of(object, "phoneNumbers", |node| {
        let object = node.object()?;
        object.only(&["number", "mac"])?;
        let number = object.require("number")?;
        Ok(PhoneNumber {
            number: phone_number(number.string()?).ok_or_else(|| {
                number
                    .invalid("must be a phone number of 5 to 15 digits, perhaps with + before them")
            })?,
            mac: mac(&object)?,
        })
    })?;
    let network_access_identifiers = list_of(object, "networkAccessIdentifiers", |node| {
        let object = node.object()?;
        object.only(&["nai", "mac"])?;
        Ok(Nai {
            nai: object.require("nai")?.text(256)?.to_owned(),
            mac: mac(&object)?,
        })
    })?;
    Ok(Home {
        agent_ids,
        subs: list_of(object, "subs", |node| Ok(node.text(256)?.to_owned()))?,
        phone_numbers,
        network_access_identifiers,
        prefixes: list_of(object, "prefixes", |node| {
            Prefix::any(node.text(64)?)
                .map(|prefix| prefix.canonical())
                .map_err(|error| node.invalid(error.to_string()))
        })?,
        link: object
            .get("link")
            .map(|node| link(&node.object()?))
            .transpose()?,
        consumers: admits(&object.require("consumers")?)?,
    })
}

fn list_of<T>(
    object: &Object<'_>,
    key: &str,
    read: impl Fn(&Node<'_>) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    match object.get(key) {
        None => Ok(vec![]),
        Some(node) => node.array(MOST)?.iter().map(read).collect(),
    }
}

fn mac(object: &Object<'_>) -> Result<Option<String>, Invalid> {
    object
        .get("mac")
        .map(|node| {
            prefix::mac(node.string()?)
                .ok_or_else(|| node.invalid("must be a MAC address as 02:00:00:00:00:17"))
        })
        .transpose()
}

fn link(object: &Object<'_>) -> Result<Link, Invalid> {
    object.only(&["upstreamKbps", "downstreamKbps"])?;
    let rate = |key| {
        object
            .get(key)
            // Up to 1 Tbit/s: beyond that it is a mistake of the unit.
            .map(|node| node.integer(1..=1_000_000_000).map(i64::unsigned_abs))
            .transpose()
    };
    Ok(Link {
        upstream_kbps: rate("upstreamKbps")?,
        downstream_kbps: rate("downstreamKbps")?,
    })
}

/// Consent is never assumed, so this key must be there.
fn admits(node: &Node<'_>) -> Result<Admits, Invalid> {
    if node.value() == "all" {
        return Ok(Admits::All(All::All));
    }
    node.array(MOST)
        .map_err(|_| node.invalid("must be \"all\" or an array of client ids"))?
        .iter()
        // As long as an outside issuer may call them.
        .map(|node| node.text(256).map(str::to_owned))
        .collect::<Result<_, _>>()
        .map(Admits::These)
}
