//! The containers of a job's services: native sidecars, which start before the others, each when
//! the one before is ready, and end after them.
//! Must not decide what follows when one of them fails.

use std::time::Duration;

use crds::{EnvVar as Variable, Readiness, Service};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, ExecAction, HTTPGetAction, HostAlias, Probe, SecurityContext,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use planner::run::ServiceSpec;

use super::SERVICE_PREFIX;
use super::containers::{PULL_POLICY, from_source, hardened};

/// Longest time of one look, in seconds.
const LOOK_SECONDS: i32 = 5;
/// Time that a service which did not become ready has to end, in seconds.
const GIVE_UP_SECONDS: i64 = 5;

/// The container of one service. `user` is that of the steps.
pub(super) fn container(spec: &ServiceSpec, user: i64) -> Container {
    let ServiceSpec {
        service,
        period,
        limit,
    } = spec;
    let Service {
        name,
        image,
        command,
        args,
        env,
        ports,
        readiness,
        resources,
        run_as_user,
    } = service;
    let probe = |readiness| probe(readiness, *period, *limit);
    Container {
        name: format!("{SERVICE_PREFIX}{name}"),
        image: Some(image.clone()),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        restart_policy: Some("Always".to_owned()),
        command: (!command.is_empty()).then(|| as_they_stand(command)),
        args: (!args.is_empty()).then(|| as_they_stand(args)),
        env: (!env.is_empty()).then(|| env.iter().map(variable).collect()),
        ports: (!ports.is_empty()).then(|| ports.iter().copied().map(port).collect()),
        startup_probe: readiness.as_ref().map(probe),
        resources: resources.clone(),
        security_context: Some(security(*run_as_user, user)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The services' names, as names of this host.
pub(super) fn host_aliases(services: &[ServiceSpec]) -> Option<Vec<HostAlias>> {
    let names = services.iter().map(|spec| spec.service.name.clone());
    let alias = || HostAlias {
        ip: "127.0.0.1".to_owned(),
        hostnames: Some(names.collect()),
    };
    (!services.is_empty()).then(|| vec![alias()])
}

fn probe(readiness: &Readiness, period: Duration, limit: Duration) -> Probe {
    let Readiness {
        tcp_port,
        http_get,
        exec,
        period: _,
        timeout: _,
    } = readiness;
    let tries = limit.as_secs().div_ceil(period.as_secs().max(1));
    Probe {
        tcp_socket: tcp_port.map(|port| TCPSocketAction {
            port: IntOrString::Int(port.into()),
            ..TCPSocketAction::default()
        }),
        http_get: http_get.as_ref().map(|request| HTTPGetAction {
            port: IntOrString::Int(request.port.into()),
            path: Some(request.path.clone().unwrap_or_else(|| "/".to_owned())),
            ..HTTPGetAction::default()
        }),
        exec: exec.as_ref().map(|exec| ExecAction {
            command: Some(exec.command.clone()),
        }),
        period_seconds: i32::try_from(period.as_secs()).ok(),
        timeout_seconds: Some(LOOK_SECONDS),
        // The first look is at the start.
        failure_threshold: i32::try_from(tries.saturating_add(1)).ok(),
        termination_grace_period_seconds: Some(GIVE_UP_SECONDS),
        ..Probe::default()
    }
}

fn security(own: Option<i64>, of_steps: i64) -> SecurityContext {
    let user = own.unwrap_or(of_steps);
    SecurityContext {
        run_as_user: own,
        run_as_non_root: own.map(|user| user != 0),
        ..hardened(user == 0)
    }
}

fn variable(variable: &Variable) -> EnvVar {
    let Variable {
        name,
        value,
        value_from,
    } = variable;
    match value_from {
        Some(source) => from_source(name, source),
        None => EnvVar {
            name: name.clone(),
            value: value.as_deref().map(literal),
            ..EnvVar::default()
        },
    }
}

fn port(number: u16) -> ContainerPort {
    ContainerPort {
        container_port: number.into(),
        ..ContainerPort::default()
    }
}

fn as_they_stand(words: &[String]) -> Vec<String> {
    words.iter().map(|word| literal(word)).collect()
}

/// Kubernetes would replace `$(NAME)`, and takes `$$` for `$`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
