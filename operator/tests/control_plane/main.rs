//! The operator against a real etcd and kube-apiserver; agents are real, the kubelet is played.
//! Must not skip: without a control plane the tests fail.

#![allow(clippy::unwrap_used)]

mod agent;
mod approvals;
mod bench;
mod groups;
mod identity;
mod leader;
mod logs;
mod manifests;
mod pipelines;
mod pools;
mod restart;
mod retries;
mod runs;
mod uses;
