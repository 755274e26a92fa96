//! The pipelines of files that `uses` may name: of the file itself, of `--library`, of its folder.
//! Must not say what is wrong in them: `lint` does, for each file on its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crds::{Pipeline, PipelineSpec};
use planner::reuse::{Entry, Library};
use serde::Deserialize;

use crate::lint::{self, tree};

/// Most files of a folder that are looked through.
const MAX_FILES: usize = 1_000;

/// Finds pipelines of files. Each file is read once.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Files and folders of `--library`.
    paths: Vec<PathBuf>,
    /// Texts that count instead of those on the disk: what an editor has open.
    open: HashMap<PathBuf, String>,
    read: RefCell<HashMap<PathBuf, Rc<Vec<Shelved>>>>,
}

/// A pipeline and the file that it stands in; none for standard input.
#[derive(Clone, Debug)]
pub struct Shelved {
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: PipelineSpec,
    /// Its file.
    pub file: Option<PathBuf>,
}

/// The pipelines that one file can use. Of two with one name the first counts.
#[derive(Clone, Debug, Default)]
pub struct Pipelines {
    all: Vec<Shelved>,
}

impl Shelf {
    /// A shelf with the files and folders of `--library`.
    pub fn new(paths: &[PathBuf]) -> Self {
        Self {
            paths: paths.to_vec(),
            ..Self::default()
        }
    }

    /// A shelf that takes these texts for those of their files.
    pub fn with_open(open: HashMap<PathBuf, String>) -> Self {
        Self {
            open,
            ..Self::default()
        }
    }

    /// What a file can use. Other files are looked at only when it may use something.
    pub fn around(&self, file: &Path, text: &str) -> Pipelines {
        let file = (!lint::is_stdin(file)).then_some(file);
        let mut all = pipelines(text, file);
        if !text.contains("uses") {
            return Pipelines { all };
        }
        let folder = file.and_then(Path::parent).map(|folder| match folder {
            // The folder of a plain file name is where we are.
            empty if empty.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        });
        let named = self.paths.iter().flat_map(|path| lint::files(path));
        let beside = folder.map(beside).unwrap_or_default();
        for other in named.flatten().chain(beside) {
            if file != Some(&other) {
                all.extend(self.of_file(&other).iter().cloned());
            }
        }
        Pipelines { all }
    }

    /// The text of a file, if it can be read.
    pub fn text(&self, file: &Path) -> Option<String> {
        let open = self.open.get(file).cloned();
        open.or_else(|| lint::read(file).ok())
    }

    fn of_file(&self, file: &Path) -> Rc<Vec<Shelved>> {
        if let Some(known) = self.read.borrow().get(file) {
            return Rc::clone(known);
        }
        let text = self.text(file).unwrap_or_default();
        let found = Rc::new(pipelines(&text, Some(file)));
        let mut read = self.read.borrow_mut();
        read.insert(file.to_owned(), Rc::clone(&found));
        found
    }
}

impl Pipelines {
    /// The pipelines of a text alone.
    pub fn of_text(text: &str) -> Self {
        Self {
            all: pipelines(text, None),
        }
    }

    /// The pipelines, for the planner.
    pub fn library(&self) -> Library<'_> {
        let mut library = Library::default();
        for Shelved { name, spec, .. } in &self.all {
            let (uid, generation) = (None, None);
            library.add(
                name,
                Entry {
                    uid,
                    generation,
                    spec,
                },
            );
        }
        library
    }

    /// A pipeline by its name.
    pub fn find(&self, name: &str) -> Option<&Shelved> {
        self.all.iter().find(|shelved| shelved.name == name)
    }

    /// All of them.
    pub fn all(&self) -> &[Shelved] {
        &self.all
    }
}

/// The YAML files of a folder, without those of the folders in it.
fn beside(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = paths
        .filter(|path| lint::is_yaml(path) && path.is_file())
        .take(MAX_FILES)
        .collect();
    files.sort();
    files
}

/// The pipelines of a text, as far as it can be read.
fn pipelines(text: &str, file: Option<&Path>) -> Vec<Shelved> {
    if !text.contains(crds::GROUP) {
        return Vec::new();
    }
    let documents = tree::parse(text).into_iter().flatten();
    let found = documents.filter_map(|document| {
        let object = document.value();
        let word = |field: &str| object.get(field).and_then(|word| word.as_str());
        let version = format!("{}/{}", crds::GROUP, crds::VERSION);
        if word("kind") != Some("Pipeline") || word("apiVersion") != Some(&version) {
            return None;
        }
        let Pipeline { metadata, spec, .. } = Pipeline::deserialize(&object).ok()?;
        Some(Shelved {
            name: metadata.name?,
            spec,
            file: file.map(Path::to_owned),
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, image: &str) -> String {
        format!(
            "apiVersion: rustci.dev/v1alpha1\nkind: Pipeline\nmetadata: {{name: {name}}}\n\
             spec: {{jobs: [{{name: uses, image: {image}, steps: [{{name: s, run: x}}]}}]}}\n"
        )
    }

    fn image(pipelines: &Pipelines, name: &str) -> Option<String> {
        pipelines.find(name)?.spec.jobs[0].image.clone()
    }

    #[test]
    fn the_file_itself_comes_first_then_the_library_then_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("far")).unwrap();
        std::fs::write(path("a.yaml"), text("oak", "folder") + "---\n: [broken").unwrap();
        std::fs::write(path("b.yml"), text("elm", "folder")).unwrap();
        std::fs::write(path("c.txt"), text("ash", "no YAML file")).unwrap();
        std::fs::write(path("far/d.yaml"), text("elm", "library")).unwrap();
        let own = text("own", "own");
        let shelf = Shelf::new(&[path("far")]);
        let found = shelf.around(&path("own.yaml"), &own);
        assert_eq!(image(&found, "own").as_deref(), Some("own"));
        assert_eq!(image(&found, "oak").as_deref(), Some("folder"));
        assert_eq!(image(&found, "elm").as_deref(), Some("library"));
        assert_eq!(image(&found, "ash"), None);
        let both = own.clone() + "---\n" + &text("oak", "own");
        let found = shelf.around(&path("own.yaml"), &both);
        assert_eq!(image(&found, "oak").as_deref(), Some("own"));
        let open = HashMap::from([(path("a.yaml"), text("oak", "edited"))]);
        let found = Shelf::with_open(open).around(&path("own.yaml"), &own);
        assert_eq!(image(&found, "oak").as_deref(), Some("edited"));
        assert_eq!(
            shelf.around(Path::new("-"), &own).all().len(),
            2,
            "itself and the library"
        );
    }
}
