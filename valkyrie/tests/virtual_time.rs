//! A dialing and an accepting side as pure machines over a faulty network, in virtual time.
//! Must not sleep or read a clock: the same seed gives the same run.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use valkyrie::error::Code;
use valkyrie::limits::Limits;
use valkyrie::session::liveness::Intervals;
use valkyrie::session::{
    Backoff, Call, CallOptions, ClientHandshake, Health, Liveness, Secret, ServerHandshake,
    Sessions, Ticket,
};
use valkyrie::wire::{Caps, Decoder, Frame, SessionId};

const CAPS: Caps = Caps {
    control: 65_536,
    data: 262_144,
};
const TICK: Duration = Duration::from_millis(50);

/// What travels on one connection. The transport below is reliable and in order, so a fault is
/// a connection that swallows everything from some moment on.
#[derive(Clone, Debug)]
enum Message {
    Hello(Vec<u8>),
    Ack(Vec<u8>),
    Ping,
    Pong,
    Call(usize),
    Reply(usize),
}

struct Wire {
    /// By time of arrival and order of sending; `true` goes to the server.
    flying: BTreeMap<(Instant, u64), (u64, bool, Message)>,
    sent: u64,
    /// Connections up to this number swallow everything.
    cut: u64,
}

impl Wire {
    fn send(&mut self, connection: u64, up: bool, message: Message, at: Instant) {
        self.sent += 1;
        if connection > self.cut {
            self.flying
                .insert((at, self.sent), (connection, up, message));
        }
    }

    fn arrived(&mut self, now: Instant) -> Option<(u64, bool, Message)> {
        let next = self
            .flying
            .first_key_value()
            .map(|(key, _)| *key)
            .filter(|key| key.0 <= now)?;
        let arrived = self.flying.remove(&next)?;
        if arrived.0 > self.cut {
            Some(arrived)
        } else {
            self.arrived(now)
        }
    }
}

struct Running {
    call: Call,
    idempotent: bool,
    /// The connection it was sent on.
    on: Option<u64>,
    outcome: Option<Result<(), Code>>,
}

struct Client {
    connection: u64,
    handshake: Option<ClientHandshake>,
    liveness: Option<Liveness>,
    ticket: Option<Ticket>,
    ids: Vec<SessionId>,
    backoff: Backoff,
    redial: Instant,
    calls: Vec<Running>,
}

struct Server {
    table: Sessions<&'static str, ()>,
    /// The session and the table's number of each connection.
    served: BTreeMap<u64, (SessionId, u64)>,
    runs: BTreeMap<usize, u32>,
}

fn frame(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::new(CAPS);
    decoder.push(bytes.to_vec().into());
    decoder.next_frame().unwrap().unwrap()
}

struct World {
    rng: StdRng,
    now: Instant,
    limits: Limits,
    wire: Wire,
    client: Client,
    server: Server,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let limits = Limits::default();
        let backoff = Backoff::new(limits.backoff.0, limits.backoff.1);
        Self {
            rng: StdRng::seed_from_u64(seed),
            now,
            wire: Wire {
                flying: BTreeMap::new(),
                sent: 0,
                cut: 0,
            },
            client: Client {
                connection: 0,
                handshake: None,
                liveness: None,
                ticket: None,
                ids: Vec::new(),
                backoff,
                redial: now,
                calls: Vec::new(),
            },
            server: Self::fresh_server(&limits),
            limits,
        }
    }

    fn fresh_server(limits: &Limits) -> Server {
        Server {
            table: Sessions::new(limits.resume_window, limits.sessions),
            served: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }

    fn send(&mut self, connection: u64, up: bool, message: Message) {
        let delay = Duration::from_millis(self.rng.random_range(1..200));
        // In order per connection and direction, as a stream is.
        let last = self
            .wire
            .flying
            .iter()
            .filter(|(_, m)| m.0 == connection && m.1 == up);
        let earliest = last.map(|(key, _)| key.0).max().unwrap_or(self.now);
        self.wire
            .send(connection, up, message, (self.now + delay).max(earliest));
    }

    fn step(&mut self) {
        self.now += TICK;
        while let Some((connection, up, message)) = self.wire.arrived(self.now) {
            if up {
                self.at_server(connection, message)
            } else {
                self.at_client(connection, message)
            }
        }
        self.server.table.expire(self.now);
        self.drive_client();
    }

    fn at_server(&mut self, connection: u64, message: Message) {
        match message {
            Message::Hello(bytes) => {
                let handshake = ServerHandshake::new(&self.limits, self.now);
                let asked = handshake.receive(frame(&bytes), self.now).unwrap();
                let fresh = Ticket {
                    id: SessionId(self.rng.random()),
                    secret: Secret(self.rng.random()),
                };
                let shown = asked.resume.as_ref();
                let attached = self
                    .server
                    .table
                    .attach("agent", shown, fresh, || (), self.now)
                    .unwrap();
                let (id, secret) = (attached.ticket.id, attached.ticket.secret);
                self.server
                    .served
                    .insert(connection, (id, attached.connection));
                let grease = self.rng.random();
                let ack = handshake.accept(&asked, id, Some(&secret), attached.resumed, grease);
                self.send(connection, false, Message::Ack(ack.to_vec()));
            }
            Message::Ping => self.send(connection, false, Message::Pong),
            Message::Call(number) if self.server.served.contains_key(&connection) => {
                *self.server.runs.entry(number).or_default() += 1;
                self.send(connection, false, Message::Reply(number));
            }
            _ => {}
        }
    }

    fn at_client(&mut self, connection: u64, message: Message) {
        let client = &mut self.client;
        if connection != client.connection {
            return;
        }
        if let Some(liveness) = &mut client.liveness {
            liveness.heard(self.now);
        }
        match message {
            Message::Ack(bytes) => {
                let Some(handshake) = client.handshake.take() else {
                    return;
                };
                let Ok(welcome) = handshake.receive(frame(&bytes), self.now) else {
                    return;
                };
                let known = client.ids.last() == Some(&welcome.id);
                assert_eq!(welcome.resumed, known, "continued means the same session");
                client.ids.push(welcome.id);
                client.ticket = welcome.ticket;
                client.backoff.reset();
                let intervals = Intervals {
                    keep_alive: welcome.terms.keep_alive,
                    probe: self.limits.probe,
                    suspect: self.limits.suspect,
                    idle: welcome.terms.idle,
                };
                client.liveness = Some(Liveness::new(intervals, true, self.now));
            }
            Message::Reply(number) => {
                client.calls[number].outcome.get_or_insert(Ok(()));
            }
            _ => {}
        }
    }

    fn drive_client(&mut self) {
        let now = self.now;
        let late = self
            .client
            .handshake
            .as_ref()
            .is_some_and(|shake| now >= shake.deadline());
        let open = self.client.calls.iter().any(|call| call.outcome.is_none());
        let mut lost = late;
        let mut ping = false;
        if let Some(liveness) = &mut self.client.liveness {
            liveness.set_busy(open, now);
            let pulse = liveness.poll(now);
            lost |= pulse.health != Health::Alive;
            ping = pulse.ping;
        }
        if ping {
            self.send(self.client.connection, true, Message::Ping);
        }
        if lost {
            self.lose();
        }
        let idle = self.client.handshake.is_none() && self.client.liveness.is_none();
        if idle && now >= self.client.redial {
            self.client.connection += 1;
            let handshake = ClientHandshake::new(&self.limits, self.client.ticket.clone(), now);
            let hello = handshake.hello(self.rng.random()).to_vec();
            self.client.handshake = Some(handshake);
            self.send(self.client.connection, true, Message::Hello(hello));
        }
        self.drive_calls();
    }

    fn lose(&mut self) {
        let client = &mut self.client;
        let before = client.connection;
        client.handshake = None;
        client.liveness = None;
        client.redial = self.now + client.backoff.next(self.rng.random(), None);
        for running in client
            .calls
            .iter_mut()
            .filter(|call| call.on == Some(before))
        {
            running.on = None;
            if running.outcome.is_none()
                && let Err(error) = running.call.lost(self.now)
            {
                running.outcome = Some(Err(error.code));
            }
        }
        if let Some((id, number)) = self.server.served.remove(&before) {
            self.server.table.detach(id, number, self.now);
        }
    }

    fn drive_calls(&mut self) {
        let (now, connection) = (self.now, self.client.connection);
        let up = self.client.liveness.is_some();
        let mut leaving = Vec::new();
        for (number, running) in self.client.calls.iter_mut().enumerate() {
            if running.outcome.is_some() {
                continue;
            }
            if now >= running.call.deadline() {
                running.outcome = Some(Err(running.call.expired().code));
            } else if up && running.on.is_none() {
                running.call.send(now).unwrap();
                running.on = Some(connection);
                leaving.push(number);
            }
        }
        for number in leaving {
            self.send(connection, true, Message::Call(number));
        }
    }

    fn start_call(&mut self) {
        let idempotent = self.rng.random();
        let deadline = Duration::from_secs(self.rng.random_range(5..90));
        let mut options = CallOptions::new(deadline);
        options.idempotent = idempotent;
        let call = Call::new(&options, self.now);
        self.client.calls.push(Running {
            call,
            idempotent,
            on: None,
            outcome: None,
        });
    }
}

/// Ten minutes with calls, cuts and restarts, then quiet until every call has ended.
fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    let end = world.now + Duration::from_secs(600);
    let mut restarted = false;
    while world.now < end {
        if world.rng.random_bool(0.02) {
            world.start_call();
        }
        if world.rng.random_bool(0.002) {
            world.wire.cut = world.client.connection;
        }
        if world.rng.random_bool(0.0003) {
            world.wire.cut = world.client.connection;
            let runs = std::mem::take(&mut world.server.runs);
            world.server = World::fresh_server(&world.limits);
            world.server.runs = runs;
            restarted = true;
        }
        world.step();
    }
    for _ in 0..(100 * 20) {
        world.step();
    }
    if !restarted {
        let longest = world.limits.idle + world.limits.hello;
        assert!(
            longest < world.limits.resume_window,
            "a cut is noticed within the window"
        );
        let first = world.client.ids[0];
        assert!(
            world.client.ids.iter().all(|id| *id == first),
            "one session for ever"
        );
    }
    world
}

#[test]
fn every_call_has_one_outcome_and_only_idempotent_ones_run_twice() {
    let (mut answered, mut resent, mut unavailable, mut resumed) = (0, 0, 0, 0);
    for seed in 0..200 {
        let world = run(seed);
        resumed += world.client.ids.len() - 1;
        for (number, running) in world.client.calls.iter().enumerate() {
            let runs = world.server.runs.get(&number).copied().unwrap_or(0);
            let outcome = running.outcome.as_ref();
            let outcome = outcome.unwrap_or_else(|| panic!("seed {seed}: call {number} hangs"));
            if !running.idempotent {
                assert!(runs <= 1, "seed {seed}: call {number} ran {runs} times");
            }
            match outcome {
                Ok(()) => assert!(runs >= 1, "seed {seed}: call {number} answered unrun"),
                Err(Code::Unavailable) => {
                    assert!(
                        !running.idempotent,
                        "seed {seed}: call {number} gave up early"
                    );
                    unavailable += 1;
                }
                Err(code) => assert_eq!(*code, Code::DeadlineExceeded, "seed {seed}"),
            }
            answered += u32::from(outcome.is_ok());
            resent += u32::from(runs > 1);
        }
    }
    // The faults were there: otherwise the run has shown nothing.
    assert!(
        answered > 20_000 && resent > 20 && unavailable > 100 && resumed > 1000,
        "{answered} answered, {resent} resent, {unavailable} unavailable, {resumed} resumed"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let outcomes = |seed| -> Vec<_> {
        run(seed)
            .client
            .calls
            .into_iter()
            .map(|call| call.outcome)
            .collect()
    };
    assert_eq!(outcomes(7), outcomes(7));
    assert_ne!(outcomes(7), outcomes(8));
}
