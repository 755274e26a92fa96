//! Checks of the services of one job.
//! Must not know how a service is run.

use std::collections::HashMap;
use std::time::Duration;

use crds::{Job, Readiness, Service};

use super::ValidService;
use super::checker::{Checker, limit};
use super::job::{self, text};
use super::resources;
use crate::expression::Scope;

/// Time from one look at a service to the next when it names none.
const DEFAULT_PERIOD: Duration = Duration::from_secs(1);
/// Longest time until a service is ready when it names none.
const DEFAULT_LIMIT: Duration = Duration::from_secs(120);

/// Checks a job's services and makes them ready to run.
pub(super) fn services(
    check: &mut Checker,
    path: &str,
    job: &Job,
    scope: &Scope<'_>,
) -> Vec<ValidService> {
    check.count(path, job.services.len(), 0, limit::SERVICES);
    let names = job.services.iter().map(|service| service.name.as_str());
    check.unique(path, "service", names);
    let mut valid = Vec::new();
    for (i, raw) in job.services.iter().enumerate() {
        valid.extend(service(check, &format!("{path}[{i}]"), raw, scope));
    }
    ports(check, path, &job.services);
    valid
}

fn service(
    check: &mut Checker,
    path: &str,
    service: &Service,
    scope: &Scope<'_>,
) -> Option<ValidService> {
    let Service {
        name,
        image,
        command,
        args,
        env: variables,
        ports,
        readiness,
        resources,
        run_as_user,
    } = service;
    resources::resources(check, &format!("{path}.resources"), resources.as_ref());
    let field = format!("{path}.name");
    check.label(&field, name);
    check.text(&field, name, 0, limit::SERVICE_NAME);
    let field = format!("{path}.image");
    let image = text(check, &field, &Some(image.clone()), limit::IMAGE, scope);
    words(check, &format!("{path}.command"), command);
    words(check, &format!("{path}.args"), args);
    let env = job::variables(check, &format!("{path}.env"), variables, scope);
    check.count(&format!("{path}.ports"), ports.len(), 0, limit::PORTS);
    for (i, number) in ports.iter().enumerate() {
        port(check, &format!("{path}.ports[{i}]"), *number);
    }
    let user = i64::from(i32::MAX);
    check.number(&format!("{path}.runAsUser"), *run_as_user, user);
    let mut times = (DEFAULT_PERIOD, DEFAULT_LIMIT);
    if let Some(readiness) = readiness {
        times = self::readiness(check, &format!("{path}.readiness"), readiness);
    }
    Some(ValidService {
        spec: service.clone(),
        image: image?,
        env,
        period: times.0,
        limit: times.1,
    })
}

/// The time between two tries, and the longest time until it is ready.
fn readiness(check: &mut Checker, path: &str, readiness: &Readiness) -> (Duration, Duration) {
    let Readiness {
        tcp_port,
        http_get,
        exec,
        period,
        timeout,
    } = readiness;
    let ways = [tcp_port.is_some(), http_get.is_some(), exec.is_some()];
    let message = match ways.into_iter().filter(|&way| way).count() {
        0 => "it says no way to see that the service is ready",
        1 => "",
        _ => "it says more than one way to see that the service is ready",
    };
    if !message.is_empty() {
        check.add(
            path,
            message,
            "set exactly one of tcpPort, httpGet and exec",
        );
    }
    tcp_port
        .iter()
        .for_each(|number| port(check, &format!("{path}.tcpPort"), *number));
    if let Some(request) = http_get {
        port(check, &format!("{path}.httpGet.port"), request.port);
        let field = format!("{path}.httpGet.path");
        check.optional_text(&field, request.path.as_deref(), limit::DIRECTORY);
    }
    if let Some(exec) = exec {
        let field = format!("{path}.exec.command");
        check.count(&field, exec.command.len(), 1, limit::SHELL);
        for (i, word) in exec.command.iter().enumerate() {
            check.text(&format!("{field}[{i}]"), word, 0, limit::SHELL_WORD);
        }
    }
    let period = check.duration(&format!("{path}.period"), period.as_deref());
    let timeout = check.duration(&format!("{path}.timeout"), timeout.as_deref());
    (
        period.unwrap_or(DEFAULT_PERIOD),
        timeout.unwrap_or(DEFAULT_LIMIT),
    )
}

fn words(check: &mut Checker, path: &str, words: &[String]) {
    check.count(path, words.len(), 0, limit::WORDS);
    for (i, word) in words.iter().enumerate() {
        check.text(&format!("{path}[{i}]"), word, 0, limit::WORD);
        let remedy = "put the value into env of the service, and read the variable";
        check.as_it_stands(path, word, remedy);
    }
}

fn port(check: &mut Checker, field: &str, number: u16) {
    if number == 0 {
        check.add(field, "there is no port 0", "use 1 to 65535");
    }
}

/// All containers of a pod share their ports. The port of a readiness check counts as one.
fn ports(check: &mut Checker, path: &str, services: &[Service]) {
    let mut owners = HashMap::new();
    for (i, service) in services.iter().enumerate() {
        let by_check = service.readiness.iter().flat_map(|readiness| {
            let request = readiness.http_get.as_ref().map(|request| request.port);
            readiness.tcp_port.into_iter().chain(request)
        });
        for port in service.ports.iter().copied().chain(by_check) {
            let owner = *owners.entry(port).or_insert(i);
            if owner != i {
                let message = format!(
                    "the services `{}` and `{}` both listen on port {port}",
                    services[owner].name, service.name
                );
                let remedy = "let one of them listen on another port: the containers of a job \
                              share their ports";
                check.add(&format!("{path}[{i}]"), message, remedy);
            }
        }
    }
}
