//! One client, one server, the network between them, and what must always hold.
//! Must not repair anything: what the machines do is what is checked.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use valkyrie::error::Code;
use valkyrie::limits::Limits;
use valkyrie::session::liveness::Intervals;
use valkyrie::wire::{Caps, Frame, FrameType};

use super::choices::Choices;
use super::client::Client;
use super::network::{Act, Arrived, Event, Host, MS, Network, Pipe, SEC, Side, Time};
use super::server::{Server, Store};

pub(crate) const CAPS: Caps = Caps {
    control: 65_536,
    data: 262_144,
};
/// How long faults go on, and how long everything may take to come to rest afterwards.
const STORM: Time = 25 * SEC;
const REST: Time = 60 * SEC;

/// Byte number so much of the log.
pub(crate) fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(31) ^ at >> 8) as u8
}

pub(crate) fn data(number: u64) -> Frame {
    Frame {
        kind: FrameType::Data,
        payload: Bytes::copy_from_slice(&number.to_be_bytes()),
    }
}

pub(crate) fn intervals(limits: &Limits) -> Intervals {
    Intervals {
        keep_alive: limits.keep_alive,
        probe: limits.probe,
        suspect: limits.suspect,
        idle: limits.idle,
    }
}

/// The clock of one side: another start and another pace than the network's time.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    /// Millionths by which it is fast.
    skew: i64,
}

impl Clock {
    fn new(base: Instant, choices: &mut Choices) -> Self {
        Self {
            start: base + Duration::from_secs(choices.below(100_000)),
            skew: choices.below(100_001) as i64 - 50_000,
        }
    }

    pub(crate) fn now(&self, at: Time) -> Instant {
        let shift = at as i64 * self.skew / 1_000_000;
        self.start + Duration::from_micros((at as i64 + shift) as u64)
    }

    /// The first time at which this clock shows the instant.
    pub(crate) fn when(&self, instant: Instant) -> Time {
        let shown = instant.saturating_duration_since(self.start).as_micros() as i64;
        let guess = shown as i128 * 1_000_000 / (1_000_000 + self.skew) as i128;
        let mut at = (guess as Time).saturating_sub(2);
        while self.now(at) < instant {
            at += 1;
        }
        at
    }
}

/// What happened, for people; empty unless asked for.
#[derive(Default)]
pub(crate) struct Log {
    on: bool,
    pub(crate) lines: Vec<String>,
}

impl Log {
    pub(crate) fn note(&mut self, at: Time, line: impl FnOnce() -> String) {
        if self.on {
            let line = line();
            self.lines
                .push(format!("{:>10.3} ms  {line}", at as f64 / MS as f64));
        }
    }
}

/// What a run has shown, so that a run without faults is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) calls: u64,
    pub(crate) answered: u64,
    pub(crate) resent: u64,
    pub(crate) unavailable: u64,
    pub(crate) late: u64,
    pub(crate) resumed: u64,
    /// How often a successor took a session over.
    pub(crate) moved: u64,
    /// Cuts of the ways to one server, and of one direction.
    pub(crate) one_host: u64,
    pub(crate) one_way: u64,
    pub(crate) bytes: u64,
    pub(crate) events: u64,
}

pub(crate) struct World {
    choices: Choices,
    network: Network,
    client: Client,
    /// The one at home, and its successor.
    servers: [Server; 2],
    store: Rc<RefCell<Store>>,
    limits: Limits,
    pub(crate) log: Log,
    ending: bool,
    one_host: u64,
    one_way: u64,
}

/// Short times, so that a run is a minute of their world.
fn limits() -> Limits {
    Limits {
        idle: Duration::from_secs(9),
        keep_alive: Duration::from_secs(3),
        suspect: Duration::from_millis(4500),
        probe: Duration::from_millis(1500),
        resume_window: Duration::from_secs(10),
        hello: Duration::from_secs(3),
        backoff: (Duration::from_millis(50), Duration::from_secs(1)),
        ..Limits::default()
    }
}

impl World {
    pub(crate) fn new(mut choices: Choices, trace: bool) -> Self {
        let limits = limits();
        let base = Instant::now();
        let network = Network::new(&mut choices);
        let client = Client::new(&limits, Clock::new(base, &mut choices));
        let store = Rc::new(RefCell::new(Store::default()));
        let servers = [Host::Home, Host::Successor].map(|host| {
            let clock = Clock::new(base, &mut choices);
            Server::new(host, &limits, clock, store.clone())
        });
        let log = Log {
            on: trace,
            lines: Vec::new(),
        };
        let mut world = Self {
            choices,
            network,
            client,
            servers,
            store,
            limits,
            log,
            ending: false,
            one_host: 0,
            one_way: 0,
        };
        world.plan();
        world
    }

    /// What the application does, and what goes wrong.
    fn plan(&mut self) {
        let acts = [
            (Act::Call, 10),
            (Act::Append, 6),
            (Act::Cut, 3),
            (Act::CrashServer, 2),
            (Act::HandOver, 2),
        ];
        for (act, most) in acts {
            for _ in 0..self.choices.below(most + 1) {
                let at = self.choices.below(STORM / MS) * MS;
                self.network.at(at, Event::Act(act));
            }
        }
        self.network.at(0, Event::Wake);
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Result<Shown, String> {
        let mut events = 0;
        while let Some(event) = self.network.next() {
            events += 1;
            self.handle(event)?;
            for server in self.servers.iter_mut().filter(|server| server.up) {
                server.poll(&mut self.network, &mut self.choices, &mut self.log)?;
            }
            self.client
                .poll(&mut self.network, &mut self.choices, &mut self.log)?;
            if self.network.now > STORM {
                self.network.calm = true;
                if !self.ending && self.client.is_quiet() {
                    self.ending = true;
                    self.network
                        .at(self.network.now, Event::Act(Act::EndSession));
                }
            }
            let rested = self.client.over && self.sessions() == 0;
            if rested && self.network.now > STORM {
                return self.verdict(events);
            }
            if self.network.now > STORM + REST {
                return Err(self.unrest());
            }
            if events > 200_000 {
                return Err("the machines spin".to_owned());
            }
        }
        Err("nothing is left to happen, and it is not over".to_owned())
    }

    fn server(&mut self, host: Host) -> &mut Server {
        &mut self.servers[host as usize]
    }

    fn sessions(&self) -> usize {
        self.servers.iter().map(Server::sessions).sum()
    }

    fn unrest(&self) -> String {
        let open = self
            .client
            .calls
            .iter()
            .filter(|call| call.outcome.is_none());
        format!(
            "no rest: {} calls open, log {} of {}, session over: {}, sessions at the server: {}",
            open.count(),
            self.client.writer.durable(),
            self.client.written,
            self.client.over,
            self.sessions()
        )
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Chunk {
                pipe,
                offset,
                ref bytes,
                end,
            } => {
                if self.stopped(&event, pipe) {
                    return Ok(());
                }
                let arrived = self.network.arrive(pipe, offset, bytes.clone(), end);
                let Arrived::Bytes(bytes) = arrived else {
                    return Ok(());
                };
                let host = self.network.host(pipe.connection);
                let server = &mut self.servers[host as usize];
                let (network, choices) = (&mut self.network, &mut self.choices);
                match pipe.to {
                    Side::Client => {
                        self.client
                            .receive(pipe, bytes, network, choices, &mut self.log)
                    }
                    Side::Server => server.receive(pipe, bytes, network, choices, &mut self.log),
                }
            }
            Event::Broken(pipe) => {
                if !self.stopped(&event, pipe) {
                    self.network.break_off(pipe);
                    let host = self.network.host(pipe.connection);
                    self.server(host).broken(pipe);
                }
                Ok(())
            }
            Event::Closed {
                connection,
                to,
                code,
            } => {
                let gone = !self.network.is_open(connection, to);
                if gone || self.network.held_up(&event, connection, to) {
                    return Ok(());
                }
                match to {
                    Side::Client => {
                        self.client
                            .closed(connection, &mut self.network, &mut self.choices)
                    }
                    Side::Server => {
                        let server = &mut self.servers[self.network.host(connection) as usize];
                        server.closed(connection, code, &mut self.network);
                        Ok(())
                    }
                }
            }
            Event::Wake => Ok(()),
            Event::Handled {
                host,
                connection,
                stream,
                boot,
            } => {
                let server = &mut self.servers[host as usize];
                if boot == server.boot {
                    let on = (connection, stream);
                    server.handled(on, &mut self.network, &mut self.choices);
                }
                Ok(())
            }
            Event::Written {
                host,
                connection,
                stream,
                end,
                boot,
            } => {
                let server = &mut self.servers[host as usize];
                if boot != server.boot {
                    return Ok(());
                }
                let what = (connection, stream, end);
                server.written(what, &mut self.network, &mut self.choices)
            }
            Event::Act(act) => self.act(act),
        }
    }

    /// Whether something on a stream does not get to its end now, or ever.
    fn stopped(&mut self, event: &Event, pipe: Pipe) -> bool {
        let connection = pipe.connection;
        if self.network.held_up(event, connection, pipe.to) {
            return true;
        }
        let up = self.server(self.network.host(connection)).up;
        if pipe.to == Side::Server && self.network.is_new(connection) && up {
            self.network.open_server_end(connection);
        }
        !self.network.is_open(connection, pipe.to)
    }

    /// Cuts the network: all of it, the ways to one server, one direction, or one direction to one.
    fn cut(&mut self, time: Time) {
        const HOSTS: [Host; 2] = [Host::Home, Host::Successor];
        const SIDES: [Side; 2] = [Side::Client, Side::Server];
        let (one_host, one_way) = (self.choices.chance(300), self.choices.chance(300));
        let host = self.choices.below(2) as usize;
        let side = self.choices.below(2) as usize;
        let hosts = if one_host {
            &HOSTS[host..=host]
        } else {
            &HOSTS
        };
        let sides = if one_way { &SIDES[side..=side] } else { &SIDES };
        self.one_host += u64::from(one_host);
        self.one_way += u64::from(one_way);
        self.network.cut(time, hosts, sides);
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        let now = self.network.now;
        self.log.note(now, || format!("world: {act:?}"));
        match act {
            Act::Call => self.client.start_call(now, &mut self.choices),
            Act::Append => {
                let bytes = self.choices.between(1, 200);
                self.client.append(bytes);
            }
            Act::Cut => {
                let time = self.choices.between(100, 14_000) * MS;
                self.cut(time);
            }
            Act::CrashServer => {
                let host = match self.choices.chance(700) {
                    true => Host::Home,
                    false => Host::Successor,
                };
                let server = &mut self.servers[host as usize];
                if server.up {
                    server.crash(&mut self.network);
                    let back = self.choices.between(10, 4000) * MS;
                    let start = Event::Act(Act::StartServer(host));
                    self.network.at(now + back, start);
                }
            }
            Act::StartServer(host) => self.server(host).up = true,
            Act::HandOver => {
                // Sometimes there is nobody where the hint leads.
                self.servers[1].up |= self.choices.chance(700);
                self.servers[0].hand_over(&mut self.network, &mut self.choices, &mut self.log);
            }
            Act::EndSession => self.client.end(&mut self.network, &mut self.choices),
        }
        Ok(())
    }

    /// What must hold when all is over.
    fn verdict(&self, events: u64) -> Result<Shown, String> {
        let mut shown = Shown {
            events,
            resumed: self.store.borrow().resumed.into(),
            moved: self.client.moved,
            bytes: self.client.written,
            one_host: self.one_host,
            one_way: self.one_way,
            ..Shown::default()
        };
        for (number, running) in self.client.calls.iter().enumerate() {
            let runs = self
                .store
                .borrow()
                .runs
                .get(&(number as u64))
                .copied()
                .unwrap_or(0);
            if runs > 1 && !running.idempotent {
                return Err(format!("call {number} may run once and ran {runs} times"));
            }
            match running.outcome {
                None => return Err(format!("call {number} never ended")),
                Some(Ok(())) if runs == 0 => return Err(format!("call {number} answered unrun")),
                Some(Ok(())) => shown.answered += 1,
                Some(Err(Code::Unavailable)) if running.idempotent => {
                    return Err(format!("call {number} may run twice and gave up early"));
                }
                Some(Err(Code::Unavailable)) => shown.unavailable += 1,
                Some(Err(Code::DeadlineExceeded)) => shown.late += 1,
                Some(Err(code)) => return Err(format!("call {number} failed with {code:?}")),
            }
            shown.calls += 1;
            shown.resent += u64::from(runs > 1);
        }
        let there = self.store.borrow().disk.len() as u64;
        if there != self.client.written {
            return Err(format!(
                "the log has {there} bytes, {} were written",
                self.client.written
            ));
        }
        debug_assert!(self.limits.fault().is_none());
        Ok(shown)
    }
}
