//! Where the bytes of a connection's two streams go, in order.

use tyto_core::net::Side;

use crate::flow::conn::ConnCore;
use crate::log::known_services::Responder;

/// What the connection's state says at the moment of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamView {
    /// The begin of the connection was not seen.
    pub is_partial: bool,
    /// Bytes of either side never came.
    pub had_gap: bool,
    /// Payload bytes of both sides so far, by sequence numbers.
    pub payload_bytes: u64,
    /// What the responder did so far.
    pub responder: Responder,
}

/// How a side's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// By a FIN: all was said.
    Finished,
    /// By a RST: it broke off.
    Reset,
}

/// Takes the two byte streams of a connection.
pub trait StreamSink {
    /// Whether anyone listens: if not, nobody looks at what [`StreamSink::deliver`] is told.
    fn listens(&self) -> bool;
    /// The next bytes of `side`.
    fn deliver(&mut self, core: &mut ConnCore, view: StreamView, side: Side, bytes: &[u8]);
    /// `missed_bytes` of `side` will not come.
    fn gap(&mut self, core: &mut ConnCore, view: StreamView, side: Side, missed_bytes: u64);
    /// `side` ended its stream and all of it was delivered.
    fn end_of_side(&mut self, core: &mut ConnCore, view: StreamView, side: Side, how: StreamEnd);
    /// The roles were swapped.
    fn flipped(&mut self, core: &mut ConnCore);
    /// Something odd about the connection, with a word more (`addl`) and the analyzer that saw
    /// it, where Zeek names one.
    fn weird(
        &mut self,
        core: &mut ConnCore,
        name: &'static str,
        addl: &str,
        source: Option<&'static str>,
    );
    /// Bytes beyond holes that may be kept in addition to those that are.
    fn beyond_room(&self) -> u64;
    /// The bytes beyond a hole of one stream were `before` and are `after`.
    fn beyond_changed(&mut self, before: u64, after: u64);
    /// An acknowledgement told something new on an established connection; `missed`: bytes that
    /// never passed here.
    fn acknowledged(&mut self, missed: bool);
}
