//! Plans of one pipeline in every form.

use std::path::PathBuf;

use super::*;

const PIPELINE: &str = r#"
apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: orchard}
spec:
  params:
    - {name: fruit, default: "red apple"}
    - {name: baskets, type: integer}
  timeout: 2h
  concurrency: {group: "orchard-${{ params.fruit }}"}
  jobs:
    - {name: press, needs: [pick, wash], runner: cellar, steps: [{name: squeeze, run: a}]}
    - name: pick
      image: ladder
      timeout: 20m
      steps: [{name: climb, run: a}, {name: grab, run: b}]
    - {name: wash, image: tub, needs: [pick], steps: [{name: rinse, run: a}]}
  finally:
    - {name: sweep, image: broom, steps: [{name: all, run: a}]}
"#;

fn plan_of(text: &str, output: PlanOutput, given: &[(&str, &str)]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("ci.yaml");
    std::fs::write(&file, text).unwrap();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let arguments = PlanArguments {
        file,
        params: given.iter().map(own).collect(),
        library: Vec::new(),
        pipeline: None,
        output,
    };
    let mut out = Vec::new();
    plan(&arguments, &mut out)
        .map(|_| String::from_utf8(out).unwrap())
        .map_err(|failure| failure.message)
}

fn shown(output: PlanOutput) -> String {
    plan_of(PIPELINE, output, &[("baskets", "3")]).unwrap()
}

#[test]
fn the_text_has_the_jobs_by_waves_and_finally_last() {
    insta::assert_snapshot!(shown(PlanOutput::Text), @r#"
    pipeline orchard: 3 jobs in 3 waves, 1 finally job in the end, at most 2h
      concurrency group orchard-${{ params.fruit }}, Queue
      fruit = "red apple"
      baskets = 3

    WAVE      JOB     NEEDS        IMAGE                   TIMEOUT   STEPS
    1         pick                 ladder                  20m       climb, grab
    2         wash    pick         tub                     1h        rinse
    3         press   pick, wash   that of runner cellar   1h        squeeze
    finally   sweep                broom                   1h        all
    "#);
}

#[test]
fn mermaid_and_dot_have_every_job_and_every_need() {
    insta::assert_snapshot!(shown(PlanOutput::Mermaid), @r#"
    flowchart LR
      subgraph jobs
        j0["press"]
        j1["pick"]
        j2["wash"]
      end
      subgraph finally
        j3["sweep"]
      end
      jobs -.-> finally
      j1 --> j0
      j2 --> j0
      j1 --> j2
    "#);
    insta::assert_snapshot!(shown(PlanOutput::Dot), @r#"
    digraph "orchard" {
      rankdir=LR;
      node [shape=box];
      "press";
      "pick";
      "wash";
      subgraph cluster_finally {
        label=finally;
        "sweep";
      }
      "pick" -> "press";
      "wash" -> "press";
      "pick" -> "wash";
    }
    "#);
}

#[test]
fn json_has_the_jobs_in_the_order_of_the_file() {
    let plan: serde_json::Value = serde_json::from_str(&shown(PlanOutput::Json)).unwrap();
    assert_eq!(plan["waves"], 3);
    assert_eq!(plan["params"][1]["value"], 3);
    let jobs = plan["jobs"].as_array().unwrap();
    let names: Vec<_> = jobs
        .iter()
        .map(|job| job["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["press", "pick", "wash", "sweep"]);
    assert_eq!(jobs[3]["wave"], 4);
    assert_eq!(jobs[1]["steps"], serde_json::json!(["climb", "grab"]));
}

#[test]
fn a_matrix_is_expanded_as_far_as_its_values_are_known() {
    let text = r#"
apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: orchard}
spec:
  jobs:
    - name: pick
      image: ladder
      when: source.branch == 'main'
      matrix:
        axes: [{name: fruit, values: [fig, pear]}, {name: row, values: [1, 2]}]
        exclude: [{fruit: fig, row: 2}]
      steps: [{name: climb, run: a}]
      outputs: []
    - {name: list, image: pen, steps: [{name: s, run: a}], outputs: [{name: trees, value: "[]"}]}
    - name: prune
      image: saw
      needs: [list]
      matrix: {axes: [{name: tree, from: jobs.list.outputs.trees}]}
      steps: [{name: cut, run: a}]
"#;
    insta::assert_snapshot!(plan_of(text, PlanOutput::Text, &[]).unwrap(), @r"
    pipeline orchard: 3 jobs in 2 waves, at most 6h

    WAVE   JOB                                   NEEDS   IMAGE    TIMEOUT   STEPS
    1      pick                                          ladder   1h        climb
             pick.fig_1
             pick.pear_1
             pick.pear_2
    1      list                                          pen      1h        s
    2      prune                                 list    saw      1h        cut
             tree from jobs.list.outputs.trees

    pick runs only when source.branch == 'main'
    ");
    let graph = plan_of(text, PlanOutput::Mermaid, &[]).unwrap();
    assert!(
        graph.contains("j0[\"pick (3 jobs)\"]") && graph.contains("prune (matrix)"),
        "{graph}"
    );
    let json = plan_of(text, PlanOutput::Json, &[]).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    let fig = serde_json::json!([{"name": "fruit", "value": "fig"}, {"name": "row", "value": 1}]);
    assert_eq!(plan["jobs"][0]["matrix"][0]["values"], fig);
}

#[test]
fn a_job_that_waits_for_people_says_for_whom_and_how_long() {
    let text = r#"
apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: orchard}
spec:
  params: [{name: version, default: "7"}]
  jobs:
    - name: ship
      image: cart
      approval: {users: [ann], groups: [release], timeout: 8h, message: "Ship ${{ params.version }}?"}
      steps: [{name: load, run: a}]
    - {name: tell, image: pen, approval: {}, steps: [{name: s, run: a}]}
"#;
    let plan = plan_of(text, PlanOutput::Text, &[]).unwrap();
    let asks = "\nship waits up to 8h until ann or group release approves it: \"Ship 7?\"\n\
                tell waits up to 1d until anybody who may approves it\n";
    assert!(plan.ends_with(asks), "{plan}");
    for (output, line) in [
        (PlanOutput::Mermaid, "j0[\"ship (approval)\"]"),
        (PlanOutput::Dot, "\"ship\" [label=\"ship (approval)\"];"),
    ] {
        let graph = plan_of(text, output, &[]).unwrap();
        assert!(graph.contains(line), "{graph}");
    }
    let json = plan_of(text, PlanOutput::Json, &[]).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["jobs"][0]["approval"]["groups"][0], "release");
}

#[test]
fn images_are_those_of_the_params_and_of_each_job_of_a_matrix() {
    let text = r#"
apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: orchard}
spec:
  params: [{name: version, default: "1"}]
  jobs:
    - {name: pick, image: "ladder:${{ params.version }}", steps: [{name: climb, run: a}]}
    - name: prune
      image: "${{ matrix.tool }}:${{ params.version }}"
      matrix: {axes: [{name: tool, values: [saw, knife]}]}
      steps: [{name: cut, run: a}]
"#;
    let text = plan_of(text, PlanOutput::Text, &[("version", "7")]).unwrap();
    let has = |line: &[&str]| {
        let mut lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|words| words == line)
    };
    assert!(has(&["1", "pick", "ladder:7", "1h", "climb"]), "{text}");
    assert!(
        has(&["prune.saw", "saw:7"]) && has(&["prune.knife", "knife:7"]),
        "{text}"
    );
}

#[test]
fn a_missing_or_wrong_parameter_and_a_mistake_in_the_file_are_refused() {
    let refused = |given| plan_of(PIPELINE, PlanOutput::Text, given).unwrap_err();
    assert!(refused(&[]).contains("the param `baskets` has no value"));
    assert!(refused(&[("baskets", "many")]).contains("a whole number"));
    assert!(refused(&[("basket", "1")]).contains("did you mean `baskets`?"));
    let wrong = PIPELINE.replace("needs: [pick]", "needs: [pock]");
    let message = plan_of(&wrong, PlanOutput::Text, &[]).unwrap_err();
    assert!(message.contains("did you mean `pick`?"), "{message}");
}

#[test]
fn the_values_of_a_run_in_the_file_count_and_the_command_line_wins() {
    let run = "---
apiVersion: rustci.dev/v1alpha1
kind: PipelineRun
metadata: {name: harvest}
spec:
  pipelineRef: {name: orchard}
  params: [{name: baskets, value: 7}, {name: fruit, value: pear}]
";
    let text = plan_of(
        &format!("{PIPELINE}{run}"),
        PlanOutput::Text,
        &[("fruit", "fig")],
    )
    .unwrap();
    assert!(
        text.contains("baskets = 7") && text.contains("fruit = \"fig\""),
        "{text}"
    );
}
