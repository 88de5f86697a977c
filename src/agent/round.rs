//! One round of the loop: the kernel is looked at, changed and read back.

use qod_wire::Warning;
use tokio::time::Instant;

use super::devices::Devices;
use super::report::states;
use super::{Agent, PACE, Removal, Troubles};
use crate::ruleset::{Changes, Kernel};

impl Agent {
    /// One round: look, change, read back, report.
    pub(super) async fn round(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        self.earliest = Instant::now() + PACE;
        if self.decommissioned.is_some() {
            self.remove().await;
            return;
        }
        if pending.links && self.look().await {
            pending.ruleset = true;
            pending.queues = true;
            pending.neighbours = true;
            // Whoever did not answer may be there where something changed.
            self.devices.ask_again();
        }
        if let Some(next) = self.next.take() {
            self.instructed = Some(next);
        }
        pending.neighbours |= self.follow_neighbours();
        if pending.neighbours {
            self.meet().await;
        }
        if pending.neighbours || pending.ruleset {
            pending.ruleset |= self.resolve();
        }
        if pending.ruleset {
            self.reconcile();
        }
        self.ask().await;
        self.earliest = Instant::now() + PACE;
        // What an earlier run left there stays as it is until the backend has spoken.
        if pending.queues && self.instructed.is_some() {
            self.enqueue().await;
        }
        if pending.report || self.reported != states(&self.sessions) {
            if !pending.ruleset {
                self.refresh();
            }
            self.report().await;
        }
    }

    /// Removes everything that is the agent's.
    async fn remove(&mut self) {
        if self.decommissioned == Some(Removal::Done) {
            return;
        }
        log::warn!("decommissioned: removing all marks and queues");
        self.instructed = None;
        self.devices = Devices::default();
        self.follow_neighbours();
        self.outcome = None;
        self.attached = false;
        self.remembered.clear();
        self.sessions.clear();
        self.troubles = Troubles {
            poll: self.troubles.poll.take(),
            offload: self.troubles.offload.take(),
            ..Troubles::default()
        };
        let table = self.nft.commit(&Changes::clear());
        let queues = self.queues.remove_all().await;
        if let Err(error) = &table {
            log::error!("removing the table: {error}");
        }
        if let Err(error) = &queues {
            log::error!("removing the queues: {error}");
        }
        if table.is_ok() && queues.is_ok() {
            self.decommissioned = Some(Removal::Done);
        }
    }

    /// Whether ports or the WAN device are not as before.
    async fn look(&mut self) -> bool {
        if self.watch.is_none() {
            self.watch = self.links.watch().ok();
        }
        let snapshot = match self.links.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                log::error!("{error}");
                self.troubles.links = Some(Warning::new("KERNEL", error));
                return false;
            }
        };
        if self.watch.is_some() {
            self.troubles.links = None;
        }
        for device in &snapshot.missing {
            if !self.snapshot.missing.contains(device) {
                log::warn!("there is no device {device} yet; waiting for it");
            }
        }
        let changed = self.snapshot != snapshot;
        // The first look finds nothing changed.
        if !self.snapshot.own.is_empty() && !snapshot.has_way_of(&self.snapshot) {
            // It reads the credential files again, which marks need not wait for.
            let uplink = self.uplink.clone();
            tokio::task::spawn_blocking(move || uplink.moved());
        }
        self.snapshot = snapshot;
        changed
    }
}
