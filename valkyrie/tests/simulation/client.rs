//! The dialing side: one session for ever, its calls and its log.
//! Must not see the server's state; it sees bytes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use valkyrie::append::{Ack, Piece, Writer};
use valkyrie::error::{CallError, Code};
use valkyrie::limits::Limits;
use valkyrie::session::drain::DrainStep;
use valkyrie::session::{
    Backoff, Call, CallOptions, ClientHandshake, Drain, Health, Liveness, Ticket,
};
use valkyrie::wire::message::{CallHead, Failure, Framed, Goaway, OpenHead, ReplyHead, millis};
use valkyrie::wire::{Class, CloseCode, Decoder, Frame, FrameType};

use super::choices::Choices;
use super::network::{Event, Network, Pipe, Side, Time};
use super::world::{CAPS, Clock, Log, intervals, pattern};

pub(crate) struct Client {
    clock: Clock,
    limits: Limits,
    line: Option<Line>,
    dial: Option<Dial>,
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
            dial: None,
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

    /// The session is over: a dial that is under way comes to nothing.
    fn finish_session(&mut self, network: &mut Network, choices: &mut Choices) {
        self.over = true;
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
        } else if let Some(line) = &mut self.line
            && line.connection == connection
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
                self.control(frame)?;
            } else {
                self.stream(stream, frame)?;
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

    fn control(&mut self, frame: Frame) -> Result<(), String> {
        match frame.kind {
            FrameType::Pong => Ok(()),
            FrameType::Goaway => {
                let goaway = Goaway::from_frame(frame).map_err(|e| e.to_string())?;
                let line = self.line.as_mut().expect("it came on the line");
                line.drain.announced(goaway);
                match line.drain.successor() {
                    Some("successor:1") => Ok(()),
                    other => Err(format!("the successor is {other:?}")),
                }
            }
            kind => Err(format!("{} on the control stream", kind.name())),
        }
    }

    fn stream(&mut self, number: u32, frame: Frame) -> Result<(), String> {
        let line = self.line.as_mut().expect("it came on the line");
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

    /// Looks at every clock and sends what may leave.
    pub(crate) fn poll(
        &mut self,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let mut next = now + Duration::from_secs(3600);
        if let Some(dial) = &self.dial {
            next = next.min(dial.handshake.deadline());
            if now >= dial.handshake.deadline() {
                let connection = dial.connection;
                self.dial = None;
                log.note(network.now, || format!("client: {connection} not answered"));
                self.lost_dial(connection, network, choices);
            }
        }
        self.pulse(&mut next, network, choices, log)?;
        self.expire(&mut next, network, choices)?;
        self.send_calls(network, choices)?;
        self.send_log(network, choices);
        self.dial_again(&mut next, network, choices, log);
        let at = self.clock.when(next).max(network.now + 1);
        if at < self.next_wake || self.next_wake <= network.now {
            self.next_wake = at;
            network.at(at, Event::Wake);
        }
        Ok(())
    }

    fn pulse(
        &mut self,
        next: &mut Instant,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        line.liveness.set_busy(!line.streams.is_empty(), now);
        let pulse = line.liveness.poll(now);
        *next = (*next).min(pulse.next);
        let connection = line.connection;
        if pulse.ping {
            let ping = Frame {
                kind: FrameType::Ping,
                payload: Bytes::from_static(&[1; 8]),
            };
            send(network, choices, (connection, 0), &ping, false);
        }
        line.suspect = pulse.health != Health::Alive;
        let calls = line
            .streams
            .values()
            .filter(|s| matches!(s.work, Work::Call { .. }));
        let step = line.drain.step(calls.count(), now);
        let (ends, code) = match step {
            DrainStep::Wait(until) => {
                *next = (*next).min(until);
                (false, CloseCode::Closed)
            }
            DrainStep::Close => (true, CloseCode::Closed),
            DrainStep::Open => (pulse.health == Health::Dead, CloseCode::Silent),
        };
        if step == DrainStep::Open || ends {
            if !ends {
                return Ok(());
            }
            if line
                .drain_until
                .is_some_and(|until| now > until + Duration::from_millis(1))
            {
                return Err("a drain went on beyond its deadline".to_owned());
            }
            let over = line.drain_until.is_some();
            log.note(network.now, || {
                format!("client: ends {connection}: {code:?}")
            });
            network.close(connection, Side::Client, code.number(), choices);
            let line = self.line.take().expect("looked at above");
            self.left(line, now)?;
            if over {
                self.finish_session(network, choices);
            }
            self.pause(network.now, choices);
        }
        Ok(())
    }

    /// Ends the calls whose time has passed.
    fn expire(
        &mut self,
        next: &mut Instant,
        network: &mut Network,
        choices: &mut Choices,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        for number in 0..self.calls.len() {
            let running = &self.calls[number];
            if running.outcome.is_some() {
                continue;
            }
            if now < running.call.deadline() && !self.over {
                *next = (*next).min(running.call.deadline());
                continue;
            }
            let on = running.on;
            let error = running.call.expired();
            self.finish(number, Err(error.code))?;
            if let (Some((connection, stream)), Some(line)) = (on, &mut self.line)
                && line.connection == connection
            {
                line.streams.remove(&stream);
                let to = Side::Server;
                let pipe = Pipe {
                    connection,
                    stream,
                    to,
                };
                network.launch(Event::Broken(pipe), choices);
            }
        }
        Ok(())
    }

    fn send_calls(&mut self, network: &mut Network, choices: &mut Choices) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        if !line.drain.may_start() {
            return Ok(());
        }
        for (number, running) in self.calls.iter_mut().enumerate() {
            if running.outcome.is_some() || running.on.is_some() {
                continue;
            }
            let left = running.call.send(now).map_err(|e| e.to_string())?;
            let stream = line.next_stream;
            line.next_stream += 1;
            running.on = Some((line.connection, stream));
            let work = Work::Call {
                call: number,
                replied: false,
            };
            let decoder = Decoder::new(CAPS);
            line.streams.insert(stream, Stream { decoder, work });
            let head = CallHead {
                method: 1,
                class: Class::Job.number(),
                deadline_ms: millis(left),
                length: 8,
                ..CallHead::default()
            };
            let on = (line.connection, stream);
            send(network, choices, on, &head.to_frame(), false);
            send(
                network,
                choices,
                on,
                &super::world::data(number as u64),
                true,
            );
        }
        Ok(())
    }

    fn send_log(&mut self, network: &mut Network, choices: &mut Choices) {
        let Some(line) = &mut self.line else { return };
        if line.log.is_none() && line.drain.may_start() && self.writer.durable() < self.written {
            let stream = line.next_stream;
            line.next_stream += 1;
            line.log = Some(stream);
            self.writer.reopen();
            let work = Work::Log { sent: 0 };
            let decoder = Decoder::new(CAPS);
            line.streams.insert(stream, Stream { decoder, work });
            let head = OpenHead {
                method: 2,
                class: Class::Log.number(),
                ..OpenHead::default()
            };
            send(
                network,
                choices,
                (line.connection, stream),
                &head.to_frame(),
                false,
            );
        }
        let Some(number) = line.log else { return };
        let Some(Work::Log { sent }) = line.streams.get_mut(&number).map(|s| &mut s.work) else {
            return;
        };
        while let Some(Piece::Bytes { offset, length }) = self.writer.next(64) {
            let mut message = BytesMut::new();
            message.put_u64(*sent);
            message.put_u64(offset);
            message.extend((offset..offset + length as u64).map(pattern));
            *sent += 1;
            self.writer.sent(length);
            let frame = Frame {
                kind: FrameType::Data,
                payload: message.freeze(),
            };
            send(network, choices, (line.connection, number), &frame, false);
        }
    }

    /// Connects when there is no line, and beside one that is suspect.
    fn dial_again(
        &mut self,
        next: &mut Instant,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) {
        let now = self.clock.now(network.now);
        let usable = self.line.as_ref().is_some_and(|line| !line.suspect);
        if self.over || usable || self.dial.is_some() {
            return;
        }
        if now < self.redial {
            *next = (*next).min(self.redial);
            return;
        }
        let connection = network.connect();
        let handshake = ClientHandshake::new(&self.limits, self.ticket.clone(), now);
        let hello = handshake.hello(choices.below(1 << 16) as u16);
        log.note(network.now, || format!("client: dials {connection}"));
        *next = (*next).min(handshake.deadline());
        self.dial = Some(Dial {
            connection,
            handshake,
            control: Decoder::new(CAPS),
        });
        let pipe = Pipe {
            connection,
            stream: 0,
            to: Side::Server,
        };
        network.send(pipe, hello, false, choices);
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
