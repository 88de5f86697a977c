//! The port lists of a request.

use qod_wire::{ApplicationServer, MAX_PORT_RANGES, MAX_SESSION_ELEMENTS, PortRange, Ports};
use serde_json::{Map, Value, json};

use crate::error_info::ErrorInfo;
use crate::json::{Node, Object};
use crate::ports::PortSet;

/// Most elements that a list of ports may have before it is merged: more repeat some port.
const MOST_PORTS: usize = 65_535;

/// Reads the list at `key`, in either dialect, and adds it to `echo`.
pub(super) fn read(
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
pub(super) fn ranges_not_allowed(key: &str) -> ErrorInfo {
    ErrorInfo::invalid(format!("Ranges not allowed: {key}"))
}

/// An agent refuses a session that takes more map elements than the contract allows: one for each direction,
/// family and pair of ranges. Better said here than as a rejection later.
pub(super) fn bound_elements(
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
