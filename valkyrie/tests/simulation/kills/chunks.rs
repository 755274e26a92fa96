//! A content in chunks from a sender to a receiver, through kills of both, at any byte.
//! Must not send a chunk again that the receiver has said to have on its disk.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use valkyrie::chunks::{Chunk, Digest, Have, Intake, Manifest, Outbox, Refusal, Taken};

use super::super::simulation::choices::Choices;
use super::wire::{Wire, number};
use super::{Shown, Trace};

const CHUNK: u32 = 1024;
const LANES: usize = 3;
/// Events with faults, then at most so many without.
const STORM: (u64, u64) = (100, 400);
const CALM: u64 = 100_000;
/// What a message is.
const MANIFEST: u8 = 1;
const PIECE: u8 = 2;
const HAVE: u8 = 3;
const STORED: u8 = 4;
const AGAIN: u8 = 5;

/// The receiver's process: a chunk is durable only after `sync`.
#[derive(Default)]
struct Receiver {
    intake: Option<Intake>,
    storing: Vec<Chunk>,
}

/// One connection: a stream for control, and one for each lane.
struct Line {
    control: Wire,
    lanes: [Wire; LANES],
    down: Wire,
    /// The receiver has said what it has: chunks may leave.
    ready: bool,
}

impl Line {
    fn new(manifest: &Manifest) -> Self {
        let mut control = Wire::new();
        control.send(&[&[MANIFEST], &0_u64.to_be_bytes(), &manifest.encode()]);
        Self {
            control,
            lanes: std::array::from_fn(|_| Wire::new()),
            down: Wire::new(),
            ready: false,
        }
    }
}

pub(super) struct World {
    choices: Choices,
    content: Vec<u8>,
    manifest: Manifest,
    sender: Option<Outbox>,
    receiver: Option<Receiver>,
    disk: HashMap<Digest, Bytes>,
    line: Option<Line>,
    /// Chunks sent, and how many more than one each may have been.
    sent: u64,
    excused: u64,
    shown: Shown,
}

impl World {
    pub(super) fn new(mut choices: Choices) -> Self {
        let length = choices.below(9000);
        let mut content: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        for byte in content.iter_mut().step_by(97) {
            *byte = choices.below(256) as u8;
        }
        if content.len() > 4096 && choices.chance(300) {
            // The same chunk twice.
            content.copy_within(0..1024, 2048);
        }
        let manifest = Manifest::of(&content, CHUNK).expect("within the bounds");
        Self {
            choices,
            content,
            manifest,
            sender: None,
            receiver: None,
            disk: HashMap::new(),
            line: None,
            sent: 0,
            excused: 0,
            shown: Shown::default(),
        }
    }

    pub(super) fn run(mut self, trace: &mut Trace) -> Result<Shown, String> {
        for _ in 0..self.choices.between(STORM.0, STORM.1) {
            self.step(true, trace)?;
        }
        for _ in 0..CALM {
            self.step(false, trace)?;
            if self.sender.as_ref().is_some_and(Outbox::is_done) {
                return self.verdict();
            }
        }
        Err(format!("no rest: {} chunks stored", self.disk.len()))
    }

    fn verdict(self) -> Result<Shown, String> {
        let manifest = &self.manifest;
        let chunks = manifest.digests().map(|(_, digest)| self.disk.get(&digest));
        let Some(chunks) = chunks.collect::<Option<Vec<_>>>() else {
            return Err("the sender is done, and chunks are missing".to_owned());
        };
        let arrived = chunks.iter().flat_map(|chunk| chunk.iter());
        if !arrived.eq(&self.content) {
            return Err("another content has arrived".to_owned());
        }
        let distinct: HashSet<_> = manifest.digests().map(|(_, digest)| digest).collect();
        let most = distinct.len() as u64 + self.excused;
        if self.sent > most {
            return Err(format!(
                "{} chunks were sent where {most} would do",
                self.sent
            ));
        }
        Ok(Shown {
            bytes: self.content.len() as u64,
            ..self.shown
        })
    }

    fn step(&mut self, faulty: bool, trace: &mut Trace) -> Result<(), String> {
        match self.choices.below(100) {
            0..20 => self.send(faulty),
            20..45 => self.deliver_up()?,
            45..65 => self.deliver_down()?,
            65..85 => self.sync()?,
            85..92 => self.connect(),
            92 if faulty && self.sender.take().is_some() => {
                trace.note(|| "chunks: sender killed".to_owned());
                self.shown.sender_kills += 1;
                self.broken();
            }
            93 if faulty && self.receiver.take().is_some() => {
                trace.note(|| format!("chunks: receiver killed with {}", self.disk.len()));
                self.shown.receiver_kills += 1;
                self.broken();
            }
            94 if faulty && self.line.is_some() => {
                trace.note(|| "chunks: cut".to_owned());
                self.shown.cuts += 1;
                self.broken();
            }
            95..98 => {
                let manifest = &self.manifest;
                self.sender
                    .get_or_insert_with(|| Outbox::new(manifest.clone(), LANES));
            }
            98.. => drop(self.receiver.get_or_insert_default()),
            _ => {}
        }
        Ok(())
    }

    /// The connection is gone with all that was on it: at most what was under way goes again.
    fn broken(&mut self) {
        if self.line.take().is_some() {
            self.excused += LANES as u64;
        }
        if let Some(receiver) = &mut self.receiver
            && let Some(intake) = &mut receiver.intake
        {
            intake.cut();
        }
    }

    fn connect(&mut self) {
        if self.line.is_none() && self.sender.is_some() && self.receiver.is_some() {
            self.line = Some(Line::new(&self.manifest));
        }
    }

    /// A chunk leaves on a lane of its own, in pieces.
    fn send(&mut self, faulty: bool) {
        let (Some(outbox), Some(line)) = (&mut self.sender, &mut self.line) else {
            return;
        };
        let Some(lane) = line.lanes.iter().position(Wire::is_empty) else {
            return;
        };
        if !line.ready {
            return;
        }
        let Some(index) = outbox.take() else {
            return;
        };
        self.sent += 1;
        let range = self.manifest.range(index).expect("one of its chunks");
        let mut bytes = self.content[range.start as usize..range.end as usize].to_vec();
        if faulty && self.shown.damages < 2 && self.choices.chance(30) {
            bytes[0] ^= 1;
            self.shown.damages += 1;
            self.excused += 1;
        }
        let size = self.choices.between(100, 1100) as usize;
        for (number, piece) in bytes.chunks(size).enumerate() {
            let offset = ((number * size) as u32).to_be_bytes();
            let index = u64::from(index).to_be_bytes();
            line.lanes[lane].send(&[&[PIECE], &index, &offset, piece]);
        }
    }

    fn deliver_up(&mut self) -> Result<(), String> {
        let (Some(receiver), Some(line)) = (&mut self.receiver, &mut self.line) else {
            return Ok(());
        };
        let wire = match self.choices.below(LANES as u64 + 1) as usize {
            LANES => &mut line.control,
            lane => &mut line.lanes[lane],
        };
        for message in wire.deliver(&mut self.choices)? {
            let (kind, rest) = message.split_first().expect("a kind");
            let (index, rest) = number(rest);
            if *kind == MANIFEST {
                let manifest = Manifest::decode(rest).map_err(|e| e.to_string())?;
                let disk = &self.disk;
                let begin = || Intake::new(manifest, |digest| disk.contains_key(digest), LANES);
                let intake = receiver.intake.get_or_insert_with(begin);
                line.down
                    .send(&[&[HAVE], &[0; 8], intake.have().as_bytes()]);
                continue;
            }
            let intake = receiver.intake.as_mut().expect("a manifest comes first");
            let (offset, bytes) = rest.split_first_chunk().expect("an offset");
            let offset = u32::from_be_bytes(*offset);
            match intake.piece(index as u32, offset, bytes) {
                Ok(Taken::More) => {}
                Ok(Taken::Whole(chunk)) => receiver.storing.push(chunk),
                // What is still being stored is told of when it is.
                Ok(Taken::Known) if intake.have().contains(index as u32) => {
                    line.down.send(&[&[STORED], &index.to_be_bytes()]);
                }
                Ok(Taken::Known) => {}
                Err(refusal @ (Refusal::Wrong { .. } | Refusal::Busy { .. })) => {
                    self.excused += u64::from(matches!(refusal, Refusal::Busy { .. }));
                    line.down.send(&[&[AGAIN], &index.to_be_bytes()]);
                }
                Err(other) => return Err(other.to_string()),
            }
        }
        Ok(())
    }

    fn deliver_down(&mut self) -> Result<(), String> {
        let chunks = self.manifest.len();
        let (Some(outbox), Some(line)) = (&mut self.sender, &mut self.line) else {
            return Ok(());
        };
        for message in line.down.deliver(&mut self.choices)? {
            let (kind, rest) = message.split_first().expect("a kind");
            let (index, rest) = number(rest);
            let index = index as u32;
            match *kind {
                HAVE => {
                    let have = Have::decode(rest, chunks).expect("of this content");
                    outbox.resume(&have).map_err(|e| e.to_string())?;
                    line.ready = true;
                }
                STORED => {
                    let digest = self.manifest.digest(index);
                    if digest.is_none_or(|digest| !self.disk.contains_key(&digest)) {
                        return Err(format!("chunk {index} counts as stored and is not"));
                    }
                    outbox.stored(index);
                }
                _ => outbox.lost(index),
            }
        }
        Ok(())
    }

    /// One chunk becomes durable.
    fn sync(&mut self) -> Result<(), String> {
        let Some(receiver) = &mut self.receiver else {
            return Ok(());
        };
        let Some(chunk) = receiver.storing.pop() else {
            return Ok(());
        };
        if Digest::of(&chunk.bytes) != chunk.digest {
            return Err("a chunk with wrong bytes is stored".to_owned());
        }
        if self.disk.insert(chunk.digest, chunk.bytes).is_some() {
            return Err(format!("chunk {} is stored twice", chunk.index));
        }
        let intake = receiver.intake.as_mut().expect("it gave the chunk");
        intake.stored(chunk.index);
        if let Some(line) = &mut self.line {
            let index = u64::from(chunk.index).to_be_bytes();
            line.down.send(&[&[STORED], &index]);
        }
        Ok(())
    }
}
