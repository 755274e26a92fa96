//! An identity in three files: certificate chain, key, roots; read again when they change.
//! Must not take half of a change: the three must belong together.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Bootstrap, BootstrapError, Issued};
use crate::identity::{Clock, Credentials, IdentityError, IdentityStore, TrustBundle};

/// How often the files are read. Small files, and no watch that a replaced symbolic link, a bind
/// mount or a network file system could leave without news.
const LOOK: Duration = Duration::from_secs(10);
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Certificate, key and roots in PEM files, as Kubernetes mounts a Secret or cert-manager writes
/// one. The trust domain is that of the certificate's SPIFFE id.
///
/// They are read every few seconds. A change counts once two reads in a row give the same and the
/// key is that of the certificate; until then, and when the files are bad, the identity before
/// stays, and each bad change is counted once.
#[derive(Debug)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    roots: PathBuf,
    look: Duration,
    seen: Mutex<Option<Digest>>,
}

type Digest = blake3::Hash;

impl Files {
    /// Reads these files.
    pub fn new(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        roots: impl Into<PathBuf>,
    ) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            roots: roots.into(),
            look: LOOK,
            seen: Mutex::default(),
        }
    }

    /// Reads them this often instead of every 10 s.
    #[must_use]
    pub fn every(mut self, look: Duration) -> Self {
        self.look = look;
        self
    }

    fn read(&self) -> Result<Content, BootstrapError> {
        let read = |path: &PathBuf| {
            let failed = |why: String| BootstrapError::Source {
                what: path.display().to_string(),
                why,
            };
            let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
            if size.len() > MAX_FILE {
                return Err(failed("it is too large".to_owned()));
            }
            std::fs::read(path).map_err(|error| failed(error.to_string()))
        };
        Ok(Content {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            roots: read(&self.roots)?,
        })
    }
}

#[async_trait]
impl Bootstrap for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    async fn first(&self) -> Result<Issued, BootstrapError> {
        let content = self.read()?;
        let issued = content.issued(&Clock::system())?;
        *self.seen.lock() = Some(content.digest());
        Ok(issued)
    }

    async fn next(&self, store: &IdentityStore) -> Result<Issued, BootstrapError> {
        let mut candidate = None;
        loop {
            tokio::time::sleep(self.look).await;
            // Missing for a moment while they are replaced, or gone: nothing to take either way.
            let Ok(content) = self.read() else {
                candidate = None;
                continue;
            };
            let digest = content.digest();
            if *self.seen.lock() == Some(digest) {
                candidate = None;
                continue;
            }
            if candidate.replace(digest) != Some(digest) {
                continue;
            }
            *self.seen.lock() = Some(digest);
            return content.issued(store.clock());
        }
    }
}

/// What the three files hold.
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
}

impl Content {
    fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.certificate, &self.key, &self.roots] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }

    fn issued(&self, clock: &Clock) -> Result<Issued, BootstrapError> {
        let pem = |what: &'static str, why: String| IdentityError::Pem { what, why };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| pem("the certificate", error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| pem("the key", error.to_string()))?;
        let credentials = Credentials::new(chain, key)?;
        let roots = std::str::from_utf8(&self.roots)
            .map_err(|error| pem("the trust bundle", error.to_string()))?;
        let domain = credentials.id().trust_domain().clone();
        let bundle = TrustBundle::from_pem(domain, roots)?;
        credentials.check(&bundle, clock.now())?;
        Ok(Issued {
            credentials,
            bundle,
        })
    }
}
