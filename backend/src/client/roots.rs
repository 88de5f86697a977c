//! Whose certificates are believed.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::ClientError;

/// The authorities in `file`, all of which must be good, or the system's, of which the unusable are left out.
pub(super) fn read(file: Option<&Path>) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some of the system's certificate authorities were not read");
        }
        let (_, ignored) = roots.add_parsable_certificates(system.certs);
        tracing::debug!(
            trusted = roots.len(),
            ignored,
            "system's certificate authorities"
        );
        return Ok(roots);
    };
    let wrong = |reason: String| ClientError::Roots {
        file: file.to_owned(),
        reason,
    };
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate".to_owned()));
    }
    Ok(roots)
}
