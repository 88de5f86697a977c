//! The HTTP client of the agent API: one poll, one report, or one token, each a blocking call.

mod credentials;
mod enrol;
mod failure;
mod retry_after;

use std::sync::Arc;
use std::time::Duration;

use qod_wire::{Instructions, MAX_INSTRUCTIONS_BYTES, Status};
use serde_json::value::RawValue;
use ureq::RequestBuilder;
use ureq::http::header::{CONTENT_ENCODING, ETAG};
use ureq::http::{HeaderValue, StatusCode};
use ureq::tls::TlsConfig;

pub(crate) use credentials::{SYSTEM_AUTHORITIES, trusted};
pub use failure::Failure;

use crate::clock;
use crate::config::{Config, Error};

const CONNECT: Duration = Duration::from_secs(10);
/// For a body, and for an answer beyond the time that the backend was asked to hold it.
const TRANSFER: Duration = Duration::from_secs(15);
/// Longest `ETag` that is sent back.
const LONGEST_TAG: usize = 256;

/// Instructions as they were read; each session still raw.
pub type RawInstructions = Instructions<Box<RawValue>>;

/// What a poll brought.
pub enum Poll {
    /// A new desired state.
    Changed {
        /// The state.
        instructions: RawInstructions,
        /// By which the next poll says what it has: exactly what the backend sent as `ETag`.
        tag: HeaderValue,
        /// Boot time at which the answer was read.
        read_at: Duration,
    },
    /// What the agent has is current.
    Unchanged,
}

/// The way to the backend, with the credentials as their files were when it was made.
pub struct Client {
    http: ureq::Agent,
    /// Of the API, and of this agent in it.
    api: String,
    url: String,
    /// With its port, for messages.
    host: String,
    authorization: Option<String>,
}

impl Client {
    /// Reads the credential files and prepares TLS; nothing is sent.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Self::showing(config, credentials::token(&config.backend)?)
    }

    fn showing(config: &Config, token: Option<String>) -> Result<Self, Error> {
        let backend = &config.backend;
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(credentials::authorities(backend)?)
            .client_cert(credentials::client_certificate(backend)?)
            .build();
        let http = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(backend.url.starts_with("https:"))
            .proxy(None)
            // A redirect is an error: nothing but the configured backend gets the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("qod-agent/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_send_request(Some(TRANSFER))
            .timeout_send_body(Some(TRANSFER))
            .timeout_recv_body(Some(TRANSFER))
            .max_response_header_size(16 * 1024)
            .input_buffer_size(8 * 1024)
            .output_buffer_size(8 * 1024)
            .max_idle_connections(2)
            .build()
            .new_agent();
        let api = format!("{}/agent/v1", backend.url);
        let host = backend.url.split('/').nth(2).unwrap_or_default();
        Ok(Self {
            http,
            url: format!("{api}/agents/{}", config.agent_id),
            api,
            host: host.to_owned(),
            authorization: token.map(|token| format!("Bearer {token}")),
        })
    }

    /// Asks for instructions other than those of `tag`, and waits for them as long as `wait`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn poll(&self, tag: Option<&HeaderValue>, wait: Duration) -> Result<Poll, Failure> {
        let request = self.http.get(format!("{}/instructions", self.url));
        let mut request = self.prepared(request, wait + TRANSFER);
        if let Some(tag) = tag {
            request = request.header("If-None-Match", tag);
            request = request.header("Prefer", format!("wait={}", wait.as_secs()));
        }
        let mut answer = request
            .call()
            .map_err(|error| Failure::of_call(&error, &self.host))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if tag.is_some() => return Ok(Poll::Unchanged),
            status => return Err(Failure::of_answer(status, answer.headers())),
        }
        if let Some(encoding) = answer.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(Failure::bad(format!(
                "they are encoded as {encoding:?}, which was not asked for"
            )));
        }
        let tag = answer.headers().get(ETAG).cloned();
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_INSTRUCTIONS_BYTES)
            .read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(limit) => {
                Failure::bad(format!("they are longer than {limit} bytes"))
            }
            error => Failure::of_call(&error, &self.host),
        })?;
        let read_at = clock::now();
        let instructions: RawInstructions = serde_json::from_slice(&body).map_err(Failure::bad)?;
        let tag = match tag {
            Some(tag) if tag.len() > LONGEST_TAG => {
                return Err(Failure::bad(format!(
                    "their ETag is longer than {LONGEST_TAG} bytes"
                )));
            }
            Some(tag) if !tag.is_empty() => tag,
            // The tag is the revision, whether the backend says so or not.
            _ => HeaderValue::from_str(&format!("\"{}\"", instructions.revision))
                .map_err(Failure::bad)?,
        };
        Ok(Poll::Changed {
            instructions,
            tag,
            read_at,
        })
    }

    /// Sends a report.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn report(&self, status: &Status) -> Result<(), Failure> {
        let body = serde_json::to_vec(status).map_err(|error| Failure::Unreachable {
            what: format!("writing the report: {error}"),
            retry_after: None,
        })?;
        let request = self.http.put(format!("{}/status", self.url));
        let request = self
            .prepared(request, TRANSFER)
            .header("Content-Type", "application/json");
        let answer = request
            .send(&body)
            .map_err(|error| Failure::of_call(&error, &self.host))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(Failure::of_report(status, answer.headers())),
        }
    }

    /// The request with the agent's credential, and a limit for the answer to begin.
    fn prepared<B>(&self, request: RequestBuilder<B>, answer: Duration) -> RequestBuilder<B> {
        let request = request.config().timeout_recv_response(Some(answer)).build();
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }

    /// Ends every call that is under way.
    pub fn shutdown(&self) {
        self.http.clone().shutdown();
    }
}
