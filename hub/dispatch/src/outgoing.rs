//! From the planner's words to the agent's.
//! Must not decide anything.

use std::time::Duration;

use planner::expression::AgentPart;
use planner::run as plan;
use runner_messages as wire;

/// An attempt for the wire.
pub fn key(key: &plan::JobKey) -> wire::JobKey {
    let plan::JobKey {
        namespace,
        run,
        run_uid,
        job,
        attempt,
        fence,
    } = key;
    wire::JobKey {
        namespace: namespace.clone(),
        run: run.clone(),
        run_uid: run_uid.clone(),
        job: job.clone(),
        attempt: *attempt,
        fence: *fence,
    }
}

/// An offer for the wire.
pub fn offer(offer: &plan::OfferSpec, stop_grace: Duration) -> wire::Offer {
    let plan::OfferSpec {
        key: job,
        place: _,
        steps,
        timeout,
        workdir,
        base_env,
    } = offer;
    wire::Offer {
        job: Some(key(job)),
        steps: steps.iter().map(step).collect(),
        timeout_ms: millis(*timeout),
        workdir: workdir.clone(),
        base_env: base_env.iter().map(env).collect(),
        stop_grace_ms: millis(stop_grace),
    }
}

fn step(step: &plan::StepOffer) -> wire::StepSpec {
    let plan::StepOffer {
        name,
        runs,
        continue_on_error,
        annex,
        script,
        shell,
        workdir,
        env: variables,
        timeout,
    } = step;
    wire::StepSpec {
        name: name.clone(),
        script: script.to_string(),
        shell: shell.to_vec(),
        workdir: workdir.clone(),
        env: variables.iter().map(env).collect(),
        timeout_ms: timeout.map_or(0, millis),
        skip_after_success: !runs.after_success,
        run_after_failure: runs.after_failure,
        run_after_cancel: runs.after_cancel,
        continue_on_error: *continue_on_error,
        annex: *annex,
    }
}

fn env(entry: &plan::EnvEntry) -> wire::EnvEntry {
    let plan::EnvEntry {
        name,
        value,
        secret,
    } = entry;
    let source = match value {
        plan::EnvValue::Literal(value) => wire::EnvSource::Value(value.clone()),
        plan::EnvValue::FromAgentEnv(name) => wire::EnvSource::FromAgentEnv(name.clone()),
        plan::EnvValue::Parts(parts) => wire::EnvSource::Parts(wire::Parts {
            parts: parts.iter().map(part).collect(),
        }),
    };
    wire::EnvEntry {
        name: name.clone(),
        source: Some(source),
        secret: *secret,
    }
}

fn part(part: &AgentPart) -> wire::Part {
    let kind = match part {
        AgentPart::Text(text) => wire::PartKind::Text(text.clone()),
        AgentPart::HashFiles(patterns) => wire::PartKind::HashFiles(wire::Patterns {
            patterns: patterns.clone(),
        }),
    };
    wire::Part { kind: Some(kind) }
}

/// Whole milliseconds, and never the 0 that means none.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Why an attempt is stopped, for the wire. The planner keeps the finer reason itself.
pub fn cancel_reason(reason: plan::CancelReason) -> wire::CancelReason {
    match reason {
        plan::CancelReason::Cancelled => wire::CancelReason::Cancelled,
        plan::CancelReason::RunTimeout | plan::CancelReason::JobTimeout => {
            wire::CancelReason::RunTimeout
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_keeps_everything_but_its_place() {
        let entry = |name: &str, value| plan::EnvEntry {
            name: name.to_owned(),
            value,
            secret: true,
        };
        let spec = plan::OfferSpec {
            key: plan::JobKey {
                namespace: "copse".to_owned(),
                run: "oak-1".to_owned(),
                run_uid: "u-1".to_owned(),
                job: "fell".to_owned(),
                attempt: 2,
                fence: 7,
            },
            place: "oak-1-fell".to_owned(),
            steps: vec![plan::StepOffer {
                name: "saw".to_owned(),
                runs: plan::StepRuns {
                    after_success: true,
                    after_failure: true,
                    after_cancel: false,
                },
                continue_on_error: true,
                annex: 2,
                script: "saw".into(),
                shell: ["sh".to_owned()].into(),
                workdir: "wood".to_owned(),
                env: vec![
                    entry(
                        "T",
                        plan::EnvValue::FromAgentEnv("RUSTCI_FROM_0".to_owned()),
                    ),
                    entry(
                        "K",
                        plan::EnvValue::Parts(vec![
                            AgentPart::Text("k-".to_owned()),
                            AgentPart::HashFiles(vec!["**/*.lock".to_owned()]),
                        ]),
                    ),
                ],
                timeout: None,
            }],
            timeout: Duration::from_secs(3),
            workdir: "yard".to_owned(),
            base_env: vec![entry("A", plan::EnvValue::Literal("b".to_owned()))],
        };
        let wire = offer(&spec, Duration::from_secs(10));
        assert_eq!(
            wire.job.as_ref().map(|job| (job.attempt, job.fence)),
            Some((2, 7))
        );
        assert_eq!(
            (
                wire.timeout_ms,
                wire.stop_grace_ms,
                wire.steps[0].timeout_ms
            ),
            (3000, 10_000, 0)
        );
        assert_eq!(
            (wire.workdir.as_str(), wire.steps[0].workdir.as_str()),
            ("yard", "wood")
        );
        assert_eq!(
            wire.base_env[0].source,
            Some(wire::EnvSource::Value("b".to_owned()))
        );
        assert!(wire.steps[0].env[0].secret);
        let Some(wire::EnvSource::Parts(wire::Parts { parts })) = &wire.steps[0].env[1].source
        else {
            panic!("not in parts: {wire:?}");
        };
        let kinds: Vec<_> = parts.iter().map(|part| part.kind.clone()).collect();
        let patterns = vec!["**/*.lock".to_owned()];
        let expected = [
            Some(wire::PartKind::Text("k-".to_owned())),
            Some(wire::PartKind::HashFiles(wire::Patterns { patterns })),
        ];
        assert_eq!(kinds, expected);
        let step = &wire.steps[0];
        let flags = [
            step.skip_after_success,
            step.run_after_failure,
            step.run_after_cancel,
            step.continue_on_error,
        ];
        assert_eq!(flags, [false, true, false, true]);
        assert_eq!(step.annex, 2);
    }

    #[test]
    fn a_limit_below_a_millisecond_is_still_a_limit() {
        assert_eq!(millis(Duration::from_micros(3)), 1);
    }
}
