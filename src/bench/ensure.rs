//! Conditions on the metrics of a run.
//!
//! ```text
//! rtc.echo.p95 < 250 and (vusers.failed == 0 or not http.codes.500 > 3)
//! ```
//!
//! A condition consists of numbers, names of metrics (in single quotes if they contain other characters than letters,
//! digits, `_`, `.`, `:` and `$`), `+ - * /`, `< <= > >= == !=` (`=` is `==`), `not`, `and` (`&&`), `or` (`||`) and
//! parentheses.

use std::collections::BTreeMap;
use std::fmt;

/// Maximum bytes of a condition.
pub const CONDITION_BYTES: usize = 1_000;
/// Maximum nesting of parentheses, `not`s and signs.
const DEPTH_MAX: usize = 50;

/// A parsed condition.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    expression: Expression,
    /// Whether the run fails if the condition is not met.
    pub is_strict: bool,
}

/// An error in a condition and its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    /// The column in characters, from 1.
    pub column: usize,
    /// The error.
    pub message: String,
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)
    }
}

impl std::error::Error for ConditionError {}

/// The result of checking a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The condition.
    pub condition: String,
    /// Whether the run fails if the condition is not met.
    pub is_strict: bool,
    /// Whether the condition is met.
    pub is_ok: bool,
    /// The metrics in the condition. `None` if a metric was not measured; the condition is then not met.
    pub values: BTreeMap<String, Option<f64>>,
}

#[derive(Clone, Debug)]
enum Expression {
    Number(f64),
    Metric(String),
    Not(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
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

impl Operator {
    /// Higher values bind tighter.
    fn precedence(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Less
            | Operator::LessOrEqual
            | Operator::More
            | Operator::MoreOrEqual
            | Operator::Equal
            | Operator::Unequal => 4,
            Operator::Plus | Operator::Minus => 5,
            Operator::Times | Operator::By => 6,
        }
    }

    fn apply(self, a: f64, b: f64) -> f64 {
        let truth = |truth| if truth { 1.0 } else { 0.0 };
        match self {
            Operator::Or => truth(a != 0.0 || b != 0.0),
            Operator::And => truth(a != 0.0 && b != 0.0),
            Operator::Less => truth(a < b),
            Operator::LessOrEqual => truth(a <= b),
            Operator::More => truth(a > b),
            Operator::MoreOrEqual => truth(a >= b),
            #[expect(clippy::float_cmp, reason = "that is what is asked for")]
            Operator::Equal => truth(a == b),
            #[expect(clippy::float_cmp, reason = "that is what is asked for")]
            Operator::Unequal => truth(a != b),
            Operator::Plus => a + b,
            Operator::Minus => a - b,
            Operator::Times => a * b,
            Operator::By => a / b,
        }
    }
}

/// `not` binds tighter than `and` and looser than a comparison.
const NOT_PRECEDENCE: u8 = 3;
const SIGN_PRECEDENCE: u8 = 7;

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// The text is not a condition, or exceeds [`CONDITION_BYTES`].
    pub fn parse(text: &str) -> Result<Condition, ConditionError> {
        if text.len() > CONDITION_BYTES {
            return Err(ConditionError { column: 1, message: format!("longer than {CONDITION_BYTES} bytes") });
        }
        let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
        let expression = parser.expression(0)?;
        match parser.peek() {
            Token::End => Ok(Condition { text: text.to_owned(), expression, is_strict: true }),
            other => Err(parser.unexpected(&other, "an operator")),
        }
    }

    /// Returns the condition that a metric is below a limit: an entry of `thresholds`.
    #[must_use]
    pub fn below(metric: &str, limit: f64) -> Condition {
        let left = Box::new(Expression::Metric(metric.to_owned()));
        let expression = Expression::Binary(Operator::Less, left, Box::new(Expression::Number(limit)));
        let is_plain = metric.chars().all(is_of_name) && !metric.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let text = if is_plain { format!("{metric} < {limit}") } else { format!("'{metric}' < {limit}") };
        Condition { text, expression, is_strict: true }
    }

    /// Returns the condition that at most `percent` of the virtual users did not complete: `maxErrorRate`.
    #[must_use]
    pub fn error_rate(percent: f64) -> Condition {
        let text = format!("(vusers.created - vusers.completed) / vusers.created * 100 <= {percent}");
        Condition::parse(&text).expect("the text is one for each number")
    }

    /// Returns the text of the condition.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks the condition. It is not met if one of its metrics was not measured.
    pub fn check(&self, metric: impl Fn(&str) -> Option<f64>) -> Outcome {
        let mut values = BTreeMap::new();
        let value = self.expression.value(&mut |name| {
            let value = metric(name);
            values.insert(name.to_owned(), value);
            value
        });
        // NaN, such as a share of no users, does not count as true.
        let is_ok = values.values().all(Option::is_some) && value != 0.0 && !value.is_nan();
        Outcome { condition: self.text.clone(), is_strict: self.is_strict, is_ok, values }
    }
}

impl Expression {
    fn value(&self, metric: &mut impl FnMut(&str) -> Option<f64>) -> f64 {
        match self {
            Expression::Number(number) => *number,
            Expression::Metric(name) => metric(name).unwrap_or(f64::NAN),
            Expression::Not(inner) => {
                if inner.value(metric) == 0.0 {
                    1.0
                } else {
                    0.0
                }
            }
            Expression::Binary(operator, a, b) => {
                let (a, b) = (a.value(metric), b.value(metric));
                operator.apply(a, b)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    Name(String),
    Operator(Operator),
    Not,
    Open,
    Close,
    End,
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | ':')
}

/// Returns the tokens and their columns, ending with the end of the text.
fn tokens(text: &str) -> Result<Vec<(Token, usize)>, ConditionError> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let column = at + 1;
        let follows = |expected| characters.get(at + 1) == Some(&expected);
        let (token, length) = match c {
            ' ' | '\t' | '\n' => {
                at += 1;
                continue;
            }
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '+' => (Token::Operator(Operator::Plus), 1),
            '-' => (Token::Operator(Operator::Minus), 1),
            '*' => (Token::Operator(Operator::Times), 1),
            '/' => (Token::Operator(Operator::By), 1),
            '<' if follows('=') => (Token::Operator(Operator::LessOrEqual), 2),
            '<' => (Token::Operator(Operator::Less), 1),
            '>' if follows('=') => (Token::Operator(Operator::MoreOrEqual), 2),
            '>' => (Token::Operator(Operator::More), 1),
            '!' if follows('=') => (Token::Operator(Operator::Unequal), 2),
            '=' => (Token::Operator(Operator::Equal), if follows('=') { 2 } else { 1 }),
            '&' if follows('&') => (Token::Operator(Operator::And), 2),
            '|' if follows('|') => (Token::Operator(Operator::Or), 2),
            '\'' => {
                let name: String = characters[at + 1..].iter().take_while(|c| **c != '\'').collect();
                let length = name.chars().count() + 2;
                if at + length > characters.len() {
                    return Err(ConditionError { column, message: "the quote is not closed".to_owned() });
                }
                (Token::Name(name), length)
            }
            c if is_of_name(c) => {
                let word: String = characters[at..].iter().take_while(|c| is_of_name(**c)).collect();
                let length = word.chars().count();
                let token = match word.as_str() {
                    "and" => Token::Operator(Operator::And),
                    "or" => Token::Operator(Operator::Or),
                    "not" => Token::Not,
                    _ if c.is_ascii_digit() || c == '.' => Token::Number(word.parse().map_err(|_| ConditionError {
                        column,
                        message: format!("{word} is no number; put a name that begins with a digit into single quotes"),
                    })?),
                    _ => Token::Name(word),
                };
                (token, length)
            }
            other => {
                let message = format!("unexpected character {other:?}");
                return Err(ConditionError { column, message });
            }
        };
        tokens.push((token, column));
        at += length;
    }
    tokens.push((Token::End, characters.len() + 1));
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens[self.next].0.clone()
    }

    fn unexpected(&self, token: &Token, expected: &str) -> ConditionError {
        let found = if *token == Token::End { "the end" } else { "something else" };
        ConditionError { column: self.tokens[self.next].1, message: format!("expected {expected}, found {found}") }
    }

    /// Parses an expression of operators that bind tighter than `least`.
    fn expression(&mut self, least: u8) -> Result<Expression, ConditionError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let column = self.tokens[self.next].1;
            return Err(ConditionError { column, message: format!("more than {DEPTH_MAX} levels") });
        }
        let mut left = self.operand()?;
        while let Token::Operator(operator) = self.peek()
            && operator.precedence() > least
        {
            self.next += 1;
            let right = self.expression(operator.precedence())?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expression, ConditionError> {
        let token = self.peek();
        let unexpected = self.unexpected(&token, "a number, a metric or a parenthesis");
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        match token {
            Token::Number(number) => Ok(Expression::Number(number)),
            Token::Name(name) => Ok(Expression::Metric(name)),
            Token::Not => Ok(Expression::Not(Box::new(self.expression(NOT_PRECEDENCE)?))),
            Token::Operator(Operator::Minus) => {
                let operand = self.expression(SIGN_PRECEDENCE)?;
                Ok(Expression::Binary(Operator::Minus, Box::new(Expression::Number(0.0)), Box::new(operand)))
            }
            Token::Open => {
                let inner = self.expression(0)?;
                match self.peek() {
                    Token::Close => {
                        self.next += 1;
                        Ok(inner)
                    }
                    other => Err(self.unexpected(&other, "an operator or )")),
                }
            }
            Token::Operator(_) | Token::Close | Token::End => Err(unexpected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str) -> Option<f64> {
        match name {
            "a" => Some(1.0),
            "b.p95" => Some(250.0),
            "odd name-1" => Some(7.0),
            "zero" => Some(0.0),
            _ => None,
        }
    }

    #[test]
    fn conditions_have_their_truth() {
        for (text, expected) in [
            ("a < 2", true),
            ("a<1", false),
            ("a <= 1 and b.p95 >= 250", true),
            ("a != 1 or b.p95 = 250", true),
            ("not a == 2", true),
            ("not (a == 1 and zero == 0)", false),
            ("not a == 1 or a == 1", true),
            ("zero or a and zero", false),
            ("a == 1 && b.p95 > 1 || zero", true),
            ("1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and 8 / 4 / 2 == 1 and 5 - 3 - 1 == 1", true),
            ("-a < 0 and - -a > 0", true),
            ("'odd name-1' == 7", true),
            ("zero / zero <= 1", false),
            ("zero / zero", false),
            ("missing == 0", false),
            ("not missing > 0", false),
            ("a == 1 or missing == 0", false),
        ] {
            let condition = Condition::parse(text).expect(text);
            assert_eq!(condition.check(metric).is_ok, expected, "{text}");
        }
        let below = Condition::below("odd name-1", 7.5);
        assert_eq!(below.text(), "'odd name-1' < 7.5");
        assert!(below.check(metric).is_ok && !Condition::below("b.p95", 250.0).check(metric).is_ok);
        assert!(Condition::parse(below.text()).expect("it can be read again").check(metric).is_ok);
    }

    #[test]
    fn mistakes_have_a_column() {
        let deep = format!("{}a", "(".repeat(DEPTH_MAX + 1));
        let long = "a".repeat(CONDITION_BYTES + 1);
        for (text, column, words) in [
            ("", 1, "found the end"),
            ("a <", 4, "found the end"),
            ("a < 1 b", 7, "expected an operator"),
            ("a < 1)", 6, "expected an operator"),
            ("(a < 1", 7, "or )"),
            ("ä < 1 & b", 7, "unexpected character '&'"),
            ("a ! 1", 3, "unexpected character '!'"),
            ("1.2.3 < a", 1, "is no number"),
            ("a < 'b", 5, "is not closed"),
            ("and a", 1, "expected a number"),
            (&deep, DEPTH_MAX + 1, "levels"),
            (&long, 1, "longer"),
        ] {
            let error = Condition::parse(text).expect_err(text);
            assert!(error.column == column && error.message.contains(words), "{text}: {error}");
        }
    }
}
