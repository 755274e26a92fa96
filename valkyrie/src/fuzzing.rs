//! What the fuzz targets of this crate need of its inside.
//! Must not be used by anything else: feature `fuzzing`, no promise of any kind.

#[cfg(feature = "tcp")]
pub use crate::transport::mux::play::play as mux;
