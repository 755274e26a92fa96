//! The CEL rules and list kinds of the schemas, in words that users read.
//! Must not hold a rule that the API server's cost budget refuses: `xtask generate` and the
//! control-plane tests install every schema.

use serde_json::{Value, json};

/// One entry of `x-kubernetes-validations`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// CEL expression over `self`, and `oldSelf` in an update.
    pub(crate) rule: &'static str,
    /// A sentence that says what is wanted and what to do.
    pub(crate) message: &'static str,
}

/// The value of `x-kubernetes-validations`.
pub(crate) fn rules(list: &[Rule]) -> Value {
    list.iter()
        .map(|rule| json!({"rule": rule.rule, "message": rule.message}))
        .collect()
}

/// Most jobs of a pipeline. jobs x jobs x needs must stay below the 10,000,000 units that one rule
/// may be estimated at, see [`NEEDS_EXIST`].
pub(crate) const MAX_JOBS: usize = 400;
/// Most `finally` jobs of a pipeline.
pub(crate) const MAX_FINALLY: usize = 16;
/// Most jobs that one job may need.
pub(crate) const MAX_NEEDS: usize = 50;
/// Most steps of a job.
pub(crate) const MAX_STEPS: usize = 64;
/// Most environment variables in one list.
pub(crate) const MAX_ENV: usize = 64;
/// Most services of a job.
pub(crate) const MAX_SERVICES: usize = 8;
/// Longest name of a service: its container has a longer one.
pub(crate) const MAX_SERVICE_NAME: usize = 40;
/// Most outputs of a job.
pub(crate) const MAX_OUTPUTS: usize = 32;
/// Most users, and most groups, that may approve a job.
pub(crate) const MAX_SUBJECTS: usize = 32;
/// Longest name of a user or group.
pub(crate) const MAX_SUBJECT: usize = 512;
/// Most groups that a user names in an approval.
pub(crate) const MAX_USER_GROUPS: usize = 256;
/// Longest question and answer of an approval.
pub(crate) const MAX_COMMENT: usize = 512;
/// Most step templates of a pipeline.
pub(crate) const MAX_TEMPLATES: usize = 32;
/// Most inputs, and most environment variables, of a step template.
pub(crate) const MAX_INPUTS: usize = 32;
/// Most parameters.
pub(crate) const MAX_PARAMS: usize = 64;
/// Longest DNS label, and longest value of a label.
pub(crate) const MAX_LABEL: usize = 63;
/// Longest name of a Kubernetes object.
pub(crate) const MAX_OBJECT_NAME: usize = 253;
/// Longest identifier.
pub(crate) const MAX_IDENTIFIER: usize = 63;
/// Most axes of a matrix.
pub(crate) const MAX_AXES: usize = 8;
/// Most combinations of a matrix, and most values of an axis.
pub(crate) const MAX_MATRIX: usize = 256;
/// Longest condition.
pub(crate) const MAX_CONDITION: usize = 1024;
/// Longest duration, such as `365d23h59m59s`.
pub(crate) const MAX_DURATION: usize = 16;
/// Pattern of the names of environment variables; a pattern costs nothing of the CEL budget.
pub(crate) const ENV_NAME: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// Names of jobs and steps.
pub(crate) const LABEL: Rule = Rule {
    rule: "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    message: "This name must be a DNS label: use lower-case letters, digits and '-' only, \
              with a letter or digit at both ends.",
};

/// Names of outputs and parameters.
pub(crate) const IDENTIFIER: Rule = Rule {
    rule: "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
    message: "This name must be an identifier: use letters, digits and '_' only, \
              and do not start with a digit.",
};

/// Times.
pub(crate) const DURATION: Rule = Rule {
    rule: "self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && self.matches('[1-9]')",
    message: "This must be a time longer than zero: write for example 90s, 20m, 1h30m or 14d, \
              units from large to small.",
};

/// A name that becomes a label's value.
pub(crate) const OBJECT_NAME: Rule = Rule {
    rule: "self.metadata.name.size() <= 63",
    message: "The name has more than 63 characters: choose a shorter one, since it is used as \
              a label.",
};

/// `value` or `valueFrom`.
pub(crate) const ONE_VALUE: Rule = Rule {
    rule: "has(self.value) != has(self.valueFrom)",
    message: "Set exactly one of value and valueFrom.",
};

/// `RUSTCI_` is ours.
pub(crate) const ENV_NOT_RESERVED: Rule = Rule {
    rule: "!self.name.startsWith('RUSTCI_')",
    message: "Names that start with RUSTCI_ are set by RustCI itself: choose another name.",
};

/// `secretKeyRef` or `configMapKeyRef`.
pub(crate) const ONE_SOURCE: Rule = Rule {
    rule: "has(self.secretKeyRef) != has(self.configMapKeyRef)",
    message: "Set exactly one of secretKeyRef and configMapKeyRef.",
};

/// One way to see that a service is ready.
pub(crate) const ONE_PROBE: Rule = Rule {
    rule: "has(self.tcpPort) ? !has(self.httpGet) && !has(self.exec) : \
           has(self.httpGet) != has(self.exec)",
    message: "Set exactly one of tcpPort, httpGet and exec.",
};

/// A job needs something to run in.
pub(crate) const JOB_HAS_IMAGE: Rule = Rule {
    rule: "has(self.image) || has(self.runner) || has(self.uses)",
    message: "The job has neither image nor runner: set image, or name a Runner that has one.",
};

/// A job has steps of its own, or those of another one.
pub(crate) const JOB_STEPS_OR_USES: Rule = Rule {
    rule: "has(self.steps) != has(self.uses)",
    message: "Set exactly one of steps and uses.",
};

/// What belongs to the steps comes with them.
pub(crate) const JOB_WITH_USES: Rule = Rule {
    rule: "!has(self.uses) || !(has(self.outputs) || has(self.shell) || has(self.workingDir))",
    message: "The job uses another one: remove outputs, shell and workingDir, which come with it.",
};

/// A step is a script, or the steps of a template.
pub(crate) const STEP_RUN_OR_USES: Rule = Rule {
    rule: "has(self.run) != has(self.uses)",
    message: "Set exactly one of run and uses.",
};

/// What one process has, several do not.
pub(crate) const STEP_WITH_USES: Rule = Rule {
    rule: "!has(self.uses) || !(has(self.shell) || has(self.timeout) || \
           (has(self.continueOnError) && self.continueOnError))",
    message: "The step uses a template: remove shell, timeout and continueOnError, which are \
              written in the template.",
};

/// Values go somewhere.
pub(crate) const WITH_NEEDS_USES: Rule = Rule {
    rule: "!has(self.with) || has(self.uses)",
    message: "There are values in with and nothing that takes them: set uses, or remove with.",
};

/// The shortest cycle.
pub(crate) const NOT_ITSELF: Rule = Rule {
    rule: "!has(self.needs) || !(self.name in self.needs)",
    message: "The job needs itself: remove its own name from needs.",
};

/// `needs` within a pipeline. The names are collected once: at run time the rule costs one unit for
/// each pair of a need and a job.
pub(crate) const NEEDS_EXIST: Rule = Rule {
    rule: "[self.jobs.map(j, j.name)].all(names, \
           self.jobs.all(j, !has(j.needs) || sets.contains(names, j.needs)))",
    message: "A job needs a job that is not in jobs: correct the name in needs, or add that job.",
};

/// A Pipeline is for something.
pub(crate) const JOBS_OR_TEMPLATES: Rule = Rule {
    rule: "self.jobs.size() > 0 || \
           (has(self.stepTemplates) && self.stepTemplates.size() > 0)",
    message: "The Pipeline has neither jobs nor stepTemplates: give at least one job.",
};

/// A trigger starts jobs.
pub(crate) const TRIGGERS_NEED_JOBS: Rule = Rule {
    rule: "!has(self.triggers) || self.jobs.size() > 0",
    message: "There is nothing to start: give the Pipeline a job, or remove triggers.",
};

/// Keeps [`NEEDS_EXIST`] below the 1,000,000 units that the API server grants one rule.
pub(crate) const NEEDS_BOUNDED: Rule = Rule {
    rule: "self.jobs.map(j, has(j.needs) ? j.needs.size() : 0).sum() * self.jobs.size() <= 900000",
    message: "The jobs have too many needs in all: with 400 jobs there may be 2250, with fewer \
              jobs more. Leave out needs that follow from other needs.",
};

/// `finally` jobs all start when the others have ended.
pub(crate) const FINALLY_WITHOUT_NEEDS: Rule = Rule {
    rule: "self.all(j, !has(j.needs) || j.needs.size() == 0)",
    message: "A finally job has needs: remove them, since finally jobs start when all other \
              jobs have ended.",
};

/// `finally` jobs run in any case.
pub(crate) const FINALLY_WITHOUT_APPROVAL: Rule = Rule {
    rule: "self.all(j, !has(j.approval))",
    message: "A finally job asks for approval: remove approval, since finally jobs run in any \
              case.",
};

/// An answer is given once.
pub(crate) const APPROVAL_KEEPS_VALUE: Rule = Rule {
    rule: "self == oldSelf",
    message: "An approval cannot change: create another one.",
};

/// One name space for jobs and `finally` jobs.
pub(crate) const FINALLY_NAMES: Rule = Rule {
    rule: "!has(self.finally) || self.finally.all(f, !self.jobs.exists(j, j.name == f.name))",
    message: "A finally job has the name of another job: give it a name of its own.",
};

/// `pipelineRef` or `pipelineSpec`.
pub(crate) const ONE_PIPELINE: Rule = Rule {
    rule: "has(self.pipelineRef) != has(self.pipelineSpec)",
    message: "Set exactly one of pipelineRef and pipelineSpec.",
};

/// `failed` or `fromJob`.
pub(crate) const ONE_START: Rule = Rule {
    rule: "!(has(self.failed) && self.failed && has(self.fromJob))",
    message: "Set only one of failed and fromJob: fromJob also runs again what did not succeed.",
};

/// Fields of a run may not appear nor go.
pub(crate) const RUN_KEEPS_FIELDS: Rule = Rule {
    rule: "has(self.pipelineRef) == has(oldSelf.pipelineRef) && \
           has(self.pipelineSpec) == has(oldSelf.pipelineSpec) && \
           has(self.params) == has(oldSelf.params) && \
           has(self.env) == has(oldSelf.env) && \
           has(self.source) == has(oldSelf.source) && \
           has(self.retryOf) == has(oldSelf.retryOf)",
    message: "The spec of a run cannot change, but for suspend and cancel: create another run.",
};

/// A field of a run that may not change.
pub(crate) const RUN_KEEPS_VALUE: Rule = Rule {
    rule: "self == oldSelf",
    message: "The spec of a run cannot change, but for suspend and cancel: create another run.",
};

/// Lists by name compare without order, but the order of steps counts.
pub(crate) const RUN_KEEPS_ORDER: Rule = Rule {
    rule: "self.jobs.map(j, j.name) == oldSelf.jobs.map(j, j.name) && \
           self.jobs.map(j, has(j.steps) ? j.steps.map(s, s.name) : []) == \
           oldSelf.jobs.map(j, has(j.steps) ? j.steps.map(s, s.name) : []) && \
           (!has(self.stepTemplates) || !has(oldSelf.stepTemplates) || \
           self.stepTemplates.map(t, t.steps.map(s, s.name)) == \
           oldSelf.stepTemplates.map(t, t.steps.map(s, s.name)))",
    message: "The spec of a run cannot change, but for suspend and cancel: create another run.",
};

/// Cancel is final.
pub(crate) const CANCEL_STAYS: Rule = Rule {
    rule: "self || !oldSelf",
    message: "A cancelled run stays cancelled: create another run.",
};
