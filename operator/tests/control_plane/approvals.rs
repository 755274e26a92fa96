//! Jobs that wait for people: who may answer, and who is believed to be who.
//! Must not share a control plane: the admission policy is the cluster's.

use std::time::Duration;

use cluster::ControlPlane;
use crds::{Approval, Decision, JobState, PipelineRun, condition};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use operator::approval::POLICY;
use serde_json::{Value, json};

use crate::agent::run_to_end;
use crate::bench::{Bench, condition, job, job_of, object, within};
use crate::manifests::install_files;

/// Between two looks at something that has no watch.
const LOOK: Duration = Duration::from_millis(200);

/// A user of the cluster, as the API server sees them.
struct Person {
    name: &'static str,
    groups: &'static [&'static str],
}

/// In the group that may answer, with the right.
const ANN: Person = Person {
    name: "ann",
    groups: &["release"],
};
/// With the right, and in no group.
const BERT: Person = Person {
    name: "bert",
    groups: &[],
};
/// In the group, without the right.
const CARL: Person = Person {
    name: "carl",
    groups: &["release"],
};

struct World {
    bench: Bench,
}

impl World {
    async fn client(&self, person: &Person) -> Client {
        let mut config = self.bench.config().await;
        let all = person.groups.iter().chain(&["system:authenticated"]);
        config.auth_info.impersonate = Some(person.name.to_owned());
        config.auth_info.impersonate_groups = Some(all.map(|name| (*name).to_owned()).collect());
        Client::try_from(config).unwrap()
    }

    /// Tries to make an answer; what it claims can differ from who makes it.
    async fn answer(
        &self,
        maker: &Person,
        claimed: &Person,
        run: &PipelineRun,
        decision: Decision,
    ) -> Result<String, kube::Error> {
        let approval: Approval = object(json!({
            "metadata": {"generateName": "ship-"},
            "spec": {"run": run.name_any(), "runUid": run.uid(), "job": "ship",
                "decision": decision, "comment": "as agreed", "user": claimed.name,
                "groups": claimed.groups},
        }));
        let client = self.client(maker).await;
        let api: Api<Approval> = Api::namespaced(client, &self.bench.namespace);
        let made = api.create(&PostParams::default(), &approval).await?;
        Ok(made.name_any())
    }

    /// Makes an answer and gives reason and message of what the operator says of it.
    async fn judged(
        &self,
        person: &Person,
        run: &PipelineRun,
        decision: Decision,
    ) -> (String, String) {
        let name = self.answer(person, person, run, decision).await.unwrap();
        self.word(&name).await
    }

    async fn word(&self, name: &str) -> (String, String) {
        let judged = self
            .bench
            .wait(name, "judged", |it: &Approval| accepted(it).is_some());
        accepted(&judged.await).unwrap()
    }

    /// A run whose job `ship` waits for the group `release`.
    async fn waiting(&self, name: &str, approval: Value) -> PipelineRun {
        let mut ship = job("ship", &[], "true");
        ship["approval"] = approval;
        let spec = json!({"pipelineSpec": {"jobs": [ship]}});
        let body = json!({"metadata": {"name": name}, "spec": spec});
        self.bench.create::<PipelineRun>(body).await;
        let waits = |run: &PipelineRun| condition(run, "Succeeded").1 == "AwaitingApproval";
        self.bench.wait_run(name, "waiting", waits).await
    }
}

fn accepted(approval: &Approval) -> Option<(String, String)> {
    let conditions = &approval.status.as_ref()?.conditions;
    let found = conditions
        .iter()
        .find(|it| it.type_ == condition::ACCEPTED)?;
    assert_eq!(found.status == "True", found.reason == "Accepted");
    Some((found.reason.clone(), found.message.clone()))
}

/// Lets a run's job `ship`, which asks anybody with the right, be approved.
pub(crate) async fn approve(bench: Bench, run: &PipelineRun) -> Bench {
    let world = World { bench };
    give_rights(&world).await;
    within("an answer counts", async {
        // A policy that was installed just now proves nothing yet.
        while world.judged(&BERT, run, Decision::Approve).await.0 != "Accepted" {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    world.bench
}

fn by_release() -> Value {
    json!({"groups": ["release"], "message": "Ship ${{ run.name }}?"})
}

async fn give_rights(world: &World) {
    let role = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let user = |person: &Person| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person.name});
    world
        .bench
        .create::<RoleBinding>(json!({"metadata": {"name": "approvers"},
            "roleRef": role("rustci-approver"), "subjects": [user(&ANN), user(&BERT)]}))
        .await;
    // Who can make anything but may not approve: the right is `pipelineruns/approval` alone.
    let only_objects: k8s_openapi::api::rbac::v1::Role = object(json!({
        "metadata": {"name": "makers"},
        "rules": [{"apiGroups": ["rustci.dev"], "resources": ["approvals", "pipelineruns"],
            "verbs": ["create", "get", "update", "patch"]}]}));
    let roles = world.bench.api();
    roles
        .create(&PostParams::default(), &only_objects)
        .await
        .unwrap();
    let mut makers = role("makers");
    makers["kind"] = json!("Role");
    world
        .bench
        .create::<RoleBinding>(json!({"metadata": {"name": "makers"},
            "roleRef": makers, "subjects": [user(&CARL)]}))
        .await;
    // The role of the manifests, for nobody in the whole cluster.
    let all: Api<ClusterRoleBinding> = Api::all(world.bench.client.clone());
    let bindings = all.list(&Default::default()).await.unwrap();
    let is_bound = |it: &ClusterRoleBinding| it.role_ref.name == "rustci-approver";
    assert!(!bindings.items.iter().any(is_bound));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_the_api_server_proves_and_who_has_the_right_is_believed() {
    let plane = ControlPlane::start().await.unwrap();
    let world = World {
        bench: Bench::alone(&plane, "approvals").await,
    };
    let operator = world.bench.operator(&[]).await;
    let run = world.waiting("oak-1", by_release()).await;
    let request = &run.status.as_ref().unwrap().approvals[0];
    assert_eq!(request.message.as_deref(), Some("Ship oak-1?"));
    without_the_policy_nobody_is_believed(&world, &run).await;
    under_the_policy_nobody_speaks_for_another(&world, &run).await;
    who_has_no_right_is_told_so(&world, &run).await;
    the_first_valid_answer_counts(&world, &run).await;
    operator.stop();
    operator.ended().await.unwrap();
    an_answer_given_while_no_operator_runs_counts_later(&world).await;
    a_changed_policy_is_worth_nothing(&world).await;
}

/// The role comes with the policy, so the administrator of the test answers here.
async fn without_the_policy_nobody_is_believed(world: &World, run: &PipelineRun) {
    let admin = Person {
        name: "root",
        groups: &["system:masters", "release"],
    };
    let (reason, message) = world.judged(&admin, run, Decision::Approve).await;
    assert_eq!(reason, "NotProven");
    assert!(message.contains("is not in the cluster"), "{message}");
    assert!(message.contains("operator/deploy"), "{message}");
    let forged = world.answer(&admin, &ANN, run, Decision::Approve).await;
    let (reason, _) = world.word(&forged.unwrap()).await;
    assert_eq!(
        reason, "NotProven",
        "without the policy anybody can be named"
    );
    install_files(&world.bench, &["namespace", "approval"]).await;
    give_rights(world).await;
}

async fn under_the_policy_nobody_speaks_for_another(world: &World, run: &PipelineRun) {
    let refused = |made: Result<String, kube::Error>| match made {
        Err(kube::Error::Api(status)) if status.code == 403 => Some(status.message),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    };
    // The API server follows the policy a moment after it is there; then it always does.
    let message = within("the policy is followed", async {
        loop {
            let forged = world.answer(&BERT, &ANN, run, Decision::Approve).await;
            match refused(forged) {
                Some(message) => return message,
                None => tokio::time::sleep(LOOK).await,
            }
        }
    })
    .await;
    assert!(
        message.contains("spec.user must be your own user name"),
        "{message}"
    );
    let of_release = Person {
        groups: &["release"],
        ..BERT
    };
    let forged = world
        .answer(&BERT, &of_release, run, Decision::Approve)
        .await;
    let message = refused(forged).expect("a group that the user is not in");
    assert!(message.contains("groups that you are in"), "{message}");
    let made = Api::<Approval>::namespaced(world.bench.client.clone(), &world.bench.namespace);
    for forged in made.list(&Default::default()).await.unwrap() {
        let (reason, _) = world.word(&forged.name_any()).await;
        assert_eq!(reason, "NotProven", "{forged:?}");
    }
}

async fn who_has_no_right_is_told_so(world: &World, run: &PipelineRun) {
    let (reason, message) = world.judged(&BERT, run, Decision::Approve).await;
    assert_eq!(reason, "NotAnApprover");
    assert!(message.contains("the group `release`"), "{message}");
    within("the policy is old enough", async {
        loop {
            let (reason, message) = world.judged(&CARL, run, Decision::Reject).await;
            match reason.as_str() {
                "Forbidden" => {
                    assert!(message.contains("`carl` may not update"), "{message}");
                    assert!(message.contains("rustci-approver"), "{message}");
                    return;
                }
                "NotProven" => assert!(message.contains("not younger"), "{message}"),
                other => panic!("{other}: {message}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    let now: PipelineRun = world.bench.api().get(&run.name_any()).await.unwrap();
    assert_eq!(job_of(&now, "ship").unwrap().state, JobState::Pending);
    assert_eq!(now.status.unwrap().approvals[0].decision, None);
}

async fn the_first_valid_answer_counts(world: &World, run: &PipelineRun) {
    let name = world
        .answer(&ANN, &ANN, run, Decision::Approve)
        .await
        .unwrap();
    let (reason, message) = world.word(&name).await;
    assert_eq!(reason, "Accepted", "{message}");
    let approval: Approval = world.bench.api().get(&name).await.unwrap();
    let owner = &approval.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), Some(owner.uid.clone())),
        ("PipelineRun", run.uid())
    );
    let (reason, message) = world.judged(&ANN, run, Decision::Reject).await;
    assert_eq!(reason, "AlreadyDecided");
    assert!(
        message.contains("`ann` has answered before: Approve"),
        "{message}"
    );
    let mut changed = approval.clone();
    changed.spec.decision = Decision::Reject;
    let patch = Patch::Merge(json!({"spec": {"decision": "Reject"}}));
    let patched = world.bench.api::<Approval>();
    let patched = patched.patch(&name, &PatchParams::default(), &patch).await;
    assert!(patched.is_err(), "an answer cannot change");
    run_to_end(&world.bench, &world.bench.pod_of("oak-1", "ship").await).await;
    let ended = world.bench.finished("oak-1").await;
    assert_eq!(condition(&ended, "Succeeded").0, "True");
    let request = &ended.status.as_ref().unwrap().approvals[0];
    assert_eq!(request.by.as_deref(), Some("ann"));
    assert_eq!(request.comment.as_deref(), Some("as agreed"));
    assert_eq!(request.approval.as_deref(), Some(name.as_str()));
    let (reason, _) = world.judged(&ANN, run, Decision::Reject).await;
    assert_eq!(reason, "AlreadyDecided");
}

async fn an_answer_given_while_no_operator_runs_counts_later(world: &World) {
    let operator = world.bench.operator(&[]).await;
    let run = world.waiting("oak-2", by_release()).await;
    operator.stop();
    operator.ended().await.unwrap();
    let name = world
        .answer(&ANN, &ANN, &run, Decision::Reject)
        .await
        .unwrap();
    let operator = world.bench.operator(&[]).await;
    let ended = world.bench.finished("oak-2").await;
    let ship = job_of(&ended, "ship").unwrap();
    assert_eq!((ship.state, ship.attempt), (JobState::Failed, 0));
    assert_eq!(ship.reason.as_deref(), Some("Rejected"));
    assert_eq!(ship.message.as_deref(), Some("rejected by ann: as agreed"));
    assert_eq!(ship.pod, None, "waiting needs no pod");
    assert_eq!(world.word(&name).await.0, "Accepted");
    let events = world.bench.events().await;
    assert!(
        events.contains("oak-2 Rejected: job `ship` was rejected by ann"),
        "{events}"
    );
    operator.stop();
    operator.ended().await.unwrap();
}

async fn a_changed_policy_is_worth_nothing(world: &World) {
    let _operator = world.bench.operator(&[]).await;
    let run = world.waiting("oak-3", json!({"timeout": "1h"})).await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.bench.client.clone());
    let patch = Patch::Merge(json!({"spec": {"failurePolicy": "Ignore"}}));
    let patched = policies
        .patch(POLICY, &PatchParams::default(), &patch)
        .await;
    let ObjectMeta { name, .. } = patched.unwrap().metadata;
    assert_eq!(name.as_deref(), Some(POLICY));
    let (reason, message) = world.judged(&ANN, &run, Decision::Approve).await;
    assert_eq!(reason, "NotProven");
    assert!(message.contains("was changed"), "{message}");
    let patch = json!({"spec": {"cancel": true}});
    world.bench.patch_run("oak-3", patch).await;
    let ended = world.bench.finished("oak-3").await;
    assert_eq!(job_of(&ended, "ship").unwrap().state, JobState::Cancelled);
    let (reason, _) = world.judged(&ANN, &run, Decision::Approve).await;
    assert_eq!(reason, "RunEnded");
}
