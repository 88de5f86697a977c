//! A home, its router and the internet in network namespaces: the laboratory of the tests.
//!
//! [`Home`] makes the namespaces. What a test sends, it sends with [`send`] or [`Observer`]; what it
//! claims, it proves with a [`Capture`] in the internet or on a device, outside of the agent. [`Agent`]
//! and [`Backend`] start the two programs; [`Script`] stands where a test must say every word that the
//! agent hears.
//!
//! Nothing here waits for a fixed time: every wait is for a condition, with a limit.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "every test compiles the whole laboratory and uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a laboratory that does not come up must stop the test at once, and say where"
)]

pub mod agent;
pub mod backend;
pub mod bulk;
pub mod capture;
pub mod certificate;
pub mod console;
mod conversation;
pub mod delay;
pub mod flood;
pub mod folder;
pub mod generation;
pub mod home;
pub mod http;
pub mod kernel;
pub mod name;
pub mod netns;
pub mod observer;
pub mod packet;
pub mod proc;
pub mod process;
pub mod prompt;
pub mod script;

pub mod send;
pub mod site;
pub mod stream;
pub mod wait;

pub use agent::Agent;
pub use backend::Backend;
pub use capture::Capture;
pub use console::Console;
pub use home::{Home, Modem};
pub use netns::Netns;
pub use observer::{Exchange, Observer};
pub use packet::Packet;
pub use script::Script;
pub use stream::Stream;
