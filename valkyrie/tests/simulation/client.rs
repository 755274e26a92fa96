//! The dialing side: one session for ever, its calls and its log.
//! Must not see the server's state; it sees bytes.

mod clock;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use valkyrie::append::{Ack, Writer};
use valkyrie::error::{CallError, Code};
use valkyrie::limits::Limits;
use valkyrie::session::{Backoff, Call, CallOptions, ClientHandshake, Drain, Liveness, Ticket};
use valkyrie::wire::message::{Failure, Framed, Goaway, ReplyHead};
use valkyrie::wire::{CloseCode, Decoder, Frame, FrameType};

use super::choices::Choices;
use super::network::{Event, Network, Pipe, Side, Time};
use super::world::{Clock, Log, intervals};

pub(crate) struct Client {
    clock: Clock,
    limits: Limits,
    line: Option<Line>,
    /// Lines left for a successor, on which calls end.
    old: Vec<Line>,
    dial: Option<Dial>,
    /// Whether a successor was named, and how often was dialed since then.
    away: Option<u32>,
    /// How often a successor took the session over.
    pub(crate) moved: u64,
    ticket: Option<Ticket>,
    backoff: Backoff,
    redial: Instant,
    pub(crate) calls: Vec<Running>,
    pub(crate) written: u64,
    pub(crate) writer: Writer,
    pub(crate) over: bool,
    next_wake: Time,
}

/// A connection that is not admitted yet.
struct Dial {
    connection: u32,
    handshake: ClientHandshake,
    control: Decoder,
}

struct Line {
    connection: u32,
    control: Decoder,
    liveness: Liveness,
    drain: Drain,
    drain_until: Option<Instant>,
    next_stream: u32,
    streams: BTreeMap<u32, Stream>,
    log: Option<u32>,
    suspect: bool,
}

struct Stream {
    decoder: Decoder,
    work: Work,
}

enum Work {
    Call { call: usize, replied: bool },
    Log { sent: u64 },
}

pub(crate) struct Running {
    call: Call,
    pub(crate) idempotent: bool,
    on: Option<(u32, u32)>,
    pub(crate) outcome: Option<Result<(), Code>>,
}

impl Client {
    pub(crate) fn new(limits: &Limits, clock: Clock) -> Self {
        Self {
            clock,
            limits: limits.clone(),
            line: None,
            old: Vec::new(),
            dial: None,
            away: None,
            moved: 0,
            ticket: None,
            backoff: Backoff::new(limits.backoff.0, limits.backoff.1),
            redial: clock.now(0),
            calls: Vec::new(),
            written: 0,
            writer: Writer::default(),
            over: false,
            next_wake: Time::MAX,
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        let logged = self.writer.durable() == self.written;
        logged && self.calls.iter().all(|call| call.outcome.is_some())
    }

    pub(crate) fn start_call(&mut self, at: Time, choices: &mut Choices) {
        let mut options = CallOptions::new(Duration::from_millis(choices.between(200, 12_000)));
        options.idempotent = choices.chance(500);
        self.calls.push(Running {
            call: Call::new(&options, self.clock.now(at)),
            idempotent: options.idempotent,
            on: None,
            outcome: None,
        });
    }

    pub(crate) fn append(&mut self, bytes: u64) {
        self.written += bytes;
        self.writer.extend_to(self.written);
    }

    /// Begins to end the session in good order.
    pub(crate) fn end(&mut self, network: &mut Network, choices: &mut Choices) {
        let now = self.clock.now(network.now);
        let within = Duration::from_millis(choices.between(100, 3000));
        let Some(line) = &mut self.line else {
            self.finish_session(network, choices);
            return;
        };
        let goaway = line.drain.begin(within, "", now);
        line.drain_until = Some(now + within);
        let connection = line.connection;
        send(network, choices, (connection, 0), &goaway.to_frame(), false);
    }

    /// The line of a connection, the one of now or one before it.
    fn line_of(&mut self, connection: u32) -> Option<&mut Line> {
        let mut lines = self.line.iter_mut().chain(&mut self.old);
        lines.find(|line| line.connection == connection)
    }

    /// The session is over: a dial that is under way comes to nothing, and neither does what is
    /// open on older lines.
    fn finish_session(&mut self, network: &mut Network, choices: &mut Choices) {
        self.over = true;
        for line in std::mem::take(&mut self.old) {
            let code = CloseCode::Closed.number();
            network.close(line.connection, Side::Client, code, choices);
        }
        if let Some(dial) = self.dial.take() {
            let code = CloseCode::Closed.number();
            network.close(dial.connection, Side::Client, code, choices);
        }
    }

    fn finish(&mut self, call: usize, outcome: Result<(), Code>) -> Result<(), String> {
        let running = &mut self.calls[call];
        if let Some(before) = running.outcome.replace(outcome) {
            return Err(format!("call {call} ended twice: {before:?}, {outcome:?}"));
        }
        running.on = None;
        Ok(())
    }

    /// Bytes of the server.
    pub(crate) fn receive(
        &mut self,
        pipe: Pipe,
        bytes: Vec<Bytes>,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let Pipe {
            connection, stream, ..
        } = pipe;
        let decoder = if let Some(dial) = &mut self.dial
            && dial.connection == connection
        {
            &mut dial.control
        } else if let Some(line) = self
            .line
            .iter_mut()
            .chain(&mut self.old)
            .find(|line| line.connection == connection)
        {
            line.liveness.heard(now);
            match (stream, line.streams.get_mut(&stream)) {
                (0, _) => &mut line.control,
                (_, Some(stream)) => &mut stream.decoder,
                (_, None) => return Ok(()),
            }
        } else {
            return Ok(());
        };
        let mut frames = Vec::new();
        for bytes in bytes {
            decoder.push(bytes);
            while let Some(frame) = decoder.next_frame().map_err(|e| e.to_string())? {
                frames.push(frame);
            }
        }
        for frame in frames {
            if self
                .dial
                .as_ref()
                .is_some_and(|d| d.connection == connection)
            {
                self.answered(frame, network, choices, log)?;
            } else if stream == 0 {
                self.control(connection, frame, network.now)?;
            } else {
                self.stream((connection, stream), frame)?;
            }
        }
        Ok(())
    }

    /// The server's answer to HELLO.
    fn answered(
        &mut self,
        frame: Frame,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let dial = self.dial.take().expect("the answer to a dial");
        let connection = dial.connection;
        let welcome = match dial.handshake.receive(frame, now) {
            Ok(welcome) => welcome,
            Err(error) => {
                log.note(network.now, || {
                    format!("client: {connection} refused: {error}")
                });
                self.lost_dial(connection, network, choices);
                return Ok(());
            }
        };
        log.note(network.now, || {
            format!("client: {connection} up, resumed {}", welcome.resumed)
        });
        self.ticket = welcome.ticket;
        self.backoff.reset();
        let before = self.line.replace(Line {
            connection,
            control: dial.control,
            liveness: Liveness::new(intervals(&self.limits), true, now),
            drain: Drain::default(),
            drain_until: None,
            next_stream: 1,
            streams: BTreeMap::new(),
            log: None,
            suspect: false,
        });
        match before {
            Some(mut before) if before.drain.successor().is_some() => {
                self.moved += 1;
                if let Some(stream) = before.log.take() {
                    // The log goes on at the successor.
                    before.streams.remove(&stream);
                    let pipe = Pipe {
                        connection: before.connection,
                        stream,
                        to: Side::Server,
                    };
                    network.launch(Event::Broken(pipe), choices);
                    self.writer.reopen();
                }
                self.old.push(before);
                Ok(())
            }
            Some(before) => {
                network.close(
                    before.connection,
                    Side::Client,
                    CloseCode::Replaced.number(),
                    choices,
                );
                self.left(before, now)
            }
            None => Ok(()),
        }
    }

    fn control(&mut self, connection: u32, frame: Frame, at: Time) -> Result<(), String> {
        let now = self.clock.now(at);
        match frame.kind {
            FrameType::Pong => Ok(()),
            FrameType::Goaway => {
                let goaway = Goaway::from_frame(frame).map_err(|e| e.to_string())?;
                let line = self.line_of(connection).expect("it came on the line");
                line.drain.announced(goaway);
                if line.drain.successor() != Some("successor:1") {
                    return Err(format!("the successor is {:?}", line.drain.successor()));
                }
                // Nothing else says when to go there: at once.
                self.away = Some(0);
                self.redial = now;
                Ok(())
            }
            kind => Err(format!("{} on the control stream", kind.name())),
        }
    }

    fn stream(&mut self, on: (u32, u32), frame: Frame) -> Result<(), String> {
        let (connection, number) = on;
        let mut lines = self.line.iter_mut().chain(&mut self.old);
        let line = lines.find(|line| line.connection == connection);
        let line = line.expect("it came on the line");
        let Some(stream) = line.streams.get_mut(&number) else {
            return Ok(());
        };
        match (&mut stream.work, frame.kind) {
            (Work::Call { replied, .. }, FrameType::Reply) if !*replied => {
                ReplyHead::from_frame(frame).map_err(|e| e.to_string())?;
                *replied = true;
                Ok(())
            }
            (
                Work::Call {
                    call,
                    replied: true,
                },
                FrameType::Data,
            ) => {
                let call = *call;
                line.streams.remove(&number);
                if frame.payload.as_ref() != (call as u64).to_be_bytes() {
                    return Err(format!("call {call} got the answer of another one"));
                }
                self.finish(call, Ok(()))
            }
            (Work::Call { call, .. }, FrameType::Fail) => {
                let call = *call;
                line.streams.remove(&number);
                let error = Failure::from_frame(frame).map_err(|e| e.to_string())?;
                self.finish(call, Err(CallError::from(error).code))
            }
            (Work::Log { .. }, FrameType::Data) => {
                let end = frame.payload.as_ref().try_into().expect("8 bytes");
                let ack = Ack {
                    durable_end: u64::from_be_bytes(end),
                    closed: false,
                };
                self.writer.acknowledged(ack).map_err(|e| e.to_string())
            }
            (_, kind) => Err(format!("{} where it does not belong", kind.name())),
        }
    }

    /// The server closed a connection.
    pub(crate) fn closed(
        &mut self,
        connection: u32,
        network: &mut Network,
        choices: &mut Choices,
    ) -> Result<(), String> {
        network.vanish(connection, Side::Client);
        if self
            .dial
            .as_ref()
            .is_some_and(|d| d.connection == connection)
        {
            self.dial = None;
            self.pause(network.now, choices);
        }
        if let Some(at) = self.old.iter().position(|l| l.connection == connection) {
            let line = self.old.remove(at);
            return self.left(line, self.clock.now(network.now));
        }
        if let Some(line) = self.line.take_if(|line| line.connection == connection) {
            if line.drain_until.is_some() {
                self.finish_session(network, choices);
            }
            self.left(line, self.clock.now(network.now))?;
            self.pause(network.now, choices);
        }
        Ok(())
    }

    /// A connection is gone: its calls are sent again or have failed.
    fn left(&mut self, line: Line, now: Instant) -> Result<(), String> {
        for stream in line.streams.into_values() {
            match stream.work {
                Work::Log { .. } => self.writer.reopen(),
                Work::Call { call, .. } => {
                    self.calls[call].on = None;
                    if let Err(error) = self.calls[call].call.lost(now) {
                        self.finish(call, Err(error.code))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn pause(&mut self, at: Time, choices: &mut Choices) {
        self.redial = self.clock.now(at) + self.backoff.next(choices.fraction(), None);
    }

    fn lost_dial(&mut self, connection: u32, network: &mut Network, choices: &mut Choices) {
        network.close(
            connection,
            Side::Client,
            CloseCode::Silent.number(),
            choices,
        );
        self.pause(network.now, choices);
    }
}

fn send(
    network: &mut Network,
    choices: &mut Choices,
    (connection, stream): (u32, u32),
    frame: &Frame,
    end: bool,
) {
    let pipe = Pipe {
        connection,
        stream,
        to: Side::Server,
    };
    network.send(pipe, frame.to_bytes(), end, choices);
}
