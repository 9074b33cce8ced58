//! Types: an expression and the columns of a log stream become tests of columns.

use ipnet::IpNet;

use super::ast::{Expression, Literal, Question, Relation, Test, Unit, Value};
use super::error::ConditionError;
use super::matcher::{Matcher, Node, TESTS_MAX};
use super::predicate::{Order, Predicate};
use crate::config::nearest::nearest;
use crate::record::schema::{Scalar, Schema, SchemaField};

/// Memory that a pattern may take when compiled, bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) fn bind(expression: &Expression, schema: &Schema) -> Result<Matcher, ConditionError> {
    let mut tests = Vec::new();
    let node = node(expression, schema, &mut tests)?;
    Ok(Matcher::new(schema.clone(), node, tests))
}

fn node(
    expression: &Expression,
    schema: &Schema,
    tests: &mut Vec<(usize, Predicate)>,
) -> Result<Node, ConditionError> {
    let mut nodes = |parts: &[Expression]| {
        parts.iter().map(|part| node(part, schema, tests)).collect::<Result<Box<[Node]>, _>>()
    };
    Ok(match expression {
        Expression::Any(parts) => Node::Any(nodes(parts)?),
        Expression::All(parts) => Node::All(nodes(parts)?),
        Expression::Not(inner) => Node::Not(Box::new(node(inner, schema, tests)?)),
        Expression::Test(test) => {
            if tests.len() >= TESTS_MAX {
                let message = format!("more than {TESTS_MAX} tests");
                return Err(ConditionError::new(test.column, message)
                    .hint("`field in {a, b, c}` is one test"));
            }
            let (column, predicate) = typed(test, schema)?;
            tests.push((column, predicate));
            Node::Test(tests.len() - 1)
        }
    })
}

fn typed(test: &Test, schema: &Schema) -> Result<(usize, Predicate), ConditionError> {
    let column = schema.fields.iter().position(|field| field.name == test.field);
    let found = column.and_then(|column| Some((column, schema.fields.get(column)?)));
    let (column, field) = found.ok_or_else(|| unknown(test, schema))?;
    let predicate = match &test.question {
        Question::IsSet => Predicate::IsSet,
        Question::IsTrue if field.field_type.scalar() == Scalar::Bool => Predicate::Bool(true),
        Question::IsTrue => {
            let found = format!("`{}` alone, which is {}", field.name, a_type(field));
            return Err(ConditionError::expected(test.column, &found, "a comparison")
                .hint(format!("`?{}` is true when it has a value", field.name)));
        }
        Question::Matches { pattern, column } => {
            need_text(field, test.column, "`=~`")?;
            Predicate::Matches(compile(pattern, *column)?)
        }
        Question::Contains(value) => {
            need_text(field, test.column, "`contains`")?;
            let needle = memchr::memmem::Finder::new(&text(value, field)?).into_owned();
            Predicate::Contains(Box::new(needle))
        }
        Question::In(values) => is_in(values, field)?,
        Question::Compare(Relation::Equal, value) => equal(value, field)?,
        Question::Compare(relation, value) => ordered(*relation, value, field)?,
    };
    Ok((column, predicate))
}

fn unknown(test: &Test, schema: &Schema) -> ConditionError {
    let names = schema.fields.iter().map(|field| &*field.name);
    let message = format!("`{}` has no field `{}`", schema.stream, test.field);
    let error = ConditionError::new(test.column, message);
    // `resp_p` for `id.resp_p` is more edits than a slip, yet it is clear what is meant.
    let tail = format!(".{}", test.field);
    let meant = (names.clone().find(|name| name.ends_with(&tail)))
        .or_else(|| nearest(&test.field, names.clone()));
    match meant {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error.hint(format!("its fields: {}", names.collect::<Vec<_>>().join(", "))),
    }
}

fn compile(pattern: &str, column: usize) -> Result<regex::bytes::Regex, ConditionError> {
    let built = regex::bytes::RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    built.map_err(|error| {
        // The crate draws the pattern with a mark below; its last line says what is wrong.
        let said = error.to_string();
        let said = said.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        ConditionError::new(column, format!("`/{pattern}/` is no pattern: {said}"))
    })
}

fn is_in(values: &[Value], field: &SchemaField) -> Result<Predicate, ConditionError> {
    let scalar = field.field_type.scalar();
    Ok(match scalar {
        Scalar::Addr => Predicate::Networks(
            values.iter().map(|value| network(value, field)).collect::<Result<_, _>>()?,
        ),
        Scalar::Subnet => Predicate::Within(
            values.iter().map(|value| network(value, field)).collect::<Result<_, _>>()?,
        ),
        Scalar::String | Scalar::Enum => {
            let texts = values.iter().map(|value| Ok(text(value, field)?.into()));
            let mut texts = texts.collect::<Result<Vec<Box<[u8]>>, ConditionError>>()?;
            texts.sort();
            Predicate::Strings(texts)
        }
        Scalar::Double => Predicate::Doubles(
            values.iter().map(|value| double(value, field)).collect::<Result<_, _>>()?,
        ),
        Scalar::Bool => match values {
            [only] => equal(only, field)?,
            _ => {
                let column = values.first().map_or(1, |value| value.column);
                let message = format!("`{}` is {}, not one of several", field.name, a_type(field));
                return Err(ConditionError::new(column, message).hint("`?field`: it has a value"));
            }
        },
        Scalar::Time | Scalar::Interval | Scalar::Count | Scalar::Int | Scalar::Port => {
            let numbers = values.iter().map(|value| integer(value, field));
            let mut numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            numbers.sort_unstable();
            Predicate::Integers(numbers)
        }
    })
}

fn equal(value: &Value, field: &SchemaField) -> Result<Predicate, ConditionError> {
    Ok(match field.field_type.scalar() {
        Scalar::Addr => match &value.literal {
            Literal::Subnet(net) => {
                let hint = format!("`{} in {net}`", field.name);
                return Err(wrong(value, field).hint(hint));
            }
            _ => Predicate::Networks(vec![network(value, field)?]),
        },
        Scalar::Subnet => Predicate::Subnets(vec![network(value, field)?]),
        Scalar::String | Scalar::Enum => Predicate::Strings(vec![text(value, field)?.into()]),
        Scalar::Bool => match &value.literal {
            Literal::Word(word) if word == "T" || word == "true" => Predicate::Bool(true),
            Literal::Word(word) if word == "F" || word == "false" => Predicate::Bool(false),
            _ => return Err(wrong(value, field)),
        },
        Scalar::Double => Predicate::Double(Order::Equal, double(value, field)?),
        _ => Predicate::Integer(Order::Equal, integer(value, field)?),
    })
}

fn ordered(
    relation: Relation,
    value: &Value,
    field: &SchemaField,
) -> Result<Predicate, ConditionError> {
    let order = match relation {
        Relation::Equal => Order::Equal,
        Relation::Less => Order::Less,
        Relation::LessOrEqual => Order::LessOrEqual,
        Relation::Greater => Order::Greater,
        Relation::GreaterOrEqual => Order::GreaterOrEqual,
    };
    Ok(match field.field_type.scalar() {
        Scalar::Bool | Scalar::Subnet => {
            let message = format!("`{}` is {}, which has no order", field.name, a_type(field));
            return Err(ConditionError::new(value.column, message).hint("`==`, `!=` and `in` do"));
        }
        Scalar::Addr => match value.literal {
            Literal::Address(address) => Predicate::AddressOrder(order, address),
            _ => return Err(wrong(value, field)),
        },
        Scalar::String | Scalar::Enum => Predicate::StringOrder(order, text(value, field)?.into()),
        Scalar::Double => Predicate::Double(order, double(value, field)?),
        _ => Predicate::Integer(order, integer(value, field)?),
    })
}

fn network(value: &Value, field: &SchemaField) -> Result<IpNet, ConditionError> {
    match value.literal {
        Literal::Address(address) => Ok(address.into()),
        Literal::Subnet(net) => Ok(net),
        _ => Err(wrong(value, field)),
    }
}

fn text(value: &Value, field: &SchemaField) -> Result<Vec<u8>, ConditionError> {
    match &value.literal {
        Literal::String(bytes) => Ok(bytes.clone()),
        Literal::Word(word) => Ok(word.as_bytes().to_vec()),
        _ => Err(wrong(value, field).hint(format!("quote it: `\"{}\"`", value.text))),
    }
}

fn double(value: &Value, field: &SchemaField) -> Result<f64, ConditionError> {
    match &value.literal {
        Literal::Number { digits, unit: None } => digits.parse().map_err(|_| wrong(value, field)),
        _ => Err(wrong(value, field)),
    }
}

/// count, int and port as they are; time and interval in microseconds.
fn integer(value: &Value, field: &SchemaField) -> Result<i128, ConditionError> {
    let scalar = field.field_type.scalar();
    let is_span = scalar == Scalar::Interval;
    if scalar == Scalar::Time
        && let Literal::String(text) = &value.literal
    {
        let text = std::str::from_utf8(text).unwrap_or_default();
        let at: jiff::Timestamp = text.parse().map_err(|_| wrong(value, field))?;
        return Ok(i128::from(at.as_microsecond()));
    }
    let Literal::Number { digits, unit } = &value.literal else { return Err(wrong(value, field)) };
    if unit.is_some() && !is_span {
        return Err(wrong(value, field));
    }
    if is_span || scalar == Scalar::Time {
        return scaled(digits, unit.unwrap_or(Unit::Seconds)).ok_or_else(|| wrong(value, field));
    }
    let number: i128 = digits.parse().map_err(|_| wrong(value, field))?;
    let fits = match scalar {
        Scalar::Port => (0..=0xffff).contains(&number),
        Scalar::Count => u64::try_from(number).is_ok(),
        _ => i64::try_from(number).is_ok(),
    };
    if fits { Ok(number) } else { Err(wrong(value, field)) }
}

/// A decimal number of `unit` in microseconds; exact, what is below one is cut off.
fn scaled(digits: &str, unit: Unit) -> Option<i128> {
    let (unsigned, sign) = digits.strip_prefix('-').map_or((digits, 1), |rest| (rest, -1));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let fraction = fraction.get(..fraction.len().min(12))?;
    let below = number(fraction)?.checked_mul(unit.micros())?;
    let below = below / 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(sign * number(whole)?.checked_mul(unit.micros())?.checked_add(below)?)
}

fn need_text(field: &SchemaField, column: usize, what: &str) -> Result<(), ConditionError> {
    if matches!(field.field_type.scalar(), Scalar::String | Scalar::Enum) {
        return Ok(());
    }
    let message = format!("`{}` is {}; {what} takes a string", field.name, a_type(field));
    Err(ConditionError::new(column, message).hint("`==`, `<` and `in` compare such a value"))
}

fn wrong(value: &Value, field: &SchemaField) -> ConditionError {
    let expected = match field.field_type.scalar() {
        Scalar::Time => "a time: seconds since 1970, or \"2026-11-22T06:00:00Z\"",
        Scalar::Interval => "a span of time, such as 10, 0.5 or 10min",
        Scalar::Addr => "an address, such as 10.0.0.1",
        Scalar::Port => "a port from 0 to 65535",
        Scalar::Subnet => "a network, such as 10.0.0.0/8",
        Scalar::Enum | Scalar::String => "a string, such as \"ssl\"",
        Scalar::Count => "a whole number from 0",
        Scalar::Int => "a whole number",
        Scalar::Double => "a number",
        Scalar::Bool => "T or F",
    };
    let found = format!("`{}`", value.text);
    let expected = format!("{expected}: `{}` is {}", field.name, a_type(field));
    ConditionError::expected(value.column, &found, &expected)
}

fn a_type(field: &SchemaField) -> String {
    let name = field.field_type.to_string();
    let article = if name.starts_with(['a', 'e', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}
