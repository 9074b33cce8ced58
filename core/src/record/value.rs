//! Which Rust types may stand in a log record, and as which of Zeek's types they print.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::FieldSink;
use super::schema::{FieldType, Scalar};
use crate::net::Port;
use crate::time::{Interval, Ts};
use crate::uid::{Fuid, UID_LEN_MAX, Uid};

/// A value of one column.
pub trait LogValue {
    /// Type of the column.
    const TYPE: FieldType;

    /// Hands the value to `sink`.
    fn write(&self, sink: &mut impl FieldSink);
}

macro_rules! scalar {
    ($($rust:ty => $scalar:ident, $method:ident($value:ident) $read:expr;)*) => {$(
        impl LogValue for $rust {
            const TYPE: FieldType = FieldType::One(Scalar::$scalar);

            fn write(&self, sink: &mut impl FieldSink) {
                let $value = self;
                sink.$method($read);
            }
        }
    )*};
}

scalar! {
    Ts => Time, time(v) *v;
    Interval => Interval, interval(v) *v;
    IpAddr => Addr, addr(v) *v;
    Port => Port, port(v) v.0;
    u64 => Count, count(v) *v;
    u32 => Count, count(v) u64::from(*v);
    u16 => Count, count(v) u64::from(*v);
    u8 => Count, count(v) u64::from(*v);
    i64 => Int, int(v) *v;
    f64 => Double, double(v) *v;
    bool => Bool, bool(v) *v;
    String => String, string(v) v.as_bytes();
    &str => String, string(v) v.as_bytes();
    Vec<u8> => String, string(v) v;
    &[u8] => String, string(v) v;
}

impl LogValue for IpNet {
    const TYPE: FieldType = FieldType::One(Scalar::Subnet);

    fn write(&self, sink: &mut impl FieldSink) {
        sink.subnet(self.network(), self.prefix_len());
    }
}

impl LogValue for Uid {
    const TYPE: FieldType = FieldType::STRING;

    fn write(&self, sink: &mut impl FieldSink) {
        sink.string(self.print(b'C', &mut [0; UID_LEN_MAX]));
    }
}

impl LogValue for Fuid {
    const TYPE: FieldType = FieldType::STRING;

    fn write(&self, sink: &mut impl FieldSink) {
        sink.string(self.0.print(b'F', &mut [0; UID_LEN_MAX]));
    }
}

/// One of a set of names (`enum`): `Tunnel::DISCOVER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnumName(pub &'static str);

impl LogValue for EnumName {
    const TYPE: FieldType = FieldType::ENUM;

    fn write(&self, sink: &mut impl FieldSink) {
        sink.string(self.0.as_bytes());
    }
}

impl<T: LogValue> LogValue for Option<T> {
    const TYPE: FieldType = T::TYPE;

    fn write(&self, sink: &mut impl FieldSink) {
        match self {
            Some(value) => value.write(sink),
            None => sink.unset(),
        }
    }
}

/// A `vector[…]`: order counts. (`Vec<u8>` is a string.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector<T>(pub Vec<T>);

impl<T: LogValue> LogValue for Vector<T> {
    const TYPE: FieldType = FieldType::Vector(T::TYPE.scalar());

    fn write(&self, sink: &mut impl FieldSink) {
        sink.begin(self.0.len());
        self.0.iter().for_each(|value| value.write(sink));
        sink.end();
    }
}

/// A `set[…]`: printed in the order of its values, so that a replay gives the same bytes.
impl<T: LogValue> LogValue for BTreeSet<T> {
    const TYPE: FieldType = FieldType::Set(T::TYPE.scalar());

    fn write(&self, sink: &mut impl FieldSink) {
        sink.begin(self.len());
        self.iter().for_each(|value| value.write(sink));
        sink.end();
    }
}
