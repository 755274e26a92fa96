//! Connects to the cluster of the kubeconfig, and puts its errors into words.
//! Must not know the commands.

use crds::{PipelineRun, PipelineRunStatus};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};

use crate::args::ClusterArguments;
use crate::failure::{Failure, chain};

/// A connection to one namespace.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl Cluster {
    /// Connects by the kubeconfig, else by the service account of the pod that this runs in.
    pub(super) async fn connect(arguments: &ClusterArguments) -> Result<Self, Failure> {
        let config = match &arguments.context {
            Some(context) => {
                let context = Some(context.clone());
                let options = KubeConfigOptions {
                    context,
                    ..KubeConfigOptions::default()
                };
                Config::from_kubeconfig(&options)
                    .await
                    .map_err(|error| chain(&error))
            }
            None => Config::infer().await.map_err(|error| chain(&error)),
        };
        let config = config.map_err(|error| {
            Failure::usage(format!(
                "cannot find a cluster: {error}; set KUBECONFIG or --context, `kubectl config \
                 get-contexts` lists what there is"
            ))
        })?;
        let namespace = arguments
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| {
            Failure::usage(format!("the kubeconfig cannot be used: {}", chain(&error)))
        })?;
        Ok(Self { client, namespace })
    }

    /// The runs of the namespace.
    pub(super) fn runs(&self) -> Api<PipelineRun> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One run.
    pub(super) async fn run(&self, name: &str) -> Result<PipelineRun, Failure> {
        self.runs()
            .get(name)
            .await
            .map_err(|error| self.failure("run", name, &error))
    }

    /// An error of the API server in words. `kind` and `name` say what was asked for.
    pub(super) fn failure(&self, kind: &str, name: &str, error: &kube::Error) -> Failure {
        failure(&self.namespace, kind, name, error)
    }
}

fn failure(namespace: &str, kind: &str, name: &str, error: &kube::Error) -> Failure {
    let status = match error {
        kube::Error::Api(status) => status,
        other => {
            return Failure::infrastructure(format!(
                "cannot reach the cluster: {}; try `kubectl get namespaces`",
                chain(other)
            ));
        }
    };
    match status.code {
        404 if status
            .details
            .as_ref()
            .is_some_and(|details| !details.name.is_empty()) =>
        {
            let list = if kind == "run" {
                "rustci get"
            } else {
                "kubectl get pipelines"
            };
            Failure::usage(format!(
                "no {kind} `{name}` in namespace `{namespace}`: `{list}` lists what there is"
            ))
        }
        404 => Failure::usage(
            "this cluster does not know RustCI's resources: install RustCI, or choose another \
             cluster with --context",
        ),
        401 | 403 => Failure::usage(format!("the cluster refuses: {}", status.message)),
        400 | 409 | 422 => Failure::usage(status.message.clone()),
        _ => Failure::infrastructure(format!("the cluster answers: {}", status.message)),
    }
}

/// The status of a run; an empty one before the operator has seen it.
pub(super) fn status(run: &PipelineRun) -> PipelineRunStatus {
    run.status.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::core::response::StatusDetails;

    use super::*;
    use crate::verdict::Verdict;

    fn answer(code: u16, details: Option<StatusDetails>) -> Failure {
        let status = Status {
            code,
            details,
            message: "no".to_owned(),
            ..Status::default()
        };
        failure("copse", "run", "oak-1", &kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_missing_run_and_a_missing_installation_are_told_apart() {
        let details = StatusDetails {
            name: "oak-1".to_owned(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        assert_eq!(
            answer(404, Some(details)).message,
            "no run `oak-1` in namespace `copse`: `rustci get` lists what there is"
        );
        assert!(answer(404, None).message.contains("install RustCI"));
    }

    #[test]
    fn what_the_user_can_mend_is_usage_and_the_rest_is_infrastructure() {
        assert_eq!(answer(422, None).verdict, Verdict::Usage);
        assert_eq!(answer(503, None).verdict, Verdict::Infrastructure);
    }
}
