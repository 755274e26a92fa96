//! One turn of planning for runs of growing size: it must grow no faster than the jobs.
//! Must not measure what is done once for a run.

use std::hint::black_box;

use crds::{
    Axis, EnvVar, InputValue, Job, Matrix, Param, ParamType, ParamValue, PipelineRun,
    PipelineRunSpec, PipelineSpec, Step, StepTemplate, TemplateUse,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use planner::run::{
    Action, AgentFact, Observed, PipelineFact, PlaceFact, PlacePhase, Prepared, Settings, StepFact,
    StepPhase, plan,
};

fn job(name: String, needs: Vec<String>) -> Job {
    let step = |name: &str| Step {
        name: name.to_owned(),
        run: "cargo test --workspace\n".repeat(10),
        ..Step::default()
    };
    Job {
        name,
        needs,
        image: Some("docker.io/library/rust:1.95".to_owned()),
        env: vec![EnvVar {
            name: "RUN".to_owned(),
            value: Some("${{ run.name }}".to_owned()),
            value_from: None,
        }],
        steps: vec![step("check"), step("test"), step("pack")],
        ..Job::default()
    }
}

/// Jobs in rows of ten, each needing two of the row before.
fn rows(count: usize) -> PipelineSpec {
    let name = |i: usize| format!("job-{i}");
    let needs = |i: usize| match i {
        0..10 => Vec::new(),
        _ => vec![name(i - 10), name(i - i % 10 - 10 + (i + 1) % 10)],
    };
    let mut jobs: Vec<_> = (0..count).map(|i| job(name(i), needs(i))).collect();
    jobs.iter_mut().for_each(|job| {
        job.needs.sort();
        job.needs.dedup();
    });
    PipelineSpec {
        jobs,
        ..PipelineSpec::default()
    }
}

/// Jobs with a matrix, `size` entries each.
fn matrices(jobs: usize, size: i64) -> PipelineSpec {
    let with_matrix = |i| Job {
        matrix: Some(Matrix {
            axes: vec![Axis {
                name: "n".to_owned(),
                values: (0..size).map(ParamValue::Integer).collect(),
                from: None,
            }],
            ..Matrix::default()
        }),
        ..job(format!("each-{i}"), Vec::new())
    };
    PipelineSpec {
        jobs: (0..jobs).map(with_matrix).collect(),
        ..PipelineSpec::default()
    }
}

/// The same, each step by a template with an input that its variables read.
fn by_template(mut spec: PipelineSpec) -> PipelineSpec {
    let template = StepTemplate {
        name: "cargo".to_owned(),
        description: None,
        inputs: vec![Param {
            name: "profile".to_owned(),
            param_type: ParamType::String,
            default: None,
            allowed: Vec::new(),
            description: None,
        }],
        env: vec![EnvVar {
            name: "PROFILE".to_owned(),
            value: Some("${{ inputs.profile }}".to_owned()),
            value_from: None,
        }],
        steps: job(String::new(), Vec::new()).steps[..1].to_vec(),
        outputs: Vec::new(),
    };
    spec.step_templates = vec![template];
    for step in spec.jobs.iter_mut().flat_map(|job| &mut job.steps) {
        step.run = String::new();
        step.uses = Some(TemplateUse {
            pipeline: None,
            template: "cargo".to_owned(),
        });
        step.with = vec![InputValue {
            name: "profile".to_owned(),
            value: ParamValue::String("${{ matrix.n }}".to_owned()),
        }];
    }
    spec
}

/// A run, with the facts of all jobs that it has started.
struct Running {
    run: PipelineRun,
    places: Vec<PlaceFact>,
    agents: Vec<AgentFact>,
    prepared: Prepared,
    settings: Settings,
    now: Timestamp,
}

impl Running {
    /// A run whose first jobs run.
    fn new(spec: PipelineSpec) -> Self {
        let spec = PipelineRunSpec {
            pipeline_spec: Some(spec),
            ..PipelineRunSpec::default()
        };
        let mut running = Self {
            run: PipelineRun::new("nightly-7", spec),
            places: Vec::new(),
            agents: Vec::new(),
            prepared: Prepared::default(),
            settings: Settings::default(),
            now: Timestamp::UNIX_EPOCH,
        };
        running.start();
        running
    }

    fn plan(&self) -> planner::run::Plan {
        let observed = Observed {
            run: &self.run,
            pipeline: PipelineFact::Inline,
            library: planner::reuse::Library::default(),
            prepared: &self.prepared,
            places: self.places.clone(),
            agents: self.agents.clone(),
            pools: Vec::new(),
            retried: None,
            rivals: Vec::new(),
            approvals: Vec::new(),
            logs: None,
            observing_since: self.now,
            settings: &self.settings,
        };
        plan(&observed, self.now)
    }

    /// Does what the first plan says; every agent runs its first step.
    fn start(&mut self) {
        let plan = self.plan();
        for action in &plan.steps {
            let Action::CreatePlace(place) = action else {
                continue;
            };
            let (job, attempt) = (place.key.job.clone(), place.key.attempt);
            self.places.push(PlaceFact {
                job: job.clone(),
                attempt,
                name: place.name.clone(),
                phase: PlacePhase::Running { since: self.now },
                companions: Vec::new(),
            });
            self.agents.push(AgentFact {
                job,
                attempt,
                fence: place.key.fence,
                connected: true,
                accepted_at: Some(self.now),
                steps: vec![StepFact {
                    phase: StepPhase::Running,
                    started_at: Some(self.now),
                    ..StepFact::default()
                }],
                result: None,
            });
        }
        self.run.status = Some(plan.status);
        self.run.status = Some(self.plan().status);
    }
}

fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    let mut measure = |name: &str, size: usize, spec: PipelineSpec| {
        let running = Running::new(spec);
        let status = running.run.status.as_ref().expect("it was planned");
        assert_eq!(
            status.jobs.len(),
            size,
            "the run has the jobs that are measured"
        );
        group.throughput(Throughput::Elements(size as u64));
        let id = BenchmarkId::new(name, size);
        group.bench_function(id, |bencher| bencher.iter(|| black_box(running.plan())));
    };
    for size in [100, 200, 400] {
        measure("rows", size, rows(size));
    }
    for (jobs, size) in [(1, 256), (2, 250), (4, 250)] {
        measure("running", jobs * size, matrices(jobs, size as i64));
    }
    group.finish();
}

/// The turn that starts every job of the run's matrices.
fn start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start");
    for (name, jobs, size) in [("jobs", 1, 256), ("jobs", 4, 250), ("uses", 4, 250)] {
        let spec = matrices(jobs, size);
        let mut running = Running::new(match name {
            "uses" => by_template(spec),
            _ => spec,
        });
        running.run.status = None;
        let count = jobs * usize::try_from(size).expect("it is small");
        let places = running.plan().steps.len();
        assert!(places >= count, "all {count} jobs start, not {places}");
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            bencher.iter(|| black_box(running.plan()));
        });
    }
    group.finish();
}

criterion_group!(benches, turns, start);
criterion_main!(benches);
