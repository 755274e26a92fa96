//! Checks of single values, and the list of what they found.
//! Must not know which fields exist.

use std::collections::HashSet;
use std::time::Duration;

use crds::ParamValue;

use super::Problem;
use crate::duration;

/// Bounds of the schema; the suite that compares both keeps them the same.
pub(crate) mod limit {
    pub(crate) const JOBS: usize = 400;
    pub(crate) const FINALLY: usize = 16;
    pub(crate) const NEEDS: usize = 50;
    pub(crate) const STEPS: usize = 64;
    pub(crate) const ENV: usize = 64;
    pub(crate) const ENV_NAME: usize = 128;
    pub(crate) const ENV_VALUE: usize = 32_768;
    pub(crate) const OUTPUTS: usize = 32;
    pub(crate) const OUTPUT_VALUE: usize = 4_096;
    pub(crate) const PARAMS: usize = 64;
    pub(crate) const TEMPLATES: usize = 32;
    pub(crate) const INPUTS: usize = 32;
    pub(crate) const ENUM: usize = 64;
    pub(crate) const PARAM_VALUE: usize = 4_096;
    pub(crate) const DESCRIPTION: usize = 1_024;
    pub(crate) const LABEL: usize = 63;
    pub(crate) const IDENTIFIER: usize = 63;
    pub(crate) const OBJECT_NAME: usize = 253;
    pub(crate) const IMAGE: usize = 512;
    pub(crate) const SCRIPT: usize = 65_536;
    pub(crate) const CONDITION: usize = 1_024;
    pub(crate) const RETRIES: u32 = 10;
    pub(crate) const SUBJECTS: usize = 32;
    pub(crate) const SUBJECT: usize = 512;
    pub(crate) const COMMENT: usize = 512;
    pub(crate) const GROUP: usize = 512;
    pub(crate) const SCHEDULES: usize = 16;
    pub(crate) const CRON: usize = 128;
    pub(crate) const ZONE: usize = 64;
    pub(crate) const AXES: usize = 8;
    pub(crate) const MATRIX: usize = 256;
    /// Jobs of a run, each job of a matrix counted.
    pub(crate) const RUN_JOBS: usize = 1_000;
    pub(crate) const SERVICES: usize = 8;
    pub(crate) const SERVICE_NAME: usize = 40;
    pub(crate) const PORTS: usize = 16;
    pub(crate) const WORDS: usize = 64;
    pub(crate) const WORD: usize = 4_096;
    pub(crate) const SHELL: usize = 16;
    pub(crate) const SHELL_WORD: usize = 1_024;
    pub(crate) const DIRECTORY: usize = 1_024;
    pub(crate) const NODE_SELECTOR: usize = 32;
    pub(crate) const TOLERATIONS: usize = 32;
    pub(crate) const PULL_SECRETS: usize = 16;
    /// Whole numbers that JSON carries exactly.
    pub(crate) const INTEGER: i64 = 9_007_199_254_740_991;
}

/// Collects problems.
#[derive(Default)]
pub(super) struct Checker {
    pub(super) problems: Vec<Problem>,
}

impl Checker {
    pub(super) fn add(
        &mut self,
        field: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem {
            field: field.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
            column: None,
        });
    }

    pub(super) fn done(self) -> Result<(), Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self.problems)
        }
    }

    pub(super) fn text(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let length = text.chars().count();
        if length < min {
            self.add(
                field,
                "the value is empty",
                "give one, or leave the field out",
            );
        } else if length > max {
            self.add(
                field,
                format!("the value has {length} characters"),
                at_most(max),
            );
        }
    }

    /// Refuses an expression in a text that is taken as it stands: it would be a word like others.
    pub(super) fn as_it_stands(&mut self, field: &str, text: &str, remedy: &str) {
        let inside = text.split_once("${{").map(|(_, rest)| rest);
        if inside.is_some_and(|rest| rest.contains("}}")) {
            let message = format!("expressions are not evaluated here: {text}");
            self.add(field, message, remedy);
        }
    }

    pub(super) fn optional_text(&mut self, field: &str, text: Option<&str>, max: usize) {
        text.iter().for_each(|text| self.text(field, text, 1, max));
    }

    pub(super) fn count(&mut self, field: &str, count: usize, min: usize, max: usize) {
        if count < min {
            self.add(field, "the list is empty", format!("give at least {min}"));
        } else if count > max {
            self.add(field, format!("the list has {count} entries"), at_most(max));
        }
    }

    pub(super) fn number(&mut self, field: &str, number: Option<i64>, max: i64) {
        if number.is_some_and(|number| !(0..=max).contains(&number)) {
            self.add(
                field,
                "the number is out of range",
                format!("use 0 to {max}"),
            );
        }
    }

    /// `kind` is what the names name: `the job `a` is there twice`.
    pub(super) fn unique<'a>(
        &mut self,
        list: &str,
        kind: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) {
        let mut seen = HashSet::new();
        for (i, name) in names.into_iter().enumerate() {
            if !seen.insert(name) {
                let message = format!("the {kind} `{name}` is there twice");
                self.add(
                    &format!("{list}[{i}]"),
                    message,
                    "give each its own name, or remove one",
                );
            }
        }
    }

    pub(super) fn label(&mut self, field: &str, name: &str) {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let right = name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-');
        self.text(field, name, 1, limit::LABEL);
        if !right {
            self.add(
                field,
                format!("`{name}` is no name for a job or step"),
                "use lower-case letters, digits and `-`, with a letter or digit at both ends",
            );
        }
    }

    pub(super) fn identifier(&mut self, field: &str, name: &str) {
        self.text(field, name, 1, limit::IDENTIFIER);
        self.word(field, name);
    }

    pub(super) fn env_name(&mut self, field: &str, name: &str) {
        self.text(field, name, 1, limit::ENV_NAME);
        self.word(field, name);
        if name.starts_with("RUSTCI_") {
            let message = format!("`{name}` begins with RUSTCI_, which is kept for RustCI's own");
            self.add(field, message, "choose another name");
        }
    }

    fn word(&mut self, field: &str, name: &str) {
        let right = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !right {
            self.add(
                field,
                format!("`{name}` is no identifier"),
                "use letters, digits and `_`, not beginning with a digit",
            );
        }
    }

    pub(super) fn duration(&mut self, field: &str, text: Option<&str>) -> Option<Duration> {
        match duration::parse(text?) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.add(field, error.to_string(), duration::REMEDY);
                None
            }
        }
    }

    pub(super) fn param_value(&mut self, field: &str, value: &ParamValue) {
        match value {
            ParamValue::Boolean(_) => {}
            ParamValue::Integer(number) => {
                if number.unsigned_abs() > limit::INTEGER.unsigned_abs() {
                    let remedy = format!("use a number of at most {}", limit::INTEGER);
                    self.add(field, "the number is out of range", remedy);
                }
            }
            ParamValue::String(text) => self.text(field, text, 0, limit::PARAM_VALUE),
        }
    }
}

fn at_most(max: usize) -> String {
    format!("use at most {max}")
}
