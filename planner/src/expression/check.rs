//! Finds names in an expression that do not exist, types that do not fit, and what would make it
//! costly.
//! Must not evaluate anything.

use std::collections::BTreeSet;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators,
};
use cel::{IdedExpr as Root, Program};

use super::frame::{FrameKind, Reads};
use super::template::Uses;
use super::types::{self, FUNCTIONS, Type};
use super::{Mistake, Scope, cost, files};
use crate::names::nearest;

/// Names of types, as in `type(params.n) == int`.
const TYPES: [&str; 8] = [
    "bool", "bytes", "double", "int", "list", "map", "string", "uint",
];
const ROOTS: [&str; 8] = [
    "inputs", "jobs", "matrix", "params", "pipeline", "run", "source", "steps",
];
/// What a step template does not know: it gets values by its inputs.
const CLOSED: [&str; 3] = ["jobs", "matrix", "params"];
const SOURCE: [(&str, Type); 4] = [
    ("branch", Type::Text),
    ("commit", Type::Text),
    ("pullRequest", Type::Int),
    ("tag", Type::Text),
];
/// What `jobs.NAME.result` can be: a job is read when it has ended.
const RESULTS: [&str; 4] = ["Succeeded", "Failed", "Skipped", "Cancelled"];
const RUN: [(&str, Type); 2] = [("name", Type::Text), ("namespace", Type::Text)];
const PIPELINE: [(&str, Type); 1] = [("name", Type::Text)];

/// What is known of an expression without mistakes.
pub(super) struct Checked {
    pub(super) result: Type,
    /// True for a call of `hashFiles()`: its value is known to the agent only.
    pub(super) hashes_files: bool,
    pub(super) uses: Uses,
    /// What it reads of the frame of its scope.
    pub(super) reads: Reads,
}

/// Finds every mistake, in the order of the text.
pub(super) fn check(
    program: &Program,
    source: &str,
    scope: &Scope<'_>,
) -> Result<Checked, Vec<Mistake>> {
    let root: &Root = program.expression();
    let mut checker = Checker {
        program,
        source,
        scope,
        bound: Vec::new(),
        mistakes: Vec::new(),
        uses: Uses::default(),
        reads: Reads::new(),
    };
    let result = match files_call(root) {
        Some(call) => checker.hash_files(root.id, call),
        None => checker.expression(root),
    };
    if checker.mistakes.is_empty()
        && let Some(id) = cost::too_large(root)
    {
        let remedy = "compute the value in a step".to_owned();
        checker.add(id, "the value may become too large".to_owned(), remedy);
    }
    let Checker {
        mut mistakes,
        uses,
        reads,
        ..
    } = checker;
    mistakes.sort_by_key(|mistake| mistake.column);
    if mistakes.is_empty() {
        Ok(Checked {
            result,
            hashes_files: files_call(root).is_some(),
            uses,
            reads,
        })
    } else {
        Err(mistakes)
    }
}

struct Checker<'a> {
    program: &'a Program,
    source: &'a str,
    scope: &'a Scope<'a>,
    /// Variables of the loops around the present place.
    bound: Vec<&'a str>,
    mistakes: Vec<Mistake>,
    uses: Uses,
    reads: Reads,
}

impl<'a> Checker<'a> {
    /// Checks a part, and gives its type.
    fn expression(&mut self, expr: &'a IdedExpr) -> Type {
        if let Some(path) = path(expr) {
            let result = self.path(&path);
            return if is_test(&expr.expr) {
                Type::Bool
            } else {
                result
            };
        }
        match &expr.expr {
            Expr::Call(call) => self.call(expr.id, call),
            Expr::Comprehension(comprehension) => self.comprehension(expr.id, comprehension),
            Expr::List(list) => {
                for item in &list.elements {
                    self.expression(item);
                }
                Type::List
            }
            Expr::Map(map) => {
                map.entries.iter().for_each(|entry| self.entry(&entry.expr));
                Type::Map
            }
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
                Type::Any
            }
            Expr::Select(select) => self.select(expr.id, select),
            Expr::Literal(literal) => literal_type(literal),
            Expr::Ident(_) | Expr::Unspecified => Type::Any,
        }
    }

    fn select(&mut self, id: u64, select: &'a SelectExpr) -> Type {
        let of = self.expression(&select.operand);
        if !matches!(of, Type::Any | Type::Map) {
            self.add(
                id,
                format!("{of} has no field `{}`", select.field),
                String::new(),
            );
        }
        if select.test { Type::Bool } else { Type::Any }
    }

    fn entry(&mut self, entry: &'a EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => {
                self.expression(&field.value);
            }
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key);
                self.expression(&entry.value);
            }
        }
    }

    fn call(&mut self, id: u64, call: &'a CallExpr) -> Type {
        let name = call.func_name.as_str();
        let before = self.mistakes.len();
        let mut types = Vec::new();
        for part in call.target.iter().map(|target| &**target).chain(&call.args) {
            types.push(self.expression(part));
            // `jobs.my-job` is a subtraction: what stands after the dash is no second mistake.
            if name == operators::SUBSTRACT && self.mistakes.len() > before {
                return Type::Any;
            }
        }
        if [operators::EQUALS, operators::NOT_EQUALS, operators::IN].contains(&name) {
            self.result_is(&call.args);
        }
        if let Some(result) = types::operator(name, &types) {
            return result.unwrap_or_else(|wrong| {
                self.add(id, wrong.message, wrong.remedy);
                Type::Any
            });
        }
        if name == files::NAME {
            let message = format!("`{name}()` stands in another expression");
            let remedy = format!("give it a variable of its own: ${{{{ {name}('Cargo.lock') }}}}");
            self.add(id, message, remedy);
            return Type::Any;
        }
        // The parser's own helpers in loops.
        if name.starts_with('@') {
            return Type::Any;
        }
        let (target, args) = match &call.target {
            Some(_) => (types.first().copied(), &types[1..]),
            None => (None, &types[..]),
        };
        match types::call(name, target, args) {
            Some(Ok(function)) => {
                if function.of_status {
                    self.status_function(id, name);
                }
                function.result
            }
            Some(Err(wrong)) => {
                self.add(id, wrong.message, wrong.remedy);
                Type::Any
            }
            None => {
                let names = FUNCTIONS.iter().map(|known| known.name);
                let names: BTreeSet<_> = names.chain([files::NAME]).collect();
                let remedy = suggest(name, names, "the functions are");
                self.add(id, format!("there is no function `{name}`"), remedy);
                Type::Any
            }
        }
    }

    /// A result compared with a word that no result is would be false for ever, without a sign.
    fn result_is(&mut self, args: &'a [IdedExpr]) {
        let is_result = |expr| path(expr).is_some_and(|it| it.root == "jobs" && it.is_result());
        let [left, right] = args else { return };
        let pairs = match &right.expr {
            Expr::List(list) => list.elements.iter().map(|word| (left, word)).collect(),
            _ => vec![(left, right), (right, left)],
        };
        for (read, word) in pairs {
            if let Expr::Literal(LiteralValue::String(text)) = &word.expr
                && is_result(read)
                && !RESULTS.contains(&text.inner())
            {
                let message = format!("no result is `{}`", text.inner());
                let remedy = suggest(text.inner(), RESULTS, "the results are");
                self.add(word.id, message, remedy);
            }
        }
    }

    /// The call of `hashFiles()` that is a whole expression: only so can the agent take its place.
    fn hash_files(&mut self, id: u64, call: &'a CallExpr) -> Type {
        let name = files::NAME;
        if !self.scope.files {
            let message =
                format!("`{name}()` is known only in env of steps, jobs and the pipeline");
            let remedy = "the files are there when the job runs: read a variable in the script";
            self.add(id, message, remedy.to_owned());
            return Type::Text;
        }
        if call.args.is_empty() || call.args.len() > files::MAX_PATTERNS {
            let message = format!("`{name}` takes 1 to {} patterns", files::MAX_PATTERNS);
            self.add(id, message, format!("write {name}('**/Cargo.lock')"));
        }
        for arg in &call.args {
            let given = self.expression(arg);
            if !matches!(given, Type::Any | Type::Text) {
                let message = format!("`{name}` needs text, not {given}");
                self.add(id, message, format!("write {name}('**/Cargo.lock')"));
            }
            if let Expr::Literal(LiteralValue::String(pattern)) = &arg.expr
                && let Err(message) = files::check(pattern.inner())
            {
                let remedy = "write a path below it, such as **/Cargo.lock".to_owned();
                self.add(arg.id, message, remedy);
            }
        }
        Type::Text
    }

    fn status_function(&mut self, id: u64, name: &str) {
        self.uses.status = true;
        if !self.scope.status {
            let remedy = "read jobs.NAME.result instead".to_owned();
            self.add(id, format!("`{name}()` is known only in `when`"), remedy);
        }
    }

    fn comprehension(&mut self, id: u64, comprehension: &'a ComprehensionExpr) -> Type {
        let range = self.expression(&comprehension.iter_range);
        if !matches!(range, Type::Any | Type::List | Type::Map) {
            let message = format!("{range} can't be gone through");
            self.add(id, message, "use a list or a map".to_owned());
        }
        if !self.bound.is_empty() {
            let remedy = "compute the value in a step".to_owned();
            self.add(id, "a loop stands in a loop".to_owned(), remedy);
            return Type::Any;
        }
        self.bound.push(&comprehension.iter_var);
        self.bound.push(&comprehension.accu_var);
        self.bound.extend(comprehension.iter_var2.as_deref());
        let start = self.expression(&comprehension.accu_init);
        self.expression(&comprehension.loop_cond);
        self.expression(&comprehension.loop_step);
        self.expression(&comprehension.result);
        self.bound.clear();
        // `all` and `exists` start with true or false, `map` and `filter` with a list.
        match start {
            Type::Bool | Type::List => start,
            _ => Type::Any,
        }
    }

    fn path(&mut self, path: &Path<'a>) -> Type {
        if self.bound.contains(&path.root) {
            return Type::Any;
        }
        if self.is_closed(path) {
            return Type::Any;
        }
        match path.root {
            "params" => self.param(path),
            "inputs" => self.input(path),
            "run" => self.fields(path, "run", &RUN),
            "pipeline" => self.fields(path, "pipeline", &PIPELINE),
            "source" => self.fields(path, "source", &SOURCE),
            "matrix" => self.axis(path),
            "jobs" => self.job(path),
            "steps" => self.step(path),
            name if path.fields.is_empty() && TYPES.contains(&name) => Type::Any,
            name => {
                let is_template = self.scope.inputs.is_some();
                let is_open = |root: &&str| match is_template {
                    true => !CLOSED.contains(root),
                    false => *root != "inputs",
                };
                let roots = ROOTS.into_iter().filter(is_open);
                let remedy = suggest(name, roots, "the names are");
                self.add(path.id, format!("there is no `{name}`"), remedy);
                Type::Any
            }
        }
    }

    fn param(&mut self, path: &Path<'a>) -> Type {
        self.reads(FrameKind::Job, path);
        let Some(name) = path.fields.first() else {
            return Type::Map;
        };
        let params = self.scope.params;
        let Some((_, found)) = params.iter().find(|(known, _)| known == name) else {
            let remedy = match params.is_empty() {
                true => "declare it in spec.params".to_owned(),
                false => suggest(name, params.iter().map(|(p, _)| *p), "the params are"),
            };
            self.add(path.id, format!("no param is named `{name}`"), remedy);
            return Type::Any;
        };
        self.no_more(path, 1, &format!("the param `{name}`"));
        *found
    }

    /// What is known around a template, or a used job, is not known in it.
    fn is_closed(&mut self, path: &Path<'a>) -> bool {
        let scope = self.scope;
        let (message, remedy) = if scope.inputs.is_some() {
            if !CLOSED.contains(&path.root) {
                return false;
            }
            let message = format!("`{}` is not known in a step template", path.root);
            (message, "declare an input, and give it the value in with")
        } else if scope.frame.is_some() && path.root == "jobs" {
            let message = "`jobs` is not known in a job that another pipeline uses".to_owned();
            (message, "give the value with a param")
        } else {
            return false;
        };
        self.add(path.id, message, remedy.to_owned());
        true
    }

    /// Notes what is read of the frame, and what its values read.
    fn reads(&mut self, kind: FrameKind, path: &Path<'a>) {
        let Some(frame) = (self.scope.frame.as_ref()).filter(|frame| frame.kind() == kind) else {
            return;
        };
        let read = match path.fields.first() {
            None => (0..frame.len()).collect(),
            Some(name) => Vec::from_iter(frame.find(name)),
        };
        for binding in read {
            frame.uses(binding).for_each(|uses| self.uses.add(uses));
            self.reads.insert(binding);
        }
    }

    fn input(&mut self, path: &Path<'a>) -> Type {
        let Some(inputs) = self.scope.inputs else {
            let remedy = "read params here, or jobs".to_owned();
            let message = "`inputs` is known only in a step template".to_owned();
            self.add(path.id, message, remedy);
            return Type::Any;
        };
        self.reads(FrameKind::Template, path);
        let Some(name) = path.fields.first() else {
            return Type::Map;
        };
        let Some((_, found)) = inputs.iter().find(|(known, _)| known == name) else {
            let remedy = match inputs.is_empty() {
                true => "declare it in the inputs of the template".to_owned(),
                false => suggest(name, inputs.iter().map(|(i, _)| *i), "the inputs are"),
            };
            self.add(path.id, format!("no input is named `{name}`"), remedy);
            return Type::Any;
        };
        self.no_more(path, 1, &format!("the input `{name}`"));
        *found
    }

    fn axis(&mut self, path: &Path<'a>) -> Type {
        let Some(axes) = self.scope.matrix else {
            let remedy = "give the job a matrix".to_owned();
            self.add(
                path.id,
                "`matrix` is known only in a job that has one".to_owned(),
                remedy,
            );
            return Type::Any;
        };
        let Some(name) = path.fields.first() else {
            return Type::Map;
        };
        let Some((_, found)) = axes.iter().find(|(known, _)| known == name) else {
            let remedy = suggest(name, axes.iter().map(|(axis, _)| *axis), "the axes are");
            self.add(path.id, format!("no axis is named `{name}`"), remedy);
            return Type::Any;
        };
        self.no_more(path, 1, &format!("the axis `{name}`"));
        *found
    }

    /// A plain value has no fields.
    fn no_more(&mut self, path: &Path<'a>, used: usize, what: &str) {
        if let Some(field) = path.fields.get(used) {
            let message = format!("{what} has no field `{field}`");
            self.add(path.id, message, String::new());
        }
    }

    fn fields(&mut self, path: &Path<'a>, of: &str, known: &[(&'static str, Type)]) -> Type {
        let Some(field) = path.fields.first() else {
            return Type::Map;
        };
        let Some((_, found)) = known.iter().find(|(name, _)| name == field) else {
            let names = known.iter().map(|(name, _)| *name);
            let remedy = suggest(field, names, "the fields are");
            self.add(path.id, format!("`{of}` has no field `{field}`"), remedy);
            return Type::Any;
        };
        self.no_more(path, 1, &format!("`{of}.{field}`"));
        *found
    }

    fn job(&mut self, path: &Path<'a>) -> Type {
        let Some(name) = path.fields.first() else {
            self.uses.all_jobs = true;
            return Type::Map;
        };
        let Some((job, true)) = self.scope.job(name) else {
            self.unknown_job(path.id, name);
            return Type::Any;
        };
        self.uses.jobs.insert((*name).to_owned());
        match path.fields.get(1) {
            None => Type::Map,
            Some(&"result") => {
                self.uses.results = true;
                self.no_more(path, 2, "a result");
                Type::Text
            }
            Some(&"matrix") if job.has_matrix => Type::List,
            Some(&"matrix" | &"outputs") if job.outputs.is_none() => Type::Any,
            Some(&"outputs") if job.has_matrix => {
                let message = format!("the job `{name}` has a matrix, so it has many outputs");
                let remedy = format!("read jobs[\"{name}\"].matrix, a list with outputs");
                self.add(path.id, message, remedy);
                Type::Any
            }
            Some(&"outputs") => {
                let outputs = job.outputs.as_deref().unwrap_or_default();
                self.output(path, name, outputs)
            }
            Some(field) => {
                let known = ["result", "outputs"];
                let remedy = suggest(field, known, "the fields are");
                self.add(path.id, format!("a job has no field `{field}`"), remedy);
                Type::Any
            }
        }
    }

    fn output(&mut self, path: &Path<'a>, job: &str, outputs: &[&'a str]) -> Type {
        let Some(output) = path.fields.get(2) else {
            return Type::Map;
        };
        if !outputs.contains(output) {
            let remedy = match outputs.is_empty() {
                true => format!("add it to the outputs of the job `{job}`"),
                false => suggest(output, outputs.iter().copied(), "its outputs are"),
            };
            let message = format!("the job `{job}` has no output `{output}`");
            self.add(path.id, message, remedy);
        } else {
            self.no_more(path, 3, "an output");
        }
        Type::Text
    }

    fn unknown_job(&mut self, id: u64, name: &str) {
        let scope = self.scope;
        if scope.job(name).is_some() {
            let remedy = "add it to the needs of this job".to_owned();
            return self.add(id, format!("the job `{name}` is not needed here"), remedy);
        }
        if scope.jobs.is_none() {
            let message = "`jobs` is not known here: no job has run yet".to_owned();
            return self.add(id, message, String::new());
        }
        // `jobs.my-job.result` is a subtraction in CEL.
        let begins = |job: &&str| job.strip_prefix(name).is_some_and(|r| r.starts_with('-'));
        let remedy = match scope.job_names().find(begins) {
            Some(job) => format!("write jobs[\"{job}\"] for a name with a dash"),
            None => suggest(name, scope.job_names(), "the jobs are"),
        };
        self.add(id, format!("no job is named `{name}`"), remedy);
    }

    fn step(&mut self, path: &Path<'a>) -> Type {
        let scope = self.scope;
        let Some(steps) = &scope.steps else {
            let message = "`steps` is known only in the outputs of a job".to_owned();
            let remedy = match scope.status {
                true => "use success() or failure()".to_owned(),
                false => "give values to later steps in a file".to_owned(),
            };
            self.add(path.id, message, remedy);
            return Type::Any;
        };
        let Some(name) = path.fields.first() else {
            return Type::Map;
        };
        let Some(step) = steps.iter().find(|step| step.name == *name) else {
            let names = steps.iter().map(|step| step.name);
            let prefix = |step: &&str| step.strip_prefix(name).is_some_and(|r| r.starts_with('-'));
            let remedy = match names.clone().find(prefix) {
                Some(step) => format!("write steps[\"{step}\"] for a name with a dash"),
                None => suggest(name, names, "the steps are"),
            };
            self.add(path.id, format!("no step is named `{name}`"), remedy);
            return Type::Any;
        };
        match path.fields.get(1) {
            None => Type::Map,
            Some(&"outputs") if path.fields.len() == 2 => Type::Map,
            Some(&"outputs") => {
                let known = step.outputs.as_deref();
                let output = path.fields[2];
                if let Some(known) = known.filter(|known| !known.contains(&output)) {
                    let remedy = match known.is_empty() {
                        true => "add it to the outputs of its template".to_owned(),
                        false => suggest(output, known.iter().copied(), "its outputs are"),
                    };
                    let message = format!("the step `{name}` has no output `{output}`");
                    self.add(path.id, message, remedy);
                }
                Type::Text
            }
            Some(field) => {
                let remedy = "write steps.NAME.outputs.OUTPUT".to_owned();
                self.add(path.id, format!("a step has no field `{field}`"), remedy);
                Type::Any
            }
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

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::Text,
        LiteralValue::UInt(_) => Type::UInt,
    }
}

/// The expression as a call of `hashFiles()`, if it is one.
fn files_call(expr: &IdedExpr) -> Option<&CallExpr> {
    match &expr.expr {
        Expr::Call(call) if call.func_name == files::NAME && call.target.is_none() => Some(call),
        _ => None,
    }
}

/// True for `has(a.b)`.
pub(super) fn is_test(expr: &Expr) -> bool {
    matches!(expr, Expr::Select(select) if select.test)
}

/// A name with fields: `jobs.build.result` or `jobs["build"].result`.
pub(super) struct Path<'a> {
    id: u64,
    pub(super) root: &'a str,
    pub(super) fields: Vec<&'a str>,
}

impl Path<'_> {
    fn is_result(&self) -> bool {
        matches!(self.fields[..], [_, "result"])
    }
}

pub(super) fn path(expr: &IdedExpr) -> Option<Path<'_>> {
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
