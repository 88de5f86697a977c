//! A blocking HTTP client inside a namespace.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::netns::Netns;

/// Calls one server; only the given authority is trusted.
pub struct Client {
    agent: Agent,
    base: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// `Null` where the body is empty or not JSON.
    pub body: Value,
    pub text: String,
    pub headers: ureq::http::HeaderMap,
    /// When the last byte of it had been read.
    pub at: SystemTime,
}

impl Answer {
    /// The body, if the status is this one.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }
}

impl Client {
    pub fn new(base: &str, ca: Option<&Path>) -> Self {
        let mut tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if let Some(ca) = ca {
            let authority = Certificate::from_pem(&fs::read(ca).unwrap()).unwrap();
            tls = tls.root_certs(RootCerts::Specific(Arc::new(vec![authority])));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(70)))
            // A connection belongs to the namespace in which it was made.
            .max_idle_connections(0)
            .tls_config(tls.build())
            .build()
            .into();
        Self {
            agent,
            base: base.to_owned(),
        }
    }

    /// One call from a namespace, with headers and, unless `Null`, a JSON body.
    pub fn call(
        &self,
        netns: &Netns,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        netns.run(move || {
            let response = if body.is_null() {
                self.agent.run(request.body(()).unwrap())
            } else {
                let request = request.header("content-type", "application/json");
                self.agent
                    .run(request.body(serde_json::to_vec(body).unwrap()).unwrap())
            };
            read(response.unwrap_or_else(|e| panic!("{method} {path}: {e}")))
        })
    }

    /// A form, as OAuth's token endpoint wants it.
    pub fn form(&self, netns: &Netns, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
        let mut request = Request::post(format!("{}{path}", self.base))
            .header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        netns.run(move || {
            let response = self.agent.run(request.body(form.to_owned()).unwrap());
            read(response.unwrap_or_else(|e| panic!("{path}: {e}")))
        })
    }

    /// Whether the server answers `path` with 200.
    pub fn is_good(&self, netns: &Netns, path: &str) -> bool {
        let request = Request::get(format!("{}{path}", self.base));
        netns.run(|| {
            self.agent
                .run(request.body(()).unwrap())
                .is_ok_and(|response| response.status() == 200)
        })
    }
}

fn read(mut response: Response<Body>) -> Answer {
    let text = response.body_mut().read_to_string().unwrap_or_default();
    Answer {
        at: SystemTime::now(),
        status: response.status().as_u16(),
        body: serde_json::from_str(&text).unwrap_or_default(),
        headers: response.headers().clone(),
        text,
    }
}
