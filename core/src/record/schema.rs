//! What a log stream consists of: names and types of its columns, in Zeek's words.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A log stream's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Name of the stream: `conn`.
    pub stream: Cow<'static, str>,
    /// The columns in order.
    pub fields: Vec<SchemaField>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaField {
    /// Full name: `id.orig_h`.
    pub name: Cow<'static, str>,
    /// Type of the values.
    pub field_type: FieldType,
    /// What the column says, from the doc comment of its declaration.
    pub doc: Cow<'static, str>,
}

/// Type of a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// Seconds since the Unix epoch with six decimals.
    Time,
    /// Seconds with six decimals.
    Interval,
    /// IPv4 or IPv6 address.
    Addr,
    /// Transport port, number only.
    Port,
    /// Network in CIDR notation.
    Subnet,
    /// One of a set of names.
    Enum,
    /// Bytes, usually text.
    String,
    /// Unsigned 64-bit number.
    Count,
    /// Signed 64-bit number.
    Int,
    /// Floating-point number.
    Double,
    /// `T` or `F`.
    Bool,
}

/// Type of a column: one value, or a container of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// One value.
    One(Scalar),
    /// `set[…]`: order says nothing.
    Set(Scalar),
    /// `vector[…]`: order counts.
    Vector(Scalar),
}

/// A name that is not a type of Zeek's logs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log type")]
pub struct UnknownType(pub String);

const SCALARS: [(Scalar, &str); 11] = [
    (Scalar::Time, "time"),
    (Scalar::Interval, "interval"),
    (Scalar::Addr, "addr"),
    (Scalar::Port, "port"),
    (Scalar::Subnet, "subnet"),
    (Scalar::Enum, "enum"),
    (Scalar::String, "string"),
    (Scalar::Count, "count"),
    (Scalar::Int, "int"),
    (Scalar::Double, "double"),
    (Scalar::Bool, "bool"),
];

impl Schema {
    /// Hash of stream, names and types in order (FNV-1a, 64 bits): the same on every host and
    /// release, so that a logger tells at once whether it knows a producer's columns.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |text: &str| {
            for byte in text.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        eat(&self.stream);
        for field in &self.fields {
            eat(&field.name);
            eat(&field.field_type.to_string());
        }
        hash
    }
}

impl Scalar {
    /// Zeek's name of the type.
    pub fn name(self) -> &'static str {
        SCALARS.iter().find(|(scalar, _)| *scalar == self).map_or("string", |(_, name)| name)
    }
}

impl FieldType {
    /// A string.
    pub const STRING: Self = Self::One(Scalar::String);
    /// An enum.
    pub const ENUM: Self = Self::One(Scalar::Enum);

    /// Type of the value, or of the values in the container.
    pub const fn scalar(self) -> Scalar {
        match self {
            Self::One(scalar) | Self::Set(scalar) | Self::Vector(scalar) => scalar,
        }
    }

    /// Whether the column holds a container.
    pub const fn is_container(self) -> bool {
        !matches!(self, Self::One(_))
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.scalar().name();
        match self {
            Self::One(_) => f.write_str(name),
            Self::Set(_) => write!(f, "set[{name}]"),
            Self::Vector(_) => write!(f, "vector[{name}]"),
        }
    }
}

impl FromStr for FieldType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let scalar = |name: &str| {
            SCALARS
                .iter()
                .find(|(_, known)| *known == name)
                .map(|(scalar, _)| *scalar)
                .ok_or_else(|| UnknownType(text.to_owned()))
        };
        let inner = |prefix: &str| text.strip_prefix(prefix)?.strip_suffix(']');
        if let Some(name) = inner("set[") {
            return Ok(Self::Set(scalar(name)?));
        }
        if let Some(name) = inner("vector[") {
            return Ok(Self::Vector(scalar(name)?));
        }
        Ok(Self::One(scalar(text)?))
    }
}
