//! How a local run looks: plain, as JSON, on a terminal.
//! Must not test what a run does.

use std::io::Read;
use std::process::Stdio;

use crate::workspace::{Workspace, one_step};

const CHAIN: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: copse}
spec:
  jobs:
  - name: fell
    image: localhost/busybox:1
    steps:
    - {name: oil, run: echo oiled}
    - {name: saw, run: echo sawn; echo dull >&2; exit 3}
  - name: stack
    image: localhost/busybox:1
    needs: [fell]
    steps: [{name: pile, run: echo piled}]
  finally:
  - name: tidy
    image: localhost/busybox:1
    steps: [{name: rake, run: echo raked}]
";

#[test]
fn without_a_terminal_the_output_is_plain() {
    let ended = Workspace::new().run(CHAIN, &[]).with_code(1);
    insta::with_settings!({filters => vec![
        (r"copse-[a-z0-9]{5}", "copse-NAME"),
        (r"\d+\.\ds", "TIME"),
    ]}, {
        insta::assert_snapshot!(ended.out, @r"
        run copse-NAME of pipeline copse, 3 jobs
        job fell running
        [fell/oil] oiled
        [fell/saw] sawn
        [fell/saw] dull
        job fell failed in TIME: step `saw` exited with code 3
        job stack skipped: it needs job `fell`, which failed
        job tidy running
        [tidy/rake] raked
        job tidy succeeded in TIME

        JOB     STATE       TIME
        fell    failed      TIME
        stack   skipped
        tidy    succeeded   TIME

        fell failed: step `saw` exited with code 3
          last lines of step saw:
          | sawn
          | dull

        run copse-NAME failed in TIME
        ");
    });
    assert_eq!(ended.err, "");
}

#[test]
fn every_line_of_json_is_an_event_and_the_last_one_is_the_end() {
    let ended = Workspace::new().run(CHAIN, &["-o", "json"]).with_code(1);
    let events: Vec<serde_json::Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kind = |event: &serde_json::Value| event["event"].as_str().unwrap().to_owned();
    assert_eq!(kind(&events[0]), "start");
    let logs: Vec<String> = events
        .iter()
        .filter(|event| kind(event) == "log")
        .map(|event| format!("{}/{} {}", event["job"], event["step"], event["text"]))
        .collect();
    assert_eq!(
        logs,
        [
            r#""fell"/"oil" "oiled""#,
            r#""fell"/"saw" "sawn""#,
            r#""fell"/"saw" "dull""#,
            r#""tidy"/"rake" "raked""#,
        ]
    );
    let states: Vec<String> = events
        .iter()
        .filter(|event| kind(event) == "job")
        .map(|event| format!("{} {}", event["job"], event["state"]))
        .filter(|state| !state.contains("Pending") && !state.contains("Starting"))
        .collect();
    assert_eq!(
        states,
        [
            r#""fell" "Running""#,
            r#""fell" "Failed""#,
            r#""stack" "Skipped""#,
            r#""tidy" "Running""#,
            r#""tidy" "Succeeded""#,
        ]
    );
    let end = events.last().unwrap();
    assert_eq!(
        (kind(end).as_str(), end["result"].as_str()),
        ("end", Some("Failed"))
    );
    assert_eq!(end["exitCode"], 1);
    assert_eq!(end["run"]["kind"], "PipelineRun");
    assert_eq!(end["run"]["status"]["jobs"][0]["steps"][1]["exitCode"], 3);
}

#[test]
fn output_that_is_no_text_cannot_harm_the_terminal() {
    let script = r"printf 'a\033[2Jb\377c\000d\n'; printf 'no end'";
    let ended = Workspace::new().run(&one_step(script), &[]).with_code(0);
    ended
        .has("[fell/saw] ab\u{fffd}cd\n")
        .has("[fell/saw] no end\n")
        .has_not("\x1b");
}

/// Runs the program on a terminal; returns everything that it wrote.
fn on_a_terminal(no_color: bool) -> String {
    let workspace = Workspace::new();
    workspace.file(
        "pipeline.yaml",
        &one_step(r"sleep 0.3; printf '\033[31mred\033[0m\n'"),
    );
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = workspace.command(&["run", "pipeline.yaml"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = command
        .stdout(Stdio::from(terminal.slave))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The command holds the slave too; without it the read below ends with the child.
    drop(command);
    let mut master = std::fs::File::from(terminal.master);
    let mut written = Vec::new();
    let mut buffer = [0; 4096];
    // Linux reports the end of a terminal as an error.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        written.extend_from_slice(&buffer[..length]);
    }
    let written = String::from_utf8(written).unwrap();
    assert!(child.wait().unwrap().success(), "{written}");
    written
}

#[test]
fn a_terminal_shows_a_live_block_and_colors() {
    let written = on_a_terminal(false);
    assert!(written.contains("\r\x1b[1A\x1b[J"), "{written:?}");
    assert!(written.contains("\x1b[36mrunning"), "{written:?}");
    assert!(written.contains("\x1b[31mred\x1b[0m"), "{written:?}");
}

#[test]
fn with_no_color_a_terminal_shows_the_block_without_colors() {
    let written = on_a_terminal(true);
    assert!(written.contains("\r\x1b[1A\x1b[J"), "{written:?}");
    assert!(!written.contains("\x1b[3"), "{written:?}");
}
