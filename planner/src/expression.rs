//! `${{ CEL }}` in the values of `env` and `outputs`.
//! Must not touch scripts: nothing is ever put into a `run`.
