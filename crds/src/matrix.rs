//! The matrix of a job: the values that it runs with.
//! Must not build combinations: that is the planner's part.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::pipeline::ParamValue;
use crate::rule::{IDENTIFIER, MAX_AXES, MAX_CONDITION, MAX_IDENTIFIER, MAX_MATRIX, rules};

/// Axes and their values: the job runs once for each combination, 256 at most.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matrix {
    /// The axes; expressions read a value as `matrix.AXIS`.
    #[schemars(
        length(min = 1, max = MAX_AXES),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub axes: Vec<Axis>,
    /// Combinations that are left out: each that has all the values of an entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_MATRIX), transform = bound_entries)]
    #[schemars(example = serde_json::json!([{"os": "windows", "profile": "debug"}]))]
    pub exclude: Vec<BTreeMap<String, ParamValue>>,
    /// Further values for the combinations that have the entry's values of axes; an entry that
    /// fits none becomes a combination of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_MATRIX), transform = bound_entries)]
    #[schemars(example = serde_json::json!([{"os": "linux", "coverage": true}]))]
    pub include: Vec<BTreeMap<String, ParamValue>>,
    /// Most jobs of the matrix that run at once; no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    #[schemars(example = 4)]
    pub max_parallel: Option<u32>,
    /// Stops the other jobs of the matrix when one has failed; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_fast: Option<bool>,
}

/// An entry of `include` may name the axes and as many further values.
fn bound_entries(schema: &mut Schema) {
    if let Some(entries) = schema.get_mut("items") {
        entries["maxProperties"] = (2 * MAX_AXES).into();
    }
}

/// One axis of a matrix.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(example = serde_json::json!({"name": "profile", "values": ["debug", "release"]}))]
pub struct Axis {
    /// Name of the axis, unique in the matrix.
    #[schemars(
        length(min = 1, max = MAX_IDENTIFIER),
        extend("x-kubernetes-validations" = rules(&[IDENTIFIER]))
    )]
    #[schemars(example = &"profile")]
    pub name: String,
    /// The values; not together with `from`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = MAX_MATRIX))]
    #[schemars(example = ["debug", "release"])]
    pub values: Vec<ParamValue>,
    /// The values as a CEL expression, evaluated when the jobs in `needs` have ended: a list, or
    /// text that is a list in JSON, such as `jobs.find.outputs.folders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_CONDITION))]
    #[schemars(example = &"fromJson(jobs.list.outputs.packages)")]
    pub from: Option<String>,
}
