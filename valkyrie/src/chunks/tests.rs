//! Transfers under loss, wrong bytes and cuts, and the bounds of what is decoded.
//! Must not know how pieces travel in a real session.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const CHUNK: u32 = 1024;
const PIECE: usize = 400;
const LANES: usize = 3;

fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..length).map(|_| random.random()).collect()
}

/// Pieces of one chunk on their way, in order; the next one at the front.
type Lane = (u32, Vec<(u32, Vec<u8>)>);

/// Both sides, the streams between them, and the receiver's disk.
struct World {
    random: StdRng,
    content: Vec<u8>,
    manifest: Manifest,
    outbox: Outbox,
    intake: Intake,
    lanes: Vec<Lane>,
    disk: HashMap<Digest, Vec<u8>>,
    sent: Vec<u32>,
}

impl World {
    fn new(content: Vec<u8>, seed: u64) -> Self {
        let manifest = Manifest::of(&content, CHUNK).unwrap();
        let mut outbox = Outbox::new(manifest.clone(), LANES);
        let intake = Intake::new(manifest.clone(), |_| false, LANES);
        outbox.resume(intake.have()).unwrap();
        Self {
            random: StdRng::seed_from_u64(seed),
            content,
            manifest,
            outbox,
            intake,
            lanes: Vec::new(),
            disk: HashMap::new(),
            sent: Vec::new(),
        }
    }

    fn send(&mut self) {
        let Some(index) = self.outbox.take() else {
            return;
        };
        self.sent.push(index);
        let range = self.manifest.range(index).unwrap();
        let bytes = &self.content[range.start as usize..range.end as usize];
        let pieces = (0..).step_by(PIECE).zip(bytes.chunks(PIECE));
        let pieces = pieces.map(|(at, piece)| (at, piece.to_vec())).collect();
        self.lanes.push((index, pieces));
    }

    /// A random stream delivers its next piece; `damage` changes a bit of it.
    fn deliver(&mut self, damage: bool) {
        if self.lanes.is_empty() {
            return;
        }
        let lane = self.random.random_range(0..self.lanes.len());
        let (index, pieces) = &mut self.lanes[lane];
        let index = *index;
        let (offset, mut bytes) = pieces.remove(0);
        if pieces.is_empty() {
            self.lanes.swap_remove(lane);
        }
        if damage {
            bytes[0] ^= 1;
        }
        match self.intake.piece(index, offset, &bytes) {
            Ok(Taken::More) => {}
            Ok(Taken::Known) => self.outbox.stored(index),
            Ok(Taken::Whole(chunk)) => {
                assert_eq!(Some(chunk.digest), self.manifest.digest(chunk.index));
                assert_eq!(Digest::of(&chunk.bytes), chunk.digest, "checked before use");
                self.disk.insert(chunk.digest, chunk.bytes.to_vec());
                self.intake.stored(index);
                self.outbox.stored(index);
            }
            Err(Refusal::Wrong { .. }) => {
                self.outbox.refused(index).unwrap();
            }
            Err(_) => {
                self.lanes.retain(|(of, _)| *of != index);
                self.outbox.lost(index);
            }
        }
    }

    fn lose(&mut self) {
        if let Some((index, _)) = self.lanes.pop() {
            self.outbox.lost(index);
        }
    }

    /// The connection breaks; the receiver may have been restarted and knows only its disk.
    fn cut(&mut self, restarted: bool) {
        self.lanes.clear();
        self.intake.cut();
        if restarted {
            let disk: HashSet<_> = self.disk.keys().copied().collect();
            let present = |digest: &Digest| disk.contains(digest);
            self.intake = Intake::new(self.manifest.clone(), present, LANES);
        }
        self.outbox.resume(self.intake.have()).unwrap();
    }

    fn finish(&mut self) {
        for _ in 0..100_000 {
            if self.outbox.is_done() {
                break;
            }
            self.send();
            self.deliver(false);
        }
        assert!(self.outbox.is_done() && self.intake.is_complete());
        let stored: Vec<u8> = self
            .manifest
            .digests()
            .flat_map(|(_, digest)| self.disk[&digest].clone())
            .collect();
        assert!(stored == self.content);
    }
}

#[test]
fn the_loss_of_any_one_chunk_is_made_good_by_sending_that_one_again() {
    let chunks = 9;
    for lost in 0..chunks {
        let mut world = World::new(content(8 * 1024 + 77, 1), 1);
        while world.sent.last() != Some(&lost) {
            world.send();
            if world.sent.last() != Some(&lost) {
                world.deliver(false);
            }
        }
        world.lose();
        world.finish();
        assert_eq!(world.sent.len(), chunks as usize + 1);
        assert_eq!(world.sent.iter().filter(|at| **at == lost).count(), 2);
    }
}

#[test]
fn wrong_bytes_are_refused_and_a_content_that_has_changed_is_given_up() {
    let mut world = World::new(content(5000, 2), 2);
    world.send();
    world.deliver(true);
    world.finish();
    assert_eq!(world.sent.iter().filter(|at| **at == 0).count(), 2);

    let manifest = Manifest::of(&content(500, 3), CHUNK).unwrap();
    let mut intake = Intake::new(manifest.clone(), |_| false, 1);
    let mut outbox = Outbox::new(manifest, 1);
    outbox.resume(intake.have()).unwrap();
    for tries in 1..=3 {
        let index = outbox.take().unwrap();
        let refused = intake.piece(index, 0, &content(500, 4)).unwrap_err();
        assert_eq!(refused, Refusal::Wrong { index });
        assert_eq!(outbox.refused(index).is_err(), tries == 3);
    }
    assert!(!intake.is_complete());
}

#[test]
fn after_a_cut_only_what_is_missing_is_sent() {
    let mut world = World::new(content(20 * 1024, 5), 5);
    while world.disk.len() < 11 {
        world.send();
        world.deliver(false);
    }
    world.cut(true);
    world.sent.clear();
    world.finish();
    assert_eq!(world.sent.len(), 9);
}

#[test]
fn through_loss_damage_and_cuts_every_content_arrives_whole() {
    let (mut cuts, mut losses) = (0, 0);
    for seed in 0..1500 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = content(random.random_range(0..12_000), seed);
        if random.random() && bytes.len() > 4096 {
            // The same chunk twice.
            bytes.copy_within(0..1024, 2048);
        }
        let mut world = World::new(bytes, seed);
        let mut damages = 0;
        for _ in 0..100 {
            match random.random_range(0..40) {
                0..15 => world.send(),
                15..36 => {
                    let damage = damages < 2 && random.random_bool(0.05);
                    damages += u32::from(damage);
                    world.deliver(damage);
                }
                36..39 => {
                    losses += 1;
                    world.lose();
                }
                _ => {
                    cuts += 1;
                    world.cut(random.random());
                }
            }
            assert!(world.lanes.len() <= LANES);
        }
        world.finish();
    }
    assert!(cuts > 500 && losses > 500);
}

#[test]
fn what_is_there_from_another_content_and_what_repeats_is_sent_once() {
    let shared = content(1024, 6);
    let bytes = [shared.clone(), shared.clone(), content(1024, 7)].concat();
    let manifest = Manifest::of(&bytes, CHUNK).unwrap();
    let mut outbox = Outbox::new(manifest.clone(), 9);
    let nothing = Intake::new(manifest.clone(), |_| false, 9);
    outbox.resume(nothing.have()).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| outbox.take()).collect();
    assert_eq!(sent, [0, 2]);
    let known = Intake::new(manifest, |digest| *digest == Digest::of(&shared), 9);
    assert_eq!(known.have().missing().collect::<Vec<_>>(), [2]);
}

#[test]
fn an_intake_holds_no_more_chunks_than_lanes_and_no_byte_too_many() {
    let manifest = Manifest::of(&content(5000, 8), CHUNK).unwrap();
    let mut intake = Intake::new(manifest, |_| false, 2);
    assert_eq!(intake.piece(9, 0, b"x"), Err(Refusal::Index { index: 9 }));
    assert_eq!(intake.piece(0, 0, b"x"), Ok(Taken::More));
    assert_eq!(intake.piece(1, 0, b"x"), Ok(Taken::More));
    assert_eq!(intake.piece(2, 0, b"x"), Err(Refusal::Busy { lanes: 2 }));
    let order = Refusal::Order {
        index: 1,
        offset: 5,
        expected: 1,
    };
    assert_eq!(intake.piece(1, 5, b"x"), Err(order));
    assert_eq!(
        intake.piece(2, 0, b"x"),
        Ok(Taken::More),
        "its lane is free"
    );
    let long = [0; 1024];
    assert_eq!(
        intake.piece(0, 1, &long),
        Err(Refusal::TooLong { index: 0 })
    );
}

#[test]
fn a_manifest_has_one_form_and_its_name_depends_on_all_of_it() {
    let bytes = content(3000, 9);
    let manifest = Manifest::of(&bytes, CHUNK).unwrap();
    assert_eq!((manifest.len(), manifest.size()), (3, 3000));
    assert_eq!(manifest.range(2), Some(2048..3000));
    assert_eq!(manifest.range(3), None);
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
    let mut other = bytes.clone();
    other[2999] ^= 1;
    assert_ne!(Manifest::of(&other, CHUNK).unwrap().id(), manifest.id());
    assert_ne!(Manifest::of(&bytes, 2048).unwrap().id(), manifest.id());
    let mut builder = Builder::new(CHUNK).unwrap();
    bytes
        .chunks(7)
        .for_each(|piece| builder.update(piece).unwrap());
    assert_eq!(builder.finish(), manifest);
    assert!(Manifest::of(b"", CHUNK).unwrap().is_empty());
    assert_eq!(Builder::new(100).unwrap_err(), ManifestError::ChunkSize);
}

#[test]
fn a_broken_manifest_or_map_is_refused_before_anything_is_allocated() {
    let manifest = Manifest::of(&content(3000, 10), CHUNK).unwrap();
    let encoded = manifest.encode();
    assert_eq!(
        Manifest::decode(&encoded[..encoded.len() - 1]),
        Err(ManifestError::Broken)
    );
    let mut huge = encoded.to_vec();
    huge[0] = 0xff;
    assert_eq!(Manifest::decode(&huge), Err(ManifestError::TooLarge));
    let mut sizes = encoded.to_vec();
    sizes[8..12].fill(0);
    assert_eq!(Manifest::decode(&sizes), Err(ManifestError::ChunkSize));
    assert_eq!(
        Have::decode(&[0b1000], 3),
        None,
        "a bit behind the last chunk"
    );
    assert_eq!(Have::decode(&[0, 0], 3), None);
    assert!(Have::decode(&[0b111], 3).unwrap().is_full());
    assert!(Have::decode(&[], 0).unwrap().is_full());
    let mut outbox = Outbox::new(manifest, 1);
    assert_eq!(outbox.resume(&Have::none(4)), Err(Rejected::Map));
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        chunks in 0_u32..2000,
    ) {
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(&manifest.encode()[..], &bytes[..]);
        }
        if let Some(have) = Have::decode(&bytes, chunks) {
            prop_assert_eq!(have.as_bytes(), &bytes[..]);
            prop_assert!(have.missing().count() <= chunks as usize);
        }
    }
}
