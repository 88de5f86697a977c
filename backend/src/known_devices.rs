//! Which addresses are one device, as a home's agents saw it.

use std::collections::HashMap;

use qod_wire::Status;

use crate::prefix::{Prefix, mac};

/// The devices that agents reported, by their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownDevices {
    /// Absent value: two devices were said to have the address.
    by_address: HashMap<String, Option<String>>,
}

impl KnownDevices {
    /// Adds what one report says.
    pub fn add(&mut self, status: &Status) {
        for device in &status.devices {
            let Some(mac) = mac(&device.mac) else {
                continue;
            };
            for address in device.ipv4.iter().chain(&device.ipv6) {
                // In the spelling in which sessions have it.
                let Ok(address) = Prefix::any(address) else {
                    continue;
                };
                self.by_address
                    .entry(address.address().to_string())
                    .and_modify(|known| {
                        if known.as_ref() != Some(&mac) {
                            *known = None;
                        }
                    })
                    .or_insert_with(|| Some(mac.clone()));
            }
        }
    }

    /// The MAC address of the device that has `address`, in lower case with colons.
    pub fn mac_of(&self, address: &str) -> Option<&str> {
        self.by_address.get(address)?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(devices: serde_json::Value) -> Status {
        let status = serde_json::json!({"agentId": "a", "bootId": "b", "sequence": 1, "version": "1", "uptime": 1,
            "kernel": "6", "revision": 1, "sessions": [], "devices": devices});
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn an_address_that_two_devices_have_tells_none() {
        let mut known = KnownDevices::default();
        known.add(&report(serde_json::json!([
            {"mac": "02:00:00:00:00:AB", "ipv4": ["192.168.1.23", "192.168.1.24"], "ipv6": ["2001:DB8::0:23"]},
            {"mac": "none", "ipv4": ["192.168.1.9"]}])));
        assert_eq!(known.mac_of("2001:db8::23"), Some("02:00:00:00:00:ab"));
        assert_eq!(known.mac_of("192.168.1.9"), None);
        known.add(&report(
            serde_json::json!([{"mac": "02:00:00:00:00:cd", "ipv4": ["192.168.1.24"]}]),
        ));
        assert_eq!(known.mac_of("192.168.1.23"), Some("02:00:00:00:00:ab"));
        assert_eq!(known.mac_of("192.168.1.24"), None);
    }
}
