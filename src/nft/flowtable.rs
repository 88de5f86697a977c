//! Flowtables of anybody's: where flows leave the usual path, in software or in hardware.

use std::fmt;

use nftnl::ProtoFamily;

use super::decode::text;
use super::socket::{DumpEnd, attributes};
use super::{DUMP_ATTEMPTS, Error, Nft};

// `linux/netfilter/nf_tables.h`.
const NFT_MSG_GETFLOWTABLE: u16 = 23;
const NFTA_FLOWTABLE_TABLE: u16 = 1;
const NFTA_FLOWTABLE_NAME: u16 = 2;
const NFTA_FLOWTABLE_HOOK: u16 = 3;
const NFTA_FLOWTABLE_FLAGS: u16 = 7;
const NFTA_FLOWTABLE_HOOK_DEVS: u16 = 3;
const NFTA_DEVICE_NAME: u16 = 1;
const NFT_FLOWTABLE_HW_OFFLOAD: u32 = 1;

/// The families that can have flowtables, each with nft's name for it.
const FAMILIES: [(ProtoFamily, &str); 3] = [
    (ProtoFamily::Inet, "inet"),
    (ProtoFamily::Ipv4, "ip"),
    (ProtoFamily::Ipv6, "ip6"),
];

/// A flowtable: packets of the flows in it go from device to device without the usual hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flowtable {
    /// nft's name of the family: `inet`, `ip` or `ip6`.
    pub family: &'static str,
    /// The table that it is in.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether its flows are handed to hardware, where no hook of any kind sees them.
    pub hardware: bool,
    /// The Linux devices between which it forwards.
    pub devices: Vec<String>,
}

impl fmt::Display for Flowtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            table,
            name,
            ..
        } = self;
        let devices = match self.devices.as_slice() {
            [] => "no device".to_owned(),
            devices => devices.join(", "),
        };
        write!(f, "flowtable {name} of table {family} {table} on {devices}")
    }
}

impl Flowtable {
    /// What an engineer should know while flows are handed to hardware; None: they are not.
    pub fn hardware_trouble(all: &[Self]) -> Option<String> {
        let flowtable = all.iter().find(|flowtable| flowtable.hardware)?;
        Some(format!(
            "flows are handed to hardware ({flowtable}): they pass no hook and get neither mark nor \
             queue; switch that off (flow_offloading_hw '0' in OpenWrt's /etc/config/firewall)"
        ))
    }
}

impl Nft {
    /// Every flowtable of the network namespace.
    ///
    /// # Errors
    /// The kernel could not be asked, or its answer not be understood.
    pub fn flowtables(&mut self) -> Result<Vec<Flowtable>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut all = Vec::new();
            let mut whole = true;
            for (family, name) in FAMILIES {
                let end =
                    self.socket()?
                        .get_of(family, NFT_MSG_GETFLOWTABLE, true, &[], |message| {
                            all.push(read(name, message)?);
                            Ok(())
                        })?;
                whole &= end != Some(DumpEnd::Interrupted);
            }
            if whole {
                return Ok(all);
            }
        }
        Err(Error::Unsteady)
    }
}

/// One message of the dump, without its header.
fn read(family: &'static str, message: &[u8]) -> Result<Flowtable, Error> {
    let mut flowtable = Flowtable {
        family,
        table: String::new(),
        name: String::new(),
        hardware: false,
        devices: Vec::new(),
    };
    let owned = |value| text(value).unwrap_or_default().to_owned();
    for attribute in attributes(message) {
        match attribute? {
            (NFTA_FLOWTABLE_TABLE, value) => flowtable.table = owned(value),
            (NFTA_FLOWTABLE_NAME, value) => flowtable.name = owned(value),
            (NFTA_FLOWTABLE_HOOK, hook) => flowtable.devices = devices(hook)?,
            (NFTA_FLOWTABLE_FLAGS, value) => {
                let flags = value
                    .first_chunk()
                    .ok_or(Error::Malformed("a flowtable's flags"))?;
                flowtable.hardware = u32::from_be_bytes(*flags) & NFT_FLOWTABLE_HW_OFFLOAD != 0;
            }
            _ => {}
        }
    }
    Ok(flowtable)
}

fn devices(hook: &[u8]) -> Result<Vec<String>, Error> {
    let mut devices = Vec::new();
    for attribute in attributes(hook) {
        let (NFTA_FLOWTABLE_HOOK_DEVS, list) = attribute? else {
            continue;
        };
        for device in attributes(list) {
            if let (NFTA_DEVICE_NAME, name) = device? {
                devices.extend(text(name).map(str::to_owned));
            }
        }
    }
    // The kernel's order is nobody's choice.
    devices.sort();
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What nft 1.0.6 writes for `flowtable inet t ft { hook ingress priority 0; flags offload; devices =
    /// { lo, d0 }; counter; }` on a little-endian machine: attributes stand the same in a dump.
    const OFFLOADED: [u8; 64] = [
        6, 0, 1, 0, b't', 0, 0, 0, // table
        7, 0, 2, 0, b'f', b't', 0, 0, // name
        40, 0, 3, 0x80, // hook, nested
        8, 0, 1, 0, 0, 0, 0, 0, // ingress
        8, 0, 2, 0, 0, 0, 0, 0, // priority
        20, 0, 3, 0x80, // devices, nested
        7, 0, 1, 0, b'd', b'0', 0, 0, //
        7, 0, 1, 0, b'l', b'o', 0, 0, //
        8, 0, 7, 0, 0, 0, 0, 3, // offload and counter
    ];

    #[test]
    #[cfg(target_endian = "little")]
    fn a_hardware_flowtable_is_known() {
        let flowtable = read("inet", &OFFLOADED).unwrap();
        assert_eq!((&*flowtable.table, &*flowtable.name), ("t", "ft"));
        assert_eq!(flowtable.devices, ["d0", "lo"]);
        assert!(flowtable.hardware);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_counter_alone_is_no_hardware() {
        let mut bytes = OFFLOADED;
        bytes[63] = 2;
        assert!(!read("inet", &bytes).unwrap().hardware);
        bytes[63] = 0;
        assert!(!read("inet", &bytes).unwrap().hardware);
        assert!(!read("inet", &bytes[..56]).unwrap().hardware);
    }

    proptest! {
        #[test]
        fn any_message_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = read("inet", &bytes);
        }

        #[test]
        fn a_message_that_is_cut_is_read_without_panic(length in 0..64usize) {
            let _ = read("inet", &OFFLOADED[..length]);
        }
    }
}
