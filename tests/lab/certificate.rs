//! A certification authority and a server certificate, made on the spot.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&self.cert).unwrap()],
                PrivateKeyDer::from_pem_file(&self.key).unwrap(),
            )
            .unwrap()
    }
}

fn sign(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    folder: &Folder,
    file: &str,
    names: &[&str],
) -> (PathBuf, PathBuf) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, names[0].clone());
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (
        folder.write(&format!("{file}.pem"), certificate.pem()),
        folder.write(&format!("{file}.key"), key.serialize_pem()),
    )
}
