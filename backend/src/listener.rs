//! Connections: accepting, handshake, HTTP/1.1, and letting them end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::ClientCertificate;
use crate::server::{App, Peer};

/// Connections at once: twice as many as the agents that one process is made for.
pub const MOST_CONNECTIONS: usize = 20_000;
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a request's head, and between two requests of one connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;
/// How long connections may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves connections, which are counted in `app`, until `draining` becomes true and they have ended, or have had their time to.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut draining: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        let open = app.metrics.connection();
        tokio::spawn(async move {
            let _place = (place, open);
            match tls {
                // Boxed, so that a connection without TLS takes no room for one with it.
                None => Box::pin(speak(stream, peer, None, router, watcher)).await,
                Some(tls) => Box::pin(speak_tls(tls, stream, peer, router, watcher)).await,
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("connections that did not end in time are cut");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, tokio::sync::OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // An answer is one small write: nothing is gained by waiting for more.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY could not be set");
            }
            Some((stream, Peer(peer), place))
        }
        Err(error) => {
            // Out of descriptors, most likely: accepting again at once would only burn the processor.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// What the client showed, verified by the handshake.
fn certificate(stream: &TlsStream<TcpStream>, peer: Peer) -> Option<Arc<ClientCertificate>> {
    let (_, connection) = stream.get_ref();
    let shown = connection.peer_certificates()?.first()?;
    match ClientCertificate::read(shown) {
        Ok(certificate) => Some(Arc::new(certificate)),
        Err(error) => {
            tracing::debug!(peer = %peer.0, %error, "a certificate counts for nothing");
            None
        }
    }
}

async fn speak_tls(
    tls: TlsAcceptor,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    watcher: Watcher,
) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    match Box::pin(handshake).await {
        Ok(Ok(stream)) => {
            let certificate = certificate(&stream, peer);
            Box::pin(speak(stream, peer, certificate, router, watcher)).await;
        }
        Ok(Err(error)) => tracing::debug!(peer = %peer.0, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = %peer.0, "TLS handshake took too long"),
    }
}

async fn speak<S>(
    stream: S,
    peer: Peer,
    certificate: Option<Arc<ClientCertificate>>,
    router: Router,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let mut router = router.clone();
        async move { tower_service::Service::call(&mut router, request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(peer = %peer.0, %error, "connection ended");
    }
}
