//! The bytes of every frame of the multiplexer as files that other implementations can use, in both
//! directions. Must not be changed to make a test pass: these bytes are what released peers send.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::frame::{self, MuxDecoder, MuxFrame, Piece, Ticket};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mux-v1")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let bytes = (0..line.len()).step_by(2);
    bytes
        .map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
        .collect()
}

fn known() -> Vec<(&'static str, MuxFrame)> {
    let stream = 4;
    let ticket = Ticket(std::array::from_fn(|index| index as u8));
    let reason = "bye".to_owned();
    vec![
        ("open", MuxFrame::Open { stream }),
        ("end", MuxFrame::End { stream: 300 }),
        ("reset", MuxFrame::Reset { stream, code: 1 }),
        (
            "stop",
            MuxFrame::Stop {
                stream: 5,
                code: 70_000,
            },
        ),
        ("taken", MuxFrame::Taken { stream: 5 }),
        (
            "stream-credit",
            MuxFrame::StreamCredit {
                stream,
                limit: 1_048_576,
            },
        ),
        (
            "credit",
            MuxFrame::Credit {
                limit: 5_000_000_000,
            },
        ),
        ("streams", MuxFrame::Streams { limit: 512 }),
        ("window", MuxFrame::Window { window: 262_144 }),
        ("close", MuxFrame::Close { code: 1, reason }),
        ("door", MuxFrame::Door { ticket }),
        ("join", MuxFrame::Join { ticket }),
        ("joined", MuxFrame::Joined),
    ]
}

#[test]
fn every_frame_has_the_bytes_of_its_fixture_in_both_directions() {
    for (name, frame) in known() {
        let bytes = fixture(name);
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert_eq!(encoded, bytes, "{name}");
        let mut rest = bytes.as_slice();
        let decoded = MuxDecoder::new()
            .next(&mut rest)
            .unwrap()
            .map(|piece| match piece {
                Piece::Frame(frame) => frame,
                Piece::Data { .. } => panic!("{name} is no data"),
            });
        assert_eq!((decoded, rest), (Some(frame), &[][..]), "{name}");
    }
}

#[test]
fn data_and_unknown_frames_are_read_as_their_fixtures_say() {
    let bytes = fixture("data");
    let mut encoded = Vec::new();
    frame::data(4, 4, &mut encoded);
    encoded.extend_from_slice(b"tree");
    assert_eq!(encoded, bytes);
    // What is not critical is skipped, and what follows is read.
    let both = [fixture("unknown"), bytes].concat();
    let mut rest = both.as_slice();
    let mut decoder = MuxDecoder::new();
    let mut tree = Vec::new();
    while let Some(piece) = decoder.next(&mut rest).unwrap() {
        let Piece::Data { stream: 4, bytes } = piece else {
            panic!("{piece:?}")
        };
        tree.extend_from_slice(bytes);
    }
    assert_eq!(tree, b"tree");
}

#[test]
fn no_fixture_is_left_out() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = known().into_iter().map(|(name, _)| name);
    let all = known.chain(["data", "unknown"]);
    assert_eq!(files, all.map(|name| format!("{name}.hex")).collect());
}
