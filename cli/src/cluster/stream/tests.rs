//! Tests of reading logs, against a real HTTP server that breaks in the ways an operator does.
//! Must not need a cluster.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use crds::{PipelineRunSpec, PipelineRunStatus};
use kube::{Client, Config};
use parking_lot::Mutex;

use super::*;
use crate::view::StepProgress;

fn key() -> StepKey {
    StepKey {
        job: "fell".to_owned(),
        attempt: 2,
        index: 3,
        step: "saw".to_owned(),
    }
}

#[test]
fn a_log_is_read_through_the_service_proxy() {
    let access = LogAccess {
        service: "ci/rustci-api:8080".to_owned(),
        token: "t".to_owned(),
        address: None,
    };
    assert_eq!(
        log_path(&access, "copse", "u-1", &key()).unwrap(),
        "/api/v1/namespaces/ci/services/http:rustci-api:8080/proxy/v1/namespaces/copse/runs/\
         u-1/jobs/fell/attempts/2/steps/3/log"
    );
}

#[test]
fn a_service_without_namespace_or_port_is_refused() {
    for service in ["rustci-api:8080", "ci/rustci-api"] {
        let access = LogAccess {
            service: service.to_owned(),
            token: String::new(),
            address: None,
        };
        let text = log_path(&access, "copse", "u-1", &key()).unwrap_err();
        assert_eq!(text, format!("`{service}` is no NAMESPACE/NAME:PORT"));
    }
}

#[test]
fn waits_grow_to_a_limit() {
    let mut trouble = Trouble::default();
    let waits: Vec<_> = (0..8).map(|_| trouble.next_wait()).collect();
    assert_eq!((waits[0], waits[1]), (FIRST_WAIT, FIRST_WAIT * 2));
    assert_eq!(waits[7], LONGEST_WAIT);
}

/// What the server does with one request.
enum Reply {
    /// Sends these bytes and ends the body.
    Whole(&'static str),
    /// Sends these bytes and breaks the connection within the body.
    Broken(&'static str),
    /// Answers with this status and body.
    Status(u16, &'static str),
}

/// Serves the replies one after the other; returns the requests' paths and tokens.
fn serve(replies: Vec<Reply>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let noted = requests.clone();
    std::thread::spawn(move || {
        for reply in replies {
            let (stream, _) = listener.accept().unwrap();
            noted.lock().push(request_of(&stream));
            answer(stream, &reply);
        }
    });
    (format!("http://{address}"), requests)
}

/// Query and token of a request.
fn request_of(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let query = lines[0].split(['?', ' ']).nth(2).unwrap();
    let token = lines
        .iter()
        .find_map(|line| line.strip_prefix("x-rustci-log-token: "));
    format!("{query} {}", token.unwrap_or("-"))
}

fn answer(mut stream: TcpStream, reply: &Reply) {
    let chunked = |text: &str| {
        let chunk = match text {
            "" => String::new(),
            text => format!("{:x}\r\n{text}\r\n", text.len()),
        };
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}")
    };
    let text = match reply {
        Reply::Whole(text) => chunked(text) + "0\r\n\r\n",
        Reply::Broken(text) => chunked(text),
        Reply::Status(code, text) => format!(
            "HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        ),
    };
    stream.write_all(text.as_bytes()).unwrap();
}

/// Reads a log from such a server, its job being in this state.
async fn read(
    replies: Vec<Reply>,
    step: StepProgress,
    ended: bool,
) -> (Result<(), String>, String, Vec<String>) {
    let (url, requests) = serve(replies);
    let (result, text) = read_from(&url, None, step, ended).await;
    let requests = requests.lock().clone();
    (result, text, requests)
}

/// Reads with this API server, and an operator that is outside the cluster or within.
async fn read_from(
    url: &str,
    address: Option<String>,
    step: StepProgress,
    ended: bool,
) -> (Result<(), String>, String) {
    let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
    let cluster = Cluster {
        client,
        namespace: "copse".to_owned(),
    };
    let mut run = PipelineRun::new("oak-1", PipelineRunSpec::default());
    let access = LogAccess {
        service: "ci/api:80".to_owned(),
        token: "t0".to_owned(),
        address,
    };
    run.status = Some(PipelineRunStatus {
        logs: Some(access),
        ..PipelineRunStatus::default()
    });
    let (_run, run) = watch::channel(Some(Arc::new(run)));
    let key = StepKey { index: 0, ..key() };
    let (_progress, progress) = watch::channel(JobProgress {
        steps: vec![step],
        ended,
    });
    let (sender, mut pieces) = mpsc::channel(100);
    let result = LogStream::new(cluster, run)
        .read_all(&key, progress, &sender)
        .await;
    drop(sender);
    let mut text = Vec::new();
    while let Some(piece) = pieces.recv().await {
        if let Piece::Bytes(_, bytes) = piece {
            text.extend_from_slice(&bytes);
        }
    }
    (result, String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn after_a_broken_connection_reading_goes_on_at_the_next_byte() {
    let replies = vec![
        Reply::Broken("hel"),
        Reply::Status(503, "not the leader"),
        Reply::Broken(""),
        Reply::Whole("lo\n"),
        Reply::Whole(""),
    ];
    let (result, text, requests) = read(replies, StepProgress::Finished, false).await;
    assert_eq!((result, text.as_str()), (Ok(()), "hello\n"));
    assert_eq!(
        requests,
        [
            "follow=true&offset=0 t0",
            "follow=true&offset=3 t0",
            "follow=true&offset=3 t0",
            "follow=true&offset=3 t0",
            "follow=true&offset=6 t0",
        ]
    );
}

#[tokio::test]
async fn an_operator_outside_the_cluster_is_asked_itself() {
    let (url, requests) = serve(vec![Reply::Whole("all\n")]);
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let nobody = "http://127.0.0.1:1";
    let read = read_from(nobody, Some(address), StepProgress::Finished, true).await;
    assert_eq!(read, (Ok(()), "all\n".to_owned()));
    assert_eq!(*requests.lock(), ["follow=false&offset=0 t0"]);
}

#[test]
fn an_address_is_an_address_and_no_url() {
    for address in ["operator.example:80", "http://127.0.0.1:80", "127.0.0.1"] {
        let text = direct(address).err();
        assert_eq!(text, Some(format!("`{address}` is no IP:PORT")));
    }
}

#[test]
fn who_does_not_answer_is_named_with_a_remedy() {
    let told = |answer: Answer| match answer {
        Answer::Broken(text) => text,
        _ => panic!("not broken"),
    };
    let access = |address: Option<&str>| LogAccess {
        service: "ci/api:80".to_owned(),
        token: String::new(),
        address: address.map(str::to_owned),
    };
    let status = kube::core::Status {
        code: 503,
        message: "no endpoints available for service \"http:api:80\"".to_owned(),
        ..kube::core::Status::default()
    };
    let inside = told(refusal(&kube::Error::Api(Box::new(status)), &access(None)));
    assert!(inside.contains("`kubectl -n ci get pods`"), "{inside}");
    let silent = kube::Error::Service("connection refused".into());
    let outside = told(refusal(&silent, &access(Some("10.0.0.7:80"))));
    assert!(
        outside.contains("10.0.0.7:80") && outside.contains("--data-dir"),
        "{outside}"
    );
}

#[tokio::test]
async fn of_an_ended_job_what_is_stored_is_read_once() {
    let (result, text, requests) =
        read(vec![Reply::Whole("all\n")], StepProgress::Finished, true).await;
    assert_eq!((result, text.as_str()), (Ok(()), "all\n"));
    assert_eq!(requests, ["follow=false&offset=0 t0"]);
}

#[tokio::test]
async fn a_step_without_a_log_is_empty_and_a_refused_one_is_an_error() {
    let none = vec![Reply::Status(404, "no such log")];
    let (result, text, _) = read(none, StepProgress::Finished, true).await;
    assert_eq!((result, text.as_str()), (Ok(()), ""));
    let refused = vec![Reply::Status(403, "wrong token")];
    let (result, _, _) = read(refused, StepProgress::Finished, true).await;
    assert!(result.unwrap_err().contains("the logs are refused"));
}
