//! Fields whose text is taken as it stands: an expression in them would be a word like others.
//! Must not know which fields evaluate expressions.

use crds::Job;

use super::checker::Checker;

/// Refuses expressions in all such fields of a job.
pub(super) fn job(check: &mut Checker, path: &str, job: &Job) {
    let here = "write the value itself; to choose by a matrix, write a job for each";
    let mut each = |field: &str, texts: &mut dyn Iterator<Item = &String>, remedy: &str| {
        for text in texts {
            let inside = text.split_once("${{").map(|(_, rest)| rest);
            if inside.is_some_and(|rest| rest.contains("}}")) {
                let message = format!("expressions are not evaluated here: {text}");
                check.add(&format!("{path}.{field}"), message, remedy);
            }
        }
    };
    each("runner", &mut job.runner.iter(), here);
    each("shell", &mut job.shell.iter(), here);
    for (at, step) in job.steps.iter().enumerate() {
        each(&format!("steps[{at}].shell"), &mut step.shell.iter(), here);
    }
    if let Some(pod) = &job.pod {
        let account = &mut pod.service_account_name.iter();
        each("pod.serviceAccountName", account, here);
        each(
            "pod.imagePullSecrets",
            &mut pod.image_pull_secrets.iter(),
            here,
        );
    }
    if let Some(approval) = &job.approval {
        each("approval.users", &mut approval.users.iter(), here);
        each("approval.groups", &mut approval.groups.iter(), here);
    }
    let by_variable = "put the value into env of the service, and read the variable";
    for (at, service) in job.services.iter().enumerate() {
        let (command, args) = (&mut service.command.iter(), &mut service.args.iter());
        each(&format!("services[{at}].command"), command, by_variable);
        each(&format!("services[{at}].args"), args, by_variable);
    }
}
