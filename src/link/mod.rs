//! The router's links: which ports devices are attached to, the device towards the internet, and which
//! devices the kernel knows.
//!
//! [`Links::snapshot`] and [`Links::neighbours`] read them from the kernel whenever they are asked;
//! [`Watch`] says when it is worth asking again. Events carry no news themselves: a dump is cheap, it is
//! never out of step, and events get lost.

mod error;
mod neighbours;
mod snapshot;
mod watch;

pub use error::Error;
pub use neighbours::{Neighbour, Neighbours, Standing, Station};
pub use snapshot::{Lan, Links, Port, Snapshot, Wan};
pub use watch::{Changed, Watch};
