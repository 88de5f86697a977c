//! What an order means in the home as it is: the device's addresses, or why there are none.
//!
//! The device is the MAC behind the addresses that are given. An order keeps to the MAC that it met
//! first, so that whoever takes over an address does not inherit its marks, and to the addresses that it
//! matched last, so that what a table merely forgot does not end.

mod look;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::MAX_SESSION_ELEMENTS;

use super::{Device, Entry, Item, Order, SessionId, Standing};
use crate::home::{Home, Questions, Subject};
use crate::mac::Mac;
use look::Look;

/// What this run of the agent knows of the devices of its orders.
#[derive(Clone, Debug, Default)]
pub struct Bonds(HashMap<SessionId, Bond>);

/// What one order met.
#[derive(Clone, Debug)]
struct Bond {
    /// As long as the order names the same device, it is bound to the same MAC.
    device: Device,
    /// Seen in this run.
    mac: Option<Mac>,
    /// What was matched last, maybe by an earlier run.
    addresses: Vec<IpAddr>,
    /// Whether that is still in force.
    in_force: bool,
}

/// What becomes of all orders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolution {
    /// One entry for each item, in their order.
    pub entries: Vec<Entry>,
    /// What must be asked.
    pub wanted: BTreeSet<Subject>,
}

impl Bonds {
    /// Remembers what an earlier run matched, where this one knows nothing better.
    pub fn recall(&mut self, items: &[Item], held: impl Iterator<Item = (SessionId, IpAddr)>) {
        let mut addresses: HashMap<SessionId, BTreeSet<IpAddr>> = HashMap::new();
        for (id, address) in held {
            addresses.entry(id).or_default().insert(address);
        }
        for order in items.iter().filter_map(|item| item.order.as_ref().ok()) {
            if let Some(held) = addresses.get(&order.id)
                && !self.0.contains_key(&order.id)
            {
                let mut bond = Bond::new(order);
                // More are not matched, however many there are.
                bond.addresses = held.iter().copied().take(MAX_SESSION_ELEMENTS).collect();
                bond.in_force = true;
                self.0.insert(order.id.clone(), bond);
            }
        }
    }

    /// What each order means in this home. `now` is on the boot-time clock.
    pub fn resolve(
        &mut self,
        items: &[Item],
        home: &Home,
        questions: &Questions,
        now: Duration,
    ) -> Resolution {
        let here: HashSet<&SessionId> = items.iter().map(|item| &item.id).collect();
        self.0.retain(|id, _| here.contains(id));
        let mut wanted = BTreeSet::new();
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            let standing = match &item.order {
                Err(rejection) => Standing::Rejected(rejection.clone()),
                Ok(order) => {
                    let bond = self
                        .0
                        .entry(item.id.clone())
                        .or_insert_with(|| Bond::new(order));
                    if bond.device != order.device {
                        *bond = Bond::new(order);
                    }
                    let mut look = Look {
                        order,
                        home,
                        questions,
                        wanted: &mut wanted,
                        waiting: false,
                    };
                    look.resolve(bond, now)
                }
            };
            let id = item.id.clone();
            entries.push(Entry { id, standing });
        }
        Resolution { entries, wanted }
    }

    /// The MACs of the orders that have met theirs.
    pub fn macs(&self) -> BTreeSet<Mac> {
        self.0.values().filter_map(|bond| bond.mac).collect()
    }
}

impl Bond {
    fn new(order: &Order) -> Self {
        Self {
            device: order.device.clone(),
            mac: None,
            addresses: Vec::new(),
            in_force: false,
        }
    }

    /// Whether an address goes on being matched though no table has it: its device was seen in this run.
    fn keeps(&self, address: IpAddr) -> bool {
        self.in_force && self.mac.is_some() && self.addresses.contains(&address)
    }
}
