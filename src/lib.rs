//! The agent on a home's access point.

pub mod dscp;
pub mod flow;
pub mod session;
pub mod plan;
pub mod ruleset;
pub mod nft;
