//! Records of QUIC connections: there when asked for, and readable.
//! Must not check what quinn puts into them beyond their form.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use valkyrie::endpoint::{
    CallContext, CallError, CallOptions, Dialer, Handler, Method, Qlog, Server,
};
use valkyrie::identity::{Authority, IdentityStore, TrustBundle, TrustDomain};

struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn call(&self, _: CallContext, _: Method, body: Bytes) -> Result<Bytes, CallError> {
        Ok(body)
    }
}

/// Makes so many connections one after the other, each with a call, and ends all of them.
async fn traffic(record: Option<&Qlog>, connections: usize) {
    let domain = TrustDomain::parse("test.example").unwrap();
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let authority = Authority::generate(domain.clone(), now, 24 * hour).unwrap();
    let bundle = TrustBundle::from_pem(domain.clone(), &authority.root_pem()).unwrap();
    let identity = |path: &str| {
        let id = domain.member(path).unwrap();
        let credentials = authority.credentials(&id, &[], now, hour).unwrap();
        IdentityStore::new(credentials, bundle.clone())
    };
    let mut builder = Server::builder(identity("server"), Arc::new(Echo));
    if let Some(record) = record {
        builder = builder.qlog(record.clone());
    }
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = builder.listen_quic(local).start().await.unwrap();
    for _ in 0..connections {
        let mut dialer = Dialer::builder(identity("client")).quic(server.local_addr().unwrap());
        if let Some(record) = record {
            dialer = dialer.qlog(record.clone());
        }
        let patience = Duration::from_secs(50);
        let session = dialer.connect(patience).await.unwrap();
        let body = Bytes::from_static(b"recorded");
        let options = CallOptions::new(patience);
        let reply = session.call(Method(1), body.clone(), options).await;
        assert_eq!(reply.unwrap(), body);
        session.drain(patience).await;
    }
    server.shutdown(Duration::from_secs(50)).await;
}

/// The records of a file: JSON text sequences (RFC 7464), the head of the trace first.
fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let records = text
        .split('\u{1e}')
        .filter(|record| !record.trim().is_empty());
    records
        .map(|record| serde_json::from_str(record).unwrap())
        .collect()
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Connections end in tasks of their own; their last records are written when those are dropped.
fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work);
}

#[test]
fn a_connection_that_is_recorded_leaves_a_file_at_each_side() {
    let folder = tempfile::tempdir().unwrap();
    let record = Qlog::new(folder.path().join("made"));
    run(traffic(Some(&record), 1));
    let folder = folder.path().join("made");
    assert_eq!(files(&folder), ["accepted-1.sqlog", "dialed-0.sqlog"]);
    for file in files(&folder) {
        let records = records(&folder.join(&file));
        assert!(records[0]["qlog_version"].is_string(), "{}", records[0]);
        let events: Vec<&str> = records[1..]
            .iter()
            .map(|event| event["name"].as_str().unwrap())
            .collect();
        let about_packets = events.iter().any(|name| name.contains("packet_sent"));
        assert!(about_packets, "{file}: {events:?}");
        assert!(records[1..].iter().all(|event| event["time"].is_number()));
    }
}

#[test]
fn nobody_is_recorded_unless_asked_for_and_no_more_than_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    run(traffic(None, 1));
    assert!(files(folder.path()).is_empty());
    let few = Qlog::new(folder.path()).connections(3).bytes(4096);
    run(traffic(Some(&few), 3));
    assert_eq!(files(folder.path()).len(), 3);
    for file in files(folder.path()) {
        let length = std::fs::metadata(folder.path().join(file)).unwrap().len();
        assert!(length <= 4096, "{length} bytes");
    }
}
