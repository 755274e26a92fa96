//! Bare CEL: conditions (`when`) and lists (the values of an axis).
//! Must not decide what follows from a result.

use cel::Value;
use crds::ParamValue;

use super::template::{Expression, Mistake, Uses};
use super::{Evaluator, Scope, Type};

/// A compiled and checked condition.
#[derive(Clone, Debug)]
pub struct Condition {
    expression: Expression,
}

/// A compiled and checked list.
#[derive(Clone, Debug)]
pub struct Items {
    expression: Expression,
}

impl Condition {
    /// Compiles a condition. The names of the status functions are known in it.
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Self, Vec<Mistake>> {
        let scope = Scope {
            status: true,
            ..scope.clone()
        };
        let expression = bare(text, &scope)?;
        match expression.result {
            Type::Bool | Type::Any => Ok(Self { expression }),
            other => Err(vec![Mistake {
                column: 1,
                message: format!("the condition is {other}, not true/false"),
                remedy: "compare it with something".to_owned(),
            }]),
        }
    }

    /// Whether it holds.
    pub fn evaluate(&self, evaluator: &Evaluator<'_>) -> Result<bool, String> {
        match self.expression.evaluate(evaluator)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(self.expression.explain(&format!(
                "the result is a {}, not true or false",
                other.type_of()
            ))),
        }
    }

    /// What it reads.
    pub(crate) fn uses(&self) -> &Uses {
        &self.expression.uses
    }

    /// The text, as written.
    pub fn source(&self) -> &str {
        &self.expression.source
    }
}

impl Items {
    /// Compiles a list of texts, whole numbers or true/false; or a text that is such a list in
    /// JSON, as a step can write it.
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Self, Vec<Mistake>> {
        let expression = bare(text, scope)?;
        match expression.result {
            Type::List | Type::Text | Type::Any => Ok(Self { expression }),
            other => Err(vec![Mistake {
                column: 1,
                message: format!("the result is {other}, not a list"),
                remedy: "give a list, or text that is a list in JSON".to_owned(),
            }]),
        }
    }

    /// The values.
    pub fn evaluate(&self, evaluator: &Evaluator<'_>) -> Result<Vec<ParamValue>, String> {
        let explain = |message: &str| self.expression.explain(message);
        let value = match self.expression.evaluate(evaluator)? {
            Value::String(text) => {
                return serde_json::from_str(text.as_str()).map_err(|error| {
                    explain(&format!(
                        "the text is no list of plain values in JSON: {error}"
                    ))
                });
            }
            other => other,
        };
        let Value::List(list) = &value else {
            return Err(explain(&format!(
                "the result is a {}, not a list",
                value.type_of()
            )));
        };
        let items = list.iter().map(|item| match item {
            Value::String(text) => Ok(ParamValue::String(text.as_str().to_owned())),
            Value::Int(number) => Ok(ParamValue::Integer(*number)),
            Value::Bool(truth) => Ok(ParamValue::Boolean(*truth)),
            other => Err(explain(&format!(
                "a {} stands in the list: use text, whole numbers or true/false",
                other.type_of()
            ))),
        });
        items.collect()
    }

    /// What it reads.
    pub(crate) fn uses(&self) -> &Uses {
        &self.expression.uses
    }
}

fn bare(text: &str, scope: &Scope<'_>) -> Result<Expression, Vec<Mistake>> {
    if let Some(at) = text.find("${{") {
        return Err(vec![Mistake {
            column: text[..at].chars().count() + 1,
            message: "`${{ }}` does not belong here".to_owned(),
            remedy: "write the expression itself: this field is one".to_owned(),
        }]);
    }
    Expression::compile(text, scope)
}
