//! What the workers of a cluster tell each other, at the packet thread's end: two bounded queues
//! of notes, of which neither is ever waited for while packets come. `relay/` is at their other
//! end. A file is read alone: then nobody is told anything.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tyto_core::time::Ts;
use tyto_core::uid::Fuid;

use crate::analyzer::dhcp::join::Piece;
use crate::analyzer::irc::log::IrcLog;

/// Notes that wait to be sent. What does not fit is not told, and counted.
pub(crate) const TOLD_MAX: usize = 8192;
/// Notes from others that wait for the packet thread. Past it they wait at the proxies, whose
/// queues are bounded too and count what does not fit.
pub(crate) const HEARD_MAX: usize = 8192;

/// What one worker tells another.
#[derive(Clone, Debug)]
pub enum Note {
    /// A connection will come.
    Announced(Announced),
    /// What a connection of a file transfer carried, for the worker that sees its session.
    Transferred(Transferred),
    /// A message of a transaction that runs over several connections.
    Dhcp(Box<Piece>),
    /// Connections are about to be announced.
    Attention(Ts),
}

/// A connection that will come.
#[derive(Clone, Debug)]
pub struct Announced {
    /// When it was announced, packet time.
    pub at: Ts,
    /// How long it is waited for, seconds.
    pub timeout_s: u64,
    /// Its originator; `None` when anybody may be.
    pub orig: Option<IpAddr>,
    /// Its responder.
    pub resp: IpAddr,
    /// The responder's TCP port.
    pub resp_port: u16,
    /// Who announces it.
    pub by: Announcer,
}

/// Who announces connections, and what the announced one has to know.
#[derive(Clone, Debug)]
pub enum Announcer {
    /// A control connection of FTP.
    Ftp(SessionAt),
    /// An IRC client: what is to be logged of the file that it sends.
    Dcc(Box<IrcLog>),
}

/// A connection that one worker sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionAt {
    /// The worker.
    pub worker: Arc<str>,
    /// The connection's serial number there.
    pub serial: u64,
}

/// What an announced connection carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// By whom it was announced.
    pub session: SessionAt,
    /// Its responder, as announced.
    pub resp: IpAddr,
    /// The responder's port.
    pub resp_port: u16,
    /// The file.
    pub fuid: Option<Fuid>,
    /// Its type by content.
    pub mime_type: Option<String>,
}

/// The other workers, if there are any.
#[derive(Debug, Default)]
pub struct Neighbours {
    ends: Option<Ends>,
    stats: NeighbourStats,
}

/// Notes at the packet thread's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourStats {
    /// Notes for others.
    pub told: u64,
    /// Notes of others, and those that came back because they are this worker's.
    pub heard: u64,
    /// Notes that did not fit into the queue.
    pub dropped: u64,
}

#[derive(Debug)]
struct Ends {
    me: Arc<str>,
    told: Option<mpsc::Sender<Note>>,
    heard: mpsc::Receiver<Note>,
}

/// The queues' other ends.
#[derive(Debug)]
pub struct OtherEnds {
    /// What this worker tells; it ends when the worker leaves.
    pub told: mpsc::Receiver<Note>,
    /// What it is to hear.
    pub heard: mpsc::Sender<Note>,
}

impl Neighbours {
    /// The neighbours of worker `me`, and the ends of the queues to them.
    pub fn of(me: &str) -> (Self, OtherEnds) {
        let (to_tell, told) = mpsc::channel(TOLD_MAX);
        let (hears, heard) = mpsc::channel(HEARD_MAX);
        let ends = Ends { me: me.into(), told: Some(to_tell), heard };
        (
            Self { ends: Some(ends), stats: NeighbourStats::default() },
            OtherEnds { told, heard: hears },
        )
    }

    /// Name of this worker; none when there are no neighbours.
    pub fn me(&self) -> Option<&Arc<str>> {
        self.ends.as_ref().map(|ends| &ends.me)
    }

    /// Tells the others.
    ///
    /// # Errors
    /// The note, when there are no others or the queue is full: the latter is counted.
    pub fn tell(&mut self, note: Note) -> Result<(), Note> {
        let Some(told) = self.ends.as_ref().and_then(|ends| ends.told.as_ref()) else {
            return Err(note);
        };
        match told.try_send(note) {
            Ok(()) => {
                self.stats.told += 1;
                Ok(())
            }
            Err(refused) => {
                self.stats.dropped += 1;
                Err(refused.into_inner())
            }
        }
    }

    /// The next note of the others, if one is there.
    pub fn hear(&mut self) -> Option<Note> {
        let note = self.ends.as_mut()?.heard.try_recv().ok()?;
        self.stats.heard += 1;
        Some(note)
    }

    /// Tells nothing any more, and waits for what the others told up to then: none when that is
    /// all. Takes seconds at most; not to be called inside of a runtime.
    pub fn hear_last(&mut self) -> Option<Note> {
        let ends = self.ends.as_mut()?;
        ends.told = None;
        let note = ends.heard.blocking_recv()?;
        self.stats.heard += 1;
        Some(note)
    }

    /// What was told and heard so far.
    pub const fn stats(&self) -> NeighbourStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_others_and_past_the_limit_a_note_comes_back() {
        let note = || Note::Attention(Ts(1));
        let mut alone = Neighbours::default();
        assert!(alone.tell(note()).is_err());
        assert_eq!((alone.stats().dropped, alone.hear().is_none()), (0, true));
        let (mut neighbours, ends) = Neighbours::of("worker-1");
        for _ in 0..TOLD_MAX {
            assert!(neighbours.tell(note()).is_ok());
        }
        assert!(neighbours.tell(note()).is_err());
        assert_eq!(neighbours.stats().dropped, 1);
        ends.heard.blocking_send(note()).expect("the worker hears");
        drop(ends.heard);
        assert!(neighbours.hear_last().is_some());
        assert!(neighbours.hear_last().is_none());
    }
}
