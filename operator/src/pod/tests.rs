//! Golden tests of the pod builder.
//! Must not check what Kubernetes itself checks; the control-plane tests do that.

use super::*;
use crds::{ConfigMapKeyRef, EnvSource, SecretKeyRef};
use planner::run::{EnvFrom, JobKey, ServiceSpec};

fn agent(delivery: AgentDelivery) -> AgentSettings {
    AgentSettings {
        image: "registry.example/agent:7".to_owned(),
        delivery,
        hub: "10.96.3.4:7420".parse().unwrap(),
        proxy: None,
        hub_id: "spiffe://ci.example/operator".to_owned(),
        bundle_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        audience: "valkyrie.ci.example".to_owned(),
        stop_grace: Duration::from_secs(25),
    }
}

fn place(pod: PodOptions, sources: Vec<EnvSource>) -> PlaceSpec {
    let named = |(n, source)| EnvFrom {
        name: format!("RUSTCI_FROM_{n}"),
        source,
    };
    PlaceSpec {
        name: "nightly-unit-1-abc".to_owned(),
        key: JobKey {
            namespace: "team-a".to_owned(),
            run: "nightly".to_owned(),
            run_uid: "0b1f".to_owned(),
            job: "unit".to_owned(),
            attempt: 2,
            fence: 3,
        },
        pipeline: "build".to_owned(),
        runner: Some("large".to_owned()),
        image: "registry.example/rust:1".to_owned(),
        pod,
        step_images: Vec::new(),
        services: Vec::new(),
        env_from: sources.into_iter().enumerate().map(named).collect(),
        active_deadline: Duration::from_secs(4_200),
    }
}

fn yaml(pod: &Pod) -> serde_json::Value {
    serde_json::to_value(pod).unwrap()
}

#[test]
fn a_job_without_options_gets_a_restricted_pod_with_a_carrier() {
    let pod = build_pod(
        &place(PodOptions::default(), Vec::new()),
        &agent(AgentDelivery::Carrier),
    );
    insta::assert_yaml_snapshot!(yaml(&pod));
}

#[test]
fn options_and_sources_reach_the_jobs_container() {
    let options: PodOptions = serde_json::from_value(serde_json::json!({
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "ci", "operator": "Exists"}],
        "serviceAccountName": "builder",
        "automountServiceAccountToken": true,
        "imagePullSecrets": ["pull"],
        "runAsUser": 0,
        "readOnlyRootFilesystem": true,
    }))
    .unwrap();
    let sources = vec![
        EnvSource {
            secret_key_ref: Some(SecretKeyRef {
                name: "credentials".to_owned(),
                key: "password".to_owned(),
                optional: None,
            }),
            config_map_key_ref: None,
        },
        EnvSource {
            secret_key_ref: None,
            config_map_key_ref: Some(ConfigMapKeyRef {
                name: "settings".to_owned(),
                key: "level".to_owned(),
                optional: Some(true),
            }),
        },
    ];
    let pod = build_pod(&place(options, sources), &agent(AgentDelivery::ImageVolume));
    insta::assert_yaml_snapshot!(yaml(&pod));
}

#[test]
fn services_are_native_sidecars_before_the_other_containers() {
    let db: crds::Service = serde_json::from_value(serde_json::json!({
        "name": "db", "image": "registry.example/postgres:17",
        "command": ["run"], "args": ["-c", "price=$(PRICE)"],
        "env": [
            {"name": "LITERAL", "value": "5$ and $(HOME)"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        ],
        "ports": [5432],
        "readiness": {"tcpPort": 5432},
        "resources": {"limits": {"memory": "256Mi"}},
        "runAsUser": 999,
    }))
    .unwrap();
    let web: crds::Service = serde_json::from_value(serde_json::json!({
        "name": "web", "image": "registry.example/web:1",
        "readiness": {"httpGet": {"port": 8080}},
    }))
    .unwrap();
    let spec = |service, period, limit| ServiceSpec {
        service,
        period: Duration::from_secs(period),
        limit: Duration::from_secs(limit),
    };
    let mut place = place(PodOptions::default(), Vec::new());
    place.services = vec![spec(db, 2, 61), spec(web, 1, 30)];
    let pod = yaml(&build_pod(&place, &agent(AgentDelivery::Carrier)));
    let spec = &pod["spec"];
    insta::assert_yaml_snapshot!(serde_json::json!({
        "hostAliases": spec["hostAliases"], "initContainers": spec["initContainers"]}));
    let names = spec["containers"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|container| &container["name"]).collect();
    assert_eq!(names, [CARRIER, JOB]);
}

#[test]
fn each_other_image_of_a_step_has_a_container_between_carrier_and_job() {
    let options: PodOptions = serde_json::from_value(serde_json::json!({
        "resources": {
            "requests": {"cpu": "2", "memory": "3Gi"},
            "limits": {"memory": "4Gi", "example.com/gpu": "1"},
        },
        "automountServiceAccountToken": true,
    }))
    .unwrap();
    let secret = EnvSource {
        secret_key_ref: Some(SecretKeyRef {
            name: "credentials".to_owned(),
            key: "password".to_owned(),
            optional: None,
        }),
        config_map_key_ref: None,
    };
    let mut place = place(options, vec![secret]);
    place.step_images = vec!["python:3".to_owned(), "node:22".to_owned()];
    let spec = build_pod(&place, &agent(AgentDelivery::Carrier))
        .spec
        .unwrap();
    let names: Vec<_> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, [CARRIER, "image-1", "image-2", JOB]);
    let job = spec.containers[3].command.clone().unwrap();
    assert_eq!(job, ["/rustci/agent", "job", "--annexes", "2"]);
    insta::assert_yaml_snapshot!(serde_json::to_value(&spec.containers[2]).unwrap());
}

#[test]
fn the_agents_token_is_mounted_in_the_carrier_alone() {
    for delivery in [AgentDelivery::Carrier, AgentDelivery::ImageVolume] {
        let service = serde_json::from_value(serde_json::json!({"name": "db", "image": "d:1"}));
        let mut place = place(PodOptions::default(), Vec::new());
        place.services = vec![ServiceSpec {
            service: service.unwrap(),
            period: Duration::from_secs(1),
            limit: Duration::from_secs(9),
        }];
        let spec = build_pod(&place, &agent(delivery)).spec.unwrap();
        let services = spec.init_containers.unwrap_or_default();
        let with_token: Vec<_> = (spec.containers.into_iter().chain(services))
            .filter(|c| c.volume_mounts.iter().flatten().any(|m| m.name == "token"))
            .map(|c| c.name)
            .collect();
        assert_eq!(with_token, [CARRIER]);
    }
}

#[test]
fn auto_delivery_is_an_image_volume_from_1_36_on() {
    let resolved = |wanted, minor| AgentDelivery::resolve(wanted, minor);
    assert_eq!(resolved(Delivery::Auto, "35"), AgentDelivery::Carrier);
    assert_eq!(resolved(Delivery::Auto, "36+"), AgentDelivery::ImageVolume);
    assert_eq!(resolved(Delivery::Auto, "unknown"), AgentDelivery::Carrier);
    assert_eq!(
        resolved(Delivery::ImageVolume, "34"),
        AgentDelivery::ImageVolume
    );
    assert_eq!(resolved(Delivery::Carrier, "40"), AgentDelivery::Carrier);
}

#[test]
fn long_names_become_unique_label_values() {
    let long = "a".repeat(200);
    let other = format!("{}b", "a".repeat(199));
    assert_eq!(label_value(&long).len(), LABEL_VALUE_MAX);
    assert_ne!(label_value(&long), label_value(&other));
    assert_eq!(label_value("short"), "short");
}

#[test]
fn a_proxy_reaches_the_agent_and_no_other_container() {
    let agent = AgentSettings {
        proxy: Some("192.0.2.7:3128".parse().unwrap()),
        ..agent(AgentDelivery::Carrier)
    };
    let pod = build_pod(&place(PodOptions::default(), Vec::new()), &agent);
    let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
    for container in containers {
        let env = container.env.unwrap_or_default();
        let proxy = env.iter().find(|entry| entry.name == "RUSTCI_AGENT_PROXY");
        let proxy = proxy.and_then(|entry| entry.value.as_deref());
        let wanted = (container.name == "job").then_some("192.0.2.7:3128");
        assert_eq!(proxy, wanted, "{}", container.name);
    }
}
