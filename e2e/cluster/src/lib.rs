//! A real Kubernetes for tests and for trying things by hand, without a registry or an engine.
//! It must not know anything of RustCI's own resources or images.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod binaries;
mod cache;
mod cluster;
mod command;
mod containers;
mod control_plane;
mod given;
pub mod images;
mod machine;
mod network;
mod node;
mod packages;
mod pki;
mod process;
mod ready;
mod seed;
mod servers;
mod signals;
mod state;
mod teardown;
mod users;

pub use cache::cache_dir;
pub use cluster::{Cluster, Kind, Status, build_binaries, install_packages};
pub use control_plane::ControlPlane;
