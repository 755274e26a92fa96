//! Golden bytes of every frame, and round trips of every message.
//! Must not be changed to make a test pass: these bytes are what released peers send.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn limits() -> WireLimits {
    WireLimits {
        control_frame: 65_536,
        data_frame: 262_144,
        call_body: 1_048_576,
        idle_ms: 45_000,
        keep_alive_ms: 15_000,
    }
}

fn golden<M: Framed + PartialEq + std::fmt::Debug>(message: &M, kind: FrameType, bytes: &str) {
    let frame = message.to_frame_as(kind);
    assert_eq!(hex(&frame.to_bytes()), bytes, "{kind:?}");
    assert_eq!(&M::from_frame(frame).unwrap(), message);
}

#[test]
fn the_bytes_of_each_frame_are_fixed() {
    let hello = Hello {
        min_version: 1,
        max_version: 2,
        features: vec![0x21],
        limits: Some(limits()),
        build: "t/1".into(),
        session: Bytes::from(vec![0xaa; 16]),
        secret: Bytes::from(vec![0xbb; 32]),
    };
    golden(&hello, FrameType::Hello, GOLDEN_HELLO);
    let ack = HelloAck {
        version: 1,
        features: vec![],
        limits: Some(limits()),
        build: "t/1".into(),
        session: Bytes::from(vec![0xaa; 16]),
        secret: Bytes::from(vec![0xbb; 32]),
        resumed: true,
    };
    golden(&ack, FrameType::HelloAck, GOLDEN_HELLO_ACK);
    let failure = Failure {
        code: 5,
        retryable: true,
        retry_after_ms: 250,
        detail: "no".into(),
    };
    golden(&failure, FrameType::Refuse, "03010b0805100118fa0122026e6f");
    golden(&failure, FrameType::Fail, "12010b0805100118fa0122026e6f");
    golden(
        &Goaway {
            deadline_ms: 30_000,
        },
        FrameType::Goaway,
        "06010408b0ea01",
    );
    let call = CallHead {
        method: 16,
        class: 1,
        deadline_ms: 5000,
        length: 3,
    };
    golden(&call, FrameType::Call, "100109081010011888272003");
    golden(&ReplyHead { length: 3 }, FrameType::Reply, "1101020803");
    golden(
        &OpenHead {
            method: 48,
            class: 2,
        },
        FrameType::Open,
        "13010408301002",
    );
    for (kind, bytes) in [
        (FrameType::Ping, "0401080102030405060708"),
        (FrameType::Pong, "0501080102030405060708"),
        (FrameType::Data, "1401080102030405060708"),
    ] {
        let frame = Frame {
            kind,
            payload: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]),
        };
        assert_eq!(hex(&frame.to_bytes()), bytes, "{kind:?}");
    }
    let grease = Frame {
        kind: FrameType::grease(2),
        payload: Bytes::from_static(b"g"),
    };
    assert_eq!(hex(&grease.to_bytes()), "405f000167");
}

const GOLDEN_HELLO: &str = concat!(
    "01014055080110021a0121221308808004108080101880804020c8df022898752a03742f313210aa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa3a20bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "bbbbbbbbbbbbbbbbbb",
);
const GOLDEN_HELLO_ACK: &str = concat!(
    "0201405208011a1308808004108080101880804020c8df022898752203742f312a10aaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaa3220bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "bbbbbbbb3801",
);

#[test]
fn values_out_of_bounds_are_refused() {
    let good = Hello {
        max_version: 1,
        ..Hello::default()
    };
    assert!(Hello::from_frame(good.to_frame()).is_ok());
    let bad = [
        Hello {
            min_version: 2,
            ..good.clone()
        },
        Hello {
            features: vec![1; MAX_FEATURES + 1],
            ..good.clone()
        },
        Hello {
            build: "b".repeat(MAX_TEXT + 1),
            ..good.clone()
        },
        Hello {
            session: Bytes::from_static(b"short"),
            ..good.clone()
        },
        Hello {
            secret: Bytes::from_static(b"short"),
            ..good.clone()
        },
    ];
    for hello in bad {
        let result = Hello::from_frame(hello.to_frame());
        assert!(
            matches!(result, Err(WireError::Message { .. })),
            "{hello:?}"
        );
    }
    let wrong = CallHead::default().to_frame();
    assert_eq!(
        OpenHead::from_frame(wrong),
        Err(WireError::Unexpected(FrameType::Call))
    );
}

#[test]
fn a_message_from_a_newer_peer_is_read_without_its_new_fields() {
    let mut payload = CallHead {
        method: 7,
        class: 1,
        deadline_ms: 9,
        length: 0,
    }
    .encode_to_vec();
    payload.extend([0xf8, 0x07, 0x2a]); // field 127, varint 42
    let frame = Frame {
        kind: FrameType::Call,
        payload: payload.into(),
    };
    assert_eq!(CallHead::from_frame(frame).unwrap().method, 7);
}

#[test]
fn an_error_comes_back_as_it_was_sent() {
    let error = CallError::new(Code::Unknown(77), "odd").retry_after(Duration::from_millis(3));
    assert_eq!(CallError::from(Failure::from(&error)), error);
    let long = CallError::new(Code::Internal, "ü".repeat(MAX_TEXT));
    assert_eq!(CallError::from(Failure::from(&long)).detail.len(), MAX_TEXT);
}

proptest! {
    #[test]
    fn no_payload_whatever_makes_a_message_decoder_panic(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        kind in prop::sample::select(FrameType::KNOWN.to_vec()),
    ) {
        let frame = Frame { kind, payload: payload.into() };
        let _ = Hello::from_frame(frame.clone());
        let _ = HelloAck::from_frame(frame.clone());
        let _ = CallHead::from_frame(frame.clone());
        let _ = ReplyHead::from_frame(frame.clone());
        let _ = OpenHead::from_frame(frame.clone());
        let _ = Goaway::from_frame(frame.clone());
        let _ = Failure::from_frame(frame).map(CallError::from);
    }

    #[test]
    fn a_hello_with_one_flipped_bit_is_read_or_refused(
        versions in (0u32..9, 9u32..20),
        features in prop::collection::vec(any::<u32>(), 0..MAX_FEATURES),
        build in "[a-z/0-9.]{0,40}",
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let hello = Hello {
            min_version: versions.0,
            max_version: versions.1,
            features,
            limits: Some(limits()),
            build,
            session: Bytes::from(vec![1; 16]),
            secret: Bytes::from(vec![2; 32]),
        };
        prop_assert_eq!(&Hello::from_frame(hello.to_frame()).unwrap(), &hello);
        let mut payload = hello.encode_to_vec();
        let at = position.index(payload.len());
        payload[at] ^= 1 << bit;
        let _ = Hello::from_frame(Frame { kind: FrameType::Hello, payload: payload.into() });
    }
}
