//! `GET /metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};

use crate::admin;
use crate::error_info::ErrorInfo;
use crate::server::App;

/// OpenMetrics 1.0 §4.1.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers a scrape at the address that everybody reaches: numbers are the operator's, so it takes the admin token.
pub async fn scrape(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, ErrorInfo> {
    admin::authorize(&app, &headers)?;
    scrape_openly(State(app)).await
}

/// Answers a scrape at the address that the operator set apart for it.
pub async fn scrape_openly(State(app): State<Arc<App>>) -> Result<Response, ErrorInfo> {
    app.census.ask().await;
    let text = app.metrics.text().map_err(|error| {
        tracing::error!(%error, "the metrics could not be written");
        ErrorInfo::internal("Internal server error")
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
