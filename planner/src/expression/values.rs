//! The values behind the names of an expression.
//! Must not check names: that is done when a template is compiled.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, Program, Value};
use crds::{NamedValue, ParamValue};

use super::frame::{Frame, Reads};
use super::{files, json};

/// Built once: it is the same for all expressions and costs more than most of them.
static STDLIB: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What all expressions of a run can read.
#[derive(Clone, Debug, Default)]
pub struct RunValues<'a> {
    /// `params.NAME`.
    pub params: &'a [NamedValue<ParamValue>],
    /// `source.branch` and so on.
    pub source: Source<'a>,
    /// `run.name`.
    pub run: &'a str,
    /// `run.namespace`.
    pub namespace: &'a str,
    /// `pipeline.name`.
    pub pipeline: &'a str,
}

/// What the expressions of one job can read besides.
#[derive(Clone, Debug, Default)]
pub struct Values<'a> {
    /// `matrix.AXIS`.
    pub matrix: &'a [NamedValue<ParamValue>],
    /// `jobs.NAME.result` and `jobs.NAME.outputs.OUTPUT`.
    pub jobs: Vec<JobValues<'a>>,
    /// `steps.NAME.outputs.OUTPUT`.
    pub steps: Vec<StepValues<'a>>,
    /// `success()` and so on.
    pub status: Status,
}

/// What is built; empty text and 0 for what is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// `source.branch`.
    pub branch: &'a str,
    /// `source.tag`.
    pub tag: &'a str,
    /// `source.commit`.
    pub commit: &'a str,
    /// `source.pullRequest`.
    pub pull_request: i64,
}

/// How it went so far. All may be false: after a job that was skipped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// `success()`.
    pub success: bool,
    /// `failure()`.
    pub failure: bool,
    /// `cancelled()`.
    pub cancelled: bool,
}

/// What is known of a job.
#[derive(Clone, Debug)]
pub struct JobValues<'a> {
    /// Name of the job.
    pub name: &'a str,
    /// Its final state, such as `Succeeded`.
    pub result: String,
    /// Its declared outputs; empty text for those that it did not make.
    pub outputs: Vec<(&'a str, &'a str)>,
    /// For a job with a matrix: `jobs.NAME.matrix`.
    pub matrix: Option<Vec<MatrixValues<'a>>>,
}

/// What is known of one job of a matrix.
#[derive(Clone, Debug)]
pub struct MatrixValues<'a> {
    /// Its values, by axis.
    pub values: &'a [NamedValue<ParamValue>],
    /// Its final state.
    pub result: String,
    /// Its outputs.
    pub outputs: Vec<(&'a str, &'a str)>,
}

/// What is known of a step.
#[derive(Clone, Debug)]
pub struct StepValues<'a> {
    /// Name of the step.
    pub name: &'a str,
    /// What it wrote to `$RUSTCI_OUTPUT`.
    pub outputs: Vec<(&'a str, &'a str)>,
}

/// What all expressions of a run read, prepared once for all of its jobs: that costs more than most
/// expressions do.
pub struct Base {
    values: [(&'static str, Value); 7],
    /// One for each way in which it can have gone so far, made when it is needed: functions can be
    /// added to the outermost scope only.
    scopes: [OnceCell<Context<'static, 'static>>; 8],
}

impl Base {
    /// Prepares the values.
    pub fn new(values: &RunValues<'_>) -> Self {
        let Source {
            branch,
            tag,
            commit,
            pull_request,
        } = values.source;
        let source = [
            ("branch", branch.into()),
            ("tag", tag.into()),
            ("commit", commit.into()),
            ("pullRequest", Value::Int(pull_request)),
        ];
        let run = [
            ("name", values.run.into()),
            ("namespace", values.namespace.into()),
        ];
        let values = [
            ("params", named(values.params)),
            ("source", map(source)),
            ("run", map(run)),
            ("pipeline", map([("name", values.pipeline.into())])),
            // Those of a job stand before these, if it has any.
            ("matrix", map([])),
            ("jobs", map([])),
            ("steps", map([])),
        ];
        let scopes = Default::default();
        Self { values, scopes }
    }

    fn scope(&self, status: Status) -> &Context<'static, 'static> {
        let Status {
            success,
            failure,
            cancelled,
        } = status;
        let bits = [success, failure, cancelled].map(usize::from);
        self.scopes[bits[0] | bits[1] << 1 | bits[2] << 2].get_or_init(|| {
            let mut context = Context::with_env(Arc::clone(&STDLIB));
            for (name, value) in &self.values {
                context.add_variable_from_value(*name, value.clone());
            }
            add_functions(&mut context, status);
            context
        })
    }
}

/// Evaluates templates with one set of values.
pub struct Evaluator<'b> {
    context: Context<'b, 'static>,
    /// The values of each frame that was needed, by its address: each is evaluated once.
    frames: RefCell<HashMap<*const Frame, Rc<FrameValues>>>,
    /// What expressions gave as text, by the address of their program: a variable of the job
    /// stands in each of its steps.
    texts: RefCell<HashMap<*const Program, Text>>,
}

/// An evaluated expression.
struct Text {
    /// Kept so that no other program gets its address.
    _program: Arc<Program>,
    text: Result<String, String>,
}

/// The evaluated values of a frame, in its order.
struct FrameValues {
    /// Kept so that no other frame gets its address.
    _frame: Arc<Frame>,
    all: Vec<(String, Result<Value, String>)>,
    /// Those that could be evaluated, for programs that do more than to read one.
    map: OnceCell<Value>,
}

impl FrameValues {
    fn map(&self) -> Value {
        let all = self.all.iter();
        let known = all.filter_map(|(name, value)| Some((name.as_str(), value.clone().ok()?)));
        self.map.get_or_init(|| map(known)).clone()
    }
}

impl<'b> Evaluator<'b> {
    /// Prepares the values of a job.
    pub fn new(base: &'b Base, values: &Values<'_>) -> Self {
        let mut context = base.scope(values.status).new_inner_scope();
        if !values.matrix.is_empty() {
            context.add_variable_from_value("matrix", named(values.matrix));
        }
        if !values.jobs.is_empty() {
            let jobs = values.jobs.iter().map(|job| (job.name, job_value(job)));
            context.add_variable_from_value("jobs", map(jobs));
        }
        if !values.steps.is_empty() {
            let steps = values.steps.iter();
            let steps = steps.map(|step| (step.name, map([("outputs", texts(&step.outputs))])));
            context.add_variable_from_value("steps", map(steps));
        }
        Self {
            context,
            frames: RefCell::default(),
            texts: RefCell::default(),
        }
    }

    /// The text that a program gives, evaluated when it is first asked for.
    pub(super) fn once(
        &self,
        program: &Arc<Program>,
        evaluate: impl FnOnce() -> Result<String, String>,
    ) -> Result<String, String> {
        let key = Arc::as_ptr(program);
        if let Some(known) = self.texts.borrow().get(&key) {
            return known.text.clone();
        }
        let text = evaluate();
        let known = Text {
            _program: Arc::clone(program),
            text: text.clone(),
        };
        self.texts.borrow_mut().insert(key, known);
        text
    }

    pub(super) fn execute(&self, program: &Program) -> Result<Value, ExecutionError> {
        program.execute(&self.context)
    }

    /// Executes a program that closes over the values of a frame. The error is that of a value that
    /// it reads.
    pub(super) fn execute_in(
        &self,
        frame: &Arc<Frame>,
        reads: &Reads,
        program: &Program,
    ) -> Result<Result<Value, ExecutionError>, String> {
        let values = self.frame(frame);
        for binding in reads {
            if let Err(error) = &values.all[*binding].1 {
                return Err(error.clone());
            }
        }
        let mut context = self.context.new_inner_scope();
        context.add_variable_from_value(frame.kind().root(), values.map());
        Ok(program.execute(&context))
    }

    /// One value of a frame.
    pub(super) fn bound(&self, frame: &Arc<Frame>, binding: usize) -> Result<Value, String> {
        self.frame(frame).all[binding].1.clone()
    }

    fn frame(&self, frame: &Arc<Frame>) -> Rc<FrameValues> {
        let key = Arc::as_ptr(frame);
        if let Some(known) = self.frames.borrow().get(&key) {
            return Rc::clone(known);
        }
        let values = Rc::new(FrameValues {
            _frame: Arc::clone(frame),
            all: frame.values(self),
            map: OnceCell::new(),
        });
        self.frames.borrow_mut().insert(key, Rc::clone(&values));
        values
    }
}

fn add_functions(context: &mut Context<'static, 'static>, status: Status) {
    let Status {
        success,
        failure,
        cancelled,
    } = status;
    let added = [
        context.add_function("success", move || success),
        context.add_function("failure", move || failure),
        context.add_function("cancelled", move || cancelled),
        context.add_function("always", || true),
        context.add_function("toJson", json::to_json),
        context.add_function("fromJson", json::from_json),
        context.add_function(files::NAME, files::hash_files),
    ];
    debug_assert!(
        added.iter().all(Result::is_ok),
        "no name of the standard library"
    );
}

fn job_value(job: &JobValues<'_>) -> Value {
    let result = ("result", Value::from(job.result.as_str()));
    let Some(matrix) = &job.matrix else {
        return map([result, ("outputs", texts(&job.outputs))]);
    };
    let all = matrix.iter().map(|one| {
        map([
            ("values", named(one.values)),
            ("result", one.result.as_str().into()),
            ("outputs", texts(&one.outputs)),
        ])
    });
    map([result, ("matrix", Value::List(Arc::new(all.collect())))])
}

fn texts(values: &[(&str, &str)]) -> Value {
    map(values.iter().map(|(name, value)| (*name, (*value).into())))
}

fn named(values: &[NamedValue<ParamValue>]) -> Value {
    map(values.iter().map(|v| (v.name.as_str(), param(&v.value))))
}

fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let entries = entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    entries.collect::<HashMap<String, Value>>().into()
}

pub(super) fn param(value: &ParamValue) -> Value {
    match value {
        ParamValue::Boolean(truth) => Value::Bool(*truth),
        ParamValue::Integer(number) => Value::Int(*number),
        ParamValue::String(text) => text.as_str().into(),
    }
}
