//! The operator backend: application servers ask it for a traffic profile for one flow of one device (CAMARA Quality
//! on Demand), and the agents of that device's home fetch what they are to do and report what they verified.
//!
//! ```text
//! qod ──┐                       ┌── store (SQLite, PostgreSQL)
//! admin ┼── server::App ────────┼── wake      polls that wait for a home
//! agent ┘        │              └── presence  agents that poll
//!                └── notifications ── client ── consumers' receivers
//! ```
//!
//! A request reads the world (`json`, `prefix`, `ports`), decides in pure code (`flow`, `qod::request`,
//! `qod::status`) and changes a home in one transaction, which raises the home's revision; after the commit the
//! home's waiting polls are woken. No process keeps anything that another one over the same database would need,
//! except who polls it right now, and it writes that down every few seconds.

pub mod access;
pub mod admin;
pub mod agent_api;
pub mod backend;
pub mod certificate;
pub mod client;
pub mod clock;
pub mod command;
pub mod config;
pub mod entity_tag;
pub mod error_info;
pub mod expiry;
pub mod flow;
pub mod form;
pub mod json;
pub mod known_devices;
pub mod listener;
pub mod metrics;
pub mod notifications;
pub mod oauth;
pub mod polling;
pub mod ports;
pub mod prefix;
pub mod presence;
pub mod private_file;
pub mod proxy;
pub mod qod;
pub mod rate;
pub mod removal;
pub mod secret;
pub mod server;
pub mod store;
pub mod tls;
pub mod wake;
