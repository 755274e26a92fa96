//! CEL in the fields that the schema names: `${{ }}` in texts, and bare in conditions and axes.
//! Must not touch scripts: nothing is ever put into a `run`.

mod check;
mod condition;
mod cost;
mod files;
mod frame;
mod json;
mod scope;
mod template;
mod types;
mod values;

pub use condition::{Condition, Items};
pub use files::AgentPart;
pub use frame::{Binding, Bound, Frame, FrameKind};
pub use scope::{JobTable, Scope, ScopeJob, ScopeStep};
pub use template::{MAX_EXPRESSION_LEN, MAX_EXPRESSIONS, MAX_VALUE_LEN, Mistake, Template};
pub use types::Type;
pub use values::{
    Base, Evaluator, JobValues, MatrixValues, RunValues, Source, Status, StepValues, Values,
};

pub(crate) use template::Uses;

#[cfg(test)]
mod tests;
