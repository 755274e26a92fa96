//! Paths of files and the URIs by which an editor names them.
//! Must not know schemes but `file`: other documents stand alone.

use std::path::{Path, PathBuf};

const SCHEME: &str = "file://";

/// The path of a document on this machine.
pub(super) fn path(uri: &str) -> Option<PathBuf> {
    let encoded = uri
        .strip_prefix(SCHEME)
        .filter(|rest| rest.starts_with('/'))?;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The URI of a file.
pub(super) fn of(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let path = path.to_string_lossy();
    let encoded = path.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    SCHEME.to_owned() + &encoded.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_back_from_its_uri() {
        for name in ["/a/ci.yaml", "/with space/ü🌲%41.yaml", "/#?&"] {
            assert_eq!(path(&of(Path::new(name))), Some(PathBuf::from(name)));
        }
        assert_eq!(path("file:///a%2fb%zz%"), Some(PathBuf::from("/a/b%zz%")));
        assert_eq!(path("untitled:Untitled-1"), None);
        assert_eq!(path("file://host"), None);
    }
}
