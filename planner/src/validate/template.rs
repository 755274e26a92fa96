//! Checks of the step templates that a pipeline offers.
//! Must not know who uses them.

use crds::PipelineSpec;

use super::checker::{Checker, limit};
use super::pipeline::declared;
use super::steps::Around;
use super::uses::{self, Parts, Place};

/// Checks every template of a pipeline, whether it is used or not.
pub(super) fn templates(check: &mut Checker, path: &str, spec: &PipelineSpec, place: &Place<'_>) {
    let list = &spec.step_templates;
    check.count(path, list.len(), 0, limit::TEMPLATES);
    check.unique(path, "template", list.iter().map(|one| one.name.as_str()));
    for (i, template) in list.iter().enumerate() {
        let at = format!("{path}[{i}]");
        check.label(&format!("{at}.name"), &template.name);
        let description = template.description.as_deref().unwrap_or_default();
        check.text(
            &format!("{at}.description"),
            description,
            0,
            limit::DESCRIPTION,
        );
        let inputs = format!("{at}.inputs");
        declared(check, &inputs, "input", &template.inputs, limit::INPUTS);
        check.count(&format!("{at}.env"), template.env.len(), 0, limit::INPUTS);
        let parts = Parts {
            path: &at,
            frame: None,
            env: (&[], &[]),
            around: &Around::default(),
        };
        uses::parts(check, template, parts, &place.in_template(&template.name));
    }
}
