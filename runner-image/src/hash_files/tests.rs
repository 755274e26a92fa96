//! Hashes of small trees.
//! Must not depend on the order in which a file system lists names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runner_messages::{EnvEntry, Parts, Patterns as Globs};

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn hash_of(folder: &Path, patterns: &[&str]) -> String {
    let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
    hash(folder, &patterns, LIMITS).unwrap()
}

fn matching(folder: &Path, patterns: &[&str]) -> Vec<String> {
    let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
    let found = files(folder, &Patterns::new(&patterns).unwrap(), LIMITS).unwrap();
    let mut names: Vec<_> = found
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn the_hash_is_the_same_everywhere_and_changes_with_names_and_contents() {
    let files = [("Cargo.lock", "one"), ("sub/Cargo.lock", "two")];
    let first = tree(&files);
    let mut turned = files;
    turned.reverse();
    let all = ["**/Cargo.lock"];
    let known = hash_of(first.path(), &all);
    assert_eq!(known, hash_of(tree(&turned).path(), &all));
    // Made by hand from the description of the function.
    assert_eq!(
        known, "12b908a1d221493f97ae3dad3d6800884281c7a6e3748c299a482874e7b9cd5e",
        "the hash is a part of users' keys"
    );
    for other in [
        [("Cargo.lock", "onE"), ("sub/Cargo.lock", "two")],
        [("Cargo.lock", "one"), ("sup/Cargo.lock", "two")],
        [("Cargo.lock", "onetwo"), ("sub/Cargo.lock", "")],
    ] {
        assert_ne!(known, hash_of(tree(&other).path(), &all), "{other:?}");
    }
}

#[test]
fn no_match_is_empty_text() {
    let folder = tree(&[("a.txt", "a")]);
    assert_eq!(hash_of(folder.path(), &["*.lock"]), "");
    assert_eq!(hash_of(folder.path(), &["*.txt", "!a.*"]), "");
}

#[test]
fn globs_match_as_users_know_them() {
    let names = [
        "a.lock",
        "b.txt",
        "src/a.rs",
        "src/deep/b.rs",
        "src/deep/c.txt",
        ".x/y.rs",
    ];
    let folder = tree(&names.map(|name| (name, name)));
    let cases: [(&[&str], &[&str]); 9] = [
        (&["*.lock"], &["a.lock"]),
        (&["./a.lock"], &["a.lock"]),
        (&["*"], &["a.lock", "b.txt"]),
        (&["src/*.rs"], &["src/a.rs"]),
        (&["src/**/*.rs"], &["src/a.rs", "src/deep/b.rs"]),
        (&["**/*.rs"], &[".x/y.rs", "src/a.rs", "src/deep/b.rs"]),
        (&["**/*.rs", "!src/deep/**"], &[".x/y.rs", "src/a.rs"]),
        (
            &["**", "!**/*.rs", "src/a.rs"],
            &["a.lock", "b.txt", "src/a.rs", "src/deep/c.txt"],
        ),
        (
            &["[ab].*", "{src,none}/a.rs"],
            &["a.lock", "b.txt", "src/a.rs"],
        ),
    ];
    for (patterns, expected) in cases {
        assert_eq!(matching(folder.path(), patterns), expected, "{patterns:?}");
    }
}

#[test]
fn links_lead_to_files_within_the_directory_only() {
    let outside = tree(&[("secret.lock", "s3cret")]);
    let folder = tree(&[("real.lock", "x"), ("dir/inner.lock", "y")]);
    let link = |to: &Path, name: &str| symlink(to, folder.path().join(name)).unwrap();
    link(Path::new("real.lock"), "within.lock");
    link(&outside.path().join("secret.lock"), "outside.lock");
    link(outside.path(), "away");
    link(Path::new("."), "loop");
    link(Path::new("nowhere"), "broken.lock");
    let found = matching(folder.path(), &["**/*.lock"]);
    assert_eq!(found, ["dir/inner.lock", "real.lock", "within.lock"]);
}

#[test]
fn each_bound_ends_the_call_with_what_to_do() {
    let folder = tree(&[("a.lock", "12345"), ("b.lock", "12345"), ("c/d.lock", "1")]);
    let told = |patterns: &[&str], limits: Limits| {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        hash(folder.path(), &patterns, limits)
            .unwrap_err()
            .to_string()
    };
    let limits = Limits {
        entries: 2,
        ..LIMITS
    };
    assert!(told(&["**"], limits).contains("more than 2 files and directories"));
    let limits = Limits { files: 1, ..LIMITS };
    assert!(told(&["*.lock"], limits).contains("more than 1 files match"));
    let limits = Limits { bytes: 9, ..LIMITS };
    assert!(told(&["*.lock"], limits).contains("more than 9 bytes"));
    assert!(told(&["[a"], LIMITS).starts_with("the pattern `[a` is wrong: "));
    // A pattern without `**` does not look deeper than it can match.
    let limits = Limits {
        entries: 3,
        ..LIMITS
    };
    assert!(hash(folder.path(), &["*.lock".to_owned()], limits).is_ok());
}

#[tokio::test]
async fn a_variable_in_parts_is_put_together_and_its_mistake_names_it() {
    let folder = tree(&[("a.lock", "a")]);
    let step = |pattern: &str| StepSpec {
        env: vec![EnvEntry {
            name: "KEY".to_owned(),
            source: Some(EnvSource::Parts(Parts {
                parts: vec![
                    Part {
                        kind: Some(PartKind::Text("cargo-".to_owned())),
                    },
                    Part {
                        kind: Some(PartKind::HashFiles(Globs {
                            patterns: vec![pattern.to_owned()],
                        })),
                    },
                ],
            })),
            secret: false,
        }],
        ..StepSpec::default()
    };
    let given = step("*.lock");
    let resolved = resolve(&given, folder.path()).await.unwrap();
    let value = format!("cargo-{}", hash_of(folder.path(), &["*.lock"]));
    assert_eq!(resolved.env[0].source, Some(EnvSource::Value(value)));
    let error = resolve(&step("{a"), folder.path()).await.unwrap_err();
    assert!(
        error.starts_with("variable `KEY`: hashFiles: the pattern `{a`"),
        "{error}"
    );
}
