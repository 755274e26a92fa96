//! Services: what a place is told, and how an attempt ends whose service does not do its part.
//! Must not look inside the planner: only at plans.

use std::time::Duration;

use crds::{EnvSource, EnvVar, Job, Readiness, SecretKeyRef, Service};
use insta::assert_snapshot;

use super::world::*;
use crate::run::*;

fn db() -> Service {
    Service {
        name: "db".to_owned(),
        image: "postgres:17".to_owned(),
        readiness: Some(Readiness {
            tcp_port: Some(5432),
            timeout: Some("30s".to_owned()),
            ..Readiness::default()
        }),
        ..Service::default()
    }
}

/// A run of one job with this service, started.
fn with(service: Service) -> World {
    let job = Job {
        services: vec![service],
        ..job("build", &[])
    };
    let mut world = World::new(pipeline(vec![job], vec![]));
    world.turn();
    world
}

fn pending(world: &World) -> PlacePhase {
    PlacePhase::Pending {
        since: world.now,
        scheduled: Some(true),
        message: String::new(),
    }
}

fn end(world: &World, ran: u64, exit_code: i32, reason: &str, message: &str) -> CompanionEnd {
    CompanionEnd {
        at: world.now,
        ran: Duration::from_secs(ran),
        exit_code,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn is_at(world: &mut World, phase: CompanionPhase, ends: u32, last_end: Option<CompanionEnd>) {
    world.places[0].companions = vec![CompanionFact {
        role: CompanionRole::Service("db".to_owned()),
        image: "postgres:17".to_owned(),
        phase,
        ends,
        last_end,
    }];
}

fn waits(world: &World, reason: &str) -> CompanionPhase {
    CompanionPhase::Waiting {
        reason: reason.to_owned(),
        message: "what the kubelet says".to_owned(),
        since: world.now,
    }
}

/// The end of a run whose service stays like this while its pod starts.
fn stuck(
    service: Service,
    fact: impl Fn(&World) -> (CompanionPhase, u32, Option<CompanionEnd>),
) -> String {
    let mut world = with(service);
    let phase = pending(&world);
    world.set_place("build", phase);
    let (phase, ends, last_end) = fact(&world);
    is_at(&mut world, phase, ends, last_end);
    for waited in 0..100 {
        let plan = world.turn();
        if world.status().completion_time.is_some() {
            let text = world.summary();
            return format!("after {}s: {}", waited * 5, text.lines().next().unwrap());
        }
        assert!(plan.recheck.is_some(), "it is looked at again");
        world.pass(5);
    }
    panic!("it does not end: {}", world.summary());
}

#[test]
fn a_place_gets_its_services_with_their_expressions_evaluated() {
    let service = Service {
        image: "postgres:${{ '1' + '7' }}".to_owned(),
        env: vec![
            EnvVar {
                name: "POSTGRES_DB".to_owned(),
                value: Some("${{ pipeline.name }}".to_owned()),
                ..EnvVar::default()
            },
            EnvVar {
                name: "POSTGRES_PASSWORD".to_owned(),
                value_from: Some(secret()),
                ..EnvVar::default()
            },
        ],
        ..db()
    };
    let job = Job {
        services: vec![service],
        ..job("build", &[])
    };
    let mut world = World::new(pipeline(vec![job], vec![]));
    let plan = world.turn();
    let place = plan.steps.iter().find_map(|action| match action {
        Action::CreatePlace(place) => Some(place),
        _ => None,
    });
    let [spec] = &place.unwrap().services[..] else {
        panic!("there is one service")
    };
    assert_eq!(spec.service.image, "postgres:17");
    assert_eq!(spec.service.env[0].value.as_deref(), Some("build-7"));
    assert_eq!(spec.service.env[1].value_from, Some(secret()));
    let times = (Duration::from_secs(1), Duration::from_secs(30));
    assert_eq!((spec.period, spec.limit), times);
}

fn secret() -> EnvSource {
    EnvSource {
        secret_key_ref: Some(SecretKeyRef {
            name: "db".to_owned(),
            key: "password".to_owned(),
            optional: None,
        }),
        config_map_key_ref: None,
    }
}

#[test]
fn every_trouble_with_a_service_ends_the_job_in_time_and_names_the_service() {
    let waiting = |reason: &'static str| stuck(db(), move |world| (waits(world, reason), 0, None));
    assert_snapshot!(waiting("ImagePullBackOff"), @"after 60s: build Failed ImagePullFailed ImagePull: image postgres:17 of service `db` can't be pulled (ImagePullBackOff): what the kubelet says");
    assert_snapshot!(waiting("CreateContainerConfigError"), @"after 30s: build Failed MissingReference Configuration: a Secret, ConfigMap or key that service `db` uses is missing (CreateContainerConfigError): what the kubelet says");
    assert_snapshot!(waiting("CreateContainerError"), @"after 30s: build Failed ContainerStartFailed Configuration: the container of service `db` can't start (CreateContainerError): what the kubelet says");
    assert_snapshot!(stuck(db(), |world| {
        (CompanionPhase::Starting { since: world.now }, 0, None)
    }), @"after 45s: build Failed ServiceNotReady Configuration: service `db` was not ready within 30s");
    assert_snapshot!(stuck(db(), |world| {
        let end = end(world, 30, 137, "Error", "waiting for the disk\n");
        (CompanionPhase::Starting { since: world.now }, 1, Some(end))
    }), @"after 0s: build Failed ServiceNotReady Configuration: service `db` was not ready within 30s: waiting for the disk");
    assert_snapshot!(stuck(db(), |world| {
        let end = end(world, 0, 1, "Error", "one\ntwo\n\nno password\ngiving up\n");
        (waits(world, "CrashLoopBackOff"), 2, Some(end))
    }), @"after 0s: build Failed ServiceFailed Configuration: service `db` ended with exit code 1 at its start: two | no password | giving up");
    assert_snapshot!(stuck(db(), |world| {
        let end = end(world, 3, 137, "OOMKilled", "");
        (waits(world, "CrashLoopBackOff"), 2, Some(end))
    }), @"after 0s: build Failed ServiceFailed OutOfMemory: service `db` used more memory than its container may");
}

#[test]
fn a_service_that_is_not_ready_yet_is_named_and_its_first_end_is_forgiven() {
    let mut world = with(db());
    let phase = pending(&world);
    world.set_place("build", phase);
    let first = end(&world, 2, 1, "Error", "");
    let since = world.now;
    is_at(
        &mut world,
        CompanionPhase::Starting { since },
        1,
        Some(first),
    );
    world.turn();
    assert_eq!(
        world.job("build").reason.as_deref(),
        Some("ServiceStarting")
    );
    let message = world.job("build").message.as_deref();
    assert_eq!(message, Some("service `db` is not ready yet"));
    world.places[0].companions[0].phase = CompanionPhase::Ready;
    world.pass(1);
    world.run_job("build");
    assert_eq!(world.job("build").reason.as_deref(), Some("Succeeded"));
}

#[test]
fn a_service_that_ends_while_the_job_runs_ends_the_job_and_its_place() {
    let mut world = with(db());
    world.accept("build");
    is_at(&mut world, CompanionPhase::Ready, 0, None);
    world.turn();
    world.pass(5);
    let end = end(&world, 9, 3, "Error", "disk full");
    is_at(&mut world, CompanionPhase::Ready, 1, Some(end));
    let plan = world.turn();
    assert_snapshot!(world.summary(), @r"
    build Failed ServiceFailed User: service `db` ended with exit code 3 while the job ran: disk full
    Succeeded=False Failed
    0 of 1 job succeeded; job `build` failed: service `db` ended with exit code 3 while the job ran: disk full
    ");
    let goes = |action: &Action| matches!(action, Action::DeletePlace { .. });
    assert!(plan.steps.iter().any(goes), "{:?}", plan.steps);
}

#[test]
fn a_failed_step_tells_of_the_service_that_ended_meanwhile() {
    let mut world = with(db());
    world.accept("build");
    is_at(&mut world, CompanionPhase::Ready, 0, None);
    world.turn();
    world.pass(5);
    let end = end(&world, 9, 3, "Error", "");
    is_at(&mut world, CompanionPhase::Ready, 1, Some(end));
    world.fail("build", 2);
    world.turn();
    assert_snapshot!(world.job("build").message.as_deref().unwrap(), @"step `main` exited with code 2; service `db` ended with exit code 3 meanwhile");
}

#[test]
fn the_log_of_a_service_that_knows_a_secret_is_not_told() {
    let service = Service {
        env: vec![EnvVar {
            name: "POSTGRES_PASSWORD".to_owned(),
            value_from: Some(secret()),
            ..EnvVar::default()
        }],
        ..db()
    };
    assert_snapshot!(stuck(service, |world| {
        let end = end(world, 0, 1, "Error", "the password is s3cr3t");
        (waits(world, "CrashLoopBackOff"), 2, Some(end))
    }), @"after 0s: build Failed ServiceFailed Configuration: service `db` ended with exit code 1 at its start");
}
