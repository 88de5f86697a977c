//! Client certificates: which agent they name. That they are genuine, TLS has verified before.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Most names of one certificate that are looked at.
const MOST_NAMES: usize = 16;

/// A client's certificate, of an authority that the operator trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    names: Vec<String>,
    expires_ms: i64,
}

/// What a client sent is no certificate (RFC 5280).
#[derive(Debug, thiserror::Error)]
#[error("read the client's certificate: {0}")]
pub struct CertificateError(String);

impl ClientCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |error: &dyn std::fmt::Display| CertificateError(error.to_string());
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        let alternatives = certificate
            .subject_alternative_name()
            .map_err(|error| malformed(&error))?;
        let mut names: Vec<&str> = alternatives
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => Some(*name),
                _ => None,
            })
            .take(MOST_NAMES)
            .collect();
        if names.is_empty() {
            // RFC 6125 §6.4.4: the common name counts only where there is no other, and only if it is one.
            let mut common = certificate.subject().iter_common_name();
            if let (Some(Ok(name)), None) = (common.next().map(|name| name.as_str()), common.next())
            {
                names.push(name);
            }
        }
        Ok(Self {
            names: names
                .into_iter()
                .filter(|name| qod_wire::is_agent_id(name))
                .map(str::to_owned)
                .collect(),
            expires_ms: certificate
                .validity()
                .not_after
                .timestamp()
                .saturating_add(1)
                .saturating_mul(1_000),
        })
    }

    /// The ids of agents that it may stand for, as long as it is valid. TLS looks at the time only once, and a
    /// connection may outlive a certificate.
    pub fn agents(&self, now_ms: i64) -> &[String] {
        if now_ms < self.expires_ms {
            &self.names
        } else {
            &[]
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn read(names: Vec<SanType>, common: &[&str]) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.not_after = date_time_ymd(2030, 1, 1);
        let key = KeyPair::generate().unwrap();
        ClientCertificate::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    #[test]
    fn the_alternative_names_win_over_the_common_name() {
        let cases = [
            (vec![], vec!["a"], vec!["a"]),
            (vec![uri("a")], vec!["b"], vec!["a"]),
            (vec![dns("a"), uri("b")], vec![], vec!["a", "b"]),
            (vec![dns("*.example")], vec!["a"], vec![]),
            (vec![uri("urn:a")], vec!["a"], vec![]),
            (
                vec![SanType::IpAddress([10, 0, 0, 1].into())],
                vec!["a"],
                vec!["a"],
            ),
            (vec![], vec!["a b"], vec![]),
            (vec![], vec![], vec![]),
        ];
        for (names, common, agents) in cases {
            let said = format!("{names:?} {common:?}");
            assert_eq!(read(names, &common).agents(NOW), agents, "{said}");
        }
    }

    #[test]
    fn an_expired_certificate_names_nobody() {
        let certificate = read(vec![dns("a")], &[]);
        // 1 January 2030, the last second included.
        assert_eq!(certificate.agents(1_893_456_000_999), ["a"]);
        assert!(certificate.agents(1_893_456_001_000).is_empty());
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        for bytes in [&b""[..], b"0", &[0x30; 64], &[0xff; 64]] {
            assert!(ClientCertificate::read(bytes).is_err());
        }
    }
}
