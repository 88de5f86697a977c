//! `POST /sessions`, in both dialects of 0.9.0 (the document's and the YAML's).
//!
//! Reading and naming come apart here: this module knows spellings, and gives one form of what was asked for.

use qod_wire::ApplicationServer;
use serde_json::{Map, Value};

use super::device::{self, DeviceId};
use super::notification::{self, Wanted};
use super::port_lists::{self, bound_elements};
use crate::error_info::ErrorInfo;
use crate::json::{Node, Object};
use crate::ports::PortSet;
use crate::prefix::Prefix;

/// Duration of a session that names none, and the longest, in seconds.
pub const LONGEST_SECONDS: i64 = 86_400;

/// What a consumer asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSession {
    /// The device.
    pub device: DeviceId,
    /// The servers, for the agent.
    pub server: ApplicationServer,
    /// Ports on the device.
    pub device_ports: Option<PortSet>,
    /// Ports on the server.
    pub server_ports: Option<PortSet>,
    /// Name of the profile.
    pub profile: String,
    /// Duration in seconds. Absent: the longest that the profile allows.
    pub duration: Option<i64>,
    /// Where notifications are to go.
    pub notifications: Option<Wanted>,
    /// The request in canonical names, as an answer repeats it, but for the token of notifications.
    pub echo: Map<String, Value>,
}

impl CreateSession {
    /// Reads a request.
    ///
    /// # Errors
    /// 400 with the message of the document, or the YAML's where the document has none.
    pub fn read(document: &Value) -> Result<Self, ErrorInfo> {
        let body = Node::root(document).object()?;
        let mut echo = Map::new();
        let device = match body.get("device") {
            Some(node) => device::read(&node.object()?, &mut echo)?,
            None => None,
        }
        .ok_or_else(|| missing("device.ipv4Address or device.ipv6Address"))?;
        let server = body
            .get("applicationServer")
            .ok_or_else(|| missing("applicationServer"))?;
        let server = application_server(&server.object()?, &mut echo)?;
        let device_ports = port_lists::read(&body, "devicePorts", &mut echo)?;
        let server_ports = port_lists::read(&body, "applicationServerPorts", &mut echo)?;
        bound_elements(&server, device_ports.as_ref(), server_ports.as_ref())?;
        let profile = body
            .get("qosProfile")
            .ok_or_else(|| missing("qosProfile"))?;
        let profile = profile_name(&profile)?;
        echo.insert("qosProfile".to_owned(), profile.clone().into());
        let duration = body
            .get("duration")
            .map(|node| node.integer(1..=LONGEST_SECONDS))
            .transpose()?;
        Ok(Self {
            device,
            server,
            device_ports,
            server_ports,
            profile,
            duration,
            notifications: notification::read(&body, &mut echo)?,
            echo,
        })
    }
}

fn missing(property: &str) -> ErrorInfo {
    ErrorInfo::invalid(format!("Expected property is missing: {property}"))
}

fn application_server(
    object: &Object<'_>,
    echo: &mut Map<String, Value>,
) -> Result<ApplicationServer, ErrorInfo> {
    let mut shown = Map::new();
    let mut server = ApplicationServer::default();
    if let Some(node) = object.get_alias(&["ipv4Address", "ipv4Addr"])? {
        let prefix =
            Prefix::ipv4(node.string()?).map_err(|error| node.invalid(error.to_string()))?;
        server.ipv4_address = Some(prefix.canonical());
        shown.insert("ipv4Address".to_owned(), prefix.to_string().into());
    }
    if let Some(node) = object.get_alias(&["ipv6Address", "ipv6Addr"])? {
        let prefix =
            Prefix::ipv6(node.string()?).map_err(|error| node.invalid(error.to_string()))?;
        server.ipv6_address = Some(prefix.canonical());
        shown.insert("ipv6Address".to_owned(), prefix.to_string().into());
    }
    if server == ApplicationServer::default() {
        return Err(ErrorInfo::invalid(
            "Insufficient properties specified: applicationServer",
        ));
    }
    echo.insert("applicationServer".to_owned(), Value::Object(shown));
    Ok(server)
}

fn profile_name(node: &Node<'_>) -> Result<String, ErrorInfo> {
    let name = node.string()?;
    if !is_profile_name(name) {
        return Err(node
            .invalid("must be 3 to 256 letters, digits, dots, hyphens or underscores")
            .into());
    }
    Ok(name.to_owned())
}

/// Whether `name` is legal for a profile (`^[a-zA-Z0-9_.-]+$`, 3 to 256 characters).
pub fn is_profile_name(name: &str) -> bool {
    (3..=256).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json;

    fn read(mut change: Value) -> Result<CreateSession, ErrorInfo> {
        let mut body = serde_json::json!({"device": {"ipv4Address": "192.168.1.23/24"},
            "applicationServer": {"ipv4Address": "54.204.25.0/28"}, "qosProfile": "QOS_E"});
        let fields = body.as_object_mut().unwrap();
        for (key, value) in change.as_object_mut().unwrap() {
            // A null takes the key out.
            match value {
                Value::Null => fields.remove(key),
                value => fields.insert(key.clone(), value.clone()),
            };
        }
        CreateSession::read(&body)
    }

    fn message(change: Value) -> String {
        read(change).unwrap_err().message.into_owned()
    }

    #[test]
    fn both_dialects_read_alike() {
        let old = read(serde_json::json!({"device": {"ipv6Addr": "2001:DB8:85a3:08d3::1", "ipv4Addr": "10.0.0.7"},
            "applicationServer": {"ipv4Addr": "54.204.25.0/28"}, "applicationServerPorts": "33001"}))
        .unwrap();
        let new = read(
            serde_json::json!({"device": {"ipv6Address": "2001:db8:85a3:8d3::1",
            "ipv4Address": {"publicAddress": "203.0.113.7", "privateAddress": "10.0.0.7"}},
            "applicationServerPorts": {"ports": [33001]}}),
        )
        .unwrap();
        assert_eq!(old.device.ipv6, new.device.ipv6);
        assert_eq!(old.device.private_ipv4, new.device.private_ipv4);
        assert_eq!(old.server, new.server);
        assert_eq!(old.server_ports, new.server_ports);
        assert_eq!(old.echo["device"]["ipv6Address"], "2001:db8:85a3:8d3::1");
        assert_eq!(
            old.echo["applicationServerPorts"],
            serde_json::json!({"ports": [33001]})
        );
        assert_eq!(
            old.echo["applicationServer"]["ipv4Address"],
            "54.204.25.0/28"
        );
    }

    #[test]
    fn rows_of_the_document() {
        let device = "Expected property is missing: device.ipv4Address or device.ipv6Address";
        assert_eq!(message(serde_json::json!({"device": null})), device);
        assert_eq!(message(serde_json::json!({"device": {}})), device);
        assert_eq!(
            message(serde_json::json!({"qosProfile": null})),
            "Expected property is missing: qosProfile"
        );
        assert_eq!(
            message(serde_json::json!({"applicationServer": null})),
            "Expected property is missing: applicationServer"
        );
        for key in ["devicePorts", "applicationServerPorts"] {
            let many: Vec<u16> = (1..=17).map(|port| port * 2).collect();
            for ports in [
                serde_json::json!({"ranges": [{"from": 2, "to": 1}]}),
                serde_json::json!({"ports": many}),
            ] {
                assert_eq!(
                    message(serde_json::json!({key: ports})),
                    format!("Ranges not allowed: {key}")
                );
            }
            assert_eq!(
                message(serde_json::json!({key: {"ports": [0]}})),
                format!("Invalid port ranges specified: {key}")
            );
        }
        assert_eq!(
            message(
                serde_json::json!({"device": {"ipv4Address": {"publicAddress": "1.2.3.4", "publicPort": 70000}}})
            ),
            "Invalid port value specified: device.ipv4Address.publicPort"
        );
    }

    #[test]
    fn what_is_malformed_is_400_and_names_the_place() {
        for (change, place) in [
            (serde_json::json!({"duration": 0}), "duration"),
            (serde_json::json!({"duration": 86401}), "duration"),
            (serde_json::json!({"duration": 1.5}), "duration"),
            (serde_json::json!({"device": []}), "device"),
            (
                serde_json::json!({"device": {"ipv4Address": "192.168.01.1"}}),
                "device.ipv4Address",
            ),
            (
                serde_json::json!({"device": {"ipv6Address": "::ffff:1.2.3.4"}}),
                "device.ipv6Address",
            ),
            (
                serde_json::json!({"device": {"ipv6Address": "::1", "ipv6Addr": "::1"}}),
                "device.ipv6Addr",
            ),
            (serde_json::json!({"devicePorts": {}}), "devicePorts"),
            (
                serde_json::json!({"devicePorts": {"ports": []}}),
                "devicePorts.ports",
            ),
            (
                serde_json::json!({"devicePorts": {"ports": [65536]}}),
                "devicePorts.ports[0]",
            ),
            (serde_json::json!({"qosProfile": "a b c"}), "qosProfile"),
            (
                serde_json::json!({"webhook": {}}),
                "webhook.notificationUrl",
            ),
            (
                serde_json::json!({"notificationUrl": "ftp://x"}),
                "notificationUrl",
            ),
        ] {
            let message = message(change.clone());
            assert!(
                message.starts_with(&format!("Schema validation failed at {place}:")),
                "{change}: {message}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[{}\\[\\]:,\"a-z0-9.]{0,80}") {
            if let Ok(document) = json::parse(text.as_bytes()) {
                let _ = CreateSession::read(&document);
            }
        }
    }
}
