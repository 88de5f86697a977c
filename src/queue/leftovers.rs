//! Removes every root that has the agent's handle, whatever its kind and whichever agent made it.

use nix::errno::Errno;
use nix::libc::{RTM_DELQDISC, RTM_GETLINK};

use super::tree::{ROOT, TC_H_ROOT};
use super::{Error, Queues, errno, kernel, request};
use crate::netlink::{Device, Rtnetlink, device_body};

impl Queues {
    /// Takes away every root with the agent's handle, and says what that was: `htb 71d: on wan`.
    ///
    /// # Errors
    ///
    /// The first refusal of the kernel.
    pub async fn remove_leftovers(&mut self) -> Result<Vec<String>, Error> {
        let all = "all devices";
        let qdiscs = request::qdiscs(&self.rtnetlink).await;
        let mut removed = Vec::new();
        for qdisc in qdiscs.map_err(kernel("reading the qdiscs", all))? {
            if qdisc.parent != TC_H_ROOT || qdisc.handle != ROOT {
                continue;
            }
            let (index, kind) = (qdisc.index, qdisc.kind());
            let device = name(&self.rtnetlink, index).await;
            let message = request::message(index, TC_H_ROOT, ROOT, kind, &[]);
            match self.rtnetlink.order(RTM_DELQDISC, 0, message).await {
                Ok(()) => removed.push(format!("{kind} 71d: on {device}")),
                // Gone meanwhile.
                Err(error) if matches!(errno(&error), Errno::ENOENT | Errno::ENODEV) => {}
                Err(error) => return Err(kernel("removing the queues", &device)(error)),
            }
        }
        Ok(removed)
    }
}

/// A device's name; by its index where it has just gone.
async fn name(rtnetlink: &Rtnetlink, index: i32) -> String {
    let body = device_body(index.cast_unsigned(), &[]);
    let found = rtnetlink.get(RTM_GETLINK, body).await;
    let device = found.ok().and_then(|body| Device::read(&body));
    device.map_or_else(|| format!("device {index}"), |device| device.name)
}
