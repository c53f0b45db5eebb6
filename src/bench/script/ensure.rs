//! What must have held at the end of a run.

use std::str::FromStr;

/// Nesting of a condition.
const DEPTH: u32 = 32;
/// Bytes of a condition.
const BYTES: usize = 4_096;

/// The checks that decide whether a run was good.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ensure {
    /// Each names a metric that must stay below a number.
    pub thresholds: Vec<Threshold>,
    /// Each is an expression over metrics that must hold.
    pub conditions: Vec<Condition>,
    /// Of 100 users as many may fail.
    pub max_error_rate: Option<f64>,
}

/// A metric that must be less than a number: of times, milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// As reports name it: `rtc.echo.p99`.
    pub metric: String,
    /// What it must stay below.
    pub below: f64,
}

/// An expression that must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What must hold.
    pub expression: Expression,
    /// Whether the run is bad where it doesn't; else that is only said.
    pub is_strict: bool,
}

/// Metrics and numbers, compared (`<`, `<=`, `>`, `>=`, `==`, `!=`), reckoned with (`+`, `-`, `*`, `/`), and combined
/// (`and`, `or`, `not`, parentheses).
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    root: Term,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Number(f64),
    Metric(String),
    Not(Box<Term>),
    Minus(Box<Term>),
    Two(Box<Term>, Operator, Box<Term>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Equal,
    Unequal,
    Plus,
    Minus,
    Times,
    By,
}

/// The weakest first; those of one level are taken from the left.
const LEVELS: [&[(&str, Operator)]; 5] = [
    &[("or", Operator::Or), ("||", Operator::Or)],
    &[("and", Operator::And), ("&&", Operator::And)],
    &[
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">", Operator::More),
        (">=", Operator::MoreOrEqual),
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
    ],
    &[("+", Operator::Plus), ("-", Operator::Minus)],
    &[("*", Operator::Times), ("/", Operator::By)],
];

impl Expression {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds, with the metrics that `metric` knows.
    ///
    /// # Errors
    /// The name of a metric that it doesn't know.
    pub fn holds(&self, metric: &impl Fn(&str) -> Option<f64>) -> Result<bool, String> {
        self.root.value(metric).map(|value| value != 0.0)
    }
}

impl FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Expression, String> {
        if text.len() > BYTES {
            return Err(format!("a condition may have {BYTES} bytes, not {}", text.len()));
        }
        let tokens = tokens(text)?;
        let mut rest = tokens.as_slice();
        let root = term(&mut rest, 0, 0)?;
        match rest.first() {
            None => Ok(Expression { text: text.to_owned(), root }),
            Some(token) => Err(format!("{token:?} was not expected in the condition")),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<&str>, String> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | ':');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if ["<=", ">=", "==", "!=", "&&", "||"].iter().any(|operator| rest.starts_with(operator)) {
            2
        } else if "<>+-*/()".contains(first) {
            1
        } else {
            return Err(format!("{first:?} was not expected in the condition"));
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn term(rest: &mut &[&str], level: usize, depth: u32) -> Result<Term, String> {
    let Some(operators) = LEVELS.get(level) else { return single(rest, depth) };
    let mut left = term(rest, level + 1, depth)?;
    let mut length = 0;
    while let Some((_, operator)) = rest.first().and_then(|token| operators.iter().find(|(name, _)| name == token)) {
        // Each makes the tree deeper, which is walked from the top.
        length += 1;
        if length > DEPTH {
            return Err(format!("a condition may have {DEPTH} operators of one kind in a row"));
        }
        *rest = &rest[1..];
        let right = term(rest, level + 1, depth)?;
        left = Term::Two(Box::new(left), *operator, Box::new(right));
    }
    Ok(left)
}

fn single(rest: &mut &[&str], depth: u32) -> Result<Term, String> {
    if depth > DEPTH {
        return Err(format!("a condition may be {DEPTH} levels deep"));
    }
    let Some((&token, after)) = rest.split_first() else { return Err("the condition ends too early".to_owned()) };
    *rest = after;
    match token {
        "(" => {
            let inside = term(rest, 0, depth + 1)?;
            match rest.split_first() {
                Some((&")", after)) => *rest = after,
                _ => return Err("a \"(\" is without its \")\"".to_owned()),
            }
            Ok(inside)
        }
        // It binds weaker than a comparison.
        "not" => Ok(Term::Not(Box::new(term(rest, 2, depth + 1)?))),
        "-" => Ok(Term::Minus(Box::new(single(rest, depth + 1)?))),
        number if number.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
            if number.is_finite() { Ok(Term::Number(number)) } else { Err(format!("{number} is no number")) }
        }
        name if name.starts_with(char::is_alphabetic) && !matches!(name, "and" | "or") => {
            Ok(Term::Metric(name.to_owned()))
        }
        other => Err(format!("{other:?} was not expected in the condition")),
    }
}

impl Term {
    fn value(&self, metric: &impl Fn(&str) -> Option<f64>) -> Result<f64, String> {
        let truth = |value: bool| if value { 1.0 } else { 0.0 };
        Ok(match self {
            Term::Number(number) => *number,
            Term::Metric(name) => metric(name).ok_or_else(|| name.clone())?,
            Term::Not(term) => truth(term.value(metric)? == 0.0),
            Term::Minus(term) => -term.value(metric)?,
            Term::Two(left, operator, right) => {
                let (left, right) = (left.value(metric)?, right.value(metric)?);
                #[expect(clippy::float_cmp, reason = "whoever writes == means it")]
                match operator {
                    Operator::Or => truth(left != 0.0 || right != 0.0),
                    Operator::And => truth(left != 0.0 && right != 0.0),
                    Operator::Less => truth(left < right),
                    Operator::LessOrEqual => truth(left <= right),
                    Operator::More => truth(left > right),
                    Operator::MoreOrEqual => truth(left >= right),
                    Operator::Equal => truth(left == right),
                    Operator::Unequal => truth(left != right),
                    Operator::Plus => left + right,
                    Operator::Minus => left - right,
                    Operator::Times => left * right,
                    Operator::By => left / right,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_hold_or_not() {
        let metric = |name: &str| match name {
            "http.response_time.p95" => Some(200.0),
            "http.codes.200" => Some(90.0),
            "http.requests" => Some(100.0),
            _ => None,
        };
        for (text, expected) in [
            ("http.response_time.p95 < 250", true),
            ("http.response_time.p95 < 250 and http.requests >= 101", false),
            ("http.response_time.p95 < 250 or http.requests >= 101", true),
            ("http.codes.200 / http.requests * 100 == 90", true),
            ("not http.codes.200 > 5", false),
            ("not (http.codes.200 > 5 and http.requests < 5)", true),
            ("1 - 2 - 3 == -4 && 2 + 3 * 4 == 14", true),
            ("(1 != 1) || 8 / 2 / 2 <= 2", true),
            ("-(2) < 0", true),
        ] {
            assert_eq!(text.parse::<Expression>().expect(text).holds(&metric), Ok(expected), "{text}");
        }
        let unknown: Expression = "a.b > 1".parse().expect("it can be read");
        assert_eq!((unknown.text(), unknown.holds(&metric)), ("a.b > 1", Err("a.b".to_owned())));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["", "a <", "a < 1 b", "(a < 1", "a < 1)", "a & b", "1e999x", "a = 1", "a < 'b'", "and", "$a"] {
            text.parse::<Expression>().expect_err(text);
        }
        for deep in ["(".repeat(2_000), "-".repeat(2_000), "not ".repeat(900) + "1", "1 +".repeat(900) + "1"] {
            deep.parse::<Expression>().expect_err(&deep);
        }
        ("1 + ".repeat(2_000) + "1").parse::<Expression>().expect_err("too long");
    }
}
