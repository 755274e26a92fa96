//! The values that the user of a job or template gives it: expressions in it are closures over them.
//! Must not check declarations: `validate` has done that.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::Value;
use crds::{ParamType, ParamValue};

use super::{Evaluator, Template, Type, Uses, values};
use crate::params::{show, show_all};

/// The params of a used job, or the inputs of a used template. Each value is an expression in the
/// scope of the user, and is evaluated there: nothing is put into the text of what is used.
#[derive(Debug)]
pub struct Frame {
    kind: FrameKind,
    bindings: Vec<Binding>,
}

/// What is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameKind {
    /// A job of another pipeline: its values are `params`.
    Job,
    /// A step template: its values are `inputs`.
    Template,
}

/// One value of a frame.
#[derive(Debug)]
pub struct Binding {
    /// Name of the param or input.
    pub name: String,
    /// Its type.
    pub declared: ParamType,
    /// The allowed values; any when there is none.
    pub allowed: Vec<ParamValue>,
    /// What the user gave, or the default.
    pub bound: Bound,
}

/// Where the value of a binding comes from.
#[derive(Clone, Debug)]
pub enum Bound {
    /// It is written out.
    Value(ParamValue),
    /// A text with expressions in it.
    Text(Template),
}

impl FrameKind {
    /// The name of its values in expressions.
    pub fn root(self) -> &'static str {
        match self {
            Self::Job => "params",
            Self::Template => "inputs",
        }
    }
}

impl Frame {
    /// A frame of these values.
    pub fn new(kind: FrameKind, bindings: Vec<Binding>) -> Arc<Self> {
        Arc::new(Self { kind, bindings })
    }

    /// What is used.
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// The index of a binding by its name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.bindings.iter().position(|known| known.name == name)
    }

    /// Whether an expression is nothing but this binding.
    pub(super) fn is_bare(&self, binding: usize, source: &str) -> bool {
        let name = source.strip_prefix(self.kind.root());
        let name = name.and_then(|rest| rest.strip_prefix('.'));
        name == Some(&self.bindings[binding].name)
    }

    pub(super) fn len(&self) -> usize {
        self.bindings.len()
    }

    /// What the expressions of one binding read.
    pub(super) fn uses(&self, binding: usize) -> impl Iterator<Item = &Uses> {
        self.bindings[binding].bound.uses()
    }

    /// The names and values, each evaluated where it was given.
    pub(super) fn values(&self, evaluator: &Evaluator<'_>) -> Vec<(String, Result<Value, String>)> {
        let value = |binding: &Binding| (binding.name.clone(), self.value(binding, evaluator));
        self.bindings.iter().map(value).collect()
    }

    fn value(&self, binding: &Binding, evaluator: &Evaluator<'_>) -> Result<Value, String> {
        let Binding {
            name,
            declared,
            allowed,
            bound,
        } = binding;
        let wrong = |why: String| format!("`{}.{name}`: {why}", self.kind.root());
        let value = match bound {
            Bound::Value(value) => value.clone(),
            Bound::Text(template) => typed(*declared, template, evaluator).map_err(wrong)?,
        };
        if !allowed.is_empty() && !allowed.contains(&value) {
            let (value, allowed) = (show(&value), show_all(allowed));
            return Err(wrong(format!(
                "it may not be {value}: use one of {allowed}"
            )));
        }
        Ok(values::param(&value))
    }
}

fn typed(
    declared: ParamType,
    template: &Template,
    evaluator: &Evaluator<'_>,
) -> Result<ParamValue, String> {
    let Some(expression) = template.single().filter(|_| declared != ParamType::String) else {
        return template.evaluate(evaluator).map(ParamValue::String);
    };
    let value = expression.evaluate(evaluator)?;
    let of_type = match (declared, &value) {
        (ParamType::Integer, Value::Int(number)) => Some(ParamValue::Integer(*number)),
        (ParamType::Integer, Value::UInt(number)) => {
            i64::try_from(*number).ok().map(ParamValue::Integer)
        }
        (ParamType::Boolean, Value::Bool(truth)) => Some(ParamValue::Boolean(*truth)),
        _ => None,
    };
    of_type.ok_or_else(|| {
        let (given, wanted) = (value.type_of(), Type::from(declared));
        expression.explain(&format!("the result is a {given}, not {wanted}"))
    })
}

impl Bound {
    /// What its expressions read.
    fn uses(&self) -> impl Iterator<Item = &Uses> {
        let template = match self {
            Self::Value(_) => None,
            Self::Text(template) => Some(template),
        };
        template.into_iter().flat_map(Template::uses)
    }
}

/// Which values of its frame an expression reads, by index.
pub(super) type Reads = BTreeSet<usize>;
