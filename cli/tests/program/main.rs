//! Tests of the program `rustci` as users run it: its output, its exit codes, its processes.
//! Must not look into the library.

mod command_line;
mod local;
mod shown;
mod signals;
mod workspace;
