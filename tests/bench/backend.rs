//! What the operator's backend bears: sessions per second, and many agents that wait.

use super::{backend_load, backend_polls};

/// One thread: the generator is to leave the processors to what is measured.
pub fn measure() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(backend_load::measure());
    runtime.block_on(backend_polls::measure());
}
