//! One session from the wire, checked.

use std::fmt;
use std::time::Duration;

use qod_wire::{MAX_EXPIRES_IN_SECONDS, MAX_PORT_RANGES, MAX_SESSION_ELEMENTS, RejectCode};
use serde_json::value::RawValue;

use super::device::Device;
use super::{Ceilings, Order, Rejection, SessionId};
use crate::dscp::Dscp;
use crate::flow::{self, Family, PortRange, Prefix};

pub(super) fn parse(id: &SessionId, raw: &RawValue, read_at: Duration) -> Result<Order, Rejection> {
    let wire: qod_wire::Session = serde_json::from_str(raw.get()).map_err(invalid)?;
    let dscp =
        Dscp::new(wire.dscp).ok_or_else(|| invalid(format!("dscp {} is above 63", wire.dscp)))?;
    let order = Order {
        id: id.clone(),
        device: Device::parse(&wire.device)?,
        servers: wire.application_server.as_ref().map(servers).transpose()?,
        device_ports: ports("devicePorts", wire.device_ports.as_ref())?,
        server_ports: ports(
            "applicationServerPorts",
            wire.application_server_ports.as_ref(),
        )?,
        direction: wire.direction,
        required_interface: wire.required_interface,
        dscp,
        ends: wire
            .expires_in
            .map(|seconds| end(seconds, read_at))
            .transpose()?,
        ceilings: Ceilings {
            up: ceiling("maxUpstreamKbps", wire.max_upstream_kbps)?,
            down: ceiling("maxDownstreamKbps", wire.max_downstream_kbps)?,
        },
    };
    let elements = order.families().count() * order.elements_per_address();
    if elements > MAX_SESSION_ELEMENTS {
        let message = format!(
            "its families, directions and port ranges need {elements} map elements, more than {MAX_SESSION_ELEMENTS}"
        );
        return Err(invalid(message));
    }
    Ok(order)
}

pub(super) fn invalid(message: impl fmt::Display) -> Rejection {
    Rejection::new(RejectCode::Invalid, message.to_string())
}

fn end(seconds: f64, read_at: Duration) -> Result<Duration, Rejection> {
    if seconds > MAX_EXPIRES_IN_SECONDS {
        return Err(invalid(format!("expiresIn {seconds} is above 30 days")));
    }
    // Below zero is simply over; to the millisecond, as the kernel keeps it.
    let millis = Duration::try_from_secs_f64(seconds.max(0.0))
        .map_err(invalid)?
        .as_millis();
    Ok(read_at + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

fn ceiling(field: &str, kbps: Option<u64>) -> Result<Option<u64>, Rejection> {
    match kbps {
        Some(0) => Err(invalid(format!("{field} is zero"))),
        kbps => Ok(kbps),
    }
}

fn servers(wire: &qod_wire::ApplicationServer) -> Result<Vec<Prefix>, Rejection> {
    let mut servers = Vec::new();
    for (family, text) in [
        (Family::V4, &wire.ipv4_address),
        (Family::V6, &wire.ipv6_address),
    ] {
        let Some(text) = text else { continue };
        let (address, length) = flow::parse_address(text, family)
            .map_err(|error| invalid(format!("applicationServer: {error}")))?;
        servers.extend(Prefix::new(address, length));
    }
    if servers.is_empty() {
        return Err(invalid("applicationServer names no address"));
    }
    Ok(servers)
}

/// The ranges of one side, merged; `None` when that side names none at all.
fn ports(field: &str, wire: Option<&qod_wire::Ports>) -> Result<Option<Vec<PortRange>>, Rejection> {
    let Some(wire) = wire else { return Ok(None) };
    let (ranges, ports) = (wire.ranges.as_deref(), wire.ports.as_deref());
    if ranges.is_none() && ports.is_none() {
        return Err(invalid(format!("{field} is empty")));
    }
    if ranges.is_some_and(<[_]>::is_empty) || ports.is_some_and(<[_]>::is_empty) {
        return Err(invalid(format!("{field} holds an empty list")));
    }
    let ranges = ranges.unwrap_or_default().iter().map(|r| PortRange {
        from: r.from,
        to: r.to,
    });
    let ports = ports
        .unwrap_or_default()
        .iter()
        .map(|&p| PortRange { from: p, to: p });
    let all: Vec<_> = ranges.chain(ports).collect();
    for range in &all {
        if range.from == 0 {
            return Err(invalid(format!("{field}: there is no port 0")));
        }
        if range.from > range.to {
            return Err(invalid(format!(
                "{field}: {} to {} runs backwards",
                range.from, range.to
            )));
        }
    }
    let merged = flow::merge(all);
    if merged.len() > MAX_PORT_RANGES {
        let message = format!(
            "{field}: {} ranges, more than {MAX_PORT_RANGES}",
            merged.len()
        );
        return Err(invalid(message));
    }
    Ok(Some(merged))
}
