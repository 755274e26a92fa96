//! From the command line to the command, and from its end to the exit code.
//! Must not do a command's work.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use crds::Decision;
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;

use crate::args::{
    Arguments, Command, ExplainArguments, LintArguments, LintOutput, RetryArguments, Shell,
};
use crate::failure::Failure;
use crate::library::Shelf;
use crate::verdict::Verdict;
use crate::{cluster, explain, lint, local, lsp, plan};

/// Environment variable that turns on the program's own log, such as `debug` or `cli=trace`.
const LOG_VARIABLE: &str = "RUSTCI_LOG";

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let program = std::env::args_os().next().unwrap_or_default();
    let command = command_named_as(&program);
    let arguments = match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    log_to_stderr();
    // Fails only when a provider is installed, and nobody else installs one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match dispatch(arguments.command) {
        Ok(verdict) => verdict.into(),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "rustci: {failure}");
            failure.verdict.into()
        }
    }
}

/// The command line, under the name by which the user called it.
fn command_named_as(program: &OsString) -> clap::Command {
    let command = Arguments::command();
    let file_name = Path::new(program).file_stem().unwrap_or_default();
    match file_name == "kubectl-rustci" {
        true => command.bin_name("kubectl rustci"),
        false => command,
    }
}

/// Turns on the program's own log, on standard error, when it is asked for.
fn log_to_stderr() {
    let Ok(filter) = EnvFilter::try_from_env(LOG_VARIABLE) else {
        return;
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}

fn dispatch(command: Command) -> Result<Verdict, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::infrastructure(format!("cannot start: {error}")))?;
    let out = &mut io::stdout();
    let result = match command {
        Command::Run(arguments) => runtime.block_on(local::run(&arguments)),
        Command::Lint(arguments) => check(&arguments, out),
        Command::Plan(arguments) => plan::plan(&arguments, out),
        Command::Logs(arguments) => runtime.block_on(cluster::logs(&arguments)),
        Command::Get(arguments) => runtime.block_on(cluster::get(&arguments, out)),
        Command::Explain(arguments) => runtime.block_on(explain_run(&arguments, out)),
        Command::Cancel(arguments) => runtime.block_on(cluster::cancel(&arguments, out)),
        Command::Approve(arguments) => {
            runtime.block_on(cluster::answer(&arguments, Decision::Approve, out))
        }
        Command::Reject(arguments) => {
            runtime.block_on(cluster::answer(&arguments, Decision::Reject, out))
        }
        Command::Start(arguments) => runtime.block_on(cluster::start(&arguments, out)),
        Command::Retry(arguments) => runtime.block_on(retry(&arguments, out)),
        Command::Lsp => lsp::serve(),
        Command::Completion { shell } => completion(shell, out),
    };
    // A blocked write to the terminal must not hold up the end.
    runtime.shutdown_background();
    result
}

fn check(arguments: &LintArguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let report = lint::lint(&arguments.files, &Shelf::new(&arguments.library));
    let text = match arguments.output {
        LintOutput::Text => lint::text(&report, arguments.verbose),
        LintOutput::Json => lint::json(&report),
        LintOutput::Sarif => lint::sarif(&report),
    };
    print(&text, out)?;
    Ok(if report.is_clean() {
        Verdict::Succeeded
    } else {
        Verdict::Usage
    })
}

/// Explains a run of this directory if it has it and no cluster is named, else one of the cluster.
async fn explain_run(
    arguments: &ExplainArguments,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    let now = Timestamp::now();
    let name = arguments.run.as_deref();
    let names_cluster =
        arguments.cluster.namespace.is_some() || arguments.cluster.context.is_some();
    let local = match names_cluster {
        true => None,
        false => explain::explain_local(Path::new("."), name, now).await?,
    };
    let explanation = match (local, name) {
        (Some(explanation), _) => explanation,
        (None, Some(name)) => cluster::explain(&arguments.cluster, name, now).await?,
        (None, None) => {
            return Err(Failure::usage(
                "this directory has no local run: name a run of the cluster, `rustci get` lists \
                 them",
            ));
        }
    };
    print(&explain::print(&explanation, arguments.output), out)?;
    Ok(Verdict::Succeeded)
}

/// Retries a run of this directory if it has it and no cluster is named, else one of the cluster.
async fn retry(arguments: &RetryArguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let names_cluster =
        arguments.cluster.namespace.is_some() || arguments.cluster.context.is_some();
    if !names_cluster && local::has_run(&arguments.run) {
        return local::retry(arguments).await;
    }
    cluster::retry(arguments, out).await
}

fn print(text: &str, out: &mut dyn Write) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        .map_err(|error| Failure::infrastructure(format!("cannot print: {error}")))
}

fn completion(shell: Shell, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "rustci", &mut script);
    print(&String::from_utf8_lossy(&script), out)?;
    Ok(Verdict::Succeeded)
}
