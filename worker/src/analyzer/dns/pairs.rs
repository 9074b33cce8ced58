//! Questions that wait for their answers on one connection, and answers that came first.

use std::collections::{BTreeMap, VecDeque};

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

#[derive(Debug, Default)]
struct Waiting(BTreeMap<u16, VecDeque<Box<Exchange>>>);

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
    fn push(&mut self, exchange: Box<Exchange>) {
        self.0.entry(exchange.row.trans_id.unwrap_or_default()).or_default().push_back(exchange);
    }

    fn pop(&mut self, id: u16) -> Option<Box<Exchange>> {
        let of_id = self.0.get_mut(&id)?;
        let found = of_id.pop_front();
        if of_id.is_empty() {
            self.0.remove(&id);
        }
        found
    }

    fn pop_any(&mut self) -> Option<Box<Exchange>> {
        let id = *self.0.keys().next()?;
        self.pop(id)
    }

    /// Makes room for one more of `id`.
    fn make_room(&mut self, id: u16, cx: &mut Cx<'_>) {
        let ids = self.0.len();
        match self.0.get_mut(&id) {
            Some(of_id) if of_id.len() > OF_AN_ID_MAX => {
                of_id.drain(..).for_each(|exchange| exchange.write(cx));
            }
            None if ids > IDS_MAX => self.write_all(cx),
            _ => {}
        }
    }

    fn write_all(&mut self, cx: &mut Cx<'_>) {
        for exchange in std::mem::take(&mut self.0).into_values().flatten() {
            exchange.write(cx);
        }
    }
}
