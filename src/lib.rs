//! The agent on a home's access point.

pub mod dscp;
pub mod flow;
pub mod nft;
pub mod plan;
pub mod queue;
pub mod ruleset;
pub mod session;
