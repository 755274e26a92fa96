//! The largest runs: what their objects weigh when everything goes wrong.
//! Must not measure time.

use crds::{Axis, Job, JobState, Matrix, ParamValue, Step};

use super::world::*;
use crate::run::room::MAX_OBJECT;
use crate::run::*;

/// A job of `size` combinations with long names of its steps.
fn matrix(name: &str, size: i64, steps: usize) -> Job {
    let step = |i: usize| Step {
        name: format!("step-with-a-long-name-{i}"),
        run: "make check".to_owned(),
        ..Step::default()
    };
    Job {
        steps: (0..steps).map(step).collect(),
        outputs: vec![crds::JobOutput {
            name: "o".repeat(20),
            value: "${{ steps[\"step-with-a-long-name-0\"].outputs.o }}".to_owned(),
        }],
        retry: Some(crds::Retry {
            limit: 1,
            failures: vec![crds::RetryOn::User, crds::RetryOn::Infrastructure],
            ..crds::Retry::default()
        }),
        matrix: Some(Matrix {
            axes: vec![Axis {
                name: "number".to_owned(),
                values: (0..size).map(ParamValue::Integer).collect(),
                from: None,
            }],
            fail_fast: Some(false),
            ..Matrix::default()
        }),
        ..job(name, &[])
    }
}

/// Every agent reports the end of all its steps and a message without end.
fn fail_all(world: &mut World) {
    let now = Some(world.now);
    let mut agents = Vec::new();
    for job in &world.status().jobs {
        let step = StepFact {
            phase: StepPhase::Failed,
            exit_code: Some(255),
            started_at: now,
            ended_at: now,
            ..StepFact::default()
        };
        agents.push(AgentFact {
            job: job.name.clone(),
            attempt: job.attempt,
            fence: job.fence,
            connected: true,
            accepted_at: now,
            steps: vec![step; job.steps.len()],
            result: Some(JobResult {
                outcome: JobOutcome::Setup,
                message: "\"the disk\"\nis \u{1} full ".repeat(500),
                outputs: Vec::new(),
            }),
        });
    }
    world.agents = agents;
    world.set_all(ended(1, "Error"));
}

/// The object of a run with every attempt of every job failed, and the outputs that it could have.
fn worst(mut world: World) -> World {
    world.turn();
    for _ in 0..4 {
        fail_all(&mut world);
        world.turn();
        world.pass(600);
        world.turn();
    }
    world
}

/// Bytes of the object in etcd: JSON, with who wrote which field.
fn weight(world: &World) -> usize {
    let run = serde_json::to_vec(&world.run).unwrap().len();
    let managed = world.status().jobs.iter().map(|job| job.name.len() + 25);
    // All the outputs that a run may have.
    run + managed.sum::<usize>() + 32 * 1024 + world.status().jobs.len() * 32
}

#[test]
fn a_run_of_1000_jobs_that_all_fail_fits_into_the_api_servers_limit() {
    let jobs = (0..4)
        .map(|i| matrix(&format!("each-{i}"), 250, 2))
        .collect();
    let world = worst(World::new(pipeline(jobs, vec![])));
    let jobs = &world.status().jobs;
    assert_eq!(jobs.len(), 1_000);
    let is_worst = |job: &&crds::JobStatus| {
        job.state == JobState::Failed && job.attempts.len() == 1 && job.steps.len() == 2
    };
    assert_eq!(jobs.iter().filter(is_worst).count(), 1_000);
    assert!(jobs[0].message.as_ref().unwrap().ends_with("..."));
    let weight = weight(&world);
    assert!(weight < MAX_OBJECT, "{weight} bytes");
}

#[test]
fn a_matrix_of_256_with_many_steps_that_all_fail_fits_into_the_api_servers_limit() {
    let world = worst(World::new(pipeline(vec![matrix("each", 256, 14)], vec![])));
    let jobs = &world.status().jobs;
    assert_eq!(
        jobs.iter()
            .filter(|job| job.state == JobState::Failed)
            .count(),
        256
    );
    let weight = weight(&world);
    assert!(weight < MAX_OBJECT, "{weight} bytes");
    // It does not fit by being cut to nothing.
    let shortest = jobs
        .iter()
        .map(|job| job.message.as_ref().unwrap().len())
        .min();
    assert!(shortest.unwrap() > 200, "{shortest:?}");
}

#[test]
fn a_run_whose_status_could_not_fit_is_refused_before_it_starts() {
    let jobs = (0..4)
        .map(|i| matrix(&format!("each-{i}"), 250, 30))
        .collect();
    let mut world = World::new(pipeline(jobs, vec![]));
    let plan = world.turn();
    assert_eq!(plan.steps, []);
    let condition = conditions::find(world.status(), "Succeeded").unwrap();
    assert_eq!(condition.reason, "InvalidPipeline");
    let begin = "the status of its 1000 jobs may need ";
    assert!(
        condition.message.starts_with(begin),
        "{}",
        condition.message
    );
    assert!(
        condition
            .message
            .ends_with("have fewer jobs, steps or retries")
    );
}

#[test]
fn short_messages_are_left_alone_and_long_ones_end_with_dots() {
    let mut world = single();
    world.accept("build");
    world.turn();
    fail_all(&mut world);
    world.turn();
    let message = world.job("build").message.clone().unwrap();
    assert!(
        message.len() <= 1024 && message.len() > 600,
        "{}",
        message.len()
    );
    assert!(message.ends_with("..."));
    let mut world = single();
    world.accept("build");
    world.turn();
    world.fail("build", 3);
    world.turn();
    let message = world.job("build").message.clone();
    assert_eq!(message.as_deref(), Some("step `main` exited with code 3"));
}
