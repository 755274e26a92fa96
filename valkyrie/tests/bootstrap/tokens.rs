//! Tokens: one that lets one peer in once, one in a file, renewal without them.
//! Must not use a token twice but to see it refused.

use std::sync::Arc;
use std::time::Duration;

use valkyrie::bootstrap::{
    self, Bootstrap, BootstrapError, ByToken, JoinToken, Renewals, TokenFile, TokenSource,
};
use valkyrie::endpoint::{Code, Peer};
use valkyrie::identity::IdentityStore;

use crate::stage::*;

fn token(stage: &Stage, seed: u8) -> JoinToken {
    let now = stage.clock.now();
    let mut tokens = stage.desk.desk.tokens();
    tokens
        .issue("docker", 15 * MINUTE, now, [seed; 40])
        .unwrap()
}

fn source(stage: &Stage, token: impl TokenSource + 'static) -> ByToken {
    ByToken::new(token, METHODS, stage.dialer(), stage.bundle())
}

async fn refused(source: &ByToken) {
    match bootstrap::first(source, Duration::from_secs(50)).await {
        Err(BootstrapError::Refused(error)) => assert_eq!(error.code, Code::Unauthenticated),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_join_token_lets_one_peer_into_its_pool_and_a_replay_is_refused() {
    let stage = Stage::new().await;
    let token = token(&stage, 1);
    let store = bootstrap::first(&source(&stage, token.clone()), MINUTE).await;
    let store = store.unwrap();
    stage.dial(&store).await;
    let expected = stage.id("pool/docker/agent/0101010101010101");
    assert_eq!(stage.last(), Peer::Spiffe(expected));
    refused(&source(&stage, token)).await;
    refused(&source(&stage, JoinToken::new("vkj1.guess"))).await;
}

#[tokio::test]
async fn a_join_token_does_not_count_after_its_time() {
    let stage = Stage::new().await;
    let late = source(&stage, token(&stage, 2));
    stage.clock.advance(16 * MINUTE);
    refused(&late).await;
    assert_eq!(
        stage.desk.desk.tokens().entries().count(),
        1,
        "until the next is issued"
    );
    token(&stage, 3);
    assert_eq!(stage.desk.desk.tokens().entries().count(), 1);
}

#[tokio::test]
async fn of_many_that_come_with_one_token_one_gets_in() {
    let stage = Stage::new().await;
    let token = token(&stage, 4);
    let mut rush = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let source = source(&stage, token.clone());
        rush.spawn(async move { bootstrap::first(&source, MINUTE).await.is_ok() });
    }
    let inside = rush.join_all().await.into_iter().filter(|inside| *inside);
    assert_eq!(inside.count(), 1);
}

#[tokio::test]
async fn an_identity_by_token_is_renewed_without_it_and_no_stream_breaks() {
    let stage = Stage::new().await;
    let source = Arc::new(source(&stage, token(&stage, 5)));
    let issued = source.first().await.unwrap();
    let first = issued.credentials.serial().clone();
    let clock = stage.clock.clone();
    let store = IdentityStore::with(Some(issued.credentials), issued.bundle, clock);
    let session = stage.dial(&store).await;
    source.renew_over(session.clone());
    let renewals = Arc::new(Renewals::default());
    let keeping = tokio::spawn({
        let (source, store, renewals) = (source.clone(), store.clone(), renewals.clone());
        async move { bootstrap::keep_fresh(&*source, &store, &renewals).await }
    });
    let mut stream = Stream::open(&session).await;
    stage.clock.advance(41 * MINUTE);
    counted("the renewal", &renewals.renewed, 1).await;
    assert_ne!(*store.credentials().unwrap().serial(), first);
    stream.goes_on().await;
    stage.clock.advance(15 * MINUTE);
    counted("the rotation", &stage.server.metrics().rotations, 1).await;
    stream.goes_on().await;
    let asked = (stage.desk.issued.value(), stage.desk.renewed.value());
    assert_eq!((asked, renewals.failed.value()), ((1, 1), 0));
    keeping.abort();
}

#[tokio::test]
async fn a_renewal_without_a_session_dials_and_an_ended_certificate_needs_a_token_again() {
    let stage = Stage::new().await;
    let source = source(&stage, token(&stage, 6));
    let issued = source.first().await.unwrap();
    let clock = stage.clock.clone();
    let store = IdentityStore::with(Some(issued.credentials), issued.bundle, clock);
    stage.clock.advance(41 * MINUTE);
    let (next, ()) = tokio::join!(source.next(&store), async {
        tokio::task::yield_now().await;
        stage.clock.advance(MINUTE);
    });
    let next = in_time("the renewal", async { next }).await.unwrap();
    assert_eq!(next.credentials.id(), store.credentials().unwrap().id());
    // It was not taken, and the one in use ends.
    stage.clock.advance(20 * MINUTE);
    let (again, ()) = tokio::join!(source.next(&store), async {
        tokio::task::yield_now().await;
        stage.clock.advance(MINUTE);
    });
    assert!(again.unwrap_err().is_final(), "the token was used");
    let asked = (stage.desk.issued.value(), stage.desk.renewed.value());
    assert_eq!(asked, (2, 1));
}

#[tokio::test]
async fn a_token_in_a_file_is_read_anew_each_time() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let by_file = source(&stage, TokenFile(path.clone()));
    let missing = by_file.first().await.unwrap_err();
    assert!(
        matches!(missing, BootstrapError::Source { .. }),
        "{missing}"
    );
    std::fs::write(&path, " \n").unwrap();
    let empty = by_file.first().await.unwrap_err();
    assert!(empty.to_string().contains("holds no token"), "{empty}");
    for seed in [7, 8] {
        std::fs::write(&path, format!("{}\n", token(&stage, seed).reveal())).unwrap();
        by_file.first().await.unwrap();
    }
    let shown = format!("{:?}", by_file.first().await.unwrap_err());
    assert!(!shown.contains(&"08".repeat(32)), "{shown}");
}
