//! What every connection has, whatever its transport: names, times, counts, history, timers.

use std::net::IpAddr;

use tyto_capture::prefetch;
use tyto_core::net::{ConnId, Port, Proto, Side};
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use super::encapsulation::Encapsulation;
use super::history::History;
use super::icmp::Icmp;
use super::key::FlowKey;
use super::service::Services;
use super::tcp::Tcp;
use super::udp::Udp;
use crate::analyzer::Spec;
use crate::analyzer::http::transactions::Transactions;
use crate::analyzer::stage::Stage;
use crate::analyzer::windows::Sessions;
use crate::decode::addr::Addr;
use crate::log::known_services::Responder;
use crate::log::weird::Sampler;

/// Lines of memory of a stage that a packet needs.
const STAGE_LINES: usize = 2;

/// One end of a connection by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndName {
    /// Address.
    pub addr: Addr,
    /// Port; for ICMP the type or code, for other protocols 0.
    pub port: u16,
}

/// A connection: five lines of memory, of which a packet needs the first four. The order of the
/// fields is that in which they lie.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Conn {
    /// Who listens to what it carries; made when it carries something.
    pub stage: Option<Box<Stage>>,
    /// What is the transport's own.
    pub transport: Transport,
    /// What all transports share.
    pub core: ConnCore,
}

/// The transport's own state.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Tcp(Box<Tcp>),
    /// UDP.
    Udp(Udp),
    /// ICMP of either version.
    Icmp(Icmp),
    /// Another IP protocol.
    Unknown,
}

/// What all transports share: first what each packet needs.
#[derive(Debug)]
#[repr(C)]
pub struct ConnCore {
    /// Tunnels around it.
    pub encapsulation: Option<Box<Encapsulation>>,
    /// Time of the last packet that counts.
    pub last: Ts,
    /// The originator.
    pub orig: EndName,
    /// The responder.
    pub resp: EndName,
    /// IP protocol number.
    pub ip_proto: u8,
    /// The other direction, if there is one, is a flow of its own.
    pub is_one_way: bool,
    /// An analyzer wants the roles swapped.
    pub wants_flip: bool,
    /// An analyzer wants the connection to end.
    pub wants_end: bool,
    /// Letters of the `history` column.
    pub history: History,
    /// Packets by [`Side::index`].
    pub packets: [u64; 2],
    /// Their bytes by the IP headers, by [`Side::index`].
    pub ip_bytes: [u64; 2],
    /// When what is to be done without a packet.
    pub timers: ConnTimers,
    /// Idle time after which the connection is over, seconds.
    pub inactivity_timeout_s: u32,
    /// The responder's port when it began, by which analyzers are chosen.
    pub service_port: u16,
    /// Tunnels inside it that it turned out not to be: a bit per kind.
    pub not_tunnels: u8,
    /// Tunnels inside it that were recognised: a bit per kind.
    pub is_tunnels: u8,
    /// Sides that sent a packet in a tunnel whose protocol is recognised when both did: a bit
    /// per [`Side::index`].
    pub tunnel_sides: u8,
    /// Weirds that are told once per connection, whoever sees them: a bit per kind.
    pub told_once: u8,
    /// Something odd was told of it (Zeek: DidWeird).
    pub did_weird: bool,
    /// Its service stands in known_services.log, or need not.
    pub service_told: bool,
    /// Id in all logs.
    pub uid: Uid,
    /// Number of the connection among all of its pipeline, from 0.
    pub serial: u64,
    /// Time of the first packet.
    pub start: Ts,
    /// Bytes of content gaps.
    pub missed_bytes: u64,
    /// Protocols that were recognised on it.
    pub services: Services,
    /// The protocol that another connection announced for this one.
    pub expected: Option<&'static Spec>,
    /// What was odd on it, counted; none when nothing was.
    pub weirds: Option<Box<Sampler>>,
    /// Requests and replies of HTTP, of all its analyzers: also those inside of tunnels.
    pub http: Option<Box<Transactions>>,
    /// What the protocols of Windows networks know of it.
    pub windows: Option<Box<Sessions>>,
}

/// Deadlines of a connection, [`NEVER`] when not set. Zeek has a timer object for each; here
/// one place in the wheel stands for the earliest.
#[derive(Clone, Copy, Debug)]
pub struct ConnTimers {
    /// Nothing came for long.
    pub inactivity: Ts,
    /// A SYN got no answer.
    pub attempt: Ts,
    /// Is it closed on one side and quiet? Asked again and again, by up to two timers.
    pub expire: [Ts; 2],
    /// It was closed on both sides.
    pub close: Ts,
    /// An analyzer asked to be called.
    pub wake: Ts,
    /// The deadline that the wheel has, kept here so that it is at hand when another is set.
    pub scheduled: Ts,
    /// A TCP connection goes on on both sides, so that the answer to [`ConnTimers::expire`] is
    /// no.
    pub is_open: bool,
    /// Who asks [`ConnTimers::expire`].
    pub question: Question,
}

/// Who asks whether a connection is closed on one side and quiet. Of one that is open the table
/// does ([`super::questions`]), which knows the answer: otherwise each would be looked at every six
/// seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Question {
    /// The connection, at [`ConnTimers::expire`].
    #[default]
    Own,
    /// The table.
    Lent,
    /// The table, though it need not any more.
    Dropped,
}

/// A deadline that is not set.
pub const NEVER: Ts = Ts(u64::MAX);

impl Default for ConnTimers {
    fn default() -> Self {
        Self {
            inactivity: NEVER,
            attempt: NEVER,
            expire: [NEVER; 2],
            close: NEVER,
            wake: NEVER,
            scheduled: NEVER,
            is_open: false,
            question: Question::Own,
        }
    }
}

impl Conn {
    /// Its place among the transports that are counted apart: TCP, UDP, ICMP.
    pub const fn proto_index(&self) -> Option<usize> {
        match self.transport {
            Transport::Tcp(_) => Some(0),
            Transport::Udp(_) => Some(1),
            Transport::Icmp(_) => Some(2),
            Transport::Unknown => None,
        }
    }

    /// Transport protocol as logs name it.
    pub const fn proto(&self) -> Proto {
        self.transport.proto()
    }

    /// Asks for what stands apart from the connection and a packet needs
    /// ([`super::table::FlowTable`]).
    pub(super) fn prefetch_apart(&self) {
        if let Transport::Tcp(tcp) = &self.transport {
            prefetch(&**tcp, usize::MAX);
        }
        if let Some(stage) = &self.stage {
            prefetch(&**stage, STAGE_LINES);
        }
    }

    /// Asks for what stands apart from that.
    pub(super) fn prefetch_analyzer(&self) {
        if let Some(stage) = &self.stage {
            stage.prefetch_analyzer();
        }
    }

    /// What the responder did.
    pub fn responder(&self) -> Responder {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.responder(),
            Transport::Udp(udp) => udp.responder(),
            Transport::Icmp(_) | Transport::Unknown => Responder::default(),
        }
    }
}

impl Transport {
    /// Its name in logs.
    pub const fn proto(&self) -> Proto {
        match self {
            Self::Tcp(_) => Proto::Tcp,
            Self::Udp(_) => Proto::Udp,
            Self::Icmp(_) => Proto::Icmp,
            Self::Unknown => Proto::UnknownTransport,
        }
    }
}

impl ConnTimers {
    /// The earliest deadline.
    pub fn next(&self) -> Ts {
        self.inactivity
            .min(self.attempt)
            .min(self.expire[0])
            .min(self.expire[1])
            .min(self.close)
            .min(self.wake)
    }

    /// Asks again at `at` whether the connection is closed on one side and quiet.
    pub fn add_expire(&mut self, at: Ts) {
        match &mut self.expire {
            [slot, _] | [_, slot] if *slot == NEVER => *slot = at,
            // Two questions are asked already: the earlier answers for this one.
            [_, second] => *second = (*second).min(at),
        }
    }

    /// Drops what belongs to the transport: all but the inactivity timer.
    pub fn cancel_transport(&mut self) {
        self.attempt = NEVER;
        self.expire = [NEVER; 2];
        self.close = NEVER;
        if self.question == Question::Lent {
            self.question = Question::Dropped;
        }
    }

    /// Leaves the question to the table; gives when it is to be asked next. None when there is
    /// not just one, or the connection will be called for its attempt anyway.
    pub(super) fn lend_question(&mut self) -> Option<Ts> {
        let [at, NEVER] = self.expire else { return None };
        if at == NEVER || self.attempt != NEVER {
            return None;
        }
        self.expire = [NEVER; 2];
        self.question = Question::Lent;
        Some(at)
    }

    /// Takes the question back, which the wheel would have asked next at `at`.
    pub(super) fn take_question(&mut self, at: Ts) {
        if std::mem::take(&mut self.question) == Question::Lent && at != NEVER {
            self.add_expire(at);
        }
    }
}

impl ConnCore {
    /// A connection of which nothing is known but its name.
    pub fn new(uid: Uid, orig: EndName, resp: EndName) -> Self {
        Self {
            serial: 0,
            uid,
            orig,
            resp,
            ip_proto: 0,
            is_one_way: false,
            start: Ts(0),
            last: Ts(0),
            history: History::default(),
            packets: [0; 2],
            ip_bytes: [0; 2],
            missed_bytes: 0,
            timers: ConnTimers::default(),
            inactivity_timeout_s: 0,
            encapsulation: None,
            not_tunnels: 0,
            is_tunnels: 0,
            tunnel_sides: 0,
            services: Services::default(),
            service_port: resp.port,
            expected: None,
            windows: None,
            did_weird: false,
            weirds: None,
            service_told: false,
            wants_flip: false,
            wants_end: false,
            told_once: 0,
            http: None,
        }
    }

    /// Its name in the flow table. Not kept, since the ends say it all.
    pub fn key(&self) -> FlowKey {
        let (orig, resp) = (self.orig, self.resp);
        FlowKey::new((orig.addr, orig.port), (resp.addr, resp.port), self.ip_proto, self.is_one_way)
    }

    /// Swaps the roles: who was taken for the responder is the originator.
    pub fn flip(&mut self) {
        std::mem::swap(&mut self.orig, &mut self.resp);
        self.packets.swap(0, 1);
        self.ip_bytes.swap(0, 1);
        self.history.push_flip();
    }

    /// The four fields that name it in logs.
    pub fn id(&self) -> ConnId {
        ConnId {
            orig_h: IpAddr::from(self.orig.addr),
            orig_p: Port(self.orig.port),
            resp_h: IpAddr::from(self.resp.addr),
            resp_p: Port(self.resp.port),
        }
    }

    /// The role of the sender of a packet.
    pub fn side_of(&self, src: EndName) -> Side {
        if src == self.orig { Side::Orig } else { Side::Resp }
    }

    /// Counts a packet of `side`.
    pub fn count(&mut self, side: Side, ip_bytes: u32) {
        if let (Some(packets), Some(bytes)) =
            (self.packets.get_mut(side.index()), self.ip_bytes.get_mut(side.index()))
        {
            *packets += 1;
            *bytes += u64::from(ip_bytes);
        }
    }

    /// Sets the idle time after which the connection is over (Zeek: SetInactivityTimeout).
    pub fn set_inactivity_timeout(&mut self, timeout_s: u32) {
        if self.inactivity_timeout_s != timeout_s {
            self.inactivity_timeout_s = timeout_s;
            self.timers.inactivity = self.last.plus_secs(u64::from(timeout_s));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// A flood of SYNs holds millions of them at once.
    #[test]
    fn an_attempt_takes_few_lines_of_memory() {
        assert_eq!(size_of::<Option<Conn>>(), 5 * 64);
        assert!(size_of::<Tcp>() <= 4 * 64, "{}", size_of::<Tcp>());
        // What a packet needs ends where the fourth line does.
        assert!(offset_of!(Conn, core) + offset_of!(ConnCore, inactivity_timeout_s) <= 4 * 64);
    }
}
