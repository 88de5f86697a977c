//! Removes every root that has the agent's handle, whatever its kind and whichever agent made it.

use futures_util::TryStreamExt;
use netlink_packet_route::RouteNetlinkMessage::DelQueueDiscipline;
use netlink_packet_route::link::LinkAttribute;
use nix::errno::Errno;
use rtnetlink::Handle;

use super::tree::{ROOT, TC_H_ROOT};
use super::{Error, Queues, errno, kernel, request};

impl Queues {
    /// Takes away every root with the agent's handle, and says what that was: `htb 71d: on wan`.
    ///
    /// # Errors
    ///
    /// The first refusal of the kernel.
    pub async fn remove_leftovers(&mut self) -> Result<Vec<String>, Error> {
        let all = "all devices";
        let qdiscs = request::qdiscs(&self.handle).await;
        let mut removed = Vec::new();
        for qdisc in qdiscs.map_err(kernel("reading the qdiscs", all))? {
            let header = &qdisc.header;
            if u32::from(header.parent) != TC_H_ROOT || u32::from(header.handle) != ROOT {
                continue;
            }
            let (index, kind) = (header.index, request::kind(&qdisc));
            let device = name(&self.handle, index).await;
            let message = request::message(index, TC_H_ROOT, ROOT, kind, Vec::new());
            match request::send(&mut self.handle, DelQueueDiscipline(message), 0).await {
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
async fn name(handle: &Handle, index: i32) -> String {
    let found = async {
        let index = u32::try_from(index).ok()?;
        let mut answer = Box::pin(handle.link().get().match_index(index).execute());
        let link = answer.try_next().await.ok()??;
        link.attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            })
    };
    found.await.unwrap_or_else(|| format!("device {index}"))
}
