//! The operator backend.
#![allow(missing_docs)]
pub mod clock;
pub mod error_info;
pub mod flow;
pub mod json;
pub mod ports;
pub mod prefix;
pub mod presence;
pub mod secret;
pub mod store;
pub mod wake;
