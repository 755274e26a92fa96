//! What a job needs before its first step: directories, secrets, variables, spool, processes.
//! Must not run anything.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_messages::{EnvEntry, EnvSource, JobKey, Offer, StepSpec};
use thiserror::Error;

use crate::config::AgentConfig;
use crate::environment::{Environment, Variables};
use crate::mask::Secrets;
use crate::process::Processes;
use crate::spool::Spool;
use crate::step::StepCommand;

/// The shell of a step that names none.
pub const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-e"];

/// Why a job cannot begin. The text is for users.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    #[error("cannot make the working directory {}: {source}", .path.display())]
    Workdir {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot make the agent's directory {}: {source}", .path.display())]
    State {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot supervise processes: {0}")]
    Processes(std::io::Error),
}

/// One variable that is set, or unset.
pub(crate) type Setting = (OsString, Option<OsString>);

/// What a step runs in an annex.
pub(crate) struct AnnexCommand {
    /// The command without its environment.
    pub(crate) step: StepCommand,
    /// On top of the environment of the annex's image.
    pub(crate) env: Vec<Setting>,
    /// `HOME` where the annex has none.
    pub(crate) home: PathBuf,
}

/// Where and with what the steps of one job run.
pub(crate) struct Workplace {
    workdir: PathBuf,
    state_dir: PathBuf,
    home: PathBuf,
    inherited: Variables,
    /// What every step of the job has.
    of_job: Vec<Setting>,
    environment: Environment,
    pub(crate) secrets: Secrets,
    pub(crate) spool: Arc<Spool>,
    pub(crate) processes: Processes,
}

impl Workplace {
    pub(crate) fn prepare(
        config: &AgentConfig,
        job: &JobKey,
        offer: &Offer,
    ) -> Result<Self, SetupError> {
        let workdir = below(&config.workdir, &offer.workdir);
        std::fs::create_dir_all(&workdir).map_err(|source| SetupError::Workdir {
            path: workdir.clone(),
            source,
        })?;
        // A step's directory may be another one than the agent's, and `..` stays what it says.
        let workdir = std::path::absolute(&workdir).unwrap_or(workdir);
        let state_dir = std::path::absolute(&config.state_dir).unwrap_or_default();
        let home = state_dir.join("home");
        private_dir(&home)?;
        let environment = config.environment.clone();
        let of_job = job_variables(job, &workdir).map(|(name, value)| (name, Some(value)));
        let of_job = of_job.into_iter();
        let of_job = of_job.chain(settings(&offer.base_env, &environment));
        Ok(Self {
            of_job: of_job.collect(),
            workdir,
            inherited: environment.base(&home),
            home,
            secrets: secrets(offer, &environment),
            spool: Spool::new(state_dir.clone(), config.spool_bytes),
            processes: Processes::new(config.ownership).map_err(SetupError::Processes)?,
            state_dir,
            environment,
        })
    }

    /// Where the steps work.
    pub(crate) fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// Where step `index` writes its outputs.
    pub(crate) fn output_file(&self, index: u32) -> PathBuf {
        self.step_dir(index).join("output")
    }

    fn step_dir(&self, index: u32) -> PathBuf {
        self.state_dir.join(format!("step-{index}"))
    }

    /// What step `index` runs here.
    pub(crate) fn command(&self, index: u32, step: &StepSpec) -> StepCommand {
        let mut env = self.inherited.clone();
        for (name, value) in self.settings(index, step) {
            match value {
                Some(value) => drop(env.insert(name, value)),
                None => drop(env.remove(&name)),
            }
        }
        self.with_env(index, step, env.into_iter().collect())
    }

    /// What step `index` runs in an annex.
    pub(crate) fn annex_command(&self, index: u32, step: &StepSpec) -> AnnexCommand {
        AnnexCommand {
            step: self.with_env(index, step, Vec::new()),
            env: self.settings(index, step).collect(),
            home: self.home.clone(),
        }
    }

    /// What is set on top of the image's own variables; later ones win, and without a value a
    /// variable is unset.
    fn settings(&self, index: u32, step: &StepSpec) -> impl Iterator<Item = Setting> {
        let own = [
            ("RUSTCI_STEP".into(), Some((&step.name).into())),
            ("RUSTCI_OUTPUT".into(), Some(self.output_file(index).into())),
        ];
        let of_step: Vec<Setting> = settings(&step.env, &self.environment).collect();
        self.of_job.clone().into_iter().chain(of_step).chain(own)
    }

    fn with_env(&self, index: u32, step: &StepSpec, env: Vec<(OsString, OsString)>) -> StepCommand {
        let shell = if step.shell.is_empty() {
            DEFAULT_SHELL.map(str::to_owned).to_vec()
        } else {
            step.shell.clone()
        };
        StepCommand {
            index,
            shell,
            script: step.script.clone(),
            dir: self.step_dir(index),
            workdir: below(&self.workdir, &step.workdir),
            env,
        }
    }
}

/// Joining an empty path would add a slash.
fn below(dir: &Path, part: &str) -> PathBuf {
    match part {
        "" => dir.to_owned(),
        part => dir.join(part),
    }
}

fn private_dir(path: &Path) -> Result<(), SetupError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(|source| SetupError::State {
        path: path.to_owned(),
        source,
    })
}

fn job_variables(job: &JobKey, workdir: &Path) -> [(OsString, OsString); 6] {
    [
        ("RUSTCI_RUN".into(), (&job.run).into()),
        ("RUSTCI_JOB".into(), (&job.job).into()),
        ("RUSTCI_NAMESPACE".into(), (&job.namespace).into()),
        ("RUSTCI_ATTEMPT".into(), job.attempt.to_string().into()),
        ("RUSTCI_FENCE".into(), job.fence.to_string().into()),
        ("RUSTCI_WORKSPACE".into(), workdir.into()),
    ]
}

/// What entries set. A value with a zero byte cannot be in an environment and is left out, as is
/// an entry whose name has `=` in it.
fn settings<'a>(
    entries: &'a [EnvEntry],
    environment: &'a Environment,
) -> impl Iterator<Item = Setting> + 'a {
    let is_name = |name: &[u8]| !name.is_empty() && !name.contains(&b'=') && !name.contains(&0);
    let entries = entries
        .iter()
        .filter(move |entry| is_name(entry.name.as_bytes()));
    entries.map(|entry| {
        let value = value(entry, environment).filter(|value| !value.as_bytes().contains(&0));
        ((&entry.name).into(), value.map(OsStr::to_owned))
    })
}

fn value<'a>(entry: &'a EnvEntry, environment: &'a Environment) -> Option<&'a OsStr> {
    match entry.source.as_ref()? {
        EnvSource::Value(value) => Some(OsStr::new(value)),
        EnvSource::FromAgentEnv(name) => environment.source(name),
        // Put together before the step begins, and no secret.
        EnvSource::Parts(_) => None,
    }
}

fn secrets(offer: &Offer, environment: &Environment) -> Secrets {
    let of_steps = offer.steps.iter().flat_map(|step| &step.env);
    let secret = of_steps.chain(&offer.base_env).filter(|entry| entry.secret);
    Secrets::new(
        secret
            .filter_map(|entry| value(entry, environment))
            .map(OsStr::as_bytes),
    )
}
