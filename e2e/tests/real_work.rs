//! Real work in both modes: clone a repository over the network, build a program, test it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::from_environment;
use e2e::in_cluster::job_log;
use e2e::namespace::TestNamespace;
use e2e::rustci::{rustci, rustci_in_cluster};
use tokio::process::{Child, Command};

const LIMIT: Duration = Duration::from_secs(900);

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("e2e's parent")
        .to_owned()
}

/// A Git repository with a C program and its test, served on this machine.
struct GitServer {
    _folder: tempfile::TempDir,
    _daemon: Child,
    url: String,
}

impl GitServer {
    async fn start() -> Result<Self> {
        let address = from_environment("RUSTCI_E2E_HOST_IP")?;
        let address = address.to_str().context("RUSTCI_E2E_HOST_IP")?.to_owned();
        let folder = tempfile::tempdir()?;
        let repository = folder.path().join("greeter");
        std::fs::create_dir(&repository)?;
        for (name, content) in FILES {
            std::fs::write(repository.join(name), content)?;
        }
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "."],
            &[
                "-c",
                "user.name=e2e",
                "-c",
                "user.email=e2e@localhost",
                "commit",
                "-qm",
                "greeter",
            ],
        ] {
            let status = Command::new("git")
                .current_dir(&repository)
                .args(arguments)
                .status()
                .await?;
            ensure!(status.success(), "git {arguments:?}: {status}");
        }
        let port = free_port(&address)?;
        let daemon = Command::new(git_daemon().await?)
            .args(["--reuseaddr", "--export-all", "--log-destination=none"])
            .arg(format!("--listen={address}"))
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", folder.path().display()))
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let url = format!("git://{address}:{port}/greeter");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !Command::new("git")
            .args(["ls-remote", &url])
            .output()
            .await?
            .status
            .success()
        {
            ensure!(
                tokio::time::Instant::now() < deadline,
                "git daemon does not serve {url}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self {
            _folder: folder,
            _daemon: daemon,
            url,
        })
    }
}

/// The daemon itself: `git daemon` would leave it behind when killed.
async fn git_daemon() -> Result<PathBuf> {
    let output = Command::new("git").arg("--exec-path").output().await?;
    ensure!(
        output.status.success(),
        "git --exec-path: {}",
        output.status
    );
    let folder = String::from_utf8(output.stdout)?;
    Ok(Path::new(folder.trim_end()).join("git-daemon"))
}

fn free_port(address: &str) -> Result<u16> {
    Ok(std::net::TcpListener::bind((address, 0))?
        .local_addr()?
        .port())
}

const FILES: &[(&str, &str)] = &[
    (
        "greet.c",
        "#include <stdio.h>\nint main(int n, char **a) {\n  printf(\"greetings, %s\\n\", n > 1 ? \
         a[1] : \"nobody\");\n  return 0;\n}\n",
    ),
    (
        "Makefile",
        "greet: greet.c\n\tcc -O2 -Wall -Werror -o $@ $<\n\ntest: greet\n\t[ \"$$(./greet forge)\" \
         = \"greetings, forge\" ]\n\t[ \"$$(./greet)\" = \"greetings, nobody\" ]\n\techo \"all \
         tests passed\"\n",
    ),
];

#[tokio::test]
async fn a_repository_is_cloned_built_and_tested_in_both_modes() -> Result<()> {
    let server = GitServer::start().await?;
    let example = checkout().join("examples/git-build.yaml");
    let param = format!("url={}", server.url);

    let folder = tempfile::tempdir()?;
    let local = rustci()?
        .current_dir(folder.path())
        .arg("run")
        .arg(&example)
        .args(["--param", &param])
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&local.stdout);
    ensure!(
        local.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&local.stderr)
    );
    ensure!(printed.contains("all tests passed"), "{printed}");

    TestNamespace::with("git", move |namespace| async move {
        let _server = server;
        namespace.apply(&std::fs::read_to_string(&example)?).await?;
        let started = rustci_in_cluster()?
            .args([
                "start",
                "git-build",
                "--wait",
                "--param",
                &param,
                "-n",
                &namespace.name,
            ])
            .output();
        let started = tokio::time::timeout(LIMIT, started).await??;
        ensure!(
            started.status.success(),
            "{}",
            String::from_utf8_lossy(&started.stderr)
        );
        let run = namespace.runs().await?.pop().context("no run")?;
        let run: crds::PipelineRun = namespace.api().get(&run).await?;
        let mut logs = String::new();
        for job in run.status.iter().flat_map(|status| &status.jobs) {
            let name = run.metadata.name.as_deref().unwrap_or_default();
            logs += &String::from_utf8_lossy(&job_log(&namespace, name, &job.name).await?);
        }
        ensure!(logs.contains("all tests passed"), "{logs}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_planners_own_tests_run_as_a_pipeline() -> Result<()> {
    let checkout = checkout();
    let folder = tempfile::tempdir()?;
    let mut command = rustci()?;
    for (variable, _) in std::env::vars_os() {
        // What cargo tells its own children would lead the cargo of the pipeline astray.
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" && name != "CARGO_TARGET_DIR" {
            command.env_remove(&variable);
        }
    }
    let output = command
        .current_dir(folder.path())
        .arg("run")
        .arg(checkout.join("examples/planner-tests.yaml"))
        .arg("--workdir")
        .arg(&checkout)
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(printed.contains("test result: ok"), "{printed}");
    Ok(())
}
