//! `/admin/v1/usage`: what sessions that have ended were, for billing.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{PAGE, authorize};
use crate::error_info::ErrorInfo;
use crate::form;
use crate::json::Invalid;
use crate::server::App;
use crate::store::{UsagePlace, UsageRecord};

/// Latest time that may be asked for, in seconds since the epoch: the year 9999.
const LATEST: i64 = 253_402_300_799;
const CSV_HEAD: &str = "sessionId,clientId,home,qosProfile,startedAt,endedAt,ending,upstreamBytes,downstreamBytes,final\r\n";

/// `GET /admin/v1/usage[?from=TIME][&to=TIME][&after=NEXT]`: sessions that ended at `from` or later and before
/// `to` (RFC 3339, or
/// seconds since 1970), in order of their end, a thousand at a time. `next` of the answer is `after` of the next request; null: there
/// are no more. With `Accept: text/csv` the answer is that, and `next` is in the header `Link` (RFC 8288).
pub async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorInfo> {
    authorize(&app, &headers)?;
    let asked = Asked::read(query)?;
    let from_ms = asked.from * 1_000;
    let to_ms = asked.to * 1_000;
    let records = app.store.usage(from_ms, to_ms, &asked.after, PAGE).await?;
    let is_full = i64::try_from(records.len()).is_ok_and(|length| length == PAGE);
    let next = records
        .last()
        .filter(|_| is_full)
        .map(|last| format!("{}.{}", last.to_ms, last.session));
    let now_ms = app.clock.now_ms();
    if !wants_csv(&headers) {
        let shown: Vec<Value> = records.iter().map(|record| show(record, now_ms)).collect();
        return Ok(Json(json!({"usage": shown, "next": next})).into_response());
    }
    let mut text = CSV_HEAD.to_owned();
    for record in &records {
        write_line(&mut text, record, now_ms);
    }
    let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response();
    if let Some(next) = next {
        let link = format!(
            "</admin/v1/usage?from={}&to={}&after={next}>; rel=\"next\"",
            asked.from, asked.to
        );
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

struct Asked {
    from: i64,
    to: i64,
    after: UsagePlace,
}

impl Asked {
    fn read(query: Option<String>) -> Result<Self, Invalid> {
        let mut asked = Self {
            from: 0,
            to: LATEST,
            after: UsagePlace::default(),
        };
        for (key, value) in form::query(query)? {
            let wrong = |reason: &str| Invalid {
                path: key.clone(),
                reason: reason.to_owned(),
            };
            let seconds = || {
                seconds_of(&value).ok_or_else(|| {
                    wrong("must be a time, as 2026-01-31T00:00:00Z, or seconds since 1970")
                })
            };
            match key.as_str() {
                "from" => asked.from = seconds()?,
                "to" => asked.to = seconds()?,
                "after" => {
                    asked.after = place(&value)
                        .ok_or_else(|| wrong("must be the next of an answer to this request"))?;
                }
                _ => return Err(wrong("is not a known parameter")),
            }
        }
        Ok(asked)
    }
}

/// Seconds since the epoch, of RFC 3339 or of the number itself.
fn seconds_of(text: &str) -> Option<i64> {
    let seconds = match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(time) => time.unix_timestamp(),
        Err(_) => text.parse().ok()?,
    };
    (0..=LATEST).contains(&seconds).then_some(seconds)
}

fn place(text: &str) -> Option<UsagePlace> {
    let (to_ms, session) = text.split_once('.')?;
    let to_ms = to_ms.parse().ok().filter(|to_ms| *to_ms >= 0)?;
    qod_wire::is_session_id(session).then(|| UsagePlace {
        to_ms,
        session: session.to_owned(),
    })
}

fn wants_csv(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let range = range.split(';').next().unwrap_or_default();
            range.trim().eq_ignore_ascii_case("text/csv")
        })
}

fn show(record: &UsageRecord, now_ms: i64) -> Value {
    json!({
        "sessionId": record.session,
        "clientId": record.consumer,
        "home": record.home,
        "qosProfile": record.profile,
        "startedAt": record.from_ms / 1_000,
        "endedAt": record.to_ms / 1_000,
        "ending": record.ending,
        "upstreamBytes": record.bytes.upstream,
        "downstreamBytes": record.bytes.downstream,
        "final": now_ms >= record.final_ms,
    })
}

/// A line of CSV (RFC 4180). A consumer's id may come from an issuer of somebody else, so any text is quoted.
fn write_line(text: &mut String, record: &UsageRecord, now_ms: i64) {
    for field in [
        &record.session,
        &record.consumer,
        &record.home,
        &record.profile,
    ] {
        let _ = write!(text, "\"{}\",", field.replace('"', "\"\""));
    }
    let _ = write!(
        text,
        "{},{},{},{},{},{}\r\n",
        record.from_ms / 1_000,
        record.to_ms / 1_000,
        record.ending,
        record.bytes.upstream,
        record.bytes.downstream,
        now_ms >= record.final_ms
    );
}
