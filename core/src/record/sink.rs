//! Where the columns of a row go: the wire, a TSV line, a JSON line.

use std::net::IpAddr;

use crate::time::{Interval, Ts};

/// Takes the columns of one row in schema order. A container comes as [`FieldSink::begin`],
/// its values by the scalar methods, and [`FieldSink::end`]; an unset column (or an unset
/// value inside a vector) as [`FieldSink::unset`].
pub trait FieldSink {
    /// The column has no value.
    fn unset(&mut self);
    /// `time`.
    fn time(&mut self, value: Ts);
    /// `interval`.
    fn interval(&mut self, value: Interval);
    /// `addr`.
    fn addr(&mut self, value: IpAddr);
    /// `port`.
    fn port(&mut self, value: u16);
    /// `subnet`: address and prefix length in bits.
    fn subnet(&mut self, net: IpAddr, prefix_len: u8);
    /// `count`.
    fn count(&mut self, value: u64);
    /// `int`.
    fn int(&mut self, value: i64);
    /// `double`.
    fn double(&mut self, value: f64);
    /// `bool`.
    fn bool(&mut self, value: bool);
    /// `string` and `enum`: bytes as they came from the network.
    fn string(&mut self, value: &[u8]);
    /// A `set[…]` or `vector[…]` with `len` values begins.
    fn begin(&mut self, len: usize);
    /// The container ends.
    fn end(&mut self);
}
