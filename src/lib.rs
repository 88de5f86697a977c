//! The agent on a home's access point.

pub mod dscp;
pub mod link;
pub mod queue;
