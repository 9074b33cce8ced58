//! Where the bytes of a connection's two streams go, in order.

use tyto_core::net::Side;

use crate::flow::conn::ConnCore;

/// What the connection's state says at the moment of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamView {
    /// The begin of the connection was not seen.
    pub is_partial: bool,
    /// Payload bytes of both sides so far, by sequence numbers.
    pub payload_bytes: u64,
}

/// Takes the two byte streams of a connection.
pub trait StreamSink {
    /// The next bytes of `side`.
    fn deliver(&mut self, core: &mut ConnCore, view: StreamView, side: Side, bytes: &[u8]);
    /// `missed_bytes` of `side` will not come.
    fn gap(&mut self, core: &mut ConnCore, view: StreamView, side: Side, missed_bytes: u64);
    /// `side` ended its stream and all of it was delivered.
    fn end_of_side(&mut self, core: &mut ConnCore, view: StreamView, side: Side);
    /// Something odd about the connection.
    fn weird(&mut self, core: &mut ConnCore, name: &'static str, addl: &str);
}
