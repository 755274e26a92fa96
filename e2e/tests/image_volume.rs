//! The agent delivered by an image volume: the operator's other way to put it into a pod.
//! A file of its own, since the other tests share the operator, whose settings change here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::JobState;
use e2e::in_cluster::job_log;
use e2e::namespace::{TestNamespace, job};
use e2e::operator;

const LIMIT: Duration = Duration::from_secs(120);
const PIPELINE: &str = "apiVersion: rustci.dev/v1alpha1
kind: Pipeline
metadata: {name: mounted}
spec:
  jobs:
    - name: look
      image: localhost/busybox:1
      steps:
        - {name: out, run: 'echo word=heron >> \"$RUSTCI_OUTPUT\"'}
        - {name: say, run: echo seen}
      outputs: [{name: word, value: '${{ steps.out.outputs.word }}'}]
    - name: use
      needs: [look]
      image: localhost/busybox:1
      env: [{name: WORD, value: '${{ jobs.look.outputs.word }}'}]
      steps: [{name: say, run: 'echo \"a $WORD\"'}]
";

async fn runs_with_a_mounted_agent(namespace: Arc<TestNamespace>) -> Result<()> {
    namespace.apply(PIPELINE).await?;
    let run = namespace.start("mounted").await?;
    let ended = namespace.ended(&run, LIMIT).await?;
    for name in ["look", "use"] {
        let found = job(&ended, name)?;
        ensure!(found.state == JobState::Succeeded, "{found:#?}");
    }
    ensure!(job_log(&namespace, &run, "use").await? == b"a heron\n");
    let pods = namespace.pods().await?;
    let pod = pods.first().context("the run has no pod")?;
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    ensure!(
        volumes.filter(|volume| volume.image.is_some()).count() == 1,
        "no image volume in {:#?}",
        pod.spec
    );
    Ok(())
}

#[tokio::test]
async fn an_agent_from_an_image_volume_runs_the_jobs() -> Result<()> {
    operator::set("RUSTCI_AGENT_DELIVERY=image-volume").await?;
    let tested = TestNamespace::with("mounted", runs_with_a_mounted_agent).await;
    operator::set("RUSTCI_AGENT_DELIVERY-").await?;
    tested
}
