//! The accepting side: sessions, calls, a log on a disk that survives a crash.
//! Must not know what the dialing side intends; it sees bytes.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use valkyrie::append::Sink;
use valkyrie::error::{CallError, Code};
use valkyrie::limits::Limits;
use valkyrie::session::drain::DrainStep;
use valkyrie::session::{Drain, Health, Liveness, Secret, ServerHandshake, Sessions, Ticket};
use valkyrie::wire::message::{CallHead, Failure, Framed, Goaway, OpenHead, ReplyHead};
use valkyrie::wire::{CloseCode, Decoder, Frame, FrameType, SessionId};

use super::choices::Choices;
use super::network::{Event, MS, Network, Pipe, Side, Time};
use super::world::{CAPS, Clock, Log, data, intervals, pattern};

pub(crate) struct Server {
    pub(crate) up: bool,
    /// Counts the starts: what belongs to an earlier one is forgotten.
    pub(crate) boot: u64,
    clock: Clock,
    limits: Limits,
    table: Sessions<&'static str, u64>,
    lines: BTreeMap<u32, Line>,
    /// What the table must do, kept apart from it: the state of each session of this start.
    oracle: BTreeMap<SessionId, Kept>,
    /// The log as it is on the disk.
    pub(crate) disk: Vec<u8>,
    /// How often each call was begun, for ever.
    pub(crate) runs: BTreeMap<u64, u32>,
    pub(crate) resumed: u32,
    leaving: bool,
    next_wake: Time,
}

struct Kept {
    value: u64,
    connection: Option<u32>,
    since: Instant,
}

struct Line {
    handshake: Option<ServerHandshake>,
    session: Option<(SessionId, u64)>,
    liveness: Liveness,
    drain: Drain,
    streams: BTreeMap<u32, Stream>,
}

struct Stream {
    decoder: Decoder,
    work: Work,
}

enum Work {
    Control,
    /// Its first frame has not come.
    Fresh,
    Call {
        call: u64,
        until: Instant,
    },
    Log {
        sink: Sink,
        writing: Bytes,
        next: u64,
    },
}

impl Server {
    pub(crate) fn new(limits: &Limits, clock: Clock) -> Self {
        Self {
            up: true,
            boot: 0,
            clock,
            limits: limits.clone(),
            table: Sessions::new(limits.resume_window, limits.sessions),
            lines: BTreeMap::new(),
            oracle: BTreeMap::new(),
            disk: Vec::new(),
            runs: BTreeMap::new(),
            resumed: 0,
            leaving: false,
            next_wake: Time::MAX,
        }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.table.len()
    }

    /// Loses everything but the disk.
    pub(crate) fn crash(&mut self, network: &mut Network) {
        self.up = false;
        self.boot += 1;
        self.lines.clear();
        self.oracle.clear();
        self.table = Sessions::new(self.limits.resume_window, self.limits.sessions);
        self.leaving = false;
        network.crash_server();
    }

    /// Begins to go away in good order.
    pub(crate) fn hand_over(
        &mut self,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) {
        if !self.up || self.leaving {
            return;
        }
        self.leaving = true;
        let now = self.clock.now(network.now);
        let patience = std::time::Duration::from_millis(choices.between(100, 4000));
        let admitted = self
            .lines
            .iter_mut()
            .filter(|(_, line)| line.session.is_some());
        for (connection, line) in admitted {
            let goaway = line.drain.begin(patience, "successor:1", now);
            log.note(network.now, || {
                format!("server: GOAWAY on {connection} within {patience:?}")
            });
            send(network, choices, *connection, 0, &goaway.to_frame(), false);
        }
    }

    /// Bytes of the dialing side.
    pub(crate) fn receive(
        &mut self,
        pipe: Pipe,
        bytes: Vec<Bytes>,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let line = self.lines.entry(pipe.connection).or_insert_with(|| Line {
            handshake: Some(ServerHandshake::new(&self.limits, now)),
            session: None,
            liveness: Liveness::new(intervals(&self.limits), false, now),
            drain: Drain::default(),
            streams: BTreeMap::new(),
        });
        line.liveness.heard(now);
        let stream = line.streams.entry(pipe.stream).or_insert_with(|| Stream {
            decoder: Decoder::new(CAPS),
            work: if pipe.stream == 0 {
                Work::Control
            } else {
                Work::Fresh
            },
        });
        let mut frames = Vec::new();
        for bytes in bytes {
            stream.decoder.push(bytes);
            while let Some(frame) = stream.decoder.next_frame().map_err(|e| e.to_string())? {
                frames.push(frame);
            }
        }
        for frame in frames {
            self.frame(pipe, frame, network, choices, log)?;
        }
        Ok(())
    }

    fn frame(
        &mut self,
        pipe: Pipe,
        frame: Frame,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let Pipe {
            connection, stream, ..
        } = pipe;
        let now = self.clock.now(network.now);
        let Some(line) = self.lines.get_mut(&connection) else {
            return Ok(());
        };
        let Some(state) = line.streams.get_mut(&stream) else {
            return Ok(());
        };
        match (&mut state.work, frame.kind) {
            (Work::Control, FrameType::Hello) => {
                self.hello(connection, frame, network, choices, log)
            }
            (Work::Control, FrameType::Ping) => {
                let pong = Frame {
                    kind: FrameType::Pong,
                    payload: frame.payload,
                };
                send(network, choices, connection, 0, &pong, false);
                Ok(())
            }
            (Work::Control, FrameType::Goaway) => {
                let goaway = Goaway::from_frame(frame).map_err(|e| e.to_string())?;
                line.drain.announced(goaway);
                Ok(())
            }
            (Work::Fresh, FrameType::Call) => {
                let head = CallHead::from_frame(frame).map_err(|e| e.to_string())?;
                let until = now + std::time::Duration::from_millis(head.deadline_ms);
                state.work = Work::Call {
                    call: u64::MAX,
                    until,
                };
                Ok(())
            }
            (Work::Fresh, FrameType::Open) => {
                OpenHead::from_frame(frame).map_err(|e| e.to_string())?;
                let sink = Sink::new(self.disk.len() as u64, 4096);
                let first = sink.ack().durable_end;
                state.work = Work::Log {
                    sink,
                    writing: Bytes::new(),
                    next: 0,
                };
                send(network, choices, connection, stream, &data(first), false);
                Ok(())
            }
            (Work::Call { call, .. }, FrameType::Data) => {
                let number = u64::from_be_bytes(frame.payload[..8].try_into().expect("8 bytes"));
                if *call != u64::MAX {
                    return Err(format!(
                        "call {number} arrived twice on {connection}/{stream}"
                    ));
                }
                *call = number;
                *self.runs.entry(number).or_default() += 1;
                log.note(network.now, || {
                    format!("server: runs call {number} from {connection}")
                });
                let boot = self.boot;
                let work = choices.between(1, 900) * MS;
                let handled = Event::Handled {
                    connection,
                    stream,
                    boot,
                };
                network.at(network.now + work, handled);
                Ok(())
            }
            (Work::Log { sink, next, .. }, FrameType::Data) => {
                let (head, bytes) = frame.payload.split_at(16);
                let field = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("8"));
                let (number, offset) = (field(0), field(8));
                if number != *next {
                    return Err(format!("message {number} of the stream came, not {next}"));
                }
                *next += 1;
                let taken = sink.chunk(offset, bytes, crc32c::crc32c(bytes));
                taken.map_err(|refusal| format!("the log refused a chunk: {refusal}"))?;
                self.write(connection, stream, network, choices);
                Ok(())
            }
            (_, kind) => Err(format!("{} where it does not belong", kind.name())),
        }
    }

    fn hello(
        &mut self,
        connection: u32,
        frame: Frame,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let line = self
            .lines
            .get_mut(&connection)
            .expect("it came on this line");
        let handshake = line.handshake.take().ok_or("HELLO came twice")?;
        let Ok(asked) = handshake.receive(frame, now) else {
            self.drop_line(connection, CloseCode::Refused, network, choices);
            return Ok(());
        };
        if self.leaving {
            let error = CallError::unavailable("going away");
            let bytes = ServerHandshake::refuse(&error);
            let pipe = Pipe {
                connection,
                stream: 0,
                to: Side::Client,
            };
            network.send(pipe, bytes, true, choices);
            return Ok(());
        }
        let fresh = Ticket {
            id: SessionId(choices.fill()),
            secret: Secret(choices.fill()),
        };
        let shown = asked.resume.as_ref();
        let known = shown.and_then(|ticket| self.oracle.get(&ticket.id));
        let expected = known.is_some_and(|kept| {
            kept.connection.is_some() || now < kept.since + self.limits.resume_window
        });
        let value = u64::from(connection);
        let attached = self.table.attach("agent", shown, fresh, || value, now);
        let attached = attached.map_err(|_| "the table is full")?;
        if attached.resumed != expected {
            return Err(format!(
                "session resumed: {}, but it must be: {expected}",
                attached.resumed
            ));
        }
        let id = attached.ticket.id;
        let before = self
            .oracle
            .get(&id)
            .map(|kept| (kept.value, kept.connection));
        if attached.resumed && before.map(|(value, _)| value) != Some(attached.value) {
            return Err("a resumed session has lost what was kept with it".to_owned());
        }
        self.resumed += u32::from(attached.resumed);
        log.note(network.now, || {
            format!(
                "server: session {id} on {connection}, resumed {}",
                attached.resumed
            )
        });
        let kept = Kept {
            value: attached.value,
            connection: Some(connection),
            since: now,
        };
        self.oracle.insert(id, kept);
        let line = self
            .lines
            .get_mut(&connection)
            .expect("it came on this line");
        line.session = Some((id, attached.connection));
        let secret = Some(&attached.ticket.secret);
        let seed = choices.below(1 << 16) as u16;
        let ack = handshake.accept(&asked, id, secret, attached.resumed, seed);
        let pipe = Pipe {
            connection,
            stream: 0,
            to: Side::Client,
        };
        network.send(pipe, ack, false, choices);
        if let Some((_, Some(before))) = before {
            self.drop_line(before, CloseCode::Replaced, network, choices);
        }
        Ok(())
    }

    /// Gives the disk what the stream has.
    fn write(
        &mut self,
        connection: u32,
        stream: u32,
        network: &mut Network,
        choices: &mut Choices,
    ) {
        let boot = self.boot;
        let state = self.lines.get_mut(&connection);
        let state = state.and_then(|line| line.streams.get_mut(&stream));
        let Some(Work::Log { sink, writing, .. }) = state.map(|state| &mut state.work) else {
            return;
        };
        let Some(write) = sink.write() else { return };
        let end = write.end();
        *writing = write.bytes;
        let written = Event::Written {
            connection,
            stream,
            end,
            boot,
        };
        network.at(network.now + choices.between(1, 30) * MS, written);
    }

    /// The disk has what was given to it. A write of a connection that is gone counts as well.
    pub(crate) fn written(
        &mut self,
        (connection, stream, end): (u32, u32, u64),
        network: &mut Network,
        choices: &mut Choices,
    ) -> Result<(), String> {
        let state = self.lines.get_mut(&connection);
        let state = state.and_then(|line| line.streams.get_mut(&stream));
        let Some(Work::Log { sink, writing, .. }) = state.map(|state| &mut state.work) else {
            return Ok(());
        };
        let offset = end - writing.len() as u64;
        let there = self.disk.len() as u64;
        if offset > there {
            return Err(format!("the log has a gap from {there} to {offset}"));
        }
        let known = (there - offset).min(writing.len() as u64) as usize;
        for byte in &writing[known..] {
            if *byte != pattern(self.disk.len() as u64) {
                return Err(format!(
                    "byte {} of the log is another one",
                    self.disk.len()
                ));
            }
            self.disk.push(*byte);
        }
        let ack = sink.written(self.disk.len() as u64);
        send(
            network,
            choices,
            connection,
            stream,
            &data(ack.durable_end),
            false,
        );
        self.write(connection, stream, network, choices);
        Ok(())
    }

    /// The handler is done with a call.
    pub(crate) fn handled(
        &mut self,
        (connection, stream): (u32, u32),
        network: &mut Network,
        choices: &mut Choices,
    ) {
        let now = self.clock.now(network.now);
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        let Some(state) = line.streams.remove(&stream) else {
            return;
        };
        let Work::Call { call, until } = state.work else {
            return;
        };
        if now >= until {
            let late = CallError::new(Code::DeadlineExceeded, "late");
            let fail = Failure::from(&late).to_frame();
            send(network, choices, connection, stream, &fail, true);
        } else {
            let reply = ReplyHead { length: 8 }.to_frame();
            send(network, choices, connection, stream, &reply, false);
            send(network, choices, connection, stream, &data(call), true);
        }
    }

    /// The dialing side broke a stream off.
    pub(crate) fn broken(&mut self, pipe: Pipe) {
        if let Some(line) = self.lines.get_mut(&pipe.connection) {
            line.streams.remove(&pipe.stream);
        }
    }

    /// The dialing side closed a connection.
    pub(crate) fn closed(&mut self, connection: u32, code: u64, network: &mut Network) {
        network.vanish(connection, Side::Server);
        if let Some(line) = self.lines.remove(&connection) {
            let final_word = CloseCode::from_number(code) == CloseCode::Closed;
            self.left(connection, line, final_word, network.now);
        }
    }

    fn left(&mut self, connection: u32, line: Line, over: bool, at: Time) {
        let now = self.clock.now(at);
        let Some((id, number)) = line.session else {
            return;
        };
        if !self.table.detach(id, number, now) {
            return;
        }
        if over {
            self.table.remove(id);
            self.oracle.remove(&id);
        } else if let Some(kept) = self.oracle.get_mut(&id)
            && kept.connection == Some(connection)
        {
            kept.connection = None;
            kept.since = now;
        }
    }

    fn drop_line(
        &mut self,
        connection: u32,
        code: CloseCode,
        network: &mut Network,
        choices: &mut Choices,
    ) {
        if let Some(line) = self.lines.remove(&connection) {
            network.close(connection, Side::Server, code.number(), choices);
            self.left(connection, line, false, network.now);
        }
    }

    /// Looks at every clock.
    pub(crate) fn poll(
        &mut self,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let mut next = self.table.next_expiry();
        let mut ends = Vec::new();
        for (connection, line) in &mut self.lines {
            let pulse = line.liveness.poll(now);
            let mut wake = pulse.next;
            if pulse.health == Health::Dead {
                ends.push((*connection, CloseCode::Silent));
            }
            if let Some(handshake) = &line.handshake {
                wake = wake.min(handshake.deadline());
                if now >= handshake.deadline() {
                    ends.push((*connection, CloseCode::Refused));
                }
            }
            let open = line.streams.len().saturating_sub(1);
            match line.drain.step(open, now) {
                DrainStep::Open => {}
                DrainStep::Wait(until) => wake = wake.min(until),
                DrainStep::Close => ends.push((*connection, CloseCode::GoingAway)),
            }
            next = Some(next.map_or(wake, |next| next.min(wake)));
        }
        for (connection, code) in ends {
            log.note(network.now, || {
                format!("server: ends {connection}: {code:?}")
            });
            self.drop_line(connection, code, network, choices);
        }
        for (id, _) in self.table.expire(now) {
            if self
                .oracle
                .remove(&id)
                .is_some_and(|kept| kept.connection.is_some())
            {
                return Err(format!("session {id} expired with a connection"));
            }
        }
        let admitted = self.lines.values().any(|line| line.session.is_some());
        if self.leaving && !admitted {
            log.note(network.now, || "server: gone away".to_owned());
            self.crash(network);
            let back = choices.between(50, 2000) * MS;
            network.at(
                network.now + back,
                Event::Act(super::network::Act::StartServer),
            );
            return Ok(());
        }
        if let Some(next) = next {
            let at = self.clock.when(next).max(network.now + 1);
            if at < self.next_wake || self.next_wake <= network.now {
                self.next_wake = at;
                network.at(at, Event::Wake);
            }
        }
        Ok(())
    }
}

fn send(
    network: &mut Network,
    choices: &mut Choices,
    connection: u32,
    stream: u32,
    frame: &Frame,
    end: bool,
) {
    let pipe = Pipe {
        connection,
        stream,
        to: Side::Client,
    };
    network.send(pipe, frame.to_bytes(), end, choices);
}
