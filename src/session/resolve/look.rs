//! One order in the home as it is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use qod_wire::{Interface, MAX_SESSION_ELEMENTS, Medium, RejectCode};

use super::Bond;
use crate::flow::Family;
use crate::home::{Home, Questions, Subject};
use crate::mac::Mac;
use crate::session::{Order, Rejection, Standing};

/// Addresses in use are preferred to others unless they were silent for so long.
const SILENT: Duration = Duration::from_secs(600);

/// One order, looked at in the home.
pub(super) struct Look<'a> {
    pub(super) order: &'a Order,
    pub(super) home: &'a Home,
    pub(super) questions: &'a Questions,
    pub(super) wanted: &'a mut BTreeSet<Subject>,
    /// Whether an answer is still to come.
    pub(super) waiting: bool,
}

/// An address that may be matched, and what speaks for it: the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: Rank,
    age: Duration,
    address: IpAddr,
}

impl Candidate {
    fn new(rank: Rank, address: IpAddr) -> Self {
        let age = Duration::ZERO;
        Self { rank, age, address }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Given,
    InUse,
    Live,
    Silent,
    Stale,
}

impl Look<'_> {
    pub(super) fn resolve(&mut self, bond: &mut Bond, now: Duration) -> Standing {
        if self.order.ends.is_some_and(|end| end <= now) {
            return Standing::Ready(self.order.session(&bond.addresses));
        }
        let standing = match self.device(bond) {
            Ok(mac) => {
                let known = mac.filter(|mac| self.home.knows(*mac));
                bond.mac = bond.mac.or(known);
                self.meet(bond, mac, known.is_some())
            }
            Err(rejection) => Standing::Rejected(rejection),
        };
        match &standing {
            Standing::Ready(session) => {
                let addresses: BTreeSet<_> = session.matches.iter().map(|m| m.device).collect();
                bond.addresses = addresses.into_iter().collect();
                bond.in_force = true;
            }
            Standing::Rejected(_) => bond.in_force = false,
            Standing::Probing => {}
        }
        standing
    }

    /// The one MAC of everything that is given, as far as it can be said.
    fn device(&self, bond: &Bond) -> Result<Option<Mac>, Rejection> {
        let device = &self.order.device;
        let mut expected = bond.mac.or(device.mac);
        let mut witness = None;
        for address in device.addresses() {
            if self.home.is_own(address) {
                let message = format!("{address} is an address of this router's own");
                return Err(not_found(message));
            }
            let Some(found) = self.home.sighting(address).map(|seen| seen.mac) else {
                continue;
            };
            let Some(mac) = expected.filter(|mac| *mac != found) else {
                expected = Some(found);
                witness = witness.or(Some(address));
                continue;
            };
            return Err(not_found(match (witness, bond.mac) {
                (_, Some(_)) => format!("{address} has moved from {mac} to {found}"),
                (Some(other), None) => format!("{address} is at {found}, but {other} at {mac}"),
                (None, None) => format!("{address} is at {found}, not at {mac}"),
            }));
        }
        Ok(expected)
    }

    /// What is matched of a device that is, as far as it can be said, `mac`; `known`: which is here.
    fn meet(&mut self, bond: &Bond, mac: Option<Mac>, known: bool) -> Standing {
        let mut candidates = Vec::new();
        let mut gone = None;
        for family in Family::ALL {
            let is_served = self.order.families().any(|served| served == family);
            let Some(address) = self.order.device.address(family) else {
                if is_served {
                    candidates.push(self.follow(bond, mac, family));
                }
                continue;
            };
            let mut is_matched = self.home.sighting(address).is_some();
            if !is_matched && (is_served || !known) {
                if self.ask(Subject::Address(address)) {
                    is_matched = known || bond.keeps(address);
                } else {
                    gone = gone.or(Some((address, is_served)));
                }
            }
            if is_served && is_matched {
                candidates.push(vec![Candidate::new(Rank::Given, address)]);
            }
        }
        let addresses = self.choose(candidates);
        if !addresses.is_empty() {
            return self.attached(mac, &addresses);
        }
        if self.waiting {
            return Standing::Probing;
        }
        Standing::Rejected(not_found(match gone {
            Some((address, is_served)) if is_served || !known => {
                format!("{address} is not on {}", self.home.lan_names(address))
            }
            _ => {
                let server = self.order.servers.as_ref().and_then(|list| list.first());
                let missing =
                    server.map_or_else(|| "IP".to_owned(), |server| server.family().to_string());
                format!("no {missing} address known for {}", self.order.device)
            }
        }))
    }

    /// The addresses of a family in which none is given.
    fn follow(&mut self, bond: &Bond, mac: Option<Mac>, family: Family) -> Vec<Candidate> {
        let home = self.home;
        let seen = mac.map_or(&[][..], |mac| home.addresses(mac));
        let seen = seen.iter().filter(|a| Family::of(**a) == family);
        let mut candidates: Vec<_> = seen
            .filter_map(|address| Some((*address, home.sighting(*address)?)))
            .map(|(address, seen)| {
                let in_use = bond.in_force && bond.addresses.contains(&address);
                match (in_use, seen.live) {
                    (true, true) => Candidate::new(Rank::InUse, address),
                    (true, false) if seen.age < SILENT => Candidate::new(Rank::InUse, address),
                    (true, false) => Candidate::new(Rank::Silent, address),
                    (false, live) => Candidate {
                        rank: if live { Rank::Live } else { Rank::Stale },
                        age: seen.age,
                        address,
                    },
                }
            })
            .collect();
        for &address in bond.addresses.iter().filter(|a| Family::of(**a) == family) {
            // What a table merely forgot is asked for first.
            if home.sighting(address).is_none()
                && self.ask(Subject::Address(address))
                && bond.keeps(address)
            {
                candidates.push(Candidate::new(Rank::InUse, address));
            }
        }
        candidates
    }

    /// One address of each family, and more as far as there is room.
    fn choose(&self, mut families: Vec<Vec<Candidate>>) -> Vec<IpAddr> {
        for family in &mut families {
            family.sort_unstable();
        }
        let (first, more): (Vec<_>, Vec<_>) = families
            .iter()
            .filter_map(|family| family.split_first())
            .unzip();
        let most = MAX_SESSION_ELEMENTS / self.order.elements_per_address().max(1);
        let mut rest: Vec<Candidate> = more.into_iter().flatten().copied().collect();
        rest.sort_unstable();
        let all = first.into_iter().copied().chain(rest).take(most);
        let mut addresses: Vec<_> = all.map(|candidate| candidate.address).collect();
        addresses.sort_unstable();
        addresses
    }

    /// Whether the device is attached as it must be.
    fn attached(&mut self, mac: Option<Mac>, addresses: &[IpAddr]) -> Standing {
        let (Some(required), Some(mac)) = (self.order.required_interface, mac) else {
            return Standing::Ready(self.order.session(addresses));
        };
        let message = match self.home.port(mac) {
            Some(place) => match (required, place.medium) {
                (Interface::Wifi, Medium::Wifi) | (Interface::Wired, Medium::Wired) => {
                    return Standing::Ready(self.order.session(addresses));
                }
                (Interface::Wifi, Medium::Wired) => {
                    format!("{mac} is on {}, which is wired", place.port)
                }
                (Interface::Wired, Medium::Wifi) => {
                    format!("{mac} is on {}, which is Wi-Fi", place.port)
                }
            },
            None if self.ask(Subject::Port(mac)) => return Standing::Probing,
            None => format!("the port of {mac} is not known"),
        };
        let code = RejectCode::NotOnRequiredInterface;
        Standing::Rejected(Rejection::new(code, message))
    }

    /// Has it asked. Whether an answer may still come.
    fn ask(&mut self, subject: Subject) -> bool {
        self.wanted.insert(subject);
        let open = !self.questions.is_unanswered(subject);
        self.waiting |= open;
        open
    }
}

fn not_found(message: String) -> Rejection {
    Rejection::new(RejectCode::DeviceNotFound, message)
}
