//! Values of texts with expressions, as far as they are known before a run.
//! Must not guess: what depends on a run stays as it is written.

use crds::{NamedValue, ParamValue};
use planner::expression::{Base, Evaluator, RunValues, Scope, Template, Type, Values};

/// What is known before a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// Name of the pipeline.
    pub(super) pipeline: &'a str,
    /// Values of the parameters.
    pub(super) params: &'a [NamedValue<ParamValue>],
    /// Values of the matrix; none outside of one.
    pub(super) matrix: &'a [NamedValue<ParamValue>],
}

impl Known<'_> {
    /// The value of a text, or the text as it is written when its value is not known yet.
    pub(super) fn text(&self, text: &str) -> String {
        // These have values in a run only, and would be empty here.
        let of_run = ["source.", "source[", "run.", "run["];
        if of_run.iter().any(|name| text.contains(name)) {
            return text.to_owned();
        }
        self.evaluate(text).unwrap_or_else(|| text.to_owned())
    }

    fn evaluate(&self, text: &str) -> Option<String> {
        let (params, matrix) = (names(self.params), names(self.matrix));
        let scope = Scope {
            params: &params,
            matrix: (!matrix.is_empty()).then_some(&matrix),
            ..Scope::default()
        };
        // Names of jobs are unknown to this scope, so what needs them is no template here.
        let template = Template::parse(text, &scope).ok()?;
        let base = Base::new(&RunValues {
            params: self.params,
            pipeline: self.pipeline,
            ..RunValues::default()
        });
        let values = Values {
            matrix: self.matrix,
            ..Values::default()
        };
        template.evaluate(&Evaluator::new(&base, &values)).ok()
    }
}

fn names(values: &[NamedValue<ParamValue>]) -> Vec<(&str, Type)> {
    let names = values.iter().map(|value| (value.name.as_str(), Type::Any));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_filled_in_and_the_rest_stays_as_it_is_written() {
        let value = |name: &str, text: &str| NamedValue {
            name: name.to_owned(),
            value: ParamValue::String(text.to_owned()),
        };
        let known = Known {
            pipeline: "orchard",
            params: &[value("fruit", "fig")],
            matrix: &[value("row", "2")],
        };
        for (written, read) in [
            ("plain", "plain"),
            ("${{ params.fruit }}:${{ matrix.row }}", "fig:2"),
            ("of ${{ pipeline.name }}", "of orchard"),
            (
                "${{ jobs.pick.outputs.tag }}",
                "${{ jobs.pick.outputs.tag }}",
            ),
            ("${{ source.branch }}", "${{ source.branch }}"),
            (
                "${{ params.fruit + run.name }}",
                "${{ params.fruit + run.name }}",
            ),
        ] {
            assert_eq!(known.text(written), read);
        }
    }
}
