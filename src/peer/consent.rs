//! The ICE-lite end's part in the consent to send (RFC 7675 §5.1), as an ICE agent has it once the peer is open: it
//! answers checks, and without any for [`TIMEOUT`] the other end is gone.

use std::net::SocketAddr;
use std::time::Duration;

use str0m::ice::StunMessage;

use super::dtls::crypto_provider;

/// As str0m's agent; RFC 7675 §5.1 allows up to 30 seconds.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// A response of a mapped address (RFC 8489 §14.2), an integrity and a fingerprint takes 76 bytes.
const RESPONSE_BYTES: usize = 128;

/// What the checks of the other end contain.
pub(super) struct Consent {
    pub(super) remote_ufrag: String,
    pub(super) password: String,
}

impl Consent {
    /// Returns whether this is a check of the other end (RFC 8445 §7.3).
    pub(super) fn accepts(&self, ufrag: &str, message: &StunMessage<'_>) -> bool {
        message.is_binding_request()
            && message.split_username() == Some((ufrag, self.remote_ufrag.as_str()))
            && message.verify(self.password.as_bytes(), sha1_hmac)
    }

    /// Appends the response to a check from `source`.
    pub(super) fn respond(&self, check: &StunMessage<'_>, source: SocketAddr, out: &mut Vec<u8>) {
        let mut response = [0; RESPONSE_BYTES];
        let reply = StunMessage::binding_reply(check.trans_id(), source);
        if let Ok(length) = reply.to_bytes(Some(self.password.as_bytes()), &mut response, sha1_hmac) {
            out.extend_from_slice(&response[..length]);
        }
    }
}

fn sha1_hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    crypto_provider().sha1_hmac_provider.sha1_hmac(key, payloads)
}
