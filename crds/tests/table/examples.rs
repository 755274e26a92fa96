//! Reads the table of examples: `examples/{accepted,refused}` and `examples/updates/...`.
//! Must not judge them.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// One example: a document, or for an update the old and the new one.
pub(crate) struct Example {
    /// File below `examples`.
    pub(crate) file: String,
    /// Part of the message that refuses the last document; none if it is accepted.
    pub(crate) expect: Option<String>,
    /// The documents.
    pub(crate) documents: Vec<Value>,
}

/// All examples, in the order of their file names.
pub(crate) fn all() -> Vec<Example> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut examples = Vec::new();
    for folder in ["accepted", "refused", "updates/accepted", "updates/refused"] {
        let mut files: Vec<_> = fs::read_dir(root.join(folder))
            .expect("the examples are in the crate")
            .map(|entry| entry.expect("a readable folder").file_name())
            .collect();
        files.sort();
        for file in files {
            let name = format!("{folder}/{}", file.to_string_lossy());
            examples.push(read(&root, name));
        }
    }
    examples
}

fn read(root: &Path, file: String) -> Example {
    let text = fs::read_to_string(root.join(&file)).expect("a readable example");
    let expect = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# expect: "));
    assert_eq!(
        file.contains("refused"),
        expect.is_some(),
        "{file}: first line '# expect: ...'"
    );
    let documents = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("an example is YAML"))
        .collect();
    Example {
        expect: expect.map(str::to_owned),
        documents,
        file,
    }
}
