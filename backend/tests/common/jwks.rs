//! An issuer of tokens elsewhere: keys that sign, and a real server that publishes them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

/// An RSA key of 2,048 bits for tests, PKCS#1: ring makes none.
const RSA: &str = "MIIEowIBAAKCAQEAvSWQ3MGKpXqluYUDWXsMHUGjmCDWp99GSmbk07akC47X/NMotjyKgigT4hkz5nj3LM91Z5Kfpg3VPM4WSLno\
     yrkodmtb+zHoZ17dDJDPS6J/wIvXeItpJuazwEqsZle8oMiE/7wvyZn/CdwX2WJ02y59tEBaBEP44MvananuZX4j2+CEtuppKP2f\
     4DlcwdIrn641Cc3jgTvpOuzXJw/DMKIu6oOQVtjotunUXEcO3x9H+Fqht76CTKaxxkjHBAM8u3Iv8Qmo8mCCWS9A/6X5eAFMYlBF\
     okwKLtzOorWZ9lda0fGnM9xApFL4gdjCaJbTDpi1skIHmBEVL/drjP7PgwIDAQABAoIBABs6PyIoEidEAns0NIk690F242/QulWs\
     BFhNe38meXLYeyr/0op5KI8X6dTQP/JbU2l167afGrAyqZF5MSgC6wnToYl6ZuFAC+5lb3iRl+WRXMaA2uGVX+ujphh2J18MHjEe\
     7FZL5q0kp9vpfN1kGOI8TQgXg1290yO49J1hitm9ET1+235Olv8BovJY2e1ynkw4EjLJQRnikq95ctKneBr85xkuf7NLdoGr1Lg6\
     47ouIT43GkOj72SQ8pYAMGASTdYLHaDSTxSHYprmyKoFWM35VjjMSbMuLTuZfrtPEf9dZv9+FUqS+R1PgU4fuUvptIXABIrH2vO9\
     xldefWyUydECgYEA6nL2NH/tXfWKbnJhfg3DcDeKb28ffZoIGvmIVeMDSKj9idog0mPzhyi5QvlYvA0A0IFxdNTEsZrOW/aoW3LZ\
     XBmZEPGrWxgIxl7uCG5ud0/PtY3leKOazVeNzW4n6KZV92io46dRf3mqfavgr/w9wWImpHv9ht81goCJmIugq70CgYEAzoiNlx3N\
     2KFxE+faCInthk5np5GUFE09/kjg40ciYkIKE48fCogqh1oiSKkdbr3hJ7rZiDS0KA8FPbBKcYelyE8cssgDSwIOmXPy3UKhiHiQ\
     /mBsr8+kXTFvLct9GrJO0wYnlSD32WsdvpO6wrU1Lv7C3rex7AdCvczgQwwpfD8CgYAdPcVzetkyNOPVLrL2M+VCY8sCZwu4cLO+\
     GY1lmPDZ6SnmPayGUS0YmH2y2sK0gbKuTtbFyZvWwwYl9je9YC+4CwFKWboTnIXLqB9sMcnZW7z+Wfpa95zhK6BmFO0pWUWzm/wk\
     mMPTcGtRTVSy3nUdX46OSWCvp7tW0Y1X12JsyQKBgCPTO/xChzpUhrDVPtTMWA87+m7uqaj73Q0GxzulUymIGwdZhCDnjbj8wYWp\
     EBnthejGWIVv3vAz6szQj5kx1mfwkSHR4ABa0v17R11p+WsavsvhHflBI1mnAYoICiNfWpzwLF2J4nQsSHSOW476r8b/Gf5YDtzK\
     RaF2sE/xBCExAoGBAIABUYhs2eQxirVYWfB7O/jHgf/ofebhx0FiewCfnHkjL/CIRtQL9n3xrrjUmC8moNCpLDEfc5PgIVRTVS83\
     zlcHr532TDNY/LKcdAEHhlZ2VU7ENMV+9fDIIlL/Jx6n5bRwnOvmRek7mx9MyuoIw8Dw7NGNuLJSsn4BbIERBaQG";

/// A key that signs.
pub(crate) struct Signer {
    pub(crate) kid: &'static str,
    pub(crate) alg: &'static str,
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

impl Signer {
    pub(crate) fn new(kid: &'static str, alg: &'static str) -> Self {
        let random = SystemRandom::new();
        let ecdsa = |how| {
            let made = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
            Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(how, made.as_ref(), &random).unwrap())
        };
        let rsa = |how| {
            let key = STANDARD.decode(RSA).unwrap();
            Pair::Rsa(RsaKeyPair::from_der(&key).unwrap(), how)
        };
        let pair = match alg {
            "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            _ => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
            }
        };
        Self { kid, alg, pair }
    }

    /// The public half as it is published.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Ecdsa(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Pair::Rsa(pair, _) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": encode(public.n), "e": encode(public.e)})
            }
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = self.kid.into();
        jwk
    }

    /// A token with the usual header, some of it changed, or taken out by null.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let usual = json!({"alg": self.alg, "kid": self.kid, "typ": "at+jwt"});
        let header = changed(usual, header);
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&random, signed.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair, how) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*how, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
        };
        format!("{signed}.{}", encode(signature))
    }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A document with some keys changed, or taken out by null.
pub(crate) fn changed(mut document: Value, change: &Value) -> Value {
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => document.as_object_mut().unwrap().remove(key),
            value => document
                .as_object_mut()
                .unwrap()
                .insert(key.clone(), value.clone()),
        };
    }
    document
}

/// Publishes keys on loopback.
#[derive(Clone)]
pub(crate) struct Jwks {
    pub(crate) port: u16,
    answer: Arc<Mutex<Option<(u16, String)>>>,
    asked: Arc<AtomicUsize>,
}

impl Jwks {
    pub(crate) fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let jwks = Self {
            port: listener.local_addr().unwrap().port(),
            answer: Arc::default(),
            asked: Arc::default(),
        };
        let served = jwks.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                served.asked.fetch_add(1, Ordering::SeqCst);
                let Some(answer) = served.answer.lock().unwrap().clone() else {
                    continue;
                };
                // Whoever does not trust the certificate hangs up.
                let _ = match &tls {
                    None => serve(stream, &answer),
                    Some(tls) => {
                        let connection = rustls::ServerConnection::new(tls.clone()).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), &answer)
                    }
                };
            }
        });
        jwks
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/keys", self.port)
    }

    pub(crate) fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        self.answer_with(200, &json!({ "keys": keys }).to_string());
    }

    pub(crate) fn answer_with(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = Some((status, body.to_owned()));
    }

    /// From now on connections are closed without an answer.
    pub(crate) fn fail(&self) {
        *self.answer.lock().unwrap() = None;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: impl Read + Write, (status, body): &(u16, String)) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}
