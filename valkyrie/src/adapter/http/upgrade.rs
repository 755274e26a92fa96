//! Whether a service agrees to switch the protocol, by the beginning of its answer.
//! Must not change what the caller reads.

use std::io;

use super::{MAX_HEAD, invalid};

/// A switch that was asked for: the answer's beginning, as far as it was needed.
#[derive(Default)]
pub(super) struct Switch {
    head: Vec<u8>,
}

/// The service's word.
pub(super) enum Answer {
    /// It has switched.
    Switches,
    /// It has answered as if it had not been asked.
    Refuses,
}

impl Switch {
    /// More of the answer; none when that does not decide yet. Answers before the answer (status
    /// 100 to 199 without 101) are passed over.
    ///
    /// # Errors
    /// When this is no HTTP/1.1, or its head does not end.
    pub(super) fn heard(&mut self, bytes: &[u8]) -> io::Result<Option<Answer>> {
        self.head.extend_from_slice(bytes);
        loop {
            let Some(line) = self.head.windows(2).position(|two| two == b"\r\n") else {
                return self.more();
            };
            match status(&self.head[..line]) {
                None => return Err(invalid("the answer is no HTTP/1.1")),
                Some(101) => return Ok(Some(Answer::Switches)),
                Some(100..=199) => {}
                Some(_) => return Ok(Some(Answer::Refuses)),
            }
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return self.more();
            };
            self.head.drain(..end + 4);
        }
    }

    fn more(&self) -> io::Result<Option<Answer>> {
        if self.head.len() > MAX_HEAD {
            return Err(invalid("the answer's head is too long"));
        }
        Ok(None)
    }
}

fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is decided after each piece: `+` it switches, `-` it does not, `.` nothing yet.
    fn decided(pieces: &[&str]) -> String {
        let mut switch = Switch::default();
        let sign = |piece: &&str| match switch.heard(piece.as_bytes()) {
            Ok(Some(Answer::Switches)) => '+',
            Ok(Some(Answer::Refuses)) => '-',
            Ok(None) => '.',
            Err(_) => '!',
        };
        pieces.iter().map(sign).collect()
    }

    #[test]
    fn the_first_answer_that_is_one_decides() {
        let switches = ["HTTP/1.1 10", "1 Switching Protocols\r", "\n"];
        assert_eq!(decided(&switches), "..+");
        let after_others = ["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101 \r\n"];
        assert_eq!(decided(&after_others), "+");
        assert_eq!(
            decided(&["HTTP/1.1 100 Continue\r\n", "\r\n", "HTTP/1.1 200 OK\r\n"]),
            "..-"
        );
        assert_eq!(decided(&["HTTP/1.1 426 Upgrade Required\r\n"]), "-");
    }

    #[test]
    fn what_is_no_answer_ends_the_connection() {
        assert_eq!(decided(&["HTTP/1.0 101 Fine\r\n"]), "!");
        assert_eq!(decided(&["\u{1}\u{2}\r\n"]), "!");
        assert_eq!(decided(&["HTTP/1.1 oak\r\n"]), "!");
        assert_eq!(decided(&[&"x".repeat(MAX_HEAD + 1)]), "!");
    }
}
