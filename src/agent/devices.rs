//! The devices of the home: what orders mean there, and whom to ask.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use qod_wire::{DeviceStatus, Warning};

use super::Agent;
use super::instructed::Instructed;
use crate::clock;
use crate::home::{Home, Questions, Subject};
use crate::mac::Mac;
use crate::ruleset::Kernel;
use crate::session::Bonds;

/// What the agent knows of the devices.
#[derive(Default)]
pub(super) struct Devices {
    home: Home,
    questions: Questions,
    bonds: Bonds,
    /// What the orders want to be asked.
    wanted: BTreeSet<Subject>,
    /// Whether what an earlier run left in the kernel was looked at.
    recalled: bool,
}

impl Devices {
    /// Has everything asked once more.
    pub(super) fn ask_again(&mut self) {
        self.questions.ask_again();
    }

    /// When somebody is waited for no longer, on the boot-time clock.
    pub(super) fn deadline(&self) -> Option<std::time::Duration> {
        self.questions.deadline()
    }

    /// One entry a device that has a session.
    pub(super) fn status(&self) -> Vec<DeviceStatus> {
        let macs = self.bonds.macs();
        macs.into_iter().map(|mac| self.describe(mac)).collect()
    }

    fn describe(&self, mac: Mac) -> DeviceStatus {
        let addresses = self.home.addresses(mac);
        let texts = |wanted: fn(&&IpAddr) -> bool| {
            let chosen = addresses.iter().filter(wanted);
            chosen.map(ToString::to_string).collect()
        };
        let place = self.home.port(mac);
        DeviceStatus {
            mac: mac.to_string(),
            ipv4: texts(|address| address.is_ipv4()),
            ipv6: texts(|address| address.is_ipv6()),
            port: place.map(|place| place.port.clone()),
            medium: place.map(|place| place.medium),
            signal_dbm: None,
        }
    }
}

impl Agent {
    /// Listens to neighbours as long as there are orders; says whether it began to just now.
    pub(super) fn follow_neighbours(&mut self) -> bool {
        let wanted = self.instructed.as_ref().is_some_and(Instructed::has_orders);
        let Some(watch) = &mut self.watch else {
            return wanted;
        };
        if !wanted {
            watch.ignore_neighbours();
            return false;
        }
        let begins = !watch.follows_neighbours();
        if let Err(error) = watch.follow_neighbours() {
            log::error!("{error}");
            self.troubles.links = Some(Warning::new("KERNEL", error));
        }
        begins
    }

    /// Reads who is in the home, and who answered.
    pub(super) async fn meet(&mut self) {
        let neighbours = match self.links.neighbours(&self.snapshot).await {
            Ok(neighbours) => neighbours,
            Err(error) => {
                log::error!("{error}");
                self.troubles.links = Some(Warning::new("KERNEL", error));
                return;
            }
        };
        if let Some(watch) = &mut self.watch {
            watch.know(&neighbours, &self.snapshot);
        }
        let devices = &mut self.devices;
        // Only of devices with a session: strangers come and go.
        let macs = devices.bonds.macs();
        let places = devices.home.places();
        let remembered: HashMap<_, _> = macs
            .into_iter()
            .filter_map(|mac| Some((mac, *places.get(&mac)?)))
            .collect();
        devices.home = Home::new(&self.snapshot, &neighbours, &remembered);
        devices.questions.settle(&devices.home, clock::now());
    }

    /// Finds out what the orders mean in the home as it was seen last; says whether that is news.
    pub(super) fn resolve(&mut self) -> bool {
        let Some(instructed) = &mut self.instructed else {
            self.devices.wanted.clear();
            return false;
        };
        let devices = &mut self.devices;
        if !devices.recalled {
            // If it cannot be read, the round will say so.
            if let Ok(held) = self.nft.observe() {
                let held = held.elements.iter();
                let held = held.map(|(matches, element)| (element.session.clone(), matches.device));
                devices.bonds.recall(&instructed.items, held);
                devices.recalled = true;
            }
        }
        let resolution = devices.bonds.resolve(
            &instructed.items,
            &devices.home,
            &devices.questions,
            clock::now(),
        );
        devices.wanted = resolution.wanted;
        let changed = instructed.entries != resolution.entries;
        instructed.entries = resolution.entries;
        changed
    }

    /// Asks for whom the orders want to be asked, as many as may be at a time.
    pub(super) async fn ask(&mut self) {
        let devices = &mut self.devices;
        let due = devices.questions.take_due(&devices.wanted, clock::now());
        for subject in due {
            let devices = &self.devices;
            let asked: Vec<(u32, IpAddr, bool)> = match subject {
                Subject::Address(address) => {
                    let lans = devices.home.lans(address).into_iter();
                    let up = lans.filter(|lan| lan.is_up);
                    up.map(|lan| (lan.index, address, false)).collect()
                }
                Subject::Port(mac) => devices
                    .home
                    .askable(mac)
                    .map(|(lan, address)| (lan, address, true))
                    .into_iter()
                    .collect(),
            };
            for (lan, address, is_known) in asked {
                log::debug!("asking for {address}");
                let result = match is_known {
                    true => self.links.confirm(lan, address).await,
                    false => self.links.ask(lan, address).await,
                };
                if let Err(error) = result {
                    log::debug!("{address}: {error}");
                }
            }
        }
    }
}
