//! How a request names its device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::error_info::ErrorInfo;
use crate::json::{Node, Object};
use crate::prefix::{self, Prefix};

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

/// `None`: it names nothing that is known.
pub(super) fn read(
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
        if let IpAddr::V6(ipv6) = address.address() {
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
        if let IpAddr::V4(address) = prefix.address() {
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
    let only_port = device.public_port.is_some() && device.public_ipv4.is_none();
    if only_port || (device.public_ipv4.is_none() && device.private_ipv4.is_none()) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
