//! The paths under `/qod/v0`, in one table: what is served and what `openapi.yaml` describes are compared by it.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use super::{create, delete, description, get_profile, list_profiles};
use crate::server::App;

/// Where the paths begin.
pub const BASE: &str = "/qod/v0";

/// Every path below [`BASE`], spelt as the description spells it, and its methods.
pub fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/sessions", post(create)),
        ("/sessions/{sessionId}", get(super::get).delete(delete)),
        ("/qos-profiles", get(list_profiles)),
        ("/qos-profiles/{name}", get(get_profile)),
        ("/qosProfile", get(list_profiles)),
        ("/qosProfile/{name}", get(get_profile)),
        ("/openapi.yaml", get(description::get)),
    ]
}

/// The same as a router.
pub fn router() -> Router<Arc<App>> {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        })
}
