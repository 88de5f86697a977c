//! Which home, and which device in it, a request is about.

use std::net::{IpAddr, Ipv4Addr};

use qod_wire::Device;

use super::device::DeviceId;
use crate::error_info::ErrorInfo;
use crate::oauth::Caller;
use crate::prefix::prefixes_of;
use crate::server::App;
use crate::store::{Identifier, IdentifierKind};

/// The home, and the device that a phone number or a network access identifier means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The home's id.
    pub home: String,
    mac: Option<String>,
}

/// Finds the home of a request.
///
/// # Errors
/// 400: nothing tells the home, or two identifiers tell two. 503, 500: the store failed.
pub(super) async fn home(
    app: &App,
    caller: &Caller,
    device: &DeviceId,
) -> Result<Found, ErrorInfo> {
    let mut told = Vec::new();
    if let Some(sub) = &caller.sub {
        // A user whom no home knows agrees with no identifier.
        told.push(
            app.store
                .identify(IdentifierKind::Sub, sub)
                .await?
                .ok_or_else(unknown)?,
        );
    }
    for (kind, value) in [
        (IdentifierKind::Phone, &device.phone_number),
        (IdentifierKind::Nai, &device.nai),
    ] {
        if let Some(value) = value {
            told.push(app.store.identify(kind, value).await?.ok_or_else(unknown)?);
        }
    }
    if let Some(address) = device.ipv6 {
        let prefixes: Vec<String> = prefixes_of(address.into()).collect();
        told.extend(app.store.home_by_prefix(&prefixes).await?.map(of_home));
    }
    if let Some(address) = device.public_ipv4 {
        told.extend(at_public_address(app, address).await?.map(of_home));
    }
    agree(told)?.ok_or_else(|| {
        if device.public_port.is_some() && device.private_ipv4.is_none() && device.ipv6.is_none() {
            not_resolved()
        } else if device.private_ipv4.is_some()
            && device.public_ipv4.is_none()
            && device.ipv6.is_none()
        {
            // Row 1: any number of homes have this address.
            ErrorInfo::invalid("Expected property is missing: device.msisdn")
        } else {
            unknown()
        }
    })
}

/// Names the device within its home, for the agents.
///
/// # Errors
/// 400 rows 2 and 3: nothing names it. 501: only a public port would.
pub(super) fn device(
    found: &Found,
    device: &DeviceId,
    server_is_ipv4_only: bool,
) -> Result<Device, ErrorInfo> {
    let named = Device {
        ipv4_address: device.private_ipv4.map(|address| address.to_string()),
        ipv6_address: device.ipv6.map(|address| address.to_string()),
        mac_address: found.mac.clone(),
    };
    if named != Device::default() {
        return Ok(named);
    }
    if device.public_port.is_some() {
        return Err(not_resolved());
    }
    Err(ErrorInfo::invalid(if server_is_ipv4_only {
        "Expected property is missing: device.ipv4Address"
    } else {
        "Expected property is missing: device.ipv4Address or device.ipv6Address"
    }))
}

fn unknown() -> ErrorInfo {
    ErrorInfo::invalid("Unable to identify device from specified parameters: device")
}

fn not_resolved() -> ErrorInfo {
    ErrorInfo::not_implemented("Service not implemented for the specified user device")
}

fn of_home(home: String) -> Identifier {
    Identifier { home, mac: None }
}

/// All identifiers given must mean one home, and one device of it.
fn agree(told: Vec<Identifier>) -> Result<Option<Found>, ErrorInfo> {
    let mut found: Option<Found> = None;
    for Identifier { home, mac } in told {
        match &mut found {
            None => found = Some(Found { home, mac }),
            Some(found) => {
                let other_device =
                    matches!((&found.mac, &mac), (Some(left), Some(right)) if left != right);
                if found.home != home || other_device {
                    return Err(ErrorInfo::invalid(
                        "Multiple inconsistent parameters specified: device",
                    ));
                }
                found.mac = found.mac.take().or(mac);
            }
        }
    }
    Ok(found)
}

/// The home that has `address`: by a provisioned prefix, else by what agents report that are there now. Two homes
/// that report one address leave it unknown.
async fn at_public_address(app: &App, address: Ipv4Addr) -> Result<Option<String>, ErrorInfo> {
    let prefixes: Vec<String> = prefixes_of(IpAddr::V4(address)).collect();
    if let Some(home) = app.store.home_by_prefix(&prefixes).await? {
        return Ok(Some(home));
    }
    let mut homes: Vec<String> = app
        .store
        .agents_at(&address.to_string())
        .await?
        .into_iter()
        .filter(|(agent, _, last_poll_ms)| !app.is_silent(agent, *last_poll_ms, 0))
        .map(|(_, home, _)| home)
        .collect();
    homes.sort_unstable();
    homes.dedup();
    Ok((homes.len() == 1).then(|| homes.swap_remove(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(home: &str, mac: Option<&str>) -> Identifier {
        Identifier {
            home: home.to_owned(),
            mac: mac.map(str::to_owned),
        }
    }

    #[test]
    fn identifiers_agree_on_home_and_device() {
        assert_eq!(agree(vec![]), Ok(None));
        let found = agree(vec![told("a", None), told("a", Some("m")), told("a", None)]);
        assert_eq!(found.unwrap().unwrap().mac.as_deref(), Some("m"));
        assert!(agree(vec![told("a", None), told("b", None)]).is_err());
        assert!(agree(vec![told("a", Some("m")), told("a", Some("n"))]).is_err());
    }

    #[test]
    fn what_names_no_device_is_rows_2_and_3() {
        let found = Found {
            home: "a".to_owned(),
            mac: None,
        };
        let public = DeviceId {
            public_ipv4: Some([203, 0, 113, 7].into()),
            ..DeviceId::default()
        };
        let message = |ipv4_only| device(&found, &public, ipv4_only).unwrap_err().message;
        assert_eq!(
            message(true),
            "Expected property is missing: device.ipv4Address"
        );
        assert_eq!(
            message(false),
            "Expected property is missing: device.ipv4Address or device.ipv6Address"
        );
        let port = DeviceId {
            public_port: Some(1),
            ..public
        };
        assert_eq!(
            device(&found, &port, true).unwrap_err().code,
            "NOT_IMPLEMENTED"
        );
    }
}
