//! What this kernel can do: tried, never taken from its version.

use std::time::Duration;

use nftnl::MsgType;
use nix::errno::Errno;

use super::expr::Expr;
use super::map;
use super::message::{Message, Set, SetElement};
use super::transaction::{self, Step};
use super::{Error, Nft, Table};
use crate::ruleset::{CommitError, Part};

/// What the kernel says of an expression that it does not have.
const MISSING: Errno = Errno::ENOENT;
const SET: &str = "ends";
const EARLY: Duration = Duration::from_secs(1_000);
const LATE: Duration = Duration::from_secs(10_000);

impl Nft {
    /// Whether this kernel can bound a rate (`nft_limit`): tried on a chain that no packet meets.
    ///
    /// # Errors
    /// The kernel could not be asked, or refused something else.
    pub fn has_limit(&mut self) -> Result<bool, CommitError> {
        let (comment, chain) = (String::new(), "rate".to_owned());
        let rule = Message::Rule {
            chain: chain.clone(),
            exprs: vec![Expr::AboveRate {
                bytes: 1_000,
                burst: 1_000,
            }],
        };
        let base = Message::Chain {
            name: chain,
            hook: None,
        };
        let mut steps = transaction::clear();
        steps.extend([Message::Table { comment }, base].map(step));
        self.transact(Table::Probe, steps)?;
        let known = self.transact(Table::Probe, vec![step(rule)]);
        self.transact(Table::Probe, transaction::clear())?;
        match known {
            Ok(()) => Ok(true),
            Err(CommitError::Refused(parts))
                if parts.iter().all(|(_, why)| why == MISSING.desc()) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an element that is added again gets its new end (from 6.12 on), or silently keeps the old
    /// one. Such a kernel also replaces an element in one transaction without a gap.
    ///
    /// # Errors
    /// The kernel could not be asked, or refused the attempt.
    pub fn moves_end(&mut self) -> Result<bool, CommitError> {
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
