//! Whether the API server proves who makes an Approval: the admission policy of `deploy`.
//! Must not install or change the policy: that is the administrator's part.

use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::Api;
use serde::Deserialize;

/// Name of the policy and of its binding.
pub const NAME: &str = "approvals.rustci.dev";

/// Every API server follows a new policy within this time: it looks for changes each second.
pub const SETTLING: Duration = Duration::from_secs(5);

const MANIFEST: &str = include_str!("../../deploy/approval.yaml");

/// The two objects as they are to be.
static WANTED: LazyLock<(ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)> =
    LazyLock::new(wanted);

fn wanted() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let mut documents = serde_yaml::Deserializer::from_str(MANIFEST);
    let first = documents.next().map(ValidatingAdmissionPolicy::deserialize);
    let second = documents
        .next()
        .map(ValidatingAdmissionPolicyBinding::deserialize);
    match (first, second) {
        (Some(Ok(policy)), Some(Ok(binding))) => (policy, binding),
        _ => unreachable!("a test reads the manifest"),
    }
}

/// Looks whether an object that is as old as this was made under the policy. The inner error is
/// why nothing proves who made it, with what to do.
pub(super) async fn proves(
    client: &Client,
    made: &ObjectMeta,
) -> Result<Result<(), String>, kube::Error> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let found = tokio::try_join!(policies.get_opt(NAME), bindings.get_opt(NAME));
    match found {
        Ok((policy, binding)) => Ok(judge(made, policy.as_ref(), binding.as_ref())),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Err(format!(
            "the operator may not read the admission policy `{NAME}`; {REMEDY}"
        ))),
        Err(error) => Err(error),
    }
}

const REMEDY: &str = "ask an administrator to apply the manifests in operator/deploy of this \
                      version, then answer again";

fn judge(
    made: &ObjectMeta,
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> Result<(), String> {
    let missing = |what: &str| {
        format!("nothing proves who made this: the {what} `{NAME}` is not in the cluster; {REMEDY}")
    };
    let changed = |what: &str| {
        format!("nothing proves who made this: the {what} `{NAME}` was changed; {REMEDY}")
    };
    let policy = policy.ok_or_else(|| missing("admission policy"))?;
    let binding = binding.ok_or_else(|| missing("admission policy's binding"))?;
    let (wanted, wanted_binding) = &*WANTED;
    if policy.spec != wanted.spec {
        return Err(changed("admission policy"));
    }
    if binding.spec != wanted_binding.spec {
        return Err(changed("admission policy's binding"));
    }
    let since = [&policy.metadata, &binding.metadata]
        .into_iter()
        .filter_map(|of| of.creation_timestamp.as_ref())
        .map(|time| time.0 + SETTLING)
        .max();
    let at = made.creation_timestamp.as_ref().map(|time| time.0);
    match at > since {
        true => Ok(()),
        false => Err(format!(
            "nothing proves who made this: it is not younger than the admission policy `{NAME}`; \
             answer again"
        )),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn meta(seconds: i64) -> ObjectMeta {
        ObjectMeta {
            creation_timestamp: Some(Time(Timestamp::from_second(seconds).unwrap())),
            ..ObjectMeta::default()
        }
    }

    fn in_force() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
        let (mut policy, mut binding) = wanted();
        policy.metadata = meta(100);
        binding.metadata = meta(110);
        (policy, binding)
    }

    fn told(
        policy: Option<&ValidatingAdmissionPolicy>,
        binding: Option<&ValidatingAdmissionPolicyBinding>,
        at: i64,
    ) -> String {
        match judge(&meta(at), policy, binding) {
            Ok(()) => "proven".to_owned(),
            Err(message) => message,
        }
    }

    #[test]
    fn only_what_was_made_under_the_whole_policy_is_proven() {
        let (policy, binding) = in_force();
        assert_eq!(told(Some(&policy), Some(&binding), 116), "proven");
        assert!(told(Some(&policy), Some(&binding), 115).contains("is not younger"));
        assert!(told(None, Some(&binding), 116).contains("policy `approvals.rustci.dev` is not"));
        assert!(told(Some(&policy), None, 116).contains("binding `approvals.rustci.dev` is not"));
    }

    #[test]
    fn a_weaker_policy_or_binding_proves_nothing() {
        let (mut policy, binding) = in_force();
        let spec = policy.spec.as_mut().unwrap();
        spec.validations.as_mut().unwrap().remove(0);
        assert!(
            told(Some(&policy), Some(&binding), 200).contains("policy `approvals.rustci.dev` was")
        );
        let (policy, mut binding) = in_force();
        let spec = binding.spec.as_mut().unwrap();
        spec.validation_actions = Some(vec!["Warn".to_owned()]);
        assert!(
            told(Some(&policy), Some(&binding), 200).contains("binding `approvals.rustci.dev` was")
        );
        let (_, mut binding) = in_force();
        let only = k8s_openapi::api::admissionregistration::v1::MatchResources::default();
        binding.spec.as_mut().unwrap().match_resources = Some(only);
        assert!(told(Some(&policy), Some(&binding), 200).contains("was changed"));
    }
}
