//! Whether flows are handed to hardware, where no hook sees them.

use qod_wire::Warning;

use super::Agent;
use crate::nft::Flowtable;

impl Agent {
    /// Looks at the flowtables of this moment, and warns while one is the hardware's.
    pub(super) fn look_for_offload(&mut self) {
        let flowtables = match self.nft.flowtables() {
            Ok(flowtables) => flowtables,
            // Nothing is missing then that the ruleset does not miss: that is said there.
            Err(error) if error.is_absence() => return,
            // What was known last stays.
            Err(error) => return log::warn!("reading the flowtables: {error}"),
        };
        let trouble = Flowtable::hardware_trouble(&flowtables)
            .map(|trouble| Warning::new("HARDWARE_OFFLOAD", trouble));
        if let Some(trouble) = &trouble
            && self.troubles.offload.as_ref() != Some(trouble)
        {
            log::warn!("{}", trouble.message);
        }
        self.troubles.offload = trouble;
    }
}
