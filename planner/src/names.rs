//! Derived names of objects: the same input gives the same name, so creating twice is harmless.
//! Must not use anything random.

/// Name of the place (pod) of an attempt: at most 63 characters, a DNS label. The run's uid is in
/// its hash, so a run that was deleted and made again does not meet the old run's pods.
pub fn place(run: &str, run_uid: &str, job: &str, attempt: u32) -> String {
    let _ = (run, run_uid, job, attempt);
    todo!()
}

/// Name of the run that `triggers.apply` starts for a generation of a pipeline.
pub fn applied_run(pipeline: &str, generation: i64) -> String {
    let _ = (pipeline, generation);
    todo!()
}

/// The name of `candidates` that is most like `wrong`, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let _ = (wrong, candidates);
    todo!()
}
