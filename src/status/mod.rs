//! What the agent reports: its identity, and the document that is made of what was verified.

mod answers;
mod document;
mod places;
mod server;
mod table;

pub(crate) use document::release;
pub use document::{Identity, Report};
pub use server::{Error as ServerError, Request, serve};
pub use table::{Error as ShowError, Form, show};
