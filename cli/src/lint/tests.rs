//! What `rustci lint` says of mistakes, word for word.

use std::path::Path;

use super::*;

/// The report of a text that stands alone.
fn linted(file: &str, text: &str) -> Report {
    lint_text(file, text, &Pipelines::of_text(text))
}

fn lines(yaml: &str) -> Vec<String> {
    let report = linted("ci.yaml", yaml);
    text(&report, true).lines().map(str::to_owned).collect()
}

/// One finding, its marked source line left out.
fn first(yaml: &str) -> String {
    lines(yaml).swap_remove(0)
}

const HEAD: &str = "apiVersion: rustci.dev/v1alpha1\nkind: Pipeline\nmetadata: {name: ci}\n";

fn pipeline(spec: &str) -> String {
    format!("{HEAD}spec:\n{spec}")
}

const JOB: &str =
    "  jobs:\n    - name: unit\n      image: busybox\n      steps:\n        - {name: a, run: b}\n";

#[test]
fn a_right_document_has_no_finding() {
    assert_eq!(lines(&pipeline(JOB)), ["1 document checked, nothing wrong"]);
}

#[test]
fn a_mistake_is_shown_with_its_place_its_line_and_its_remedy() {
    let yaml = pipeline(
        "  jobs:
    - name: unit
      imgae: busybox
      image: busybox
      steps:
        - {name: a, run: b}
",
    );
    assert_eq!(
        lines(&yaml),
        [
            "ci.yaml:7:7: spec.jobs[0].imgae: unknown field \"spec.jobs[0].imgae\"; \
             did you mean image?",
            "  7 |       imgae: busybox",
            "    |       ^",
            "1 document checked, 1 mistake",
        ]
    );
}

#[test]
fn a_missing_field_is_shown_at_what_lacks_it() {
    let yaml = pipeline("  jobs:\n    - name: unit\n      image: busybox\n");
    assert_eq!(
        first(&yaml),
        "ci.yaml:6:7: spec.jobs[0].steps: the job `unit` has neither steps nor uses; \
         set exactly one of the two"
    );
}

#[test]
fn a_need_that_does_not_exist_is_reported_once_and_with_the_near_name() {
    let job = "    - {name: b, image: i, needs: [unti], steps: [{name: a, run: b}]}\n";
    let report = linted("ci.yaml", &pipeline(&format!("{JOB}{job}")));
    assert_eq!(report.findings.len(), 1, "{}", text(&report, false));
    let finding = &report.findings[0];
    assert_eq!((finding.line, finding.column), (10, 35));
    assert_eq!(finding.field, "spec.jobs[1].needs[0]");
    assert!(finding.remedy.contains("unit"), "{finding:?}");
}

#[test]
fn a_mistake_in_an_expression_is_shown_at_its_column() {
    let job = "    - name: b
      image: i
      env:
        - {name: A, value: \"x ${{ params.nme }}\"}
      steps: [{name: a, run: b}]
";
    let yaml = pipeline(&format!("  params: [{{name: name}}]\n{JOB}{job}"));
    let report = linted("ci.yaml", &yaml);
    assert_eq!(report.findings.len(), 1, "{}", text(&report, false));
    let finding = &report.findings[0];
    let marked: String = finding
        .source
        .text
        .chars()
        .skip(finding.column - 1)
        .collect();
    assert!(
        marked.starts_with("params.nme") || marked.starts_with("nme"),
        "{marked}"
    );
}

#[test]
fn tabs_and_broken_syntax_are_shown_where_they_stand() {
    let yaml = format!("{HEAD}spec:\n\tjobs: []\n");
    assert_eq!(
        first(&yaml),
        "ci.yaml:5:1: the indentation has a tab; use spaces only"
    );
    let yaml = format!("{HEAD}spec: [\n");
    assert!(first(&yaml).contains(": not YAML: "), "{}", first(&yaml));
}

#[test]
fn a_document_after_a_broken_one_is_checked_too() {
    let yaml = format!("a: [\n---\n{}", pipeline("  jobs: []\n"));
    let report = linted("ci.yaml", &yaml);
    assert_eq!(report.findings.len(), 2, "{}", text(&report, false));
    assert_eq!(report.findings[1].line, 7);
}

#[test]
fn a_key_that_stands_twice_is_a_mistake() {
    let yaml = format!("{HEAD}kind: Pipeline\nspec:\n{JOB}");
    assert_eq!(
        first(&yaml),
        "ci.yaml:4:1: the key kind is already on line 2; remove one of the two"
    );
}

#[test]
fn words_that_kubectl_reads_as_true_are_no_text() {
    let yaml = pipeline(&format!("  env:\n    - {{name: A, value: yes}}\n{JOB}"));
    assert_eq!(
        first(&yaml),
        "ci.yaml:6:24: spec.env[0].value: must be of type string: \"boolean\"; \
         write \"yes\" in quotes, since YAML reads yes as true"
    );
}

#[test]
fn a_number_that_json_lacks_is_one_mistake_and_a_key_of_that_name_none() {
    let yaml = pipeline(&format!("  timeout: .inf\n  params: [.nan]\n{JOB}"));
    let report = linted("ci.yaml", &yaml);
    let places = report
        .findings
        .iter()
        .map(|it| (it.rule, it.line, it.column));
    let places: Vec<_> = places.collect();
    assert_eq!(places, [(Rule::Yaml, 5, 12), (Rule::Yaml, 6, 12)]);
    assert!(linted("others.yaml", "data: {.inf: x, .nan: '.nan'}\n").is_clean());
}

#[test]
fn a_merge_key_in_quotes_is_a_key_like_others() {
    assert!(linted("others.yaml", "data: {\"<<\": hello}\n").is_clean());
    let report = linted("others.yaml", "data: {<<: hello}\n");
    assert_eq!(report.findings.len(), 1, "{report:?}");
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let yaml = pipeline(
        "  jobs:
    - &base
      name: unit
      image: busybox
      steps: &steps
        - {name: a, run: b}
    - <<: *base
      name: other
      steps: *steps
",
    );
    assert_eq!(lines(&yaml), ["1 document checked, nothing wrong"]);
}

#[test]
fn an_alias_that_grows_without_end_is_refused() {
    let mut yaml = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..8 {
        let before = format!("*a{}", level - 1);
        yaml.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [before.as_str(); 10].join(", ")
        ));
    }
    assert!(
        first(&yaml).contains("has more than 1000000 values"),
        "{}",
        first(&yaml)
    );
}

#[test]
fn documents_of_others_are_passed_over_with_a_note() {
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\n---\n# nothing\n---\n{}",
        pipeline(JOB)
    );
    assert_eq!(
        lines(&yaml),
        [
            "ci.yaml:1: passed over: v1 ConfigMap is no kind of RustCI",
            "1 document checked, nothing wrong",
        ]
    );
    assert_eq!(lines(""), ["nothing to check: no document of RustCI found"]);
}

#[test]
fn a_kind_or_version_that_is_almost_right_is_a_mistake() {
    let yaml = "apiVersion: rustci.dev/v1alpha1\nkind: Pipelin\n";
    assert_eq!(
        first(yaml),
        "ci.yaml:2:7: kind: there is no kind Pipelin; did you mean Pipeline?"
    );
    let yaml = "apiVersion: rustci.dev/v1\nkind: Runner\n";
    assert_eq!(
        first(yaml),
        "ci.yaml:1:13: apiVersion: there is no version rustci.dev/v1; \
         write apiVersion: rustci.dev/v1alpha1"
    );
}

#[test]
fn the_json_report_has_every_finding() {
    let report = linted("ci.yaml", &pipeline("  jobs: []\n"));
    let value: serde_json::Value = serde_json::from_str(&json(&report)).expect("a report is JSON");
    assert_eq!(value["checked"], 1);
    assert_eq!(value["findings"][0]["line"], 5);
    assert_eq!(value["findings"][0]["field"], "spec.jobs");
}

#[test]
fn a_file_that_is_not_there_is_a_finding() {
    let report = lint(&[PathBuf::from("/nowhere/ci.yaml")], &Shelf::default());
    assert!(
        report.findings[0]
            .message
            .starts_with("cannot read the file"),
        "{report:?}"
    );
}

#[test]
fn a_folder_is_searched_with_its_folders_but_for_hidden_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, pipeline(JOB)).expect("a file");
    };
    let names = ["a.yaml", "b/c.yml", "b/d/e.yaml", ".git/f.yaml", "g.json"];
    names.into_iter().for_each(write);
    let report = lint(&[folder.path().to_owned()], &Shelf::default());
    assert_eq!((report.checked, report.findings.len()), (3, 0));
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).expect("a link");
    assert_eq!(
        lint(&[folder.path().to_owned()], &Shelf::default()).checked,
        3
    );
}

#[test]
fn a_megabyte_of_nesting_is_refused_in_short() {
    let deep = |open: &str| {
        format!(
            "a: {}\n---\n{}",
            open.repeat(1 << 20),
            pipeline("  jobs: []\n")
        )
    };
    for open in ["[", "{", "&a [", "{a: "] {
        let report = linted("ci.yaml", &deep(open));
        let first = &report.findings[0];
        assert!(
            first.message.contains("more than 64 levels deep"),
            "{open}: {first:?}"
        );
    }
    let mut block = String::new();
    (0..1_400).for_each(|depth| block.push_str(&format!("{}a:\n", " ".repeat(depth))));
    let report = linted("ci.yaml", &block);
    assert!(
        report.findings[0].message.contains("levels deep"),
        "{report:?}"
    );
}

#[test]
fn many_keys_anchors_and_aliases_are_read_in_good_time() {
    let keys: String = (0..60_000).map(|n| format!("k{n}: &a{n} x\n")).collect();
    let aliases: String = (0..60_000).map(|n| format!("l{n}: *a{n}\n")).collect();
    assert!(linted("ci.yaml", &(keys + &aliases)).is_clean());
}

#[test]
fn sarif_names_rule_place_and_line_of_each_finding() {
    let report = linted("a b.yaml", &pipeline("  jobs: []\n  timeuot: 1h\n"));
    let log: serde_json::Value = serde_json::from_str(&sarif(&report)).expect("SARIF is JSON");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "rustci");
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 2);
    let place = &results[1]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b.yaml");
    let region = serde_json::json!({
        "startLine": 6, "startColumn": 3, "endLine": 6, "endColumn": 10,
        "snippet": {"text": "  timeuot: 1h"},
    });
    assert_eq!(place["region"], region);
    for result in results {
        let index = result["ruleIndex"].as_u64().expect("an index");
        let rule = &run["tool"]["driver"]["rules"][usize::try_from(index).expect("small")];
        assert_eq!(rule["id"], result["ruleId"]);
        assert_eq!(result["level"], "error");
    }
}

/// True for a finding with a remedy, and for a rule in CEL whose message ends with one, behind a
/// colon or as a sentence of its own.
fn says_what_to_do(finding: &Finding) -> bool {
    let message = &finding.message;
    let advice = message
        .split_once(": ")
        .or_else(|| message.split_once(". "));
    let is_told = advice.is_some_and(|(_, advice)| advice.split_whitespace().count() > 2);
    !finding.remedy.is_empty() || finding.rule == Rule::Cel && is_told
}

#[test]
fn a_bare_complaint_does_not_say_what_to_do() {
    let finding = |rule, message: &str, remedy: &str| Finding {
        rule,
        message: message.into(),
        remedy: remedy.into(),
        ..unreadable(Path::new("ci.yaml"), &io::Error::other("broken"))
    };
    let long = "the name is too long";
    let told = "the name is too long: choose a shorter one";
    assert!(!says_what_to_do(&finding(Rule::Cel, long, "")));
    assert!(!says_what_to_do(&finding(Rule::Schema, told, "")));
    assert!(says_what_to_do(&finding(Rule::Cel, told, "")));
    assert!(says_what_to_do(&finding(Rule::Schema, long, "shorten it")));
}

/// Lint says no where the API server says no, and nowhere else but for what only the planner
/// knows: cycles and the like are in no example.
#[test]
fn every_example_of_the_schemas_has_the_verdict_of_its_folder() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples");
    let verdicts = |folder: &str| {
        files(&examples.join(folder))
            .expect("the examples are there")
            .into_iter()
            .map(|file| {
                let report = lint(std::slice::from_ref(&file), &Shelf::default());
                (file, report)
            })
    };
    for (file, report) in verdicts("accepted") {
        assert!(
            report.is_clean(),
            "{}:\n{}",
            file.display(),
            text(&report, false)
        );
    }
    for (file, report) in verdicts("refused") {
        assert!(!report.is_clean(), "{}", file.display());
        for finding in &report.findings {
            assert!(says_what_to_do(finding), "{finding:?}");
            assert!(finding.line > 1, "{finding:?}");
        }
    }
}

/// The document for the two tests below, with the first variable's value left open.
fn many_mistakes(value: &str) -> String {
    pipeline(&format!(
        "  timeuot: 1h
  jobs:
    - name: unit
      steps:
        - {{name: a, run: echo, timeout: soon}}
    - name: b
      image: x
      needs: [unti, c]
      env:
        - {{name: 1A, value: {value}}}
      steps:
        - {{name: Bad Name, run: x}}
    - {{name: c, image: x, needs: [b], steps: [{{name: a, run: b}}]}}
"
    ))
}

#[test]
fn all_mistakes_of_a_document_come_at_once_and_each_once() {
    let report = linted("ci.yaml", &many_mistakes("five"));
    insta::assert_snapshot!(text(&report, false), @r#"
    ci.yaml:5:3: spec.timeuot: unknown field "spec.timeuot"; did you mean timeout?
      5 |   timeuot: 1h
        |   ^
    ci.yaml:7:7: spec.jobs[0]: the job `unit` has neither image nor runner; set image, or name a Runner that has one
      7 |     - name: unit
        |       ^
    ci.yaml:9:41: spec.jobs[0].steps[0].timeout: `s` is not expected here; write numbers with the units d, h, m, s, largest first, such as `90s`, `20m`, `1h30m`, `14d`
      9 |         - {name: a, run: echo, timeout: soon}
        |                                         ^
    ci.yaml:12:7: spec.jobs[1].needs: the jobs wait for each other: b needs c needs b; remove one of these needs
      12 |       needs: [unti, c]
         |       ^
    ci.yaml:12:15: spec.jobs[1].needs[0]: no job is named `unti`; did you mean `unit`?
      12 |       needs: [unti, c]
         |               ^
    ci.yaml:14:18: spec.jobs[1].env[0].name: should match '^[A-Za-z_][A-Za-z0-9_]*$'; use letters, digits and '_' only, and do not start with a digit
      14 |         - {name: 1A, value: five}
         |                  ^
    ci.yaml:16:18: spec.jobs[1].steps[0].name: `Bad Name` is no name for a job or step; use lower-case letters, digits and `-`, with a letter or digit at both ends
      16 |         - {name: Bad Name, run: x}
         |                  ^
    1 document checked, 7 mistakes
    "#);
}

#[test]
fn a_value_of_the_wrong_type_hides_the_rules_as_it_does_on_the_server() {
    let report = linted("ci.yaml", &many_mistakes("5"));
    insta::assert_snapshot!(text(&report, false), @r#"
    ci.yaml:5:3: spec.timeuot: unknown field "spec.timeuot"; did you mean timeout?
      5 |   timeuot: 1h
        |   ^
    ci.yaml:14:18: spec.jobs[1].env[0].name: should match '^[A-Za-z_][A-Za-z0-9_]*$'; use letters, digits and '_' only, and do not start with a digit
      14 |         - {name: 1A, value: 5}
         |                  ^
    ci.yaml:14:29: spec.jobs[1].env[0].value: must be of type string: "integer"; put the value in quotes: "5"
      14 |         - {name: 1A, value: 5}
         |                             ^
    1 document checked, 3 mistakes
    "#);
}

#[test]
fn the_examples_for_users_are_right_but_for_the_one_with_a_mistake() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let report = lint(&[folder], &Shelf::default());
    assert!(report.checked > 0);
    let is_meant = |finding: &Finding| finding.file.ends_with("with-mistake.yaml");
    assert!(report.findings.iter().any(is_meant));
    assert!(
        report.findings.iter().all(is_meant),
        "{}",
        text(&report, false)
    );
}
