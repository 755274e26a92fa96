//! A real Kubernetes for tests and for trying things by hand, without a registry or an engine.
//! It must not know anything of RustCI's own resources or images.

mod cache;
mod cluster;
mod control_plane;
pub mod images;

pub use cache::cache_dir;
pub use cluster::{Cluster, Kind, Scoped, Status};
pub use control_plane::ControlPlane;
