//! What carries a session: QUIC, or memory inside one process.
//! Must not know sessions, calls or identities beyond the peer it reports.

pub mod memory;

pub use memory::MemoryHub;
