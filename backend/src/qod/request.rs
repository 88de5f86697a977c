//! `POST /sessions`, in both dialects of 0.9.0 (the document's and the YAML's).
//!
//! Reading and naming come apart here: this module knows spellings, and gives one form of what was asked for.

use std::net::{Ipv4Addr, Ipv6Addr};

use qod_wire::{ApplicationServer, MAX_PORT_RANGES, MAX_SESSION_ELEMENTS, PortRange, Ports};
use serde_json::{Map, Value, json};

use crate::error_info::ErrorInfo;
use crate::json::{Node, Object};
use crate::ports::PortSet;
use crate::prefix::{self, Prefix};

/// Duration of a session that names none, and the longest, in seconds.
pub const LONGEST_SECONDS: i64 = 86_400;
/// Most elements that a list of ports may have before it is merged.
const MOST_PORTS: usize = 4_096;

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
    /// Whether notifications are asked for.
    pub wants_notifications: bool,
    /// The request in canonical names, as an answer repeats it.
    pub echo: Map<String, Value>,
}

/// How the device is named. At least one field is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceId {
    /// Address inside the home.
    pub private_ipv4: Option<Ipv4Addr>,
    /// The home's address towards the internet.
    pub public_ipv4: Option<Ipv4Addr>,
    /// Port of the device's traffic at the public address.
    pub public_port: Option<u16>,
    /// The device's own address.
    pub ipv6: Option<Ipv6Addr>,
    /// E.164 with `+`.
    pub phone_number: Option<String>,
    /// Network access identifier.
    pub nai: Option<String>,
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
            Some(node) => device(&node.object()?, &mut echo)?,
            None => None,
        }
        .ok_or_else(|| missing("device.ipv4Address or device.ipv6Address"))?;
        let server = body
            .get("applicationServer")
            .ok_or_else(|| missing("applicationServer"))?;
        let server = application_server(&server.object()?, &mut echo)?;
        let device_ports = ports(&body, "devicePorts", &mut echo)?;
        let server_ports = ports(&body, "applicationServerPorts", &mut echo)?;
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
            wants_notifications: notifications(&body)?,
            echo,
        })
    }
}

fn missing(property: &str) -> ErrorInfo {
    ErrorInfo::invalid(format!("Expected property is missing: {property}"))
}

/// `None`: it names nothing that is known.
fn device(
    object: &Object<'_>,
    echo: &mut Map<String, Value>,
) -> Result<Option<DeviceId>, ErrorInfo> {
    let mut device = DeviceId::default();
    let mut shown = Map::new();
    if let Some(node) = object.get("phoneNumber") {
        let number = node.string()?;
        device.phone_number = Some(phone_number(number).ok_or_else(|| {
            node.invalid("must be a phone number of 5 to 15 digits, perhaps with + before them")
        })?);
        shown.insert("phoneNumber".to_owned(), number.into());
    }
    if let Some(node) = object.get("networkAccessIdentifier") {
        let nai = node.text(256)?;
        device.nai = Some(nai.to_owned());
        shown.insert("networkAccessIdentifier".to_owned(), nai.into());
    }
    if let Some(node) = object.get_alias(&["ipv4Address", "ipv4Addr"])? {
        let value = device_ipv4(&node, &mut device)?;
        shown.insert("ipv4Address".to_owned(), value);
    }
    if let Some(node) = object.get_alias(&["ipv6Address", "ipv6Addr"])? {
        let address =
            Prefix::ipv6(node.string()?).map_err(|error| node.invalid(error.to_string()))?;
        if let std::net::IpAddr::V6(ipv6) = address.address() {
            device.ipv6 = Some(ipv6);
        }
        shown.insert("ipv6Address".to_owned(), address.to_string().into());
    }
    echo.insert("device".to_owned(), Value::Object(shown));
    Ok((device != DeviceId::default()).then_some(device))
}

/// A string (the document) or an object (the YAML). Returns it as it is shown.
fn device_ipv4(node: &Node<'_>, device: &mut DeviceId) -> Result<Value, ErrorInfo> {
    if let Value::String(text) = node.value() {
        let prefix = Prefix::ipv4(text).map_err(|error| node.invalid(error.to_string()))?;
        if let std::net::IpAddr::V4(address) = prefix.address() {
            // A device's mask says nothing: 192.168.1.23/24 is .23.
            if prefix::is_private(address) {
                device.private_ipv4 = Some(address);
            } else {
                device.public_ipv4 = Some(address);
            }
        }
        return Ok(prefix.to_string().into());
    }
    let object = node.object()?;
    let mut shown = Map::new();
    let mut address = |key: &str| -> Result<Option<Ipv4Addr>, ErrorInfo> {
        let Some(node) = object.get(key) else {
            return Ok(None);
        };
        let address: Ipv4Addr = node
            .string()?
            .parse()
            .map_err(|_| node.invalid("must be a single IPv4 address without leading zeros"))?;
        shown.insert(key.to_owned(), address.to_string().into());
        Ok(Some(address))
    };
    device.public_ipv4 = address("publicAddress")?;
    device.private_ipv4 = address("privateAddress")?;
    if let Some(port) = object.get("publicPort") {
        let wrong =
            || ErrorInfo::invalid("Invalid port value specified: device.ipv4Address.publicPort");
        let number = port
            .value()
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let number = number.filter(|port| *port > 0).ok_or_else(wrong)?;
        device.public_port = Some(number);
        shown.insert("publicPort".to_owned(), number.into());
    }
    if device.public_ipv4.is_none() && device.private_ipv4.is_none() {
        return Err(node
            .invalid("must have publicAddress, and privateAddress or publicPort")
            .into());
    }
    Ok(Value::Object(shown))
}

/// `0049…`, `+49…` and `49…` are one number.
pub fn phone_number(text: &str) -> Option<String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let legal = (5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let digits = if text.starts_with('+') {
        digits
    } else {
        digits.strip_prefix("00").unwrap_or(digits)
    };
    legal.then(|| format!("+{digits}"))
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

fn ports(
    body: &Object<'_>,
    key: &str,
    echo: &mut Map<String, Value>,
) -> Result<Option<PortSet>, ErrorInfo> {
    let Some(node) = body.get(key) else {
        return Ok(None);
    };
    let ports = if let Value::String(text) = node.value() {
        // The document's snippet: "33001".
        let port = text
            .parse()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let port = port.ok_or_else(|| node.invalid("must be a port"))?;
        Ports {
            ranges: None,
            ports: Some(vec![port]),
        }
    } else {
        let object = node.object()?;
        Ports {
            ranges: object
                .get("ranges")
                .map(|node| ranges(&node, key))
                .transpose()?,
            ports: object.get("ports").map(|node| singles(&node)).transpose()?,
        }
    };
    if ports.ranges.is_none() && ports.ports.is_none() {
        return Err(node.invalid("must have ranges or ports").into());
    }
    let zero = |port: &u16| *port == 0;
    if ports.ports.iter().flatten().any(zero)
        || ports.ranges.iter().flatten().any(|range| zero(&range.from))
    {
        // The schema allows port 0. No packet of TCP or UDP has it, and agents refuse it.
        return Err(ErrorInfo::invalid(format!(
            "Invalid port ranges specified: {key}"
        )));
    }
    let set = PortSet::new(&ports);
    if set.ranges() > MAX_PORT_RANGES {
        return Err(ranges_not_allowed(key));
    }
    echo.insert(key.to_owned(), json!(ports));
    Ok(Some(set))
}

fn singles(node: &Node<'_>) -> Result<Vec<u16>, ErrorInfo> {
    let elements = node.array(MOST_PORTS)?;
    if elements.is_empty() {
        return Err(node.invalid("must not be empty").into());
    }
    elements.iter().map(port).collect()
}

fn ranges(node: &Node<'_>, key: &str) -> Result<Vec<PortRange>, ErrorInfo> {
    let elements = node.array(MOST_PORTS)?;
    if elements.is_empty() {
        return Err(node.invalid("must not be empty").into());
    }
    elements
        .iter()
        .map(|element| {
            let object = element.object()?;
            let range = PortRange {
                from: port(&object.require("from")?)?,
                to: port(&object.require("to")?)?,
            };
            if range.from > range.to {
                return Err(ranges_not_allowed(key));
            }
            Ok(range)
        })
        .collect()
}

fn port(node: &Node<'_>) -> Result<u16, ErrorInfo> {
    let number = node.integer(0..=65_535)?;
    Ok(u16::try_from(number).unwrap_or_default())
}

/// Row 6 of the document's errors.
pub fn ranges_not_allowed(key: &str) -> ErrorInfo {
    ErrorInfo::invalid(format!("Ranges not allowed: {key}"))
}

/// An agent refuses a session that takes more map elements than the contract allows: one for each direction,
/// family and pair of ranges. Better said here than as a rejection later.
fn bound_elements(
    server: &ApplicationServer,
    device_ports: Option<&PortSet>,
    server_ports: Option<&PortSet>,
) -> Result<(), ErrorInfo> {
    let count = |ports: Option<&PortSet>| ports.map_or(1, PortSet::ranges);
    let families =
        usize::from(server.ipv4_address.is_some()) + usize::from(server.ipv6_address.is_some());
    let (device, remote) = (count(device_ports), count(server_ports));
    if 2 * families * device * remote <= MAX_SESSION_ELEMENTS {
        return Ok(());
    }
    Err(ranges_not_allowed(if device >= remote {
        "devicePorts"
    } else {
        "applicationServerPorts"
    }))
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

fn notifications(body: &Object<'_>) -> Result<bool, ErrorInfo> {
    let mut wanted = check_notification(body)?;
    if let Some(node) = body.get("webhook") {
        let webhook = node.object()?;
        webhook.require("notificationUrl")?;
        wanted |= check_notification(&webhook)?;
    }
    Ok(wanted)
}

fn check_notification(object: &Object<'_>) -> Result<bool, ErrorInfo> {
    let url = object.get("notificationUrl");
    if let Some(node) = &url {
        let text = node.text(2_048)?;
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        if host.is_none_or(str::is_empty) || text.contains(char::is_whitespace) {
            return Err(node.invalid("must be an http or https URL").into());
        }
    }
    if let Some(node) = object.get("notificationAuthToken") {
        let length = node.text(256)?.chars().count();
        if length < 20 {
            return Err(node.invalid("must have 20 to 256 characters").into());
        }
    }
    Ok(url.is_some())
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
    fn phone_numbers() {
        assert_eq!(
            phone_number("004912345678923"),
            phone_number("+4912345678923")
        );
        for bad in ["", "+", "1234", "+49 123456", "1234567890123456"] {
            assert_eq!(phone_number(bad), None, "{bad}");
        }
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
