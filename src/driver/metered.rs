//! The budget of TCP work per turn of the loop, and the share of each connection in it.
//!
//! Work is counted in bytes that are read and written. Other work is converted into the same unit: see
//! [`limits::CALL_WORK`], [`limits::WEBSOCKET_FRAME_WORK`] and [`limits::REQUEST_WORK`].

use std::io::{self, IoSlice, Read, Write};

use crate::limits;

/// Slices written at once; others wait for the next call.
const SLICES: usize = 16;

/// The work left in this turn.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn of_turn() -> Budget {
        Budget(limits::TURN_WORK)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// The share of the next connection.
    pub(super) fn share(&self) -> usize {
        self.0.min(limits::TURN_SHARE)
    }

    pub(super) fn spend(&mut self, work: usize) {
        self.0 = self.0.saturating_sub(work);
    }
}

/// A socket that reads and writes until its share is used up; then it behaves as if it would block. So it does after a
/// read that did not fill its buffer, until [`Metered::handle_readable`]: the socket is empty then, and asking it would
/// cost a system call.
#[derive(Debug)]
pub(super) struct Metered<S> {
    socket: S,
    share: usize,
    spent: usize,
    is_empty: bool,
    /// Whether the other end has closed: after its last bytes no event follows.
    is_ending: bool,
    /// Whether the last write was incomplete.
    has_waiting: bool,
    /// Whether bytes were written since [`Metered::take_progress`].
    wrote: bool,
}

impl<S> Metered<S> {
    pub(super) fn new(socket: S) -> Metered<S> {
        Metered { socket, share: 0, spent: 0, is_empty: false, is_ending: false, has_waiting: false, wrote: false }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.socket
    }

    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The socket is readable again. `is_ending` means that the other end has closed or the connection has failed.
    pub(super) fn handle_readable(&mut self, is_ending: bool) {
        self.is_empty = false;
        self.is_ending |= is_ending;
    }

    /// Begins a new share; the rest of the last one is lost.
    pub(super) fn allow(&mut self, share: usize) {
        (self.share, self.spent) = (share, 0);
    }

    /// Charges other work to the share.
    pub(super) fn charge(&mut self, work: usize) {
        self.share = self.share.saturating_sub(work);
        self.spent += work;
    }

    /// Adds to the share, for a last message to the other end.
    pub(super) fn grant(&mut self, work: usize) {
        self.share = self.share.saturating_add(work);
    }

    /// The work since [`Metered::allow`]. Its last part may have exceeded the share.
    pub(super) fn spent(&self) -> usize {
        self.spent
    }

    /// Whether the share is used up, so that the socket may still be readable or writable.
    pub(super) fn is_exhausted(&self) -> bool {
        self.share == 0
    }

    /// Whether bytes wait because the socket was full or the share used up.
    pub(super) fn has_waiting(&self) -> bool {
        self.has_waiting
    }

    /// Whether bytes were written since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// How many of these bytes the next call may read or write.
    fn begin(&mut self, length: usize) -> io::Result<usize> {
        if self.is_exhausted() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = length.min(self.share);
        self.charge(limits::CALL_WORK);
        Ok(length)
    }
}

impl<S: Read> Read for Metered<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_empty {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.begin(buffer.len())?;
        let read = uninterrupted(|| self.socket.read(&mut buffer[..length]))?;
        self.charge(read);
        self.is_empty = read < length && !self.is_ending;
        Ok(read)
    }
}

impl<S: Write> Write for Metered<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.has_waiting = true;
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let mut left = self.begin(wanted)?;
        let mut allowed = [IoSlice::new(&[]); SLICES];
        for (allowed, slice) in allowed.iter_mut().zip(slices) {
            let length = slice.len().min(left);
            left -= length;
            *allowed = IoSlice::new(&slice[..length]);
        }
        let written = uninterrupted(|| self.socket.write_vectored(&allowed[..slices.len().min(SLICES)]))?;
        self.charge(written);
        self.wrote |= written > 0;
        self.has_waiting = written < wanted;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_bounds_what_is_read_and_written_together() {
        let mut socket = Metered::new(io::Cursor::new(vec![7; 1_000_000]));
        let mut buffer = [0; 4_096];
        assert!(socket.read(&mut buffer).is_err(), "nothing is allowed yet");
        socket.allow(3 * limits::CALL_WORK);
        let mut moved = 0;
        while !socket.is_exhausted() {
            moved += socket.read(&mut buffer[..1_000]).expect("within the share");
            moved += socket.write(&buffer[..1_000]).unwrap_or_default();
        }
        assert!(moved > 0 && moved <= 3 * limits::CALL_WORK, "{moved}");
        assert!(socket.spent() <= 4 * limits::CALL_WORK + 1_000, "{}", socket.spent());
        assert_eq!(socket.write(&buffer).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert!(socket.has_waiting());
        socket.allow(usize::MAX);
        assert_eq!(socket.write(&buffer).expect("allowed"), buffer.len());
        assert!(!socket.has_waiting() && socket.take_progress() && !socket.take_progress());
    }

    /// Yields these many bytes in each read, and counts the reads.
    struct Bursts(Vec<usize>, usize);

    impl Read for Bursts {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            self.0.pop().ok_or(io::ErrorKind::WouldBlock.into())
        }
    }

    #[test]
    fn an_emptied_socket_is_not_read_until_it_is_readable_again() {
        let mut socket = Metered::new(Bursts(vec![0, 5, 5, 10, 10], 0));
        socket.allow(usize::MAX);
        let mut buffer = [0; 10];
        let mut read = |socket: &mut Metered<Bursts>| socket.read(&mut buffer).ok();
        assert_eq!((read(&mut socket), read(&mut socket), read(&mut socket)), (Some(10), Some(10), Some(5)));
        assert_eq!((read(&mut socket), socket.get_ref().1), (None, 3), "the last read did not fill the buffer");
        socket.handle_readable(true);
        assert_eq!((read(&mut socket), read(&mut socket)), (Some(5), Some(0)), "the end follows without an event");
    }

    #[test]
    fn a_budget_is_given_in_shares() {
        let mut budget = Budget::of_turn();
        let mut shares = 0;
        while !budget.is_spent() {
            budget.spend(budget.share());
            shares += 1;
        }
        assert_eq!((shares, budget.share()), (limits::TURN_WORK.div_ceil(limits::TURN_SHARE), 0));
    }
}
