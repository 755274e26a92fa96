//! Checks of a job's matrix.
//! Must not check where its values are used.

use std::collections::BTreeMap;

use crds::{Axis, Matrix, ParamValue};

use super::ValidMatrix;
use super::checker::{Checker, limit};
use super::job::or_mistakes;
use crate::expression::{Items, Scope, Type};
use crate::matrix::combinations;
use crate::names::nearest;

/// Checks a matrix and builds it, as far as it is known.
pub(super) fn matrix(
    check: &mut Checker,
    path: &str,
    matrix: &Matrix,
    scope: &Scope<'_>,
) -> ValidMatrix {
    let Matrix {
        axes,
        exclude,
        include,
        max_parallel,
        fail_fast,
    } = matrix;
    let before = check.problems.len();
    check.count(&format!("{path}.axes"), axes.len(), 1, limit::AXES);
    let names = axes.iter().map(|axis| axis.name.as_str());
    check.unique(&format!("{path}.axes"), "axis", names);
    let sources = axes.iter().enumerate();
    let sources: Vec<_> = sources
        .map(|(i, raw)| axis(check, &format!("{path}.axes[{i}]"), raw, scope))
        .collect();
    for (list, entries, most, only_axes) in [
        ("exclude", exclude, 2 * limit::AXES, true),
        ("include", include, 2 * limit::AXES, false),
    ] {
        let list = format!("{path}.{list}");
        check.count(&list, entries.len(), 0, limit::MATRIX);
        for (i, entry) in entries.iter().enumerate() {
            self::entry(
                check,
                &format!("{list}[{i}]"),
                axes,
                entry,
                (most, only_axes),
            );
        }
    }
    if *max_parallel == Some(0) {
        let field = format!("{path}.maxParallel");
        check.add(&field, "the number is out of range", "use 1 to 256");
    }
    check.number(
        &format!("{path}.maxParallel"),
        max_parallel.map(i64::from),
        256,
    );
    let mut fixed = None;
    if check.problems.len() == before && sources.iter().all(Option::is_none) {
        let values: Vec<_> = axes.iter().map(|axis| axis.values.clone()).collect();
        match combinations(matrix, &values) {
            Ok(all) if all.is_empty() => {
                check.add(
                    path,
                    "no combination is left",
                    "exclude fewer, or remove the job",
                );
            }
            Ok(all) => fixed = Some(all),
            Err(message) => check.add(path, message, "correct axes, include or exclude"),
        }
    }
    ValidMatrix {
        spec: matrix.clone(),
        sources,
        fixed,
        max_parallel: max_parallel.map(|most| most as usize),
        fail_fast: fail_fast.unwrap_or(true),
    }
}

fn axis(check: &mut Checker, path: &str, axis: &Axis, scope: &Scope<'_>) -> Option<Items> {
    let Axis { name, values, from } = axis;
    check.identifier(&format!("{path}.name"), name);
    check.count(&format!("{path}.values"), values.len(), 0, limit::MATRIX);
    for (i, value) in values.iter().enumerate() {
        check.param_value(&format!("{path}.values[{i}]"), value);
    }
    if values.is_empty() == from.is_none() {
        let message = match from {
            Some(_) => format!("the axis `{name}` has both values and from"),
            None => format!("the axis `{name}` has neither values nor from"),
        };
        check.add(path, message, "set exactly one of the two");
    }
    let from = from.as_ref()?;
    let field = format!("{path}.from");
    check.text(&field, from, 1, limit::CONDITION);
    or_mistakes(check, &field, Items::parse(from, scope))
}

fn entry(
    check: &mut Checker,
    path: &str,
    axes: &[Axis],
    entry: &BTreeMap<String, ParamValue>,
    (most, only_axes): (usize, bool),
) {
    check.count(path, entry.len(), 0, most);
    for (name, value) in entry {
        let names = axes.iter().map(|axis| axis.name.as_str());
        if only_axes && !names.clone().any(|axis| axis == name) {
            let remedy = match nearest(name, names.clone()) {
                Some(axis) => format!("did you mean `{axis}`?"),
                None => format!("the axes are {}", names.collect::<Vec<_>>().join(", ")),
            };
            check.add(path, format!("no axis is named `{name}`"), remedy);
        }
        check.identifier(path, name);
        check.param_value(&format!("{path}.{name}"), value);
    }
}

/// The names that expressions may read as `matrix.NAME`, with their types.
pub(super) fn names(matrix: &Matrix) -> Vec<(&str, Type)> {
    let mut names: Vec<(&str, Type)> = Vec::new();
    let mut note = |name, found: Type| match names.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = known.or(found),
        None => names.push((name, found)),
    };
    for axis in &matrix.axes {
        if axis.from.is_some() {
            note(&axis.name, Type::Any);
        }
        axis.values
            .iter()
            .for_each(|value| note(&axis.name, value.into()));
    }
    for (name, value) in matrix.include.iter().flatten() {
        note(name, value.into());
    }
    names
}
