//! Notifications of consumers: what is told, to whom, and that it arrives.
//!
//! ```text
//! a report, silence, an end ── one transaction ──> sessions.told + outbox ── claim ──> receiver
//! ```
//!
//! [`event`], [`target`] and [`schedule`] are pure; [`watch`] finds changes that nobody reports; [`deliver`] carries
//! what the outbox holds.

pub mod counters;
pub mod deliver;
pub mod event;
mod judge;
pub mod key_file;
pub mod schedule;
pub mod seal;
pub mod target;
pub mod watch;

use crate::client::Client;
use counters::Counters;
use seal::Seal;

/// What notifying takes.
pub struct Notifications {
    /// Encrypts receivers' tokens.
    pub seal: Seal,
    /// Sends.
    pub client: Client,
    /// Whether receivers may be at addresses that are not public.
    pub allow_private: bool,
    /// How deliveries went.
    pub counters: Counters,
}
