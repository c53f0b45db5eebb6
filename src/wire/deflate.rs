use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Deflates bodies: raw, no dictionary (RFC 1951). It holds a third of a megabyte: make one, keep it.
pub struct Deflater(Compress);

impl Deflater {
    /// A deflater.
    #[must_use]
    pub fn new() -> Deflater {
        Deflater(Compress::new(Compression::new(6), false))
    }

    /// Deflates `body` into `out` if that makes it smaller; else says `false`, and `out` is of no use.
    pub fn deflate(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        // A stream has at least two bytes, and below some thirty nothing is gained.
        if body.len() < 32 {
            return false;
        }
        self.0.reset();
        out.clear();
        out.resize(body.len() - 1, 0);
        let done = matches!(self.0.compress(body, out, FlushCompress::Finish), Ok(Status::StreamEnd));
        out.truncate(usize::try_from(self.0.total_out()).unwrap_or(0));
        done
    }
}

impl Default for Deflater {
    fn default() -> Deflater {
        Deflater::new()
    }
}

/// Inflates bodies from the network, within a limit.
pub struct Inflater(Decompress);

/// Why a body can't be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It isn't one deflate stream.
    Corrupt,
    /// It would grow past the limit.
    TooLarge,
}

impl Inflater {
    /// An inflater.
    #[must_use]
    pub fn new() -> Inflater {
        Inflater(Decompress::new(false))
    }

    /// Inflates `body` into `out`, whose capacity stays within `limit` and one byte.
    ///
    /// # Errors
    /// Where the stream is broken, unfinished or followed by other bytes, or holds more than `limit` bytes.
    pub fn inflate(&mut self, body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), InflateError> {
        self.0.reset(false);
        out.clear();
        out.resize(limit + 1, 0);
        let status = self.0.decompress(body, out, FlushDecompress::Finish);
        out.truncate(usize::try_from(self.0.total_out()).unwrap_or(0));
        if out.len() > limit {
            return Err(InflateError::TooLarge);
        }
        match status {
            Ok(Status::StreamEnd) if self.0.total_in() == body.len() as u64 => Ok(()),
            _ => Err(InflateError::Corrupt),
        }
    }
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater::new()
    }
}
