//! Checks of one job: steps, environment, outputs, pod.
//! Must not look at other jobs: what it may use of them is in its scope.

use crds::{EnvSource, EnvVar, Job, JobOutput, PodOptions};

use super::checker::{Checker, limit};
use super::steps::{self, Around, Steps};
use super::uses::{self, Place};
use super::{
    Problem, StepNode, ValidEnv, ValidEnvValue, ValidJob, approval, matrix, overlay, resources,
    retry, service,
};
use crate::expression::{Condition, Mistake, Scope, ScopeStep, Template, Uses};

/// What to do about an expression in a field that evaluates none.
pub(super) const WRITE_IT: &str =
    "write the value itself; to choose by a matrix, write a job for each";

/// The variables around a job.
#[derive(Clone, Copy)]
pub(super) struct Environment<'a> {
    /// The pipeline's: the job's own win.
    pub(super) shared: &'a [ValidEnv],
    /// Those of the job's user: they win over the job's own.
    pub(super) over: &'a [ValidEnv],
}

/// Checks a job and makes it ready to run. Its `when` and axes know nothing of its matrix.
pub(super) fn job(
    check: &mut Checker,
    path: &str,
    job: &Job,
    outer: &Scope<'_>,
    around: Environment<'_>,
    place: &Place<'_>,
) -> ValidJob {
    let matrix_field = format!("{path}.matrix");
    let matrix = (job.matrix.as_ref()).map(|raw| matrix::matrix(check, &matrix_field, raw, outer));
    let axes = job.matrix.as_ref().map(matrix::names);
    let scope = &Scope {
        matrix: axes.as_deref(),
        ..outer.clone()
    };
    check.label(&format!("{path}.name"), &job.name);
    check.optional_text(
        &format!("{path}.runner"),
        job.runner.as_deref(),
        limit::LABEL,
    );
    if let Some(runner) = &job.runner {
        check.as_it_stands(&format!("{path}.runner"), runner, WRITE_IT);
    }
    if job.image.is_none() && job.runner.is_none() && job.uses.is_none() {
        let remedy = "set image, or name a Runner that has one";
        check.add(
            path,
            format!("the job `{}` has neither image nor runner", job.name),
            remedy,
        );
    }
    let image = text(
        check,
        &format!("{path}.image"),
        &job.image,
        limit::IMAGE,
        scope,
    );
    let field = format!("{path}.when");
    let when = condition(check, &field, &job.when, outer);
    let field = format!("{path}.approval");
    let approval = (job.approval.as_ref()).map(|raw| approval::approval(check, &field, raw, outer));
    let own = env(check, &format!("{path}.env"), &job.env, scope);
    let own = merged(&own, around.over);
    let services = service::services(check, &format!("{path}.services"), job, scope);
    shell(check, &format!("{path}.shell"), &job.shell);
    let field = format!("{path}.workingDir");
    let working_dir = text(check, &field, &job.working_dir, limit::DIRECTORY, scope);
    shape(check, path, job);
    let list = format!("{path}.steps");
    let env = merged(around.shared, &own);
    let root = Around::default();
    let steps = match job.uses.is_none() && !job.steps.is_empty() {
        true => steps::steps(check, &list, &job.steps, scope, &env, place, &root),
        false => Steps::default(),
    };
    let field = format!("{path}.outputs");
    let outputs = outputs(check, &field, &job.outputs, &steps.tree, scope);
    let timeout = check.duration(&format!("{path}.timeout"), job.timeout.as_deref());
    let mut pending_timeout = None;
    let mut node_selector = Vec::new();
    if let Some(options) = &job.pod {
        let at = format!("{path}.pod");
        pod(check, &at, options);
        let text = options.pending_timeout.as_deref();
        pending_timeout = text.and_then(|text| crate::duration::parse(text).ok());
        for (key, value) in &options.node_selector {
            let field = format!("{at}.nodeSelector[{key}]");
            node_selector.extend(template(check, &field, value, scope).map(|v| (key.clone(), v)));
        }
    }
    let mut valid = ValidJob {
        spec: Job {
            steps: steps.specs,
            ..job.clone()
        },
        is_finally: false,
        when,
        matrix,
        approval,
        retry: None,
        image,
        working_dir,
        node_selector,
        services,
        uses: None,
        timeout,
        pending_timeout,
        steps: steps.valid,
        tree: steps.tree,
        outputs,
    };
    if let Some(target) = &job.uses {
        let around = Environment {
            shared: around.shared,
            over: &own,
        };
        let used = uses::job(check, path, (target, &job.with), scope, around, place);
        if let Some(used) = used {
            valid = overlay::overlay(check, path, valid, used);
        }
    }
    let field = format!("{path}.retry");
    let (spec, retry) = (&valid.spec, valid.spec.retry.as_ref());
    valid.retry = retry.map(|raw| retry::retry(check, &field, spec, raw));
    valid.uses = uses(&valid);
    valid
}

/// A job has steps of its own, or uses another job and leaves to it what belongs to the steps.
fn shape(check: &mut Checker, path: &str, job: &Job) {
    let at = format!("{path}.uses");
    if job.uses.is_none() {
        if !job.with.is_empty() {
            let message = "nothing takes these values: the job uses no other";
            check.add(&format!("{path}.with"), message, "set uses, or remove with");
        }
        if job.steps.is_empty() {
            let message = format!("the job `{}` has neither steps nor uses", job.name);
            check.add(
                &format!("{path}.steps"),
                message,
                "set exactly one of the two",
            );
        }
        return;
    }
    check.count(&format!("{path}.with"), job.with.len(), 0, limit::PARAMS);
    if !job.steps.is_empty() {
        let remedy = "set exactly one of the two";
        check.add(&at, "both steps and uses are set", remedy);
    }
    for (is_set, field) in [
        (!job.outputs.is_empty(), "outputs"),
        (!job.shell.is_empty(), "shell"),
        (job.working_dir.is_some(), "workingDir"),
    ] {
        if is_set {
            let message = format!("a job that uses another one has no {field} of its own");
            let remedy = "remove it: it comes with the steps";
            check.add(&format!("{path}.{field}"), message, remedy);
        }
    }
}

/// What has to be prepared to evaluate a job's expressions, its own `when` left out.
fn uses(job: &ValidJob) -> Option<Uses> {
    let of_env = |value: &ValidEnv| match &value.value {
        ValidEnvValue::Template(template) => Some(template.clone()),
        ValidEnvValue::Source(_) => None,
    };
    let steps = || job.steps.iter();
    let of_steps = steps().flat_map(|step| step.env.iter().filter_map(of_env));
    let services = || job.services.iter();
    let of_services = services().flat_map(|service| service.env.iter().filter_map(of_env));
    let directories = job
        .working_dir
        .iter()
        .chain(steps().flat_map(|step| step.working_dir.iter().chain(&step.image)));
    let selectors = job.node_selector.iter().map(|(_, value)| value);
    let mut of_templates = Vec::new();
    (job.tree.iter()).for_each(|node| template_outputs(node, &mut of_templates));
    let outputs = job
        .outputs
        .iter()
        .map(|(_, value)| value)
        .chain(of_templates);
    let templates = job
        .image
        .iter()
        .chain(directories)
        .chain(services().map(|service| &service.image))
        .chain(selectors)
        .chain(outputs);
    let mut all: Option<Uses> = None;
    let mut add = |uses: &Uses| all.get_or_insert_default().add(uses);
    templates.for_each(|template| template.uses().for_each(&mut add));
    let variables = of_steps.chain(of_services);
    variables.for_each(|template| template.uses().for_each(&mut add));
    steps()
        .flat_map(|step| &step.when)
        .for_each(|when| add(when.uses()));
    all
}

fn template_outputs<'j>(node: &'j StepNode, all: &mut Vec<&'j Template>) {
    if let StepNode::Template { steps, outputs, .. } = node {
        all.extend(outputs.iter().map(|(_, value)| value));
        steps.iter().for_each(|node| template_outputs(node, all));
    }
}

/// A text of bounded length with expressions in it.
pub(super) fn text(
    check: &mut Checker,
    field: &str,
    value: &Option<String>,
    max: usize,
    scope: &Scope<'_>,
) -> Option<Template> {
    let value = value.as_ref()?;
    check.text(field, value, 1, max);
    template(check, field, value, scope)
}

/// A condition of bounded length.
pub(super) fn condition(
    check: &mut Checker,
    field: &str,
    value: &Option<String>,
    scope: &Scope<'_>,
) -> Option<Condition> {
    let value = value.as_ref()?;
    check.text(field, value, 1, limit::CONDITION);
    or_mistakes(check, field, Condition::parse(value, scope))
}

/// A compiled expression; or its mistakes, as problems of a field.
pub(super) fn or_mistakes<T>(
    check: &mut Checker,
    field: &str,
    parsed: Result<T, Vec<Mistake>>,
) -> Option<T> {
    match parsed {
        Ok(compiled) => Some(compiled),
        Err(mistakes) => {
            check
                .problems
                .extend(mistakes.into_iter().map(|mistake| Problem {
                    field: field.to_owned(),
                    message: mistake.message,
                    remedy: mistake.remedy,
                    column: Some(mistake.column),
                }));
            None
        }
    }
}

/// Checks one list of variables of steps: the agent puts their values together.
pub(super) fn env(
    check: &mut Checker,
    path: &str,
    env: &[EnvVar],
    scope: &Scope<'_>,
) -> Vec<ValidEnv> {
    let scope = Scope {
        files: true,
        ..scope.clone()
    };
    variables(check, path, env, &scope)
}

/// Checks one list of variables.
pub(super) fn variables(
    check: &mut Checker,
    path: &str,
    env: &[EnvVar],
    scope: &Scope<'_>,
) -> Vec<ValidEnv> {
    each_variable(check, path, env, |check, field, value| {
        template(check, field, value, scope).map(ValidEnvValue::Template)
    })
}

/// Checks a list of variables whose values count as they stand.
pub(super) fn plain_variables(check: &mut Checker, path: &str, env: &[EnvVar]) {
    each_variable(check, path, env, |_, _, _| None);
}

fn each_variable(
    check: &mut Checker,
    path: &str,
    env: &[EnvVar],
    mut text: impl FnMut(&mut Checker, &str, &str) -> Option<ValidEnvValue>,
) -> Vec<ValidEnv> {
    check.count(path, env.len(), 0, limit::ENV);
    check.unique(
        path,
        "variable",
        env.iter().map(|variable| variable.name.as_str()),
    );
    let mut valid = Vec::new();
    for (
        i,
        EnvVar {
            name,
            value,
            value_from,
        },
    ) in env.iter().enumerate()
    {
        let at = format!("{path}[{i}]");
        check.env_name(&format!("{at}.name"), name);
        let value = match (value, value_from) {
            (Some(value), None) => {
                let field = format!("{at}.value");
                check.text(&field, value, 0, limit::ENV_VALUE);
                text(check, &field, value)
            }
            (None, Some(from)) => {
                source(check, &format!("{at}.valueFrom"), from);
                Some(ValidEnvValue::Source(from.clone()))
            }
            (both, _) => {
                let message = match both {
                    Some(_) => format!("the variable `{name}` has both value and valueFrom"),
                    None => format!("the variable `{name}` has neither value nor valueFrom"),
                };
                check.add(&at, message, "set exactly one of the two");
                None
            }
        };
        valid.extend(value.map(|value| ValidEnv {
            name: name.clone(),
            value,
        }));
    }
    valid
}

fn source(check: &mut Checker, path: &str, source: &EnvSource) {
    let EnvSource {
        secret_key_ref: secret,
        config_map_key_ref: config_map,
    } = source;
    if secret.is_some() == config_map.is_some() {
        let message = match secret {
            Some(_) => "both secretKeyRef and configMapKeyRef are set",
            None => "neither secretKeyRef nor configMapKeyRef is set",
        };
        check.add(path, message, "set exactly one of the two");
    }
    if let Some(secret) = secret {
        check.text(
            &format!("{path}.secretKeyRef.name"),
            &secret.name,
            1,
            limit::OBJECT_NAME,
        );
        check.text(
            &format!("{path}.secretKeyRef.key"),
            &secret.key,
            1,
            limit::OBJECT_NAME,
        );
    }
    if let Some(map) = config_map {
        check.text(
            &format!("{path}.configMapKeyRef.name"),
            &map.name,
            1,
            limit::OBJECT_NAME,
        );
        check.text(
            &format!("{path}.configMapKeyRef.key"),
            &map.key,
            1,
            limit::OBJECT_NAME,
        );
    }
}

fn template(check: &mut Checker, field: &str, value: &str, scope: &Scope<'_>) -> Option<Template> {
    or_mistakes(check, field, Template::parse(value, scope))
}

/// Checks the outputs of a job or a template, that are made from the outputs of steps.
pub(super) fn outputs(
    check: &mut Checker,
    path: &str,
    declared: &[JobOutput],
    steps: &[StepNode],
    scope: &Scope<'_>,
) -> Vec<(String, Template)> {
    check.count(path, declared.len(), 0, limit::OUTPUTS);
    check.unique(
        path,
        "output",
        declared.iter().map(|output| output.name.as_str()),
    );
    let scope = Scope {
        steps: Some(steps.iter().map(scope_step).collect()),
        ..scope.clone()
    };
    let mut valid = Vec::new();
    for (i, output) in declared.iter().enumerate() {
        let field = format!("{path}[{i}].value");
        check.identifier(&format!("{path}[{i}].name"), &output.name);
        check.text(&field, &output.value, 0, limit::OUTPUT_VALUE);
        let value = template(check, &field, &output.value, &scope);
        valid.extend(value.map(|value| (output.name.clone(), value)));
    }
    valid
}

fn scope_step(node: &StepNode) -> ScopeStep<'_> {
    match node {
        StepNode::Script { name, .. } => ScopeStep {
            name,
            outputs: None,
        },
        StepNode::Template { name, outputs, .. } => ScopeStep {
            name,
            outputs: Some(outputs.iter().map(|(name, _)| name.as_str()).collect()),
        },
    }
}

/// Checks the words of a shell.
pub(super) fn shell(check: &mut Checker, path: &str, words: &[String]) {
    check.count(path, words.len(), 0, limit::SHELL);
    for (i, word) in words.iter().enumerate() {
        check.text(&format!("{path}[{i}]"), word, 0, limit::SHELL_WORD);
        check.as_it_stands(path, word, WRITE_IT);
    }
}

/// Checks the options of a pod.
pub(super) fn pod(check: &mut Checker, path: &str, pod: &PodOptions) {
    let PodOptions {
        resources,
        node_selector,
        tolerations,
        service_account_name,
        automount_service_account_token: _,
        image_pull_secrets,
        run_as_user,
        read_only_root_filesystem: _,
        pending_timeout,
    } = pod;
    check.count(
        &format!("{path}.nodeSelector"),
        node_selector.len(),
        0,
        limit::NODE_SELECTOR,
    );
    check.count(
        &format!("{path}.tolerations"),
        tolerations.len(),
        0,
        limit::TOLERATIONS,
    );
    resources::tolerations(check, &format!("{path}.tolerations"), tolerations);
    resources::resources(check, &format!("{path}.resources"), resources.as_ref());
    let account = service_account_name.as_deref();
    check.optional_text(
        &format!("{path}.serviceAccountName"),
        account,
        limit::OBJECT_NAME,
    );
    if let Some(account) = account {
        check.as_it_stands(&format!("{path}.serviceAccountName"), account, WRITE_IT);
    }
    let secrets = format!("{path}.imagePullSecrets");
    check.count(&secrets, image_pull_secrets.len(), 0, limit::PULL_SECRETS);
    check.unique(
        &secrets,
        "Secret",
        image_pull_secrets.iter().map(String::as_str),
    );
    for (i, name) in image_pull_secrets.iter().enumerate() {
        check.text(&format!("{secrets}[{i}]"), name, 1, limit::OBJECT_NAME);
        check.as_it_stands(&secrets, name, WRITE_IT);
    }
    check.number(
        &format!("{path}.runAsUser"),
        *run_as_user,
        i64::from(i32::MAX),
    );
    check.duration(
        &format!("{path}.pendingTimeout"),
        pending_timeout.as_deref(),
    );
}

/// Two lists of variables; of two with one name the later one counts, in the earlier one's place.
pub(super) fn merged(outer: &[ValidEnv], inner: &[ValidEnv]) -> Vec<ValidEnv> {
    let mut all = outer.to_vec();
    for variable in inner {
        match all.iter_mut().find(|known| known.name == variable.name) {
            Some(known) => *known = variable.clone(),
            None => all.push(variable.clone()),
        }
    }
    all
}
