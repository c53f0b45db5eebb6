//! `Math` with the same results on every machine.
//!
//! The functions of a C library differ between its versions and between processors, in their last bits. Addition,
//! multiplication, `sqrt` and whatever else IEEE 754 defines exactly are left to the engine.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::{Ctx, Function, Object};

use super::desk::Desk;

type Of = fn(f64) -> f64;

const FUNCTIONS: [(&str, Of); 18] = [
    ("acos", libm::acos),
    ("acosh", libm::acosh),
    ("asin", libm::asin),
    ("asinh", libm::asinh),
    ("atan", libm::atan),
    ("atanh", libm::atanh),
    ("cbrt", libm::cbrt),
    ("cos", libm::cos),
    ("cosh", libm::cosh),
    ("exp", libm::exp),
    ("expm1", libm::expm1),
    ("log", libm::log),
    ("log10", libm::log10),
    ("log1p", libm::log1p),
    ("log2", libm::log2),
    ("sin", libm::sin),
    ("sinh", libm::sinh),
    ("tan", libm::tan),
];

/// Replaces the functions of `Math`. `Math.random` is the room's generator.
pub(super) fn replace(ctx: &Ctx<'_>, desk: &Rc<RefCell<Desk>>) -> rquickjs::Result<()> {
    let math: Object<'_> = ctx.globals().get("Math")?;
    for (name, of) in FUNCTIONS {
        math.set(name, Function::new(ctx.clone(), of)?.with_name(name)?)?;
    }
    math.set("tanh", Function::new(ctx.clone(), |x: f64| libm::tanh(x))?.with_name("tanh")?)?;
    math.set("atan2", Function::new(ctx.clone(), |y: f64, x: f64| libm::atan2(y, x))?.with_name("atan2")?)?;
    math.set("pow", Function::new(ctx.clone(), power)?.with_name("pow")?)?;
    // As `rtcade/math` has it, so that it is the same in a browser.
    ctx.eval::<(), _>(
        "Math.hypot = function hypot(...of) { let sum = 0; for (const x of of) sum += x * x; return Math.sqrt(sum); }",
    )?;
    let desk = Rc::clone(desk);
    math.set("random", Function::new(ctx.clone(), move || desk.borrow_mut().random())?.with_name("random")?)
}

/// ECMAScript differs from IEEE 754 where the exponent is no number, and where the base is ±1 and the exponent
/// infinite.
fn power(base: f64, exponent: f64) -> f64 {
    if exponent.is_nan() || (base.abs() == 1.0 && exponent.is_infinite()) {
        f64::NAN
    } else {
        libm::pow(base, exponent)
    }
}
