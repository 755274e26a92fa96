//! Explanations of the main troubles, word for word.

use crds::{
    FailureClass, JobStatus, NamedValue, PipelineRef, PipelineRunSpec, StepState, StepStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(10_000 + secs).unwrap()
}

fn run(reason: &str, message: &str, jobs: Vec<JobStatus>) -> PipelineRun {
    let spec = PipelineRunSpec {
        pipeline_ref: Some(PipelineRef {
            name: "orchard".to_owned(),
        }),
        ..PipelineRunSpec::default()
    };
    let mut run = PipelineRun::new("orchard-7", spec);
    run.metadata.creation_timestamp = Some(Time(at(0)));
    run.status = Some(PipelineRunStatus {
        start_time: Some(Time(at(1))),
        conditions: vec![Condition {
            type_: condition::SUCCEEDED.to_owned(),
            status: "Unknown".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(at(1)),
            observed_generation: None,
        }],
        jobs,
        ..PipelineRunStatus::default()
    });
    run
}

fn job(name: &str, state: JobState, reason: &str, message: &str) -> JobStatus {
    JobStatus {
        name: name.to_owned(),
        state,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        attempt: 1,
        pod: Some(format!("orchard-7-{name}")),
        runner: Some("cellar".to_owned()),
        start_time: Some(Time(at(2))),
        ..JobStatus::default()
    }
}

fn pod(name: &str, status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).unwrap()
}

fn event(object: &str, reason: &str, message: &str, count: i32, secs: i64) -> Event {
    serde_json::from_value(json!({
        "metadata": {"name": format!("{object}-{reason}")},
        "involvedObject": {"kind": "Pod", "name": object},
        "type": if reason == "Scheduled" { "Normal" } else { "Warning" },
        "reason": reason, "message": message, "count": count,
        "lastTimestamp": at(secs).to_string(),
    }))
    .unwrap()
}

fn told(facts: &Facts) -> String {
    text(&explain(facts, at(62)))
}

#[test]
fn a_failed_step_is_told_with_its_log_and_what_was_not_run() {
    let step = |name: &str, state, exit_code| StepStatus {
        name: name.to_owned(),
        state,
        exit_code,
        start_time: Some(Time(at(3))),
        ..StepStatus::default()
    };
    let mut press = job(
        "press",
        JobState::Failed,
        "StepFailed",
        "step `squeeze` ended with 3",
    );
    press.failure_class = Some(FailureClass::User);
    press.end_time = Some(Time(at(20)));
    press.outputs = vec![NamedValue::default()];
    press.steps = vec![
        step("rinse", StepState::Succeeded, Some(0)),
        step("squeeze", StepState::Failed, Some(3)),
    ];
    let bottle = job("bottle", JobState::Skipped, "NeedsNotSucceeded", "");
    let mut facts = Facts {
        run: run("Failed", "1 of 3 jobs succeeded", vec![bottle, press]),
        ..Facts::default()
    };
    facts.run.metadata.namespace = Some("farm".to_owned());
    let key = ("press".to_owned(), "squeeze".to_owned());
    let lines = vec!["pressing".to_owned(), "the press is stuck".to_owned()];
    facts.tails.insert(key.clone(), Ok(lines));
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: Failed
      1 of 3 jobs succeeded

    job press failed after 18.0s: StepFailed (User)
      step `squeeze` ended with 3
      step squeeze ended with exit code 3
        | pressing
        | the press is stuck
      what to do: see its whole log: `rustci logs orchard-7 --job press --step squeeze -n farm`

    not run, by `when` or since a need did not succeed: bottle
    ");
    let steps = failed_steps(facts.run.status.as_ref().unwrap());
    assert_eq!((steps[0].step.as_str(), steps[0].index), ("squeeze", 1));
    facts
        .tails
        .insert(key, Err("the cluster refuses".to_owned()));
    assert!(told(&facts).contains("its log cannot be read: the cluster refuses"));
}

#[test]
fn a_pod_that_fits_no_node_is_told_with_the_schedulers_words() {
    let scheduler = "0/3 nodes are available: 3 Insufficient memory.";
    let facts = Facts {
        run: run(
            "Running",
            "0 of 2 jobs done",
            vec![
                job(
                    "pick",
                    JobState::Starting,
                    "Unschedulable",
                    "no node fits its pod",
                ),
                job(
                    "press",
                    JobState::Pending,
                    "WaitingForNeeds",
                    "waits for pick",
                ),
            ],
        ),
        pods: vec![pod(
            "orchard-7-pick",
            json!({"conditions": [
                {"type": "PodScheduled", "status": "False", "message": scheduler},
                {"type": "Ready", "status": "False", "message": "not told"},
            ]}),
        )],
        events: vec![
            event("orchard-7-pick", "FailedScheduling", scheduler, 4, 50),
            event("orchard-7-pick", "Scheduled", "not told", 1, 55),
            event("another", "FailedScheduling", "not told", 1, 55),
        ],
        ..Facts::default()
    };
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: Running
      0 of 2 jobs done

    job pick starting for 1m00s: Unschedulable
      no node fits its pod
      0/3 nodes are available: 3 Insufficient memory.
      event FailedScheduling (4 times, 12.0s ago): 0/3 nodes are available: 3 Insufficient memory.
      what to do: ask for less in pod.resources, correct nodeSelector and tolerations, or add a node

    wait for other jobs: press
    ");
}

#[test]
fn an_image_that_cannot_be_pulled_and_a_missing_secret_are_told_with_the_kubelets_words() {
    let waiting = |reason: &str, message: &str| {
        json!({"containerStatuses": [
            {"name": "job", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": reason, "message": message}}},
            {"name": "carrier", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ContainerCreating"}}},
        ]})
    };
    let facts = Facts {
        run: run(
            "Running",
            "0 of 2 jobs done",
            vec![
                job(
                    "pick",
                    JobState::Starting,
                    "ImagePullFailed",
                    "its image cannot be pulled",
                ),
                job(
                    "wash",
                    JobState::Starting,
                    "MissingReference",
                    "secret \"tub\" not found",
                ),
            ],
        ),
        pods: vec![
            pod(
                "orchard-7-pick",
                waiting("ImagePullBackOff", "Back-off pulling image \"laddr\""),
            ),
            pod(
                "orchard-7-wash",
                waiting("CreateContainerConfigError", "secret \"tub\" not found"),
            ),
        ],
        events: vec![event("orchard-7-pick", "Failed", "laddr: not found", 1, 61)],
        ..Facts::default()
    };
    insta::assert_snapshot!(told(&facts), @r#"
    run orchard-7 of pipeline orchard: Running
      0 of 2 jobs done

    job pick starting for 1m00s: ImagePullFailed
      its image cannot be pulled
      container job: ImagePullBackOff: Back-off pulling image "laddr"
      event Failed (1.0s ago): laddr: not found
      what to do: correct the image's name, or give its credentials in pod.imagePullSecrets

    job wash starting for 1m00s: MissingReference
      secret "tub" not found
      container job: CreateContainerConfigError: secret "tub" not found
      what to do: create the Secret, ConfigMap or key in the run's namespace, or correct its name in env
    "#);
}

#[test]
fn a_full_pool_is_told_with_who_holds_its_places() {
    let mut waits = job(
        "pick",
        JobState::Pending,
        "WaitingForRunner",
        "all 2 places are taken",
    );
    (waits.start_time, waits.pod) = (None, None);
    let held = vec!["mill-3/grind".to_owned(), "orchard-6/press".to_owned()];
    let facts = Facts {
        run: run("Running", "0 of 1 job done", vec![waits]),
        holders: [("cellar".to_owned(), held)].into(),
        ..Facts::default()
    };
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: Running
      0 of 1 job done

    job pick waiting for 1m01s: WaitingForRunner
      all 2 places are taken
      its places are held by mill-3/grind, orchard-6/press
      what to do: wait for a free place, or raise it: `kubectl scale rnr cellar --replicas=N`
    ");
}

#[test]
fn a_run_that_no_operator_has_seen_and_a_suspended_one_say_what_to_do() {
    let mut facts = Facts {
        run: run("Suspended", "the run is suspended", Vec::new()),
        ..Facts::default()
    };
    assert!(told(&facts).contains("what to do: let it go on: `kubectl patch prun orchard-7"));
    facts.run.status = None;
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: Pending
      no operator has taken up the run for 1m02s
      what to do: look whether the operator runs: `kubectl get pods -A -l app.kubernetes.io/name=rustci-operator`
    ");
}

#[test]
fn a_run_that_waits_for_its_group_is_told_with_position_and_holder() {
    let mut facts = Facts {
        run: run("Queued", "other runs come first", Vec::new()),
        ..Facts::default()
    };
    let place = ConcurrencyStatus {
        group: "deploy-main".to_owned(),
        position: Some(2),
        holder: Some("orchard-5".to_owned()),
        ..ConcurrencyStatus::default()
    };
    facts.run.status.as_mut().unwrap().concurrency = Some(place);
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: Queued
      other runs come first
      waits in the group deploy-main at position 2, held by run orchard-5
      what to do: wait for its end, or stop it: `rustci cancel orchard-5`
    ");
}

#[test]
fn a_run_that_goes_well_has_nothing_to_tell() {
    let mut going = job("pick", JobState::Running, "Running", "");
    going.start_time = None;
    let facts = Facts {
        run: run("Running", "0 of 1 job done", vec![going]),
        ..Facts::default()
    };
    assert!(told(&facts).ends_with("\nnothing is wrong, and no job waits\n"));
}

#[test]
fn the_first_failure_in_time_stands_first_and_text_of_others_is_made_safe() {
    let mut late = job(
        "a-late",
        JobState::Failed,
        "StepFailed",
        "x\u{1b}[31m\u{7}y",
    );
    late.end_time = Some(Time(at(30)));
    let mut early = job("b-early", JobState::Failed, "OutOfMemory", "");
    early.end_time = Some(Time(at(9)));
    let facts = Facts {
        run: run("Failed", "0 of 2 jobs succeeded", vec![late, early]),
        ..Facts::default()
    };
    let explanation = explain(&facts, at(62));
    let names: Vec<_> = explanation
        .jobs
        .iter()
        .map(|job| job.job.as_str())
        .collect();
    assert_eq!(names, ["b-early", "a-late"]);
    assert!(explanation.jobs[0].remedy.contains("limits.memory"));
    let text = told(&facts);
    assert!(
        text.contains("  xy\n") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn jobs_that_were_only_stopped_are_no_causes() {
    let failed = job("test.a", JobState::Failed, "StepFailed", "");
    let stopped = job("test.b", JobState::Cancelled, "FailFast", "test.a failed");
    let late = job("slow", JobState::Cancelled, "RunTimedOut", "");
    let facts = Facts {
        run: run("Failed", "", vec![stopped, failed, late]),
        ..Facts::default()
    };
    let explanation = explain(&facts, at(62));
    let causes: Vec<_> = explanation
        .jobs
        .iter()
        .map(|job| job.job.as_str())
        .collect();
    assert_eq!(
        (causes, explanation.stopped),
        (vec!["test.a", "slow"], vec!["test.b".to_owned()])
    );
}

#[test]
fn json_has_the_whole_explanation() {
    let facts = Facts {
        run: run(
            "Running",
            "0 of 1 job done",
            vec![job("pick", JobState::Starting, "PodRefused", "quota")],
        ),
        ..Facts::default()
    };
    let json = print(&explain(&facts, at(62)), Output::Json);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["jobs"][0]["reason"], "PodRefused");
    assert_eq!(json["jobs"][0]["forMillis"], 60_000);
    assert_eq!(json["pipeline"], "orchard");
}

#[test]
fn a_run_whose_pipeline_uses_what_is_missing_is_a_matter_of_configuration() {
    let message = "there is no Pipeline `shared` in the namespace `farm`, which job `pick` uses";
    let facts = Facts {
        run: run("PipelineNotFound", message, Vec::new()),
        ..Facts::default()
    };
    let text = told(&facts);
    assert!(
        text.contains(": PipelineNotFound (Configuration)\n"),
        "{text}"
    );
    assert!(text.contains(message) && text.contains("in uses"), "{text}");
    let json: Value = serde_json::from_str(&print(&explain(&facts, at(62)), Output::Json)).unwrap();
    assert_eq!(json["class"], "Configuration");
}

/// A reason that the planner writes and that nobody explains would leave a user alone.
#[test]
fn every_reason_of_trouble_has_a_remedy() {
    let run = run("Running", "", Vec::new());
    for reason in [
        "WaitingForRunner",
        "RunnerNotFound",
        "Unschedulable",
        "ImagePullFailed",
        "MissingReference",
        "ContainerStartFailed",
        "ServiceStarting",
        "ServiceNotReady",
        "ServiceFailed",
        "QuotaExceeded",
        "PodRefused",
        "StepFailed",
        "JobTimedOut",
        "RunTimedOut",
        "AgentLost",
        "NodeLost",
        "OutOfMemory",
        "NoImage",
        "OutputsTooLarge",
        "MatrixFailed",
    ] {
        let known = planner::run::JobReason::ALL;
        assert!(
            known.iter().any(|known| known.as_str() == reason),
            "{reason}"
        );
        let job = job("pick", JobState::Failed, reason, "");
        assert!(
            !remedy::of_job(&run, &job, reason, false).is_empty(),
            "{reason}"
        );
    }
}

/// An answer, judged with this reason.
fn answer(user: &str, status: &str, reason: &str, message: &str, secs: i64) -> Approval {
    serde_json::from_value(json!({
        "metadata": {"name": format!("ship-{secs}"), "creationTimestamp": at(secs).to_string()},
        "spec": {"run": "orchard-7", "runUid": "u", "job": "ship", "decision": "Approve",
            "user": user},
        "status": {"conditions": [{"type": "Accepted", "status": status, "reason": reason,
            "message": message, "lastTransitionTime": at(secs).to_string()}]},
    }))
    .unwrap()
}

#[test]
fn a_job_that_waits_for_people_says_who_may_answer_and_how() {
    let waits = "waits for the approval of the group `growers` until 1970-01-02T02:46:42Z";
    let mut ship = job("ship", JobState::Pending, "AwaitingApproval", waits);
    (ship.pod, ship.start_time, ship.attempt) = (None, None, 0);
    let mut facts = Facts {
        run: run("AwaitingApproval", "1 of 2 jobs done", vec![ship]),
        ..Facts::default()
    };
    facts.run.metadata.namespace = Some("farm".to_owned());
    facts.run.status.as_mut().unwrap().approvals = vec![crds::ApprovalRequest {
        message: Some("Ship the pears?".to_owned()),
        ..crds::ApprovalRequest::new("ship", Time(at(2)), Time(at(100)))
    }];
    facts.approvals = vec![
        answer("bert", "False", "NotAnApprover", "he is not among them", 10),
        answer("carl", "False", "Forbidden", "he may not", 20),
    ];
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: AwaitingApproval
      1 of 2 jobs done

    job ship waiting for 1m00s: AwaitingApproval
      waits for the approval of the group `growers` until 1970-01-02T02:46:42Z
      it asks: Ship the pears?
      the answer of `carl` does not count: he may not (Forbidden)
      the answer of `bert` does not count: he is not among them (NotAnApprover)
      what to do: answer it: `rustci approve orchard-7 ship -n farm` or `rustci reject orchard-7 ship -n farm`; that takes the right to update pipelineruns/approval, which the ClusterRole rustci-approver gives
    ");
    facts.local = true;
    assert!(told(&facts).contains("what to do: answer on the terminal, or run it with --approve"));
}

#[test]
fn a_rejected_job_and_one_that_nobody_answered_say_what_to_do() {
    let mut ship = job(
        "ship",
        JobState::Failed,
        "Rejected",
        "rejected by ann: frost",
    );
    ship.failure_class = Some(FailureClass::User);
    let mut sell = job(
        "sell",
        JobState::Failed,
        "ApprovalTimedOut",
        "nobody approved it within 2h",
    );
    sell.failure_class = Some(FailureClass::Timeout);
    for job in [&mut ship, &mut sell] {
        (job.pod, job.start_time) = (None, None);
        job.end_time = Some(Time(at(9)));
    }
    let facts = Facts {
        run: run("Failed", "0 of 2 jobs succeeded", vec![ship, sell]),
        ..Facts::default()
    };
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: Failed
      0 of 2 jobs succeeded

    job ship failed: Rejected (User)
      rejected by ann: frost
      what to do: ask who rejected it; start the run again when it may go on

    job sell failed: ApprovalTimedOut (Timeout)
      nobody approved it within 2h
      what to do: start the run again and answer in time, or raise approval.timeout
    ");
}

#[test]
fn a_job_with_services_tells_how_to_read_their_logs() {
    let mut press = job(
        "press",
        JobState::Starting,
        "ServiceStarting",
        "service `cask` is not ready yet",
    );
    press.start_time = Some(Time(at(2)));
    let mut pod = pod("orchard-7-press", json!({}));
    pod.metadata.namespace = Some("farm".to_owned());
    pod.spec = serde_json::from_value(json!({
        "containers": [],
        "initContainers": [{"name": "service-cask", "image": "cask"}],
    }))
    .unwrap();
    let facts = Facts {
        run: run("Running", "1 of 1 job runs", vec![press]),
        pods: vec![pod],
        ..Facts::default()
    };
    insta::assert_snapshot!(told(&facts), @r"
    run orchard-7 of pipeline orchard: Running
      1 of 1 job runs

    job press starting for 1m00s: ServiceStarting
      service `cask` is not ready yet
      log of service cask: `kubectl logs orchard-7-press -c service-cask -n farm`
      what to do: wait until its readiness check succeeds
    ");
}
