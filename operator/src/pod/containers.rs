//! The containers of a job's pod: the carrier, the job, and those for steps with another image.
//! Must not read anything but its arguments.

use std::collections::BTreeMap;

use crds::EnvSource;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapKeySelector, Container, EnvVar, EnvVarSource, ExecAction, Lifecycle,
    LifecycleHandler, ObjectFieldSelector, ResourceRequirements, SecretKeySelector,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use planner::run::{EnvFrom, PlaceSpec};

use super::{ANNEX_PREFIX, AgentDelivery, AgentSettings, CARRIER, JOB, volumes};

const AGENT_IN_ITS_IMAGE: &str = "/rustci-agent";
const TOKEN_SOCKET: &str = "/rustci/token.sock";
pub(super) const PULL_POLICY: &str = "IfNotPresent";

/// What differs between the job's container and the carrier.
pub(super) struct Steps {
    pub(super) resources: Option<ResourceRequirements>,
    pub(super) read_only_root: bool,
    pub(super) root: bool,
    pub(super) with_token: bool,
}

/// The first container: it alone sees the agent's token.
pub(super) fn carrier(agent: &AgentSettings) -> Container {
    let token = format!("{}/{}", volumes::TOKEN_DIR, volumes::TOKEN_FILE);
    Container {
        name: CARRIER.to_owned(),
        image: Some(agent.image.clone()),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        command: Some(words(&[
            AGENT_IN_ITS_IMAGE,
            "carrier",
            "--socket",
            TOKEN_SOCKET,
            "--token",
            &token,
        ])),
        lifecycle: (agent.delivery == AgentDelivery::Carrier).then(install_hook),
        volume_mounts: Some(vec![volumes::shared_mount(), volumes::token_mount()]),
        resources: Some(carrier_resources()),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..confined()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The last container: the user's image with the agent as PID 1.
pub(super) fn job(place: &PlaceSpec, agent: &AgentSettings, steps: &Steps) -> Container {
    let mut words = vec!["job".to_owned()];
    if !place.step_images.is_empty() {
        words.extend(["--annexes".to_owned(), place.step_images.len().to_string()]);
    }
    Container {
        name: JOB.to_owned(),
        image: Some(place.image.clone()),
        env: Some(job_env(place, agent)),
        resources: steps.resources.clone(),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..with_agent(agent, steps, words)
    }
}

/// A container between these: another image for steps, with the same program as PID 1.
pub(super) fn annex(number: usize, image: &str, agent: &AgentSettings, steps: &Steps) -> Container {
    Container {
        name: format!("{ANNEX_PREFIX}{number}"),
        image: Some(image.to_owned()),
        resources: Some(annex_resources(steps.resources.as_ref())),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..with_agent(agent, steps, vec!["annex".to_owned(), number.to_string()])
    }
}

/// What all containers for steps have.
fn with_agent(agent: &AgentSettings, steps: &Steps, arguments: Vec<String>) -> Container {
    let mut mounts = vec![volumes::shared_mount(), volumes::workspace_mount()];
    let mut command = match agent.delivery {
        AgentDelivery::Carrier => vec!["/rustci/agent".to_owned()],
        AgentDelivery::ImageVolume => {
            mounts.push(volumes::agent_mount());
            vec![format!("{}{AGENT_IN_ITS_IMAGE}", volumes::AGENT_DIR)]
        }
    };
    command.extend(arguments);
    if steps.with_token {
        mounts.push(volumes::service_account_mount());
    }
    Container {
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        command: Some(command),
        working_dir: Some(volumes::WORKSPACE_DIR.to_owned()),
        volume_mounts: Some(mounts),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(steps.read_only_root),
            ..hardened(steps.root)
        }),
        ..Container::default()
    }
}

/// The limits of the job's container, and next to no request: its steps and those of the job's own
/// container never run at the same time. A device can't be had twice.
fn annex_resources(of_job: Option<&ResourceRequirements>) -> ResourceRequirements {
    let limits = of_job.and_then(|resources| resources.limits.clone());
    let limits = limits.map(|mut limits| {
        limits.retain(|name, _| matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage"));
        limits
    });
    ResourceRequirements {
        limits: limits.filter(|limits| !limits.is_empty()),
        requests: carrier_resources().requests,
        ..ResourceRequirements::default()
    }
}

fn job_env(place: &PlaceSpec, agent: &AgentSettings) -> Vec<EnvVar> {
    let mut env = vec![
        value("RUSTCI_AGENT_HUB", &agent.hub.to_string()),
        value("RUSTCI_AGENT_HUB_ID", &agent.hub_id),
        value("RUSTCI_AGENT_CA", &agent.bundle_pem),
        value("RUSTCI_AGENT_SOCKET", TOKEN_SOCKET),
        field("RUSTCI_AGENT_POD_UID", "metadata.uid"),
        field("RUSTCI_AGENT_NAMESPACE", "metadata.namespace"),
    ];
    let proxy = agent.proxy.iter();
    env.extend(proxy.map(|proxy| value("RUSTCI_AGENT_PROXY", &proxy.to_string())));
    let kept = place.env_from.iter();
    env.extend(kept.map(|EnvFrom { name, source }| from_source(name, source)));
    env
}

pub(super) fn from_source(name: &str, source: &EnvSource) -> EnvVar {
    let EnvSource {
        secret_key_ref,
        config_map_key_ref,
    } = source;
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: secret_key_ref.as_ref().map(|secret| SecretKeySelector {
                name: secret.name.clone(),
                key: secret.key.clone(),
                optional: secret.optional,
            }),
            config_map_key_ref: config_map_key_ref.as_ref().map(|map| ConfigMapKeySelector {
                name: map.name.clone(),
                key: map.key.clone(),
                optional: map.optional,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// The kubelet starts the next container only when this hook has ended, which takes the place of
/// an init container without its extra second.
fn install_hook() -> Lifecycle {
    Lifecycle {
        post_start: Some(LifecycleHandler {
            exec: Some(ExecAction {
                command: Some(words(&[AGENT_IN_ITS_IMAGE, "install", "/rustci/agent"])),
            }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}

/// No CPU limit: throttling would delay the start of every job.
fn carrier_resources() -> ResourceRequirements {
    let quantities = |all: &[(&str, &str)]| {
        all.iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect::<BTreeMap<_, _>>()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "10m"), ("memory", "16Mi")])),
        limits: Some(quantities(&[("memory", "64Mi")])),
        ..ResourceRequirements::default()
    }
}

/// What a user's container may do. Root keeps the runtime's default capabilities: package managers
/// need them. Whether root is allowed at all is the namespace's pod security level to say.
pub(super) fn hardened(is_root: bool) -> SecurityContext {
    match is_root {
        true => SecurityContext {
            allow_privilege_escalation: Some(false),
            ..SecurityContext::default()
        },
        false => confined(),
    }
}

fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|&word| word.to_owned()).collect()
}
