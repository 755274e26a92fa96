//! Reads a file of Kubernetes objects: the pipelines to run and the values that they refer to.
//! Must not check pipelines: `lint` has done that before.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crds::{Pipeline, PipelineRun, PipelineSpec, Runner, RunnerSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use planner::names::nearest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, chain};

/// What the files of one `rustci run` hold.
#[derive(Debug, Default)]
pub struct Manifest {
    /// Pipelines, in the order of the file.
    pub pipelines: Vec<Pipeline>,
    /// Runs, in the order of the file.
    pub runs: Vec<PipelineRun>,
    /// Runners by name.
    pub runners: BTreeMap<String, RunnerSpec>,
    /// Secrets and ConfigMaps.
    pub values: Values,
}

/// The data of Secrets and ConfigMaps by object name and key.
#[derive(Default)]
pub struct Values {
    secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// What to run: a pipeline, or a run with its pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its specification.
    pub spec: PipelineSpec,
    /// The run of the file, when it has one.
    pub run: Option<PipelineRun>,
}

impl Manifest {
    /// Adds the objects of a file, and gives its text. Kinds that a run does not need are passed over.
    pub fn load(&mut self, path: &Path) -> Result<String, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!(
                "cannot read {}: {error}; check the path",
                path.display()
            ))
        })?;
        self.add(&text).map_err(|(document, error)| {
            Failure::usage(format!(
                "{}, document {document}: {error}; correct the file, `rustci lint` shows where",
                path.display()
            ))
        })?;
        Ok(text)
    }

    /// Adds the objects of a text. An error carries the number of its document, from 1.
    fn add(&mut self, text: &str) -> Result<(), (usize, String)> {
        for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
            let at = |error: serde_yaml::Error| (index + 1, chain(&error));
            let value = serde_yaml::Value::deserialize(document).map_err(at)?;
            self.add_object(value).map_err(at)?;
        }
        Ok(())
    }

    /// Adds one object by its kind.
    fn add_object(&mut self, value: serde_yaml::Value) -> Result<(), serde_yaml::Error> {
        fn typed<T: DeserializeOwned>(value: serde_yaml::Value) -> Result<T, serde_yaml::Error> {
            serde_yaml::from_value(value)
        }
        let word = |field: &str| {
            value
                .get(field)
                .and_then(|word| word.as_str())
                .unwrap_or("")
        };
        let ours = word("apiVersion").split('/').next() == Some(crds::GROUP);
        match (ours, word("kind")) {
            (true, "Pipeline") => self.pipelines.push(typed(value)?),
            (true, "PipelineRun") => self.runs.push(typed(value)?),
            (true, "Runner") => {
                let runner: Runner = typed(value)?;
                self.runners.insert(runner.name_any(), runner.spec);
            }
            (false, "Secret") => self.values.add_secret(typed(value)?),
            (false, "ConfigMap") => self.values.add_config_map(typed(value)?),
            _ => {}
        }
        Ok(())
    }

    /// Chooses what to run: the object named `wanted`, else the only run, else the only pipeline.
    pub fn select(&self, wanted: Option<&str>) -> Result<Selected, Failure> {
        let is_wanted = |name: String| wanted.is_none_or(|wanted| wanted == name);
        let runs: Vec<_> = self
            .runs
            .iter()
            .filter(|run| is_wanted(run.name_any()))
            .collect();
        let pipelines: Vec<_> = self
            .pipelines
            .iter()
            .filter(|pipeline| is_wanted(pipeline.name_any()))
            .collect();
        match (runs.as_slice(), pipelines.as_slice()) {
            (_, [pipeline]) if wanted.is_some() => Ok(Selected::from_pipeline(pipeline)),
            ([run], _) => self.select_run(run),
            ([], [pipeline]) => Ok(Selected::from_pipeline(pipeline)),
            ([], []) => Err(self.nothing_to_run(wanted)),
            _ => Err(self.too_much_to_run(wanted)),
        }
    }

    /// A run of the file with the pipeline that it names or holds.
    fn select_run(&self, run: &PipelineRun) -> Result<Selected, Failure> {
        let (pipeline, spec) = match (&run.spec.pipeline_spec, &run.spec.pipeline_ref) {
            (Some(spec), _) => (run_name(run), spec.clone()),
            (None, Some(reference)) => {
                let found = self
                    .pipelines
                    .iter()
                    .find(|p| p.name_any() == reference.name);
                let found = found.ok_or_else(|| {
                    Failure::usage(format!(
                        "the PipelineRun `{}` names the Pipeline `{}`, which is not in the file: \
                         add it to the file",
                        run_name(run),
                        reference.name
                    ))
                })?;
                (reference.name.clone(), found.spec.clone())
            }
            (None, None) => {
                return Err(Failure::usage(format!(
                    "the PipelineRun `{}` has no pipeline: set spec.pipelineRef or \
                     spec.pipelineSpec",
                    run_name(run)
                )));
            }
        };
        Ok(Selected {
            pipeline,
            spec,
            run: Some(run.clone()),
        })
    }

    fn names(&self) -> Vec<String> {
        let pipelines = self.pipelines.iter().map(ResourceExt::name_any);
        pipelines.chain(self.runs.iter().map(run_name)).collect()
    }

    fn nothing_to_run(&self, wanted: Option<&str>) -> Failure {
        let names = self.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let Some(wanted) = wanted else {
            return Failure::usage(
                "the file holds no Pipeline and no PipelineRun: add a document with \
                 `apiVersion: rustci.dev/v1alpha1` and `kind: Pipeline`",
            );
        };
        let remedy = match nearest(wanted, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it holds {}", names.join(", ")),
        };
        Failure::usage(format!("the file holds no pipeline `{wanted}`: {remedy}"))
    }

    fn too_much_to_run(&self, wanted: Option<&str>) -> Failure {
        let names = self.names().join(", ");
        Failure::usage(match wanted {
            None => {
                format!("the file holds several pipelines: choose with --pipeline from {names}")
            }
            Some(wanted) => format!("the file holds `{wanted}` more than once: rename one of them"),
        })
    }
}

impl Selected {
    fn from_pipeline(pipeline: &Pipeline) -> Self {
        Self {
            pipeline: pipeline.name_any(),
            spec: pipeline.spec.clone(),
            run: None,
        }
    }
}

/// Name of a run of the file: its own, else the one that its generated name starts with.
fn run_name(run: &PipelineRun) -> String {
    let generated = run
        .metadata
        .generate_name
        .as_deref()
        .map(|name| name.trim_end_matches('-'));
    run.metadata
        .name
        .as_deref()
        .or(generated)
        .unwrap_or("run")
        .to_owned()
}

impl Values {
    fn add_secret(&mut self, secret: Secret) {
        let entry = self.secrets.entry(secret.name_any()).or_default();
        entry.extend(
            secret
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.0)),
        );
        let texts = secret.string_data.into_iter().flatten();
        entry.extend(texts.map(|(key, value)| (key, value.into_bytes())));
    }

    fn add_config_map(&mut self, map: ConfigMap) {
        let entry = self.config_maps.entry(map.name_any()).or_default();
        entry.extend(
            map.data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.into_bytes())),
        );
        entry.extend(
            map.binary_data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.0)),
        );
    }

    /// Takes over the values of another file; those win.
    pub fn extend(&mut self, other: Self) {
        let Self {
            secrets,
            config_maps,
        } = other;
        self.secrets.extend(secrets);
        self.config_maps.extend(config_maps);
    }

    /// A Secret's value. The error is what the kubelet says of the same trouble.
    pub fn secret(&self, name: &str, key: &str) -> Result<&[u8], String> {
        find(&self.secrets, "secret", "Secret", name, key)
    }

    /// A ConfigMap's value. The error is what the kubelet says of the same trouble.
    pub fn config_map(&self, name: &str, key: &str) -> Result<&[u8], String> {
        find(&self.config_maps, "configmap", "ConfigMap", name, key)
    }
}

fn find<'a>(
    objects: &'a BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    resource: &str,
    kind: &str,
    name: &str,
    key: &str,
) -> Result<&'a [u8], String> {
    let object = objects
        .get(name)
        .ok_or_else(|| format!("{resource} \"{name}\" not found"))?;
    let value = object.get(key);
    value
        .map(Vec::as_slice)
        .ok_or_else(|| format!("couldn't find key {key} in {kind} {name}"))
}

/// Names only: values may be secret.
impl fmt::Debug for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Values")
            .field("secrets", &self.secrets.keys())
            .field("config_maps", &self.config_maps.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        let mut manifest = Manifest::default();
        manifest.add(text).unwrap();
        manifest
    }

    const PIPELINE: &str = "
apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: larch}
spec: {jobs: [{name: dig, steps: [{name: hole, run: 'true'}]}]}
";

    #[test]
    fn the_only_pipeline_is_run_and_other_kinds_are_passed_over() {
        let text = format!("{PIPELINE}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: n}}");
        let selected = manifest(&text).select(None).unwrap();
        assert_eq!((selected.pipeline.as_str(), selected.run), ("larch", None));
        assert_eq!(selected.spec.jobs[0].name, "dig");
    }

    #[test]
    fn a_run_of_the_file_takes_its_pipeline_from_the_file() {
        let run = "
apiVersion: rustci.dev/v1alpha1
kind: PipelineRun
metadata: {generateName: larch-}
spec: {pipelineRef: {name: larch}, params: [{name: depth, value: 3}]}
";
        let selected = manifest(&format!("{PIPELINE}---{run}"))
            .select(None)
            .unwrap();
        assert_eq!(selected.run.unwrap().spec.params[0].name, "depth");
        assert_eq!(selected.spec.jobs.len(), 1);
        let message = manifest(run).select(None).unwrap_err().message;
        assert!(
            message.contains("`larch`, which is not in the file"),
            "{message}"
        );
    }

    #[test]
    fn with_several_pipelines_one_must_be_named() {
        let two = manifest(&format!(
            "{PIPELINE}---{}",
            PIPELINE.replace("larch", "aspen")
        ));
        let message = two.select(None).unwrap_err().message;
        assert!(
            message.contains("choose with --pipeline from larch, aspen"),
            "{message}"
        );
        assert_eq!(two.select(Some("aspen")).unwrap().pipeline, "aspen");
        let message = two.select(Some("aspne")).unwrap_err().message;
        assert!(message.contains("did you mean `aspen`?"), "{message}");
    }

    #[test]
    fn values_of_secrets_are_decoded_found_and_never_in_debug_text() {
        let manifest = manifest(
            "
apiVersion: v1
kind: Secret
metadata: {name: vault}
data: {coded: aGlkZGVu}
stringData: {plain: hushed}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: colours}
data: {sky: blue}
",
        );
        let values = &manifest.values;
        assert_eq!(values.secret("vault", "coded"), Ok(&b"hidden"[..]));
        assert_eq!(values.secret("vault", "plain"), Ok(&b"hushed"[..]));
        assert_eq!(values.config_map("colours", "sky"), Ok(&b"blue"[..]));
        assert_eq!(
            values.secret("colours", "sky").unwrap_err(),
            "secret \"colours\" not found"
        );
        assert_eq!(
            values.secret("vault", "gold").unwrap_err(),
            "couldn't find key gold in Secret vault"
        );
        let debug = format!("{manifest:?}");
        assert!(
            !debug.contains("hidden") && !debug.contains("hushed"),
            "{debug}"
        );
    }

    #[test]
    fn a_broken_document_is_named_by_its_number() {
        let text = format!("{PIPELINE}---\nkind: [\n");
        let (document, message) = Manifest::default().add(&text).unwrap_err();
        assert_eq!(document, 2, "{message}");
    }
}
