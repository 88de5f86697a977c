//! The agent on a home's access point.

pub mod agent;
pub mod backend;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod dscp;
pub mod flow;
pub mod link;
pub mod nft;
pub mod plan;
pub mod queue;
pub mod reconcile;
pub mod ruleset;
pub mod run;
pub mod session;
pub mod status;
pub mod uplink;
