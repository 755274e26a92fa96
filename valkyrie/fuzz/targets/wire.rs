//! Decoders and parsers.
//! Must not need state from one input to the next.

use std::time::Instant;

use bytes::Bytes;
use valkyrie::identity::{SpiffeId, TrustDomain};
use valkyrie::limits::Limits;
use valkyrie::session::handshake::Terms;
use valkyrie::session::{ClientHandshake, HandshakeError, Secret, ServerHandshake, Ticket};
use valkyrie::wire::message::{
    CallHead, Failure, Framed, Goaway, Hello, HelloAck, NotifyHead, OpenHead, Progress, ReplyHead,
};
use valkyrie::wire::{Caps, Decoder, Frame, FrameType, SessionId, WireError};

use super::{named, size};

/// All frames, and how it ended.
fn decode(caps: Caps, pieces: impl Iterator<Item = Bytes>) -> (Vec<Frame>, Result<(), WireError>) {
    let mut decoder = Decoder::new(caps);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, decoder.finish())
}

/// The first byte cuts the rest into pieces; the cuts must make no difference.
pub(crate) fn frames(input: &[u8]) -> u64 {
    let caps = Caps {
        control: 300,
        data: 700,
    };
    let (cut, stream) = input.split_first().map_or((1, input), |(c, s)| (*c, s));
    let whole = decode(caps, [Bytes::copy_from_slice(stream)].into_iter());
    let pieces = stream.chunks(usize::from(cut).max(1));
    let cut = decode(caps, pieces.map(Bytes::copy_from_slice));
    assert_eq!(whole, cut);
    let (frames, end) = whole;
    for frame in &frames {
        let cap = match frame.kind {
            FrameType::Data => caps.data,
            FrameType::Unknown(_) => panic!("an unknown frame was not skipped"),
            _ => caps.control,
        };
        assert!(frame.payload.len() <= cap);
    }
    let again = frames.iter().flat_map(Frame::to_bytes).collect::<Vec<u8>>();
    let (same, end_of_same) = decode(caps, [Bytes::from(again)].into_iter());
    assert_eq!((&same, end_of_same), (&frames, Ok(())));
    let kinds: Vec<_> = frames
        .iter()
        .take(6)
        .map(|frame| (frame.kind.number(), size(frame.payload.len())))
        .collect();
    named((kinds, end.err().map(|error| std::mem::discriminant(&error))))
}

pub(crate) fn example_frames() -> Vec<u8> {
    let mut input = vec![3];
    for kind in FrameType::KNOWN {
        let payload = Bytes::from_static(b"12345678");
        input.extend(Frame { kind, payload }.to_bytes());
    }
    input
}

fn ticket() -> Ticket {
    Ticket {
        id: SessionId([7; 16]),
        secret: Secret([9; 32]),
    }
}

fn sound(terms: &Terms, limits: &Limits) {
    assert!(terms.version == 1);
    assert!((1024..=limits.control_frame).contains(&terms.caps.control));
    assert!((1024..=limits.data_frame).contains(&terms.caps.data));
    assert!((1024..=limits.call_body).contains(&terms.call_body));
    assert!(terms.idle >= terms.keep_alive * 2);
    assert!(!terms.keep_alive.is_zero());
}

fn kind(error: &HandshakeError) -> u8 {
    match error {
        HandshakeError::Slow => 1,
        HandshakeError::Refused(_) => 2,
        HandshakeError::Version { .. } => 3,
        HandshakeError::Wire(WireError::Message { .. }) => 4,
        HandshakeError::Wire(_) => 5,
    }
}

/// The input as a HELLO for a server, then as an answer for a client.
pub(crate) fn hello(input: &[u8]) -> u64 {
    let limits = Limits::default();
    let now = Instant::now();
    let frame = |kind| Frame {
        kind,
        payload: Bytes::copy_from_slice(input),
    };
    let server = ServerHandshake::new(&limits, now);
    let asked = server.receive(frame(FrameType::Hello), now).map(|asked| {
        sound(&asked.terms, &limits);
        let ack = server.accept(&asked, SessionId([1; 16]), None, false, 5);
        let (frames, end) = decode(
            Caps {
                control: 1024,
                data: 1024,
            },
            [ack].into_iter(),
        );
        assert_eq!((frames.len(), end), (1, Ok(())));
        let client = ClientHandshake::new(&limits, None, now);
        let welcome = client.receive(frames[0].clone(), now).unwrap();
        assert_eq!(welcome.id, SessionId([1; 16]));
        (asked.resume.is_some(), size(asked.terms.caps.data))
    });
    let client = ClientHandshake::new(&limits, Some(ticket()), now);
    let answers = [FrameType::HelloAck, FrameType::Refuse].map(|answer| {
        client.receive(frame(answer), now).map(|welcome| {
            sound(&welcome.terms, &limits);
            assert!(!welcome.resumed || welcome.id == ticket().id);
            (welcome.resumed, welcome.ticket.is_some())
        })
    });
    let [ack, refuse] = answers.map(|answer| answer.map_err(|error| kind(&error)));
    named((asked.map_err(|error| kind(&error)), ack, refuse))
}

pub(crate) fn example_hello() -> Vec<u8> {
    let hello = ClientHandshake::new(&Limits::default(), Some(ticket()), Instant::now());
    let bytes = hello.hello(3);
    let caps = Caps {
        control: 4096,
        data: 4096,
    };
    decode(caps, [bytes].into_iter()).0[0].payload.to_vec()
}

/// A message that was read must come back from its own bytes.
fn stable<M: Framed + PartialEq + std::fmt::Debug>(payload: &[u8]) -> (bool, u32) {
    let frame = Frame {
        kind: M::FRAMES[0],
        payload: Bytes::copy_from_slice(payload),
    };
    let Ok(message) = M::from_frame(frame) else {
        return (false, 0);
    };
    let again = message.to_frame();
    let length = size(again.payload.len());
    assert_eq!(M::from_frame(again).unwrap(), message);
    (true, length)
}

/// The input as the payload of every message.
pub(crate) fn messages(input: &[u8]) -> u64 {
    let failure = Frame {
        kind: FrameType::Fail,
        payload: Bytes::copy_from_slice(input),
    };
    if let Ok(failure) = Failure::from_frame(failure) {
        let error = valkyrie::error::CallError::from(failure);
        let back = valkyrie::error::CallError::from(Failure::from(&error));
        assert_eq!(back.code, error.code);
        assert!(back.detail.len() <= 1024);
    }
    named([
        stable::<Hello>(input),
        stable::<HelloAck>(input),
        stable::<CallHead>(input),
        stable::<ReplyHead>(input),
        stable::<OpenHead>(input),
        stable::<NotifyHead>(input),
        stable::<Progress>(input),
        stable::<Goaway>(input),
        stable::<Failure>(input),
    ])
}

pub(crate) fn example_message() -> Vec<u8> {
    let call = CallHead {
        method: 16,
        class: 1,
        deadline_ms: 5000,
        length: 3,
        ..CallHead::default()
    };
    call.to_frame().payload.to_vec()
}

/// A name that is accepted has one form only, and nothing that could be read two ways.
pub(crate) fn identity(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let domain = TrustDomain::parse(&text);
    if let Ok(domain) = &domain {
        assert_eq!(domain.as_str(), text);
        assert!(domain.member("a").is_ok());
    }
    let id = SpiffeId::parse(&text);
    let shape = id.as_ref().map(|id| {
        assert_eq!(id.to_string(), text);
        assert!(text.len() <= 2048 && text.is_ascii());
        assert!(!text.contains(['%', '?', '#', '@', ' ', '\\']));
        let segments: Vec<_> = id.segments().collect();
        assert!(
            segments
                .iter()
                .all(|s| !s.is_empty() && *s != "." && *s != "..")
        );
        let domain = id.trust_domain();
        let same = domain.member(&segments.join("/")).unwrap();
        assert_eq!(&same, id);
        (segments.len().min(12), size(domain.as_str().len()))
    });
    let refused = id.as_ref().err().map(|error| match error {
        valkyrie::identity::IdentityError::SpiffeId { why, .. } => *why,
        _ => "another error",
    });
    named((domain.is_ok(), shape.ok(), refused))
}

/// A signing request: never a panic, and what is issued names who was asked for.
#[cfg(feature = "identity")]
pub(crate) fn request(input: &[u8]) -> u64 {
    use std::time::{Duration, SystemTime};
    use valkyrie::identity::{Authority, TrustBundle};
    thread_local! {
        static AUTHORITY: Authority = {
            let domain = TrustDomain::parse("fuzz.example").unwrap();
            Authority::generate(domain, SystemTime::now(), Duration::from_secs(86_400)).unwrap()
        };
    }
    AUTHORITY.with(|authority| {
        let id = authority.trust_domain().member("ns/a/agent/1").unwrap();
        let hour = Duration::from_secs(3600);
        let issued = authority.issue(input, &id, &[], SystemTime::now(), hour);
        let text = String::from_utf8_lossy(input);
        let bundle = TrustBundle::from_pem(authority.trust_domain().clone(), &text);
        if let Ok(chain) = &issued {
            assert_eq!(chain.len(), 1);
            let name = id.to_string();
            let der = chain[0].as_ref();
            assert!(der.windows(name.len()).any(|w| w == name.as_bytes()));
        }
        let why = issued.err().map(|error| error.to_string());
        named((why, bundle.is_ok()))
    })
}

#[cfg(feature = "identity")]
pub(crate) fn example_request() -> Vec<u8> {
    let request = valkyrie::identity::KeyRequest::generate().unwrap();
    request.csr_der().to_vec()
}
