//! The masks on aarch64, every processor of which has NEON.

use std::arch::aarch64::*;
use std::ops::Range;

use super::{Masks, Scanner, BLOCK, FIRST_WIDE, HIGH};

/// The bit of each byte in the byte of a mask that stands for it and its seven neighbours.
const WEIGHTS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

impl Scanner {
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn units_neon(&self, buffer: &[u8], range: Range<usize>, starts: &mut Vec<u32>) {
        // SAFETY: loads of 16 bytes from arrays of 16.
        let [first, isolated, high, weights] = [&self.tables.first, &self.tables.isolated, &HIGH, &WEIGHTS]
            .map(|table| unsafe { vld1q_u8(table.as_ptr()) });
        // Sums of two neighbours, three times over, make a byte of eight.
        let bits = |parts: [uint8x16_t; 4]| {
            let [a, b, c, d] = parts.map(|part| vandq_u8(part, weights));
            let sums = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
            vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)))
        };
        self.units_by(buffer, range, starts, |block: &[u8; BLOCK]| {
            // SAFETY: loads of 16 bytes each from an array of 64.
            let parts = [0, 16, 32, 48].map(|place| unsafe { vld1q_u8(block.as_ptr().add(place)) });
            let member = |table: uint8x16_t| {
                bits(parts.map(|bytes| {
                    let row = vqtbl1q_u8(high, vshrq_n_u8::<4>(bytes));
                    vtstq_u8(vqtbl1q_u8(table, vandq_u8(bytes, vdupq_n_u8(15))), row)
                }))
            };
            let at_least = |least: u8| bits(parts.map(|bytes| vcgeq_u8(bytes, vdupq_n_u8(least))));
            Masks {
                space: bits(parts.map(|bytes| vceqq_u8(bytes, vdupq_n_u8(b' ')))),
                first: member(first),
                isolated: member(isolated),
                other: at_least(0x80),
                wide: at_least(FIRST_WIDE),
            }
        });
    }
}
