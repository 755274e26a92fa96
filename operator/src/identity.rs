//! The SPIFFE ids of an installation.
//! Must not issue anything.

use valkyrie::identity::{IdentityError, SpiffeId, TrustDomain};

/// The operator.
pub fn operator(domain: &TrustDomain) -> Result<SpiffeId, IdentityError> {
    domain.member("operator")
}

/// The agent in one pod.
pub fn agent(
    domain: &TrustDomain,
    namespace: &str,
    pod_uid: &str,
) -> Result<SpiffeId, IdentityError> {
    domain.member(&format!("ns/{namespace}/agent/{pod_uid}"))
}

/// Namespace and pod uid of an agent's id; none for any other id.
pub fn agent_pod(id: &SpiffeId) -> Option<(&str, &str)> {
    let segments: Vec<_> = id.segments().collect();
    match segments[..] {
        ["ns", namespace, "agent", uid] => Some((namespace, uid)),
        _ => None,
    }
}

/// Audience of the agents' tokens.
pub fn audience(domain: &TrustDomain) -> String {
    format!("valkyrie.{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_id_names_its_pod() {
        let domain = TrustDomain::parse("ci.example").unwrap();
        let id = agent(&domain, "team-a", "0b1f").unwrap();
        assert_eq!(id.to_string(), "spiffe://ci.example/ns/team-a/agent/0b1f");
        assert_eq!(agent_pod(&id), Some(("team-a", "0b1f")));
        assert_eq!(agent_pod(&operator(&domain).unwrap()), None);
    }
}
