//! `rustci retry` and `rustci logs` of a retry against a real API server.
//! Must not need an operator: the test writes the statuses that one would write.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use cluster::ControlPlane;
use crds::PipelineRun;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::explain_in_cluster::{NAMESPACE, create, install};
use crate::workspace::{Ended, Workspace};

const TIME: &str = "2026-01-02T03:04:05Z";

fn pipeline() -> Value {
    let step = json!([{"name": "only", "run": "true"}]);
    json!({"jobs": [
        {"name": "pick", "image": "ladder", "steps": step},
        {"name": "press", "image": "mill", "needs": ["pick"], "steps": step},
    ]})
}

/// The status of a run in which `pick` succeeded and `press` failed.
fn failed() -> Value {
    let condition = json!({
        "type": "Succeeded", "status": "False", "reason": "Failed",
        "message": "1 of 2 jobs succeeded", "lastTransitionTime": TIME,
    });
    json!({
        "startTime": TIME,
        "completionTime": TIME,
        "conditions": [condition],
        "pipeline": {"name": "harvest", "spec": pipeline()},
        "jobs": [
            {"name": "pick", "state": "Succeeded", "reason": "Succeeded", "attempt": 1,
             "steps": [{"name": "only", "state": "Succeeded"}]},
            {"name": "press", "state": "Failed", "reason": "StepFailed", "attempt": 1},
        ],
    })
}

/// A server that answers every request with its path and token; returns its address.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap());
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let lines: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let token = lines
        .iter()
        .find(|line| line.starts_with("x-rustci-log-token"));
    let body = format!("{}\n{}\n", lines[0], token.unwrap());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close",
        body.len()
    );
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_repeats_the_runs_spec_and_its_logs_lead_to_the_ended_run() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    install(&client).await;
    let workspace = Workspace::new();
    let rustci = |arguments: &[&str]| {
        let mut command = workspace.command(&[arguments, &["-n", NAMESPACE]].concat());
        command.env("KUBECONFIG", control_plane.kubeconfig());
        Ended::from(command.output().unwrap())
    };
    let harvest = json!({"metadata": {"name": "harvest"}, "spec": pipeline()});
    create::<crds::Pipeline>(&client, harvest, None).await;
    let spec = json!({
        "pipelineRef": {"name": "harvest"}, "source": {"branch": "main"}, "suspend": true,
    });
    let first = json!({"metadata": {"name": "harvest-1"}, "spec": spec});
    create::<PipelineRun>(&client, first.clone(), Some(failed())).await;
    let going = json!({"metadata": {"name": "harvest-2"}, "spec": spec});
    create::<PipelineRun>(&client, going, None).await;

    let made = rustci(&["retry", "harvest-1", "--failed"]).with_code(0);
    let runs: Api<PipelineRun> = Api::namespaced(client.clone(), NAMESPACE);
    let run = runs.get(made.out.trim()).await.unwrap();
    assert!(run.name_any().starts_with("harvest-"));
    let spec = serde_json::to_value(&run.spec).unwrap();
    let expected = json!({
        "pipelineRef": {"name": "harvest"}, "source": {"branch": "main"},
        "retryOf": {"run": "harvest-1", "failed": true}, "suspend": false, "cancel": false,
    });
    assert_eq!(spec, expected);

    for (arguments, text) in [
        (&["harvest-2"][..], "`harvest-2` still goes on"),
        (&["harvest-9"], "no run `harvest-9`"),
        (&["harvest-1", "--from", "pres"], "did you mean `press`?"),
    ] {
        let ended = rustci(&[&["retry"], arguments].concat()).with_code(2);
        assert!(ended.err.contains(text), "{}", ended.err);
    }
    assert_eq!(runs.list(&Default::default()).await.unwrap().items.len(), 3);

    // Its log is where it ran; when that run is gone, the command says so.
    let uid = runs.get("harvest-1").await.unwrap().uid().unwrap();
    let logs = json!({"service": "a/b:c", "address": echo(), "token": "t-1"});
    let patch = Patch::Merge(json!({"status": {"logs": logs}}));
    let parameters = PatchParams::default();
    let patched = runs.patch_status("harvest-1", &parameters, &patch).await;
    patched.unwrap();
    let mut status = failed();
    status["jobs"][0]["fromRun"] = json!({"name": "harvest-1", "uid": uid});
    let third = json!({"metadata": {"name": "harvest-3"}, "spec": spec});
    create::<PipelineRun>(&client, third, Some(status)).await;
    for arguments in [&["logs", "harvest-3"][..], &["logs", "harvest-3", "-f"]] {
        let ended = rustci(arguments);
        assert_eq!(
            ended.code,
            Some(i32::from(arguments.len() > 2)),
            "{}",
            ended.err
        );
        let path =
            format!("/v1/namespaces/{NAMESPACE}/runs/{uid}/jobs/pick/attempts/1/steps/0/log");
        ended.has(&path).has("x-rustci-log-token: t-1");
    }
    let deleted = runs.delete("harvest-1", &DeleteParams::default()).await;
    deleted.unwrap();
    let ended = rustci(&["logs", "harvest-3"]).with_code(0);
    let gone = "the log of job pick was with the run harvest-1, in which it ran and which is gone";
    assert!(ended.err.contains(gone), "{}", ended.err);
}
