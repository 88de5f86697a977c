//! TLS: certificate and key of the server, and the authority of clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("read the TLS {what} {}: {reason}", file.display())]
    File {
        /// Certificate, key or client authority.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not fit.
    #[error("use the TLS certificate {} with the key {}: {source}", cert.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// rustls' words.
        source: rustls::Error,
    },
}

/// Reads the files. With an authority of clients, a client may show a certificate; one that shows a certificate of
/// somebody else is refused.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn acceptor(files: &Tls) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates("certificate", &files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read("key", &files.key)?)
        .map_err(|error| wrong("key", &files.key, error.to_string()))?;
    let mismatch = |source| TlsError::Mismatch {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(mismatch)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(clients_of(file)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(mismatch)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Who has no certificate is let in too: most agents have a token, and applications have one in any case.
fn clients_of(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let what = "client authority";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, file)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(what, file, error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| wrong(what, file, error.to_string()))
}

fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(what, file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(what, file, error.to_string()))?;
    if chain.is_empty() {
        let reason = "there is no certificate in it".to_owned();
        return Err(wrong(what, file, reason));
    }
    Ok(chain)
}

fn read(what: &'static str, file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| wrong(what, file, error.to_string()))
}

fn wrong(what: &'static str, file: &Path, reason: String) -> TlsError {
    TlsError::File {
        what,
        file: file.to_owned(),
        reason,
    }
}
