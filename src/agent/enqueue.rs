//! The WAN device's queues, as instructions and configuration want them.

use qod_wire::{QueueMode, Warning};

use super::Agent;
use crate::queue::{Kind, Root, Shaper};

/// The code of a warning that tells what the queues do without.
pub(super) const INCOMPLETE: &str = "QUEUE_INCOMPLETE";

impl Agent {
    /// Brings the queues to what is wanted; a trouble is reported, and never costs a mark.
    pub(super) async fn enqueue(&mut self) {
        let trouble = self.try_enqueue().await;
        if let Some(trouble) = &trouble
            && self.troubles.queues.as_ref() != Some(trouble)
        {
            log::warn!("{}", trouble.message);
        }
        self.troubles.queues = trouble;
    }

    async fn try_enqueue(&mut self) -> Option<Warning> {
        let wan = self.snapshot.wan.as_ref()?;
        let result = match self.queue_mode() {
            QueueMode::Off => self.queues.remove(&wan.name).await.map(|()| None),
            QueueMode::Auto => {
                let link = self
                    .instructed
                    .as_ref()
                    .map_or(self.config.link, |i| i.link);
                let shaper = Shaper {
                    device: wan.name.clone(),
                    upstream_kbps: link.upstream_kbps,
                };
                self.queues.apply(&shaper).await.map(Some)
            }
        };
        match result {
            Ok(None) => None,
            Ok(Some(Root::Ours { missing, .. })) => incomplete(&missing),
            Ok(Some(Root::Foreign { kind })) => {
                let message = format!(
                    "{} has a root qdisc of somebody else's, {kind}: it is kept, and sessions have no queue of \
                     their own; it {}",
                    wan.name,
                    by_dscp(&kind)
                );
                Some(Warning::new("FOREIGN_QDISC", message))
            }
            Ok(Some(Root::Unsupported)) => Some(Warning::new(
                "NO_QUEUE",
                format!("this kernel has no HTB: {}", Kind::Htb.advice()),
            )),
            Err(error) => Some(Warning::new("NO_QUEUE", error)),
        }
    }

    /// What the downstream rate was given for does not happen.
    pub(super) fn unshaped_downstream(&self) -> Option<Warning> {
        let instructed = self.instructed.as_ref()?;
        let rate = instructed.link.downstream_kbps?;
        let asked = self.queue_mode() == QueueMode::Auto && self.snapshot.wan.is_some();
        (asked && !self.sessions.is_empty()).then(|| {
            let message = format!(
                "packets to the home carry their mark and are not held back to the {rate} kbit/s of the line"
            );
            Warning::new("DOWNSTREAM_NOT_SHAPED", message)
        })
    }

    pub(super) fn queue_mode(&self) -> QueueMode {
        self.instructed
            .as_ref()
            .map_or(self.config.queues, |instructed| instructed.queues)
    }
}

/// The queues do without these.
fn incomplete(missing: &[Kind]) -> Option<Warning> {
    let each = missing
        .iter()
        .map(|kind| format!("this kernel has no {}: {}", kind.title(), kind.advice()));
    let message = each.collect::<Vec<_>>().join("; ");
    (!missing.is_empty()).then(|| Warning::new(INCOMPLETE, message))
}

/// What another program's qdisc makes of a session's code point.
fn by_dscp(kind: &str) -> &'static str {
    match kind {
        // tc-cake(8): all modes but besteffort sort by DSCP.
        "cake" => "puts code points into its tins unless it is set to besteffort",
        // tc-prio(8), tc-pfifo_fast(8): by the priority that the kernel takes from the old TOS bits.
        "prio" | "pfifo_fast" => "looks at the old TOS bits only",
        "dsmark" => "may look at code points",
        _ => "does not look at code points",
    }
}
