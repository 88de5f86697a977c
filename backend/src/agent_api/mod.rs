//! `/agent/v1`: what agents fetch and report, and how they come by their tokens. They always call.

mod credential;
pub mod enrol;
pub mod instructions;
pub mod status;

pub use credential::Credential;
