//! Reads the log of a step from the operator, through the API server's service proxy, or at the
//! operator's own address when it runs outside the cluster.
//! Must not lose or repeat a byte: after a broken connection it asks for what comes next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crds::{JobOrigin, LogAccess, PipelineRun, PipelineRunStatus};
use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, FutureExt};
use http::Request;
use kube::{Client, Config, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::connect::{Cluster, status};
use crate::failure::chain;
use crate::view::{JobProgress, LogSource, Piece, StepKey};

/// Header that carries `status.logs.token`.
const TOKEN_HEADER: &str = "X-RustCI-Log-Token";
/// Time for a connection to an operator outside the cluster.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Wait before the first new try, doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Time without an answer after which the user is told.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time without an answer after which the log of an ended job is given up.
const GIVE_UP: Duration = Duration::from_secs(120);
/// What the API server says of a service without a ready pod.
const NO_ENDPOINTS: &str = "no endpoints available";

/// The logs of one run.
pub(super) struct LogStream {
    cluster: Cluster,
    run: watch::Receiver<Option<Arc<PipelineRun>>>,
}

/// How one request went.
enum Answer {
    /// The body came to its end, after this many bytes.
    End(u64),
    /// The job ended while the body was open.
    JobEnded,
    /// The operator has no such log.
    Nothing,
    /// It did not work; another try may.
    Broken(String),
    /// It will never work.
    Refused(String),
    /// Nobody wants the bytes any more.
    Unwanted,
}

impl LogStream {
    /// A reader of the logs of the newest `run`.
    pub(super) fn new(cluster: Cluster, run: watch::Receiver<Option<Arc<PipelineRun>>>) -> Self {
        Self { cluster, run }
    }

    async fn read_all(
        &self,
        key: &StepKey,
        mut progress: watch::Receiver<JobProgress>,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<(), String> {
        let mut offset = 0;
        let mut trouble = Trouble::default();
        loop {
            let seen = progress.borrow_and_update().clone();
            let follow = !seen.ended;
            let before = offset;
            let answer = self
                .ask(key, &mut offset, follow, &mut progress, pieces)
                .await;
            if offset > before {
                trouble = Trouble::default();
            }
            match answer {
                Answer::Unwanted => return Ok(()),
                Answer::Refused(text) => return Err(text),
                Answer::JobEnded => continue,
                Answer::End(_) | Answer::Nothing if !follow => return Ok(()),
                // A second, empty body proves that the first did not end with the operator.
                Answer::End(0) if seen.is_finished(key.index) => return Ok(()),
                Answer::End(0) | Answer::Nothing => {}
                Answer::End(_) => continue,
                Answer::Broken(text) => {
                    if let Some(notice) = trouble.notice(&text) {
                        let _ = pieces.send(Piece::Trouble(notice)).await;
                    }
                    if !follow && trouble.since.elapsed() > GIVE_UP {
                        return Err(format!(
                            "the log of {}/{} is lost: {text}",
                            key.job, key.step
                        ));
                    }
                }
            }
            let wait = trouble.next_wait();
            let _ = tokio::time::timeout(wait, progress.changed()).await;
            if progress.has_changed().is_err() {
                sleep(wait).await;
            }
        }
    }

    /// One request for the bytes from `offset` on, which moves with every byte handed over.
    async fn ask(
        &self,
        key: &StepKey,
        offset: &mut u64,
        follow: bool,
        progress: &mut watch::Receiver<JobProgress>,
        pieces: &mpsc::Sender<Piece>,
    ) -> Answer {
        let (uid, access) = match self.access(&key.job).await {
            Ok(access) => access,
            Err(answer) => return answer,
        };
        let request = self.request(key, &uid, &access, *offset, follow);
        let asked = request.and_then(|request| Ok((self.client(&access)?, request)));
        let (client, request) = match asked {
            Ok(asked) => asked,
            Err(text) => return Answer::Broken(text),
        };
        let body = match client.request_stream(request).await {
            Ok(body) => body,
            Err(error) => return refusal(&error, &access),
        };
        let mut body = std::pin::pin!(body);
        let mut count = 0;
        loop {
            let bytes = tokio::select! {
                biased;
                bytes = next_bytes(&mut body) => bytes,
                _ = progress.wait_for(|progress| progress.ended), if follow => {
                    return Answer::JobEnded;
                }
            };
            match bytes {
                Ok(bytes) if bytes.is_empty() => return Answer::End(count),
                Ok(bytes) => {
                    let length = bytes.len() as u64;
                    if pieces.send(Piece::Bytes(key.clone(), bytes)).await.is_err() {
                        return Answer::Unwanted;
                    }
                    *offset += length;
                    count += length;
                }
                Err(error) => return Answer::Broken(chain(&error)),
            }
        }
    }

    /// The uid of the run that has a job's log, and the way there, as that run says now.
    async fn access(&self, job: &str) -> Result<(String, LogAccess), Answer> {
        let broken = |text: &str| Answer::Broken(text.to_owned());
        let run = self.run.borrow().clone();
        let run = run.ok_or_else(|| broken("the run is not known yet"))?;
        let PipelineRunStatus { jobs, logs, .. } = status(&run);
        let origin = jobs.into_iter().find(|known| known.name == job);
        if let Some(origin) = origin.and_then(|known| known.from_run) {
            return self.access_of(job, &origin).await;
        }
        let access = logs.ok_or_else(|| broken("the run tells no way to its logs yet"))?;
        Ok((run.uid().unwrap_or_default(), access))
    }

    /// The same for a job that was taken over: its log stays with the run in which it ran.
    async fn access_of(
        &self,
        job: &str,
        origin: &JobOrigin,
    ) -> Result<(String, LogAccess), Answer> {
        let read = self.cluster.runs().get_opt(&origin.name).await;
        let run = read.map_err(|error| Answer::Broken(chain(&error)))?;
        let run = run.filter(|run| run.uid().as_ref() == Some(&origin.uid));
        let access = run.and_then(|run| run.status?.logs);
        let gone = || {
            let name = &origin.name;
            Answer::Refused(format!(
                "the log of job {job} was with the run {name}, in which it ran and which is gone"
            ))
        };
        Ok((origin.uid.clone(), access.ok_or_else(gone)?))
    }

    fn client(&self, access: &LogAccess) -> Result<Client, String> {
        match &access.address {
            None => Ok(self.cluster.client.clone()),
            Some(address) => direct(address),
        }
    }

    fn request(
        &self,
        key: &StepKey,
        run_uid: &str,
        access: &LogAccess,
        offset: u64,
        follow: bool,
    ) -> Result<Request<Vec<u8>>, String> {
        let path = log_path(access, &self.cluster.namespace, run_uid, key)?;
        let uri = format!("{path}?follow={follow}&offset={offset}");
        let request = Request::get(uri)
            .header(TOKEN_HEADER, &access.token)
            .body(Vec::new());
        request.map_err(|error| chain(&error))
    }
}

impl LogSource for LogStream {
    fn read<'a>(
        &'a self,
        key: &'a StepKey,
        progress: watch::Receiver<JobProgress>,
        pieces: &'a mpsc::Sender<Piece>,
    ) -> BoxFuture<'a, Result<(), String>> {
        self.read_all(key, progress, pieces).boxed()
    }
}

/// The next bytes of a body; none at its end.
async fn next_bytes(body: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Bytes> {
    let mut buffer = vec![0; READ_BYTES];
    let length = body.read(&mut buffer).await?;
    buffer.truncate(length);
    Ok(Bytes::from(buffer))
}

/// A client of an operator outside the cluster. Only an address will do, so that a run's status
/// cannot have names looked up.
fn direct(address: &str) -> Result<Client, String> {
    let parsed: Result<SocketAddr, _> = address.parse();
    let parsed = parsed.map_err(|_| format!("`{address}` is no IP:PORT"))?;
    let uri = format!("http://{parsed}").parse();
    let uri = uri.map_err(|error: http::uri::InvalidUri| chain(&error))?;
    let mut config = Config::new(uri);
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| chain(&error))
}

/// Sorts the errors of a request.
fn refusal(error: &kube::Error, access: &LogAccess) -> Answer {
    let status = match (error, &access.address) {
        (kube::Error::Api(status), _) => status,
        (other, None) => return Answer::Broken(chain(other)),
        (other, Some(address)) => {
            return Answer::Broken(format!(
                "the operator at {address}, outside the cluster, does not answer; start it again \
                 with the same --data-dir ({})",
                chain(other)
            ));
        }
    };
    // An answer of the API server itself names the object it is about, the operator's does not.
    let from_api_server = status.details.is_some();
    match status.code {
        404 if !from_api_server => Answer::Nothing,
        404 => Answer::Broken("the operator's service is missing; is RustCI installed?".to_owned()),
        503 if status.message.contains(NO_ENDPOINTS) => {
            let namespace = access.service.split('/').next().unwrap_or_default();
            Answer::Broken(format!(
                "no operator is ready in the cluster: look at `kubectl -n {namespace} get pods`"
            ))
        }
        401 | 403 => Answer::Refused(format!("the logs are refused: {}", status.message)),
        code => Answer::Broken(format!("HTTP {code}: {}", status.message)),
    }
}

/// The path of a step's log below the API server, where the service is `NAMESPACE/NAME:PORT`, or
/// below the operator itself.
pub(super) fn log_path(
    access: &LogAccess,
    namespace: &str,
    run_uid: &str,
    key: &StepKey,
) -> Result<String, String> {
    let proxy = match &access.address {
        Some(_) => String::new(),
        None => proxy_path(&access.service)?,
    };
    let StepKey {
        job,
        attempt,
        index,
        step: _,
    } = key;
    Ok(format!(
        "{proxy}/v1/namespaces/{namespace}/runs/{run_uid}/jobs/{job}/attempts/{attempt}/steps/\
         {index}/log"
    ))
}

fn proxy_path(service: &str) -> Result<String, String> {
    let (namespace, name) = service
        .split_once('/')
        .filter(|(_, name)| name.contains(':'))
        .ok_or_else(|| format!("`{service}` is no NAMESPACE/NAME:PORT"))?;
    Ok(format!(
        "/api/v1/namespaces/{namespace}/services/http:{name}/proxy"
    ))
}

/// The tries that did not work, since the last that did.
struct Trouble {
    since: Instant,
    wait: Duration,
    told: bool,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            wait: FIRST_WAIT,
            told: false,
        }
    }
}

impl Trouble {
    /// The wait before the next try.
    fn next_wait(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }

    /// What the user is told, once, when it takes long.
    fn notice(&mut self, text: &str) -> Option<String> {
        let is_news = !self.told && self.since.elapsed() > PATIENCE;
        self.told |= is_news;
        is_news.then(|| format!("the logs cannot be read, trying again: {text}"))
    }
}

#[cfg(test)]
mod tests;
