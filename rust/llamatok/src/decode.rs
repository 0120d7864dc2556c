//! Ids to text.

use crate::{Result, TokenId};

/// Turns ids into text as they arrive.
#[derive(Debug, Clone)]
pub struct StreamDecoder;

impl StreamDecoder {
    /// Takes ids and appends the text that is complete by now to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::IdOutOfRange`](crate::ErrorKind::IdOutOfRange); the decoder is then unchanged.
    pub fn push(&mut self, ids: &[TokenId], out: &mut String) -> Result<()> {
        let _ = (ids, out);
        todo!()
    }

    /// Ends the stream: appends what was held back to `out`. The decoder may be used again, as new.
    pub fn finish(&mut self, out: &mut String) {
        let _ = out;
        todo!()
    }
}
