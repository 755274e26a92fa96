//! Tests of the program `rustci` as users run it: its output, its exit codes, its processes.
//! Must not look into the library.
#![allow(clippy::unwrap_used, missing_docs)]

mod approvals;
mod command_line;
mod explain_in_cluster;
mod guide;
mod lint_suite;
mod local;
mod lsp;
mod retry;
mod retry_in_cluster;
mod services;
mod shown;
mod signals;
mod tools;
mod uses;
mod workspace;
