//! Who asks and who answers on UDP, by what DNS (RFC 1035 section 4.1.1) and NTP (RFC 5905
//! section 7.3) say in their messages, where ports and order cannot tell.

use tyto_core::net::Side;
use tyto_core::time::Ts;

use crate::flow::conn::{ConnCore, NEVER};

/// A DNS session is over after this, seconds (Zeek: `dns_session_timeout`).
const DNS_SESSION_S: u64 = 10;
/// Questions that a DNS message may have (Zeek: `dns_max_queries`).
const DNS_QUESTIONS_MAX: u16 = 25;
/// Bytes of a flow after which a message that is no DNS does not end the analysis (Zeek:
/// `DPD::ignore_violations_after`).
const VIOLATIONS_IGNORED_AFTER: u64 = 10 * 1024;
const NETBIOS_PORT: u16 = 137;

/// What is known of the roles on one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    protocol: Protocol,
    /// DNS: a message was seen. NTP, by [`Side::index`]: a message of that side swapped roles.
    settled: [bool; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Protocol {
    #[default]
    None,
    Dns,
    Ntp,
}

/// What a message says of the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are right.
    Keep,
    /// They are to be swapped.
    Flip,
}

impl Roles {
    /// The roles on a new flow to `resp_port`.
    pub fn by_port(core: &mut ConnCore, now: Ts) -> Self {
        let protocol = match core.resp.port {
            53 | NETBIOS_PORT | 5353 | 5355 => Protocol::Dns,
            123 => Protocol::Ntp,
            _ => Protocol::None,
        };
        if protocol == Protocol::Dns {
            core.timers.session = now.plus_secs(DNS_SESSION_S);
        }
        Self { protocol, settled: [false; 2] }
    }

    /// Takes a datagram of `side`. `flow_bytes` counts both sides' payload so far.
    pub fn datagram(
        &mut self,
        core: &mut ConnCore,
        side: Side,
        payload: &[u8],
        flow_bytes: u64,
    ) -> Verdict {
        match self.protocol {
            Protocol::None => Verdict::Keep,
            Protocol::Dns => self.dns(core, side, payload, flow_bytes),
            Protocol::Ntp => self.ntp(side, payload),
        }
    }

    /// The session timer fired: true when the session is over.
    pub fn session_is_over(core: &mut ConnCore, now: Ts) -> bool {
        // A second is allowed for, so that an answer soon after its question does not make the
        // session last another ten.
        if core.last.plus_secs(DNS_SESSION_S - 1) <= now {
            return true;
        }
        core.timers.session = now.plus_secs(DNS_SESSION_S);
        false
    }

    fn dns(&mut self, core: &mut ConnCore, side: Side, payload: &[u8], flow_bytes: u64) -> Verdict {
        const HEADER_LEN: usize = 12;
        let &[_, _, flags, _, questions_high, questions_low, ..] = payload else {
            return Verdict::Keep;
        };
        if payload.len() < HEADER_LEN {
            return Verdict::Keep;
        }
        let (is_response, opcode) = (flags & 0x80 != 0, flags >> 3 & 0x0f);
        let is_netbios = core.orig.port == NETBIOS_PORT || core.resp.port == NETBIOS_PORT;
        // Query, notify and update; NetBIOS has more.
        if !matches!(opcode, 0 | 4 | 5) && !is_netbios {
            core.history.push_once(Side::Orig, b'X');
            return Verdict::Keep;
        }
        let [is_settled, _] = &mut self.settled;
        let is_first = !std::mem::replace(is_settled, true);
        let flips = is_first && is_response && side == Side::Orig && !core.resp.addr.is_multicast();
        if u16::from_be_bytes([questions_high, questions_low]) > DNS_QUESTIONS_MAX {
            core.history.push_once(Side::Orig, b'X');
            if flow_bytes <= VIOLATIONS_IGNORED_AFTER {
                self.protocol = Protocol::None;
                core.timers.session = NEVER;
            }
        }
        if flips { Verdict::Flip } else { Verdict::Keep }
    }

    fn ntp(&mut self, side: Side, payload: &[u8]) -> Verdict {
        const MESSAGE_LEN: usize = 48;
        const CLIENT: u8 = 3;
        const SERVER: u8 = 4;
        let mode = payload.first().map_or(0, |first| first & 0x07);
        let is_wrong = matches!((mode, side), (SERVER, Side::Orig) | (CLIENT, Side::Resp));
        if !is_wrong || payload.len() < MESSAGE_LEN {
            return Verdict::Keep;
        }
        let Some(settled) = self.settled.get_mut(side.index()) else { return Verdict::Keep };
        if std::mem::replace(settled, true) { Verdict::Keep } else { Verdict::Flip }
    }
}
