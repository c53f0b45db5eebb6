//! Values between a script and the wire: msgpack both ways, JSON into the script.

use std::fmt;

use rmpv::Value as Plain;
use rquickjs::atom::PredefinedAtom;
use rquickjs::function::This;
use rquickjs::object::{Filter, Property};
use rquickjs::{Array, Ctx, Error, Exception, Function, IntoJs, Object, String as JsString, Type, TypedArray, Value};

use crate::limits;

/// Why a script's value can't be encoded: the place in it, and the reason.
#[derive(Debug)]
pub(super) struct Unencodable {
    place: String,
    why: String,
}

impl Unencodable {
    fn new(why: impl Into<String>) -> Unencodable {
        Unencodable { place: String::new(), why: why.into() }
    }

    fn within(mut self, part: &str) -> Unencodable {
        self.place.insert_str(0, part);
        self
    }
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value{} {}", self.place, self.why)
    }
}

/// What ends the encoding of a value.
pub(super) enum Stop {
    Unencodable(Unencodable),
    /// A getter or a proxy of the script has thrown.
    Thrown(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Thrown(error)
    }
}

/// Appends a value as msgpack. What has more than `max_bytes` or more than `max_depth` levels is refused before more of
/// it is read, so that cycles and sparse arrays end too.
pub(super) fn encode(value: &Value<'_>, max_bytes: usize, max_depth: usize) -> Result<Vec<u8>, Stop> {
    let mut encoder = Encoder { bytes: Vec::with_capacity(256), max_bytes, max_depth };
    encoder.value(value, 0)?;
    encoder.is_within_limit()?;
    Ok(encoder.bytes)
}

struct Encoder {
    bytes: Vec<u8>,
    max_bytes: usize,
    max_depth: usize,
}

impl Encoder {
    fn value(&mut self, value: &Value<'_>, depth: usize) -> Result<(), Stop> {
        self.is_within_limit()?;
        let refuse = |why: &str| Err(Stop::Unencodable(Unencodable::new(why)));
        match value.type_of() {
            Type::Undefined | Type::Null | Type::Uninitialized => self.write(rmp::encode::write_nil),
            Type::Bool => {
                let is_true = value.as_bool().unwrap_or_default();
                self.write(|bytes| rmp::encode::write_bool(bytes, is_true));
            }
            Type::Int => {
                let _ = rmp::encode::write_sint(&mut self.bytes, value.as_int().unwrap_or_default().into());
            }
            Type::Float => self.number(value.as_number().unwrap_or_default()),
            Type::String => self.string(&text(value.as_string())),
            Type::Array | Type::Object | Type::Exception | Type::Proxy => {
                if depth == self.max_depth {
                    return refuse(&format!("is nested deeper than {depth} levels, or refers to itself"));
                }
                self.container(value, depth)?;
            }
            Type::Function | Type::Constructor => return refuse("is a function"),
            Type::BigInt => return refuse("is a BigInt: use a number"),
            Type::Symbol => return refuse("is a symbol"),
            Type::Promise => return refuse("is a promise"),
            Type::Module | Type::Unknown => return refuse("is no plain value"),
        }
        Ok(())
    }

    fn is_within_limit(&self) -> Result<(), Stop> {
        if self.bytes.len() > self.max_bytes { Err(self.too_long()) } else { Ok(()) }
    }

    fn too_long(&self) -> Stop {
        Stop::Unencodable(Unencodable::new(format!("has more than {} bytes", self.max_bytes)))
    }

    fn write<E: fmt::Debug>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) {
        write(&mut self.bytes).expect("a vector takes any bytes");
    }

    /// Integers as such, others in four bytes where those hold the same number.
    #[expect(clippy::cast_possible_truncation, reason = "it is tested whether they are the same number")]
    fn number(&mut self, number: f64) {
        let is_integer = number.fract() == 0.0 && number.abs() <= limits::JS_INTEGER_MAX as f64;
        if is_integer && !(number == 0.0 && number.is_sign_negative()) {
            let _ = rmp::encode::write_sint(&mut self.bytes, number as i64);
        } else if number.is_nan() {
            self.write(|bytes| rmp::encode::write_f32(bytes, f32::NAN));
        } else if f64::from(number as f32) == number {
            self.write(|bytes| rmp::encode::write_f32(bytes, number as f32));
        } else {
            self.write(|bytes| rmp::encode::write_f64(bytes, number));
        }
    }

    fn string(&mut self, text: &str) {
        self.write(|bytes| rmp::encode::write_str(bytes, text));
    }

    fn container(&mut self, value: &Value<'_>, depth: usize) -> Result<(), Stop> {
        if let Some(array) = value.as_array() {
            // The length in the array's own terms: up to 2³² - 1.
            return self.array(array.as_object().get(PredefinedAtom::Length)?, depth, |at| array.get(at as usize));
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        if object.is_typed_array::<u8>() {
            return self.binary(object);
        }
        let is_of_numbers = object.is_typed_array::<f32>()
            || object.is_typed_array::<f64>()
            || object.is_typed_array::<i8>()
            || object.is_typed_array::<i16>()
            || object.is_typed_array::<u16>()
            || object.is_typed_array::<i32>()
            || object.is_typed_array::<u32>();
        if is_of_numbers {
            return self.array(object.get(PredefinedAtom::Length)?, depth, |at| object.get(at));
        }
        if object.is_array_buffer() {
            return Err(Stop::Unencodable(Unencodable::new("is an ArrayBuffer: use a Uint8Array")));
        }
        self.object(object, depth)
    }

    fn binary(&mut self, bytes: &Object<'_>) -> Result<(), Stop> {
        let length: f64 = bytes.get(PredefinedAtom::Length)?;
        if length > self.max_bytes as f64 {
            return Err(self.too_long());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is below the limit")]
        let length = length as u32;
        let _ = rmp::encode::write_bin_len(&mut self.bytes, length);
        for at in 0..length {
            self.bytes.push(bytes.get(at)?);
        }
        Ok(())
    }

    fn array<'js>(
        &mut self,
        length: f64,
        depth: usize,
        mut get: impl FnMut(u32) -> rquickjs::Result<Value<'js>>,
    ) -> Result<(), Stop> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an array has less than 2³² elements"
        )]
        let length = length as u32;
        let _ = rmp::encode::write_array_len(&mut self.bytes, length);
        for at in 0..length {
            self.value(&get(at)?, depth + 1).map_err(|stop| stop.within(|| format!("[{at}]")))?;
        }
        Ok(())
    }

    fn object(&mut self, object: &Object<'_>, depth: usize) -> Result<(), Stop> {
        let properties = object.own_props::<rquickjs::Atom<'_>, Value<'_>>(Filter::new().string().enum_only());
        let most = properties.len();
        if most == 0 {
            self.is_no_collection(object)?;
        }
        let head = self.bytes.len();
        let _ = rmp::encode::write_map_len(&mut self.bytes, u32::try_from(most).unwrap_or(u32::MAX));
        let mut count = 0;
        for property in properties {
            let (key, value) = property?;
            if value.is_undefined() {
                continue;
            }
            count += 1;
            // `Atom::to_string` ends at a NUL, and takes halves of surrogate pairs for UTF-8.
            let key = text(Some(&key.to_js_string()?));
            self.string(&key);
            self.value(&value, depth + 1).map_err(|stop| stop.within(|| format!(".{key}")))?;
        }
        if count < most {
            // A shorter count has a shorter head.
            let mut shorter = Vec::with_capacity(5);
            let _ = rmp::encode::write_map_len(&mut shorter, u32::try_from(count).unwrap_or(u32::MAX));
            let mut longer = Vec::with_capacity(5);
            let _ = rmp::encode::write_map_len(&mut longer, u32::try_from(most).unwrap_or(u32::MAX));
            self.bytes.splice(head..head + longer.len(), shorter);
        }
        Ok(())
    }

    /// Maps and sets look like objects without properties.
    fn is_no_collection(&self, object: &Object<'_>) -> Result<(), Stop> {
        let constructor: Value<'_> = object.get(PredefinedAtom::Constructor)?;
        let name = match constructor.as_object() {
            Some(constructor) => constructor.get::<_, Value<'_>>(PredefinedAtom::Name)?,
            None => return Ok(()),
        };
        match text(name.as_string()).as_str() {
            name @ ("Map" | "Set" | "WeakMap" | "WeakSet" | "RegExp") => {
                let why = format!("is a {name}: use a plain object or an array");
                Err(Stop::Unencodable(Unencodable::new(why)))
            }
            _ => Ok(()),
        }
    }
}

impl Stop {
    /// Throws it in the script.
    pub(super) fn throw(self, ctx: &Ctx<'_>) -> Error {
        match self {
            Stop::Unencodable(why) => Exception::throw_type(ctx, &why.to_string()),
            Stop::Thrown(error) => error,
        }
    }

    fn within(self, part: impl FnOnce() -> String) -> Stop {
        match self {
            Stop::Unencodable(unencodable) => Stop::Unencodable(unencodable.within(&part())),
            thrown @ Stop::Thrown(_) => thrown,
        }
    }
}

/// The text of a string. Halves of surrogate pairs become U+FFFD.
pub(super) fn text(string: Option<&JsString<'_>>) -> String {
    let Some(string) = string else { return String::new() };
    string.to_string().ok().or_else(|| well_formed(string)).unwrap_or_else(|| char::REPLACEMENT_CHARACTER.to_string())
}

fn well_formed(string: &JsString<'_>) -> Option<String> {
    let ctx = string.ctx();
    let repaired = (|| {
        let prototype: Object<'_> = ctx.globals().get::<_, Object<'_>>("String")?.get(PredefinedAtom::Prototype)?;
        let repair: Function<'_> = prototype.get("toWellFormed")?;
        repair.call::<_, JsString<'_>>((This(string.clone()),))?.to_string()
    })();
    if repaired.is_err() {
        // The script has replaced it.
        drop(ctx.catch());
    }
    repaired.ok()
}

/// Makes a decoded message a value of the script. Keys of maps are own properties, whatever their name.
pub(super) fn from_plain<'js>(ctx: &Ctx<'js>, plain: &Plain) -> rquickjs::Result<Value<'js>> {
    match plain {
        Plain::Nil | Plain::Ext(..) => Ok(Value::new_null(ctx.clone())),
        Plain::Boolean(value) => Ok(Value::new_bool(ctx.clone(), *value)),
        Plain::Integer(integer) => number(ctx, integer.as_f64().unwrap_or_default()),
        Plain::F32(value) => number(ctx, f64::from(*value)),
        Plain::F64(value) => number(ctx, *value),
        Plain::String(string) => string.as_str().unwrap_or_default().into_js(ctx),
        Plain::Binary(bytes) => TypedArray::<u8>::new_copy(ctx.clone(), bytes).map(TypedArray::into_value),
        Plain::Array(items) => {
            let array = Array::new(ctx.clone())?;
            for (at, item) in items.iter().enumerate() {
                array.set(at, from_plain(ctx, item)?)?;
            }
            Ok(array.into_value())
        }
        Plain::Map(entries) => {
            let object = Object::new(ctx.clone())?;
            for (key, value) in entries {
                let value = from_plain(ctx, value)?;
                match key.as_str() {
                    Some(key) => set(&object, key, value)?,
                    None => set(&object, &key.to_string(), value)?,
                }
            }
            Ok(object.into_value())
        }
    }
}

/// Makes JSON a value of the script.
pub(super) fn from_json<'js>(ctx: &Ctx<'js>, json: &serde_json::Value) -> rquickjs::Result<Value<'js>> {
    match json {
        serde_json::Value::Null => Ok(Value::new_null(ctx.clone())),
        serde_json::Value::Bool(value) => Ok(Value::new_bool(ctx.clone(), *value)),
        serde_json::Value::Number(value) => number(ctx, value.as_f64().unwrap_or_default()),
        serde_json::Value::String(string) => string.as_str().into_js(ctx),
        serde_json::Value::Array(items) => {
            let array = Array::new(ctx.clone())?;
            for (at, item) in items.iter().enumerate() {
                array.set(at, from_json(ctx, item)?)?;
            }
            Ok(array.into_value())
        }
        serde_json::Value::Object(entries) => {
            let object = Object::new(ctx.clone())?;
            for (key, value) in entries {
                set(&object, key, from_json(ctx, value)?)?;
            }
            Ok(object.into_value())
        }
    }
}

fn set<'js>(object: &Object<'js>, key: &str, value: Value<'js>) -> rquickjs::Result<()> {
    // An assignment to `__proto__` would change what the object inherits.
    if key == "__proto__" {
        object.prop(key, Property::from(value).writable().enumerable().configurable())
    } else {
        object.set(key, value)
    }
}

/// As the engine has it: integers of 32 bits for themselves.
#[expect(clippy::cast_possible_truncation, reason = "it is tested whether they are the same number")]
fn number<'js>(ctx: &Ctx<'js>, number: f64) -> rquickjs::Result<Value<'js>> {
    let integer = number as i32;
    let is_same = f64::from(integer).to_bits() == number.to_bits();
    Ok(if is_same { Value::new_int(ctx.clone(), integer) } else { Value::new_float(ctx.clone(), number) })
}
