//! A network that loses, delays, reorders, doubles and cuts, under reliable streams.
//! Must not know frames: it carries bytes in order, as QUIC and TCP do, or never.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::choices::Choices;

/// Microseconds since the start.
pub(crate) type Time = u64;
pub(crate) const MS: Time = 1000;
pub(crate) const SEC: Time = 1_000_000;
/// What a sender waits before it sends again.
const AGAIN: Time = 200 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// The one that the client was configured with.
    Home,
    /// The one that it names when it goes away.
    Successor,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pipe {
    pub(crate) connection: u32,
    pub(crate) stream: u32,
    pub(crate) to: Side,
}

/// What happens at a time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Chunk {
        pipe: Pipe,
        offset: u64,
        bytes: Bytes,
        end: bool,
    },
    /// A stream was broken off by the side that does not get this.
    Broken(Pipe),
    /// The connection was closed by the side that does not get this.
    Closed {
        connection: u32,
        to: Side,
        code: u64,
    },
    Wake,
    /// The server's handler is done with a call.
    Handled {
        host: Host,
        connection: u32,
        stream: u32,
        boot: u64,
    },
    /// The server's disk has taken bytes of the log.
    Written {
        host: Host,
        connection: u32,
        stream: u32,
        end: u64,
        boot: u64,
    },
    Act(Act),
}

/// What the scenario does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Call,
    Append,
    Cut,
    CrashServer,
    StartServer(Host),
    HandOver,
    EndSession,
}

/// Both ends of one direction.
#[derive(Default)]
struct Flow {
    sent: u64,
    received: u64,
    early: BTreeMap<u64, (Bytes, bool)>,
    ended: bool,
}

/// What a chunk became.
pub(crate) enum Arrived {
    /// Bytes in order.
    Bytes(Vec<Bytes>),
    /// Nothing new.
    Nothing,
}

pub(crate) struct Network {
    pub(crate) now: Time,
    events: BTreeMap<(Time, u64), Event>,
    count: u64,
    flows: HashMap<Pipe, Flow>,
    /// Which ends of each connection still exist; a server's end begins with the first bytes.
    ends: Vec<(bool, Option<bool>)>,
    /// To whom each connection leads.
    hosts: Vec<Host>,
    /// Until when what goes to this side of the connections to this host is held up.
    cut_until: HashMap<(Host, Side), Time>,
    pub(crate) calm: bool,
    loss: u64,
    double: u64,
    slowest: Time,
}

impl Network {
    pub(crate) fn new(choices: &mut Choices) -> Self {
        Self {
            now: 0,
            events: BTreeMap::new(),
            count: 0,
            flows: HashMap::new(),
            ends: Vec::new(),
            hosts: Vec::new(),
            cut_until: HashMap::new(),
            calm: false,
            loss: choices.below(200),
            double: choices.below(150),
            slowest: choices.between(2, 120) * MS,
        }
    }

    pub(crate) fn at(&mut self, time: Time, event: Event) {
        self.count += 1;
        self.events.insert((time.max(self.now), self.count), event);
    }

    /// The next event; the time goes on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }

    pub(crate) fn connect(&mut self, host: Host) -> u32 {
        self.hosts.push(host);
        self.ends.push((true, None));
        self.ends.len() as u32 - 1
    }

    /// Cuts the ways to these hosts, in these directions.
    pub(crate) fn cut(&mut self, time: Time, hosts: &[Host], directions: &[Side]) {
        for host in hosts {
            for to in directions {
                self.cut_until.insert((*host, *to), self.now + time);
            }
        }
    }

    /// Whether this end exists.
    pub(crate) fn is_open(&self, connection: u32, side: Side) -> bool {
        let (client, server) = self.ends[connection as usize];
        match side {
            Side::Client => client,
            Side::Server => server == Some(true),
        }
    }

    /// Whether the server has never heard of this connection.
    pub(crate) fn is_new(&self, connection: u32) -> bool {
        self.ends[connection as usize].1.is_none()
    }

    pub(crate) fn open_server_end(&mut self, connection: u32) {
        self.ends[connection as usize].1 = Some(true);
    }

    /// This end is gone without a word.
    pub(crate) fn vanish(&mut self, connection: u32, side: Side) {
        let ends = &mut self.ends[connection as usize];
        match side {
            Side::Client => ends.0 = false,
            Side::Server => ends.1 = Some(false),
        }
    }

    /// To whom a connection leads.
    pub(crate) fn host(&self, connection: u32) -> Host {
        self.hosts[connection as usize]
    }

    /// All ends of a server are gone without a word.
    pub(crate) fn crash_server(&mut self, host: Host) {
        for (ends, leads_to) in self.ends.iter_mut().zip(&self.hosts) {
            if *leads_to == host && ends.1.is_some() {
                ends.1 = Some(false);
            }
        }
    }

    /// Sends bytes on a stream, in one or two chunks.
    pub(crate) fn send(&mut self, pipe: Pipe, bytes: Bytes, end: bool, choices: &mut Choices) {
        let mut pieces = vec![bytes];
        if pieces[0].len() > 1 && choices.chance(250) {
            let at = choices.between(1, pieces[0].len() as u64) as usize;
            let rest = pieces[0].split_off(at);
            pieces.push(rest);
        }
        let last = pieces.len() - 1;
        for (index, bytes) in pieces.into_iter().enumerate() {
            let flow = self.flows.entry(pipe).or_default();
            let offset = flow.sent;
            flow.sent += bytes.len() as u64;
            let end = end && index == last;
            let chunk = Event::Chunk {
                pipe,
                offset,
                bytes,
                end,
            };
            self.launch(chunk, choices);
        }
    }

    /// Sends something that is repeated until it arrives, sometimes twice.
    pub(crate) fn launch(&mut self, event: Event, choices: &mut Choices) {
        if !self.calm && choices.chance(self.double) {
            let delay = self.delay(choices);
            self.at(self.now + delay, event.clone());
        }
        let mut delay = self.delay(choices);
        while !self.calm && choices.chance(self.loss) {
            delay += AGAIN;
        }
        self.at(self.now + delay, event);
    }

    /// Says once that a connection is closed, and forgets this end.
    pub(crate) fn close(&mut self, connection: u32, by: Side, code: u64, choices: &mut Choices) {
        self.vanish(connection, by);
        if self.calm || !choices.chance(self.loss) {
            let delay = self.delay(choices);
            let to = by.other();
            let closed = Event::Closed {
                connection,
                to,
                code,
            };
            self.at(self.now + delay, closed);
        }
    }

    fn delay(&mut self, choices: &mut Choices) -> Time {
        MS + choices.below(self.slowest)
    }

    /// Whether something that travels is held up now: it is sent again later, or lost when its
    /// sender is gone.
    pub(crate) fn held_up(&mut self, event: &Event, connection: u32, to: Side) -> bool {
        let way = (self.host(connection), to);
        let until = self.cut_until.get(&way).copied().unwrap_or_default();
        if self.now >= until {
            return false;
        }
        let once = matches!(event, Event::Closed { .. });
        let sender = to.other();
        let sends = self.is_open(connection, sender);
        if sends && !once {
            self.at(until + AGAIN, event.clone());
        }
        true
    }

    /// What still comes on a stream that was broken off goes nowhere.
    pub(crate) fn break_off(&mut self, pipe: Pipe) {
        self.flows.entry(pipe).or_default().ended = true;
    }

    /// Puts a chunk into its place.
    pub(crate) fn arrive(&mut self, pipe: Pipe, offset: u64, bytes: Bytes, end: bool) -> Arrived {
        let flow = self.flows.entry(pipe).or_default();
        if flow.ended || (offset < flow.received) {
            return Arrived::Nothing;
        }
        flow.early.insert(offset, (bytes, end));
        let mut ready = Vec::new();
        while let Some((bytes, end)) = flow.early.remove(&flow.received) {
            flow.received += bytes.len() as u64;
            flow.ended |= end;
            let empty = bytes.is_empty();
            ready.push(bytes);
            if flow.ended || empty {
                break;
            }
        }
        if ready.is_empty() {
            return Arrived::Nothing;
        }
        Arrived::Bytes(ready)
    }
}
