//! What truncation leaves of texts.

use std::ops::Range;

use crate::components::{Side, Truncation, TruncationStrategy};
use crate::{Error, Result};

/// What is left of one or two texts by the rules of transformers' SentencePiece-backed class.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) first: Range<usize>,
    pub(super) second: Range<usize>,
    /// What has overflowed: which text, and the range in it.
    pub(super) overflow: Option<(u8, Range<usize>)>,
    /// Whether nothing is cut since more would have to be than there is.
    pub(super) unmet: bool,
}

/// `PreTrainedTokenizerBase.truncate_sequences` (transformers 4.57.6): takes `excess` tokens away.
pub(super) fn cut(len: usize, pair_len: Option<usize>, excess: usize, truncation: &Truncation) -> Cut {
    let keep = |len: usize, remove: usize| match truncation.direction {
        Side::Right => 0..len - remove,
        Side::Left => remove..len,
    };
    let second_len = pair_len.unwrap_or(0);
    let mut cut = Cut { first: 0..len, second: 0..second_len, overflow: None, unmet: false };
    if excess == 0 {
        return cut;
    }
    let window = |len: usize| {
        let window = len.min(truncation.stride.saturating_add(excess));
        match truncation.direction {
            Side::Right => len - window..len,
            Side::Left => 0..window,
        }
    };
    match (truncation.strategy, pair_len) {
        (TruncationStrategy::OnlyFirst, _) | (TruncationStrategy::LongestFirst, None) => {
            cut.unmet = len <= excess;
            if !cut.unmet {
                cut.first = keep(len, excess);
                cut.overflow = Some((0, window(len)));
            }
        }
        (TruncationStrategy::OnlySecond, Some(second_len)) => {
            cut.unmet = second_len <= excess;
            if !cut.unmet {
                cut.second = keep(second_len, excess);
                cut.overflow = Some((1, window(second_len)));
            }
        }
        (TruncationStrategy::OnlySecond, None) => cut.unmet = true,
        (TruncationStrategy::LongestFirst, Some(second_len)) => {
            let lead = len.abs_diff(second_len).min(excess);
            let both = excess - lead;
            let (first, second) = if len > second_len {
                (lead + both / 2, both - both / 2)
            } else {
                (both / 2, lead + both - both / 2)
            };
            // A list sliced to more than it has is empty.
            cut.first = keep(len, first.min(len));
            cut.second = keep(second_len, second.min(second_len));
        }
    }
    cut
}

/// The windows of one or two texts by the rules of the tokenizers library (`truncate_encodings` and
/// `Encoding::truncate`, tokenizers 0.23.3): the first of each is what is left, the others have
/// overflowed. `max_length` is without the template's tokens.
pub(super) fn windows(
    len: usize,
    pair_len: Option<usize>,
    max_length: usize,
    truncation: &Truncation,
) -> Result<[Vec<Range<usize>>; 2]> {
    let second_len = pair_len.unwrap_or(0);
    let (mut first, mut second) = (len, second_len);
    let excess = (len + second_len).saturating_sub(max_length);
    if max_length == 0 {
        (first, second) = (0, 0);
    } else if excess > 0 {
        match truncation.strategy {
            TruncationStrategy::LongestFirst if pair_len.is_none() => first = len - excess,
            TruncationStrategy::LongestFirst => {
                let (shorter, mut longer) = (len.min(second_len), max_length);
                let mut shorter = shorter;
                longer = if shorter > max_length { shorter } else { shorter.max(longer - shorter) };
                if shorter + longer > max_length {
                    shorter = max_length / 2;
                    longer = shorter + max_length % 2;
                }
                (first, second) = if len > second_len { (longer, shorter) } else { (shorter, longer) };
            }
            TruncationStrategy::OnlyFirst => first = shorten(len, excess, "first")?,
            TruncationStrategy::OnlySecond if pair_len.is_none() => {
                return Err(Error::unsupported(
                    "truncation",
                    "\"only_second\" needs a pair of texts, but there is one text",
                ));
            }
            TruncationStrategy::OnlySecond => second = shorten(second_len, excess, "second")?,
        }
    }
    Ok([split(len, first, truncation)?, split(second_len, second, truncation)?])
}

fn shorten(len: usize, excess: usize, which: &str) -> Result<usize> {
    if len > excess {
        return Ok(len - excess);
    }
    Err(Error::unsupported(
        "truncation",
        format!("the {which} text has {len} tokens, too few to take {excess} of them away"),
    ))
}

/// Windows of `max` tokens over `len`.
fn split(len: usize, max: usize, truncation: &Truncation) -> Result<Vec<Range<usize>>> {
    if max >= len {
        return Ok(std::iter::once(0..len).collect());
    }
    if max == 0 {
        return Ok(vec![0..0, 0..len]);
    }
    if truncation.stride >= max {
        return Err(Error::unsupported(
            "stride",
            format!("{} is not less than {max}, the tokens that there is room for", truncation.stride),
        ));
    }
    let step = max - truncation.stride;
    let mut windows = Vec::with_capacity(len / step + 1);
    let mut begin: usize = 0;
    loop {
        let end = len.min(begin.saturating_add(max));
        windows.push(match truncation.direction {
            Side::Right => begin..end,
            Side::Left => len - end..len - begin,
        });
        if end == len {
            return Ok(windows);
        }
        begin += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truncation(strategy: TruncationStrategy, direction: Side, stride: usize) -> Truncation {
        Truncation { strategy, direction, stride, max_length: 0 }
    }

    #[test]
    fn one_text_is_cut_at_either_end() {
        let right = cut(9, None, 4, &truncation(TruncationStrategy::LongestFirst, Side::Right, 2));
        assert_eq!((right.first, right.overflow), (0..5, Some((0, 3..9))));
        let left = cut(9, None, 4, &truncation(TruncationStrategy::OnlyFirst, Side::Left, 2));
        assert_eq!((left.first, left.overflow), (4..9, Some((0, 0..6))));
        let unmet = cut(4, None, 4, &truncation(TruncationStrategy::OnlyFirst, Side::Right, 0));
        assert_eq!((unmet.first, unmet.unmet), (0..4, true));
        assert!(cut(4, None, 1, &truncation(TruncationStrategy::OnlySecond, Side::Right, 0)).unmet);
        let far = cut(9, None, 4, &truncation(TruncationStrategy::OnlyFirst, Side::Right, usize::MAX));
        assert_eq!(far.overflow, Some((0, 0..9)));
    }

    #[test]
    fn the_longer_text_is_cut_first() {
        let lens = |first, second, excess| {
            let cut = cut(
                first,
                Some(second),
                excess,
                &truncation(TruncationStrategy::LongestFirst, Side::Right, 0),
            );
            (cut.first.len(), cut.second.len())
        };
        assert_eq!(lens(9, 3, 4), (5, 3));
        assert_eq!(lens(9, 3, 9), (2, 1));
        assert_eq!(lens(3, 9, 9), (2, 1));
        assert_eq!(lens(2, 2, 9), (0, 0));
    }

    #[test]
    fn windows_overlap_and_cover_all() {
        let right = truncation(TruncationStrategy::LongestFirst, Side::Right, 1);
        assert_eq!(windows(7, None, 3, &right).unwrap()[0], [0..3, 2..5, 4..7]);
        let left = truncation(TruncationStrategy::LongestFirst, Side::Left, 1);
        assert_eq!(windows(6, None, 3, &left).unwrap()[0], [3..6, 1..4, 0..2]);
        assert_eq!(windows(2, None, 0, &right).unwrap()[0], [0..0, 0..2]);
        assert_eq!(windows(2, None, 2, &right).unwrap()[0], [const { 0..2 }]);
        let [first, second] = windows(5, Some(2), 5, &right).unwrap();
        assert_eq!(first, [0..3, 2..5]);
        assert_eq!(second, [const { 0..2 }]);
    }

    #[test]
    fn what_cannot_be_cut_is_an_error() {
        let stride = truncation(TruncationStrategy::LongestFirst, Side::Right, 3);
        assert_eq!(windows(7, None, 3, &stride).unwrap_err().field(), Some("stride"));
        let second = truncation(TruncationStrategy::OnlySecond, Side::Right, 0);
        assert!(windows(7, None, 3, &second).is_err());
        assert!(windows(7, Some(2), 3, &second)
            .unwrap_err()
            .to_string()
            .contains("second text has 2 tokens"));
    }
}
