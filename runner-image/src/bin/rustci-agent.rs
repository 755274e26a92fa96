//! The agent's program.
//! Must not hold logic: it reads the configuration and calls the library.

fn main() {}
