//! The forms in which clients send an SDP.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::Fault;
use crate::wire::codes::ErrorCode;

/// An offer, and the form in which it came.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    sdp: String,
    form: Form,
    is_offer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The SDP itself.
    Bare,
    /// An object `{"type", "sdp"}`: an `RTCSessionDescription` as `JSON.stringify` writes it.
    Object,
    /// Such an object as JSON text.
    Text,
}

impl From<String> for Description {
    fn from(sdp: String) -> Description {
        Description { sdp, form: Form::Bare, is_offer: true }
    }
}

impl Description {
    /// `None` unless `value` is a string or an object with a string `sdp`.
    pub(crate) fn of(value: &Value) -> Option<Description> {
        match value {
            Value::String(text) => Some(Description::of_text(text)),
            value => Description::of_object(value, Form::Object),
        }
    }

    /// JSON text of anything else than a description is an SDP that can't be answered.
    fn of_text(text: &str) -> Description {
        let object = text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
        object.and_then(|object| Description::of_object(&object, Form::Text)).unwrap_or_else(|| Description {
            sdp: text.to_owned(),
            form: Form::Bare,
            is_offer: true,
        })
    }

    fn of_object(value: &Value, form: Form) -> Option<Description> {
        let sdp = value.get("sdp")?.as_str()?.to_owned();
        let is_offer = value.get("type").is_none_or(|kind| kind == "offer");
        Some(Description { sdp, form, is_offer })
    }

    /// Returns the SDP, unless it is of another type.
    pub(crate) fn offer(&self) -> Result<&str, Fault> {
        let fault = || Fault::new(ErrorCode::BadSdp, "The server answers offers only: send one with the type offer.");
        if self.is_offer { Ok(&self.sdp) } else { Err(fault()) }
    }

    /// Returns the answer in the form of the offer.
    pub(crate) fn answer(&self, sdp: String) -> Value {
        match self.form {
            Form::Bare => sdp.into(),
            Form::Object => json!({ "type": "answer", "sdp": sdp }),
            Form::Text => json!({ "type": "answer", "sdp": sdp }).to_string().into(),
        }
    }
}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Description, D::Error> {
        Description::of(&Value::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("not a description"))
    }
}
