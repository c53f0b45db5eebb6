//! Tickets: a node that sends a client to another one signs whereto, so that the other need not ask the store again.
//!
//! A ticket is `epoch.expiry.nonce.signature`: hexadecimal numbers, the expiry in seconds since 1970, and the signature
//! is HMAC-SHA-256 (RFC 2104) over the room, the socket ID of the session that returns (or nothing), the member and the
//! first three parts. It is worth no more than an answer of the store. One that can't be used is counted, and the room
//! is looked up as without it.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rand::Rng;

use super::Cluster;
use super::store::{Member, Secret};
use crate::limits::{TICKET_LIFETIME, TICKETS_REMEMBERED};
use crate::wire::signaling::RoomName;

/// Why a ticket can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TicketFault {
    /// It is no ticket, or not signed for this room, session and member.
    Forged,
    Expired,
    /// It was used before.
    Replayed,
}

/// What a ticket is for.
#[derive(Clone, Copy)]
pub(crate) struct Passage<'a> {
    pub(crate) room: &'a RoomName,
    /// The socket ID of a session that returns, or nothing.
    pub(crate) session: &'a str,
    pub(crate) owner: &'a Member,
}

/// Signs a ticket of the epoch, which expires [`TICKET_LIFETIME`] after `unix_time`.
pub(crate) fn sign(secret: &Secret, of: Passage<'_>, epoch: u64, unix_time: Duration, nonce: u64) -> String {
    let expiry = (unix_time + TICKET_LIFETIME).as_secs();
    let claims = format!("{epoch:x}.{expiry:x}.{nonce:016x}");
    let tag = hmac::sign(&key(secret), signed(of, &claims).as_bytes());
    format!("{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// No part contains a space, so that no two tickets are signed as the same.
fn signed(of: Passage<'_>, claims: &str) -> String {
    format!("rtcade-ticket {} {} {} {claims}", of.room, of.session.escape_default(), of.owner)
}

/// Vouches for the origin of a page that this node has accepted, so that another node accepts it too for a moment.
pub(crate) fn vouch(secret: &Secret, origin: &str, unix_time: Duration) -> String {
    let expiry = (unix_time + TICKET_LIFETIME).as_secs();
    let tag = hmac::sign(&key(secret), of_origin(origin, expiry).as_bytes());
    format!("{expiry:x}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

pub(crate) fn is_vouched(secret: &Secret, origin: &str, pass: &str, unix_time: Duration) -> bool {
    let Some((expiry, tag)) = pass.split_once('.') else { return false };
    let (Ok(expiry), Ok(tag)) = (u64::from_str_radix(expiry, 16), BASE64_URL_SAFE_NO_PAD.decode(tag)) else {
        return false;
    };
    expiry > unix_time.as_secs() && hmac::verify(&key(secret), of_origin(origin, expiry).as_bytes(), &tag).is_ok()
}

fn of_origin(origin: &str, expiry: u64) -> String {
    format!("rtcade-origin {expiry:x} {origin}")
}

/// Verifies tickets, each once.
#[derive(Debug, Default)]
pub(crate) struct Inspector {
    seen: BTreeSet<u64>,
    /// The expiry of each, in the order in which they came.
    order: VecDeque<(u64, u64)>,
}

impl Inspector {
    /// Returns the epoch of a ticket.
    pub(crate) fn accept(
        &mut self,
        secret: &Secret,
        of: Passage<'_>,
        ticket: &str,
        unix_time: Duration,
    ) -> Result<u64, TicketFault> {
        let (claims, tag) = ticket.rsplit_once('.').ok_or(TicketFault::Forged)?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).map_err(|_| TicketFault::Forged)?;
        hmac::verify(&key(secret), signed(of, claims).as_bytes(), &tag).map_err(|_| TicketFault::Forged)?;
        let mut numbers = claims.split('.').map(|part| u64::from_str_radix(part, 16));
        let mut next = || numbers.next().and_then(Result::ok).ok_or(TicketFault::Forged);
        let (epoch, expiry, nonce) = (next()?, next()?, next()?);
        let unix_time = unix_time.as_secs();
        if expiry <= unix_time || expiry > unix_time.saturating_add(2 * TICKET_LIFETIME.as_secs()) {
            return Err(TicketFault::Expired);
        }
        while let Some(&(oldest, nonce)) = self.order.front()
            && (oldest <= unix_time || self.order.len() >= TICKETS_REMEMBERED)
        {
            self.order.pop_front();
            self.seen.remove(&nonce);
        }
        if !self.seen.insert(nonce) {
            return Err(TicketFault::Replayed);
        }
        self.order.push_back((expiry, nonce));
        Ok(epoch)
    }
}

impl Cluster {
    /// Signs a ticket with which a client comes to another node, see
    /// [`Location::There`](super::Location::There). `session` is the socket ID of
    /// a session that returns, or nothing.
    #[must_use]
    pub fn sign(&mut self, unix_time: Duration, room: &RoomName, session: &str, owner: &Member, epoch: u64) -> String {
        sign(&self.secret, Passage { room, session, owner }, epoch, unix_time, self.rng.next_u64())
    }

    pub(crate) fn vouch(&self, unix_time: Duration, origin: &str) -> String {
        vouch(&self.secret, origin, unix_time)
    }

    pub(crate) fn is_vouched(&self, unix_time: Duration, origin: &str, pass: &str) -> bool {
        self.since.is_some() && is_vouched(&self.secret, origin, pass, unix_time)
    }

    /// Accepts a ticket for a room: it lives here, as if the store had said so.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        unix_time: Duration,
        room: &RoomName,
        session: &str,
        ticket: &str,
    ) -> Result<(), TicketFault> {
        self.note_time(now);
        self.known.forget(room);
        let of = Passage { room, session, owner: &self.member };
        let accepted = match self.since.is_some() {
            true => self.inspector.accept(&self.secret, of, ticket, unix_time),
            false => Err(TicketFault::Forged),
        };
        let epoch = accepted.inspect_err(|fault| self.figures.refused_tickets[*fault as usize] += 1)?;
        self.figures.tickets += 1;
        // Another node may have placed it here: then nothing is known of it yet.
        let is_news = !self.held.contains_key(room) && epoch > self.ticket_floor;
        if is_news && self.lease_until.is_some() && !self.is_displaced {
            self.grant(now, room.clone(), epoch, false);
        }
        Ok(())
    }
}
