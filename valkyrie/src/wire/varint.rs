//! Variable-length integers of QUIC (RFC 9000 section 16), shortest form only.
//! Must not know what the numbers mean.

use bytes::BufMut;

use super::WireError;

/// The largest number that fits.
pub const MAX: u64 = (1 << 62) - 1;

/// Appends a number.
///
/// # Panics
/// When the number is over [`MAX`]: a defect of the caller, never caused by input.
pub fn encode(number: u64, out: &mut impl BufMut) {
    match number {
        0..0x40 => out.put_u8(number as u8),
        0x40..0x4000 => out.put_u16(number as u16 | 0x4000),
        0x4000..0x4000_0000 => out.put_u32(number as u32 | 0x8000_0000),
        0x4000_0000..=MAX => out.put_u64(number | 0xc000_0000_0000_0000),
        _ => panic!("{number} does not fit a varint"),
    }
}

/// Reads a number from the start; returns it with its length, or `None` when bytes are missing.
///
/// # Errors
/// When the number could have been written in fewer bytes.
pub fn decode(bytes: &[u8]) -> Result<Option<(u64, usize)>, WireError> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let length = 1 << (first >> 6);
    let Some(encoded) = bytes.get(..length) else {
        return Ok(None);
    };
    let mut number = u64::from(first & 0x3f);
    for byte in &encoded[1..] {
        number = number << 8 | u64::from(*byte);
    }
    let shortest: u64 = match length {
        1 => 0,
        2 => 0x40,
        4 => 0x4000,
        _ => 0x4000_0000,
    };
    if number < shortest {
        return Err(WireError::Overlong);
    }
    Ok(Some((number, length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a_1_are_read_and_written() {
        for (bytes, number) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(decode(bytes), Ok(Some((number, bytes.len()))));
            let mut out = Vec::new();
            encode(number, &mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn a_number_in_a_longer_form_than_needed_is_refused() {
        assert_eq!(decode(&[0x40, 0x25]), Err(WireError::Overlong));
        assert_eq!(decode(&[0x80, 0, 0, 1]), Err(WireError::Overlong));
        assert_eq!(
            decode(&[0xc0, 0, 0, 0, 0, 0, 0, 1]),
            Err(WireError::Overlong)
        );
    }

    proptest! {
        #[test]
        fn every_number_comes_back_and_every_prefix_waits(number in 0..=MAX) {
            let mut out = Vec::new();
            encode(number, &mut out);
            prop_assert_eq!(decode(&out), Ok(Some((number, out.len()))));
            for end in 0..out.len() {
                prop_assert_eq!(decode(&out[..end]), Ok(None));
            }
        }
    }
}
