//! The connection in bytes of `docs/protocol.md` against the code: the bytes, what is said of each
//! of them, and the fixtures. Must not hold bytes or values of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

use bytes::Bytes;
use valkyrie::wire::message::{
    CallHead, Failure, Framed, Goaway, Hello, HelloAck, NotifyHead, OpenHead, ReplyHead, WireLimits,
};
use valkyrie::wire::{Caps, Decoder, Frame, FrameType, varint};

const TITLE: &str = "## 13. A connection in bytes";
const CAPS: Caps = Caps {
    control: 65_536,
    data: 262_144,
};

/// Bytes and what the document says of them: `4 limits: 19 bytes` has a number, `type: HELLO` none.
#[derive(Debug)]
struct Field {
    bytes: Vec<u8>,
    number: String,
    name: String,
    value: String,
}

/// One frame as the document shows it.
#[derive(Debug)]
struct Shown {
    /// The file that it is said to be.
    fixture: Option<String>,
    fields: Vec<Field>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs
        .map(|pair| u8::from_str_radix(&pair, 16).unwrap_or_else(|_| panic!("{pair:?} in {text}")))
        .collect()
}

impl Field {
    fn parse(bytes: Vec<u8>, says: &str) -> Self {
        let (name, value) = says.split_once(": ").unwrap_or_else(|| panic!("{says:?}"));
        let (number, name) = name.split_once(' ').unwrap_or(("", name));
        Self {
            bytes,
            number: number.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    fn number<T: TryFrom<u64, Error: Debug>>(&self) -> T {
        let value: u64 = self.value.parse().unwrap_or_else(|_| panic!("{self:?}"));
        T::try_from(value).unwrap()
    }

    fn is_true(&self) -> bool {
        self.value.parse().unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn text(&self) -> String {
        let inner = self.value.strip_prefix('"');
        let inner = inner.and_then(|rest| rest.strip_suffix('"'));
        inner.unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// `"text"`, `0x0102`, or `16 x aa`.
    fn octets(&self) -> Bytes {
        if let Some(digits) = self.value.strip_prefix("0x") {
            return hex(digits).into();
        }
        match self.value.split_once(" x ") {
            Some((count, byte)) => hex(byte).repeat(count.parse().unwrap()).into(),
            None => self.text().into(),
        }
    }
}

/// The blocks of the section: what one side sends in a row.
fn blocks() -> Vec<Vec<Shown>> {
    let text = std::fs::read_to_string(root().join("../docs/protocol.md")).unwrap();
    let (_, section) = text.split_once(TITLE).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```hex\n").skip(1);
    blocks
        .map(|block| parse(block.split_once("```").unwrap().0))
        .collect()
}

fn parse(block: &str) -> Vec<Shown> {
    let mut frames: Vec<Shown> = Vec::new();
    let mut fixture = None;
    for line in block.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let name = comment.split(':').next().unwrap();
            fixture = name.ends_with(".hex").then(|| name.to_owned());
            continue;
        }
        let (bytes, says) = line.split_once("  ").unwrap_or((line, ""));
        let bytes = hex(bytes);
        if says.trim().is_empty() {
            // A field that is longer than a line.
            let last = frames.last_mut().unwrap().fields.last_mut().unwrap();
            last.bytes.extend(bytes);
            continue;
        }
        let field = Field::parse(bytes, says.trim());
        if field.name == "type" {
            let fields = vec![field];
            let fixture = fixture.take();
            frames.push(Shown { fixture, fields });
        } else {
            frames.last_mut().unwrap().fields.push(field);
        }
    }
    frames
}

impl Shown {
    fn bytes(&self) -> Vec<u8> {
        let fields = self.fields.iter();
        fields.flat_map(|field| field.bytes.clone()).collect()
    }

    fn kind(&self) -> FrameType {
        let named = &self.fields[0].value;
        if let Some(number) = named.strip_prefix("0x") {
            return FrameType::Unknown(u64::from_str_radix(number, 16).unwrap());
        }
        let mut known = FrameType::KNOWN.into_iter();
        let kind = known.find(|kind| kind.name() == named);
        kind.unwrap_or_else(|| panic!("{named:?} is no frame"))
    }

    /// The frame that the code makes of what is said of it, once each line has been compared.
    fn made(&self) -> Frame {
        let kind = self.kind();
        let [_, flags, length, content @ ..] = &self.fields[..] else {
            panic!("no header: {self:?}")
        };
        let unknown = matches!(kind, FrameType::Unknown(_));
        let said = if unknown { "none" } else { "critical" };
        assert_eq!((&*flags.name, &*flags.value), ("flags", said));
        assert_eq!(flags.bytes, [u8::from(!unknown)]);
        let mut number = Vec::new();
        varint::encode(kind.number(), &mut number);
        assert_eq!(self.fields[0].bytes, number, "{kind:?}");
        let frame = match kind {
            FrameType::Hello => message(kind, content, hello),
            FrameType::HelloAck => message(kind, content, hello_ack),
            FrameType::Goaway => message(kind, content, goaway),
            FrameType::Call => message(kind, content, call),
            FrameType::Reply => message(kind, content, reply),
            FrameType::Fail => message(kind, content, failure),
            FrameType::Open => message(kind, content, open),
            FrameType::Notify => message(kind, content, notify),
            _ => raw(kind, content),
        };
        let mut count = Vec::new();
        varint::encode(frame.payload.len() as u64, &mut count);
        assert_eq!(length.name, "length");
        assert_eq!(length.bytes, count, "{kind:?}");
        assert_eq!(length.number::<usize>(), frame.payload.len(), "{kind:?}");
        frame
    }
}

fn raw(kind: FrameType, content: &[Field]) -> Frame {
    let payload = match content {
        [] => Bytes::new(),
        [payload] => {
            assert_eq!(payload.name, "payload");
            payload.octets()
        }
        more => panic!("{kind:?} has no fields: {more:?}"),
    };
    Frame { kind, payload }
}

/// The message of these fields. Each line must be what the code writes for that field alone.
fn message<M: Framed>(kind: FrameType, content: &[Field], set: fn(&mut M, &Field)) -> Frame {
    let mut whole = M::default();
    for field in content {
        set(&mut whole, field);
        let number = field.number.rsplit('.').next().unwrap();
        let tag = number.parse::<u8>().unwrap_or_else(|_| panic!("{field:?}"));
        assert_eq!(field.bytes[0] >> 3, tag, "{field:?}");
        if field.name == "limits" {
            continue;
        }
        let alone = if let Some(name) = field.name.strip_prefix("limits.") {
            let mut limits = WireLimits::default();
            set_limit(&mut limits, name, field);
            prost::Message::encode_to_vec(&limits)
        } else {
            let mut message = M::default();
            set(&mut message, field);
            message.encode_to_vec()
        };
        assert_eq!(alone, field.bytes, "{field:?}");
    }
    whole.to_frame_as(kind)
}

fn no_field(field: &Field) -> ! {
    panic!("no such field: {field:?}")
}

fn set_limit(limits: &mut WireLimits, name: &str, field: &Field) {
    let value = match name {
        "control_frame" => &mut limits.control_frame,
        "data_frame" => &mut limits.data_frame,
        "call_body" => &mut limits.call_body,
        "idle_ms" => &mut limits.idle_ms,
        "keep_alive_ms" => &mut limits.keep_alive_ms,
        _ => no_field(field),
    };
    *value = field.number();
}

/// The line before the limits, and a line of them.
fn limits(limits: &mut Option<WireLimits>, field: &Field) {
    let Some(name) = field.name.strip_prefix("limits.") else {
        assert_eq!(field.value, format!("{} bytes", field.bytes[1]));
        *limits = Some(WireLimits::default());
        return;
    };
    set_limit(limits.as_mut().unwrap(), name, field);
}

fn hello(hello: &mut Hello, field: &Field) {
    match &*field.name {
        "min_version" => hello.min_version = field.number(),
        "max_version" => hello.max_version = field.number(),
        "features" => hello.features.push(field.number()),
        "build" => hello.build = field.text(),
        "session" => hello.session = field.octets(),
        "secret" => hello.secret = field.octets(),
        name if name.starts_with("limits") => limits(&mut hello.limits, field),
        _ => no_field(field),
    }
}

fn hello_ack(ack: &mut HelloAck, field: &Field) {
    match &*field.name {
        "version" => ack.version = field.number(),
        "build" => ack.build = field.text(),
        "session" => ack.session = field.octets(),
        "secret" => ack.secret = field.octets(),
        "resumed" => ack.resumed = field.is_true(),
        name if name.starts_with("limits") => limits(&mut ack.limits, field),
        _ => no_field(field),
    }
}

fn goaway(goaway: &mut Goaway, field: &Field) {
    match &*field.name {
        "deadline_ms" => goaway.deadline_ms = field.number(),
        _ => no_field(field),
    }
}

fn call(call: &mut CallHead, field: &Field) {
    match &*field.name {
        "method" => call.method = field.number(),
        "class" => call.class = field.number(),
        "deadline_ms" => call.deadline_ms = field.number(),
        "length" => call.length = field.number(),
        _ => no_field(field),
    }
}

fn reply(reply: &mut ReplyHead, field: &Field) {
    match &*field.name {
        "length" => reply.length = field.number(),
        _ => no_field(field),
    }
}

fn failure(failure: &mut Failure, field: &Field) {
    match &*field.name {
        "code" => failure.code = field.number(),
        "retryable" => failure.retryable = field.is_true(),
        "retry_after_ms" => failure.retry_after_ms = field.number(),
        "detail" => failure.detail = field.text(),
        _ => no_field(field),
    }
}

fn open(open: &mut OpenHead, field: &Field) {
    match &*field.name {
        "method" => open.method = field.number(),
        "class" => open.class = field.number(),
        _ => no_field(field),
    }
}

fn notify(notify: &mut NotifyHead, field: &Field) {
    match &*field.name {
        "method" => notify.method = field.number(),
        "class" => notify.class = field.number(),
        _ => no_field(field),
    }
}

#[test]
fn every_line_shown_is_what_the_code_writes_for_what_is_said_of_it() {
    for frame in blocks().iter().flatten() {
        assert_eq!(frame.made().to_bytes(), frame.bytes(), "{frame:?}");
    }
}

#[test]
fn each_direction_shown_is_read_as_the_frames_that_it_names() {
    for block in blocks() {
        let mut decoder = Decoder::new(CAPS);
        decoder.push(block.iter().flat_map(Shown::bytes).collect());
        for shown in &block {
            if matches!(shown.kind(), FrameType::Unknown(_)) {
                continue;
            }
            let read = decoder.next_frame().unwrap().unwrap();
            assert_eq!(read, shown.made());
            assert_eq!(read.to_bytes(), shown.bytes(), "written again");
        }
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.finish(), Ok(()));
    }
}

#[test]
fn frames_that_are_said_to_be_a_fixture_are_it_and_every_part_of_a_connection_is_shown() {
    let mut kinds = BTreeSet::new();
    let blocks = blocks();
    for frame in blocks.iter().flatten() {
        let name = frame.kind().name();
        kinds.insert(name);
        let Some(file) = &frame.fixture else {
            // The bytes of bodies and messages are the application's.
            assert_eq!(name, "DATA", "{frame:?}");
            continue;
        };
        let path = root().join("tests/fixtures/v1").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(frame.bytes(), hex(&lines.collect::<String>()), "{file}");
    }
    // What is not shown: REFUSE is FAIL with another type, and PROGRESS needs a feature.
    let left_out = ["REFUSE", "PROGRESS"];
    let known = FrameType::KNOWN.map(FrameType::name).into_iter();
    let expected = known.filter(|name| !left_out.contains(name));
    assert_eq!(kinds, expected.chain(["unknown"]).collect());
}
