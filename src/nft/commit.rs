//! Changes made: as one transaction, or make-before-break with a second table where one would lose marks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use nftnl::Batch;
use nix::errno::Errno;

use super::transaction::{self, Step};
use super::{Error, Nft, Table, refusal, sys};
use crate::ruleset::{Changes, CommitError, Element, Hook, Limit, Part};
use crate::session::SessionId;

impl Nft {
    pub(super) fn change(&mut self, changes: &Changes) -> Result<(), CommitError> {
        if changes.clear {
            self.transact(Table::Main, transaction::clear())?;
            return self.transact(Table::Twin, transaction::clear());
        }
        let moves_ends = self.moves_ends(changes);
        let twin = twin(changes, &self.hooks, moves_ends);
        if let Some(twin) = &twin {
            self.make_twin(twin);
        }
        let main = match moves_ends {
            true => transaction::steps(changes, self.bits),
            false => transaction::steps(&replacing(changes), self.bits),
        };
        let result = self.transact(Table::Main, main);
        if twin.is_some() || changes.remove_twin && result.is_ok() {
            self.transact(Table::Twin, transaction::clear())?;
        }
        result
    }

    /// Without it, single packets may lose their mark; that is better than a change that is not made. And
    /// what the kernel refuses here it refuses in the change itself, which names it.
    fn make_twin(&mut self, twin: &Changes) {
        let mut steps = transaction::clear();
        steps.extend(transaction::steps(twin, self.bits));
        if let Err(error) = self.transact(Table::Twin, steps) {
            log::warn!("changing without a second table: {error}");
        }
    }

    /// Whether this kernel can do what the changes need without a second table. It is tried when it
    /// matters for the first time.
    fn moves_ends(&mut self, changes: &Changes) -> bool {
        if changes.update.is_empty() && replaced(changes).next().is_none() {
            return true;
        }
        if let Some(known) = self.moves_ends {
            return known;
        }
        match self.moves_end() {
            Ok(moves) => {
                log::debug!("this kernel moves the end of an element in force: {moves}");
                self.moves_ends = Some(moves);
                moves
            }
            Err(error) => {
                log::warn!("trying whether the kernel moves the end of an element: {error}");
                false
            }
        }
    }

    pub(super) fn transact(&mut self, table: Table, steps: Vec<Step>) -> Result<(), CommitError> {
        let failed = |error: Error| CommitError::Failed(Box::new(error));
        let mut batch = Batch::new();
        let mut parts = HashMap::with_capacity(steps.len());
        let last = steps.len().saturating_sub(1);
        for (index, (verb, message, part)) in steps.into_iter().enumerate() {
            let sequence = sys::append(&mut batch, table, verb, &message, index == last);
            parts.insert(sequence, part);
        }
        let refused = self
            .socket()
            .and_then(|socket| socket.commit(&batch.finalize()));
        let refused = refused.map_err(failed)?;
        if refused.is_empty() {
            return Ok(());
        }
        let unnamed = || Part::Structure("starting the transaction".to_owned());
        let named = |(sequence, errno): (u32, Errno)| {
            let part = parts.get(&sequence).cloned().unwrap_or_else(unnamed);
            let text = match table {
                // What it is tried for may be missing; that is no trouble.
                Table::Probe => errno.desc().to_owned(),
                Table::Main | Table::Twin => refusal::words(&part, errno),
            };
            (part, text)
        };
        Err(CommitError::Refused(
            refused.into_iter().map(named).collect(),
        ))
    }
}

/// What the second table is to hold, if the change needs one.
fn twin(
    changes: &Changes,
    hooks: &BTreeMap<Hook, Option<u32>>,
    moves_ends: bool,
) -> Option<Changes> {
    let elements: Vec<Element> = if changes.replace {
        changes.add.clone()
    } else if moves_ends {
        return None;
    } else {
        let replaced: HashSet<&SessionId> = replaced(changes).collect();
        let added = changes.add.iter();
        let added = added.filter(|element| replaced.contains(&element.session));
        changes.update.iter().chain(added).cloned().collect()
    };
    let limits = elements
        .iter()
        .filter_map(|element| Limit::of(&element.session, element.matches.way, element.treatment));
    let mut add_hooks = changes.add_hooks.clone();
    let stay = hooks
        .iter()
        .filter(|(hook, _)| !changes.delete_hooks.contains(hook));
    if !changes.replace {
        add_hooks.extend(stay.map(|(hook, index)| (hook.clone(), index.unwrap_or(0))));
    }
    Some(Changes {
        create: true,
        add_dscps: elements.iter().map(|e| e.treatment.dscp).collect(),
        add_limits: limits.collect::<BTreeSet<_>>(),
        add_devices: elements.iter().map(|e| e.matches.device).collect(),
        add: elements,
        add_hooks,
        ..Changes::default()
    })
}

/// The sessions that lose elements and get others for them.
fn replaced(changes: &Changes) -> impl Iterator<Item = &SessionId> {
    let deleted: HashSet<&SessionId> = changes.delete.iter().map(|(_, session)| session).collect();
    let added = changes.add.iter().map(|element| &element.session);
    added.filter(move |session| deleted.contains(session))
}

/// The same changes for a kernel that leaves an element's end where it is: such elements are replaced.
fn replacing(changes: &Changes) -> Changes {
    let mut replacing = changes.clone();
    let update = std::mem::take(&mut replacing.update);
    let deleted = update.iter().map(|e| (e.matches, e.session.clone()));
    replacing.delete.extend(deleted);
    replacing.add.splice(0..0, update);
    replacing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dscp::Dscp;
    use crate::flow::{Match, Peer, Way};
    use crate::ruleset::Treatment;
    use std::net::IpAddr;
    use std::time::Duration;

    fn element(session: &str, host: u8) -> Element {
        Element {
            matches: Match {
                way: Way::Up,
                device: IpAddr::from([192, 168, 1, host]),
                peer: Peer::Whole,
            },
            session: session.into(),
            treatment: Treatment {
                dscp: Dscp::new(46).unwrap(),
                ceiling_kbps: None,
            },
            timeout: Duration::from_secs(60),
            counters: Default::default(),
        }
    }

    fn hooks() -> BTreeMap<Hook, Option<u32>> {
        [(Hook::Up("lan1".into()), Some(7))].into()
    }

    #[test]
    fn what_only_comes_or_goes_needs_no_second_table() {
        let (a, b) = (element("a", 1), element("b", 2));
        let changes = Changes {
            delete: vec![(a.matches, a.session.clone())],
            add: vec![b],
            ..Changes::default()
        };
        assert_eq!(replaced(&changes).count(), 0);
    }

    #[test]
    fn the_second_table_holds_what_is_replaced_and_nothing_else() {
        let (old, new, other) = (element("a", 1), element("a", 2), element("b", 3));
        let renewed = element("c", 4);
        let changes = Changes {
            delete: vec![(old.matches, old.session.clone())],
            update: vec![renewed.clone()],
            add: vec![new.clone(), other],
            ..Changes::default()
        };
        let twin = twin(&changes, &hooks(), false).unwrap();
        assert_eq!(twin.add, [renewed.clone(), new]);
        assert_eq!(twin.add_devices.len(), 2);
        assert_eq!(twin.add_hooks, [(Hook::Up("lan1".into()), 7)].into());
        let main = replacing(&changes);
        assert!(main.update.is_empty());
        assert!(main.delete.contains(&(renewed.matches, renewed.session)));
        assert_eq!(main.add.len(), 3);
    }
}
