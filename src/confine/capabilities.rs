//! Capabilities (capabilities(7)): all but `CAP_NET_ADMIN` go, out of every set.

use std::io;

use capctl::caps::{Cap, CapSet, CapState, ambient, bounding};
use capctl::prctl;

use super::Error;

/// Leaves the calling thread, and those that it starts, with `CAP_NET_ADMIN`; and without a way to
/// more, since `no_new_privs` is set. What the thread does not have, it does not get.
pub(super) fn drop() -> Result<(), Error> {
    let held = CapState::get_current().map_err(failed("reading the capabilities"))?;
    // Needs CAP_SETPCAP, so it comes first. A process without it has no way back all the same:
    // no_new_privs keeps a program that it would start from gaining any.
    if held.effective.has(Cap::SETPCAP) {
        let shrink = || {
            bounding::clear_unknown()?;
            Cap::iter()
                .filter(|cap| *cap != Cap::NET_ADMIN && bounding::read(*cap) == Some(true))
                .try_for_each(bounding::drop)
        };
        shrink().map_err(failed("shrinking the bounding set"))?;
    }
    if ambient::is_supported() {
        ambient::clear().map_err(failed("clearing the ambient set"))?;
    }
    let mut kept = CapSet::empty();
    kept.set_state(Cap::NET_ADMIN, held.permitted.has(Cap::NET_ADMIN));
    let state = CapState {
        effective: kept,
        permitted: kept,
        inheritable: CapSet::empty(),
    };
    state
        .set_current()
        .map_err(failed("dropping capabilities"))?;
    prctl::set_no_new_privs().map_err(failed("setting no_new_privs"))
}

fn failed(doing: &'static str) -> impl FnOnce(capctl::Error) -> Error {
    move |error| Error::Capabilities(doing, io::Error::from_raw_os_error(error.code()))
}
