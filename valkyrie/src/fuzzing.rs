//! What the fuzz targets of this crate need of its inside.
//! Must not be used by anything else: feature `fuzzing`, no promise of any kind.

#[cfg(feature = "tcp")]
pub use crate::transport::mux::play::play as mux;

/// The head of a request as the service behind the `http` adapter gets it from this peer; none when
/// it is refused.
#[cfg(feature = "net")]
pub fn request_head(head: &[u8], peer: &str) -> Option<String> {
    crate::adapter::request_head(head, peer)
}

/// The status that a proxy's answer to CONNECT gives.
#[cfg(feature = "tcp")]
pub fn connect_status(answer: &[u8]) -> Option<u16> {
    crate::transport::proxy::status(answer)
}
