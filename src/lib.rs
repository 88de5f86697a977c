//! The agent on a home's access point.

pub mod dscp;
pub mod queue;
