//! Authentication of players with bearer tokens (JWT, RFC 7519), signed by the service that manages the players.
//!
//! The server is configured with a JWK set (RFC 7517) whose keys all have the same algorithm: HS256 (`"kty": "oct"`),
//! whose keys also sign, or EdDSA (`"kty": "OKP", "crv": "Ed25519"`), of which it needs only the public keys. A token
//! names its key by `kid`, so that a new key can be added before the last token of the old one has expired. Keys for
//! another purpose according to their `kty`, `crv`, `alg`, `use` or `key_ops` are ignored ([`Keys::ignored`]).
//!
//! A token requires the claims `exp`, `aud` (the audience of the server), `sub` (the player's identity, visible to the
//! game and to other players, at most [`limits::SUBJECT_BYTES`]) and `room`: the name of a room, or `*` for all rooms.
//! `nbf` is checked if present. Clocks may differ by [`LEEWAY`]. A token with a `crit` header is rejected (RFC 7515
//! §4.1.11), because no extensions are supported.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, ParsedPublicKey};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::game::Identity;
use crate::limits;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{Fault, RoomName};

/// The accepted difference between the clocks of the signing service and the server.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// The minimum bytes of an HS256 key; shorter keys can be guessed (RFC 7518 §3.2).
const HMAC_KEY_BYTES: usize = 32;

/// The keys of a server, which verify tokens.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<(Option<String>, DecodingKey)>,
    validation: Validation,
    ignored: Vec<String>,
}

/// Shows no key.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|(id, _)| id.as_deref().unwrap_or("-")).collect();
        f.debug_struct("Keys").field("algorithms", &self.validation.algorithms).field("ids", &ids).finish()
    }
}

/// Why keys can't be used, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysError(String);

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for KeysError {}

#[derive(Deserialize)]
#[serde(try_from = "Map<String, Value>")]
struct Claims {
    exp: f64,
    nbf: f64,
    sub: String,
    room: String,
    others: Map<String, Value>,
}

impl TryFrom<Map<String, Value>> for Claims {
    type Error = String;

    fn try_from(mut claims: Map<String, Value>) -> Result<Claims, String> {
        let lacks = |name: &str| format!("The bearer token has no {name}.");
        Ok(Claims {
            exp: take(&mut claims, "exp", "number")?.ok_or_else(|| lacks("exp"))?,
            nbf: take(&mut claims, "nbf", "number")?.unwrap_or_default(),
            sub: take(&mut claims, "sub", "text")?.ok_or_else(|| lacks("sub"))?,
            room: take(&mut claims, "room", "text")?.ok_or_else(|| lacks("room"))?,
            others: claims,
        })
    }
}

/// A key of a JWK set (RFC 7517 §4), as far as it is used.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    x: Option<String>,
    d: Option<String>,
}

impl Jwk {
    /// Returns the algorithm, or why the key is not for tokens of this server.
    fn algorithm(&self) -> Result<Algorithm, String> {
        let (algorithm, names) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => (Algorithm::HS256, &["HS256"][..]),
            // RFC 8037 §3.1 and RFC 9864 §2.2 give the same algorithm two names.
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, &["EdDSA", "Ed25519"][..]),
            (_, crv) => return Err(format!("its crv is {}, not Ed25519", crv.unwrap_or("missing"))),
        };
        if let Some(alg) = self.alg.as_deref().filter(|alg| !names.contains(alg)) {
            return Err(format!("its alg is {alg}, not {}", names[0]));
        }
        if let Some(usage) = self.usage.as_deref().filter(|usage| *usage != "sig") {
            return Err(format!("its use is {usage}, not sig"));
        }
        let is_of_signatures = |operation: &String| matches!(operation.as_str(), "sign" | "verify");
        if self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(is_of_signatures)) {
            return Err("its key_ops have neither sign nor verify".to_owned());
        }
        Ok(algorithm)
    }

    /// Returns the secret, or the public key.
    fn verifying_bytes(&self, algorithm: Algorithm) -> Result<Vec<u8>, String> {
        let name = if algorithm == Algorithm::HS256 { "k" } else { "x" };
        let text = if algorithm == Algorithm::HS256 { &self.k } else { &self.x };
        let text = text.as_ref().ok_or_else(|| format!("has no {name}"))?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("has a {name} that is not base64url"))?;
        if algorithm == Algorithm::HS256 && bytes.len() < HMAC_KEY_BYTES {
            return Err(format!("has fewer than {HMAC_KEY_BYTES} bytes"));
        }
        if algorithm == Algorithm::EdDSA && ParsedPublicKey::new(&ED25519, &bytes).is_err() {
            return Err("has an x that is not an Ed25519 public key".to_owned());
        }
        Ok(bytes)
    }
}

/// A JWK set whose keys have distinct IDs and the same algorithm.
struct KeySet {
    algorithm: Algorithm,
    keys: Vec<(Jwk, Vec<u8>)>,
    ignored: Vec<String>,
}

impl KeySet {
    fn parse(text: &str) -> Result<KeySet, KeysError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Map<String, Value>>,
        }
        // RFC 8259 §8.1 lets parsers ignore a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let set: Set = serde_json::from_str(text).map_err(|why| {
            // The parser's message might contain a key.
            KeysError(format!("The text is not a JWK set (RFC 7517 §5): line {}, column {}.", why.line(), why.column()))
        })?;
        let mut keys: Vec<(Jwk, Vec<u8>)> = Vec::new();
        let mut ignored = Vec::new();
        let mut algorithm = None;
        for members in set.keys {
            let name = members.get("kid").and_then(Value::as_str).unwrap_or("without kid").to_owned();
            let error = |what: &str| KeysError(format!("The key {name} {what}."));
            if let Some(kty) = members.get("kty").and_then(Value::as_str).filter(|kty| !matches!(*kty, "oct" | "OKP")) {
                ignored.push(format!("The key {name} is ignored: its kty is {kty}, neither oct nor OKP."));
                continue;
            }
            let jwk: Jwk = match serde_json::from_value(Value::Object(members)) {
                Ok(jwk) => jwk,
                Err(_) => return Err(error("has no kty, or a member of another type than RFC 7517 §4 requires")),
            };
            let of_key = match jwk.algorithm() {
                Ok(of_key) => of_key,
                Err(why) => {
                    ignored.push(format!("The key {name} is ignored: {why}."));
                    continue;
                }
            };
            if *algorithm.get_or_insert(of_key) != of_key {
                return Err(KeysError(
                    "The keys have different algorithms; use keys of one algorithm only.".to_owned(),
                ));
            }
            let bytes = jwk.verifying_bytes(of_key).map_err(|what| error(&what))?;
            if keys.iter().any(|(other, _)| other.kid == jwk.kid) {
                return Err(KeysError(format!("Two keys have the kid {name}.")));
            }
            keys.push((jwk, bytes));
        }
        let why = || ignored.iter().map(|sentence| format!(" {sentence}")).collect::<String>();
        let algorithm =
            algorithm.ok_or_else(|| KeysError(format!("The set has no key that can verify tokens.{}", why())))?;
        Ok(KeySet { algorithm, keys, ignored })
    }
}

impl Keys {
    /// Parses a JWK set. Tokens must be for `audience`.
    ///
    /// # Errors
    /// The text is not a JWK set, contains no key for tokens, keys with different algorithms, a key that is too short
    /// or invalid, or two keys with the same ID.
    pub fn parse(jwk_set: &str, audience: &str) -> Result<Keys, KeysError> {
        let KeySet { algorithm, keys, ignored } = KeySet::parse(jwk_set)?;
        let decoding = |(jwk, bytes): (Jwk, Vec<u8>)| match algorithm {
            Algorithm::HS256 => (jwk.kid, DecodingKey::from_secret(&bytes)),
            _ => (jwk.kid, DecodingKey::from_ed_der(&bytes)),
        };
        let keys = keys.into_iter().map(decoding).collect();
        let mut validation = Validation::new(algorithm);
        // Checked in `verify`, with the time passed by the server.
        validation.validate_exp = false;
        validation.required_spec_claims = std::iter::once("aud".to_owned()).collect();
        validation.set_audience(&[audience]);
        Ok(Keys { keys, validation, ignored })
    }

    /// Returns a sentence for each key that is not used because of its purpose or an unsupported type (RFC 7517 §5).
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        self.ignored.iter().map(String::as_str)
    }

    /// Verifies a token for `room` at `unix_time` and returns the player's identity.
    pub(crate) fn verify(&self, bearer: Option<&str>, room: &str, unix_time: Duration) -> Result<Identity, Fault> {
        let bearer = bearer.ok_or_else(|| unauthorized("This server requires a bearer token."))?;
        let Claims { exp, nbf, sub, room: good_for, others } = self.claims(bearer)?;
        let (now, leeway) = (unix_time.as_secs_f64(), LEEWAY.as_secs_f64());
        if exp + leeway <= now {
            return Err(Fault::new(ErrorCode::Expired, "The bearer token has expired."));
        }
        if nbf > now + leeway {
            return Err(unauthorized("The bearer token is not valid yet (nbf)."));
        }
        if good_for != "*" && good_for != room {
            return Err(unauthorized("The bearer token is for another room."));
        }
        check_subject(&sub).map_err(|sentence| unauthorized(&sentence))?;
        Ok(Identity { subject: sub, claims: others.into() })
    }

    /// The subject of a token, regardless of its times and its room.
    pub(crate) fn subject(&self, bearer: &str) -> Result<String, Fault> {
        Ok(self.claims(bearer)?.sub)
    }

    /// The claims of a token that one of these keys has signed for this audience.
    fn claims(&self, bearer: &str) -> Result<Claims, Fault> {
        let header =
            jsonwebtoken::decode_header(bearer).map_err(|_| unauthorized("The bearer token can't be decoded."))?;
        if header.crit.is_some() {
            return Err(unauthorized("The bearer token has a crit header, but the server supports no extensions."));
        }
        let key = match &header.kid {
            Some(_) => self.keys.iter().find(|(id, _)| *id == header.kid),
            None => self.keys.first().filter(|_| self.keys.len() == 1),
        };
        let (_, key) =
            key.ok_or_else(|| unauthorized("The bearer token is signed with a key that this server does not have."))?;
        let decoded = jsonwebtoken::decode::<Claims>(bearer, key, &self.validation);
        Ok(decoded.map_err(|error| unauthorized(&sentence(&error)))?.claims)
    }
}

fn unauthorized(sentence: &str) -> Fault {
    Fault::new(ErrorCode::Unauthorized, sentence)
}

/// A key that signs tokens, for development and tests: HS256, or EdDSA if the JWK contains the private key `d` (RFC
/// 8037 §2).
pub struct SigningKey {
    header: Header,
    key: EncodingKey,
    audience: String,
}

impl SigningKey {
    /// Returns the key `id` of a JWK set, or its only key. Its tokens are for `audience`.
    ///
    /// # Errors
    /// As for [`Keys::parse`]; or there is no such key, the set has several keys and no `id` is given, or the key can't
    /// sign.
    pub fn parse(jwk_set: &str, audience: &str, id: Option<&str>) -> Result<SigningKey, KeysError> {
        let error = |sentence: &str| KeysError(sentence.to_owned());
        let KeySet { algorithm, mut keys, .. } = KeySet::parse(jwk_set)?;
        match id {
            Some(id) => keys.retain(|(jwk, _)| jwk.kid.as_deref() == Some(id)),
            None if keys.len() > 1 => return Err(error("The set has several keys: choose one with --kid.")),
            None => {}
        }
        let (jwk, bytes) = keys.pop().ok_or_else(|| error("The set has no key with this kid."))?;
        let key = match algorithm {
            Algorithm::HS256 => Some(EncodingKey::from_secret(&bytes)),
            _ => jwk.d.and_then(|seed| BASE64_URL_SAFE_NO_PAD.decode(seed).ok()).and_then(|seed| {
                let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &bytes).ok()?;
                let document: Pkcs8V1Der<'_> = pair.as_der().ok()?;
                Some(EncodingKey::from_ed_der(document.as_ref()))
            }),
        };
        let key = key.ok_or_else(|| error("The key can't sign tokens: it has no private part."))?;
        let header = Header { kid: jwk.kid, ..Header::new(algorithm) };
        Ok(SigningKey { header, key, audience: audience.to_owned() })
    }

    /// Signs a token of `subject` for `room` (a name, or `*`) that expires at `expires`, a time since 1970.
    ///
    /// # Errors
    /// The subject or the room is invalid.
    pub fn sign(&self, subject: &str, room: &str, expires: Duration) -> Result<String, KeysError> {
        check_subject(subject).map_err(KeysError)?;
        if room != "*" && RoomName::parse(room).is_none() {
            return Err(KeysError("The room is neither a valid room name nor *.".to_owned()));
        }
        let claims = json!({ "aud": self.audience, "sub": subject, "room": room, "exp": expires.as_secs() });
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map_err(|why| KeysError(format!("The token can't be signed: {why}")))
    }
}

/// Returns a JWK set with one HS256 key.
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
    Err(format!("The sub of a token must have 1 to {most} bytes and no control characters."))
}

/// Removes and returns a claim, if it is present; `kind` is its required type.
fn take<T: DeserializeOwned>(claims: &mut Map<String, Value>, name: &str, kind: &str) -> Result<Option<T>, String> {
    let Some(value) = claims.remove(name) else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|_| format!("The {name} of the bearer token is not a {kind}."))
}

fn sentence(error: &Error) -> String {
    let sentence = match error.kind() {
        ErrorKind::InvalidAudience => "The bearer token is for another audience (aud).",
        ErrorKind::InvalidAlgorithm => "The bearer token uses another algorithm than the server's keys.",
        ErrorKind::InvalidSignature => "The signature of the bearer token is not valid.",
        ErrorKind::MissingRequiredClaim(_) => "The bearer token has no aud, or its aud is not a string.",
        // It is of no place in the text, so it is of the claims.
        ErrorKind::Json(why) if why.line() == 0 => return why.to_string(),
        _ => "The bearer token can't be decoded.",
    };
    sentence.to_owned()
}

#[cfg(test)]
mod tests;
