//! Which programs are asked for, in SQL: a condition on `host`, `workload` and `program`. It holds for
//! a whole program of a host or not at all, so that no sequence is torn.

use hedgerow_event::Subject;
use sqlparser::{
    ast::{BinaryOperator, Expr, Spanned, UnaryOperator, Value, ValueWithSpan},
    dialect::GenericDialect,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

/// Bytes of a condition: one of many parts is as deep as it is long, and depth costs stack.
const BYTES_MAX: usize = 4 << 10;
/// What can be asked of a column, for whoever asked for something else.
const KNOWN: &str = "known are =, <>, <, <=, >, >=, IN, BETWEEN, LIKE, ILIKE, AND, OR and NOT, on the \
                     columns host, workload and program, with text in single quotes";

/// A condition, ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Test);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Host,
    Workload,
    Program,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Column(Column),
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
    Compare(Operand, Compare, Operand),
    Like { operand: Operand, pattern: Vec<Piece>, ignore_case: bool },
    Always(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    Less,
    LessOrEqual,
}

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    One,
    Many,
    Letter(char),
}

/// What is known of the columns; a program isn't known where only its host is.
#[derive(Clone, Copy)]
struct Known<'a> {
    host: &'a str,
    subject: Option<&'a Subject>,
}

impl std::str::FromStr for Condition {
    type Err = String;

    /// Reads a condition; what is wrong is told with its line and column.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!(
                "{} bytes are more than the {BYTES_MAX} of a condition",
                text.len()
            ));
        }
        let told = |why: ParserError| match why {
            ParserError::ParserError(why) | ParserError::TokenizerError(why) => {
                format!("{why}; {KNOWN}")
            }
            ParserError::RecursionLimitExceeded => "it is nested too deep".to_owned(),
        };
        let dialect = GenericDialect {};
        let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(told)?;
        let expression = parser.parse_expr().map_err(told)?;
        let rest = parser.peek_token();
        if rest.token != Token::EOF {
            let start = rest.span.start;
            return Err(format!("the condition ends before `{rest}`{start}; {KNOWN}"));
        }
        test(&expression).map(Self)
    }
}

impl Condition {
    /// Whether a program of a host is asked for.
    pub fn takes(&self, host: &str, subject: &Subject) -> bool {
        self.0.holds(Known { host, subject: Some(subject) }) == Some(true)
    }

    /// Whether any program of a host may be.
    pub fn may_take(&self, host: &str) -> bool {
        self.0.holds(Known { host, subject: None }) != Some(false)
    }
}

impl Test {
    /// `None` where it isn't known.
    fn holds(&self, known: Known<'_>) -> Option<bool> {
        match self {
            Self::Always(holds) => Some(*holds),
            Self::Not(test) => Some(!test.holds(known)?),
            Self::All(tests) => Self::until(tests, known, false),
            Self::Any(tests) => Self::until(tests, known, true),
            Self::Compare(left, how, right) => {
                let (left, right) = (left.text(known)?, right.text(known)?);
                Some(match how {
                    Compare::Equal => left == right,
                    Compare::Less => left < right,
                    Compare::LessOrEqual => left <= right,
                })
            }
            Self::Like { operand, pattern, ignore_case } => {
                let text = operand.text(known)?;
                let text = if *ignore_case { text.to_lowercase() } else { text.to_owned() };
                Some(matches(pattern, &text.chars().collect::<Vec<_>>()))
            }
        }
    }

    /// The value that decides where any of them has it.
    fn until(tests: &[Self], known: Known<'_>, decides: bool) -> Option<bool> {
        let mut all = Some(!decides);
        for test in tests {
            match test.holds(known) {
                Some(holds) if holds == decides => return Some(decides),
                Some(_) => {}
                None => all = None,
            }
        }
        all
    }
}

impl Operand {
    fn text<'a>(&'a self, known: Known<'a>) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Column(Column::Host) => Some(known.host),
            Self::Column(Column::Workload) => Some(known.subject?.workload.as_str()),
            Self::Column(Column::Program) => Some(&known.subject?.program.path),
        }
    }
}

/// An expression as a test.
fn test(expression: &Expr) -> Result<Test, String> {
    let boxed = |negated: bool, test: Test| match negated {
        true => Test::Not(Box::new(test)),
        false => test,
    };
    Ok(match expression {
        Expr::Nested(inner) => test(inner)?,
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Test::Not(Box::new(test(expr)?)),
        Expr::BinaryOp { left, op, right } => binary(expression, left, op, right)?,
        Expr::InList { expr, list, negated } => {
            let column = operand(expr)?;
            let equal = |one| Ok(Test::Compare(column.clone(), Compare::Equal, operand(one)?));
            let any = list.iter().map(equal).collect::<Result<Vec<_>, String>>()?;
            boxed(*negated, Test::Any(any))
        }
        Expr::Between { expr, negated, low, high } => {
            let (column, low, high) = (operand(expr)?, operand(low)?, operand(high)?);
            boxed(
                *negated,
                Test::All(vec![
                    Test::Compare(low, Compare::LessOrEqual, column.clone()),
                    Test::Compare(column, Compare::LessOrEqual, high),
                ]),
            )
        }
        Expr::Like { negated, any: false, expr, pattern, escape_char } => {
            boxed(*negated, like(expr, pattern, escape_char.as_ref(), false)?)
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
            boxed(*negated, like(expr, pattern, escape_char.as_ref(), true)?)
        }
        Expr::Value(ValueWithSpan { value: Value::Boolean(holds), .. }) => Test::Always(*holds),
        other => return Err(unknown(other)),
    })
}

fn binary(
    whole: &Expr,
    left: &Expr,
    operator: &BinaryOperator,
    right: &Expr,
) -> Result<Test, String> {
    let compare = |swap: bool, how| -> Result<Test, String> {
        let (left, right) = (operand(left)?, operand(right)?);
        let (left, right) = if swap { (right, left) } else { (left, right) };
        Ok(Test::Compare(left, how, right))
    };
    Ok(match operator {
        BinaryOperator::And => Test::All(vec![test(left)?, test(right)?]),
        BinaryOperator::Or => Test::Any(vec![test(left)?, test(right)?]),
        BinaryOperator::Eq => compare(false, Compare::Equal)?,
        BinaryOperator::NotEq => Test::Not(Box::new(compare(false, Compare::Equal)?)),
        BinaryOperator::Lt => compare(false, Compare::Less)?,
        BinaryOperator::LtEq => compare(false, Compare::LessOrEqual)?,
        BinaryOperator::Gt => compare(true, Compare::Less)?,
        BinaryOperator::GtEq => compare(true, Compare::LessOrEqual)?,
        _ => return Err(unknown(whole)),
    })
}

fn operand(expression: &Expr) -> Result<Operand, String> {
    match expression {
        Expr::Nested(inner) => operand(inner),
        Expr::Identifier(name) => match name.value.to_lowercase().as_str() {
            "host" => Ok(Operand::Column(Column::Host)),
            "workload" => Ok(Operand::Column(Column::Workload)),
            "program" => Ok(Operand::Column(Column::Program)),
            _ => Err(format!(
                "there is no column `{}`{}; there are host, workload and program (text is in single \
                 quotes)",
                name.value, name.span.start
            )),
        },
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            Ok(Operand::Text(text.clone()))
        }
        other => Err(unknown(other)),
    }
}

/// What is no condition of ours, with where it stands.
fn unknown(expression: &Expr) -> String {
    format!("`{expression}`{} can't be asked; {KNOWN}", expression.span().start)
}

fn like(
    expression: &Expr,
    pattern: &Expr,
    escape: Option<&ValueWithSpan>,
    ignore_case: bool,
) -> Result<Test, String> {
    let column = operand(expression)?;
    let Operand::Text(text) = operand(pattern)? else { return Err(unknown(pattern)) };
    let text = if ignore_case { text.to_lowercase() } else { text };
    let escape = match escape.map(|escape| &escape.value) {
        Some(Value::SingleQuotedString(escape)) if escape.chars().count() == 1 => {
            escape.chars().next()
        }
        Some(_) => return Err(unknown(pattern)),
        None => None,
    };
    let mut pieces = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            letter if Some(letter) == escape => {
                Piece::Letter(letters.next().ok_or_else(|| unknown(pattern))?)
            }
            '%' => Piece::Many,
            '_' => Piece::One,
            letter => Piece::Letter(letter),
        });
    }
    Ok(Test::Like { operand: column, pattern: pieces, ignore_case })
}

/// Whether a text is like a pattern. It goes back to the last `%` only: its time is at most that of
/// all pairs.
fn matches(pattern: &[Piece], text: &[char]) -> bool {
    let (mut at, mut in_text, mut last) = (0, 0, None);
    while in_text < text.len() {
        match pattern.get(at) {
            Some(Piece::Many) => {
                last = Some((at, in_text));
                at += 1;
            }
            Some(Piece::One) => (at, in_text) = (at + 1, in_text + 1),
            Some(Piece::Letter(letter)) if *letter == text[in_text] => {
                (at, in_text) = (at + 1, in_text + 1);
            }
            _ => {
                let Some((many, from)) = last else { return false };
                last = Some((many, from + 1));
                (at, in_text) = (many + 1, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|piece| *piece == Piece::Many)
}
