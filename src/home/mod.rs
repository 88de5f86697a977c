//! The home as the router sees it: which device has which addresses, and behind which port it is. No I/O.

mod questions;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::Medium;

use crate::link::{Lan, Neighbours, Port, Snapshot, Standing};
use crate::mac::Mac;
pub use questions::{MOST_ASKED, PATIENCE, Questions, Subject};

/// What is known of the home's devices at one moment.
#[derive(Clone, Debug, Default)]
pub struct Home {
    lans: Vec<Lan>,
    own: BTreeSet<IpAddr>,
    addresses: HashMap<IpAddr, Sighting>,
    /// Being asked by the kernel.
    asked: BTreeSet<IpAddr>,
    failed: BTreeSet<IpAddr>,
    devices: HashMap<Mac, Vec<IpAddr>>,
    /// Index of the port, in `ports`.
    places: HashMap<Mac, u32>,
    ports: HashMap<u32, Place>,
}

/// Where an address was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The device that has it.
    pub mac: Mac,
    /// Index of the LAN device.
    pub lan: u32,
    /// Whether it was confirmed lately.
    pub live: bool,
    /// Whether somebody has written it down, so that nobody may be asked.
    pub kept: bool,
    /// How long ago it was confirmed.
    pub age: Duration,
}

/// A port that a device is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Linux device.
    pub port: String,
    /// What it is.
    pub medium: Medium,
}

impl Home {
    /// `remembered` is where devices were before: a bridge forgets a silent station, which then is where
    /// it was, as long as that port exists.
    pub fn new(
        snapshot: &Snapshot,
        neighbours: &Neighbours,
        remembered: &HashMap<Mac, u32>,
    ) -> Self {
        let place = |port: &Port| Place {
            port: port.name.clone(),
            medium: port.medium,
        };
        let mut home = Self {
            lans: snapshot.lans.clone(),
            own: snapshot.own.clone(),
            ports: snapshot
                .ports
                .iter()
                .map(|port| (port.index, place(port)))
                .collect(),
            ..Self::default()
        };
        home.see(neighbours);
        home.place(neighbours, remembered);
        home
    }

    fn see(&mut self, neighbours: &Neighbours) {
        for entry in &neighbours.entries {
            let Some(mac) = entry.standing.mac() else {
                let which = match entry.standing {
                    Standing::Failed => &mut self.failed,
                    _ => &mut self.asked,
                };
                which.insert(entry.address);
                continue;
            };
            let sighting = Sighting {
                mac,
                lan: entry.lan,
                live: !matches!(entry.standing, Standing::Stale(_)),
                kept: matches!(entry.standing, Standing::Kept(_)),
                age: entry.age,
            };
            let rank = |seen: &Sighting| (!seen.live, seen.age, seen.lan);
            // Behind two LAN devices: it is where it was seen last.
            let seen = self.addresses.entry(entry.address).or_insert(sighting);
            if rank(&sighting) < rank(seen) {
                *seen = sighting;
            }
        }
        // Behind several LAN devices: nowhere, only if on none of them.
        let (asked, addresses) = (&self.asked, &self.addresses);
        self.failed
            .retain(|address| !asked.contains(address) && !addresses.contains_key(address));
        for (address, seen) in &self.addresses {
            if !is_link_local(*address) {
                self.devices.entry(seen.mac).or_default().push(*address);
            }
        }
        for addresses in self.devices.values_mut() {
            addresses.sort_unstable();
        }
    }

    fn place(&mut self, neighbours: &Neighbours, remembered: &HashMap<Mac, u32>) {
        let mut ages: HashMap<Mac, (Duration, u32)> = HashMap::new();
        let mut learn = |mac, age, port| {
            let newest = ages.entry(mac).or_insert((age, port));
            *newest = (*newest).min((age, port));
        };
        for station in &neighbours.stations {
            learn(station.mac, station.age, station.port);
        }
        for seen in self.addresses.values() {
            // Behind a LAN device that is no bridge there is but one port: the device itself.
            if self.ports.contains_key(&seen.lan) {
                learn(seen.mac, seen.age, seen.lan);
            }
        }
        let known = ages.into_iter().map(|(mac, (_, port))| (mac, port));
        let mut places = remembered.clone();
        places.extend(known);
        places.retain(|_, port| self.ports.contains_key(port));
        self.places = places;
    }

    /// Where an address was seen.
    pub fn sighting(&self, address: IpAddr) -> Option<&Sighting> {
        self.addresses.get(&address)
    }

    /// Whether the kernel is asking for an address.
    pub fn is_asked(&self, address: IpAddr) -> bool {
        self.asked.contains(&address)
    }

    /// Whether the kernel asked for an address and got no answer anywhere.
    pub fn has_failed(&self, address: IpAddr) -> bool {
        self.failed.contains(&address)
    }

    /// Whether a device is here, with or without a known address.
    pub fn knows(&self, mac: Mac) -> bool {
        self.devices.contains_key(&mac) || self.places.contains_key(&mac)
    }

    /// A device's addresses but for link-local ones, in order.
    pub fn addresses(&self, mac: Mac) -> &[IpAddr] {
        self.devices.get(&mac).map_or(&[], Vec::as_slice)
    }

    /// An address at which a device can be asked whether it is there, with the LAN device's index: the
    /// one that was confirmed last.
    pub fn askable(&self, mac: Mac) -> Option<(u32, IpAddr)> {
        let seen = self.addresses(mac).iter();
        let seen = seen.filter_map(|address| Some((self.sighting(*address)?, *address)));
        let (seen, address) = seen
            .filter(|(seen, _)| !seen.kept)
            .min_by_key(|(seen, address)| (seen.age, *address))?;
        Some((seen.lan, address))
    }

    /// The port that a device is attached to, or was last.
    pub fn port(&self, mac: Mac) -> Option<&Place> {
        self.ports.get(self.places.get(&mac)?)
    }

    /// The indices of the ports that devices are attached to, or were last.
    pub fn places(&self) -> &HashMap<Mac, u32> {
        &self.places
    }

    /// Whether an address is the router's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// The LAN devices behind which an address can be: the one whose prefix holds it, else each.
    pub fn lans(&self, address: IpAddr) -> Vec<&Lan> {
        let holds = |lan: &&Lan| lan.prefixes.iter().any(|prefix| prefix.contains(address));
        let holding: Vec<_> = self.lans.iter().filter(holds).collect();
        if holding.is_empty() {
            self.lans.iter().collect()
        } else {
            holding
        }
    }

    /// The names of the LAN devices behind which an address can be, for people.
    pub fn lan_names(&self, address: IpAddr) -> String {
        let names: Vec<_> = self
            .lans(address)
            .into_iter()
            .map(|l| l.name.as_str())
            .collect();
        match names.is_empty() {
            true => "any device of the home".to_owned(),
            false => names.join(" or "),
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
