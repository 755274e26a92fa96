//! The certificates and keys of a cluster, made new at each start.
//! It must not be used for anything but test clusters: keys lie in plain files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A folder of certificates `NAME.crt` with their keys `NAME.key`.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    dir: PathBuf,
}

/// An authority that signs the certificates of one folder.
pub(crate) struct Authority {
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Who a certificate is for.
pub(crate) struct Subject<'a> {
    /// Name of its files.
    pub(crate) file: &'a str,
    /// The user that Kubernetes sees.
    pub(crate) common_name: &'a str,
    /// The group that Kubernetes sees.
    pub(crate) organization: Option<&'a str>,
    /// Names and addresses it serves under; empty for a pure client.
    pub(crate) hosts: &'a [&'a str],
}

impl Subject<'_> {
    /// A client certificate.
    pub(crate) fn client<'a>(file: &'a str, user: &'a str, group: Option<&'a str>) -> Subject<'a> {
        Subject {
            file,
            common_name: user,
            organization: group,
            hosts: &[],
        }
    }
}

impl Pki {
    /// A fresh, empty folder.
    pub(crate) fn create(dir: &Path) -> Result<Pki> {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        Ok(Pki {
            dir: dir.to_owned(),
        })
    }

    /// Makes an authority with its certificate `NAME.crt`.
    pub(crate) fn authority(&self, name: &str) -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        fs::write(self.certificate(name), params.self_signed(&key)?.pem())?;
        Ok(Authority {
            name: name.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Makes and signs one certificate with a key of its own.
    pub(crate) fn issue(&self, authority: &Authority, subject: &Subject<'_>) -> Result<()> {
        let hosts: Vec<String> = subject
            .hosts
            .iter()
            .map(|host| (*host).to_owned())
            .collect();
        let mut params = CertificateParams::new(hosts)?;
        params
            .distinguished_name
            .push(DnType::CommonName, subject.common_name);
        if let Some(organization) = subject.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !subject.hosts.is_empty() {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params
            .signed_by(&key, &authority.issuer)
            .with_context(|| format!("{} could not sign {}", authority.name, subject.file))?;
        fs::write(self.certificate(subject.file), certificate.pem())?;
        write_secret(&self.key(subject.file), &key.serialize_pem())
    }

    /// Makes a bare key pair: `NAME.key` and `NAME.pub`.
    pub(crate) fn key_pair(&self, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        fs::write(self.public_key(name), key.public_key_pem())?;
        write_secret(&self.key(name), &key.serialize_pem())
    }

    /// Path of a certificate.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.crt"))
    }

    /// Path of the public half of a bare key pair.
    pub(crate) fn public_key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pub"))
    }

    /// Path of a private key.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// Writes a kubeconfig that speaks as the owner of certificate `user`. Everything is inside,
    /// so the file can be copied anywhere.
    pub(crate) fn write_kubeconfig(&self, user: &str, server: &str, target: &Path) -> Result<()> {
        let read = |path: PathBuf| -> Result<String> {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("could not read {}", path.display()))?;
            Ok(base64(text.as_bytes()))
        };
        // JSON is YAML, and needs no quoting rules.
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "rustci",
            "clusters": [{"name": "rustci", "cluster": {
                "server": server,
                "certificate-authority-data": read(self.certificate("ca"))?,
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": read(self.certificate(user))?,
                "client-key-data": read(self.key(user))?,
            }}],
            "contexts": [{"name": "rustci", "context": {"cluster": "rustci", "user": user}}],
        });
        write_secret(target, &serde_json::to_string_pretty(&config)?)
    }
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// Standard base64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let padded = [
            chunk[0],
            *chunk.get(1).unwrap_or(&0),
            *chunk.get(2).unwrap_or(&0),
        ];
        let group = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let index = (group >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() {
                DIGITS[index as usize] as char
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_vectors_of_rfc_4648() {
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
    }

    #[test]
    fn keys_and_kubeconfigs_are_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(&dir.path().join("pki")).unwrap();
        let ca = pki.authority("ca").unwrap();
        pki.issue(&ca, &Subject::client("zoe", "zoe", Some("zoo")))
            .unwrap();
        let target = dir.path().join("kubeconfig");
        pki.write_kubeconfig("zoe", "https://127.0.0.1:1", &target)
            .unwrap();
        for path in [pki.key("zoe"), target.clone()] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let config = kube::config::Kubeconfig::read_from(target).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("rustci"));
    }
}
