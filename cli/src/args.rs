//! The command line: commands, options and their help.
//! Must not do anything with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use crds::RetryOf;
use serde::{Deserialize, Serialize};

/// Exit codes, shown at the end of the help.
const EXIT_CODES: &str = "Exit codes: 0 succeeded, 1 the pipeline failed, 2 wrong usage or an \
invalid pipeline, 3 cancelled, 4 timed out, 5 infrastructure.";

/// Runs pipelines, on this machine and on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "rustci", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline from a file on this machine; no cluster needed
    Run(RunArguments),
    /// Check pipeline files without running them
    Lint(LintArguments),
    /// Show what a run of a pipeline would do, without running it
    Plan(PlanArguments),
    /// Show a run's logs from the cluster
    Logs(LogsArguments),
    /// List runs in the cluster, or show one run's jobs and steps
    Get(ListArguments),
    /// Say why a run waits or failed, and what to do about it
    Explain(ExplainArguments),
    /// Let a job in the cluster start that waits for approval
    Approve(AnswerArguments),
    /// Let a job in the cluster fail that waits for approval
    Reject(AnswerArguments),
    /// Stop a run in the cluster; its finally jobs still run
    Cancel(CancelArguments),
    /// Start a run of a Pipeline in the cluster
    Start(StartArguments),
    /// Run an ended run again, all of it or only what failed; a local run of this directory, or one
    /// of the cluster
    Retry(RetryArguments),
    /// Serve an editor: mistakes, completion, documentation and definitions, over standard input
    /// and output
    Lsp,
    /// Print the completion script of a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Shells with a completion script.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// Options of `rustci run`.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
pub struct RunArguments {
    /// File with a Pipeline, or a PipelineRun and its Pipeline; Secrets and ConfigMaps may be in it
    pub file: PathBuf,
    /// Set a parameter of the pipeline
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = name_value)]
    #[serde(skip)]
    pub params: Vec<(String, String)>,
    /// Set an environment variable of every step; wins over those of the file
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = name_value)]
    #[serde(skip)]
    pub env: Vec<(String, String)>,
    /// The pipeline to run, when the file has several
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// File with Secrets and ConfigMaps that the pipeline refers to
    #[arg(long, value_name = "FILE")]
    pub secrets: Vec<PathBuf>,
    /// File or folder with Pipelines that `uses` may name; those of the file's own folder are known
    #[arg(long, value_name = "PATH")]
    #[serde(default)]
    pub library: Vec<PathBuf>,
    /// Run all jobs in this directory instead of an empty one for each
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Most jobs that run at once [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_parallel: Option<u32>,
    /// Longest time for the run, such as 20m; the pipeline's own by default
    #[arg(long, value_name = "DURATION", value_parser = duration_text)]
    pub timeout: Option<String>,
    /// Approve this job when it asks for approval, instead of asking on the terminal
    #[arg(long = "approve", value_name = "JOB")]
    pub approve: Vec<String>,
    /// Approve every job that asks for approval
    #[arg(long)]
    pub approve_all: bool,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
    #[serde(skip)]
    pub output: Output,
}

/// How a run is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of `rustci lint`.
#[derive(Args, Debug)]
pub struct LintArguments {
    /// Files to check, folders of them, or - for standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// File or folder with Pipelines that `uses` may name; those of the file's own folder are known
    #[arg(long, value_name = "PATH")]
    pub library: Vec<PathBuf>,
    /// Tell also which documents were passed over
    #[arg(long, short = 'v')]
    pub verbose: bool,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t = LintOutput::Text)]
    pub output: LintOutput,
}

/// How a report of mistakes is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LintOutput {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, for code hosts.
    Sarif,
}

/// Options of `rustci plan`.
#[derive(Args, Debug)]
pub struct PlanArguments {
    /// File with a Pipeline, or a PipelineRun and its Pipeline
    pub file: PathBuf,
    /// Set a parameter of the pipeline
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = name_value)]
    pub params: Vec<(String, String)>,
    /// The pipeline to plan, when the file has several
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// File or folder with Pipelines that `uses` may name; those of the file's own folder are known
    #[arg(long, value_name = "PATH")]
    pub library: Vec<PathBuf>,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t = PlanOutput::Text)]
    pub output: PlanOutput,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PlanOutput {
    /// A table for people.
    Text,
    /// A flowchart for Mermaid.
    Mermaid,
    /// A graph for Graphviz.
    Dot,
    /// One JSON object.
    Json,
}

/// Which cluster and namespace.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArguments {
    /// Namespace [default: the context's]
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
}

/// Options of `rustci logs`.
#[derive(Args, Debug)]
pub struct LogsArguments {
    /// Name of the run
    pub run: String,
    /// Only this job
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
    /// Only the step of this name
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// The job's bytes as they were written: no prefixes, nothing made safe for a terminal
    #[arg(long, requires = "job")]
    pub raw: bool,
    /// Go on until the run ends; the exit code is the run's result
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Options of `rustci get`.
#[derive(Args, Debug)]
pub struct ListArguments {
    /// Name of a run; all runs without it
    pub run: Option<String>,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Options of `rustci explain`.
#[derive(Args, Debug)]
pub struct ExplainArguments {
    /// Name of a run, of this directory or of the cluster; without it the newest local run of this
    /// directory
    pub run: Option<String>,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
}

/// Options of `rustci approve` and `rustci reject`.
#[derive(Args, Debug)]
pub struct AnswerArguments {
    /// Name of the run
    pub run: String,
    /// Name of the job; a job with a matrix is answered as a whole
    pub job: String,
    /// Why, for others to read
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Options of `rustci cancel`.
#[derive(Args, Debug)]
pub struct CancelArguments {
    /// Name of the run
    pub run: String,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Options of `rustci start`.
#[derive(Args, Debug)]
pub struct StartArguments {
    /// Name of the Pipeline
    pub pipeline: String,
    /// Set a parameter of the pipeline
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = name_value)]
    pub params: Vec<(String, String)>,
    /// Set an environment variable of every step; wins over those of the pipeline
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = name_value)]
    pub env: Vec<(String, String)>,
    /// Wait for the run's end; the exit code is the run's result
    #[arg(long)]
    pub wait: bool,
    /// Show the run's jobs and logs until its end; the exit code is the run's result
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Options of `rustci retry`.
#[derive(Args, Debug)]
pub struct RetryArguments {
    /// Name of the run that has ended
    pub run: String,
    /// Take over the jobs that succeeded; only the others, and what needs them, run again
    #[arg(long)]
    pub failed: bool,
    /// As --failed, but this job and what needs it run again as well
    #[arg(long = "from", value_name = "JOB", conflicts_with = "failed")]
    pub from_job: Option<String>,
    /// Go on although the pipeline, its parameters or its source differ from those of that run
    #[arg(long)]
    pub force: bool,
    /// Wait for the new run's end; the exit code is the run's result
    #[arg(long)]
    pub wait: bool,
    /// Show the new run's jobs and logs until its end; the exit code is the run's result
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

impl RetryArguments {
    /// What the new run says of the ended one.
    pub fn retry_of(&self) -> RetryOf {
        RetryOf {
            run: self.run.clone(),
            failed: self.failed,
            from_job: self.from_job.clone(),
            force: self.force,
        }
    }
}

/// Parses `NAME=VALUE`; the value may be empty and may hold more equal signs.
fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE, such as profile=debug".to_owned()),
    }
}

/// Checks a duration and keeps it as written, as the pipeline's field does.
fn duration_text(text: &str) -> Result<String, String> {
    planner::duration::parse(text)
        .map(|_: Duration| text.to_owned())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_parameter_value_may_hold_equal_signs_and_may_be_empty() {
        assert_eq!(name_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(name_value("a="), Ok(("a".to_owned(), String::new())));
        assert!(name_value("=x").is_err());
        assert!(name_value("x").is_err());
    }

    #[test]
    fn follow_and_namespace_have_the_short_options_of_kubectl() {
        let parsed = Arguments::parse_from(["rustci", "logs", "spruce", "-f", "-n", "team"]);
        let Command::Logs(logs) = parsed.command else {
            panic!("not logs: {parsed:?}")
        };
        assert!(logs.follow);
        assert_eq!(logs.cluster.namespace.as_deref(), Some("team"));
    }
}
