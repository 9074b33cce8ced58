//! What a worker hears of the others: connections that they announced, transfers that they
//! followed, messages of transactions that are put together here.

use crate::analyzer::cx::Cx;
use crate::analyzer::expected::{Expected, ExpectedStats};
use crate::analyzer::late::LateStats;
use crate::analyzer::{dhcp, ftp, irc};
use crate::decode::addr::Addr;
use crate::flow::conn::Conn;
use crate::neighbours::{Announced, Announcer, NeighbourStats, Neighbours, Note};
use crate::pipeline::Pipeline;
use tyto_core::net::Proto;

/// Notes taken at once at most: packets wait behind them.
const NOTES_MAX: usize = 1024;

/// What came of announced connections, and of notes for other workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoteStats {
    /// Announced connections, here or by others.
    pub announced: ExpectedStats,
    /// Of those, what came before its announcement.
    pub late: LateStats,
    /// Notes to and from others.
    pub notes: NeighbourStats,
}

impl Pipeline {
    /// What came of announcements and notes so far.
    pub(crate) const fn note_stats(&self) -> NoteStats {
        NoteStats {
            announced: self.shared.expected.stats(),
            late: self.shared.late.stats(),
            notes: self.shared.neighbours.stats(),
        }
    }

    /// From now on there are other workers.
    pub fn has_neighbours(&mut self, neighbours: Neighbours) {
        self.shared.neighbours = neighbours;
    }

    /// Takes what the others told. To be called often, between packets.
    pub fn hear(&mut self) {
        for _ in 0..NOTES_MAX {
            let Some(note) = self.shared.neighbours.hear() else { break };
            self.take_note(note);
        }
        while let Some(begun) = self.shared.late.pop_over(self.now) {
            if let Some(id) = self.flows.find(&begun.key)
                && let Some(Conn { core, stage: Some(stage), .. }) = self.flows.conn(id)
                && core.serial == begun.serial
            {
                stage.may_join_no_more(&mut self.shared);
            }
        }
    }

    /// Tells nothing any more and takes what the others told up to now: before the end. Takes
    /// seconds at most; not to be called inside of a runtime.
    pub fn hear_last(&mut self) {
        while let Some(note) = self.shared.neighbours.hear_last() {
            self.take_note(note);
        }
    }

    fn take_note(&mut self, note: Note) {
        match note {
            Note::Announced(announced) => self.announced(announced),
            Note::Transferred(transferred) => {
                ftp::data::hear_transferred(&mut self.shared, transferred, self.now);
            }
            Note::Dhcp(piece) => dhcp::take(*piece, self.now, &mut self.shared, &mut self.output),
            Note::Attention(at) => self.shared.late.attend(self.now.max(at)),
        }
    }

    fn announced(&mut self, announced: Announced) {
        let Announced { at, timeout_s, orig, resp, resp_port, by } = announced;
        // Packet time of this worker may not have begun.
        let now = self.now.max(at);
        let to = (Addr::from(resp), resp_port);
        let spec = match by {
            Announcer::Ftp(session) => {
                ftp::data::hear(&mut self.shared, to, session, now);
                &ftp::data::SPEC
            }
            Announcer::Dcc(row) => {
                irc::data::hear(&mut self.shared, to, *row, now);
                &irc::data::SPEC
            }
        };
        let expected = Expected { orig, resp, resp_port, proto: Proto::Tcp, spec, timeout_s };
        self.shared.expected.hear(now, &expected);
        self.shared.late.attend(now);
        for begun in self.shared.late.announced(orig.map(Addr::from), to) {
            let Some(id) = self.flows.find(&begun.key) else { continue };
            let Some(Conn { core, stage: Some(stage), .. }) = self.flows.conn(id) else { continue };
            if core.serial != begun.serial || core.expected.is_some() {
                continue;
            }
            core.is_announced_for(spec);
            let mut cx = Cx::new(self.now, core, Proto::Tcp, &mut self.shared, &mut self.output);
            let is_whole = stage.join_late(spec, &mut cx);
            cx.shared.late.joined(is_whole);
            self.flows.reschedule(id);
        }
    }
}
