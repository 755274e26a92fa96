//! Parameters from the command line, by the types that the pipeline declares.
//! Must not fill in defaults: that is the planner's part.

use crds::{EnvVar, NamedValue, Param, ParamType, ParamValue};
use planner::names::nearest;

use crate::failure::Failure;

/// Reads `NAME=VALUE` options by the declared types. A name given twice counts once, the last wins.
pub fn parse(
    declared: &[Param],
    given: &[(String, String)],
) -> Result<Vec<NamedValue<ParamValue>>, Failure> {
    let mut values: Vec<NamedValue<ParamValue>> = Vec::with_capacity(given.len());
    for (name, text) in given {
        let param = declared.iter().find(|param| &param.name == name);
        let param = param.ok_or_else(|| unknown(declared, name))?;
        let value = value(param, text)?;
        values.retain(|known| &known.name != name);
        values.push(NamedValue {
            name: name.clone(),
            value,
        });
    }
    Ok(values)
}

/// The run's variables: those of its file, under the `NAME=VALUE` options. Of a name that is given
/// twice the last counts.
pub fn env(written: Vec<EnvVar>, given: &[(String, String)]) -> Vec<EnvVar> {
    let given = given.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        value_from: None,
    });
    let mut all = written;
    for variable in given {
        all.retain(|known| known.name != variable.name);
        all.push(variable);
    }
    all
}

/// One value by its declared type.
fn value(param: &Param, text: &str) -> Result<ParamValue, Failure> {
    let wrong = |expected: &str| {
        Failure::usage(format!(
            "parameter `{}` is {expected}, and `{text}` is not one: give --param {}=VALUE",
            param.name, param.name
        ))
    };
    match param.param_type {
        ParamType::String => Ok(ParamValue::String(text.to_owned())),
        ParamType::Integer => text
            .parse()
            .map(ParamValue::Integer)
            .map_err(|_| wrong("a whole number")),
        ParamType::Boolean => text
            .parse()
            .map(ParamValue::Boolean)
            .map_err(|_| wrong("true or false")),
    }
}

/// The failure for a name that the pipeline does not declare.
fn unknown(declared: &[Param], name: &str) -> Failure {
    let names: Vec<&str> = declared.iter().map(|param| param.name.as_str()).collect();
    let remedy = match (nearest(name, names.iter().copied()), names.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, true) => "it has none".to_owned(),
        (None, false) => format!("it has {}", names.join(", ")),
    };
    Failure::usage(format!("the pipeline has no parameter `{name}`: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Vec<Param> {
        let param = |name: &str, param_type| Param {
            name: name.to_owned(),
            param_type,
            ..Param::default()
        };
        vec![
            param("flavour", ParamType::String),
            param("count", ParamType::Integer),
            param("loud", ParamType::Boolean),
        ]
    }

    fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn values_get_the_declared_types_and_the_last_one_wins() {
        let pairs = given(&[
            ("count", "1"),
            ("flavour", "12"),
            ("loud", "true"),
            ("count", "-3"),
        ]);
        let values: Vec<_> = parse(&declared(), &pairs)
            .unwrap()
            .into_iter()
            .map(|v| (v.name, v.value))
            .collect();
        assert_eq!(
            values,
            [
                ("flavour".to_owned(), ParamValue::String("12".to_owned())),
                ("loud".to_owned(), ParamValue::Boolean(true)),
                ("count".to_owned(), ParamValue::Integer(-3)),
            ]
        );
    }

    #[test]
    fn a_wrong_value_and_an_unknown_name_say_what_would_be_right() {
        let message = |pairs: &[_]| parse(&declared(), &given(pairs)).unwrap_err().message;
        assert_eq!(
            message(&[("count", "many")]),
            "parameter `count` is a whole number, and `many` is not one: give --param count=VALUE"
        );
        assert_eq!(
            message(&[("flavor", "mint")]),
            "the pipeline has no parameter `flavor`: did you mean `flavour`?"
        );
    }
}
