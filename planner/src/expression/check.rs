//! Finds names in an expression that do not exist, and what would make it costly.
//! Must not evaluate anything.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};
use cel::{IdedExpr as Root, Program};

use super::{Mistake, Scope};
use crate::names::nearest;

/// Functions and methods that expressions may call.
const FUNCTIONS: [&str; 14] = [
    "bool",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "matches",
    "orValue",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];
/// Names of types, as in `type(params.n) == int`.
const TYPES: [&str; 8] = [
    "bool", "bytes", "double", "int", "list", "map", "string", "uint",
];
const ROOTS: [&str; 5] = ["jobs", "params", "pipeline", "run", "steps"];

/// Every mistake, in the order of the text.
pub(super) fn check(program: &Program, source: &str, scope: &Scope<'_>) -> Vec<Mistake> {
    let root: &Root = program.expression();
    let mut checker = Checker {
        program,
        source,
        scope,
        bound: Vec::new(),
        mistakes: Vec::new(),
    };
    checker.expression(root);
    checker.mistakes.sort_by_key(|mistake| mistake.column);
    checker.mistakes
}

struct Checker<'a> {
    program: &'a Program,
    source: &'a str,
    scope: &'a Scope<'a>,
    /// Variables of the loops around the present place.
    bound: Vec<&'a str>,
    mistakes: Vec<Mistake>,
}

impl<'a> Checker<'a> {
    fn expression(&mut self, expr: &'a IdedExpr) {
        if let Some(path) = path(expr) {
            return self.path(&path);
        }
        match &expr.expr {
            Expr::Call(call) => self.call(expr.id, call),
            Expr::Comprehension(comprehension) => self.comprehension(expr.id, comprehension),
            Expr::List(list) => list.elements.iter().for_each(|item| self.expression(item)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(fields) => {
                self.add(
                    expr.id,
                    format!("`{}` is no type", fields.type_name),
                    String::new(),
                );
                fields
                    .entries
                    .iter()
                    .for_each(|entry| self.entry(&entry.expr));
            }
            Expr::Select(select) => self.expression(&select.operand),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key);
                self.expression(&entry.value);
            }
        }
    }

    fn call(&mut self, id: u64, call: &'a CallExpr) {
        let name = call.func_name.as_str();
        let is_operator = name.starts_with(|c: char| !c.is_ascii_alphabetic());
        if !is_operator && !FUNCTIONS.contains(&name) {
            let remedy = suggest(name, FUNCTIONS, "the functions are");
            self.add(id, format!("there is no function `{name}`"), remedy);
        }
        let before = self.mistakes.len();
        for part in call.target.iter().map(|target| &**target).chain(&call.args) {
            self.expression(part);
            // `jobs.my-job` is a subtraction: what stands after the dash is no second mistake.
            if name == operators::SUBSTRACT && self.mistakes.len() > before {
                break;
            }
        }
    }

    fn comprehension(&mut self, id: u64, comprehension: &'a ComprehensionExpr) {
        self.expression(&comprehension.iter_range);
        if !self.bound.is_empty() {
            let remedy = "compute the value in a step".to_owned();
            return self.add(id, "a loop stands in a loop".to_owned(), remedy);
        }
        self.bound.push(&comprehension.iter_var);
        self.bound.push(&comprehension.accu_var);
        self.bound.extend(comprehension.iter_var2.as_deref());
        self.expression(&comprehension.accu_init);
        self.expression(&comprehension.loop_cond);
        self.expression(&comprehension.loop_step);
        self.expression(&comprehension.result);
        self.bound.clear();
    }

    fn path(&mut self, path: &Path<'a>) {
        if self.bound.contains(&path.root) {
            return;
        }
        match path.root {
            "params" => self.param(path),
            "run" => self.fields(path, "run", &["name", "namespace"]),
            "pipeline" => self.fields(path, "pipeline", &["name"]),
            "jobs" => self.job(path),
            "steps" => self.step(path),
            name if path.fields.is_empty() && TYPES.contains(&name) => {}
            name => {
                let remedy = suggest(name, ROOTS, "the names are");
                self.add(path.id, format!("there is no `{name}`"), remedy);
            }
        }
    }

    fn param(&mut self, path: &Path<'a>) {
        let Some(name) = path.fields.first() else {
            return;
        };
        if !self.scope.params.contains(name) {
            let remedy = match self.scope.params.is_empty() {
                true => "declare it in spec.params".to_owned(),
                false => suggest(name, self.scope.params.clone(), "the params are"),
            };
            self.add(path.id, format!("no param is named `{name}`"), remedy);
        } else if let Some(field) = path.fields.get(1) {
            self.add(
                path.id,
                format!("the param `{name}` has no field `{field}`"),
                String::new(),
            );
        }
    }

    fn fields(&mut self, path: &Path<'a>, of: &str, known: &[&str]) {
        let Some(field) = path.fields.first() else {
            return;
        };
        if !known.contains(field) {
            let remedy = suggest(field, known.iter().copied(), "the fields are");
            self.add(path.id, format!("`{of}` has no field `{field}`"), remedy);
        }
    }

    fn job(&mut self, path: &Path<'a>) {
        let Some(name) = path.fields.first() else {
            return;
        };
        let known = self.scope.jobs.iter().find(|(job, _)| job == name);
        let Some((_, outputs)) = known else {
            return self.unknown_job(path.id, name);
        };
        match path.fields.get(1) {
            None | Some(&"result") => {}
            Some(&"outputs") => {
                let Some(output) = path.fields.get(2) else {
                    return;
                };
                if !outputs.contains(output) {
                    let remedy = match outputs.is_empty() {
                        true => format!("add it to the outputs of the job `{name}`"),
                        false => suggest(output, outputs.iter().copied(), "its outputs are"),
                    };
                    self.add(
                        path.id,
                        format!("the job `{name}` has no output `{output}`"),
                        remedy,
                    );
                }
            }
            Some(field) => {
                let remedy = suggest(field, ["result", "outputs"], "the fields are");
                self.add(path.id, format!("a job has no field `{field}`"), remedy);
            }
        }
    }

    fn unknown_job(&mut self, id: u64, name: &str) {
        let scope = self.scope;
        if scope.other_jobs.contains(&name) {
            let remedy = "add it to the needs of this job".to_owned();
            return self.add(id, format!("the job `{name}` is not needed here"), remedy);
        }
        let jobs = || {
            scope
                .jobs
                .iter()
                .map(|(job, _)| *job)
                .chain(scope.other_jobs.iter().copied())
        };
        // `jobs.my-job.result` is a subtraction in CEL.
        let dashed = jobs().find(|job| job.strip_prefix(name).is_some_and(|r| r.starts_with('-')));
        let remedy = match dashed {
            Some(job) => format!("write jobs[\"{job}\"] for a name with a dash"),
            None => suggest(name, jobs(), "the jobs are"),
        };
        self.add(id, format!("no job is named `{name}`"), remedy);
    }

    fn step(&mut self, path: &Path<'a>) {
        let scope = self.scope;
        let Some(steps) = &scope.steps else {
            let message = "`steps` is known only in the outputs of a job".to_owned();
            return self.add(path.id, message, String::new());
        };
        let Some(name) = path.fields.first() else {
            return;
        };
        if !steps.contains(name) {
            let prefix = |step: &&&str| step.strip_prefix(name).is_some_and(|r| r.starts_with('-'));
            let remedy = match steps.iter().find(prefix) {
                Some(step) => format!("write steps[\"{step}\"] for a name with a dash"),
                None => suggest(name, steps.iter().copied(), "the steps are"),
            };
            return self.add(path.id, format!("no step is named `{name}`"), remedy);
        }
        if let Some(field) = path.fields.get(1).filter(|field| **field != "outputs") {
            let remedy = "write steps.NAME.outputs.OUTPUT".to_owned();
            self.add(path.id, format!("a step has no field `{field}`"), remedy);
        }
    }

    fn add(&mut self, id: u64, message: String, remedy: String) {
        let offsets = self.program.source_info().offset_for(id);
        // The parser counts bytes.
        let before = offsets.and_then(|(start, _)| self.source.get(..start as usize));
        let column = before.unwrap_or_default().chars().count() + 1;
        let mistake = Mistake {
            column,
            message,
            remedy,
        };
        // `has(a.b) && a.b` names the same mistake twice; one place is enough.
        if !self
            .mistakes
            .iter()
            .any(|known| known.message == mistake.message)
        {
            self.mistakes.push(mistake);
        }
    }
}

fn suggest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    otherwise: &str,
) -> String {
    match nearest(wrong, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            let known: Vec<_> = known.into_iter().take(20).collect();
            if known.is_empty() {
                String::new()
            } else {
                format!("{otherwise} {}", known.join(", "))
            }
        }
    }
}

/// A name with fields: `jobs.build.result` or `jobs["build"].result`.
struct Path<'a> {
    id: u64,
    root: &'a str,
    fields: Vec<&'a str>,
}

fn path(expr: &IdedExpr) -> Option<Path<'_>> {
    match &expr.expr {
        Expr::Ident(name) => Some(Path {
            id: expr.id,
            root: name,
            fields: Vec::new(),
        }),
        Expr::Select(select) => {
            let mut path = path(&select.operand)?;
            path.fields.push(&select.field);
            Some(path)
        }
        Expr::Call(call)
            if [operators::INDEX, operators::OPT_INDEX].contains(&&*call.func_name) =>
        {
            let [operand, index] = call.args.as_slice() else {
                return None;
            };
            let Expr::Literal(LiteralValue::String(field)) = &index.expr else {
                return None;
            };
            let mut path = path(operand)?;
            path.fields.push(field.inner());
            Some(path)
        }
        _ => None,
    }
}
