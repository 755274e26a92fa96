//! The combinations of a matrix.
//! Must not evaluate expressions: the values of all axes come in.

use std::collections::BTreeMap;

use crds::{Matrix, NamedValue, ParamValue};

use crate::params::plain;

/// Most combinations of a matrix.
pub const MAX_COMBINATIONS: usize = 256;
/// Most combinations before those in `exclude` are left out.
const MAX_PRODUCT: usize = 4_096;

/// Values by name, in the order of the axes; further values of `include` come after them.
pub type Combination = Vec<NamedValue<ParamValue>>;

/// Every combination of these values, one list for each axis, in the order of the axes: the last
/// axis changes fastest. The error is a sentence for people.
pub fn combinations(
    matrix: &Matrix,
    values: &[Vec<ParamValue>],
) -> Result<Vec<Combination>, String> {
    let product = values
        .iter()
        .fold(1_usize, |product, axis| product.saturating_mul(axis.len()));
    if product > MAX_PRODUCT {
        return Err(format!(
            "the matrix has {product} combinations before exclude, and {MAX_PRODUCT} are allowed"
        ));
    }
    let mut all: Vec<Combination> = vec![Vec::new()];
    for (axis, values) in matrix.axes.iter().zip(values) {
        let longer = all.iter().flat_map(|known| {
            values.iter().map(move |value| {
                let value = NamedValue {
                    name: axis.name.clone(),
                    value: value.clone(),
                };
                known.iter().cloned().chain([value]).collect()
            })
        });
        all = longer.collect();
    }
    all.retain(|combination| {
        !matrix
            .exclude
            .iter()
            .any(|entry| has_all(combination, entry))
    });
    for entry in &matrix.include {
        include(matrix, &mut all, entry)?;
    }
    if all.len() > MAX_COMBINATIONS {
        return Err(format!(
            "the matrix has {} combinations, and {MAX_COMBINATIONS} are allowed",
            all.len()
        ));
    }
    match twice(matrix, &all) {
        Some(value) => Err(format!("the combination {value} is there twice")),
        None => Ok(all),
    }
}

/// Extends the combinations that an entry fits, or adds it as one.
fn include(
    matrix: &Matrix,
    all: &mut Vec<Combination>,
    entry: &BTreeMap<String, ParamValue>,
) -> Result<(), String> {
    let is_axis = |name: &str| matrix.axes.iter().any(|axis| axis.name == name);
    let (of_axes, further): (BTreeMap<_, _>, BTreeMap<_, _>) = entry
        .clone()
        .into_iter()
        .partition(|(name, _)| is_axis(name));
    let mut fits_one = false;
    for combination in all.iter_mut().filter(|c| has_all(c, &of_axes)) {
        fits_one = true;
        for (name, value) in &further {
            combination.retain(|known| known.name != *name);
            combination.push(NamedValue {
                name: name.clone(),
                value: value.clone(),
            });
        }
    }
    if fits_one {
        return Ok(());
    }
    let mut new = Combination::new();
    for axis in &matrix.axes {
        let Some(value) = of_axes.get(&axis.name) else {
            return Err(format!(
                "an entry of include fits no combination and has no value for the axis `{}`",
                axis.name
            ));
        };
        new.push(NamedValue {
            name: axis.name.clone(),
            value: value.clone(),
        });
    }
    new.extend(
        further
            .into_iter()
            .map(|(name, value)| NamedValue { name, value }),
    );
    all.push(new);
    Ok(())
}

fn has_all(combination: &Combination, entry: &BTreeMap<String, ParamValue>) -> bool {
    entry.iter().all(|(name, value)| {
        let found = combination.iter().find(|known| known.name == *name);
        found.is_some_and(|known| known.value == *value)
    })
}

/// Two combinations that read the same: their jobs would have one name.
fn twice(matrix: &Matrix, all: &[Combination]) -> Option<String> {
    let axes = matrix.axes.len();
    let mut seen = std::collections::HashSet::new();
    let texts =
        |c: &Combination| -> Vec<String> { c[..axes].iter().map(|v| plain(&v.value)).collect() };
    all.iter()
        .find(|combination| !seen.insert(texts(combination)))
        .map(|combination| texts(combination).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(yaml: &str) -> Result<Vec<String>, String> {
        let matrix: Matrix = serde_yaml::from_str(yaml).unwrap();
        let values: Vec<_> = matrix.axes.iter().map(|axis| axis.values.clone()).collect();
        let text = |combination: &Combination| {
            let parts = combination
                .iter()
                .map(|v| format!("{}={}", v.name, plain(&v.value)));
            parts.collect::<Vec<_>>().join(" ")
        };
        combinations(&matrix, &values).map(|all| all.iter().map(text).collect())
    }

    const TWO: &str = "axes: [{name: os, values: [a, b]}, {name: n, values: [1, 2]}]\n";

    #[test]
    fn the_last_axis_changes_fastest() {
        let all = matrix(TWO).unwrap();
        assert_eq!(all, ["os=a n=1", "os=a n=2", "os=b n=1", "os=b n=2"]);
    }

    #[test]
    fn excluded_combinations_go_and_included_ones_come_or_are_extended() {
        let yaml = format!(
            "{TWO}exclude: [{{os: a, n: 2}}]\n\
             include: [{{os: b, fast: true}}, {{n: 1, deep: x}}, {{os: c, n: 9, deep: y}}]"
        );
        assert_eq!(
            matrix(&yaml).unwrap(),
            [
                "os=a n=1 deep=x",
                "os=b n=1 fast=true deep=x",
                "os=b n=2 fast=true",
                "os=c n=9 deep=y",
            ]
        );
    }

    #[test]
    fn a_matrix_that_cannot_be_built_says_why() {
        let error = |yaml: &str| matrix(yaml).unwrap_err();
        insta::assert_snapshot!(error(&format!("{TWO}include: [{{os: c}}]")), @"an entry of include fits no combination and has no value for the axis `n`");
        insta::assert_snapshot!(error("axes: [{name: n, values: [1, 2, '1']}]"), @"the combination 1 is there twice");
        let wide = |count: usize| format!("{:?}", (0..count).collect::<Vec<_>>());
        let square = |a: usize, b: usize| {
            format!(
                "axes: [{{name: a, values: {}}}, {{name: b, values: {}}}]",
                wide(a),
                wide(b)
            )
        };
        insta::assert_snapshot!(error(&square(17, 16)), @"the matrix has 272 combinations, and 256 are allowed");
        insta::assert_snapshot!(error(&square(256, 256)), @"the matrix has 65536 combinations before exclude, and 4096 are allowed");
        assert_eq!(matrix(&square(16, 16)).unwrap().len(), 256);
    }
}
