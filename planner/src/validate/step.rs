//! Checks of one step, but for the steps of the template that it uses.
//! Must not look at other steps.

use crds::Step;

use super::checker::{Checker, limit};
use super::job::{condition, env, merged, shell, text};
use super::{ValidEnv, ValidStep};
use crate::expression::Scope;

/// A step that was checked, and its own variables.
pub(super) struct CheckedStep {
    pub(super) step: ValidStep,
    pub(super) own: Vec<ValidEnv>,
}

/// Checks one step, but for what it uses.
pub(super) fn step(
    check: &mut Checker,
    path: &str,
    step: &Step,
    scope: &Scope<'_>,
    shared: &[ValidEnv],
) -> CheckedStep {
    let Step {
        name,
        when,
        continue_on_error: _,
        run: _,
        uses: _,
        with: _,
        env: own,
        shell: words,
        image,
        working_dir,
        timeout,
    } = step;
    check.label(&format!("{path}.name"), name);
    let when = condition(check, &format!("{path}.when"), when, scope);
    shape(check, path, step);
    let field = format!("{path}.image");
    let image = text(check, &field, image, limit::IMAGE, scope);
    let own = env(check, &format!("{path}.env"), own, scope);
    shell(check, &format!("{path}.shell"), words);
    let field = format!("{path}.workingDir");
    let working_dir = text(check, &field, working_dir, limit::DIRECTORY, scope);
    let timeout = check.duration(&format!("{path}.timeout"), timeout.as_deref());
    CheckedStep {
        step: ValidStep {
            when: when.into_iter().collect(),
            image,
            working_dir,
            timeout,
            script: step.run.as_str().into(),
            shell: words.as_slice().into(),
            env: merged(shared, &own),
        },
        own,
    }
}

/// A step is a script, or uses a template and leaves to it what belongs to scripts.
fn shape(check: &mut Checker, path: &str, step: &Step) {
    check.text(&format!("{path}.run"), &step.run, 0, limit::SCRIPT);
    check.count(&format!("{path}.with"), step.with.len(), 0, limit::INPUTS);
    if step.uses.is_none() {
        if step.run.is_empty() {
            let message = format!("the step `{}` has neither run nor uses", step.name);
            check.add(
                &format!("{path}.run"),
                message,
                "set exactly one of the two",
            );
        }
        if !step.with.is_empty() {
            let message = "nothing takes these values: the step uses no template";
            check.add(&format!("{path}.with"), message, "set uses, or remove with");
        }
        return;
    }
    if !step.run.is_empty() {
        let remedy = "set exactly one of the two";
        check.add(&format!("{path}.uses"), "both run and uses are set", remedy);
    }
    for (is_set, field) in [
        (!step.shell.is_empty(), "shell"),
        (step.timeout.is_some(), "timeout"),
        (step.continue_on_error, "continueOnError"),
    ] {
        if is_set {
            let message = format!("a step that uses a template has no {field} of its own");
            let remedy = "remove it: it is written in the template";
            check.add(&format!("{path}.{field}"), message, remedy);
        }
    }
}
