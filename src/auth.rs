//! Who may join: bearer tokens (JWT, RFC 7519), signed by whoever knows the players.
//!
//! The server is given keys, a JWK set (RFC 7517) whose keys are all of one algorithm: HS256 (`"kty": "oct"`), whose
//! keys sign as well, or EdDSA (`"kty": "OKP", "crv": "Ed25519"`), of which it needs the public halves alone. A token
//! names its key by `kid`, so that a new key can stand beside the old one until the last token of that has expired.
//!
//! A token has `exp`, `aud` (that of the server), `sub` (the player, as the game gets to know them and others see them,
//! in at most [`limits::SUBJECT_BYTES`]) and `room`: the name of the room that it is good for, or `*`. `nbf` is heeded
//! where it is there. Clocks may differ by [`LEEWAY`].

use std::fmt;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::json;

use crate::game::Identity;
use crate::limits;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{Fault, RoomName};

/// By how much the clock of whoever signs tokens may differ from that of the server.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Bytes of an HS256 key: fewer can be guessed (RFC 7518 §3.2).
const HMAC_KEY_BYTES: usize = 32;

/// The keys of a server.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<(Option<String>, DecodingKey)>,
    validation: Validation,
}

/// Shows no key.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|(id, _)| id.as_deref().unwrap_or("-")).collect();
        f.debug_struct("Keys").field("algorithms", &self.validation.algorithms).field("ids", &ids).finish()
    }
}

/// Why keys can't be used: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysError(String);

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for KeysError {}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default)]
    nbf: f64,
    sub: String,
    room: String,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

impl Keys {
    /// Reads a JWK set; tokens are to be for `audience`.
    ///
    /// # Errors
    /// Where it isn't one, has no key, keys of several algorithms or of another than HS256 and EdDSA, a short one, or
    /// two that can't be told apart.
    pub fn parse(jwk_set: &str, audience: &str) -> Result<Keys, KeysError> {
        let error = |sentence: String| KeysError(sentence);
        let set: JwkSet = serde_json::from_str(jwk_set).map_err(|why| {
            // Its words might hold a key.
            error(format!("This is no JWK set (RFC 7517 §5): line {}, column {}.", why.line(), why.column()))
        })?;
        let mut keys: Vec<(Option<String>, DecodingKey)> = Vec::new();
        let mut algorithm = None;
        for jwk in &set.keys {
            let id = jwk.common.key_id.clone();
            let name = id.as_deref().unwrap_or("without kid").to_owned();
            let of_key = match &jwk.algorithm {
                AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
                AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
                _ => return Err(error(format!("The key {name} is neither of HS256 nor of EdDSA."))),
            };
            if *algorithm.get_or_insert(of_key) != of_key {
                return Err(error("The keys are of several algorithms; one only is safe.".to_owned()));
            }
            let key =
                DecodingKey::from_jwk(jwk).map_err(|why| error(format!("The key {name} can't be read: {why}")))?;
            let is_short = key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() < HMAC_KEY_BYTES);
            if is_short {
                return Err(error(format!("The key {name} has less than {HMAC_KEY_BYTES} bytes.")));
            }
            if keys.iter().any(|(other, _)| *other == id) {
                return Err(error(format!("Two keys are {name}.")));
            }
            keys.push((id, key));
        }
        let algorithm = algorithm.ok_or_else(|| error("There is no key in the set.".to_owned()))?;
        let mut validation = Validation::new(algorithm);
        // Both are checked here, by the time that the server is told.
        validation.validate_exp = false;
        validation.required_spec_claims = ["aud", "sub"].map(str::to_owned).into_iter().collect();
        validation.set_audience(&[audience]);
        Ok(Keys { keys, validation })
    }

    /// Who bears this token, if it is good for `room` at `unix_time`.
    pub(crate) fn verify(&self, bearer: Option<&str>, room: &str, unix_time: Duration) -> Result<Identity, Fault> {
        let refuse = |sentence: &str| Fault::new(ErrorCode::Unauthorized, sentence);
        let bearer = bearer.ok_or_else(|| refuse("This server lets nobody in without a bearer token."))?;
        let header = jsonwebtoken::decode_header(bearer).map_err(|_| refuse("The bearer token can't be read."))?;
        let key = match &header.kid {
            Some(_) => self.keys.iter().find(|(id, _)| *id == header.kid),
            None => self.keys.first().filter(|_| self.keys.len() == 1),
        };
        let (_, key) = key.ok_or_else(|| refuse("The bearer token is of a key that this server doesn't have."))?;
        let claims = jsonwebtoken::decode::<Claims>(bearer, key, &self.validation);
        let Claims { exp, nbf, sub, room: good_for, others } = claims.map_err(|error| refuse(sentence(&error)))?.claims;
        let (now, leeway) = (unix_time.as_secs_f64(), LEEWAY.as_secs_f64());
        if exp + leeway <= now {
            return Err(Fault::new(ErrorCode::Expired, "The bearer token has expired."));
        }
        if nbf > now + leeway {
            return Err(refuse("The bearer token is not good yet."));
        }
        if good_for != "*" && good_for != room {
            return Err(refuse("The bearer token is for another room."));
        }
        check_subject(&sub).map_err(|sentence| refuse(&sentence))?;
        Ok(Identity { subject: sub, claims: others.into() })
    }
}

/// A key that signs tokens, for development and tests: HS256, or EdDSA where the JWK has its private half `d`
/// (RFC 8037 §2).
pub struct SigningKey {
    header: Header,
    key: EncodingKey,
    audience: String,
}

impl SigningKey {
    /// The key named `id` of a JWK set, or its only one; its tokens are for `audience`.
    ///
    /// # Errors
    /// Where [`Keys::parse`] has one, there is no such key, it is not clear which, or the key can't sign.
    pub fn parse(jwk_set: &str, audience: &str, id: Option<&str>) -> Result<SigningKey, KeysError> {
        #[derive(Deserialize)]
        struct Jwk {
            kid: Option<String>,
            k: Option<String>,
            x: Option<String>,
            d: Option<String>,
        }
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Jwk>,
        }
        let error = |sentence: &str| KeysError(sentence.to_owned());
        let algorithm = Keys::parse(jwk_set, audience)?.validation.algorithms[0];
        let Set { mut keys } = serde_json::from_str(jwk_set).map_err(|_| error("A part of a key is no text."))?;
        match id {
            Some(id) => keys.retain(|jwk| jwk.kid.as_deref() == Some(id)),
            None if keys.len() > 1 => return Err(error("The set has several keys: say which is to sign.")),
            None => {}
        }
        let jwk = keys.pop().ok_or_else(|| error("The set has no key of that name."))?;
        let read = |text: Option<String>| text.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
        let key = match algorithm {
            Algorithm::HS256 => read(jwk.k).map(|secret| EncodingKey::from_secret(&secret)),
            _ => read(jwk.d).zip(read(jwk.x)).and_then(|(seed, public)| {
                let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).ok()?;
                let document: Pkcs8V1Der<'_> = pair.as_der().ok()?;
                Some(EncodingKey::from_ed_der(document.as_ref()))
            }),
        };
        let key = key.ok_or_else(|| error("The key can't sign: it has no private half."))?;
        let header = Header { kid: jwk.kid, ..Header::new(algorithm) };
        Ok(SigningKey { header, key, audience: audience.to_owned() })
    }

    /// A token of `subject` for `room` (a name, or `*`) that is good until `expires`, a time since 1970.
    ///
    /// # Errors
    /// Where no server would take the subject or the room.
    pub fn sign(&self, subject: &str, room: &str, expires: Duration) -> Result<String, KeysError> {
        check_subject(subject).map_err(KeysError)?;
        if room != "*" && RoomName::parse(room).is_none() {
            return Err(KeysError("The room is neither the name of one nor *.".to_owned()));
        }
        let claims = json!({ "aud": self.audience, "sub": subject, "room": room, "exp": expires.as_secs() });
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|why| KeysError(format!("It can't sign: {why}")))
    }
}

/// A JWK set of one HS256 key.
#[must_use]
pub fn new_key_set(id: &str, secret: &[u8; HMAC_KEY_BYTES]) -> String {
    json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": id, "k": BASE64_URL_SAFE_NO_PAD.encode(secret) }] })
        .to_string()
}

fn check_subject(subject: &str) -> Result<(), String> {
    let most = limits::SUBJECT_BYTES;
    if (1..=most).contains(&subject.len()) && !subject.contains(char::is_control) {
        return Ok(());
    }
    Err(format!("The sub of a token has 1 to {most} bytes without control characters."))
}

fn sentence(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidAudience => "The bearer token is for another server.",
        ErrorKind::InvalidAlgorithm => "The bearer token is of another algorithm.",
        ErrorKind::InvalidSignature => "The bearer token is not signed by who may.",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
            "The bearer token lacks one of exp, aud, sub and room, or has it of another type."
        }
        _ => "The bearer token can't be read.",
    }
}

#[cfg(test)]
mod tests;
