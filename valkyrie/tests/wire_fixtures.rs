//! The bytes of every frame as files that other implementations can use, in both directions.
//! Must not be changed to make a test pass: these bytes are what released peers send.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use valkyrie::wire::message::{
    CallHead, Failure, Framed, GREASE_FIELDS, Goaway, Hello, HelloAck, NotifyHead, OpenHead,
    Progress, ReplyHead, WireLimits,
};
use valkyrie::wire::{Caps, Decoder, Frame, FrameType, WireError};

const CAPS: Caps = Caps {
    control: 1024,
    data: 2048,
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    assert_eq!(digits.len() % 2, 0, "half a byte in {text:?}");
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn fixture(name: &str) -> Bytes {
    let path = folder().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    unhex(&lines.collect::<String>())
}

fn decode(bytes: Bytes) -> Result<Vec<Frame>, WireError> {
    let mut decoder = Decoder::new(CAPS);
    decoder.push(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    decoder.finish()?;
    Ok(frames)
}

/// A message, its frame type, and that it comes back from the frame.
fn framed<M: Framed + PartialEq + std::fmt::Debug>(message: &M, kind: FrameType) -> Frame {
    let frame = message.to_frame_as(kind);
    assert_eq!(&M::from_frame(frame.clone()).unwrap(), message, "{kind:?}");
    frame
}

fn raw(kind: FrameType, payload: &'static [u8]) -> Frame {
    let payload = Bytes::from_static(payload);
    Frame { kind, payload }
}

fn limits() -> Option<WireLimits> {
    Some(WireLimits {
        control_frame: 65_536,
        data_frame: 262_144,
        call_body: 1_048_576,
        idle_ms: 45_000,
        keep_alive_ms: 15_000,
    })
}

fn hello() -> Hello {
    Hello {
        min_version: 1,
        max_version: 2,
        features: vec![0x21],
        limits: limits(),
        build: "t/1".into(),
        session: Bytes::from(vec![0xaa; 16]),
        secret: Bytes::from(vec![0xbb; 32]),
        beside: false,
    }
}

/// Every fixture with the frame that it holds.
fn fixtures() -> Vec<(&'static str, Frame)> {
    let ack = HelloAck {
        version: 1,
        features: vec![],
        limits: limits(),
        build: "t/1".into(),
        session: Bytes::from(vec![0xaa; 16]),
        secret: Bytes::from(vec![0xbb; 32]),
        resumed: true,
    };
    let failure = Failure {
        code: 5,
        retryable: true,
        retry_after_ms: 250,
        detail: "no".into(),
    };
    let goaway = |successor: &str| Goaway {
        deadline_ms: 30_000,
        successor: successor.into(),
    };
    let call = CallHead {
        method: 16,
        class: 1,
        deadline_ms: 5000,
        length: 3,
        ..CallHead::default()
    };
    let traced = CallHead {
        number: 9,
        traceparent: PARENT.into(),
        tracestate: "a=1".into(),
        ..call.clone()
    };
    let notice = NotifyHead {
        method: 32,
        class: 2,
        ..NotifyHead::default()
    };
    let after_a_gap = NotifyHead {
        number: 7,
        dropped: 2,
        dropped_bytes: 300,
        traceparent: PARENT.into(),
        ..notice.clone()
    };
    let open = OpenHead {
        method: 48,
        class: 2,
        ..OpenHead::default()
    };
    let numbered = OpenHead {
        class: 3,
        number: 5,
        ..open.clone()
    };
    let traced_open = OpenHead {
        traceparent: PARENT.into(),
        ..open.clone()
    };
    let progress = Progress {
        stream: 5,
        mine: true,
        received: 65_536,
    };
    vec![
        ("hello", framed(&hello(), FrameType::Hello)),
        ("hello-ack", framed(&ack, FrameType::HelloAck)),
        ("refuse", framed(&failure, FrameType::Refuse)),
        ("fail", framed(&failure, FrameType::Fail)),
        ("goaway", framed(&goaway(""), FrameType::Goaway)),
        (
            "goaway-successor",
            framed(&goaway("b:1"), FrameType::Goaway),
        ),
        ("call", framed(&call, FrameType::Call)),
        ("call-traced", framed(&traced, FrameType::Call)),
        ("notify", framed(&notice, FrameType::Notify)),
        ("notify-gap", framed(&after_a_gap, FrameType::Notify)),
        ("reply", framed(&ReplyHead { length: 3 }, FrameType::Reply)),
        ("open", framed(&open, FrameType::Open)),
        ("open-traced", framed(&traced_open, FrameType::Open)),
        ("open-numbered", framed(&numbered, FrameType::Open)),
        ("progress", framed(&progress, FrameType::Progress)),
        ("ping", raw(FrameType::Ping, &[1, 2, 3, 4, 5, 6, 7, 8])),
        ("pong", raw(FrameType::Pong, &[1, 2, 3, 4, 5, 6, 7, 8])),
        ("data", raw(FrameType::Data, &[1, 2, 3, 4, 5, 6, 7, 8])),
        ("data-empty", raw(FrameType::Data, &[])),
    ]
}

#[test]
fn the_bytes_of_each_frame_are_fixed_in_both_directions() {
    for (name, frame) in fixtures() {
        let bytes = fixture(name);
        assert_eq!(frame.to_bytes(), bytes, "{name}: written");
        assert_eq!(decode(bytes), Ok(vec![frame]), "{name}: read");
    }
}

#[test]
fn every_frame_type_has_a_fixture_and_every_file_is_checked() {
    let covered: BTreeSet<u64> = fixtures().iter().map(|(_, f)| f.kind.number()).collect();
    let known: BTreeSet<u64> = FrameType::KNOWN.iter().map(|kind| kind.number()).collect();
    assert_eq!(covered, known);
    let mut named: BTreeSet<String> = fixtures().iter().map(|(n, _)| format!("{n}.hex")).collect();
    named.extend(["grease.hex".into(), "invalid.txt".into()]);
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(named, files);
}

#[test]
fn grease_is_written_as_fixed_and_skipped_anywhere() {
    let grease = raw(FrameType::grease(2), b"g");
    assert_eq!(grease.to_bytes(), fixture("grease"));
    for (name, frame) in fixtures() {
        let bytes = [fixture("grease"), fixture(name), fixture("grease")].concat();
        assert_eq!(decode(bytes.into()), Ok(vec![frame]), "{name}");
    }
}

#[test]
fn a_field_from_the_future_is_skipped_in_every_message() {
    let mut extra = Vec::new();
    prost::encoding::bytes::encode(GREASE_FIELDS + 7, &vec![1_u8, 2], &mut extra);
    for (name, frame) in fixtures() {
        let payload: Bytes = [frame.payload.as_ref(), &extra].concat().into();
        let newer = Frame {
            kind: frame.kind,
            payload,
        };
        let again = |read: Result<Frame, WireError>| assert_eq!(read.unwrap(), frame, "{name}");
        match frame.kind {
            FrameType::Hello => again(Hello::from_frame(newer).map(|m| m.to_frame())),
            FrameType::HelloAck => again(HelloAck::from_frame(newer).map(|m| m.to_frame())),
            FrameType::Progress => again(Progress::from_frame(newer).map(|m| m.to_frame())),
            FrameType::Goaway => again(Goaway::from_frame(newer).map(|m| m.to_frame())),
            FrameType::Call => again(CallHead::from_frame(newer).map(|m| m.to_frame())),
            FrameType::Reply => again(ReplyHead::from_frame(newer).map(|m| m.to_frame())),
            FrameType::Open => again(OpenHead::from_frame(newer).map(|m| m.to_frame())),
            FrameType::Notify => again(NotifyHead::from_frame(newer).map(|m| m.to_frame())),
            kind @ (FrameType::Fail | FrameType::Refuse) => {
                again(Failure::from_frame(newer).map(|m| m.to_frame_as(kind)));
            }
            FrameType::Ping | FrameType::Pong | FrameType::Data | FrameType::Unknown(_) => {}
        }
    }
}

/// Reads the payload as the message of its frame.
fn read(frame: Frame) -> Result<(), WireError> {
    match frame.kind {
        FrameType::Hello => Hello::from_frame(frame).map(drop),
        FrameType::HelloAck => HelloAck::from_frame(frame).map(drop),
        FrameType::Goaway => Goaway::from_frame(frame).map(drop),
        FrameType::Progress => Progress::from_frame(frame).map(drop),
        FrameType::Call => CallHead::from_frame(frame).map(drop),
        FrameType::Reply => ReplyHead::from_frame(frame).map(drop),
        FrameType::Open => OpenHead::from_frame(frame).map(drop),
        FrameType::Notify => NotifyHead::from_frame(frame).map(drop),
        FrameType::Fail | FrameType::Refuse => Failure::from_frame(frame).map(drop),
        FrameType::Ping | FrameType::Pong | FrameType::Data | FrameType::Unknown(_) => Ok(()),
    }
}

#[test]
fn bytes_that_must_be_refused_are_refused_for_their_reason() {
    let text = std::fs::read_to_string(folder().join("invalid.txt")).unwrap();
    let mut checked = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<_> = line.split('|').map(str::trim).collect();
        let [name, hex, reason] = parts[..] else {
            panic!("not three columns: {line}")
        };
        let read = decode(unhex(hex)).and_then(|frames| frames.into_iter().try_for_each(read));
        let Err(error) = read else {
            panic!("{name} was accepted")
        };
        let debug = format!("{error:?}");
        assert!(debug.starts_with(reason), "{name}: {debug}");
        checked += 1;
    }
    assert!(checked >= 20, "{checked} lines");
}
