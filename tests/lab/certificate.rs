//! A certification authority and a server certificate, made on the spot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};

use super::folder::Folder;

/// Files in PEM.
pub struct Certificates {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// For a server with these names or addresses.
    pub fn new(folder: &Folder, names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "qod lab CA");
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let ca = folder.write("ca.pem", issuer.pem());
        let (cert, key) = sign(&issuer, folder, "server", names);
        Self {
            ca,
            cert,
            key,
            issuer,
        }
    }

    /// A certificate and key for a client with this name, signed by the same authority.
    pub fn client(&self, folder: &Folder, name: &str) -> (PathBuf, PathBuf) {
        sign(&self.issuer, folder, name, &[name])
    }
}

impl Certificates {
    /// For a TLS server in this process.
    pub fn server_config(&self) -> ServerConfig {
        let builder = server().with_no_client_auth();
        builder
            .with_single_cert(chain(&self.cert), key(&self.key))
            .unwrap()
    }

    /// The same with another certificate of this authority.
    pub fn server_config_of(&self, (cert, private): &(PathBuf, PathBuf)) -> ServerConfig {
        let builder = server().with_no_client_auth();
        builder.with_single_cert(chain(cert), key(private)).unwrap()
    }

    /// The same for a server that lets in whoever has a certificate of this authority.
    pub fn server_config_asking(&self) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        for authority in chain(&self.ca) {
            roots.add(authority).unwrap();
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .build()
            .unwrap();
        server()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(&self.cert), key(&self.key))
            .unwrap()
    }

    /// A server's certificate and key, valid between two days (year, month, day).
    pub fn valid_between(
        &self,
        folder: &Folder,
        names: &[&str],
        first: (i32, u8, u8),
        last: (i32, u8, u8),
    ) -> (PathBuf, PathBuf) {
        let mut params = params(names);
        params.not_before = rcgen::date_time_ymd(first.0, first.1, first.2);
        params.not_after = rcgen::date_time_ymd(last.0, last.1, last.2);
        write(&self.issuer, folder, &format!("of-{}", first.0), params)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_file(path).unwrap()]
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap()
}

fn sign(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    folder: &Folder,
    file: &str,
    names: &[&str],
) -> (PathBuf, PathBuf) {
    write(issuer, folder, file, params(names))
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, names[0].clone());
    params
}

fn write(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    folder: &Folder,
    file: &str,
    params: CertificateParams,
) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (
        folder.write(&format!("{file}.pem"), certificate.pem()),
        folder.write(&format!("{file}.key"), key.serialize_pem()),
    )
}
