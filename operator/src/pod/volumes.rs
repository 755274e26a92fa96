//! The volumes of a job's pod and where they are mounted.
//! Must not mount the agent's token anywhere but in the carrier.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource,
    ImageVolumeSource, KeyToPath, ObjectFieldSelector, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

use super::{AgentDelivery, AgentSettings};

/// Where the agent's token is, in the carrier.
pub(super) const TOKEN_DIR: &str = "/var/run/rustci/token";
/// File name of the agent's token.
pub(super) const TOKEN_FILE: &str = "token";
/// Where the steps work.
pub(super) const WORKSPACE_DIR: &str = "/workspace";
/// Where the agent's image is mounted.
pub(super) const AGENT_DIR: &str = "/rustci-image";
/// Lifetime of the agent's token: the shortest that Kubernetes gives.
const TOKEN_SECONDS: i64 = 600;
/// Lifetime of a service account's token, as the API server's own admission sets it.
const SERVICE_ACCOUNT_TOKEN_SECONDS: i64 = 3607;

pub(super) fn all(agent: &AgentSettings, with_service_account: bool) -> Vec<Volume> {
    let mut volumes = vec![
        empty("rustci"),
        empty("workspace"),
        projected(
            "token",
            vec![token(Some(agent.audience.clone()), TOKEN_SECONDS)],
        ),
    ];
    if agent.delivery == AgentDelivery::ImageVolume {
        volumes.push(Volume {
            name: "agent".to_owned(),
            image: Some(ImageVolumeSource {
                reference: Some(agent.image.clone()),
                pull_policy: Some("IfNotPresent".to_owned()),
            }),
            ..Volume::default()
        });
    }
    if with_service_account {
        volumes.push(projected(
            "service-account",
            vec![
                token(None, SERVICE_ACCOUNT_TOKEN_SECONDS),
                cluster_ca(),
                namespace_file(),
            ],
        ));
    }
    volumes
}

pub(super) fn shared_mount() -> VolumeMount {
    mount("rustci", "/rustci", false)
}

pub(super) fn workspace_mount() -> VolumeMount {
    mount("workspace", WORKSPACE_DIR, false)
}

pub(super) fn token_mount() -> VolumeMount {
    mount("token", TOKEN_DIR, true)
}

pub(super) fn agent_mount() -> VolumeMount {
    mount("agent", AGENT_DIR, true)
}

pub(super) fn service_account_mount() -> VolumeMount {
    mount(
        "service-account",
        "/var/run/secrets/kubernetes.io/serviceaccount",
        true,
    )
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn empty(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn token(audience: Option<String>, seconds: i64) -> VolumeProjection {
    VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience,
            expiration_seconds: Some(seconds),
            path: TOKEN_FILE.to_owned(),
        }),
        ..VolumeProjection::default()
    }
}

fn cluster_ca() -> VolumeProjection {
    VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".to_owned(),
                path: "ca.crt".to_owned(),
                ..KeyToPath::default()
            }]),
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

fn namespace_file() -> VolumeProjection {
    VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".to_owned(),
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.namespace".to_owned(),
                    ..ObjectFieldSelector::default()
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    }
}
