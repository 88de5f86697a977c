//! What this kernel can do: tried, never taken from its version.

use std::time::Duration;

use nftnl::MsgType;

use super::map;
use super::message::{Message, Set, SetElement};
use super::transaction::{self, Step};
use super::{Error, Nft, Table};
use crate::ruleset::{CommitError, Part};

const SET: &str = "ends";
const EARLY: Duration = Duration::from_secs(1_000);
const LATE: Duration = Duration::from_secs(10_000);

impl Nft {
    /// Whether an element that is added again gets its new end (from 6.12 on), or silently keeps the old
    /// one. Such a kernel also replaces an element in one transaction without a gap.
    pub(super) fn probe_moved_end(&mut self) -> Result<bool, CommitError> {
        let failed = |error: Error| CommitError::Failed(Box::new(error));
        let set = Message::Set(Set {
            name: SET,
            key: vec![map::MARK],
            interval: false,
            timeouts: true,
            counter: false,
            dynamic: None,
            value: None,
        });
        let mut steps = transaction::clear();
        let comment = String::new();
        steps.extend([Message::Table { comment }, set, element(EARLY)].map(step));
        self.transact(Table::Probe, steps)?;
        let again = self.transact(Table::Probe, vec![step(element(LATE))]);
        let mut moved = false;
        let read = self.dump(Table::Probe, SET, |element| {
            moved |= element.remaining() > EARLY;
            Ok(())
        });
        self.transact(Table::Probe, transaction::clear())?;
        again?;
        read.map_err(failed)?;
        Ok(moved)
    }
}

fn element(timeout: Duration) -> Message {
    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    Message::Elements {
        set: SET,
        elements: vec![SetElement {
            key: vec![0; 4],
            timeout_millis: Some(millis),
            ..SetElement::default()
        }],
    }
}

fn step(message: Message) -> Step {
    let part = Part::Structure("trying what the kernel can do".to_owned());
    (MsgType::Add, message, part)
}
