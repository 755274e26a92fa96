//! What the frames of the dialing side make the accepting side do.
//! Must not look at a clock beyond the time that a frame came at.

use std::collections::BTreeMap;

use bytes::Bytes;
use valkyrie::append::Sink;
use valkyrie::error::CallError;
use valkyrie::session::{Drain, Liveness, Secret, ServerHandshake, Ticket};
use valkyrie::wire::message::{CallHead, Framed, Goaway, OpenHead};
use valkyrie::wire::{CloseCode, Decoder, Frame, FrameType, SessionId};

use super::super::choices::Choices;
use super::super::network::{Event, MS, Network, Pipe, Side};
use super::super::world::{CAPS, Log, data, intervals};
use super::{Kept, Line, Server, Stream, Work, send};

impl Server {
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
                let sink = Sink::new(self.store.borrow().disk.len() as u64, 4096);
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
                *self.store.borrow_mut().runs.entry(number).or_default() += 1;
                log.note(network.now, || {
                    format!("server: runs call {number} from {connection}")
                });
                let boot = self.boot;
                let work = choices.between(1, 900) * MS;
                let handled = Event::Handled {
                    host: self.host,
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
        self.store.borrow_mut().resumed += u32::from(attached.resumed);
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
}
