//! The decoder of the multiplexer under cuts, broken bytes and hostile lengths.
//! Must not need a runtime.

use proptest::prelude::*;

use super::*;

/// What a decoder makes of bytes: frames, and the bytes of streams in one piece per frame.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Item {
    Data(u64, Vec<u8>),
    Frame(MuxFrame),
}

fn decode_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Item>, MuxError> {
    let mut decoder = MuxDecoder::new();
    let mut items = Vec::new();
    let mut whole = true;
    for mut piece in pieces {
        while let Some(item) = decoder.next(&mut piece)? {
            match item {
                Piece::Frame(frame) => items.push(Item::Frame(frame)),
                Piece::Data { stream, bytes } => {
                    match items.last_mut() {
                        Some(Item::Data(last, all)) if *last == stream && !whole => {
                            all.extend_from_slice(bytes);
                        }
                        _ => items.push(Item::Data(stream, bytes.to_vec())),
                    }
                    whole = matches!(decoder.state, State::Data { missing: 0, .. });
                }
            }
        }
        assert!(
            piece.is_empty(),
            "a decoder that waits has taken everything"
        );
    }
    Ok(items)
}

fn encode_all(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        match item {
            Item::Data(stream, bytes) => {
                data(*stream, bytes.len(), &mut out);
                out.extend_from_slice(bytes);
            }
            Item::Frame(frame) => frame.encode(&mut out),
        }
    }
    out
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_u64, 0..=varint::MAX]
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        (number(), prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(stream, bytes)| Item::Data(stream, bytes)),
        number().prop_map(|stream| Item::Frame(MuxFrame::Open { stream })),
        number().prop_map(|stream| Item::Frame(MuxFrame::End { stream })),
        number().prop_map(|stream| Item::Frame(MuxFrame::Taken { stream })),
        (number(), number())
            .prop_map(|(stream, code)| Item::Frame(MuxFrame::Reset { stream, code })),
        (number(), number())
            .prop_map(|(stream, code)| Item::Frame(MuxFrame::Stop { stream, code })),
        (number(), number())
            .prop_map(|(stream, limit)| Item::Frame(MuxFrame::StreamCredit { stream, limit })),
        number().prop_map(|limit| Item::Frame(MuxFrame::Credit { limit })),
        number().prop_map(|limit| Item::Frame(MuxFrame::Streams { limit })),
        number().prop_map(|window| Item::Frame(MuxFrame::Window { window })),
        (number(), "[a-z é]{0,40}")
            .prop_map(|(code, reason)| Item::Frame(MuxFrame::Close { code, reason })),
        any::<[u8; TICKET]>().prop_map(|bytes| Item::Frame(MuxFrame::Door {
            ticket: Ticket(bytes)
        })),
        any::<[u8; TICKET]>().prop_map(|bytes| Item::Frame(MuxFrame::Join {
            ticket: Ticket(bytes)
        })),
        Just(Item::Frame(MuxFrame::Joined)),
    ]
}

proptest! {
    #[test]
    fn frames_come_back_however_the_bytes_are_cut(
        items in prop::collection::vec(item(), 0..12),
        cuts in prop::collection::vec(1usize..40, 1..100),
    ) {
        let bytes = encode_all(&items);
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(take(&mut rest, cut));
        }
        pieces.push(rest);
        prop_assert_eq!(decode_all(pieces), Ok(items));
    }

    #[test]
    fn no_bytes_whatever_panic_or_hold_more_than_one_short_frame(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..32),
    ) {
        let mut decoder = MuxDecoder::new();
        for piece in &pieces {
            let mut rest = piece.as_slice();
            while let Ok(Some(_)) = decoder.next(&mut rest) {}
            if let State::Short { gathered, .. } = &decoder.state {
                prop_assert!(gathered.capacity() <= 2 * MAX_CONTROL);
            }
        }
    }

    #[test]
    fn one_flipped_bit_gives_frames_or_an_error_and_never_a_panic(
        items in prop::collection::vec(item(), 1..6),
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = encode_all(&items);
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = decode_all([bytes.as_slice()]);
    }
}

fn raw(number: u64, flags: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode(number, &mut out);
    out.push(flags);
    varint::encode(length, &mut out);
    out.extend_from_slice(payload);
    out
}

#[test]
fn the_bytes_of_each_frame_are_as_the_specification_says() {
    let ticket = Ticket([7; TICKET]);
    let secret = [7; TICKET];
    let cases: Vec<(MuxFrame, Vec<u8>)> = vec![
        (MuxFrame::Open { stream: 4 }, vec![1, 1, 1, 4]),
        (MuxFrame::End { stream: 64 }, vec![3, 1, 2, 0x40, 0x40]),
        (MuxFrame::Reset { stream: 4, code: 1 }, vec![4, 1, 2, 4, 1]),
        (MuxFrame::Stop { stream: 4, code: 8 }, vec![5, 1, 2, 4, 8]),
        (MuxFrame::Taken { stream: 5 }, vec![6, 1, 1, 5]),
        (
            MuxFrame::StreamCredit {
                stream: 5,
                limit: 15_293,
            },
            vec![7, 1, 3, 5, 0x7b, 0xbd],
        ),
        (MuxFrame::Credit { limit: 37 }, vec![8, 1, 1, 37]),
        (MuxFrame::Streams { limit: 2 }, vec![9, 1, 1, 2]),
        (
            MuxFrame::Window { window: 16_384 },
            vec![10, 1, 4, 0x80, 0, 0x40, 0],
        ),
        (
            MuxFrame::Close {
                code: 7,
                reason: "bye".to_owned(),
            },
            vec![11, 1, 4, 7, b'b', b'y', b'e'],
        ),
        (MuxFrame::Door { ticket }, raw(12, 1, 32, &secret)),
        (MuxFrame::Join { ticket }, raw(13, 1, 32, &secret)),
        (MuxFrame::Joined, vec![14, 1, 0]),
    ];
    for (frame, expected) in cases {
        let mut out = Vec::new();
        frame.encode(&mut out);
        assert_eq!(out, expected, "{frame:?}");
    }
    let mut out = Vec::new();
    data(4, 2, &mut out);
    out.extend_from_slice(b"ab");
    assert_eq!(out, [2, 1, 3, 4, b'a', b'b']);
}

#[test]
fn an_oversize_frame_is_refused_by_its_length_alone() {
    let cases = [
        (DATA, MAX_DATA as u64 + 9),
        (DATA, varint::MAX),
        (0x0b, MAX_CONTROL as u64 + 1),
        (0x40, MAX_CONTROL as u64 + 1),
    ];
    for (number, length) in cases {
        let bytes = raw(number, 0, length, b"");
        assert_eq!(
            decode_all([bytes.as_slice()]),
            Err(MuxError::Oversize(length))
        );
    }
}

#[test]
fn an_unknown_frame_is_skipped_unless_it_is_critical() {
    let mut bytes = raw(0x21, 0, 3, b"xyz");
    MuxFrame::Joined.encode(&mut bytes);
    assert_eq!(
        decode_all([bytes.as_slice()]),
        Ok(vec![Item::Frame(MuxFrame::Joined)])
    );
    let critical = raw(0x21, 1, 3, b"xyz");
    assert_eq!(
        decode_all([critical.as_slice()]),
        Err(MuxError::Critical(0x21))
    );
    let many = raw(0x21, 0, 0, b"").repeat(MAX_SKIPPED as usize + 1);
    assert_eq!(decode_all([many.as_slice()]), Err(MuxError::TooManySkipped));
}

#[test]
fn frames_without_their_form_are_refused() {
    let cases = [
        raw(0x01, 1, 0, b""),
        raw(0x01, 1, 2, &[4, 4]),
        raw(0x04, 1, 1, &[4]),
        raw(0x0c, 1, 31, &[0; 31]),
        raw(0x0e, 1, 1, &[0]),
        raw(DATA, 1, 0, b""),
        raw(DATA, 1, 1, &[4]),
        raw(DATA, 1, 1, &[0x40]),
    ];
    for bytes in cases {
        let result = decode_all([bytes.as_slice()]);
        assert!(matches!(result, Err(MuxError::Malformed(_))), "{bytes:?}");
    }
    let flags = raw(0x01, 2, 1, &[4]);
    assert_eq!(decode_all([flags.as_slice()]), Err(MuxError::Flags(2)));
}
