//! Certificate, key and roots in files, swapped as Kubernetes swaps a mounted Secret.
//! Must not change a file in place where Kubernetes would not, but to show half of a change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::KeyPair;
use valkyrie::bootstrap::{self, Bootstrap, BootstrapError, Files, Renewals};
use valkyrie::endpoint::Peer;

use crate::stage::*;

struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty mount: the three names lead through `..data`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// Puts a version in place in one step.
    fn swap(&self, version: &str, [certificate, key, roots]: &[String; 3]) {
        let place = self.path(version);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("tls.crt"), certificate).unwrap();
        fs::write(place.join("tls.key"), key).unwrap();
        fs::write(place.join("ca.crt"), roots).unwrap();
        symlink(version, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }

    fn files(&self) -> Files {
        let names = ["tls.crt", "tls.key", "ca.crt"].map(|name| self.path(name));
        let [certificate, key, roots] = names;
        Files::new(certificate, key, roots).every(Duration::from_millis(3))
    }
}

/// What cert-manager would write for this id.
fn written(stage: &Stage, path: &str) -> [String; 3] {
    let key = KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default();
    let csr = csr.serialize_request(&key).unwrap();
    let now = stage.clock.now();
    let authority = &stage.authority;
    let chain = authority.issue(csr.der(), &stage.id(path), &[], now, HOUR);
    let chain = chain.unwrap();
    [pem(&chain[0]), key.serialize_pem(), authority.root_pem()]
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn a_swapped_secret_is_taken_up_a_bad_one_is_not_and_no_stream_breaks() {
    let stage = Stage::new().await;
    let mount = Mount::new();
    mount.swap("..1", &written(&stage, "ns/a/app/1"));
    let files = Arc::new(mount.files());
    let store = bootstrap::first(&*files, MINUTE).await.unwrap();
    let session = stage.dial(&store).await;
    assert_eq!(stage.last(), Peer::Spiffe(stage.id("ns/a/app/1")));
    let mut stream = Stream::open(&session).await;
    let renewals = Arc::new(Renewals::default());
    let keeping = tokio::spawn({
        let (files, store, renewals) = (files.clone(), store.clone(), renewals.clone());
        async move { bootstrap::keep_fresh(&*files, &store, &renewals).await }
    });

    mount.swap("..2", &written(&stage, "ns/a/app/2"));
    counted("the change", &renewals.renewed, 1).await;
    stream.goes_on().await;
    stage.dial(&store).await;
    assert_eq!(stage.last(), Peer::Spiffe(stage.id("ns/a/app/2")));

    let [certificate, _, roots] = written(&stage, "ns/a/app/3");
    let [_, other_key, _] = written(&stage, "ns/a/app/3");
    mount.swap("..3", &[certificate, other_key, roots]);
    counted("the bad change", &renewals.failed, 1).await;
    stage.dial(&store).await;
    assert_eq!(
        stage.last(),
        Peer::Spiffe(stage.id("ns/a/app/2")),
        "the old one stays"
    );

    mount.swap("..4", &written(&stage, "ns/a/app/4"));
    counted("the good change", &renewals.renewed, 2).await;
    stream.goes_on().await;
    stage.dial(&store).await;
    assert_eq!(stage.last(), Peer::Spiffe(stage.id("ns/a/app/4")));
    assert_eq!(renewals.failed.value(), 1, "a bad change counts once");
    keeping.abort();
}

#[tokio::test]
async fn files_that_do_not_fit_together_or_are_not_there_give_no_identity() {
    let stage = Stage::new().await;
    let other = Stage::new().await;
    let good = written(&stage, "ns/a/app/1");
    let strange = written(&other, "ns/a/app/1");
    let [certificate, key, roots] = good.clone();
    let cases = [
        ("no PEM", [String::new(), key.clone(), roots.clone()]),
        (
            "no key",
            [certificate.clone(), "nothing".into(), roots.clone()],
        ),
        (
            "another's key",
            [certificate.clone(), strange[1].clone(), roots.clone()],
        ),
        (
            "another's roots",
            [certificate.clone(), key.clone(), strange[2].clone()],
        ),
        ("a leaf as root", [certificate.clone(), key, certificate]),
    ];
    for (what, version) in cases {
        let mount = Mount::new();
        mount.swap("..1", &version);
        let error = Bootstrap::first(&mount.files()).await;
        let error = error.expect_err(what);
        assert!(
            matches!(error, BootstrapError::Identity(_)),
            "{what}: {error}"
        );
    }
    let error = Bootstrap::first(&Mount::new().files()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, BootstrapError::Source { .. }), "{error}");
    let mount = Mount::new();
    mount.swap("..1", &good);
    bootstrap::first(&mount.files(), MINUTE).await.unwrap();
}
