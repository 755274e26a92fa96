//! What the state tables of `docs/protocol.md` say of wrong frames on a stream that a peer opened:
//! which code each is answered with. Over real QUIC on loopback.
//! Must not send anything that the tables allow.

use bytes::Bytes;
use quinn::VarInt;
use valkyrie::endpoint::{Code, Limits};
use valkyrie::wire::message::{Framed, NotifyHead, OpenHead};
use valkyrie::wire::{Frame, FrameType, frame};

use crate::attacks::{admitted, call, member, stage, unharmed};
use crate::intruders::client;
use crate::limits::failure;
use crate::service::*;
use crate::world::*;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// What the peer does after its bytes.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Waits,
    Ends,
    Resets,
}

/// The start of the row, the bytes, what follows them, and the code of the answer.
type Wrong = (&'static str, Bytes, Then, Code);

fn bytes_of(frames: &[Bytes]) -> Bytes {
    frames.concat().into()
}

fn of(kind: FrameType, payload: &'static [u8]) -> Bytes {
    let payload = Bytes::from_static(payload);
    Frame { kind, payload }.to_bytes()
}

fn notice() -> Bytes {
    let head = NotifyHead {
        method: TOLD.0,
        class: 1,
        ..NotifyHead::default()
    };
    head.to_frame().to_bytes()
}

/// The first frame of a duplex stream, without its head.
fn open() -> Bytes {
    let first = OpenHead {
        method: ECHO_STREAM.0,
        class: 2,
        ..OpenHead::default()
    };
    first.to_frame().to_bytes()
}

/// The first two bytes of a frame that never goes on.
fn half() -> Bytes {
    Bytes::from_static(&[0x14, 1])
}

fn large() -> Bytes {
    frame::header(FrameType::Data, Limits::default().data_frame + 1)
}

fn of_a_call() -> Vec<Wrong> {
    let broken = "| start, body | broken bytes, the end inside a frame |";
    let over = "| start, body | a frame over its limit |";
    let resets = "| start, body | the caller resets with a code |";
    let first = "| start | another known frame; NOTIFY without feature 2;";
    let wrong_data = "| body | DATA that is empty or longer than what is left |";
    let other = "| body | another known frame; the end |";
    let (bad, much) = (Code::InvalidArgument, Code::ResourceExhausted);
    let body = Limits::default().call_body as u64 + 1;
    let with = |rest: Bytes| bytes_of(&[call(ECHO, 3), rest]);
    let data = |payload| of(FrameType::Data, payload);
    let no_call = of(FrameType::Call, &[0xff]);
    vec![
        (first, of(FrameType::Reply, &[]), Then::Waits, bad),
        (first, data(b"x"), Then::Waits, bad),
        (first, no_call, Then::Waits, bad),
        (first, Bytes::new(), Then::Ends, bad),
        (
            "| start | `length` over limit `call_body` |",
            call(ECHO, body),
            Then::Waits,
            much,
        ),
        (wrong_data, with(data(b"")), Then::Waits, much),
        (wrong_data, with(data(b"four")), Then::Waits, much),
        (other, with(notice()), Then::Waits, bad),
        (other, with(data(b"x")), Then::Ends, bad),
        (
            broken,
            Bytes::from_static(&[0x40, 1, 1, 0]),
            Then::Waits,
            bad,
        ),
        (broken, with(half()), Then::Ends, bad),
        (over, large(), Then::Waits, much),
        (over, with(large()), Then::Waits, much),
        (
            resets,
            Bytes::from_static(&[0x10]),
            Then::Resets,
            Code::NotFound,
        ),
        (resets, with(data(b"x")), Then::Resets, Code::NotFound),
    ]
}

fn of_a_duplex_stream() -> Vec<Wrong> {
    let other = "| head | another known frame, broken bytes, the end |";
    let (bad, much) = (Code::InvalidArgument, Code::ResourceExhausted);
    let with = |rest: Bytes| bytes_of(&[open(), rest]);
    let no_open = of(FrameType::Open, &[0xff]);
    vec![
        (
            "| head | OPEN was not its message |",
            no_open,
            Then::Waits,
            bad,
        ),
        (other, with(notice()), Then::Waits, bad),
        (
            other,
            with(Bytes::from_static(&[0x14, 3])),
            Then::Waits,
            bad,
        ),
        (other, with(Bytes::new()), Then::Ends, bad),
        (
            "| head | a frame over its limit |",
            with(large()),
            Then::Waits,
            much,
        ),
        (
            "| head | the opener resets with a code |",
            with(Bytes::new()),
            Then::Resets,
            Code::NotFound,
        ),
    ]
}

fn of_notices() -> Vec<Wrong> {
    let broken = "| start, body, next | a NOTIFY that is not its message, broken bytes |";
    let over = "| body, next | a frame over its limit |";
    let (bad, much) = (Code::InvalidArgument, Code::ResourceExhausted);
    let data = || of(FrameType::Data, b"1");
    let body = |rest: Bytes| bytes_of(&[notice(), rest]);
    let next = |rest: Bytes| bytes_of(&[notice(), data(), rest]);
    let no_notice = || of(FrameType::Notify, &[0xff]);
    let resets = "| body, next | the sender resets with a code |";
    vec![
        (
            "| body | another known frame; the end | fails",
            body(notice()),
            Then::Waits,
            bad,
        ),
        (
            "| body | another known frame; the end | fails",
            body(Bytes::new()),
            Then::Ends,
            bad,
        ),
        (
            "| next | another known frame |",
            next(data()),
            Then::Waits,
            bad,
        ),
        (broken, no_notice(), Then::Waits, bad),
        (broken, next(no_notice()), Then::Waits, bad),
        (over, body(large()), Then::Waits, much),
        (over, next(large()), Then::Waits, much),
        (resets, body(Bytes::new()), Then::Resets, Code::NotFound),
    ]
}

/// The code that the row names, or none: then it is that of the peer.
fn check_row((row, _, then, code): &Wrong) {
    let found = DOCUMENT.lines().any(|line| {
        let says = line.contains(&format!("`{code:?}`"));
        line.starts_with(row) && (says || (*then == Then::Resets && line.contains("that code")))
    });
    assert!(found, "no row {row} with {code:?}");
}

async fn answered(connection: &quinn::Connection, wrong: &Wrong) {
    let (row, bytes, then, code) = wrong;
    let number = VarInt::from_u32(code.number());
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    match then {
        Then::Waits => {}
        Then::Ends => send.finish().unwrap(),
        Then::Resets => send.reset(number).unwrap(),
    }
    let answer = in_time(row, recv.read_to_end(2000)).await.unwrap();
    assert_eq!(failure(answer, FrameType::Fail).code, *code, "{row}");
    if *then == Then::Waits {
        let stopped = in_time(row, send.stopped()).await.unwrap();
        assert_eq!(stopped, Some(number), "{row}");
    }
}

#[tokio::test]
async fn a_wrong_frame_ends_its_stream_with_the_code_of_the_protocols_table() {
    let (world, honest) = stage(Limits::default()).await;
    let (connection, _send, _recv) = admitted(&world, member(&world)).await;
    let all = [of_a_call(), of_a_duplex_stream(), of_notices()].concat();
    for wrong in &all {
        check_row(wrong);
        answered(&connection, wrong).await;
        assert_eq!(connection.close_reason(), None, "{}", wrong.0);
    }
    unharmed(&honest).await;
}

#[tokio::test]
async fn a_peer_without_an_id_is_told_so_on_a_stream_that_it_may_not_open() {
    let (world, honest) = stage(Limits::default()).await;
    let (connection, _send, _recv) = admitted(&world, client(None)).await;
    let code = Code::Unauthenticated;
    let wrong = [
        ("| head | the peer has no id |", open(), Then::Waits, code),
        (
            "| start | NOTIFY of a peer without an id |",
            notice(),
            Then::Waits,
            code,
        ),
    ];
    for wrong in &wrong {
        check_row(wrong);
        answered(&connection, wrong).await;
    }
    unharmed(&honest).await;
}
