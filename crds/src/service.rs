//! Services: containers beside the steps of a job.
//! Must not know how a service is started or watched.

use k8s_openapi::api::core::v1::ResourceRequirements;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::env::EnvVar;
use crate::rule::{DURATION, LABEL, MAX_DURATION, MAX_ENV, MAX_SERVICE_NAME, ONE_PROBE, rules};

/// A container that runs beside the steps, such as a database. The steps start when it is ready,
/// and reach it as `localhost` or by its name; it ends with the job.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Name of the service, unique in the job: a lower-case DNS label. Its container is
    /// `service-NAME`.
    #[schemars(
        length(min = 1, max = MAX_SERVICE_NAME),
        extend("x-kubernetes-validations" = rules(&[LABEL]))
    )]
    #[schemars(example = &"db")]
    pub name: String,
    /// Container image. `${{ }}` expressions in it are evaluated.
    #[schemars(length(min = 1, max = 512))]
    #[schemars(example = &"docker.io/library/postgres:17")]
    pub image: String,
    /// Program to run instead of the image's entrypoint, as it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    #[schemars(example = ["postgres"])]
    pub command: Vec<String>,
    /// Arguments of the program, as they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    #[schemars(example = ["-c", "fsync=off"])]
    pub args: Vec<String>,
    /// Environment of the service: this and the image's own only, nothing of pipeline or job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_ENV),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,
    /// Ports on which it listens. They are for readers and for a check: all containers of a job
    /// share their ports, so no two services may have the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(range(min = 1, max = 65535)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[schemars(example = [5432])]
    pub ports: Vec<u16>,
    /// How to see that it is ready, such as `{tcpPort: 5432}`. Without it, it is ready when its
    /// process has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// Resources of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// User id of its processes; that of the steps by default. 0 needs a namespace that allows
    /// root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    #[schemars(example = 999)]
    pub run_as_user: Option<i64>,
}

/// How to see that a service is ready: exactly one of `tcpPort`, `httpGet` and `exec`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules(&[ONE_PROBE])))]
#[schemars(example = serde_json::json!({"tcpPort": 5432}))]
pub struct Readiness {
    /// Ready when this port takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    #[schemars(example = 5432)]
    pub tcp_port: Option<u16>,
    /// Ready when this request is answered with a code from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// Ready when this command in the service's container ends with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCommand>,
    /// Time from one try to the next, such as `2s`; `1s` by default. One try may take 5 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"2s")]
    pub period: Option<String>,
    /// Longest time from its start until it is ready; then the job fails. `2m` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_DURATION),
        extend("x-kubernetes-validations" = rules(&[DURATION]))
    )]
    #[schemars(example = &"1m")]
    pub timeout: Option<String>,
}

/// An HTTP request to a service.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGet {
    /// Port of the service.
    #[schemars(range(min = 1, max = 65535))]
    #[schemars(example = 8080)]
    pub port: u16,
    /// Path of the request; `/` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[schemars(example = &"/healthz")]
    pub path: Option<String>,
}

/// A command in a service's container.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecCommand {
    /// Program and arguments; no shell is between.
    #[schemars(length(min = 1, max = 16), inner(length(max = 1024)))]
    #[schemars(example = ["pg_isready"])]
    pub command: Vec<String>,
}
