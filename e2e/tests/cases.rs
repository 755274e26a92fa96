//! The table of cases on both back ends: the same file, the same verdict.

use anyhow::Result;
use e2e::{backend, cases, in_cluster, local, namespace::TestNamespace};

async fn in_both(name: &'static str) -> Result<()> {
    let case = cases::case(name);
    backend::verify(case, &local::run(case).await?)?;
    TestNamespace::with(name, move |namespace| async move {
        backend::verify(case, &in_cluster::run(&namespace, case).await?)
    })
    .await
}

/// One test a case, so that they run side by side and fail by name.
macro_rules! cases {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() -> Result<()> {
                in_both($name).await
            }
        )*

        #[test]
        fn every_case_of_the_table_is_a_test() {
            let tested = [$($name),*];
            let table: Vec<_> = cases::CASES.iter().map(|case| case.name).collect();
            assert_eq!(table, tested);
        }
    };
}

cases! {
    hello: "hello",
    diamond: "diamond",
    failing_step_skips_dependents_and_runs_finally: "failing",
    step_timeout: "step-timeout",
    job_timeout: "job-timeout",
    run_timeout: "run-timeout",
    outputs_reach_later_jobs: "outputs",
    an_output_that_is_too_large_is_named: "large-output",
    params_and_levels_of_env: "params",
    each_level_of_env_wins_over_the_one_before: "env-levels",
    secret_is_masked: "secret",
    missing_secret_is_named: "missing-secret",
    odd_output_is_exact: "odd-output",
    script_is_given_as_it_stands: "shell",
    conditions_and_allowed_failures: "conditions",
    matrix_from_an_output_and_its_results: "matrix",
    retry_by_class_of_failure: "retry",
    jobs_and_templates_of_another_pipeline: "uses",
    hashes_of_files_in_variables: "hash-files",
    jobs_that_are_approved_and_rejected: "approval",
}
