//! The accepting side: sessions, calls, a log on a disk that survives a crash.
//! Must not know what the dialing side intends; it sees bytes.

mod frames;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use valkyrie::append::Sink;
use valkyrie::error::{CallError, Code};
use valkyrie::limits::Limits;
use valkyrie::session::drain::DrainStep;
use valkyrie::session::{Drain, Health, Liveness, ServerHandshake, Sessions};
use valkyrie::wire::message::{Failure, Framed, ReplyHead};
use valkyrie::wire::{CloseCode, Decoder, Frame, SessionId};

use super::choices::Choices;
use super::network::{Event, Host, MS, Network, Pipe, Side, Time};
use super::world::{Clock, Log, data, pattern};

/// What all servers share: the disk, and what is counted of all of them.
#[derive(Default)]
pub(crate) struct Store {
    /// The log as it is on the disk.
    pub(crate) disk: Vec<u8>,
    /// How often each call was begun, for ever.
    pub(crate) runs: BTreeMap<u64, u32>,
    pub(crate) resumed: u32,
}

pub(crate) struct Server {
    host: Host,
    store: Rc<RefCell<Store>>,
    pub(crate) up: bool,
    /// Counts the starts: what belongs to an earlier one is forgotten.
    pub(crate) boot: u64,
    clock: Clock,
    limits: Limits,
    table: Sessions<&'static str, u64>,
    lines: BTreeMap<u32, Line>,
    /// What the table must do, kept apart from it: the state of each session of this start.
    oracle: BTreeMap<SessionId, Kept>,
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
    pub(crate) fn new(
        host: Host,
        limits: &Limits,
        clock: Clock,
        store: Rc<RefCell<Store>>,
    ) -> Self {
        Self {
            host,
            store,
            // A successor starts when it is needed.
            up: host == Host::Home,
            boot: 0,
            clock,
            limits: limits.clone(),
            table: Sessions::new(limits.resume_window, limits.sessions),
            lines: BTreeMap::new(),
            oracle: BTreeMap::new(),
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
        network.crash_server(self.host);
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
            host: self.host,
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
        let mut store = self.store.borrow_mut();
        let disk = &mut store.disk;
        let offset = end - writing.len() as u64;
        let there = disk.len() as u64;
        if offset > there {
            return Err(format!("the log has a gap from {there} to {offset}"));
        }
        let known = (there - offset).min(writing.len() as u64) as usize;
        for byte in &writing[known..] {
            if *byte != pattern(disk.len() as u64) {
                return Err(format!("byte {} of the log is another one", disk.len()));
            }
            disk.push(*byte);
        }
        let ack = sink.written(disk.len() as u64);
        drop(store);
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
                Event::Act(super::network::Act::StartServer(self.host)),
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
