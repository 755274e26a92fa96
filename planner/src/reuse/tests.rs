//! Which pipelines are needed, and what a run keeps of them.
//! Must not check what is used: the tests of `validate` do.

use crds::PipelineSpec;

use super::*;

fn parsed(text: &str) -> PipelineSpec {
    serde_yaml::from_str(text).unwrap()
}

fn entry(spec: &PipelineSpec) -> Entry<'_> {
    Entry {
        uid: Some("uid-9"),
        generation: Some(4),
        spec,
    }
}

const USER: &str = "
jobs:
- {name: unit, uses: {pipeline: shared, job: test}}
- {name: own, image: i, steps: [{name: s, uses: {pipeline: tools, template: tidy}}]}
";
const SHARED: &str = "
params: [{name: p, default: x}]
env: [{name: A, value: b}]
triggers: {apply: true}
stepTemplates:
- {name: inner, steps: [{name: s, uses: {pipeline: deep, template: t}}]}
- {name: unused, steps: [{name: s, uses: {pipeline: never, template: t}}]}
jobs:
- {name: test, image: i, steps: [{name: s, uses: {template: inner}}]}
- {name: other, uses: {pipeline: never, job: j}}
";

#[test]
fn what_is_needed_is_found_level_by_level_with_its_first_user() {
    let (user, shared) = (parsed(USER), parsed(SHARED));
    let mut library = Library::default();
    let names = |library: &Library<'_>| -> Vec<String> {
        let missing = missing(&user, library).into_iter();
        missing
            .map(|missing| format!("{} for {}", missing.pipeline, missing.user))
            .collect()
    };
    assert_eq!(
        names(&library),
        ["shared for job `unit`", "tools for job `own`"]
    );
    library.add("shared", entry(&shared));
    assert_eq!(
        names(&library),
        [
            "deep for template `inner` of `shared`",
            "tools for job `own`"
        ]
    );
    assert!(is_user(&user) && !is_user(&parsed("jobs: []")));
}

#[test]
fn a_run_keeps_what_is_used_and_no_more() {
    let (user, shared) = (parsed(USER), parsed(SHARED));
    let deep = parsed(
        "{stepTemplates: [{name: t, steps: [{name: s, run: x}]}], env: [{name: A}], jobs: []}",
    );
    let mut library = Library::default();
    library.add("shared", entry(&shared));
    library.add("tools", entry(&deep));
    library.add("deep", entry(&deep));
    let kept = collect(&user, &library);
    insta::assert_yaml_snapshot!(kept, @r#"
    - pipeline: deep
      uid: uid-9
      generation: 4
      digest: "sha256:35da4b6f0066763b0e11f70baaf50a9d78d778e0407871323f0bbf5c61e196ce"
      spec:
        jobs: []
        stepTemplates:
          - name: t
            steps:
              - name: s
                run: x
    - pipeline: shared
      uid: uid-9
      generation: 4
      digest: "sha256:d0cdde88afa0022fd7d3596ddc3dd4a63705d07237902d93fa7288a6ab72460c"
      spec:
        params:
          - name: p
            type: string
            default: x
        env:
          - name: A
            value: b
        jobs:
          - name: test
            image: i
            steps:
              - name: s
                uses:
                  template: inner
        stepTemplates:
          - name: inner
            steps:
              - name: s
                uses:
                  pipeline: deep
                  template: t
    - pipeline: tools
      uid: uid-9
      generation: 4
      digest: "sha256:0a5796e93f9b57ddf7c45f860485cbb7353fc0eda3dca753a444d0fd2a1573fe"
      spec:
        jobs: []
    "#);
    assert!(kept.iter().all(|kept| kept.digest == digest(&kept.spec)));
}

#[test]
fn the_digest_changes_with_every_part_that_is_used_and_with_nothing_else() {
    let user = parsed(USER);
    let digest_of = |text: &str| {
        let shared = parsed(text);
        let mut library = Library::default();
        library.add("shared", entry(&shared));
        collect(&user, &library)[0].digest.clone()
    };
    let before = digest_of(SHARED);
    assert_eq!(before.len(), "sha256:".len() + 64);
    for other in ["apply: true}", "{pipeline: never, job: j}"] {
        let changed = SHARED.replace(
            other,
            &other.replace("true", "false").replace("job: j", "job: k"),
        );
        assert_ne!(changed, SHARED);
        assert_eq!(digest_of(&changed), before, "`{other}` is not used");
    }
    for part in [
        "value: b",
        "default: x",
        "image: i",
        "template: t}}]}\n- {name: unused",
    ] {
        let changed = SHARED.replace(
            part,
            &format!("{}y{}", &part[..part.len() - 1], &part[part.len() - 1..]),
        );
        let changed = match part.contains("unused") {
            true => SHARED.replacen("template: t}", "template: u}", 1),
            false => changed,
        };
        assert_ne!(digest_of(&changed), before, "`{part}` is used");
    }
}
