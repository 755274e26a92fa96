//! Keeps the authority in a Secret of the operator's namespace: made if missing, replaced when due.
//! Must not decide when that is: `rotate` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use thiserror::Error;
use valkyrie::identity::{Authority, IdentityError, TrustDomain};

use super::{Stored, rotate};
use crate::FIELD_MANAGER;
use crate::log_token::LogKey;

/// Name of the Secret.
pub const SECRET: &str = "rustci-authority";

const CURRENT_CERTIFICATE: &str = "ca.crt";
const CURRENT_KEY: &str = "ca.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS: &str = "previous.crt";
const LOG_KEY: &str = "log.key";
const DENIED: &str = "denied";

/// What can go wrong with the authority's Secret.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The API server said no.
    #[error("the Secret {SECRET} cannot be read or written")]
    Api(#[from] kube::Error),
    /// A certificate or key cannot be used.
    #[error("the Secret {SECRET} cannot be used; delete it to start with a new authority")]
    Identity(#[from] IdentityError),
    /// A part is missing.
    #[error("the Secret {SECRET} has no usable {0}; delete it to start with a new authority")]
    Missing(&'static str),
}

/// Reads and replaces the Secret.
pub struct Keeper {
    api: Api<Secret>,
    domain: TrustDomain,
    lifetime: Duration,
}

impl Keeper {
    /// A keeper for the Secret in this namespace.
    pub fn new(client: Client, namespace: &str, domain: TrustDomain, lifetime: Duration) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            domain,
            lifetime,
        }
    }

    /// The authority as it is to be used at `now`: made or rotated first, if that is due.
    pub async fn load(&self, now: SystemTime) -> Result<Stored, AuthorityError> {
        loop {
            let (metadata, next) = match self.api.get_opt(SECRET).await? {
                Some(secret) => {
                    let stored = read(&secret)?;
                    match rotate(&stored, now, self.lifetime)? {
                        Some(next) => (Some(secret.metadata), next),
                        None => return Ok(stored),
                    }
                }
                None => (
                    None,
                    Stored::generate(self.domain.clone(), now, self.lifetime)?,
                ),
            };
            let secret = write(&next, metadata.clone().unwrap_or_default());
            let written = match metadata {
                Some(_) => self.api.replace(SECRET, &params(), &secret).await,
                None => self.api.create(&params(), &secret).await,
            };
            match written {
                // Two steps can be due at once, so the result is looked at again.
                Ok(_) => tracing::info!("The certificate authority was renewed."),
                // Another instance was faster: its Secret counts.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn read(secret: &Secret) -> Result<Stored, AuthorityError> {
    let data = secret.data.as_ref();
    let bytes = |key: &str| {
        data.and_then(|data| data.get(key))
            .map(|value| value.0.as_slice())
    };
    let text = |key: &'static str| match bytes(key) {
        Some(value) => std::str::from_utf8(value)
            .map(Some)
            .map_err(|_| AuthorityError::Missing(key)),
        None => Ok(None),
    };
    let needed = |key| text(key)?.ok_or(AuthorityError::Missing(key));
    let current = Authority::from_pem(needed(CURRENT_CERTIFICATE)?, needed(CURRENT_KEY)?)?;
    let next = match (text(NEXT_CERTIFICATE)?, text(NEXT_KEY)?) {
        (Some(certificate), Some(key)) => Some(Arc::new(Authority::from_pem(certificate, key)?)),
        _ => None,
    };
    let log_key = bytes(LOG_KEY).and_then(LogKey::from_bytes);
    Ok(Stored {
        current: Arc::new(current),
        next,
        previous_pem: text(PREVIOUS)?.unwrap_or_default().to_owned(),
        log_key: log_key.ok_or(AuthorityError::Missing(LOG_KEY))?,
        denied: text(DENIED)?.unwrap_or_default().to_owned(),
    })
}

fn write(stored: &Stored, metadata: ObjectMeta) -> Secret {
    let Stored {
        current,
        next,
        previous_pem,
        log_key,
        denied,
    } = stored;
    let (certificate, key) = current.to_pem();
    let mut texts = vec![(CURRENT_CERTIFICATE, certificate), (CURRENT_KEY, key)];
    if let Some(next) = next {
        let (certificate, key) = next.to_pem();
        texts.extend([(NEXT_CERTIFICATE, certificate), (NEXT_KEY, key)]);
    }
    if !previous_pem.is_empty() {
        texts.push((PREVIOUS, previous_pem.clone()));
    }
    if !denied.is_empty() {
        texts.push((DENIED, denied.clone()));
    }
    let mut data: BTreeMap<_, _> = texts
        .into_iter()
        .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
        .collect();
    data.insert(LOG_KEY.to_owned(), ByteString(log_key.as_bytes().to_vec()));
    let labels = BTreeMap::from([
        (
            "app.kubernetes.io/name".to_owned(),
            FIELD_MANAGER.to_owned(),
        ),
        (
            "app.kubernetes.io/managed-by".to_owned(),
            FIELD_MANAGER.to_owned(),
        ),
    ]);
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            labels: Some(labels),
            ..metadata
        },
        data: Some(data),
        ..Secret::default()
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
