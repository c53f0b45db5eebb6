use super::*;
use aws_lc_rs::signature::KeyPair;

/// 2026-11-21.
const NOW: u64 = 1_795_219_200;
const ROOM: &str = "lobby";

fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn secret(id: &str, byte: u8) -> Value {
    json!({ "kty": "oct", "kid": id, "k": base64(&[byte; 32]) })
}

fn keys(set: &[Value]) -> Result<Keys, KeysError> {
    Keys::parse(&json!({ "keys": set }).to_string(), "game.example")
}

fn claims() -> Value {
    json!({ "exp": NOW + 60, "aud": "game.example", "sub": "ada", "room": ROOM, "level": 7 })
}

fn signed(id: Option<&str>, byte: u8, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = id.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&[byte; 32])).unwrap()
}

fn verify(keys: &Keys, bearer: &str) -> Result<Identity, ErrorCode> {
    keys.verify(Some(bearer), ROOM, Duration::from_secs(NOW)).map_err(|fault| {
        assert!(bearer.len() < 8 || !fault.message.contains(bearer), "{fault:?}");
        fault.code
    })
}

#[test]
fn a_token_says_who_its_bearer_is_where_everything_in_it_is_right() {
    use ErrorCode::{Expired, Unauthorized};
    let keys = keys(&[secret("a", 1), secret("b", 2)]).unwrap();
    let ada = Ok(Identity { subject: "ada".to_owned(), claims: json!({ "aud": "game.example", "level": 7 }) });
    assert_eq!(verify(&keys, &signed(Some("a"), 1, &claims())), ada);
    assert_eq!(verify(&keys, &signed(Some("b"), 2, &claims())), ada, "the next key");

    let check = |claim: &str, value: Value, expected: Result<(), ErrorCode>| {
        let mut claims = claims();
        claims[claim] = value;
        if claims[claim].is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        }
        let verified = verify(&keys, &signed(Some("a"), 1, &claims));
        assert_eq!(verified.map(drop), expected, "{claims}");
    };
    let leeway = LEEWAY.as_secs();
    check("exp", json!(NOW - leeway + 1), Ok(()));
    check("exp", json!(NOW - leeway), Err(Expired));
    check("exp", json!(NOW as f64 + 0.5), Ok(()));
    check("exp", json!(0), Err(Expired));
    check("exp", json!(-1e300), Err(Expired));
    check("exp", json!("tomorrow"), Err(Unauthorized));
    check("exp", Value::Null, Err(Unauthorized));
    check("nbf", json!(NOW + leeway), Ok(()));
    check("nbf", json!(NOW + leeway + 1), Err(Unauthorized));
    check("aud", json!(["elsewhere", "game.example"]), Ok(()));
    check("aud", json!("elsewhere"), Err(Unauthorized));
    check("aud", json!([]), Err(Unauthorized));
    check("aud", Value::Null, Err(Unauthorized));
    check("nbf", json!("tomorrow"), Err(Unauthorized));
    check("sub", json!(7), Err(Unauthorized));
    check("sub", Value::Null, Err(Unauthorized));
    check("sub", json!("a".repeat(limits::SUBJECT_BYTES)), Ok(()));
    check("sub", json!("a".repeat(limits::SUBJECT_BYTES + 1)), Err(Unauthorized));
    check("sub", json!(""), Err(Unauthorized));
    check("sub", json!("ada\nbob"), Err(Unauthorized));
    check("sub", json!("ada\u{85}bob"), Err(Unauthorized));
    check("room", json!("*"), Ok(()));
    check("room", json!("lobby2"), Err(Unauthorized));
    check("room", json!(["lobby"]), Err(Unauthorized));
    check("room", Value::Null, Err(Unauthorized));
}

#[test]
fn a_token_of_somebody_else_is_refused() {
    let keys = keys(&[secret("a", 1), secret("b", 2)]).unwrap();
    let good = signed(Some("a"), 1, &claims());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let none = jsonwebtoken::encode(&Header::new(Algorithm::HS384), &claims(), &EncodingKey::from_secret(&[1; 32]));
    for bearer in [
        signed(Some("a"), 2, &claims()),
        signed(Some("c"), 1, &claims()),
        signed(None, 1, &claims()),
        none.unwrap(),
        // {"alg":"none"}, with and without a signature.
        format!("eyJhbGciOiJub25lIn0.{payload}."),
        format!("eyJhbGciOiJub25lIiwia2lkIjoiYSJ9.{payload}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}."),
        format!("{payload}.{header}.{signature}"),
        good.replace(payload, &payload.replacen('e', "f", 1)),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "\u{0}.é.\n".to_owned(),
        "a".repeat(16 * 1024),
    ] {
        assert_eq!(verify(&keys, &bearer), Err(ErrorCode::Unauthorized), "{bearer}");
    }
    let none = keys.verify(None, ROOM, Duration::from_secs(NOW)).unwrap_err();
    assert_eq!(none.code, ErrorCode::Unauthorized);
}

#[test]
fn one_key_needs_no_name_and_public_keys_do() {
    let one = keys(&[json!({ "kty": "oct", "k": base64(&[1; 32]) })]).unwrap();
    assert!(verify(&one, &signed(None, 1, &claims())).is_ok());

    let pair = Ed25519KeyPair::generate().unwrap();
    let document: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64(pair.public_key().as_ref()) });
    let eddsa = keys(std::slice::from_ref(&public)).unwrap();
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("e".to_owned());
    let bearer = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_ed_der(document.as_ref())).unwrap();
    assert!(verify(&eddsa, &bearer).is_ok());
    // The public key is known to all: it must not do as a secret.
    let forged = jsonwebtoken::encode(
        &Header { kid: Some("e".to_owned()), ..Header::new(Algorithm::HS256) },
        &claims(),
        &EncodingKey::from_secret(pair.public_key().as_ref()),
    );
    assert_eq!(verify(&eddsa, &forged.unwrap()), Err(ErrorCode::Unauthorized));
    assert!(format!("{eddsa:?}").contains("EdDSA") && !format!("{eddsa:?}").contains(public["x"].as_str().unwrap()));
}

#[test]
fn keys_that_are_not_safe_are_refused_with_a_sentence() {
    fn check(set: &[Value], expected: &str) {
        let error = keys(set).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    check(&[], "no key");
    check(&[json!({ "kty": "oct", "kid": "short", "k": base64(&[1; 31]) })], "The key short has fewer than 32 bytes");
    check(&[secret("a", 1), secret("a", 2)], "Two keys have the kid a");
    let public = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64(&[7; 32]) });
    check(&[secret("a", 1), public], "different algorithms");
    check(&[json!({ "kty": "oct", "kid": "a", "k": "!" })], "The key a has a k that is not base64url");
    check(&[json!({ "kty": "oct", "kid": "a" })], "The key a has no k");
    check(&[json!({ "kty": "oct", "kid": "a", "k": 7 })], "The key a has no kty, or a member of another type");
    check(&[json!({ "kid": "a" })], "The key a has no kty");
    let ed25519 = |x: &[u8]| json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64(x) });
    for x in [&[][..], &[7; 31], &[7; 33]] {
        check(&[ed25519(x)], "The key e has an x that is not an Ed25519 public key");
    }
    let error = Keys::parse("{", "game.example").unwrap_err().to_string();
    assert!(error.starts_with("The text is not a JWK set"), "{error}");
}

#[test]
fn a_token_with_a_critical_header_is_refused() {
    let keys = keys(&[secret("a", 1)]).unwrap();
    for crit in [&[][..], &["exp"], &["b64"], &["no-such-extension"]] {
        let mut header = Header::new(Algorithm::HS256);
        header.crit = Some(crit.iter().map(ToString::to_string).collect());
        let bearer = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&[1; 32])).unwrap();
        let fault = keys.verify(Some(&bearer), ROOM, Duration::from_secs(NOW)).unwrap_err();
        assert!(fault.code == ErrorCode::Unauthorized && fault.message.contains("crit"), "{crit:?}: {fault:?}");
    }
}

#[test]
fn each_claim_that_is_missing_or_of_another_type_is_named() {
    let keys = keys(&[secret("a", 1)]).unwrap();
    let others: &[&str] = &["exp", "nbf", "aud", "sub", "room"];
    for name in others {
        for value in [json!([7]), json!({}), json!(true), json!(null)] {
            let mut claims = claims();
            claims[name] = value;
            let fault = keys.verify(Some(&signed(Some("a"), 1, &claims)), ROOM, Duration::from_secs(NOW)).unwrap_err();
            let words: Vec<&str> = fault.message.split(|c: char| !c.is_alphanumeric()).collect();
            let named: Vec<_> = others.iter().filter(|other| words.contains(other)).collect();
            assert_eq!(named, [name], "{claims}: {}", fault.message);
        }
    }
}

#[test]
fn keys_for_something_else_are_ignored_and_said_to_be() {
    let good = secret("good", 1);
    let with = |member: &str, value: Value| {
        let mut key = secret("other", 2);
        key[member] = value;
        key
    };
    let x = base64(&[7; 32]);
    for (other, why) in [
        (json!({ "kty": "RSA", "kid": "other", "n": "AQAB", "e": "AQAB" }), "its kty is RSA, neither oct nor OKP"),
        (json!({ "kty": "EC", "kid": "other", "crv": "P-256", "x": x, "y": x }), "its kty is EC, neither oct nor OKP"),
        (json!({ "kty": "ML-DSA", "kid": "other", "pub": x, "x": [7] }), "its kty is ML-DSA, neither oct nor OKP"),
        (json!({ "kty": "OKP", "kid": "other", "crv": "X25519", "x": x }), "its crv is X25519, not Ed25519"),
        (
            json!({ "kty": "OKP", "kid": "other", "crv": "Ed25519", "alg": "ES256", "x": x }),
            "its alg is ES256, not EdDSA",
        ),
        (with("alg", json!("HS512")), "its alg is HS512, not HS256"),
        (with("use", json!("enc")), "its use is enc, not sig"),
        (with("key_ops", json!(["encrypt", "wrapKey"])), "its key_ops have neither sign nor verify"),
    ] {
        for set in [[good.clone(), other.clone()], [other.clone(), good.clone()]] {
            let both = keys(&set).unwrap();
            assert_eq!(both.ignored().collect::<Vec<_>>(), [format!("The key other is ignored: {why}.")]);
            assert!(verify(&both, &signed(Some("good"), 1, &claims())).is_ok());
            assert_eq!(verify(&both, &signed(Some("other"), 2, &claims())), Err(ErrorCode::Unauthorized), "{other}");
        }
        let error = keys(std::slice::from_ref(&other)).unwrap_err().to_string();
        assert!(error.starts_with("The set has no key that can verify tokens.") && error.contains(why), "{error}");
        let set = json!({ "keys": [good, other] }).to_string();
        assert!(SigningKey::parse(&set, "game.example", Some("other")).is_err(), "nor does it sign");
    }
    for right in [("alg", json!("HS256")), ("use", json!("sig")), ("key_ops", json!(["sign"]))] {
        let keys = keys(&[with(right.0, right.1)]).unwrap();
        assert_eq!(keys.ignored().count(), 0);
        assert!(verify(&keys, &signed(Some("other"), 2, &claims())).is_ok());
    }
}

#[test]
fn a_set_may_begin_with_a_byte_order_mark() {
    let set = format!("\u{feff}{}", json!({ "keys": [secret("a", 1)] }));
    assert!(verify(&Keys::parse(&set, "game.example").unwrap(), &signed(Some("a"), 1, &claims())).is_ok());
    assert!(SigningKey::parse(&set, "game.example", None).is_ok());
}

#[test]
fn a_key_of_the_set_signs_tokens_that_the_set_verifies() {
    let seed = [9; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let private =
        |public: &[u8]| json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64(public), "d": base64(&seed) });
    let eddsa = private(pair.public_key().as_ref());
    let fresh: Value = serde_json::from_str(&new_key_set("fresh", &[3; 32])).unwrap();
    let fresh = fresh["keys"][0].clone();
    let signer =
        |set: &[Value], id: Option<&str>| SigningKey::parse(&json!({ "keys": set }).to_string(), "game.example", id);
    let expires = Duration::from_secs(NOW + 60);
    for (set, id) in [
        (vec![secret("a", 1), secret("b", 2)], Some("b")),
        (vec![secret("a", 1)], None),
        (vec![fresh], None),
        (vec![eddsa.clone()], None),
    ] {
        let bearer = signer(&set, id).unwrap().sign("ada", ROOM, expires).unwrap();
        assert_eq!(verify(&keys(&set).unwrap(), &bearer).unwrap().subject, "ada", "{set:?}");
    }

    let refused = |set: &[Value], id: Option<&str>, expected: &str| {
        let error = signer(set, id).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&[secret("a", 1), secret("b", 2)], None, "several keys");
    refused(&[secret("a", 1)], Some("b"), "no key with this kid");
    refused(&[private(&[7; 32])], None, "can't sign");
    let mut public = eddsa;
    public["d"].take();
    refused(&[public], None, "can't sign");
    let signer = signer(&[secret("a", 1)], None).unwrap();
    assert!(signer.sign(&"a".repeat(limits::SUBJECT_BYTES + 1), ROOM, expires).is_err());
    assert!(signer.sign("ada", "no/room", expires).is_err());
}
