//! Steps with other images: which container each gets, and how an attempt ends when it fails.
//! Must not look inside the planner: only at plans.

use std::time::Duration;

use crds::{Job, Step};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

fn step(name: &str, image: Option<&str>) -> Step {
    Step {
        name: name.to_owned(),
        image: image.map(str::to_owned),
        run: "true".to_owned(),
        ..Step::default()
    }
}

fn world(steps: Vec<Step>) -> World {
    let job = Job {
        steps,
        ..job("build", &[])
    };
    World::new(pipeline(vec![job], vec![]))
}

/// A started run of one step with another image.
fn started() -> World {
    let mut world = world(vec![step("main", Some("python"))]);
    world.turn();
    world
}

fn is_at(world: &mut World, phase: CompanionPhase, last_end: Option<CompanionEnd>) {
    world.places[0].companions = vec![CompanionFact {
        role: CompanionRole::StepImage,
        image: "python".to_owned(),
        phase,
        ends: u32::from(last_end.is_some()),
        last_end,
    }];
}

fn end(world: &World, exit_code: i32, reason: &str, message: &str) -> CompanionEnd {
    CompanionEnd {
        at: world.now,
        ran: Duration::ZERO,
        exit_code,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn images_and_numbers(world: &mut World) -> (Vec<String>, Vec<u32>) {
    let plan = world.turn();
    let place = plan.steps.iter().find_map(|action| match action {
        Action::CreatePlace(place) => Some(place.step_images.clone()),
        _ => None,
    });
    let offer = plan.steps.iter().find_map(|action| match action {
        Action::Offer(offer) => Some(offer.steps.iter().map(|step| step.annex).collect()),
        _ => None,
    });
    (place.unwrap(), offer.unwrap())
}

#[test]
fn there_is_one_container_for_each_other_image() {
    let mut world = world(vec![
        step("own", None),
        step("one", Some("python")),
        step("same", Some("busybox")),
        step("two", Some("node:${{ '2' + '2' }}")),
        step("again", Some("python")),
    ]);
    let (images, numbers) = images_and_numbers(&mut world);
    assert_eq!(images, ["python", "node:22"]);
    assert_eq!(numbers, [0, 1, 0, 2, 1]);
}

#[test]
fn local_runs_have_one_place_for_all_images() {
    let mut world = world(vec![step("one", Some("python"))]);
    world.settings.images_required = false;
    assert_eq!(images_and_numbers(&mut world), (Vec::new(), vec![0]));
}

#[test]
fn an_image_of_a_step_that_cannot_be_pulled_ends_the_job_with_its_name() {
    let mut world = started();
    let since = world.now;
    world.set_place("build", PlacePhase::Running { since });
    let waiting = CompanionPhase::Waiting {
        reason: "ImagePullBackOff".to_owned(),
        message: "no such image".to_owned(),
        since,
    };
    is_at(&mut world, waiting, None);
    world.turn();
    assert_eq!(
        world.job("build").reason.as_deref(),
        Some("ImagePullFailed")
    );
    world.pass(60);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    build Failed ImagePullFailed ImagePull: image python of a step can't be pulled (ImagePullBackOff): no such image
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: image python of a step can't be pulled (ImagePullBackOff): no such image
    ");
}

#[test]
fn an_image_of_a_step_that_cannot_start_is_a_mistake_of_the_pipeline() {
    let mut world = started();
    let since = world.now;
    world.set_place("build", PlacePhase::Running { since });
    let end = end(&world, 128, "StartError", "exec format error");
    is_at(&mut world, CompanionPhase::Pending, Some(end));
    world.turn();
    assert_snapshot!(world.summary(), @r"
    build Failed ContainerStartFailed Configuration: the container of image python can't start (StartError): exec format error
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: the container of image python can't start (StartError): exec format error
    ");
}

/// A step whose container the agent has lost.
fn lost() -> World {
    let mut world = started();
    world.accept("build");
    is_at(&mut world, CompanionPhase::Ready, None);
    world.turn();
    let step = StepFact {
        phase: StepPhase::Failed,
        message: "container lost: step `main`: the container of its image has ended".to_owned(),
        ..StepFact::default()
    };
    world.result("build", JobOutcome::StepFailed, step);
    world
}

#[test]
fn a_lost_container_is_judged_by_what_the_kubelet_says_a_moment_later() {
    let mut world = lost();
    world.turn();
    assert_eq!(world.job("build").reason.as_deref(), Some("AgentLost"));
    assert!(
        is_active(world.job("build").state),
        "it waits for the kubelet"
    );
    let end = end(&world, 137, "OOMKilled", "");
    is_at(&mut world, CompanionPhase::Pending, Some(end));
    world.turn();
    assert_snapshot!(world.summary(), @r"
    build Failed OutOfMemory OutOfMemory: step `main` used more memory than the container may
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: step `main` used more memory than the container may
    ");
}

#[test]
fn a_lost_container_of_which_nobody_says_more_is_no_fault_of_the_step() {
    let mut world = lost();
    world.turn();
    world.pass(60);
    world.turn();
    assert_snapshot!(world.summary(), @r"
    build Failed AgentLost Infrastructure: the container of step `main` ended while it ran
    Succeeded=False InfrastructureFailure
    0 of 1 job succeeded; job `build` failed: the container of step `main` ended while it ran
    ");
}
