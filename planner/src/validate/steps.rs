//! The steps of a job in the order in which they run: those of templates stand in the place of the
//! step that uses them.
//! Must not find templates: `uses` does.

use crds::Step;

use super::checker::{Checker, limit};
use super::step;
use super::uses::{self, Place};
use super::{StepNode, ValidEnv, ValidStep};
use crate::expression::{Condition, Scope, Template};

/// Steps that can be run.
#[derive(Default)]
pub(super) struct Steps {
    /// The steps, each with the name that it has in a run.
    pub(super) specs: Vec<Step>,
    /// What goes with each.
    pub(super) valid: Vec<ValidStep>,
    /// The steps as they are written, with the outputs of templates.
    pub(super) tree: Vec<StepNode>,
}

/// What the steps of a template take over from the step that uses it.
#[derive(Clone, Default)]
pub(super) struct Around<'a> {
    /// What their names begin with: `USER.`.
    prefix: String,
    /// Conditions that must hold as well.
    when: Vec<Condition>,
    image: Option<&'a Template>,
    working_dir: Option<&'a Template>,
}

/// Checks a list of steps and makes it ready to run. `env` is what they have around them.
pub(super) fn steps(
    check: &mut Checker,
    list: &str,
    raw: &[Step],
    scope: &Scope<'_>,
    env: &[ValidEnv],
    place: &Place<'_>,
    around: &Around<'_>,
) -> Steps {
    check.count(list, raw.len(), 1, limit::STEPS);
    check.unique(list, "step", raw.iter().map(|step| step.name.as_str()));
    let mut all = Steps::default();
    for (i, raw) in raw.iter().enumerate() {
        // Of something that is used only the first mistake is told; what follows would be work
        // without bounds where templates use templates.
        if place.is_used() && !check.problems.is_empty() {
            break;
        }
        let path = format!("{list}[{i}]");
        let valid = step::step(check, &path, raw, scope, env);
        let mut when = around.when.clone();
        when.extend(valid.step.when);
        match &raw.uses {
            None => all.add(raw, ValidStep { when, ..valid.step }, around),
            Some(target) => {
                let inner = Around {
                    prefix: format!("{}{}.", around.prefix, raw.name),
                    when,
                    image: valid.step.image.as_ref().or(around.image),
                    working_dir: valid.step.working_dir.as_ref().or(around.working_dir),
                };
                let used = (target, raw.with.as_slice());
                let env = (env, valid.own.as_slice());
                let made = uses::template(check, &path, used, scope, env, place, &inner);
                all.extend(&raw.name, made);
            }
        }
        if all.specs.len() > limit::STEPS {
            let message = "with those of its templates the job has too many steps";
            check.add(list, message, format!("use at most {}", limit::STEPS));
            break;
        }
    }
    all
}

impl Steps {
    fn add(&mut self, raw: &Step, step: ValidStep, around: &Around<'_>) {
        let name = format!("{}{}", around.prefix, raw.name);
        self.tree.push(StepNode::Script {
            name: raw.name.clone(),
            step: name.clone(),
        });
        self.specs.push(Step {
            name,
            ..raw.clone()
        });
        let working_dir = step.working_dir.or_else(|| around.working_dir.cloned());
        let image = step.image.or_else(|| around.image.cloned());
        self.valid.push(ValidStep {
            image,
            working_dir,
            ..step
        });
    }

    /// Adds the steps and outputs of a template; of one that is not known, only that it is there.
    fn extend(&mut self, name: &str, made: Option<(Self, Vec<(String, Template)>)>) {
        let name = name.to_owned();
        self.tree.push(match made {
            None => StepNode::Script {
                step: name.clone(),
                name,
            },
            Some((Self { specs, valid, tree }, outputs)) => {
                self.specs.extend(specs);
                self.valid.extend(valid);
                StepNode::Template {
                    name,
                    steps: tree,
                    outputs,
                }
            }
        });
    }
}
