//! What a job or step takes from elsewhere: found, given its values, and checked in its own scope.
//! Must not put a value into a text: what is used closes over the values of its user.

use std::fmt;
use std::sync::Arc;

use crds::{InputValue, JobUse, Param, ParamType, PipelineSpec, StepTemplate, TemplateUse};

use super::checker::{Checker, limit};
use super::job::{self, Environment};
use super::steps::{self, Around, Steps};
use super::{ValidEnv, ValidJob};
use crate::expression::{Binding, Bound, Frame, FrameKind, Scope, Template, Type};
use crate::names::nearest;
use crate::params::{self, show, show_all};
use crate::reuse::{Library, MAX_DEPTH, find_job, find_template};

/// Where a job or step is written: what it can use from there.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) library: &'a Library<'a>,
    /// The pipeline that it is written in; without a name for the one that is checked.
    pipeline: Option<&'a str>,
    spec: &'a PipelineSpec,
    /// What is used around it, the outermost first.
    chain: Vec<Link<'a>>,
    is_used: bool,
}

/// A job or template that is being used.
#[derive(Clone, Eq, PartialEq)]
struct Link<'a> {
    pipeline: Option<&'a str>,
    kind: FrameKind,
    name: &'a str,
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipeline = self.pipeline.map(|name| format!("{name}/"));
        write!(f, "{}{}", pipeline.unwrap_or_default(), self.name)
    }
}

impl<'a> Place<'a> {
    /// In the pipeline that is checked.
    pub(super) fn new(library: &'a Library<'a>, spec: &'a PipelineSpec) -> Self {
        Self {
            library,
            pipeline: None,
            spec,
            chain: Vec::new(),
            is_used: false,
        }
    }

    /// In something that is used from there. The error says why that goes too far.
    fn enter(
        &self,
        kind: FrameKind,
        pipeline: Option<&'a str>,
        spec: &'a PipelineSpec,
        name: &'a str,
    ) -> Result<Self, (String, String)> {
        let link = Link {
            pipeline,
            kind,
            name,
        };
        let mut chain = self.chain.clone();
        let begin = chain.iter().position(|known| *known == link);
        chain.push(link);
        let path = |from: usize| {
            let names: Vec<String> = chain[from..].iter().map(Link::to_string).collect();
            names.join(" uses ")
        };
        if let Some(begin) = begin {
            let message = format!("what is used uses itself: {}", path(begin));
            return Err((message, "remove one of these uses".to_owned()));
        }
        if chain.len() > MAX_DEPTH {
            let message = format!("it goes {} levels deep: {}", chain.len(), path(0));
            return Err((message, format!("use at most {MAX_DEPTH} levels")));
        }
        Ok(Self {
            library: self.library,
            pipeline,
            spec,
            chain,
            is_used: true,
        })
    }

    /// In a template of the pipeline itself, that nobody uses.
    pub(super) fn in_template(&self, name: &'a str) -> Self {
        let mut place = self.clone();
        place.chain.push(Link {
            pipeline: None,
            kind: FrameKind::Template,
            name,
        });
        place
    }

    /// True in something that is used: only the first mistake there is told.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }
}

/// A pipeline of the library; none when it is not known, which is told unless it may be there.
fn pipeline<'a>(
    check: &mut Checker,
    field: &str,
    name: &str,
    place: &Place<'a>,
) -> Option<(&'a str, &'a PipelineSpec)> {
    check.text(field, name, 1, limit::LABEL);
    if let Some(entry) = place.library.find(name) {
        let mut names = place.library.names();
        return Some((names.find(|known| *known == name)?, entry.spec));
    }
    if !place.library.is_open() {
        let remedy = match nearest(name, place.library.names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "correct the name, or add that Pipeline".to_owned(),
        };
        check.add(field, format!("there is no Pipeline `{name}`"), remedy);
    }
    None
}

/// The job that another one uses, with the values that it is given. None when it is not known or
/// wrong, which has been told.
pub(super) fn job(
    check: &mut Checker,
    path: &str,
    (uses, with): (&JobUse, &[InputValue]),
    scope: &Scope<'_>,
    env: Environment<'_>,
    place: &Place<'_>,
) -> Option<ValidJob> {
    let at = format!("{path}.uses");
    check.text(&format!("{at}.job"), &uses.job, 1, limit::LABEL);
    let found = pipeline(check, &format!("{at}.pipeline"), &uses.pipeline, place);
    let Some((name, spec)) = found else {
        texts(check, path, with, scope);
        return None;
    };
    let Some((target_path, target)) = find_job(spec, &uses.job) else {
        texts(check, path, with, scope);
        let jobs = spec.jobs.iter().chain(&spec.finally_jobs);
        let remedy = suggest(&uses.job, jobs.map(|job| job.name.as_str()), "its jobs are");
        let message = format!("the Pipeline `{name}` has no job `{}`", uses.job);
        check.add(&format!("{at}.job"), message, remedy);
        return None;
    };
    let inside = match place.enter(FrameKind::Job, Some(name), spec, &target.name) {
        Ok(inside) => inside,
        Err((message, remedy)) => {
            check.add(&at, message, remedy);
            return None;
        }
    };
    let what = format!("the job `{}` of the Pipeline `{name}`", uses.job);
    let frame = bind(
        check,
        path,
        &what,
        FrameKind::Job,
        &spec.params,
        with,
        scope,
    );
    let params = types(&spec.params);
    let scope = Scope {
        params: &params,
        frame: Some(frame),
        ..Scope::default()
    };
    let mut inner = Checker::default();
    let shared = job::env(&mut inner, "spec.env", &spec.env, &scope);
    let shared = job::merged(env.shared, &shared);
    let env = Environment {
        shared: &shared,
        over: env.over,
    };
    let valid = job::job(&mut inner, &target_path, target, &scope, env, &inside);
    told(check, &at, &what, inner).then_some(valid)
}

/// The steps of a template in the place of the step that uses it, and how its outputs are made.
/// None when it is not known or wrong, which has been told.
pub(super) fn template(
    check: &mut Checker,
    path: &str,
    (uses, with): (&TemplateUse, &[InputValue]),
    scope: &Scope<'_>,
    (shared, own): (&[ValidEnv], &[ValidEnv]),
    place: &Place<'_>,
    around: &Around<'_>,
) -> Option<(Steps, Vec<(String, Template)>)> {
    let at = format!("{path}.uses");
    check.text(&format!("{at}.template"), &uses.template, 1, limit::LABEL);
    let found = match &uses.pipeline {
        None => Some((place.pipeline, place.spec)),
        Some(name) => pipeline(check, &format!("{at}.pipeline"), name, place)
            .map(|(name, spec)| (Some(name), spec)),
    };
    let Some((name, spec)) = found else {
        texts(check, path, with, scope);
        return None;
    };
    let Some((target_path, target)) = find_template(spec, &uses.template) else {
        texts(check, path, with, scope);
        let names = spec.step_templates.iter().map(|one| one.name.as_str());
        let remedy = suggest(&uses.template, names, "its templates are");
        let message = format!("{} has no template `{}`", owner(name), uses.template);
        check.add(&format!("{at}.template"), message, remedy);
        return None;
    };
    let inside = match place.enter(FrameKind::Template, name, spec, &target.name) {
        Ok(inside) => inside,
        Err((message, remedy)) => {
            check.add(&at, message, remedy);
            return None;
        }
    };
    let what = format!("the template `{}` of {}", uses.template, owner(name));
    let frame = bind(
        check,
        path,
        &what,
        FrameKind::Template,
        &target.inputs,
        with,
        scope,
    );
    let mut inner = Checker::default();
    let parts = Parts {
        path: &target_path,
        frame: Some(frame),
        env: (shared, own),
        around,
    };
    let made = self::parts(&mut inner, target, parts, &inside);
    // The templates of the pipeline itself are checked, and their mistakes told, on their own.
    let is_known = name.is_none() && (check.problems.iter()).any(is_of_template);
    if is_known && !inner.problems.is_empty() {
        return None;
    }
    told(check, &at, &what, inner).then_some(made)
}

fn is_of_template(problem: &super::Problem) -> bool {
    problem.field.contains(".stepTemplates")
}

/// Where a template is compiled.
pub(super) struct Parts<'p> {
    pub(super) path: &'p str,
    pub(super) frame: Option<Arc<Frame>>,
    /// The job's variables, and those of the step that uses the template.
    pub(super) env: (&'p [ValidEnv], &'p [ValidEnv]),
    pub(super) around: &'p Around<'p>,
}

/// The steps and outputs of a template.
pub(super) fn parts(
    check: &mut Checker,
    template: &StepTemplate,
    parts: Parts<'_>,
    place: &Place<'_>,
) -> (Steps, Vec<(String, Template)>) {
    let Parts {
        path,
        frame,
        env: (shared, own),
        around,
    } = parts;
    let inputs = types(&template.inputs);
    let scope = Scope {
        inputs: Some(&inputs),
        frame,
        ..Scope::default()
    };
    let env = job::env(check, &format!("{path}.env"), &template.env, &scope);
    let env = job::merged(&job::merged(shared, &env), own);
    let list = format!("{path}.steps");
    let steps = steps::steps(check, &list, &template.steps, &scope, &env, place, around);
    let field = format!("{path}.outputs");
    let outputs = job::outputs(check, &field, &template.outputs, &steps.tree, &scope);
    (steps, outputs)
}

/// Tells that what is used is wrong, by its first mistake; true when it is right.
fn told(check: &mut Checker, field: &str, what: &str, inner: Checker) -> bool {
    let Some(first) = inner.problems.into_iter().next() else {
        return true;
    };
    let remedy = match first.remedy.is_empty() {
        true => "correct it there".to_owned(),
        false => first.remedy.clone(),
    };
    let said = super::Problem {
        remedy: String::new(),
        ..first
    };
    check.add(field, format!("{what} can't be used: {said}"), remedy);
    false
}

/// Checks the values that a job or template is given against what it declares.
fn bind(
    check: &mut Checker,
    path: &str,
    what: &str,
    kind: FrameKind,
    declared: &[Param],
    with: &[InputValue],
    scope: &Scope<'_>,
) -> Arc<Frame> {
    let noun = noun(kind);
    unique(check, path, with);
    for (i, given) in with.iter().enumerate() {
        let known = || declared.iter().map(|param| param.name.as_str());
        if known().all(|name| name != given.name) {
            let list = format!("its {noun}s are");
            let remedy = match declared.is_empty() {
                true => "remove it".to_owned(),
                false => suggest(&given.name, known(), &list),
            };
            let message = format!("{what} has no {noun} `{}`", given.name);
            check.add(&format!("{path}.with[{i}].name"), message, remedy);
        }
    }
    let mut bindings = Vec::new();
    for param in declared {
        let found = with.iter().position(|given| given.name == param.name);
        let bound = match (found, &param.default) {
            (Some(i), _) => {
                let field = format!("{path}.with[{i}].value");
                value(check, &field, noun, param, &with[i], scope)
            }
            (None, Some(default)) => Some(Bound::Value(default.clone())),
            (None, None) => {
                let message = format!("{what} needs a value for its {noun} `{}`", param.name);
                let remedy = format!("add {{name: {}, value: ...}} to with", param.name);
                check.add(&format!("{path}.uses"), message, remedy);
                None
            }
        };
        bindings.extend(bound.map(|bound| Binding {
            name: param.name.clone(),
            declared: param.param_type,
            allowed: param.allowed.clone(),
            bound,
        }));
    }
    Frame::new(kind, bindings)
}

fn noun(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Job => "param",
        FrameKind::Template => "input",
    }
}

/// One value against its declaration.
fn value(
    check: &mut Checker,
    field: &str,
    noun: &str,
    param: &Param,
    given: &InputValue,
    scope: &Scope<'_>,
) -> Option<Bound> {
    check.param_value(field, &given.value);
    let of_param = format!("the {noun} `{}`", param.name);
    let crds::ParamValue::String(text) = &given.value else {
        return literal(check, field, &of_param, param, &given.value);
    };
    let template = job::or_mistakes(check, field, Template::parse(text, scope))?;
    if let Some(plain) = template.plain() {
        let value = crds::ParamValue::String(plain.to_owned());
        return literal(check, field, &of_param, param, &value);
    }
    let (wanted, word) = match param.param_type {
        ParamType::String => return Some(Bound::Text(template)),
        ParamType::Integer => (Type::Int, "int"),
        ParamType::Boolean => (Type::Bool, "bool"),
    };
    match template.single_type() {
        Some(found) if found == wanted || matches!(found, Type::Any) => Some(Bound::Text(template)),
        Some(Type::UInt) if wanted == Type::Int => Some(Bound::Text(template)),
        Some(found) => {
            let message = format!("{of_param} is {wanted}, and the expression gives {found}");
            check.add(field, message, format!("convert it with {word}()"));
            None
        }
        None => {
            let message = format!("{of_param} is {wanted}, and this is text");
            let remedy = "write one expression and nothing around it";
            check.add(field, message, remedy);
            None
        }
    }
}

fn literal(
    check: &mut Checker,
    field: &str,
    of_param: &str,
    param: &Param,
    value: &crds::ParamValue,
) -> Option<Bound> {
    if let Some(message) = params::type_mismatch(param.param_type, value) {
        let message = format!("{of_param}: {message}");
        check.add(field, message, "give a value of the declared type");
        return None;
    }
    if !param.allowed.is_empty() && !param.allowed.contains(value) {
        let message = format!("{of_param} may not be {}", show(value));
        check.add(
            field,
            message,
            format!("use one of {}", show_all(&param.allowed)),
        );
        return None;
    }
    Some(Bound::Value(value.clone()))
}

/// The values for something that is not known: their names and expressions can still be checked.
fn texts(check: &mut Checker, path: &str, with: &[InputValue], scope: &Scope<'_>) {
    unique(check, path, with);
    for (i, given) in with.iter().enumerate() {
        let field = format!("{path}.with[{i}].value");
        check.param_value(&field, &given.value);
        if let crds::ParamValue::String(text) = &given.value {
            let _ = job::or_mistakes(check, &field, Template::parse(text, scope));
        }
    }
}

fn unique(check: &mut Checker, path: &str, with: &[InputValue]) {
    let list = format!("{path}.with");
    check.unique(&list, "value", with.iter().map(|given| given.name.as_str()));
    for (i, given) in with.iter().enumerate() {
        check.identifier(&format!("{list}[{i}].name"), &given.name);
    }
}

fn owner(pipeline: Option<&str>) -> String {
    pipeline.map_or_else(
        || "this Pipeline".to_owned(),
        |name| format!("the Pipeline `{name}`"),
    )
}

fn types(declared: &[Param]) -> Vec<(&str, Type)> {
    let declared = declared.iter();
    declared
        .map(|param| (param.name.as_str(), Type::from(param.param_type)))
        .collect()
}

fn suggest<'a>(
    wrong: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    otherwise: &str,
) -> String {
    match nearest(wrong, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            let known: Vec<_> = known.take(20).collect();
            match known.is_empty() {
                true => "add it there".to_owned(),
                false => format!("{otherwise} {}", known.join(", ")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
