//! Questions that wait for their answers on one connection, and answers that came first.

use std::ops::Range;

use super::log::Exchange;
use crate::analyzer::Cx;

/// Messages of one id that wait (Zeek: `DNS::max_pending_msgs`); beyond, all of the id are
/// written as they are.
const OF_AN_ID_MAX: usize = 50;
/// Ids that wait (Zeek: `DNS::max_pending_query_ids`); beyond, all are written as they are.
const IDS_MAX: usize = 50;

/// What waits on one connection.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Most connections have one question at a time.
    first: Option<Box<Exchange>>,
    queries: Waiting,
    replies: Waiting,
}

/// Exchanges and their ids, in the order of the ids; those of an id in the order in which they came.
#[derive(Debug, Default)]
struct Waiting(Vec<(u16, Box<Exchange>)>);

/// Where an exchange goes when its message is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It was paired: it is written, or broken and forgotten.
    Leaves,
    /// It waits as the question that is answered next.
    WaitsFirst,
    /// It waits with the other questions.
    WaitsAsQuery,
    /// It waits as an answer without a question.
    WaitsAsReply,
}

impl Pairs {
    /// The exchange that a message with `id` belongs to.
    pub(super) fn of(&mut self, id: u16, is_query: bool, cx: &mut Cx<'_>) -> (Box<Exchange>, Then) {
        if is_query {
            return self.of_query(id, cx);
        }
        if self.first.as_ref().is_some_and(|first| first.row.trans_id == Some(id))
            && let Some(found) = self.first.take()
        {
            // The place is filled again, so that a later question does not overtake.
            self.first = self.queries.pop(id).or_else(|| self.queries.pop_any());
            return (found, Then::Leaves);
        }
        if let Some(found) = self.queries.pop(id) {
            return (found, Then::Leaves);
        }
        self.replies.make_room(id, cx);
        (Exchange::begin(id, cx), Then::WaitsAsReply)
    }

    fn of_query(&mut self, id: u16, cx: &mut Cx<'_>) -> (Box<Exchange>, Then) {
        if let Some(found) = self.replies.pop(id) {
            return (found, Then::Leaves);
        }
        if self.first.is_none() {
            return (Exchange::begin(id, cx), Then::WaitsFirst);
        }
        self.queries.make_room(id, cx);
        (Exchange::begin(id, cx), Then::WaitsAsQuery)
    }

    /// Puts an exchange where it waits.
    pub(super) fn put(&mut self, exchange: Box<Exchange>, then: Then) {
        match then {
            Then::Leaves => {}
            Then::WaitsFirst => self.first = Some(exchange),
            Then::WaitsAsQuery => self.queries.push(exchange),
            Then::WaitsAsReply => self.replies.push(exchange),
        }
    }

    /// Writes all that waits.
    pub(super) fn write_all(&mut self, cx: &mut Cx<'_>) {
        if let Some(first) = self.first.take() {
            first.write(cx);
        }
        self.queries.write_all(cx);
        self.replies.write_all(cx);
    }
}

impl Waiting {
    /// Where those of `id` begin, and where they end.
    fn of(&self, id: u16) -> Range<usize> {
        let begin = self.0.partition_point(|(other, _)| *other < id);
        let rest = self.0.get(begin..).unwrap_or_default();
        begin..begin + rest.partition_point(|(other, _)| *other == id)
    }

    fn push(&mut self, exchange: Box<Exchange>) {
        let id = exchange.row.trans_id.unwrap_or_default();
        let end = self.of(id).end;
        self.0.insert(end, (id, exchange));
    }

    fn pop(&mut self, id: u16) -> Option<Box<Exchange>> {
        let of_id = self.of(id);
        (!of_id.is_empty()).then(|| self.0.remove(of_id.start).1)
    }

    fn pop_any(&mut self) -> Option<Box<Exchange>> {
        (!self.0.is_empty()).then(|| self.0.remove(0).1)
    }

    /// Makes room for one more of `id`.
    fn make_room(&mut self, id: u16, cx: &mut Cx<'_>) {
        if self.0.len() <= OF_AN_ID_MAX.min(IDS_MAX) {
            return;
        }
        let of_id = self.of(id);
        let ids = || self.0.chunk_by(|a, b| a.0 == b.0).count();
        if of_id.len() > OF_AN_ID_MAX {
            self.0.drain(of_id).for_each(|(_, exchange)| exchange.write(cx));
        } else if of_id.is_empty() && ids() > IDS_MAX {
            self.write_all(cx);
        }
    }

    fn write_all(&mut self, cx: &mut Cx<'_>) {
        std::mem::take(&mut self.0).into_iter().for_each(|(_, exchange)| exchange.write(cx));
    }
}
