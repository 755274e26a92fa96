//! What time makes the dialing side do: pings, deadlines, what may be sent now, dials.
//! Must not read frames: those that come are handled where they arrive.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use valkyrie::append::Piece;
use valkyrie::session::drain::DrainStep;
use valkyrie::session::{ClientHandshake, Health};
use valkyrie::wire::message::{CallHead, Framed, OpenHead, millis};
use valkyrie::wire::{Class, CloseCode, Decoder, Frame, FrameType};

use super::super::choices::Choices;
use super::super::network::{Event, Host, Network, Pipe, Side};
use super::super::world::{CAPS, Log, data, pattern};
use super::{Client, Dial, Stream, Work, send};

impl Client {
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
        self.retire(&mut next, network, choices, log)?;
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

    /// Ends the lines that were left for a successor, once no call is open on them.
    fn retire(
        &mut self,
        next: &mut Instant,
        network: &mut Network,
        choices: &mut Choices,
        log: &mut Log,
    ) -> Result<(), String> {
        let now = self.clock.now(network.now);
        let mut at = 0;
        while let Some(line) = self.old.get_mut(at) {
            let connection = line.connection;
            line.liveness.set_busy(!line.streams.is_empty(), now);
            let pulse = line.liveness.poll(now);
            *next = (*next).min(pulse.next);
            if pulse.ping {
                let ping = Frame {
                    kind: FrameType::Ping,
                    payload: Bytes::from_static(&[2; 8]),
                };
                send(network, choices, (connection, 0), &ping, false);
            }
            if !line.streams.is_empty() && pulse.health != Health::Dead {
                at += 1;
                continue;
            }
            log.note(network.now, || format!("client: leaves {connection}"));
            let code = CloseCode::Replaced.number();
            network.close(connection, Side::Client, code, choices);
            let line = self.old.remove(at);
            self.left(line, now)?;
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
            if let Some((connection, stream)) = on
                && let Some(line) = self.line_of(connection)
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
            send(network, choices, on, &data(number as u64), true);
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
        let goes = |line: &super::Line| line.drain.successor().is_some();
        let draining = self.line.as_ref().is_some_and(|l| l.drain_until.is_some());
        let usable = self.line.as_ref().is_some_and(|l| !l.suspect && !goes(l));
        if draining {
            return;
        }
        if self.over || usable || self.dial.is_some() {
            return;
        }
        if now < self.redial {
            *next = (*next).min(self.redial);
            return;
        }
        // A hint may be wrong: every other time the known server is asked.
        let host = match &mut self.away {
            Some(tries) => {
                *tries += 1;
                if *tries % 2 == 1 {
                    Host::Successor
                } else {
                    Host::Home
                }
            }
            None => Host::Home,
        };
        let connection = network.connect(host);
        let handshake = ClientHandshake::new(&self.limits, self.ticket.clone(), now);
        let hello = handshake.hello(choices.below(1 << 16) as u16);
        log.note(network.now, || {
            format!("client: dials {connection} at {host:?}")
        });
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
