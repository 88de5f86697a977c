//! Removes the agent's tables, whatever layout they have and whichever agent made them.

use std::ffi::CString;

use nftnl::{Batch, MsgType};
use nix::errno::Errno;

use super::read::{NFT_MSG_GETTABLE, NFTA_TABLE_NAME};
use super::socket::{Socket, attributes};
use super::{Error, FAMILY, Table, decode};

/// Removes the agent's tables from the calling thread's network namespace, and says which were there.
///
/// # Errors
/// nf_tables refuses. Where there is none, there are no tables.
pub fn remove_tables() -> Result<Vec<&'static str>, Error> {
    match try_remove() {
        Err(error) if error.is_absence() => Ok(Vec::new()),
        result => result,
    }
}

fn try_remove() -> Result<Vec<&'static str>, Error> {
    let mut socket = Socket::open()?;
    let mut there = Vec::new();
    socket.get(NFT_MSG_GETTABLE, true, &[], |message| {
        for attribute in attributes(message) {
            if let (NFTA_TABLE_NAME, name) = attribute? {
                let ours = Table::ALL.map(Table::name).into_iter();
                there.extend(ours.filter(|ours| decode::text(name) == Some(ours)));
            }
        }
        Ok(())
    })?;
    let mut removed = Vec::new();
    // One transaction each: one that somebody else removes meanwhile does not save the other.
    for name in there {
        let mut batch = Batch::new();
        let table = nftnl::Table::new(CString::new(name).unwrap_or_default().as_c_str(), FAMILY);
        batch.add(&table, MsgType::Del);
        match socket.commit(&batch.finalize())?.first() {
            None => removed.push(name),
            Some((_, Errno::ENOENT)) => {}
            Some((_, errno)) => return Err(Error::Refused(*errno)),
        }
    }
    Ok(removed)
}
