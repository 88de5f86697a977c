//! Requests to servers of others: receivers of notifications, issuers of tokens, agents that are asked.
//!
//! One request, one connection, HTTP/1.1, no redirect followed, every size and time bounded. The address that is
//! connected to is the address that was checked: a name is resolved once, here, so that a server cannot answer
//! with a public address when it is asked and with a private one a moment later (DNS rebinding).

pub mod address;
mod error;
mod roots;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONNECTION, HOST, USER_AGENT};
use axum::http::uri::{PathAndQuery, Scheme};
use axum::http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use error::ClientError;

/// Longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// Most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 4;
/// What this program calls itself.
const NAME: &str = concat!("qod-backend/", env!("CARGO_PKG_VERSION"));

/// Where a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To public addresses only: the URL is a stranger's.
    Public,
    /// Anywhere: the URL is the operator's own.
    Any,
}

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From resolving the name to the last byte of the answer.
    pub time: Duration,
    /// Longest body of an answer, in bytes.
    pub body: usize,
}

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
}

impl Client {
    /// A client that trusts the authorities in `ca_file` (PEM), or the system's.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ClientError::Setup)?
            .with_root_certificates(roots::read(ca_file)?)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(config),
        })
    }

    /// Sends a request whose URI is absolute, `http` or `https`, and returns the answer, whatever its status.
    ///
    /// # Errors
    /// The URI is no such one, leads to an address out of reach, or no whole answer came within the limits.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        reach: Reach,
        limits: Limits,
    ) -> Result<Response<Bytes>, ClientError> {
        let target = Target::of(request.uri())?;
        tokio::time::timeout(
            limits.time,
            self.exchange(&target, request, reach, limits.body),
        )
        .await
        .map_err(|_| ClientError::Timeout {
            peer: target.peer(),
            limit: limits.time,
        })?
    }

    async fn exchange(
        &self,
        target: &Target,
        request: Request<Bytes>,
        reach: Reach,
        longest: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let stream = target.connect(reach).await?;
        if !target.tls {
            return speak(target, stream, request, longest).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| ClientError::Url {
            what: "its host is no name that a certificate could be for",
        })?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
            .map_err(|source| ClientError::Tls {
                peer: target.peer(),
                source,
            })?;
        speak(target, stream, request, longest).await
    }
}

/// Where a URI leads.
struct Target {
    tls: bool,
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, ClientError> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => {
                return Err(ClientError::Url {
                    what: "it is neither http nor https",
                });
            }
        };
        let host = uri.host().unwrap_or_default();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(ClientError::Url {
                what: "it has no host",
            });
        }
        // `port_u16` alone cannot tell a port that is none from an absent one.
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = match authority.rsplit_once(':') {
            Some((_, digits)) if !digits.is_empty() && !digits.ends_with(']') => {
                uri.port_u16().ok_or(ClientError::Url {
                    what: "its port is none",
                })?
            }
            _ => {
                if tls {
                    443
                } else {
                    80
                }
            }
        };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }

    /// Host and port, for messages: the rest of a URL may be a secret.
    fn peer(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn connect(&self, reach: Reach) -> Result<TcpStream, ClientError> {
        let mut last = None;
        for address in self.resolve(reach).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some((address, error)),
            }
        }
        Err(match last {
            Some((address, source)) => ClientError::Connect {
                peer: self.peer(),
                address,
                source,
            },
            None => ClientError::NoAddress { peer: self.peer() },
        })
    }

    /// The addresses that may be connected to.
    async fn resolve(&self, reach: Reach) -> Result<Vec<SocketAddr>, ClientError> {
        let resolved = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|source| ClientError::Resolve {
                peer: self.peer(),
                source,
            })?;
        let mut refused: Option<IpAddr> = None;
        let mut allowed = Vec::new();
        for address in resolved {
            if reach == Reach::Any || address::is_public(address.ip()) {
                allowed.push(address);
            } else {
                refused = Some(address.ip());
            }
        }
        allowed.truncate(MOST_ADDRESSES);
        match refused {
            Some(address) if allowed.is_empty() => Err(ClientError::OutOfReach {
                peer: self.peer(),
                address,
            }),
            _ => Ok(allowed),
        }
    }
}

async fn speak<S>(
    target: &Target,
    stream: S,
    request: Request<Bytes>,
    longest: usize,
) -> Result<Response<Bytes>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = |source| ClientError::Http {
        peer: target.peer(),
        source,
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    let request = in_origin_form(request)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(http)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, longest)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ClientError::TooLong {
                        peer: target.peer(),
                        longest,
                    }
                } else {
                    ClientError::Broken {
                        peer: target.peer(),
                        source: error,
                    }
                }
            })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(exchange);
    // The connection is driven here and not by a task of its own, so that it ends with the request.
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // What went wrong with the connection is what the exchange says.
        _ = connection => exchange.await,
    }
}

/// A path and a `Host`, as a server wants it (RFC 9112 §3.2.1).
fn in_origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, ClientError> {
    let (mut head, body) = request.into_parts();
    let wrong = ClientError::Url {
        what: "it cannot be sent in a request",
    };
    let Some(authority) = head.uri.authority() else {
        return Err(wrong);
    };
    // Without credentials that stand before the host.
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let Ok(host) = HeaderValue::from_str(host) else {
        return Err(wrong);
    };
    head.headers.insert(HOST, host);
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    head.headers
        .insert(USER_AGENT, HeaderValue::from_static(NAME));
    head.uri = head
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
        .into();
    Ok(Request::from_parts(head, Full::new(body)))
}
