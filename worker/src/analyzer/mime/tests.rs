//! MIME entities: nesting, encodings, folded headers (RFC 2045, 2046).

use super::header::filename;
use super::{Message, MimeSink};
use crate::analyzer::Cx;
use crate::analyzer::shared::Shared;
use crate::flow::hash::KeyedHasher;
use crate::testing::with_cx;

/// Writes down what it is told.
#[derive(Default)]
struct Told(String);

impl MimeSink for Told {
    fn begin_entity(&mut self, depth: usize, _: &mut Cx<'_>) {
        self.0 += &format!("[{depth} ");
    }

    fn header(&mut self, name: &[u8], value: &[u8], _: &mut Cx<'_>) {
        let (name, value) = (name.escape_ascii(), value.escape_ascii());
        self.0 += &format!("{name}={value};");
    }

    fn content(&mut self, bytes: &[u8], _: &mut Cx<'_>) {
        self.0 += &format!("{}", bytes.escape_ascii());
    }

    fn end_entity(&mut self, _: &mut Cx<'_>) {
        self.0 += "]";
    }
}
