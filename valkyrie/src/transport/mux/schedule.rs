//! Whose bytes go next: bands by class, turns within a band.
//! Must not hold bytes; it names streams.

use std::collections::VecDeque;

/// Bands, most urgent first: control, job, log, bulk.
pub(crate) const BANDS: usize = 4;
/// Frames of the control band in a row while another band waits: strict priority without a floor
/// would let a flood of control frames starve everything else.
const CONTROL_RUN: u32 = 8;
/// Shares of the bands below control.
const WEIGHTS: [i64; BANDS] = [0, 8, 4, 1];
/// Bytes that a weight of one stands for; about one frame.
const QUANTUM: i64 = 16 * 1024;

/// The band of a send priority (1000 control, 100 job, 10 log, below: bulk).
pub(crate) fn band(priority: i32) -> usize {
    match priority {
        1000.. => 0,
        100..1000 => 1,
        0..100 => 2,
        _ => 3,
    }
}

/// The streams that have something to send. Each is in at most one queue, once: the caller
/// remembers that, so the queues are no longer than there are streams.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queues: [VecDeque<u64>; BANDS],
    credits: [i64; BANDS],
    control_run: u32,
}

impl Schedule {
    pub(crate) fn push(&mut self, band: usize, stream: u64) {
        self.queues[band].push_back(stream);
    }

    /// Takes the next stream of the bands that may send.
    pub(crate) fn pop(&mut self, allowed: [bool; BANDS]) -> Option<(usize, u64)> {
        let ready: [bool; BANDS] =
            std::array::from_fn(|band| allowed[band] && !self.queues[band].is_empty());
        let band = self.choose(ready)?;
        self.queues[band].pop_front().map(|stream| (band, stream))
    }

    /// Counts what the chosen stream has sent.
    pub(crate) fn sent(&mut self, band: usize, bytes: usize) {
        self.credits[band] -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    fn choose(&mut self, ready: [bool; BANDS]) -> Option<usize> {
        let others = ready[1..].contains(&true);
        if ready[0] && (!others || self.control_run < CONTROL_RUN) {
            self.control_run += 1;
            return Some(0);
        }
        self.control_run = 0;
        if !others {
            return None;
        }
        // A band without work saves nothing up, else it would take the link for long later.
        for (credit, ready) in self.credits.iter_mut().zip(ready) {
            if !ready {
                *credit = (*credit).min(0);
            }
        }
        loop {
            let paid = (1..BANDS).find(|band| ready[*band] && self.credits[*band] > 0);
            if paid.is_some() {
                return paid;
            }
            for (band, ready) in ready.into_iter().enumerate() {
                if ready {
                    self.credits[band] += WEIGHTS[band] * QUANTUM;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `rounds` frames of 16 KiB with the given bands always ready; counts them by band.
    fn shares(ready: [bool; BANDS], rounds: usize) -> [usize; BANDS] {
        let mut schedule = Schedule::default();
        let mut counts = [0; BANDS];
        for band in (0..BANDS).filter(|band| ready[*band]) {
            schedule.push(band, band as u64);
        }
        for _ in 0..rounds {
            let (band, stream) = schedule.pop([true; BANDS]).unwrap();
            schedule.sent(band, 16 * 1024);
            counts[band] += 1;
            schedule.push(band, stream);
        }
        counts
    }

    #[test]
    fn the_bands_share_eight_to_four_to_one_and_none_starves() {
        assert_eq!(shares([false, true, true, true], 1300), [0, 800, 400, 100]);
        assert_eq!(shares([false, false, true, true], 500), [0, 0, 400, 100]);
    }

    #[test]
    fn control_goes_first_but_leaves_every_ninth_frame() {
        assert_eq!(shares([true, false, false, true], 900), [800, 0, 0, 100]);
        assert_eq!(shares([true, false, false, false], 10), [10, 0, 0, 0]);
    }

    #[test]
    fn streams_of_one_band_take_turns() {
        let mut schedule = Schedule::default();
        (0..3).for_each(|stream| schedule.push(3, stream));
        let mut order = Vec::new();
        for _ in 0..6 {
            let (band, stream) = schedule.pop([true; BANDS]).unwrap();
            order.push(stream);
            schedule.push(band, stream);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_band_that_may_not_send_is_passed_over() {
        let mut schedule = Schedule::default();
        schedule.push(1, 7);
        schedule.push(3, 9);
        assert_eq!(schedule.pop([true, true, false, false]), Some((1, 7)));
        assert_eq!(schedule.pop([true, true, false, false]), None);
        assert_eq!(schedule.pop([true; BANDS]), Some((3, 9)));
    }

    #[test]
    fn priorities_of_the_classes_fall_into_their_bands() {
        assert_eq!([i32::MAX, 1000, 100, 10, -10].map(band), [0, 0, 1, 2, 3]);
    }
}
