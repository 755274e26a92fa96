//! The two handshakes against each other and against bad peers.
//! Must not need a runtime.

use super::*;
use crate::error::Code;
use crate::wire::Decoder;

const CAPS: Caps = Caps {
    control: 65_536,
    data: 65_536,
};

fn first_frame(bytes: Bytes) -> Frame {
    let mut decoder = Decoder::new(CAPS);
    decoder.push(bytes);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(
        decoder.next_frame(),
        Ok(None),
        "the grease frame is skipped"
    );
    decoder.finish().unwrap();
    frame
}

fn ticket(number: u8) -> Ticket {
    Ticket {
        id: SessionId([number; 16]),
        secret: Secret([number; 32]),
    }
}

#[test]
fn both_sides_agree_on_the_smaller_limits_and_on_the_session() {
    let now = Instant::now();
    let ours = Limits {
        data_frame: 16_384,
        idle: Duration::from_secs(50),
        ..Limits::default()
    };
    let theirs = Limits {
        control_frame: 8192,
        ..Limits::default()
    };
    let client = ClientHandshake::new(&ours, Some(ticket(1)), now);
    let server = ServerHandshake::new(&theirs, now);
    let asked = server.receive(first_frame(client.hello(7)), now).unwrap();
    let shown = asked.resume.clone().unwrap();
    assert_eq!(shown.id, ticket(1).id);
    assert!(shown.secret.matches(&ticket(1).secret));

    let given = ticket(1);
    let ack = server.accept(&asked, given.id, Some(&given.secret), true, 9);
    let welcome = client.receive(first_frame(ack), now).unwrap();
    assert!(welcome.resumed);
    assert_eq!(welcome.terms, asked.terms);
    assert_eq!(
        welcome.terms.caps,
        Caps {
            control: 8192,
            data: 16_384
        }
    );
    assert_eq!(welcome.terms.idle, Duration::from_secs(45));
    assert_eq!(welcome.ticket.unwrap().id, given.id);
}

#[test]
fn a_peer_of_another_version_is_told_apart_from_a_broken_one() {
    let now = Instant::now();
    let server = ServerHandshake::new(&Limits::default(), now);
    let hello = Hello {
        min_version: 2,
        max_version: 9,
        ..Hello::default()
    };
    let result = server.receive(hello.to_frame(), now);
    assert_eq!(
        result.unwrap_err(),
        HandshakeError::Version { min: 2, max: 9 }
    );
    let newer = Hello {
        min_version: 1,
        max_version: 9,
        ..Hello::default()
    };
    assert_eq!(
        server.receive(newer.to_frame(), now).unwrap().terms.version,
        1
    );
    let ping = Frame {
        kind: FrameType::Ping,
        payload: Bytes::from_static(&[0; 8]),
    };
    assert!(matches!(
        server.receive(ping, now),
        Err(HandshakeError::Wire(_))
    ));
}

#[test]
fn every_handshake_carries_an_unknown_field_and_frame_and_hello_an_unknown_feature() {
    use crate::wire::message::GREASE_FIELDS;
    let now = Instant::now();
    let client = ClientHandshake::new(&Limits::default(), None, now);
    let server = ServerHandshake::new(&Limits::default(), now);
    for seed in [0, 1, 77, u16::MAX] {
        let hello = client.hello(seed);
        let asked = server.receive(first_frame(hello.clone()), now).unwrap();
        let ack = server.accept(&asked, SessionId([1; 16]), None, false, seed);
        let mut key = Vec::new();
        let tag = GREASE_FIELDS + u32::from(seed);
        prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut key);
        let mut frame = Vec::new();
        crate::wire::varint::encode(FrameType::grease(seed).number(), &mut frame);
        frame.extend([0, 2]);
        frame.extend(seed.to_be_bytes());
        for bytes in [hello, ack] {
            let (message, end) = bytes.split_at(bytes.len() - frame.len());
            assert_eq!(end, frame, "a frame that means nothing ends it");
            let field = [key.as_slice(), &[2], &seed.to_be_bytes()].concat();
            assert!(message.ends_with(&field), "a field that means nothing");
        }
        let sent = Hello::from_frame(first_frame(client.hello(seed))).unwrap();
        assert_eq!(
            sent.features,
            [
                PROGRESS,
                NOTIFY,
                NUMBERED_CALLS,
                0x1f * u32::from(seed) + 0x21
            ]
        );
    }
}

#[test]
fn a_feature_is_in_force_only_when_both_sides_name_it() {
    let now = Instant::now();
    let client = ClientHandshake::new(&Limits::default(), None, now);
    let server = ServerHandshake::new(&Limits::default(), now);
    let hello = first_frame(client.hello(1));
    let asked = server.receive(hello.clone(), now).unwrap();
    assert!(asked.terms.progress && asked.terms.notify && asked.terms.numbered_calls);
    let mut older = Hello::from_frame(hello).unwrap();
    older.features.retain(|feature| *feature != PROGRESS);
    let asked = server.receive(older.to_frame(), now).unwrap();
    assert!(!asked.terms.progress);
    let ack = first_frame(server.accept(&asked, SessionId([1; 16]), None, false, 1));
    assert!(!client.receive(ack, now).unwrap().terms.progress);
}

#[test]
fn a_late_handshake_fails_on_both_sides() {
    let now = Instant::now();
    let limits = Limits::default();
    let client = ClientHandshake::new(&limits, None, now);
    let server = ServerHandshake::new(&limits, now);
    let late = now + limits.hello;
    let hello = first_frame(client.hello(1));
    assert_eq!(
        server.receive(hello.clone(), late).unwrap_err(),
        HandshakeError::Slow
    );
    let asked = server.receive(hello, now).unwrap();
    let ack = first_frame(server.accept(&asked, SessionId([1; 16]), None, false, 1));
    assert_eq!(client.receive(ack, late).unwrap_err(), HandshakeError::Slow);
}

#[test]
fn a_refusal_reaches_the_dialing_side_whole() {
    let now = Instant::now();
    let client = ClientHandshake::new(&Limits::default(), None, now);
    let error = CallError::new(Code::PermissionDenied, "not one of ours");
    let frame = first_frame(ServerHandshake::refuse(&error));
    assert_eq!(
        client.receive(frame, now).unwrap_err(),
        HandshakeError::Refused(error)
    );
}

#[test]
fn an_answer_that_continues_another_session_is_refused() {
    let now = Instant::now();
    let client = ClientHandshake::new(&Limits::default(), Some(ticket(1)), now);
    let server = ServerHandshake::new(&Limits::default(), now);
    let asked = server.receive(first_frame(client.hello(1)), now).unwrap();
    let ack = first_frame(server.accept(&asked, SessionId([2; 16]), None, true, 1));
    assert!(matches!(
        client.receive(ack, now),
        Err(HandshakeError::Wire(_))
    ));
}

#[test]
fn hostile_limits_are_raised_to_workable_ones() {
    let hostile = WireLimits {
        keep_alive_ms: 1,
        idle_ms: 1,
        ..WireLimits::default()
    };
    let terms = agree(&Limits::default(), 1, hostile, &[]);
    assert_eq!(
        terms.caps,
        Caps {
            control: 1024,
            data: 1024
        }
    );
    assert_eq!(terms.keep_alive, MIN_KEEP_ALIVE);
    assert!(terms.idle >= terms.keep_alive * 2);
}

#[test]
fn secrets_are_never_printed() {
    assert!(!format!("{:?}", ticket(0xab)).contains("171"));
}
