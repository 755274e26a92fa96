//! `rustci`, also called as `kubectl rustci` by the name `kubectl-rustci`.
//! Must not hold logic: the library does the work.

fn main() -> std::process::ExitCode {
    cli::dispatch::main()
}
