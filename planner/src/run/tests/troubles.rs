//! Places that do not start or that go: each ends in time, with its class and its words.
//! Must not look inside the planner: only at plans.

use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

/// The end of a one-job run whose place gets stuck in this phase, at the first look that ends it.
fn stuck(phase: impl Fn(&World) -> PlacePhase) -> String {
    let mut world = single();
    let phase = phase(&world);
    world.set_place("build", phase);
    for waited in 0..100 {
        let plan = world.turn();
        if world.status().completion_time.is_some() {
            return format!("after {}s: {}", waited * 15, world.summary());
        }
        assert!(plan.recheck.is_some(), "it is looked at again");
        world.pass(15);
    }
    panic!("it does not end: {}", world.summary());
}

fn waiting(reason: &str) -> String {
    stuck(|world| PlacePhase::Waiting {
        reason: reason.to_owned(),
        message: "what the kubelet says".to_owned(),
        since: world.now,
    })
}

#[test]
fn every_trouble_with_a_place_ends_in_time_with_its_class_and_message() {
    assert_snapshot!(waiting("ErrImageNeverPull"), @r"
    after 0s: build Failed ImagePullFailed ImagePull: image busybox can't be pulled (ErrImageNeverPull): what the kubelet says
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: image busybox can't be pulled (ErrImageNeverPull): what the kubelet says
    ");
    assert_snapshot!(waiting("ImagePullBackOff"), @r"
    after 60s: build Failed ImagePullFailed ImagePull: image busybox can't be pulled (ImagePullBackOff): what the kubelet says
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: image busybox can't be pulled (ImagePullBackOff): what the kubelet says
    ");
    assert_snapshot!(waiting("CreateContainerConfigError"), @r"
    after 30s: build Failed MissingReference Configuration: a Secret, ConfigMap or key that the job uses is missing (CreateContainerConfigError): what the kubelet says
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: a Secret, ConfigMap or key that the job uses is missing (CreateContainerConfigError): what the kubelet says
    ");
    assert_snapshot!(waiting("CreateContainerError"), @r"
    after 30s: build Failed ContainerStartFailed Configuration: its container can't start (CreateContainerError): what the kubelet says
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: its container can't start (CreateContainerError): what the kubelet says
    ");
    assert_snapshot!(waiting("ContainerCreating"), @r"
    after 600s: build Failed PodStarting Infrastructure: its pod did not start in time (ContainerCreating): what the kubelet says
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: its pod did not start in time (ContainerCreating): what the kubelet says
    ");
    assert_snapshot!(stuck(|world| PlacePhase::Pending {
        since: world.now,
        scheduled: Some(false),
        message: "0/1 nodes are available".to_owned(),
    }), @r"
    after 600s: build Failed Unschedulable Infrastructure: no node fits its pod: 0/1 nodes are available
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: no node fits its pod: 0/1 nodes are available
    ");
    assert_snapshot!(stuck(|world| PlacePhase::Running { since: world.now }), @r"
    after 120s: build Failed AgentNotConnected Infrastructure: its pod runs, but its agent did not connect in time: look at the pod's log, and whether network policies let it reach the operator over UDP
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: its pod runs, but its agent did not connect in time: look at the pod's log, and whether network policies let it reach the operator over UDP
    ");
    let refused = |kind| {
        stuck(move |world| PlacePhase::Refused {
            kind,
            message: "no".to_owned(),
            at: world.now,
        })
    };
    assert_snapshot!(refused(RefusalKind::Forbidden), @r"
    after 0s: build Failed PodRefused Configuration: the API server refused its pod: no
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: the API server refused its pod: no
    ");
    assert_snapshot!(stuck(|_| ended(137, "OOMKilled")), @r"
    after 0s: build Failed OutOfMemory OutOfMemory: its container used more memory than it may
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: its container used more memory than it may
    ");
    assert_snapshot!(stuck(|_| ended(2, "Error")), @r"
    after 0s: build Failed AgentLost Infrastructure: its agent exited with code 2 without a result
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: its agent exited with code 2 without a result
    ");
    assert_snapshot!(stuck(|_| ended(137, "Evicted")), @r"
    after 0s: build Failed Evicted Evicted: its pod was evicted
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: its pod was evicted
    ");
    let gone = |reason: &str| {
        let reason = reason.to_owned();
        stuck(move |_| PlacePhase::Gone {
            reason: reason.clone(),
            message: String::new(),
        })
    };
    assert_snapshot!(gone(""), @r"
    after 0s: build Failed PodDeleted Infrastructure: its pod was deleted while the job ran
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: its pod was deleted while the job ran
    ");
    assert_snapshot!(gone("DeletionByTaintManager"), @r"
    after 0s: build Failed NodeLost NodeLost: the node of its pod went away
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: the node of its pod went away
    ");
    assert_snapshot!(stuck(|world| PlacePhase::Deleting {
        since: world.now,
        reason: String::new(),
        message: "node `yew`".to_owned(),
    }), @r"
    after 120s: build Failed NodeLost NodeLost: its pod is being deleted and its node does not confirm it: node `yew`
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: its pod is being deleted and its node does not confirm it: node `yew`
    ");
}

#[test]
fn a_used_up_quota_is_tried_again_until_the_pod_fits() {
    let mut world = World::new(pipeline(vec![job("build", &[])], vec![]));
    world.refuse = vec![("build".to_owned(), RefusalKind::Quota)];
    world.turn();
    world.turn();
    assert_snapshot!(world.summary(), @r"
    build Starting QuotaExceeded: the API server refused its pod: no, said the server
    Succeeded=Unknown Running
    0 of 1 job done; job `build`: the API server refused its pod: no, said the server
    ");
    world.pass(3);
    world.turn();
    world.run_job("build");
    assert_eq!(verdict(world.status()), Verdict::Succeeded);
}

#[test]
fn a_full_runner_is_waited_for_and_a_missing_one_is_named() {
    let mut spec = pipeline(vec![job("a", &[]), job("b", &[])], vec![]);
    spec.jobs
        .iter_mut()
        .for_each(|job| job.runner = Some("fast".to_owned()));
    let mut world = World::new(spec);
    world.turn();
    assert_eq!(world.job("a").reason.as_deref(), Some("RunnerNotFound"));
    let (name, spec) = ("fast".to_owned(), Some(crds::RunnerSpec::default()));
    world.pools = vec![PoolFact {
        name,
        spec,
        free: Some(1),
    }];
    world.turn();
    assert_eq!(world.job("a").state, crds::JobState::Starting);
    assert_eq!(world.job("b").reason.as_deref(), Some("WaitingForRunner"));
    world.pools.clear();
    world.pass(30);
    world.turn();
    assert_eq!(world.job("b").reason.as_deref(), Some("RunnerNotFound"));
    assert_eq!(
        world.job("b").failure_class,
        Some(crds::FailureClass::Configuration)
    );
}

#[test]
fn outputs_of_more_than_32_kib_in_all_fail_the_job_that_exceeds_them() {
    let mut build = job("build", &[]);
    let value = "${{ steps.main.outputs.x }}".to_owned();
    let output = |name: &str| crds::JobOutput {
        name: name.to_owned(),
        value: value.clone(),
    };
    build.outputs = vec![output("a"), output("b")];
    let mut world = World::new(pipeline(vec![build], vec![]));
    world.turn();
    world.accept("build");
    world.succeed("build");
    let (step, name) = ("main".to_owned(), "x".to_owned());
    let output = StepOutput {
        step,
        name,
        value: "y".repeat(16 * 1024),
    };
    world.agents[0]
        .result
        .as_mut()
        .unwrap()
        .outputs
        .push(output);
    world.turn();
    assert_eq!(
        world.job("build").reason.as_deref(),
        Some("OutputsTooLarge")
    );
    assert!(world.job("build").outputs.is_empty());
}
