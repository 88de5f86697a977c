//! Requests to servers of others, with real servers on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{Request, Response};
use qod_backend::client::{Client, ClientError, Limits, Reach};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;

const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    body: 1_000,
};

/// Gives every connection to `speak`, and counts them.
fn serve(speak: impl Fn(TcpStream) + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            speak(stream.unwrap());
        }
    });
    (address, connections)
}

/// Reads a request's head.
fn head(stream: &mut impl std::io::Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A server that answers each request with these bytes.
fn answering(answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    serve(move |mut stream| {
        head(&mut stream);
        let _ = stream.write_all(answer);
    })
}

async fn ask(url: &str, reach: Reach) -> Result<Response<Bytes>, ClientError> {
    ask_within(url, reach, LIMITS).await
}

async fn ask_within(
    url: &str,
    reach: Reach,
    limits: Limits,
) -> Result<Response<Bytes>, ClientError> {
    let request = Request::post(url)
        .body(Bytes::from_static(b"hello"))
        .unwrap();
    Client::new(None)
        .unwrap()
        .send(request, reach, limits)
        .await
}

#[tokio::test]
async fn the_request_arrives_as_a_server_wants_it() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (address, _) = serve(move |mut stream| {
        let head = head(&mut stream);
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        sender.send((head, body)).unwrap();
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .unwrap();
    });
    let url = format!("http://user:secret@{address}/path?query=1");
    let answer = ask(&url, Reach::Any).await.unwrap();
    assert_eq!(answer.status(), 204);
    let (head, body) = receiver.recv().unwrap();
    assert!(
        head.starts_with("POST /path?query=1 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("\r\nhost: {address}\r\n")), "{head}");
    assert!(!head.contains("secret"), "{head}");
    assert_eq!(&body, b"hello");
}

#[tokio::test]
async fn strangers_lead_to_no_private_address() {
    let (address, connections) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let port = address.port();
    // A name that resolves to loopback, and every spelling of a literal that a resolver takes.
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
        "127.1",
        "0",
    ] {
        let error = ask(&format!("http://{host}:{port}/secret"), Reach::Public)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                ClientError::OutOfReach { .. } | ClientError::Resolve { .. }
            ),
            "{host}: {error}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    ask(&format!("http://localhost:{port}/"), Reach::Any)
        .await
        .unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn redirects_are_answers() {
    let (elsewhere, followed) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (address, _) = serve(move |mut stream| {
        head(&mut stream);
        let answer = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let answer = ask(&format!("http://{address}/"), Reach::Any)
        .await
        .unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(followed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_a_server_may_cost_is_bounded() {
    let (long, _) = serve(|mut stream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4_096]).is_ok() {}
    });
    let error = ask(&format!("http://{long}/"), Reach::Any)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::TooLong { .. }), "{error}");

    let (long_head, _) = serve(|mut stream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        while stream.write_all(&[b'x'; 4_096]).is_ok() {}
    });
    let error = ask(&format!("http://{long_head}/"), Reach::Any)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Http { .. }), "{error}");

    // Accepts and says nothing; and one byte at a time for ever.
    let (silent, _) = serve(std::mem::forget);
    let (slow, _) = serve(|mut stream| {
        std::thread::spawn(move || {
            head(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n");
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
    });
    for address in [silent, slow] {
        let limits = Limits {
            time: Duration::from_millis(300),
            ..LIMITS
        };
        let since = Instant::now();
        let error = ask_within(&format!("http://{address}/"), Reach::Any, limits)
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
        assert!(since.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let (garbage, _) = answering(b"hello\r\n\r\n");
    let (closed, _) = serve(drop);
    let (broken, _) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx");
    for address in [garbage, closed, broken] {
        let error = ask(&format!("http://{address}/"), Reach::Any)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ClientError::Http { .. } | ClientError::Broken { .. }),
            "{error}"
        );
    }
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = ask(&format!("http://{nobody}/"), Reach::Any)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    for url in [
        "ftp://127.0.0.1/",
        "/path",
        "http://127.0.0.1:65536/",
        "http://[::1]:99999/",
    ] {
        let error = ask(url, Reach::Any).await.unwrap_err();
        assert!(matches!(error, ClientError::Url { .. }), "{error}");
    }
}

/// A server with a certificate of `issuer` for these names.
fn serve_tls(issuer: &Issuer<'_, KeyPair>, names: &[&str]) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let (address, _) = serve(move |stream| {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        if head(&mut stream).is_empty() {
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    address
}

#[tokio::test]
async fn certificates_are_verified() {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let good = serve_tls(&issuer, &["localhost"]).port();
    let other = serve_tls(&issuer, &["other.example"]).port();

    let ask = async |ca: Option<&std::path::Path>, port: u16| {
        let request = Request::get(format!("https://localhost:{port}/"))
            .body(Bytes::new())
            .unwrap();
        Client::new(ca)
            .unwrap()
            .send(request, Reach::Any, LIMITS)
            .await
    };
    assert_eq!(ask(Some(&file), good).await.unwrap().status(), 204);
    for (ca, port) in [(None, good), (Some(file.as_path()), other)] {
        let error = ask(ca, port).await.unwrap_err();
        assert!(matches!(error, ClientError::Tls { .. }), "{error}");
    }

    std::fs::write(&file, "nothing").unwrap();
    for file in [file.as_path(), directory.path().join("none").as_path()] {
        let error = Client::new(Some(file)).err().unwrap();
        assert!(
            error.to_string().starts_with("read the authorities "),
            "{error}"
        );
    }
}
