//! Options of pods from two places: the defaults, and what is nearer to the job.
//! Must not check values.

use crds::PodOptions;

/// The own options win field by field.
pub(crate) fn merge(defaults: PodOptions, own: PodOptions) -> PodOptions {
    let PodOptions {
        resources,
        node_selector,
        tolerations,
        service_account_name,
        automount_service_account_token,
        image_pull_secrets,
        run_as_user,
        read_only_root_filesystem,
        pending_timeout,
    } = own;
    let chosen = |own: Vec<_>, default| if own.is_empty() { default } else { own };
    PodOptions {
        resources: resources.or(defaults.resources),
        node_selector: match node_selector.is_empty() {
            true => defaults.node_selector,
            false => node_selector,
        },
        tolerations: match tolerations.is_empty() {
            true => defaults.tolerations,
            false => tolerations,
        },
        service_account_name: service_account_name.or(defaults.service_account_name),
        automount_service_account_token: automount_service_account_token
            .or(defaults.automount_service_account_token),
        image_pull_secrets: chosen(image_pull_secrets, defaults.image_pull_secrets),
        run_as_user: run_as_user.or(defaults.run_as_user),
        read_only_root_filesystem: read_only_root_filesystem.or(defaults.read_only_root_filesystem),
        pending_timeout: pending_timeout.or(defaults.pending_timeout),
    }
}
