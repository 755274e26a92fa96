//! Bounds, round trips and perturbed bytes of every message.
//! Must not fix bytes: `tests/wire_fixtures.rs` does.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use prost::Message as _;

use super::*;

fn limits() -> WireLimits {
    WireLimits {
        control_frame: 65_536,
        data_frame: 262_144,
        call_body: 1_048_576,
        idle_ms: 45_000,
        keep_alive_ms: 15_000,
    }
}

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
        ..CallHead::default()
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

/// Whatever was done to the bytes: they are refused, or read as a message that comes back.
fn settled<M: Framed + PartialEq + std::fmt::Debug>(frame: &Frame) -> Result<(), TestCaseError> {
    for kind in M::FRAMES {
        let payload = frame.payload.clone();
        let Ok(message) = M::from_frame(Frame {
            kind: *kind,
            payload,
        }) else {
            continue;
        };
        prop_assert_eq!(
            &M::from_frame(message.to_frame_as(*kind)).unwrap(),
            &message
        );
    }
    Ok(())
}

fn all_settled(frame: &Frame) -> Result<(), TestCaseError> {
    settled::<Hello>(frame)?;
    settled::<HelloAck>(frame)?;
    settled::<CallHead>(frame)?;
    settled::<ReplyHead>(frame)?;
    settled::<OpenHead>(frame)?;
    settled::<Progress>(frame)?;
    settled::<Goaway>(frame)?;
    settled::<Failure>(frame)
}

prop_compose! {
    fn hellos()(
        versions in (0u32..9, 9u32..20),
        features in prop::collection::vec(any::<u32>(), 0..MAX_FEATURES),
        build in "[a-z/0-9.]{0,40}",
        resumes in any::<bool>(),
    ) -> Hello {
        Hello {
            min_version: versions.0,
            max_version: versions.1,
            features,
            limits: Some(limits()),
            build,
            session: Bytes::from(vec![1; if resumes { 16 } else { 0 }]),
            secret: Bytes::from(vec![2; if resumes { 32 } else { 0 }]),
            beside: resumes && versions.0 % 2 == 0,
        }
    }
}

/// One message of each kind, with whatever fits its fields.
fn messages() -> impl Strategy<Value = Vec<Frame>> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
    (hellos(), numbers, ".{0,60}").prop_map(|(hello, (a, b, c, d), text)| {
        let ack = HelloAck {
            version: a,
            features: hello.features.clone(),
            limits: hello.limits,
            build: hello.build.clone(),
            session: Bytes::from(vec![1; 16]),
            secret: hello.secret.clone(),
            resumed: b % 2 == 0,
        };
        let call = CallHead {
            method: a,
            class: b,
            deadline_ms: c,
            length: d,
            number: c ^ d,
            traceparent: text.clone(),
            tracestate: text.clone(),
        };
        let notice = NotifyHead {
            method: a,
            class: b,
            number: c,
            dropped: d,
            dropped_bytes: c ^ d,
            traceparent: text.clone(),
            tracestate: text.clone(),
        };
        let failure = Failure {
            code: a,
            retryable: b % 2 == 0,
            retry_after_ms: c,
            detail: text.clone(),
        };
        vec![
            hello.to_frame(),
            ack.to_frame(),
            call.to_frame(),
            ReplyHead { length: c }.to_frame(),
            Progress {
                stream: c,
                mine: b % 2 == 0,
                received: d,
            }
            .to_frame(),
            OpenHead {
                method: a,
                class: b,
                number: c ^ d,
                traceparent: text.clone(),
                tracestate: text.clone(),
            }
            .to_frame(),
            notice.to_frame(),
            Goaway {
                deadline_ms: c,
                successor: text,
            }
            .to_frame(),
            failure.to_frame(),
            failure.to_frame_as(FrameType::Refuse),
        ]
    })
}

proptest! {
    #[test]
    fn no_payload_whatever_makes_a_message_decoder_panic(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        kind in prop::sample::select(FrameType::KNOWN.to_vec()),
    ) {
        all_settled(&Frame { kind, payload: payload.into() })?;
    }

    #[test]
    fn every_message_comes_back_as_it_was_sent(frames in messages()) {
        for frame in frames {
            let read = match frame.kind {
                FrameType::Hello => Hello::from_frame(frame.clone()).map(|m| m.to_frame()),
                FrameType::HelloAck => HelloAck::from_frame(frame.clone()).map(|m| m.to_frame()),
                FrameType::Call => CallHead::from_frame(frame.clone()).map(|m| m.to_frame()),
                FrameType::Reply => ReplyHead::from_frame(frame.clone()).map(|m| m.to_frame()),
                FrameType::Open => OpenHead::from_frame(frame.clone()).map(|m| m.to_frame()),
                FrameType::Notify => NotifyHead::from_frame(frame.clone()).map(|m| m.to_frame()),
                FrameType::Goaway => Goaway::from_frame(frame.clone()).map(|m| m.to_frame()),
                FrameType::Progress => Progress::from_frame(frame.clone()).map(|m| m.to_frame()),
                kind => Failure::from_frame(frame.clone()).map(|m| m.to_frame_as(kind)),
            };
            prop_assert_eq!(read, Ok(frame));
        }
    }

    #[test]
    fn perturbed_bytes_are_refused_or_read_as_another_message(
        frames in messages(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..5,
        ),
    ) {
        for frame in frames {
            let mut payload = frame.payload.to_vec();
            for (position, value, how) in &edits {
                let at = position.index(payload.len() + 1);
                match how {
                    0 if at < payload.len() => payload[at] ^= value,
                    1 => payload.insert(at, *value),
                    2 if at < payload.len() => drop(payload.remove(at)),
                    3 => payload.truncate(at),
                    _ => {}
                }
            }
            all_settled(&Frame { kind: frame.kind, payload: payload.into() })?;
        }
    }
}
