//! `rustci lsp` as an editor talks to it: the protocol over standard input and output.
//! Must not look into the library.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const URI: &str = "file:///orchard/ci.yaml";

const PIPELINE: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: orchard}
spec:
  params:
    - {name: fruit, default: apple}
  jobs:
    - name: pick
      image: ladder
      steps:
        - {name: climb, run: 'true'}
      outputs: [{name: weight, value: '${{ steps.climb.outputs.kilos }}'}]
    - name: press-all
      image: cellar
      needs: [pick]
      env:
        - {name: W, value: '${{ jobs.pick.outputs.weight + params.fruit }}'}
      steps: [{name: squeeze, run: 'true'}]
";

/// An editor with one server.
struct Editor {
    server: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: i32,
}

impl Editor {
    /// Starts a server and shakes hands.
    fn open() -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_rustci"))
            .arg("lsp")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut editor = Self {
            input: server.stdin.take(),
            output: BufReader::new(server.stdout.take().unwrap()),
            server,
            next: 0,
        };
        let answer = editor.ask("initialize", json!({"capabilities": {}}));
        assert_eq!(answer["capabilities"]["hoverProvider"], true);
        assert_eq!(answer["serverInfo"]["name"], "rustci");
        editor.tell("initialized", json!({}));
        editor
    }

    /// Starts a server and opens a document.
    fn with(text: &str) -> Self {
        let mut editor = Self::open();
        let document = json!({"uri": URI, "languageId": "yaml", "version": 1, "text": text});
        editor.tell("textDocument/didOpen", json!({"textDocument": document}));
        editor
    }

    fn write(&mut self, message: Value) {
        let mut message = message;
        message["jsonrpc"] = json!("2.0");
        let body = message.to_string();
        let input = self.input.as_mut().unwrap();
        write!(input, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        input.flush().unwrap();
    }

    fn read(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "the server is gone"
            );
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.write(json!({"method": method, "params": params}));
    }

    /// Asks, and gives the whole answer; notifications on the way are passed over.
    fn ask_whole(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.write(json!({"id": id, "method": method, "params": params}));
        loop {
            let message = self.read();
            if message["id"] == id {
                return message;
            }
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.ask_whole(method, params);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].take()
    }

    /// Asks about the place just behind `needle`, of which `text` has one.
    fn ask_behind(&mut self, method: &str, text: &str, needle: &str) -> Value {
        let end = text.find(needle).unwrap() + needle.len();
        assert_eq!(text.matches(needle).count(), 1, "{needle}");
        let line = text[..end].matches('\n').count();
        let start = text[..end].rfind('\n').map_or(0, |at| at + 1);
        let character = text[start..end].encode_utf16().count();
        let position = json!({"line": line, "character": character});
        self.ask(
            method,
            json!({"textDocument": {"uri": URI}, "position": position}),
        )
    }

    /// What may be written behind `needle`.
    fn offered(&mut self, text: &str, needle: &str) -> Vec<String> {
        let answer = self.ask_behind("textDocument/completion", text, needle);
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        let label = |item: &Value| item["label"].as_str().unwrap().to_owned();
        items.iter().map(label).collect()
    }

    /// The next list of mistakes that the server sends.
    fn diagnostics(&mut self) -> Value {
        loop {
            let mut message = self.read();
            if message["method"] == "textDocument/publishDiagnostics" {
                return message["params"].take();
            }
        }
    }

    /// Says goodbye; the server must end with success.
    fn close(mut self) {
        assert_eq!(self.ask("shutdown", Value::Null), Value::Null);
        self.tell("exit", Value::Null);
        assert!(self.server.wait().unwrap().success());
    }
}

#[test]
fn mistakes_come_with_each_change_and_go_with_the_last() {
    let wrong = PIPELINE.replace("needs: [pick]", "needs: [pikc]");
    let mut editor = Editor::with(&wrong);
    let sent = editor.diagnostics();
    assert_eq!((&sent["uri"], &sent["version"]), (&json!(URI), &json!(1)));
    let found = sent["diagnostics"].as_array().unwrap();
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.contains("did you mean `pick`?"), "{message}");
    let range = json!({
        "start": {"line": 14, "character": 14},
        "end": {"line": 14, "character": 18},
    });
    assert_eq!(
        (&found[0]["range"], &found[0]["severity"]),
        (&range, &json!(1))
    );
    let document = json!({"uri": URI, "version": 2});
    let changes = json!([{"text": PIPELINE}]);
    editor.tell(
        "textDocument/didChange",
        json!({"textDocument": document, "contentChanges": changes}),
    );
    let sent = editor.diagnostics();
    assert_eq!(
        (&sent["diagnostics"], &sent["version"]),
        (&json!([]), &json!(2))
    );
    editor.tell(
        "textDocument/didClose",
        json!({"textDocument": {"uri": URI}}),
    );
    assert_eq!(editor.diagnostics()["diagnostics"], json!([]));
    editor.close();
}

#[test]
fn fields_come_by_the_schema_with_their_documentation() {
    let text = format!("{PIPELINE}    - name: bottle\n      im");
    let mut editor = Editor::with(&text);
    let answer = editor.ask_behind("textDocument/completion", &text, "bottle\n      im");
    let items = answer["items"].as_array().unwrap();
    let image = items.iter().find(|item| item["label"] == "image").unwrap();
    assert_eq!(image["textEdit"]["newText"], "image: ");
    assert_eq!(image["textEdit"]["range"]["start"]["character"], 6);
    let documentation = image["documentation"]["value"].as_str().unwrap();
    assert!(documentation.contains("Container image"), "{documentation}");
    let needs = items.iter().find(|item| item["label"] == "needs").unwrap();
    assert_eq!(needs["textEdit"]["newText"], "needs:");
    editor.close();
}

#[test]
fn fields_are_offered_in_brackets_at_the_top_and_for_other_kinds() {
    let text = PIPELINE.replace("run: 'true'}\n      out", "ti}\n      out");
    let mut editor = Editor::with(&text);
    let offered = editor.offered(&text, "{name: climb, ti");
    assert!(offered.contains(&"timeout".to_owned()), "{offered:?}");
    assert!(!offered.contains(&"needs".to_owned()), "{offered:?}");
    let text = "kind: Runner\nspec:\n  ex";
    let mut editor = Editor::with(text);
    let offered = editor.offered(text, "\n  ex");
    assert!(offered.contains(&"executor".to_owned()), "{offered:?}");
    let text = "";
    let mut editor = Editor::with(text);
    let offered = editor.offered(text, "");
    assert!(offered.contains(&"apiVersion".to_owned()), "{offered:?}");
    assert!(!offered.contains(&"status".to_owned()), "{offered:?}");
    let text = "kind: ";
    let mut editor = Editor::with(text);
    assert_eq!(
        editor.offered(text, "kind: "),
        ["Pipeline", "PipelineRun", "Runner", "Approval"]
    );
}

#[test]
fn needs_offers_the_other_jobs_also_while_the_document_is_broken() {
    let text = format!("{PIPELINE}    - name: bottle\n      image: i\n      needs: [pick, ");
    let mut editor = Editor::with(&text);
    assert_eq!(
        editor.offered(&text, "needs: [pick, "),
        ["pick", "press-all"]
    );
    editor.close();
}

#[test]
fn values_of_a_fixed_list_are_offered() {
    let text = PIPELINE.replace("default: apple", "type: ");
    let mut editor = Editor::with(&text);
    let offered = editor.offered(&text, "type: ");
    assert_eq!(offered, ["string", "integer", "boolean"]);
    editor.close();
}

#[test]
fn expressions_offer_what_is_known_there() {
    let with =
        |expression: &str| PIPELINE.replace("jobs.pick.outputs.weight + params.fruit", expression);
    let mut editor = Editor::open();
    let mut offered = |expression: &str| {
        let text = with(&format!("{expression} "));
        let document = json!({"uri": URI, "languageId": "yaml", "version": 1, "text": text});
        editor.tell("textDocument/didOpen", json!({"textDocument": document}));
        editor.offered(&text, &format!("W, value: '${{{{ {expression}"))
    };
    assert!(offered("").contains(&"params".to_owned()));
    assert_eq!(offered("params."), ["fruit"]);
    assert_eq!(offered("jobs."), ["pick"]);
    assert_eq!(offered("jobs.pick."), ["result", "outputs"]);
    assert_eq!(offered("jobs.pick.outputs.we"), ["weight"]);
    assert_eq!(offered("jobs[\"pick\"].outputs."), ["weight"]);
    let matrix = "image: cellar\n      matrix: {axes: [{name: row, values: [1, 2]}]}\n      when: ";
    let text = PIPELINE.replace("image: cellar", matrix);
    let mut editor = Editor::with(&text);
    let offered = editor.offered(&text, "when: ");
    assert!(offered.contains(&"always()".to_owned()), "{offered:?}");
    let text = text.replace("when: ", "env: [{name: N, value: \"${{ matrix.");
    let mut editor = Editor::with(&text);
    assert_eq!(editor.offered(&text, "${{ matrix."), ["row"]);
    let text = PIPELINE.replace("steps.climb.outputs.kilos", "steps.");
    let mut editor = Editor::with(&text);
    assert_eq!(editor.offered(&text, "${{ steps."), ["climb"]);
}

#[test]
fn a_name_with_a_dash_is_written_in_brackets() {
    let text = format!(
        "{PIPELINE}    - name: bottle
      image: i
      needs: [press-all]
      env: [{{name: B, value: \"${{{{ jobs.\"}}]
      steps: [{{name: s, run: 'true'}}]
"
    );
    let mut editor = Editor::with(&text);
    let answer = editor.ask_behind("textDocument/completion", &text, "\"${{ jobs.");
    let edit = &answer["items"][1]["textEdit"];
    assert_eq!(edit["newText"], "[\"press-all\"]");
    let range = &edit["range"];
    let width =
        range["end"]["character"].as_u64().unwrap() - range["start"]["character"].as_u64().unwrap();
    assert_eq!(width, 1, "the dot gives way: {range}");
    editor.close();
}

#[test]
fn hover_tells_what_fields_and_names_are() {
    let mut editor = Editor::with(PIPELINE);
    let mut said = |needle: &str| {
        let answer = editor.ask_behind("textDocument/hover", PIPELINE, needle);
        answer["contents"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(said("      need").contains("Jobs that must have"));
    assert!(said("ladd").contains("Container image"));
    assert!(said("needs: [pi").contains("job **pick**"));
    assert!(said("params.fr").contains("default: `apple`"));
    assert!(said("jobs.pick.outputs.wei").contains("steps.climb.outputs.kilos"));
    assert!(said("{name: climb, ru").contains("The script"));
    editor.close();
}

#[test]
fn hover_tells_what_functions_and_built_in_names_mean() {
    let text = PIPELINE.replace(
        "jobs.pick.outputs.weight + params.fruit",
        "source.branch.startsWith(params.fruit) ? jobs.pick.result : string(run.name)",
    );
    let mut editor = Editor::with(&text);
    let mut said = |needle: &str| {
        let answer = editor.ask_behind("textDocument/hover", &text, needle);
        let said = answer["contents"]["value"].as_str();
        said.unwrap_or_default().to_owned()
    };
    assert!(said("source.bra").contains("Branch that is built"));
    assert!(said("{{ sou").contains("What is built"));
    assert!(said(".startsW").starts_with("`text.startsWith(start)`\n\nTrue when"));
    assert!(said("stri").contains("as text"));
    assert!(said("pick.resu").contains("`Cancelled`"));
    assert!(said("run.na").contains("Name of the run"));
    assert!(said("params.fr").contains("default: `apple`"));
    editor.close();
}

#[test]
fn hover_on_a_used_template_tells_what_it_does_and_takes() {
    let own = "stepTemplates:
    - name: prune
      description: Cuts the tree.
      inputs: [{name: depth, type: integer, default: 2}]
      steps: [{name: cut, run: 'true'}]
  jobs:";
    let text = PIPELINE.replace("  jobs:", &format!("  {own}")).replace(
        "{name: squeeze, run: 'true'}",
        "{name: squeeze, uses: {template: prune}}",
    );
    let mut editor = Editor::with(&text);
    let answer = editor.ask_behind("textDocument/hover", &text, "template: pru");
    let said = answer["contents"]["value"].as_str().unwrap();
    for part in [
        "step template **prune**",
        "Cuts the tree.",
        "`depth`",
        "default: `2`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    editor.close();
    let (mut editor, _folder, uri) = with_neighbour(USER);
    let line = USER
        .lines()
        .position(|line| line.contains("prune"))
        .unwrap();
    let character = USER.lines().nth(line).unwrap().find("prune").unwrap();
    let place =
        json!({"textDocument": {"uri": uri}, "position": {"line": line, "character": character}});
    let answer = editor.ask("textDocument/hover", place);
    let said = answer["contents"]["value"].as_str().unwrap();
    assert_eq!(
        said,
        "step template **prune** of **shared**\n\nInputs:\n\n- `depth`"
    );
    editor.close();
}

#[test]
fn definitions_of_jobs_params_steps_and_outputs_are_found() {
    let mut editor = Editor::with(PIPELINE);
    let mut line = |needle: &str| {
        let answer = editor.ask_behind("textDocument/definition", PIPELINE, needle);
        if !answer.is_null() {
            assert_eq!(answer["uri"], URI);
        }
        let start = &answer["range"]["start"];
        (start["line"].as_u64(), start["character"].as_u64())
    };
    assert_eq!(line("needs: [pi"), (Some(7), Some(12)));
    assert_eq!(line("params.fr"), (Some(5), Some(13)));
    assert_eq!(line("jobs.pi"), (Some(7), Some(12)));
    assert_eq!(line("jobs.pick.outputs.wei"), (Some(11), Some(23)));
    assert_eq!(line("steps.cli"), (Some(10), Some(17)));
    assert_eq!(line("image: lad"), (None, None));
    editor.close();
}

#[test]
fn what_the_server_does_not_know_is_refused_and_it_goes_on() {
    let mut editor = Editor::with(PIPELINE);
    let answer = editor.ask_whole("textDocument/rename", json!({}));
    assert_eq!(answer["error"]["code"], -32601);
    let answer = editor.ask_whole("textDocument/hover", json!({"textDocument": 1}));
    assert_eq!(answer["error"]["code"], -32602);
    let nowhere = json!({"textDocument": {"uri": URI}, "position": {"line": 99, "character": 99}});
    assert_eq!(editor.ask("textDocument/hover", nowhere), Value::Null);
    let unknown =
        json!({"textDocument": {"uri": "file:///x"}, "position": {"line": 0, "character": 0}});
    assert_eq!(editor.ask("textDocument/completion", unknown), Value::Null);
    editor.tell("textDocument/didOpen", json!({"textDocument": []}));
    editor.close();
}

#[test]
fn documents_of_others_are_left_alone() {
    let text = "services:\n  db: {image: tree}\n  db: {image: tree}\n  ";
    let mut editor = Editor::with(text);
    assert_eq!(editor.diagnostics()["diagnostics"], json!([]));
    assert!(
        editor
            .offered(text, "tree}\n  db: {image: tree}\n  ")
            .is_empty()
    );
    let hover = editor.ask_behind("textDocument/hover", text, "services:\n  db: {im");
    assert_eq!(hover, Value::Null);
    editor.close();
}

#[test]
fn an_editor_that_goes_away_ends_the_server() {
    let mut editor = Editor::with(PIPELINE);
    drop(editor.input.take());
    assert!(editor.server.wait().unwrap().code().is_some());
}

/// A Pipeline in a file beside the document, and a document that uses it.
fn with_neighbour(user: &str) -> (Editor, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let shared = PIPELINE.replace("name: orchard", "name: shared").replace(
        "  jobs:\n",
        "  stepTemplates:\n    - name: prune\n      inputs: [{name: depth, type: integer}]\n      \
         steps: [{name: cut, run: 'true'}]\n  jobs:\n",
    );
    std::fs::write(folder.path().join("shared.yaml"), shared).unwrap();
    let uri = format!("file://{}/user.yaml", folder.path().display());
    let mut editor = Editor::open();
    let document = json!({"uri": uri, "languageId": "yaml", "version": 1, "text": user});
    editor.tell("textDocument/didOpen", json!({"textDocument": document}));
    (editor, folder, uri)
}

const USER: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: user}
spec:
  jobs:
    - name: one
      uses: {pipeline: shared, job: pick}
      with: [{name: fruit, value: pear}]
    - name: two
      image: cellar
      steps:
        - {name: t, uses: {pipeline: shared, template: prune}, with: [{name: depth, value: 2}]}
";

#[test]
fn what_is_used_of_a_file_beside_the_document_is_offered_and_found() {
    let (mut editor, folder, uri) = with_neighbour(USER);
    assert_eq!(editor.diagnostics()["diagnostics"], json!([]));
    let place = |line: usize, part: &str| {
        let text = USER.lines().nth(line).unwrap();
        let character = text.find(part).unwrap() + 1;
        json!({"textDocument": {"uri": uri}, "position": {"line": line, "character": character}})
    };
    let labels = |answer: serde_json::Value| -> Vec<String> {
        let items = answer["items"].as_array().unwrap().clone();
        let labels = items
            .iter()
            .map(|item| item["label"].as_str().unwrap().to_owned());
        labels.collect()
    };
    for (line, part, expected) in [
        (6, "shared", vec!["shared", "user"]),
        (6, "pick", vec!["pick", "press-all"]),
        (7, "fruit", vec!["fruit"]),
        (11, "prune", vec!["prune"]),
        (11, "depth", vec!["depth"]),
    ] {
        let answer = editor.ask("textDocument/completion", place(line, part));
        assert_eq!(labels(answer), expected, "{part}");
    }
    let shared = format!("file://{}/shared.yaml", folder.path().display());
    let text = std::fs::read_to_string(folder.path().join("shared.yaml")).unwrap();
    for (line, part, declared) in [
        (6, "shared", "metadata: {name: shared"),
        (6, "pick", "    - name: pick"),
        (7, "fruit", "    - {name: fruit"),
        (11, "prune", "    - name: prune"),
        (11, "depth", "inputs: [{name: depth"),
    ] {
        let found = editor.ask("textDocument/definition", place(line, part));
        assert_eq!(found["uri"], shared, "{part}");
        let start = &found["range"]["start"];
        let at = text
            .lines()
            .nth(start["line"].as_u64().unwrap() as usize)
            .unwrap();
        assert!(at.contains(declared), "{part}: {at}");
        let name = &at[start["character"].as_u64().unwrap() as usize..];
        assert!(name.starts_with(part), "{part}: {name}");
    }
}

#[test]
fn a_wrong_name_of_a_file_beside_the_document_is_marked() {
    let (mut editor, _folder, _) = with_neighbour(&USER.replace("job: pick", "job: pikc"));
    let told = editor.diagnostics();
    let message = told["diagnostics"][0]["message"].as_str().unwrap();
    assert!(message.contains("did you mean `pick`?"), "{message}");
}
