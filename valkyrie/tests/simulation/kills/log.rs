//! A log from a spool to a store, through kills of both, at any byte.
//! Must not acknowledge for the machines: what they say is what is checked.

use bytes::Bytes;
use valkyrie::append::{Ack, Ending, Piece, Sink, Write, Writer};

use super::super::simulation::choices::Choices;
use super::wire::{Wire, number};
use super::{Shown, Trace};

const MAX_CHUNK: usize = 128;
/// Events with faults, then at most so many without.
const STORM: (u64, u64) = (100, 500);
const CALM: u64 = 100_000;
/// What a message is.
const CHUNK: u8 = 1;
const ENDING: u8 = 2;

/// What survives the writer: the bytes written so far, of which those that are stored may go.
struct Spool {
    content: Vec<u8>,
    /// Of all of it.
    digest: [u8; 32],
    written: usize,
    kept_from: u64,
}

impl Spool {
    fn is_whole(&self) -> bool {
        self.written == self.content.len()
    }
}

/// What survives the sink.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    /// Bytes ever appended: more than there are would mean that some were stored twice.
    appended: usize,
    closed: Option<Ending>,
}

impl Disk {
    /// Appends what is new, as stores do.
    fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, String> {
        let end = self.bytes.len() as u64;
        if offset > end {
            return Err(format!("a write at {offset} leaves a gap behind {end}"));
        }
        let new = bytes.get((end - offset) as usize..).unwrap_or_default();
        if !new.is_empty() && self.closed.is_some() {
            return Err("bytes behind the end of a closed log".to_owned());
        }
        self.bytes.extend_from_slice(new);
        self.appended += new.len();
        Ok(self.bytes.len() as u64)
    }

    fn close(&mut self, ending: Ending) -> Result<(), String> {
        let digest = *blake3::hash(&self.bytes).as_bytes();
        if ending.end != self.bytes.len() as u64 || ending.digest != digest {
            return Err(format!("closed at {} with another log", ending.end));
        }
        self.closed = Some(ending);
        Ok(())
    }
}

/// The sink's end of a connection; its write is not durable before `sync`.
struct Far {
    sink: Sink,
    writing: Option<Write>,
}

struct Line {
    up: Wire,
    down: Wire,
    /// The writer still holds it.
    near: bool,
    /// None once the sink has given it up.
    far: Option<Far>,
}

pub(super) struct World {
    choices: Choices,
    spool: Spool,
    disk: Disk,
    writer: Option<Writer>,
    sink_up: bool,
    /// In the order of their beginning; the writer holds at most one.
    lines: Vec<Line>,
    shown: Shown,
}

impl World {
    pub(super) fn new(mut choices: Choices) -> Self {
        let (length, salt) = (choices.below(1500), choices.below(256));
        let byte = |at: u64| (at.wrapping_mul(31) ^ at >> 8 ^ salt) as u8;
        let content: Vec<u8> = (0..length).map(byte).collect();
        Self {
            choices,
            spool: Spool {
                digest: *blake3::hash(&content).as_bytes(),
                content,
                written: 0,
                kept_from: 0,
            },
            disk: Disk::default(),
            writer: None,
            sink_up: true,
            lines: Vec::new(),
            shown: Shown::default(),
        }
    }

    pub(super) fn run(mut self, trace: &mut Trace) -> Result<Shown, String> {
        for _ in 0..self.choices.between(STORM.0, STORM.1) {
            self.step(true, trace)?;
        }
        for _ in 0..CALM {
            self.step(false, trace)?;
            if self.writer.as_ref().is_some_and(Writer::is_done) {
                return self.verdict();
            }
        }
        Err(format!("no rest: {} bytes stored", self.disk.bytes.len()))
    }

    fn verdict(self) -> Result<Shown, String> {
        let Disk {
            bytes,
            appended,
            closed,
        } = self.disk;
        if bytes != self.spool.content || appended != bytes.len() || closed.is_none() {
            let written = self.spool.content.len();
            let stored = bytes.len();
            return Err(format!(
                "{written} written, {stored} stored, {appended} appended"
            ));
        }
        Ok(Shown {
            bytes: bytes.len() as u64,
            ..self.shown
        })
    }

    fn step(&mut self, faulty: bool, trace: &mut Trace) -> Result<(), String> {
        match self.choices.below(100) {
            0..15 => self.write(),
            15..35 => self.send(faulty)?,
            35..55 => self.deliver_up()?,
            55..75 => self.deliver_down()?,
            75..90 => self.sync()?,
            90..94 => self.connect(),
            94 => self.trim_spool(),
            95 if faulty => self.kill_writer(trace),
            96 if faulty => self.kill_sink(trace)?,
            97 if faulty => self.cut(trace),
            98 => self.start_writer(),
            99 => self.sink_up = true,
            _ => {}
        }
        if !self.spool.content.starts_with(&self.disk.bytes) {
            return Err("the store is no prefix of the log".to_owned());
        }
        Ok(())
    }

    /// The application writes more, durably, and then its end.
    fn write(&mut self) {
        let left = (self.spool.content.len() - self.spool.written) as u64;
        let more = self.choices.below(300).min(left) as usize;
        self.spool.written += more;
        if let Some(writer) = &mut self.writer {
            tell(writer, &self.spool);
        }
    }

    /// A new process knows what is in the spool.
    fn start_writer(&mut self) {
        let spool = &self.spool;
        self.writer.get_or_insert_with(|| {
            let mut writer = Writer::default();
            tell(&mut writer, spool);
            writer
        });
    }

    fn trim_spool(&mut self) {
        if let Some(writer) = &self.writer {
            self.spool.kept_from = self.spool.kept_from.max(writer.durable());
        }
    }

    fn connect(&mut self) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if !self.sink_up || self.lines.iter().any(|line| line.near) {
            return;
        }
        self.shown.overlaps += u64::from(!self.lines.is_empty());
        writer.reopen();
        let mut sink = Sink::new(self.disk.bytes.len() as u64, MAX_CHUNK);
        if self.disk.closed.is_some() {
            sink.closed();
        }
        let mut line = Line {
            up: Wire::new(),
            down: Wire::new(),
            near: true,
            far: None,
        };
        acknowledge(&mut line.down, sink.ack());
        let writing = None;
        line.far = Some(Far { sink, writing });
        self.lines.push(line);
    }

    fn send(&mut self, faulty: bool) -> Result<(), String> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let Some(line) = self.lines.iter_mut().find(|line| line.near) else {
            return Ok(());
        };
        match writer.next(self.choices.between(1, MAX_CHUNK as u64 + 1) as usize) {
            None => {}
            Some(Piece::Ending(Ending { end, digest })) => {
                line.up.send(&[&[ENDING], &end.to_be_bytes(), &digest]);
                writer.sent_ending();
            }
            Some(Piece::Bytes { offset, length }) => {
                if offset < self.spool.kept_from {
                    let kept = self.spool.kept_from;
                    return Err(format!("bytes at {offset} are asked for, kept from {kept}"));
                }
                let mut bytes = self.spool.content[offset as usize..][..length].to_vec();
                let crc = crc32c::crc32c(&bytes);
                if faulty && self.choices.chance(40) {
                    bytes[0] ^= 1;
                    self.shown.damages += 1;
                }
                let head = [&[CHUNK][..], &offset.to_be_bytes(), &crc.to_be_bytes()].concat();
                line.up.send(&[&head, &bytes]);
                writer.sent(length);
            }
        }
        Ok(())
    }

    /// Something arrives at the sink, on any of the connections.
    fn deliver_up(&mut self) -> Result<(), String> {
        let Some(at) = self.any_line() else {
            return Ok(());
        };
        let line = &mut self.lines[at];
        let messages = line.up.deliver(&mut self.choices)?;
        for message in messages {
            let Some(far) = &mut line.far else {
                break;
            };
            if !take(&mut far.sink, &message) {
                // The sink ends the stream; what it is writing becomes durable or not.
                line.far = None;
            }
        }
        if let Some(far) = &mut line.far
            && far.writing.is_none()
        {
            far.writing = far.sink.write();
        }
        self.tidy(at);
        Ok(())
    }

    fn deliver_down(&mut self) -> Result<(), String> {
        let Some(at) = self.lines.iter().position(|line| line.near) else {
            return Ok(());
        };
        let messages = self.lines[at].down.deliver(&mut self.choices)?;
        let writer = self.writer.as_mut().expect("it holds the line");
        for message in messages {
            let (durable_end, closed) = number(&message);
            let ack = Ack {
                durable_end,
                closed: closed == [1],
            };
            if durable_end > self.disk.bytes.len() as u64 {
                return Err(format!("{durable_end} acknowledged and not on the disk"));
            }
            writer.acknowledged(ack).map_err(|e| e.to_string())?;
        }
        let line = &mut self.lines[at];
        if line.far.is_none() && line.down.is_empty() {
            line.near = false;
            line.up.break_off(&mut self.choices);
        }
        self.tidy(at);
        Ok(())
    }

    /// A write of the sink becomes durable.
    fn sync(&mut self) -> Result<(), String> {
        let Some(at) = self.any_line() else {
            return Ok(());
        };
        let line = &mut self.lines[at];
        let Some(far) = &mut line.far else {
            return Ok(());
        };
        if let Some(write) = far.writing.take() {
            let end = self.disk.append(write.offset, &write.bytes)?;
            acknowledge(&mut line.down, far.sink.written(end));
            far.writing = far.sink.write();
        }
        if let Some(ending) = far.sink.due() {
            self.disk.close(ending)?;
            acknowledge(&mut line.down, far.sink.closed());
        }
        self.tidy(at);
        Ok(())
    }

    fn kill_writer(&mut self, trace: &mut Trace) {
        if self.writer.take().is_some() {
            trace.note(|| format!("log: writer killed at {}", self.spool.written));
            self.shown.sender_kills += 1;
            self.let_go();
        }
    }

    fn cut(&mut self, trace: &mut Trace) {
        if self.lines.iter().any(|line| line.near) {
            trace.note(|| "log: cut".to_owned());
            self.shown.cuts += 1;
            self.let_go();
        }
    }

    /// The writer's end is gone; what has left may still arrive.
    fn let_go(&mut self) {
        if let Some(at) = self.lines.iter().position(|line| line.near) {
            let line = &mut self.lines[at];
            line.near = false;
            line.up.break_off(&mut self.choices);
            self.tidy(at);
        }
    }

    /// Whatever it was writing is on the disk up to any byte; all else of it is forgotten.
    fn kill_sink(&mut self, trace: &mut Trace) -> Result<(), String> {
        if !std::mem::take(&mut self.sink_up) {
            return Ok(());
        }
        self.shown.receiver_kills += 1;
        for line in &mut self.lines {
            let Some(write) = line.far.take().and_then(|far| far.writing) else {
                continue;
            };
            let most = write.bytes.len() as u64 + 1;
            let torn = write.bytes.slice(..self.choices.below(most) as usize);
            self.shown.torn += u64::from(!torn.is_empty() && torn.len() < write.bytes.len());
            self.disk.append(write.offset, &torn)?;
        }
        self.lines.retain_mut(|line| {
            line.down.break_off(&mut self.choices);
            line.near
        });
        trace.note(|| format!("log: sink killed at {}", self.disk.bytes.len()));
        Ok(())
    }

    fn any_line(&mut self) -> Option<usize> {
        let count = self.lines.len() as u64;
        (count > 0).then(|| self.choices.below(count) as usize)
    }

    /// A connection that nobody holds and that brings nothing more is over.
    fn tidy(&mut self, at: usize) {
        let line = &self.lines[at];
        let idle = line.far.as_ref().is_none_or(|far| far.writing.is_none());
        if !line.near && (line.far.is_none() || line.up.is_empty() && idle) {
            self.lines.remove(at);
        }
    }
}

fn tell(writer: &mut Writer, spool: &Spool) {
    writer.extend_to(spool.written as u64);
    if spool.is_whole() {
        writer.end(spool.digest);
    }
}

fn acknowledge(down: &mut Wire, ack: Ack) {
    down.send(&[&ack.durable_end.to_be_bytes(), &[u8::from(ack.closed)]]);
}

/// Whether the sink takes a message.
fn take(sink: &mut Sink, message: &Bytes) -> bool {
    let (kind, rest) = message.split_first().expect("a kind");
    let (offset, rest) = number(rest);
    if *kind == ENDING {
        let digest = rest.try_into().expect("a digest");
        let end = offset;
        return sink.ending(Ending { end, digest }).is_ok();
    }
    let (crc, bytes) = rest.split_first_chunk().expect("a checksum");
    sink.chunk(offset, bytes, u32::from_be_bytes(*crc)).is_ok()
}
