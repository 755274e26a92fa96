//! Environment variables of jobs and steps.
//! Must not resolve references: that is the kubelet's work, or the command line's in local mode.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::{ENV_NAME, ENV_NOT_RESERVED, MAX_OBJECT_NAME, ONE_SOURCE, ONE_VALUE, rules};

/// One environment variable: a value, or where to take the value from.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules(&[ONE_VALUE, ENV_NOT_RESERVED])))]
#[schemars(example = serde_json::json!({"name": "PROFILE", "value": "release"}))]
pub struct EnvVar {
    /// Name of the variable, such as `PROFILE`.
    #[schemars(length(min = 1, max = 128), regex(pattern = ENV_NAME))]
    #[schemars(example = &"PROFILE")]
    pub name: String,
    /// The value; `${{ }}` expressions in it are evaluated. In variables of steps, jobs and the
    /// pipeline `${{ hashFiles('**/Cargo.lock') }}` is the hash of files of the job's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    #[schemars(example = &"${{ params.profile }}")]
    pub value: Option<String>,
    /// Where the value comes from; not together with `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// A reference to one value of a Secret or ConfigMap in the run's namespace: exactly one is set.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules(&[ONE_SOURCE])))]
pub struct EnvSource {
    /// A key of a Secret. The value is masked in logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// A key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// One key of a Secret.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME))]
    #[schemars(example = &"registry")]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME))]
    #[schemars(example = &"token")]
    pub key: String,
    /// When true, a missing Secret or key leaves the variable unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// One key of a ConfigMap.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME))]
    #[schemars(example = &"settings")]
    pub name: String,
    /// Key in the ConfigMap.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME))]
    #[schemars(example = &"level")]
    pub key: String,
    /// When true, a missing ConfigMap or key leaves the variable unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}
