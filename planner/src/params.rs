//! Parameters of a run: types, defaults, allowed values.
//! Must not evaluate expressions.

use crds::{NamedValue, Param, ParamType, ParamValue};

use crate::names::nearest;
use crate::validate::Problem;

/// The values of all declared parameters, in their order: the run's, else the defaults. Field
/// paths of problems begin with `spec.params`, the run's.
pub fn resolve(
    declared: &[Param],
    given: &[NamedValue<ParamValue>],
) -> Result<Vec<NamedValue<ParamValue>>, Vec<Problem>> {
    let mut problems = unknown(declared, given);
    let mut values = Vec::new();
    for param in declared {
        let found = given
            .iter()
            .enumerate()
            .find(|(_, value)| value.name == param.name);
        let value = match (found, &param.default) {
            (Some((i, value)), _) => {
                problems.extend(mismatch(param, &value.value, i));
                &value.value
            }
            (None, Some(default)) => default,
            (None, None) => {
                let message = format!("the param `{}` has no value", param.name);
                let remedy = "add it to spec.params, or give it a default in the pipeline";
                problems.push(problem(
                    "spec.params".to_owned(),
                    message,
                    remedy.to_owned(),
                ));
                continue;
            }
        };
        values.push(NamedValue {
            name: param.name.clone(),
            value: value.clone(),
        });
    }
    if problems.is_empty() {
        Ok(values)
    } else {
        Err(problems)
    }
}

/// What is wrong with the type of a value.
pub(crate) fn type_mismatch(wanted: ParamType, value: &ParamValue) -> Option<String> {
    let found = match value {
        ParamValue::Boolean(_) => ParamType::Boolean,
        ParamValue::Integer(_) => ParamType::Integer,
        ParamValue::String(_) => ParamType::String,
    };
    let name = |param_type| match param_type {
        ParamType::String => "a string",
        ParamType::Integer => "an integer",
        ParamType::Boolean => "a boolean",
    };
    (found != wanted).then(|| format!("{} is {}, not {}", show(value), name(found), name(wanted)))
}

/// A value for people, text in quotes.
pub(crate) fn show(value: &ParamValue) -> String {
    match value {
        ParamValue::Boolean(truth) => truth.to_string(),
        ParamValue::Integer(number) => number.to_string(),
        ParamValue::String(text) => {
            let short: String = text.chars().take(40).collect();
            let more = if short.len() < text.len() { "..." } else { "" };
            format!("{:?}", short + more)
        }
    }
}

/// A value as text.
pub fn plain(value: &ParamValue) -> String {
    match value {
        ParamValue::Boolean(truth) => truth.to_string(),
        ParamValue::Integer(number) => number.to_string(),
        ParamValue::String(text) => text.clone(),
    }
}

/// Values for people.
pub(crate) fn show_all(values: &[ParamValue]) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn unknown(declared: &[Param], given: &[NamedValue<ParamValue>]) -> Vec<Problem> {
    let names = || declared.iter().map(|param| param.name.as_str());
    let is_known = |name: &str| names().any(|known| known == name);
    let unknown = given
        .iter()
        .enumerate()
        .filter(|(_, value)| !is_known(&value.name));
    unknown
        .map(|(i, value)| {
            let remedy = match nearest(&value.name, names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None if declared.is_empty() => "the pipeline has no params".to_owned(),
                None => format!("the params are {}", names().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("the pipeline has no param `{}`", value.name);
            problem(format!("spec.params[{i}].name"), message, remedy)
        })
        .collect()
}

fn mismatch(param: &Param, value: &ParamValue, index: usize) -> Option<Problem> {
    let field = format!("spec.params[{index}].value");
    if let Some(message) = type_mismatch(param.param_type, value) {
        let message = format!("the param `{}`: {message}", param.name);
        return Some(problem(
            field,
            message,
            "give a value of the declared type".to_owned(),
        ));
    }
    if !param.allowed.is_empty() && !param.allowed.contains(value) {
        let message = format!("the param `{}` may not be {}", param.name, show(value));
        return Some(problem(
            field,
            message,
            format!("use one of {}", show_all(&param.allowed)),
        ));
    }
    None
}

fn problem(field: String, message: String, remedy: String) -> Problem {
    Problem {
        field,
        message,
        remedy,
        column: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> ParamValue {
        ParamValue::String(value.to_owned())
    }

    fn declared() -> Vec<Param> {
        vec![
            Param {
                name: "profile".to_owned(),
                default: Some(text("release")),
                allowed: vec![text("debug"), text("release")],
                ..Param::default()
            },
            Param {
                name: "count".to_owned(),
                param_type: ParamType::Integer,
                ..Param::default()
            },
        ]
    }

    fn given(values: &[(&str, ParamValue)]) -> Vec<NamedValue<ParamValue>> {
        values
            .iter()
            .map(|(name, value)| NamedValue {
                name: (*name).to_owned(),
                value: value.clone(),
            })
            .collect()
    }

    fn problems(values: &[(&str, ParamValue)]) -> String {
        let problems = resolve(&declared(), &given(values)).unwrap_err();
        problems
            .iter()
            .map(Problem::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn a_given_value_wins_over_the_default() {
        let values = [
            ("count", ParamValue::Integer(2)),
            ("profile", text("debug")),
        ];
        let resolved = resolve(&declared(), &given(&values)).unwrap();
        assert_eq!(
            resolved,
            given(&[
                ("profile", text("debug")),
                ("count", ParamValue::Integer(2))
            ])
        );
        let resolved = resolve(&declared(), &given(&values[..1])).unwrap();
        assert_eq!(resolved[0].value, text("release"));
    }

    #[test]
    fn every_mistake_is_named_with_its_field_and_remedy() {
        insta::assert_snapshot!(problems(&[("profil", text("debug")), ("count", text("2"))]), @r#"
        spec.params[0].name: the pipeline has no param `profil`; did you mean `profile`?
        spec.params[1].value: the param `count`: "2" is a string, not an integer; give a value of the declared type
        "#);
        insta::assert_snapshot!(problems(&[("profile", text("fast"))]), @r#"
        spec.params[0].value: the param `profile` may not be "fast"; use one of "debug", "release"
        spec.params: the param `count` has no value; add it to spec.params, or give it a default in the pipeline
        "#);
    }
}
