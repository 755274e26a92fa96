//! Containers beside the job's own, on a real cluster: services, and steps with another image.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{FailureClass, JobState, PipelineRun, StepState};
use e2e::in_cluster::job_log;
use e2e::namespace::{TestNamespace, condition, job};
use e2e::pipeline::OneJob;
use e2e::rustci::rustci_in_cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const BUSYBOX: &str = "localhost/busybox:1";
/// Another image than the job's, with a shell.
const OTHER: &str = "localhost/build:1";
const SECRET: &str = "apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {page: s3cr3t-page}";

/// A web server that takes a moment to start, and answers with the value of `PAGE`.
fn web(script: &str) -> Value {
    json!({
        "name": "web", "image": BUSYBOX, "command": ["sh", "-c", script],
        "env": [
            {"name": "PAGE", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "page"}}},
            {"name": "AS_IT_STANDS", "value": "$(PAGE) ${{ '5' }}$"},
        ],
        "ports": [8080],
        "readiness": {"tcpPort": 8080},
    })
}

const SERVE: &str = "mkdir /tmp/www
echo \"$PAGE $AS_IT_STANDS ${OF_JOB-unset}\" > /tmp/www/index.html
sleep 1
exec httpd -f -p 8080 -h /tmp/www";

async fn pod_of(namespace: &TestNamespace, run: &PipelineRun) -> Result<Pod> {
    let name = job(run, "only")?
        .pod
        .clone()
        .context("the job has no pod")?;
    Ok(namespace.api::<Pod>().get(&name).await?)
}

#[tokio::test]
async fn steps_start_when_their_service_is_ready_and_it_ends_with_the_job() -> Result<()> {
    TestNamespace::with("service", |namespace| async move {
        namespace.apply(SECRET).await?;
        let script = "wget -qO- http://localhost:8080/; wget -qO- http://web:8080/";
        let pipeline = OneJob::new("service", script)
            .with_job("env", json!([{"name": "OF_JOB", "value": "job"}]))
            .with_job("services", json!([web(SERVE)]));
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("service").await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        ensure!(
            job(&ended, "only")?.state == JobState::Succeeded,
            "{ended:#?}"
        );
        let log = job_log(&namespace, &run, "only").await?;
        // The step does not know the secret, so nothing masks it in what it reads.
        let page = "s3cr3t-page $(PAGE) 5$ unset\n";
        ensure!(
            log == page.repeat(2).as_bytes(),
            "{}",
            String::from_utf8_lossy(&log)
        );
        let pod = pod_of(&namespace, &ended).await?.name_any();
        let done = |pod: Option<&Pod>| {
            let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
            phase == Some("Succeeded")
        };
        namespace
            .wait::<Pod>(&pod, "Succeeded", LIMIT, done)
            .await?;
        let logs = ["logs", &pod, "-c", "service-web"];
        namespace.kubectl(&logs).await.map(drop)
    })
    .await
}

/// Runs a job with this service until it fails; gives the job's reason, class and message.
async fn fails(
    namespace: &TestNamespace,
    script: &str,
    service: Value,
) -> Result<(String, Option<FailureClass>, String, String)> {
    namespace.apply(SECRET).await?;
    let pipeline = OneJob::new("served", script).with_job("services", json!([service]));
    namespace.apply(&pipeline.manifest()).await?;
    let name = namespace.start("served").await?;
    let run = namespace.ended(&name, LIMIT).await?;
    let only = job(&run, "only")?;
    ensure!(only.state == JobState::Failed, "{only:#?}");
    ensure!(condition(&run, "Succeeded").is_some_and(|found| found.0 == "False"));
    let mut explain = rustci_in_cluster()?;
    explain.args(["explain", &name, "-n", &namespace.name]);
    let explained = String::from_utf8_lossy(&explain.output().await?.stdout).into_owned();
    Ok((
        only.reason.clone().unwrap_or_default(),
        only.failure_class,
        only.message.clone().unwrap_or_default(),
        explained,
    ))
}

fn service(command: &str, more: Value) -> Value {
    let mut service = json!({"name": "db", "image": BUSYBOX, "command": ["sh", "-c", command]});
    for (field, value) in more.as_object().into_iter().flatten() {
        service[field] = value.clone();
    }
    service
}

#[tokio::test]
async fn a_service_that_ends_at_its_start_fails_the_job_with_its_last_words() -> Result<()> {
    TestNamespace::with("service-ends", |namespace| async move {
        let dies = service(
            "echo first; echo no disk; exit 3",
            json!({"readiness": {"tcpPort": 1234}}),
        );
        let (reason, class, message, explained) = fails(&namespace, "echo never", dies).await?;
        ensure!(reason == "ServiceFailed" && class == Some(FailureClass::Configuration));
        let wanted = "service `db` ended with exit code 3 at its start: first | no disk";
        ensure!(message == wanted, "{message}");
        ensure!(explained.contains(wanted), "{explained}");
        let remedy = "correct the service's image, command or env";
        ensure!(explained.contains(remedy), "{explained}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_service_that_is_never_ready_fails_the_job_in_time() -> Result<()> {
    TestNamespace::with("service-slow", |namespace| async move {
        let readiness = json!({"exec": {"command": ["test", "-e", "/ready"]}, "timeout": "4s"});
        let slow = service(
            "echo waiting for nothing; exec sleep 1000",
            json!({ "readiness": readiness }),
        );
        let (reason, class, message, _) = fails(&namespace, "echo never", slow).await?;
        ensure!(reason == "ServiceNotReady" && class == Some(FailureClass::Configuration));
        let wanted = "service `db` was not ready within 4s";
        ensure!(message.starts_with(wanted), "{message}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_service_that_ends_while_the_job_runs_ends_the_job() -> Result<()> {
    TestNamespace::with("service-dies", |namespace| async move {
        // It ends when a step has told it to.
        let dies = service(
            "nc -l -p 4321; sleep 2; echo told to end; exit 7",
            json!({}),
        );
        let script = "until echo go | nc localhost 4321; do sleep 0.1; done; sleep 1000";
        let (reason, class, message, _) = fails(&namespace, script, dies).await?;
        ensure!(
            reason == "ServiceFailed" && class == Some(FailureClass::User),
            "{message}"
        );
        let wanted = "service `db` ended with exit code 7 while the job ran";
        ensure!(message.starts_with(wanted), "{message}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_image_of_a_service_that_cannot_be_had_is_an_image_failure() -> Result<()> {
    TestNamespace::with("service-image", |namespace| async move {
        let none = service("true", json!({"image": "localhost/UPPER CASE:1"}));
        let (reason, class, message, _) = fails(&namespace, "echo never", none).await?;
        ensure!(reason == "ImagePullFailed" && class == Some(FailureClass::ImagePull));
        ensure!(
            message.contains("UPPER CASE:1 of service `db`"),
            "{message}"
        );
        Ok(())
    })
    .await
}

fn steps(steps: Value) -> OneJob {
    OneJob::new("images", "").with_job("steps", steps)
}

#[tokio::test]
async fn a_step_with_another_image_works_in_the_same_directory_with_outputs_and_masks() -> Result<()>
{
    TestNamespace::with("step-image", |namespace| async move {
        namespace.apply(SECRET).await?;
        let token = json!([
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "page"}}},
            {"name": "LEVEL", "value": "job"},
        ]);
        let pipeline = steps(json!([
            {"name": "before", "run": "test ! -e /etc/debian_version; echo made here > file"},
            {"name": "other", "image": OTHER, "shell": ["/bin/bash", "-eu"],
             "env": [{"name": "LEVEL", "value": "step"}],
             "run": "test -e /etc/debian_version\ncat file; echo \"$TOKEN $LEVEL $RUSTCI_STEP\"\n\
                     ls -A / | grep -c '^rustci$'; echo found=yes > $RUSTCI_OUTPUT; mkdir sub\n\
                     test -z \"${RUSTCI_AGENT_CA-}\"; test ! -e /var/run/rustci/token; \
                     ! ls /rustci/*.sock 2> /dev/null"},
            {"name": "inside", "image": OTHER, "workingDir": "sub", "run": "basename $PWD"},
            {"name": "fails", "image": OTHER, "continueOnError": true, "run": "exit 9"},
            {"name": "late", "image": OTHER, "continueOnError": true, "timeout": "1s",
             "run": "echo started; sleep 1000"},
            {"name": "after", "run": "test ! -e /etc/debian_version; echo back"},
        ]))
        .with_job("env", token)
        .with_job(
            "outputs",
            json!([
            {"name": "found", "value": "${{ steps.other.outputs.found }}"}]),
        );
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("images").await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        let only = job(&ended, "only")?;
        ensure!(only.state == JobState::Succeeded, "{only:#?}");
        let log = String::from_utf8(job_log(&namespace, &run, "only").await?)?;
        let wanted = "made here\n*** step other\n1\nsub\nstarted\nback\n";
        ensure!(log == wanted, "{log}");
        ensure!(only.outputs[0].value == "yes", "{:?}", only.outputs);
        ensure!(only.steps[3].exit_code == Some(9), "{:?}", only.steps);
        ensure!(
            only.steps[4].state == StepState::TimedOut,
            "{:?}",
            only.steps
        );
        let pod = pod_of(&namespace, &ended).await?;
        let containers = pod.spec.map_or(0, |spec| spec.containers.len());
        ensure!(
            containers == 3,
            "one container for each image, and the carrier"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn cancel_stops_a_step_in_another_image() -> Result<()> {
    TestNamespace::with("step-image-stop", |namespace| async move {
        let script = "trap 'echo stopping; exit 1' TERM; echo started\n\
                      while :; do sleep 0.1; done";
        let pipeline = steps(json!([
            {"name": "long", "image": OTHER, "run": script},
            {"name": "tidy", "image": OTHER, "when": "always()", "run": "echo tidied"},
        ]));
        namespace.apply(&pipeline.manifest()).await?;
        let (run, _) = namespace.running("images", "only", LIMIT).await?;
        let mut said = Vec::new();
        while said != b"started\n" {
            said = job_log(&namespace, &run, "only").await.unwrap_or_default();
        }
        namespace
            .patch_run(&run, json!({"spec": {"cancel": true}}))
            .await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        ensure!(
            job(&ended, "only")?.state == JobState::Cancelled,
            "{ended:#?}"
        );
        let log = String::from_utf8(job_log(&namespace, &run, "only").await?)?;
        // The shell may tell of its child that was ended as well.
        let is_whole = log.starts_with("started\n") && log.ends_with("stopping\ntidied\n");
        ensure!(is_whole, "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn too_much_memory_in_another_image_is_called_so() -> Result<()> {
    TestNamespace::with("step-image-memory", |namespace| async move {
        let script = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
        let pipeline = steps(json!([{"name": "eat", "image": OTHER, "run": script}]))
            .with_job("pod", json!({"resources": {"limits": {"memory": "40Mi"}}}));
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("images").await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        let only = job(&ended, "only")?;
        ensure!(
            only.failure_class == Some(FailureClass::OutOfMemory),
            "{only:#?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_image_of_a_step_that_cannot_be_had_is_an_image_failure() -> Result<()> {
    TestNamespace::with("step-image-none", |namespace| async move {
        let pipeline = steps(json!([
            {"name": "own", "run": "echo never"},
            {"name": "none", "image": "localhost/UPPER CASE:1", "run": "echo never"},
        ]));
        namespace.apply(&pipeline.manifest()).await?;
        let run = namespace.start("images").await?;
        let ended = namespace.ended(&run, LIMIT).await?;
        let only = job(&ended, "only")?;
        ensure!(
            only.failure_class == Some(FailureClass::ImagePull),
            "{only:#?}"
        );
        let message = only.message.as_deref().unwrap_or_default();
        ensure!(message.contains("UPPER CASE:1 of a step"), "{message}");
        ensure!(only.steps.iter().all(|step| step.start_time.is_none()));
        Ok(())
    })
    .await
}
