//! Checks of what a container asks for and may use, and of taints that a pod bears.
//! Must not know which node has how much.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::checker::Checker;
use crate::quantity;

/// Amounts that can be read, and no request above its limit: the API server would refuse the pod
/// only when the job starts.
pub(super) fn resources(check: &mut Checker, path: &str, raw: Option<&ResourceRequirements>) {
    let Some(raw) = raw else { return };
    let limits = amounts(check, &format!("{path}.limits"), raw.limits.as_ref());
    let requests = amounts(check, &format!("{path}.requests"), raw.requests.as_ref());
    for (name, wanted) in requests {
        let most = limits.get(name).copied().filter(|most| wanted > *most);
        if most.is_some() {
            let message = format!("more {name} is requested than the limit allows");
            let remedy = "lower the request, or raise the limit";
            check.add(&format!("{path}.requests.{name}"), message, remedy);
        }
    }
}

fn amounts<'a>(
    check: &mut Checker,
    path: &str,
    amounts: Option<&'a BTreeMap<String, Quantity>>,
) -> BTreeMap<&'a str, f64> {
    let mut known = BTreeMap::new();
    for (name, Quantity(text)) in amounts.into_iter().flatten() {
        match quantity::number(text) {
            Some(number) => drop(known.insert(name.as_str(), number)),
            None => {
                let remedy = match name.as_str() {
                    "cpu" => "write for example 500m or 2",
                    _ => "write for example 512Mi or 8Gi",
                };
                let message = format!("`{text}` is no amount");
                check.add(&format!("{path}.{name}"), message, remedy);
            }
        }
    }
    known
}

/// Words that Kubernetes knows.
pub(super) fn tolerations(check: &mut Checker, path: &str, tolerations: &[Toleration]) {
    for (at, toleration) in tolerations.iter().enumerate() {
        for (field, word, known) in [
            ("operator", &toleration.operator, &["Exists", "Equal"][..]),
            (
                "effect",
                &toleration.effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"][..],
            ),
        ] {
            if let Some(word) = word.as_deref().filter(|word| !word.is_empty())
                && !known.contains(&word)
            {
                let remedy = format!("write {}", known.join(" or "));
                let field = format!("{path}[{at}].{field}");
                check.add(&field, format!("there is no {word}"), remedy);
            }
        }
    }
}
