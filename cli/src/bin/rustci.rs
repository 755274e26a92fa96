//! `rustci`.
fn main() {}
