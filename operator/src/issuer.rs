//! Gives agents their certificates: a token of a pod that we created, checked by TokenReview.
//! Must not sign anything before every check has passed.

mod checks;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use hub::IssuedIdentity;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use parking_lot::RwLock;
use valkyrie::endpoint::{CallError, Code};
use valkyrie::identity::{IdentityError, SpiffeId, TrustDomain};

pub use self::checks::{Bearer, Refusal};
use crate::authority::{CERTIFICATE_LIFETIME, Stored};
use crate::caches::Caches;
use crate::identity;
use crate::metrics::{Metrics, OfRefusal};

/// Issues certificates to the agents of the pods that this operator created.
pub struct Issuer {
    client: Client,
    caches: Arc<Caches>,
    domain: TrustDomain,
    authority: Arc<RwLock<Stored>>,
    metrics: Arc<Metrics>,
}

impl Issuer {
    /// An issuer that signs with whatever `authority` holds at the time.
    pub fn new(
        client: Client,
        caches: Arc<Caches>,
        domain: TrustDomain,
        authority: Arc<RwLock<Stored>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            caches,
            domain,
            authority,
            metrics,
        }
    }

    async fn bearer(&self, token: &str) -> Result<Bearer, CallError> {
        let audience = identity::audience(&self.domain);
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![audience.clone()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &review).await;
        let status = review
            .map_err(|error| unavailable(&error))?
            .status
            .unwrap_or_default();
        checks::bearer(&status, &audience).map_err(|refusal| self.refuse(refusal))
    }

    /// The pod, from the cache or, when it is too new for that, from the API server.
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Arc<Pod>>, CallError> {
        if let Some(pod) = self.caches.pod(namespace, name) {
            return Ok(Some(pod));
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let read = api
            .get_opt(name)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(read.map(Arc::new))
    }

    fn admit(&self, bearer: &Bearer, pod: Option<&Pod>) -> Result<(), CallError> {
        let pod = checks::pod(bearer, pod).map_err(|refusal| self.refuse(refusal))?;
        let run = pod.and_then(|uid| self.caches.run_by_uid(&bearer.namespace, uid));
        checks::run(run.as_deref()).map_err(|refusal| self.refuse(refusal))
    }

    fn sign(
        &self,
        namespace: &str,
        pod_uid: &str,
        csr_der: &[u8],
    ) -> Result<IssuedIdentity, CallError> {
        let wrong = |error: IdentityError| match error {
            IdentityError::Request(_) => self.refuse(Refusal::request(error.to_string())),
            other => CallError::new(Code::Internal, other.to_string()),
        };
        let id = identity::agent(&self.domain, namespace, pod_uid).map_err(wrong)?;
        let stored = self.authority.read();
        let now = SystemTime::now();
        let chain = stored
            .current
            .issue(csr_der, &id, &[], now, CERTIFICATE_LIFETIME)
            .map_err(wrong)?;
        let bundle = stored.bundle().map_err(wrong)?;
        Ok(IssuedIdentity {
            chain: chain
                .into_iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            bundle_pem: bundle.to_pem(),
        })
    }

    fn refuse(&self, refusal: Refusal) -> CallError {
        let Refusal {
            reason,
            detail,
            code,
        } = refusal;
        self.metrics
            .refused_identities
            .get_or_create(&OfRefusal { reason })
            .inc();
        tracing::warn!(?reason, detail, "An agent was refused a certificate.");
        CallError::new(code, detail)
    }
}

#[async_trait]
impl hub::Issuer for Issuer {
    async fn issue(&self, token: &str, csr_der: &[u8]) -> Result<IssuedIdentity, CallError> {
        let bearer = self.bearer(token).await?;
        let pod = self.pod(&bearer.namespace, &bearer.pod_name).await?;
        self.admit(&bearer, pod.as_deref())?;
        self.sign(&bearer.namespace, &bearer.pod_uid, csr_der)
    }

    async fn renew(&self, peer: &SpiffeId, csr_der: &[u8]) -> Result<IssuedIdentity, CallError> {
        let Some((namespace, uid)) = identity::agent_pod(peer) else {
            return Err(self.refuse(Refusal::not_an_agent(peer)));
        };
        let pod = self.caches.pods.find(|pod| {
            pod.metadata.uid.as_deref() == Some(uid)
                && pod.metadata.namespace.as_deref() == Some(namespace)
        });
        let bearer = Bearer {
            namespace: namespace.to_owned(),
            pod_name: pod.as_ref().map(|pod| pod.name_any()).unwrap_or_default(),
            pod_uid: uid.to_owned(),
        };
        self.admit(&bearer, pod.as_deref())?;
        self.sign(namespace, uid, csr_der)
    }
}

fn unavailable(error: &kube::Error) -> CallError {
    tracing::warn!(%error, "The API server could not be asked about an agent.");
    CallError::unavailable("the API server cannot be asked")
}
