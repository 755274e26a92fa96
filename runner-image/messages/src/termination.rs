//! A result as the pod's termination message: the way that is left when the hub is away.
//! Must stay within the kubelet's 4,096 bytes.

use prost::Message;

use crate::{JobResult, Outcome};

/// Marks the message, so that a text that the user's image left there is not taken for a result.
const PREFIX: &str = "rustci-result:";
/// Limit of the kubelet, terminationMessagePath in the Kubernetes API reference.
const LIMIT: usize = 4096;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Text of a result. What does not fit goes: first the outputs (a job that has outputs then
/// counts as failed in set-up), then the steps.
pub fn encode(result: &JobResult) -> String {
    let mut short = result.clone();
    let text = hex(&short);
    if text.len() <= LIMIT {
        return text;
    }
    if !short.outputs.is_empty() && short.outcome() == Outcome::Succeeded {
        short.set_outcome(Outcome::Setup);
        short.message = "the operator was away and the outputs do not fit the pod's status".into();
    }
    short.outputs.clear();
    let text = hex(&short);
    if text.len() <= LIMIT {
        return text;
    }
    short.steps.clear();
    short.log_ends.clear();
    short
        .message
        .truncate(short.message.floor_char_boundary(500));
    hex(&short)
}

/// The result in a termination message; none when it holds something else.
pub fn decode(text: &str) -> Option<JobResult> {
    let digits = text.trim().strip_prefix(PREFIX)?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?))
        .collect();
    JobResult::decode(&bytes?[..])
        .ok()
        .filter(|result| result.job.is_some())
}

fn hex(result: &JobResult) -> String {
    let mut text = PREFIX.to_owned();
    for byte in result.encode_to_vec() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn value(digit: u8) -> Option<u8> {
    DIGITS
        .iter()
        .position(|known| *known == digit)
        .and_then(|index| u8::try_from(index).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobKey, StepOutput, StepReport};

    fn result(outputs: usize, steps: usize) -> JobResult {
        JobResult {
            job: Some(JobKey {
                job: "oak".into(),
                attempt: 2,
                fence: 9,
                ..JobKey::default()
            }),
            outcome: Outcome::Succeeded.into(),
            message: String::new(),
            steps: (0..steps)
                .map(|i| StepReport {
                    index: i as u32,
                    message: "birch".repeat(10),
                    ..StepReport::default()
                })
                .collect(),
            outputs: (0..outputs)
                .map(|i| StepOutput {
                    step: "elm".into(),
                    name: format!("n{i}"),
                    value: "maple".repeat(9),
                })
                .collect(),
            log_ends: vec![7; steps],
        }
    }

    #[test]
    fn a_small_result_comes_back_as_it_was() {
        let result = result(2, 3);
        assert_eq!(decode(&encode(&result)), Some(result));
    }

    #[test]
    fn outputs_that_do_not_fit_make_a_success_a_set_up_failure() {
        let text = encode(&result(200, 3));
        assert!(text.len() <= LIMIT);
        let decoded = decode(&text).expect("a result");
        assert_eq!(decoded.outcome(), Outcome::Setup);
        assert!(decoded.message.contains("outputs do not fit"));
        assert_eq!(decoded.steps.len(), 3);
    }

    #[test]
    fn a_thousand_steps_fit_by_their_outcome() {
        let text = encode(&result(0, 1000));
        assert!(text.len() <= LIMIT);
        assert_eq!(
            decode(&text).map(|result| result.outcome()),
            Some(Outcome::Succeeded)
        );
    }

    #[test]
    fn other_texts_are_no_result() {
        for text in [
            "",
            "panic: something",
            "rustci-result:",
            "rustci-result:zz",
            "rustci-result:0",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
