//! The configuration file: JSON in, a [`Config`] that can only hold what is legal out.

mod backend;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qod_wire::{Link, MAX_WAIT_SECONDS, QueueMode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use backend::{Backend, Token};

use crate::excerpt::excerpt;
use crate::nft::MarkBits;

/// Where the configuration is when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/qod-agent/config.json";

const DEFAULT_STATUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8742);
/// Largest `maxSessions`: what one agent was tried with.
const MOST_SESSIONS: usize = 10_000;
/// Longest name of a Linux device (`IFNAMSIZ` without its NUL).
const DEVICE_NAME: usize = 15;

/// Everything that the file says.
#[derive(Clone)]
pub struct Config {
    /// Under which id the agent polls and reports.
    pub agent_id: String,
    /// Where the backend is, and how to be let in.
    pub backend: Backend,
    /// How long the backend is asked to hold a poll; zero: not at all.
    pub poll_wait: Duration,
    /// Time between two reports when nothing changes.
    pub report_interval: Duration,
    /// Linux devices of the home: bridges, or single ports.
    pub lan: Vec<String>,
    /// Linux device towards the internet; none on a plain access point.
    pub wan: Option<String>,
    /// Whether the agent may install queues; the instructions win over it.
    pub queues: QueueMode,
    /// Which bits of `skb->mark` are the agent's.
    pub mark_bits: MarkBits,
    /// Rates of the access line; the instructions win over them.
    pub link: Link,
    /// The local status server.
    pub status: StatusServer,
    /// How many sessions are held at most.
    pub max_sessions: usize,
}

/// The local status server.
#[derive(Clone)]
pub struct StatusServer {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What a reader must present. Always there where the address is not loopback.
    pub token: Option<String>,
}

/// What is wrong with the configuration, or with a file that it names.
#[derive(Debug)]
pub struct Error {
    file: PathBuf,
    what: String,
}

impl Error {
    /// The file, and what is wrong with it (in the configuration, beginning with the key).
    pub(crate) fn new(file: &Path, what: impl AsRef<str>) -> Self {
        Self {
            file: file.to_owned(),
            // It may quote what stands in the file, and scripts read it line by line.
            what: excerpt(what.as_ref()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for Error {}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or has an unknown, missing or illegal key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let error = |what: String| Error::new(path, what);
        let text =
            std::fs::read_to_string(path).map_err(|e| error(format!("cannot be read: {e}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(error)
    }

    /// `folder` is where the file is.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let map = serde_json::from_str(text).map_err(|e| format!("is not a JSON object: {e}"))?;
        let mut file = Section {
            path: String::new(),
            map,
        };

        let agent_id: String = file.required("agentId")?;
        if !qod_wire::is_agent_id(&agent_id) {
            return Err(format!(
                "agentId: {agent_id:?} is not of the form [A-Za-z0-9._-]{{1,64}}"
            ));
        }
        let backend = file.section("backend")?.ok_or("backend: is missing")?;
        let backend = Backend::parse(backend, folder)?;
        let lan = file.required::<Vec<String>>("lan")?;
        if lan.is_empty() {
            return Err("lan: names no device".to_owned());
        }
        lan.iter()
            .try_for_each(|device| check_device("lan", device))?;
        let wan: Option<String> = file.optional("wan")?;
        if let Some(wan) = &wan {
            check_device("wan", wan)?;
            if lan.contains(wan) {
                return Err(format!("wan: {wan:?} stands in lan too"));
            }
        }
        let config = Self {
            agent_id,
            backend,
            poll_wait: file.seconds("pollWaitSeconds", 50, 0..=u64::from(MAX_WAIT_SECONDS))?,
            report_interval: file.seconds("reportIntervalSeconds", 60, 1..=86_400)?,
            lan,
            wan,
            queues: file.optional("queues")?.unwrap_or_default(),
            mark_bits: fwmask(file.optional("fwmask")?)?,
            link: file
                .section("link")?
                .map(link)
                .transpose()?
                .unwrap_or_default(),
            status: StatusServer::parse(file.section("status")?)?,
            max_sessions: max_sessions(file.optional("maxSessions")?)?,
        };
        file.finish()?;
        Ok(config)
    }
}

impl StatusServer {
    fn parse(section: Option<Section>) -> Result<Self, String> {
        let Some(mut section) = section else {
            return Ok(Self {
                listen: DEFAULT_STATUS,
                token: None,
            });
        };
        let listen: SocketAddr = section.optional("listen")?.unwrap_or(DEFAULT_STATUS);
        let token = section.optional("token")?;
        let token = token
            .map(|token| check_token("status.token", token))
            .transpose()?;
        section.finish()?;
        if !listen.ip().is_loopback() && token.is_none() {
            return Err(format!(
                "status.token: is missing, and {listen} is not a loopback address"
            ));
        }
        Ok(Self { listen, token })
    }
}

fn link(mut section: Section) -> Result<Link, String> {
    let mut rate = |key| match section.optional(key)? {
        Some(0) => Err(format!("link.{key}: is zero")),
        rate => Ok(rate),
    };
    let link = Link {
        upstream_kbps: rate("upstreamKbps")?,
        downstream_kbps: rate("downstreamKbps")?,
    };
    section.finish()?;
    Ok(link)
}

fn fwmask(text: Option<String>) -> Result<MarkBits, String> {
    let Some(text) = text else {
        return Ok(MarkBits::default());
    };
    let digits = text.strip_prefix("0x");
    let mask = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    mask.and_then(MarkBits::from_mask).ok_or_else(|| {
        format!("fwmask: {text:?} is not seven neighbouring bits in hexadecimal, as \"0x7f000000\"")
    })
}

fn max_sessions(given: Option<usize>) -> Result<usize, String> {
    match given.unwrap_or(256) {
        count @ 1..=MOST_SESSIONS => Ok(count),
        count => Err(format!(
            "maxSessions: {count} is not between 1 and {MOST_SESSIONS}"
        )),
    }
}

fn check_device(key: &str, name: &str) -> Result<(), String> {
    let legal = (1..=DEVICE_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if legal {
        Ok(())
    } else {
        Err(format!("{key}: {name:?} is not the name of a Linux device"))
    }
}

/// A token becomes part of a header, so it is visible ASCII; it is never part of an error.
fn check_token(key: &str, token: String) -> Result<String, String> {
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "{key}: is empty or has characters that a bearer token cannot have"
        ));
    }
    Ok(token)
}

/// An object of the file whose keys are taken out one by one; what is left at the end is unknown.
struct Section {
    path: String,
    map: Map<String, Value>,
}

impl Section {
    fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        let Some(value) = self.map.remove(key) else {
            return Ok(None);
        };
        let secret = key == "token";
        serde_json::from_value(value).map(Some).map_err(|error| {
            // The error of a wrong type may quote the value.
            let why = if secret {
                "is not a text".to_owned()
            } else {
                error.to_string()
            };
            format!("{}{key}: {why}", self.path)
        })
    }

    fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, String> {
        self.optional(key)?
            .ok_or_else(|| format!("{}{key}: is missing", self.path))
    }

    fn section(&mut self, key: &str) -> Result<Option<Self>, String> {
        let path = format!("{}{key}.", self.path);
        Ok(self.optional(key)?.map(|map| Self { path, map }))
    }

    fn seconds(
        &mut self,
        key: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Duration, String> {
        let seconds = self.optional(key)?.unwrap_or(default);
        if range.contains(&seconds) {
            return Ok(Duration::from_secs(seconds));
        }
        let (path, first, last) = (&self.path, range.start(), range.end());
        Err(format!(
            "{path}{key}: {seconds} is not between {first} and {last}"
        ))
    }

    fn finish(self) -> Result<(), String> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => Err(format!("{}{key}: is not a key of this file", self.path)),
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn minimal() -> Value {
        json!({ "agentId": "home-0001", "lan": ["br-lan"],
                "backend": { "url": "https://backend.example/", "token": "s3cret" } })
    }

    fn parse(value: &Value) -> Result<Config, String> {
        Config::parse(&value.to_string(), Path::new("/etc/qod-agent"))
    }

    #[test]
    fn defaults_are_those_of_the_document() {
        let config = parse(&minimal()).unwrap();
        assert_eq!(config.backend.url, "https://backend.example");
        assert_eq!(config.poll_wait, Duration::from_secs(50));
        assert_eq!(config.report_interval, Duration::from_secs(60));
        assert_eq!(config.status.listen.to_string(), "127.0.0.1:8742");
        assert_eq!(config.max_sessions, 256);
        assert_eq!(config.wan, None);
        assert_eq!(config.queues, QueueMode::Auto);
    }

    #[test]
    fn the_documents_example_is_legal() {
        let text = r#"{ "agentId": "home-0001",
          "backend": { "url": "https://backend.example", "tokenFile": "/etc/qod-agent/token", "caFile": "/etc/qod-agent/ca.pem",
                       "clientCertFile": "c", "clientKeyFile": "k", "allowPlainHttp": false },
          "pollWaitSeconds": 50, "reportIntervalSeconds": 60,
          "lan": ["br-lan"], "wan": "wan", "queues": "auto", "fwmask": "0x7f000000",
          "link": { "upstreamKbps": 40000, "downstreamKbps": 200000 },
          "status": { "listen": "127.0.0.1:8742", "token": "x" },
          "maxSessions": 256 }"#;
        let config = Config::parse(text, Path::new("")).unwrap();
        assert_eq!(config.link.upstream_kbps, Some(40_000));
        assert!(matches!(config.backend.token, Some(Token::File(_))));
    }

    #[test]
    fn the_token_is_beside_the_configuration_unless_another_place_is_given() {
        let file = |backend: Value| {
            let mut config = minimal();
            config["backend"] = backend;
            match parse(&config).unwrap().backend.token {
                Some(Token::File(file)) => file,
                _ => panic!("no file"),
            }
        };
        let bootstrap = json!({ "url": "https://b", "bootstrapTokenFile": "/rom/bootstrap" });
        assert_eq!(file(bootstrap), Path::new("/etc/qod-agent/token"));
        let both = json!({ "url": "https://b", "tokenFile": "/t", "bootstrapTokenFile": "/b" });
        assert_eq!(file(both), Path::new("/t"));
    }

    #[test]
    fn an_error_names_the_key_and_what_is_wrong() {
        let cases = [
            (
                "agentId",
                json!("a b"),
                "agentId: \"a b\" is not of the form",
            ),
            (
                "agentId",
                json!(7),
                "agentId: invalid type: integer `7`, expected a string",
            ),
            ("lan", json!([]), "lan: names no device"),
            (
                "lan",
                json!(["a/b"]),
                "lan: \"a/b\" is not the name of a Linux device",
            ),
            ("lan", json!("br-lan"), "lan: invalid type"),
            ("wan", json!("br-lan"), "wan: \"br-lan\" stands in lan too"),
            (
                "wan",
                json!("a-name-of-16-char"),
                "wan: \"a-name-of-16-char\" is not the name",
            ),
            (
                "pollWaitSeconds",
                json!(56),
                "pollWaitSeconds: 56 is not between 0 and 55",
            ),
            (
                "reportIntervalSeconds",
                json!(0),
                "reportIntervalSeconds: 0 is not between 1 and",
            ),
            (
                "fwmask",
                json!("0xff"),
                "fwmask: \"0xff\" is not seven neighbouring bits",
            ),
            ("fwmask", json!("7f"), "fwmask: \"7f\" is not seven"),
            (
                "maxSessions",
                json!(0),
                "maxSessions: 0 is not between 1 and 10000",
            ),
            ("queues", json!("on"), "queues: unknown variant `on`"),
            (
                "link",
                json!({ "upstreamKbps": 0 }),
                "link.upstreamKbps: is zero",
            ),
            (
                "link",
                json!({ "upKbps": 5 }),
                "link.upKbps: is not a key of this file",
            ),
            ("lann", json!(1), "lann: is not a key of this file"),
            (
                "status",
                json!({ "listen": "0.0.0.0:8742" }),
                "status.token: is missing, and 0.0.0.0:8742",
            ),
            (
                "status",
                json!({ "listen": "localhost" }),
                "status.listen: ",
            ),
            (
                "backend",
                json!({ "url": "http://b", "token": "x" }),
                "plain HTTP needs allowPlainHttp",
            ),
            (
                "backend",
                json!({ "url": "https://", "token": "x" }),
                "backend.url: \"https://\" is not",
            ),
            (
                "backend",
                json!({ "url": "https://me:pw@b", "token": "x" }),
                "backend.url: ",
            ),
            (
                "backend",
                json!({ "url": "https://b/#x", "token": "x" }),
                "backend.url: \"https://b/#x\" is not",
            ),
            (
                "backend",
                json!({ "url": "ftp://b", "token": "x" }),
                "backend.url: \"ftp://b\" is not",
            ),
            (
                "backend",
                json!({ "url": "https://b" }),
                "backend: has neither token",
            ),
            (
                "backend",
                json!({ "url": "https://b", "clientCertFile": "c" }),
                "backend.clientKeyFile: is missing",
            ),
            (
                "backend",
                json!({ "url": "https://b", "token": "x", "tokenFile": "y" }),
                "one of them is enough",
            ),
            (
                "backend",
                json!({ "url": "https://b", "token": "x", "bootstrapTokenFile": "y" }),
                "backend.bootstrapTokenFile: token is given too",
            ),
        ];
        for (key, value, expected) in cases {
            let mut config = minimal();
            config[key] = value;
            let error = parse(&config)
                .err()
                .unwrap_or_else(|| panic!("{config} is taken"));
            assert!(
                error.contains(expected),
                "{error:?} does not say {expected:?}"
            );
        }
        for key in ["agentId", "lan", "backend"] {
            let mut config = minimal();
            config.as_object_mut().unwrap().remove(key);
            assert_eq!(parse(&config).err().unwrap(), format!("{key}: is missing"));
        }
        assert!(
            Config::parse("{", Path::new(""))
                .err()
                .unwrap()
                .starts_with("is not a JSON object")
        );
    }

    #[test]
    fn a_secret_is_in_no_error() {
        for token in [
            json!("pass\nword"),
            json!({ "a": "password" }),
            json!(["password"]),
        ] {
            let mut config = minimal();
            config["backend"]["token"] = token;
            assert!(!parse(&config).err().unwrap().contains("pass"));
        }
    }

    #[test]
    fn plain_http_is_a_choice() {
        let mut config = minimal();
        config["backend"] =
            json!({ "url": "http://127.0.0.1:8080", "token": "x", "allowPlainHttp": true });
        assert!(parse(&config).is_ok());
    }

    #[test]
    fn the_file_is_named() {
        let error = Config::read(Path::new("/nonexistent/config.json"))
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .starts_with("/nonexistent/config.json: cannot be read: ")
        );
    }
}
