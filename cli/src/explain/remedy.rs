//! What to do about each reason of runs and jobs.
//! Must not repeat what a status' own message says.

use crds::{FailureClass, JobStatus, PipelineRun};
use kube::ResourceExt;

use super::job::failed_step;

/// What to do about a run's reason; empty when nothing is wrong or the message says it.
pub(super) fn of_run(run: &PipelineRun, reason: &str, local: bool) -> String {
    let name = run.name_any();
    match reason {
        "Pending" if local => "start it again: its process ended before it began".to_owned(),
        "Pending" => "look whether the operator runs: `kubectl get pods -A -l \
                      app.kubernetes.io/name=rustci-operator`"
            .to_owned(),
        "Suspended" => {
            format!(
                "let it go on: `kubectl patch prun {name} --type merge -p \
                 '{{\"spec\":{{\"suspend\":false}}}}'`"
            )
        }
        "Queued" => {
            let status = run.status.as_ref();
            let concurrency = status.and_then(|status| status.concurrency.as_ref());
            let holder = concurrency.and_then(|concurrency| concurrency.holder.as_deref());
            let holder = holder.unwrap_or("RUN");
            format!("wait for its end, or stop it: `rustci cancel {holder}`")
        }
        "Superseded" => "start it again if it is still wanted".to_owned(),
        "WaitingForPipeline" | "PipelineNotFound" => {
            "create the Pipeline in the run's namespace, or correct its name in spec.pipelineRef or \
             in uses"
                .to_owned()
        }
        "InvalidPipeline" => "correct the pipeline; `rustci lint FILE` shows where".to_owned(),
        "RetryRefused" => "do what the message says, or start a run without retryOf".to_owned(),
        "InvalidRun" => "correct the parameters and start another run".to_owned(),
        _ => String::new(),
    }
}

/// What to do about a job's reason.
pub(super) fn of_job(run: &PipelineRun, job: &JobStatus, reason: &str, local: bool) -> String {
    let pod = job.pod.as_deref().unwrap_or("POD");
    let runner = job.runner.as_deref().unwrap_or("RUNNER");
    match reason {
        "StepFailed" | "StepTimedOut" if !local => see_log(run, job),
        "StepTimedOut" => "raise the step's timeout, or make it quicker".to_owned(),
        "JobTimedOut" => "raise the job's timeout, or make its steps quicker".to_owned(),
        "RunTimedOut" => "raise the pipeline's timeout, or make its jobs quicker".to_owned(),
        "AwaitingApproval" if local => {
            "answer on the terminal, or run it with --approve JOB or --approve-all".to_owned()
        }
        "AwaitingApproval" => answer(run, job),
        "Rejected" if local => {
            "run it again and approve the job: on the terminal, or with --approve JOB".to_owned()
        }
        "Rejected" => "ask who rejected it; start the run again when it may go on".to_owned(),
        "ApprovalTimedOut" => {
            "start the run again and answer in time, or raise approval.timeout".to_owned()
        }
        "WaitingForRunner" => {
            format!("wait for a free place, or raise it: `kubectl scale rnr {runner} --replicas=N`")
        }
        "RunnerNotFound" => format!("create the Runner {runner}, or correct the job's runner"),
        "Unschedulable" => "ask for less in pod.resources, correct nodeSelector and tolerations, \
                            or add a node"
            .to_owned(),
        "ImagePullFailed" => "correct the image's name, or give its credentials in \
                              pod.imagePullSecrets"
            .to_owned(),
        "MissingReference" => {
            "create the Secret, ConfigMap or key in the run's namespace, or correct its name in env"
                .to_owned()
        }
        "ServiceStarting" => "wait until its readiness check succeeds".to_owned(),
        "ServiceNotReady" => "correct the service or its readiness check, or raise \
                              readiness.timeout"
            .to_owned(),
        "ServiceFailed" if job.failure_class == Some(FailureClass::OutOfMemory) => {
            "raise the service's resources.limits.memory".to_owned()
        }
        "ServiceFailed" => "correct the service's image, command or env; it must keep running as \
                            long as the job"
            .to_owned(),
        "ContainerStartFailed" | "PodStarting" => {
            format!("look at the pod: `kubectl describe pod {pod}`")
        }
        "AgentStarting" | "AgentNotConnected" | "AgentLost" | "SetupFailed" => {
            format!("look at the pod's log: `kubectl logs {pod} --all-containers`")
        }
        "QuotaExceeded" => "free some of the namespace's quota, or raise it: `kubectl get \
                            resourcequota`"
            .to_owned(),
        "PodRefused" => "correct what the API server refuses, often the namespace's pod security \
                         level or a webhook"
            .to_owned(),
        "OutOfMemory" => "raise pod.resources.limits.memory, or use less".to_owned(),
        "Evicted" | "NodeLost" | "PodDeleted" => "start the run again".to_owned(),
        "MatrixFailed" => {
            "correct the matrix, or the output that it takes its values from".to_owned()
        }
        "NoImage" => "set image in the job or in its Runner".to_owned(),
        "OutputsTooLarge" => {
            "keep outputs small: pass large values as files outside of the run".to_owned()
        }
        _ => String::new(),
    }
}

/// How a waiting job is answered, and what it takes.
fn answer(run: &PipelineRun, job: &JobStatus) -> String {
    let name = run.name_any();
    let job = job.job.as_ref().unwrap_or(&job.name);
    let namespace = run.namespace().map(|name| format!(" -n {name}"));
    let namespace = namespace.unwrap_or_default();
    format!(
        "answer it: `rustci approve {name} {job}{namespace}` or `rustci reject {name} \
         {job}{namespace}`; that takes the right to update pipelineruns/approval, which the \
         ClusterRole rustci-approver gives"
    )
}

fn see_log(run: &PipelineRun, job: &JobStatus) -> String {
    let step = failed_step(job).map(|(_, step)| format!(" --step {}", step.name));
    let namespace = run.namespace().map(|name| format!(" -n {name}"));
    format!(
        "see its whole log: `rustci logs {} --job {}{}{}`",
        run.name_any(),
        job.name,
        step.unwrap_or_default(),
        namespace.unwrap_or_default()
    )
}
