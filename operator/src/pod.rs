//! Builds the pod of one job: a pure function from borrowed, validated input.
//! Must not talk to the cluster nor decide whether a pod is wanted.

mod containers;
mod services;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crds::{PodOptions, labels};
use k8s_openapi::api::core::v1::{
    Container, LocalObjectReference, Pod, PodSecurityContext, PodSpec, SeccompProfile,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use planner::run::PlaceSpec;

use self::containers::Steps;
use crate::settings::Delivery;

/// Name of the container that carries the agent and its token.
pub const CARRIER: &str = "carrier";
/// Name of the container that runs the steps.
pub const JOB: &str = "job";
/// What the name of a container for steps with another image begins with.
pub const ANNEX_PREFIX: &str = "image-";
/// What the name of a service's container begins with.
pub const SERVICE_PREFIX: &str = "service-";
/// User of the steps when the job names none.
pub const DEFAULT_USER: i64 = 1000;
/// Service account of jobs that name none.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// First Kubernetes minor version in which image volumes are on by default everywhere.
const IMAGE_VOLUME_MINOR: u32 = 36;
/// Longest value of a label.
const LABEL_VALUE_MAX: usize = 63;

/// What every agent of this operator needs.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Image that holds the agent.
    pub image: String,
    /// How the agent gets into the job's container; never `Auto`.
    pub delivery: AgentDelivery,
    /// Where the hub is reached.
    pub hub: SocketAddr,
    /// HTTP proxy through which the hub is reached when nothing else is open.
    pub proxy: Option<SocketAddr>,
    /// SPIFFE id of the hub.
    pub hub_id: String,
    /// Certificates that the agent trusts, as PEM.
    pub bundle_pem: String,
    /// Audience of the agent's token.
    pub audience: String,
    /// Time that a stopped step has before it is killed.
    pub stop_grace: Duration,
}

/// How the agent gets into the job's container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AgentDelivery {
    /// The carrier's postStart hook copies it; the kubelet starts the job's container after that.
    Carrier,
    /// The agent's image is mounted; the carrier only hands over the token.
    ImageVolume,
}

impl AgentDelivery {
    /// Resolves `Auto` by the minor version of a Kubernetes 1.x server, such as `34` or `34+`.
    pub fn resolve(wanted: Delivery, server_minor: &str) -> Self {
        let digits: String = server_minor
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        match wanted {
            Delivery::Carrier => Self::Carrier,
            Delivery::ImageVolume => Self::ImageVolume,
            Delivery::Auto if digits.parse().unwrap_or(0) >= IMAGE_VOLUME_MINOR => {
                Self::ImageVolume
            }
            Delivery::Auto => Self::Carrier,
        }
    }
}

/// The pod of one job.
pub fn build_pod(place: &PlaceSpec, agent: &AgentSettings) -> Pod {
    let PodOptions {
        resources,
        node_selector,
        tolerations,
        service_account_name,
        automount_service_account_token,
        image_pull_secrets,
        run_as_user,
        read_only_root_filesystem,
        // Watched by the planner; the kubelet knows no such limit.
        pending_timeout: _,
    } = &place.pod;
    let user = run_as_user.unwrap_or(DEFAULT_USER);
    let with_token = *automount_service_account_token == Some(true);
    let steps = Steps {
        resources: resources.clone(),
        read_only_root: *read_only_root_filesystem == Some(true),
        root: user == 0,
        with_token,
    };
    Pod {
        metadata: metadata(place),
        spec: Some(PodSpec {
            init_containers: services(place, user),
            host_aliases: services::host_aliases(&place.services),
            containers: containers(place, agent, &steps),
            volumes: Some(volumes::all(agent, with_token)),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(seconds(place.active_deadline).max(1)),
            // The agent needs a moment after the steps' grace to report their end.
            termination_grace_period_seconds: Some(seconds(agent.stop_grace) + 5),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            // A token volume needs it said.
            service_account_name: service_account_name
                .clone()
                .or_else(|| Some(DEFAULT_SERVICE_ACCOUNT.to_owned())),
            node_selector: (!node_selector.is_empty()).then(|| node_selector.clone()),
            tolerations: (!tolerations.is_empty()).then(|| tolerations.clone()),
            image_pull_secrets: (!image_pull_secrets.is_empty()).then(|| {
                let reference = |name: &String| LocalObjectReference { name: name.clone() };
                image_pull_secrets.iter().map(reference).collect()
            }),
            security_context: Some(security(user)),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// The job's container comes last: what its agent needs of the others is there when it starts.
fn containers(place: &PlaceSpec, agent: &AgentSettings, steps: &Steps) -> Vec<Container> {
    let images = place.step_images.iter().enumerate();
    let annexes = images.map(|(i, image)| containers::annex(i + 1, image, agent, steps));
    let mut all = vec![containers::carrier(agent)];
    all.extend(annexes);
    all.push(containers::job(place, agent, steps));
    all
}

fn services(place: &PlaceSpec, user: i64) -> Option<Vec<Container>> {
    let containers = place.services.iter();
    let containers = containers.map(|service| services::container(service, user));
    (!place.services.is_empty()).then(|| containers.collect())
}

fn security(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(user != 0),
        run_as_user: Some(user),
        // Makes the emptyDirs writable for the steps' user.
        fs_group: Some(user),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// Selector of every pod that this operator made.
pub fn selector() -> String {
    format!(
        "app.kubernetes.io/managed-by={},{}",
        labels::MANAGED_BY,
        labels::RUN
    )
}

fn metadata(place: &PlaceSpec) -> ObjectMeta {
    ObjectMeta {
        name: Some(place.name.clone()),
        namespace: Some(place.key.namespace.clone()),
        labels: Some(pod_labels(place)),
        annotations: Some(BTreeMap::from([
            (
                "cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(),
                "false".to_owned(),
            ),
            ("karpenter.sh/do-not-disrupt".to_owned(), "true".to_owned()),
            (
                "kubectl.kubernetes.io/default-container".to_owned(),
                JOB.to_owned(),
            ),
        ])),
        owner_references: Some(vec![owner(&place.key.run, &place.key.run_uid)]),
        ..ObjectMeta::default()
    }
}

fn pod_labels(place: &PlaceSpec) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "rustci-job".to_owned()),
        (
            "app.kubernetes.io/managed-by".to_owned(),
            labels::MANAGED_BY.to_owned(),
        ),
        (labels::PIPELINE.to_owned(), label_value(&place.pipeline)),
        (labels::RUN.to_owned(), label_value(&place.key.run)),
        (labels::JOB.to_owned(), label_value(&place.key.job)),
        (labels::ATTEMPT.to_owned(), place.key.attempt.to_string()),
    ]);
    if let Some(runner) = &place.runner {
        all.insert(labels::RUNNER.to_owned(), label_value(runner));
    }
    all
}

/// The run as controller of what it owns.
pub fn owner(run: &str, run_uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
        kind: "PipelineRun".to_owned(),
        name: run.to_owned(),
        uid: run_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

/// A name as a label's value: as it stands when it fits, else cut and made unique by a hash.
pub fn label_value(name: &str) -> String {
    if name.len() <= LABEL_VALUE_MAX {
        return name.to_owned();
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{}-{}", &name[..LABEL_VALUE_MAX - 11], &hash[..10])
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
