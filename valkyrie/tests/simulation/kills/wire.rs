//! One direction of a connection: framed messages that arrive in pieces and break at any byte.
//! Must not reorder: that is the transport's promise.

use std::collections::VecDeque;

use bytes::Bytes;
use valkyrie::wire::{Decoder, Frame, FrameType};

use super::super::simulation::choices::Choices;
use super::super::simulation::world::CAPS;

pub(super) struct Wire {
    on_the_way: VecDeque<u8>,
    decoder: Decoder,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            on_the_way: VecDeque::new(),
            decoder: Decoder::new(CAPS),
        }
    }

    pub(super) fn send(&mut self, parts: &[&[u8]]) {
        let frame = Frame {
            kind: FrameType::Data,
            payload: Bytes::from(parts.concat()),
        };
        self.on_the_way.extend(frame.to_bytes());
    }

    /// The next piece arrives; the messages that are whole with it.
    pub(super) fn deliver(&mut self, choices: &mut Choices) -> Result<Vec<Bytes>, String> {
        let most = self.on_the_way.len() as u64;
        let count = choices.below(most + 1).min(choices.between(1, 200)) as usize;
        let piece: Vec<u8> = self.on_the_way.drain(..count).collect();
        self.decoder.push(piece.into());
        let mut messages = Vec::new();
        while let Some(frame) = self.decoder.next_frame().map_err(|e| e.to_string())? {
            messages.push(frame.payload);
        }
        Ok(messages)
    }

    /// The sender is gone: what has left may still arrive, up to some byte.
    pub(super) fn break_off(&mut self, choices: &mut Choices) {
        let left = choices.below(self.on_the_way.len() as u64 + 1);
        self.on_the_way.truncate(left as usize);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.on_the_way.is_empty()
    }
}

/// A number at the beginning of a message, and the rest.
pub(super) fn number(message: &[u8]) -> (u64, &[u8]) {
    let (number, rest) = message.split_first_chunk().expect("eight bytes");
    (u64::from_be_bytes(*number), rest)
}
