//! The decoder under arbitrary cuts, broken bytes and hostile lengths.
//! Must not need a runtime.

use bytes::{BufMut, Bytes};
use proptest::prelude::*;

use super::*;
use crate::wire::{frame, varint};

const CAPS: Caps = Caps {
    control: 512,
    data: 4096,
};

fn raw(kind: u64, flags: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode(kind, &mut out);
    out.put_u8(flags);
    varint::encode(length, &mut out);
    out.extend_from_slice(payload);
    out
}

fn decode_all(pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<Frame>, WireError> {
    let mut decoder = Decoder::new(CAPS);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    decoder.finish()?;
    Ok(frames)
}

fn arbitrary_frame() -> impl Strategy<Value = Frame> {
    let kind = prop::sample::select(FrameType::KNOWN.to_vec());
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (kind, payload).prop_map(|(kind, payload)| Frame {
        kind,
        payload: payload.into(),
    })
}

proptest! {
    #[test]
    fn frames_come_back_however_the_bytes_are_cut(
        frames in prop::collection::vec(arbitrary_frame(), 0..8),
        cuts in prop::collection::vec(1usize..40, 1..200),
    ) {
        let mut bytes: Bytes =
            frames.iter().flat_map(Frame::to_bytes).collect::<Vec<u8>>().into();
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(bytes.split_to(cut.min(bytes.len())));
        }
        pieces.push(bytes);
        prop_assert_eq!(decode_all(pieces), Ok(frames));
    }

    #[test]
    fn taking_what_is_ready_changes_nothing_but_the_order_of_calls(
        frames in prop::collection::vec(arbitrary_frame(), 0..8),
        cuts in prop::collection::vec(1usize..400, 1..20),
        ready in prop::collection::vec(any::<bool>(), 64),
    ) {
        let mut bytes: Bytes =
            frames.iter().flat_map(Frame::to_bytes).collect::<Vec<u8>>().into();
        let mut pieces: Vec<Bytes> =
            cuts.iter().map(|cut| bytes.split_to((*cut).min(bytes.len()))).collect();
        pieces.push(bytes);
        let mut decoder = Decoder::new(CAPS);
        let (mut decoded, mut ready) = (Vec::new(), ready.into_iter().cycle());
        for piece in pieces {
            decoder.push(piece);
            loop {
                let data = ready.next().unwrap().then(|| decoder.ready_data()).flatten();
                if let Some(payload) = data {
                    decoded.push(Frame { kind: FrameType::Data, payload });
                    continue;
                }
                match decoder.next_frame().unwrap() {
                    Some(frame) => decoded.push(frame),
                    None => break,
                }
            }
        }
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn no_bytes_whatever_panic_or_hold_more_than_arrived(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..32),
    ) {
        let mut decoder = Decoder::new(CAPS);
        let mut arrived = 0;
        for piece in pieces {
            arrived += piece.len();
            decoder.push(piece.into());
            while let Ok(Some(frame)) = decoder.next_frame() {
                prop_assert!(frame.payload.len() <= CAPS.data);
            }
            if let State::Payload { gathered, .. } = &decoder.state {
                prop_assert!(gathered.capacity() <= 2 * arrived + 64);
            }
        }
    }

    #[test]
    fn one_flipped_bit_gives_frames_or_an_error_and_never_a_panic(
        frames in prop::collection::vec(arbitrary_frame(), 1..4),
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = decode_all([Bytes::from(bytes)]);
    }
}

#[test]
fn an_oversize_frame_is_refused_by_its_length_alone() {
    for (kind, cap) in [
        (FrameType::Call, CAPS.control),
        (FrameType::Data, CAPS.data),
    ] {
        let fits = raw(kind.number(), 1, cap as u64, &vec![7; cap]);
        assert_eq!(decode_all([fits.into()]).unwrap()[0].payload.len(), cap);
        for length in [cap as u64 + 1, varint::MAX] {
            let expected = Err(WireError::Oversize {
                length,
                cap: cap as u64,
            });
            assert_eq!(
                decode_all([raw(kind.number(), 1, length, b"").into()]),
                expected
            );
        }
    }
    let unknown = raw(0x40, 0, CAPS.control as u64 + 1, b"");
    assert!(matches!(
        decode_all([unknown.into()]),
        Err(WireError::Oversize { .. })
    ));
}

#[test]
fn an_unknown_frame_is_skipped_unless_it_is_critical() {
    let mut bytes = raw(0x40, 0, 3, b"xyz");
    bytes.extend(raw(FrameType::Ping.number(), 1, 8, b"12345678"));
    let frames = decode_all([bytes.into()]).unwrap();
    assert_eq!(
        frames,
        [Frame {
            kind: FrameType::Ping,
            payload: Bytes::from_static(b"12345678")
        }]
    );
    let critical = raw(0x40, frame::CRITICAL, 3, b"xyz");
    assert_eq!(
        decode_all([critical.into()]),
        Err(WireError::Critical(0x40))
    );
    let flags = raw(FrameType::Ping.number(), 0x81, 0, b"");
    assert_eq!(decode_all([flags.into()]), Err(WireError::Flags(0x81)));
}

#[test]
fn every_grease_type_is_skipped() {
    for seed in [0, 1, 7, u16::MAX] {
        let kind = FrameType::grease(seed);
        assert_eq!(
            FrameType::from_number(kind.number()),
            kind,
            "collides with a known type"
        );
        let frame = Frame {
            kind,
            payload: Bytes::from_static(b"grease"),
        };
        assert_eq!(decode_all([frame.to_bytes()]), Ok(vec![]));
    }
}

#[test]
fn endless_unknown_frames_are_refused() {
    let frame = Frame {
        kind: FrameType::grease(1),
        payload: Bytes::new(),
    };
    let bytes: Vec<u8> = (0..=MAX_SKIPPED).flat_map(|_| frame.to_bytes()).collect();
    assert_eq!(
        decode_all([bytes.into()]),
        Err(WireError::TooManySkipped(MAX_SKIPPED))
    );
}

#[test]
fn an_end_inside_a_frame_is_an_error_everywhere() {
    let bytes = Frame {
        kind: FrameType::Call,
        payload: Bytes::from_static(b"abc"),
    }
    .to_bytes();
    for end in 1..bytes.len() {
        assert_eq!(
            decode_all([bytes.slice(..end)]),
            Err(WireError::Truncated),
            "cut at {end}"
        );
    }
}

#[test]
fn a_payload_in_one_chunk_is_not_copied() {
    let bytes = Frame {
        kind: FrameType::Data,
        payload: Bytes::from(vec![9; 2000]),
    }
    .to_bytes();
    let mut decoder = Decoder::new(CAPS);
    decoder.push(bytes.clone());
    let payload = decoder.next_frame().unwrap().unwrap().payload;
    assert_eq!(payload.as_ptr(), bytes[bytes.len() - 2000..].as_ptr());
}
