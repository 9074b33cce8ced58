//! `weird.log`: what should not be on a network, by Zeek's names. A weird is first sampled
//! (per connection, per pair of addresses, or over all), then what is to be done with it depends
//! on its name, and the same weird of the same connection is not told again for a while.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use tyto_core::net::{ConnId, Port};
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::{Fuid, Uid};

use super::lately::Lately;
use super::notice::Notice;
use crate::analyzer::state::Shared;
use crate::decode::addr::Addr;
use crate::flow::conn::{ConnCore, EndName};
use crate::flow::hash::KeyedHasher;
use crate::output::Output;

/// Weirds of one name, on one connection, that are taken before they are sampled (Zeek:
/// `Weird::sampling_threshold`).
const SAMPLING_THRESHOLD: u64 = 25;
/// Of those above the threshold, one in so many is taken (`sampling_rate`).
const SAMPLING_RATE: u64 = 1000;
/// Sampling begins anew after this, seconds (`sampling_duration`).
const SAMPLING_DURATION_S: i64 = 600;
/// The same weird of the same connection is not told again for this long, seconds (Zeek:
/// `weird_ignore`).
const REPEAT_LIFE_S: u64 = 600;
/// One that is told once is told again after this, seconds (Zeek: `did_log`).
const ONCE_LIFE_S: u64 = 86_400;
/// Weirds that are remembered. At the limit those are forgotten that are over, else all: some
/// are told twice.
const REMEMBERED_MAX: usize = 1 << 16;
/// Pairs of addresses whose weirds are counted. At the limit their counts begin anew.
const PAIRS_MAX: usize = 1 << 16;
/// Different weirds that are counted on one connection or pair. Beyond, a weird counts as one
/// that is sampled already.
const NAMES_MAX: usize = 64;

/// Weirds that are told as often as they come.
const REPEATED: [&str; 4] =
    ["bad_IP_checksum", "bad_TCP_checksum", "bad_UDP_checksum", "bad_ICMP_checksum"];
/// Weirds that normal traffic shows: not told.
const IGNORED: [&str; 4] =
    ["unsolicited_SYN_response", "FIN_after_reset", "spontaneous_FIN", "spontaneous_RST"];
/// Weirds that are told once per originator.
const PER_ORIG: [&str; 22] = [
    "bad_ICMP_checksum",
    "bad_RPC",
    "bad_TCP_checksum",
    "bad_UDP_checksum",
    "connection_originator_SYN_ack",
    "DNS_label_forward_compress_offset",
    "DNS_label_len_gt_name_len",
    "DNS_label_len_gt_pkt",
    "DNS_label_too_long",
    "excess_RPC",
    "originator_RPC_reply",
    "partial_RPC",
    "responder_RPC_call",
    "SYN_with_data",
    "UDP_datagram_length_mismatch",
    "excessively_small_fragment",
    "fragment_inconsistency",
    "fragment_overlap",
    "fragment_size_inconsistency",
    "bad_IP_checksum",
    "SSH_max_packet_length_exceeded",
    "SSH_max_string_length_exceeded",
];
/// Weirds that are told once per connection.
const PER_CONN: [&str; 10] = [
    "FTP_max_command_length_exceeded",
    "FTP_too_many_pending_commands",
    "FTP_user_too_long",
    "FTP_reply_msg_too_long",
    "FTP_arg_too_long",
    "FTP_password_too_long",
    "simultaneous_open",
    "smtp_mail_transaction_invalid",
    "smtp_excessive_invalid_mail_transactions",
    "smb_tree_connect_andx_response_without_tree",
];
/// Weirds of which a notice is made, once per originator.
const NOTICE_PER_ORIG: [&str; 3] =
    ["FIN_storm", "successful_RPC_reply_to_invalid_request", "SYN_after_partial"];

/// Something odd.
#[derive(Debug, LogRecord)]
#[log(stream = "weird")]
pub struct WeirdLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection, where it was one.
    pub uid: Option<Uid>,
    /// Who with whom.
    #[log(nested)]
    pub id: Option<ConnId>,
    /// What it was.
    pub name: String,
    /// A word more.
    pub addl: Option<String>,
    /// A notice was made of it, too.
    pub notice: bool,
    /// The node that saw it.
    pub peer: Option<String>,
    /// The analyzer that saw it.
    pub source: Option<&'static str>,
}

/// What was odd, and where.
#[derive(Clone, Copy, Debug)]
pub struct Weird<'a> {
    /// What, by Zeek's name.
    pub name: &'static str,
    /// A word more; empty for none.
    pub addl: &'a str,
    /// The analyzer that saw it.
    pub source: Option<&'static str>,
    /// It was in a packet inside of a tunnel.
    pub in_tunnel: bool,
}

/// Counts weirds and knows which were told.
#[derive(Debug)]
pub struct Weirds {
    seen: u64,
    everywhere: BTreeMap<Name, Sample>,
    pairs: HashMap<(Addr, Addr), Sampler, KeyedHasher>,
    pairs_forgotten: u64,
    repeats: Lately<(Name, Whose)>,
    once: Lately<(Name, Whose)>,
}

/// The weirds of one connection or pair of addresses, for sampling.
#[derive(Debug, Default)]
pub struct Sampler {
    samples: Vec<(Name, Sample)>,
    begin: Ts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    count: u64,
    begin: Ts,
}

/// A name, and whether the packet was inside of a tunnel, which makes it another.
type Name = (&'static str, bool);

/// Whose weird it is: of two with the same name and owner the second is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Connection(Addr, u16, Addr, u16),
    Pair(Addr, Addr),
    Originator(Addr),
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Ignore,
    Log,
    LogPerOrig,
    LogPerConn,
    NoticePerOrig,
}

/// What is told of the place of a weird.
#[derive(Clone, Copy, Debug)]
struct Place {
    whose: Whose,
    uid: Option<Uid>,
    id: Option<ConnId>,
}

impl Weirds {
    /// Nothing was odd yet; tables are hashed with `hasher_of`.
    pub fn new(hasher_of: &impl Fn(u64) -> KeyedHasher) -> Self {
        Self {
            seen: 0,
            everywhere: BTreeMap::new(),
            pairs: HashMap::with_hasher(hasher_of(10)),
            pairs_forgotten: 0,
            repeats: Lately::new(hasher_of(11), REPEAT_LIFE_S, REMEMBERED_MAX),
            once: Lately::new(hasher_of(12), ONCE_LIFE_S, REMEMBERED_MAX),
        }
    }

    /// Weirds so far, told or not.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Entries of the tables that were forgotten at their limits.
    pub const fn forgotten(&self) -> u64 {
        self.pairs_forgotten + self.repeats.forgotten() + self.once.forgotten()
    }

    /// Whether one more of the weirds that belong to no connection is taken.
    fn permits_everywhere(&mut self, name: Name, now: Ts) -> bool {
        let sample = self.everywhere.entry(name).or_default();
        if sample.count == 0 || now.since(sample.begin) >= duration() {
            *sample = Sample { count: 0, begin: now };
        }
        sample.count += 1;
        sample.is_taken()
    }

    /// Whether one more of a pair's weirds is taken.
    fn permits_pair(&mut self, name: Name, pair: (Addr, Addr), now: Ts) -> bool {
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&pair) {
            self.pairs_forgotten += self.pairs.len() as u64;
            self.pairs.clear();
        }
        let begun = || Sampler { samples: Vec::new(), begin: now };
        let sampler = self.pairs.entry(pair).or_insert_with(begun);
        if now.since(sampler.begin) >= duration() {
            *sampler = Sampler { samples: Vec::new(), begin: now };
        }
        sampler.count(name).is_none_or(|sample| {
            sample.count += 1;
            sample.is_taken()
        })
    }

    /// Whether a weird is told, by its name and those told before; and whether as a notice.
    fn is_told(&mut self, name: Name, place: &Place, now: Ts) -> Option<Action> {
        let action = action_of(name);
        if action == Action::Ignore || self.repeats.contains(&(name, place.whose), now) {
            return None;
        }
        let once = match (action, place.whose) {
            (Action::Ignore | Action::Log, _) => None,
            (
                Action::LogPerOrig | Action::NoticePerOrig,
                Whose::Connection(orig, ..) | Whose::Pair(orig, _),
            ) => Some(Whose::Originator(orig)),
            (_, whose) => Some(whose),
        };
        if once.is_some_and(|whose| !self.once.is_new((name, whose), now)) {
            return None;
        }
        if name.1 || !REPEATED.contains(&name.0) {
            self.repeats.is_new((name, place.whose), now);
        }
        Some(action)
    }
}

impl Sampler {
    /// Counts one more; whether it is taken. Sampling of a name ends some time after it began.
    fn permits(&mut self, name: Name, now: Ts) -> bool {
        let Some(sample) = self.count(name) else { return false };
        sample.count += 1;
        if sample.count == SAMPLING_THRESHOLD + 1 {
            sample.begin = now;
        } else if sample.count > SAMPLING_THRESHOLD && now.since(sample.begin) > duration() {
            *sample = Sample { count: 1, begin: Ts(0) };
        }
        sample.is_taken()
    }

    fn count(&mut self, name: Name) -> Option<&mut Sample> {
        let index = match self.samples.iter().position(|(known, _)| *known == name) {
            Some(index) => index,
            None if self.samples.len() < NAMES_MAX => {
                self.samples.push((name, Sample::default()));
                self.samples.len() - 1
            }
            None => return None,
        };
        self.samples.get_mut(index).map(|(_, sample)| sample)
    }
}

impl Sample {
    const fn is_taken(self) -> bool {
        self.count <= SAMPLING_THRESHOLD
            || (self.count - SAMPLING_THRESHOLD).is_multiple_of(SAMPLING_RATE)
    }
}

impl<'a> Weird<'a> {
    /// `name`, without more.
    pub const fn new(name: &'static str) -> Self {
        Self { name, addl: "", source: None, in_tunnel: false }
    }

    /// `name`, of the IP layer.
    pub const fn of_ip(name: &'static str) -> Self {
        Self::new(name).from("IP")
    }

    /// With a word more.
    pub const fn with(self, addl: &'a str) -> Self {
        Self { addl, ..self }
    }

    /// Seen by analyzer `source`.
    pub const fn from(self, source: &'static str) -> Self {
        Self { source: Some(source), ..self }
    }

    const fn name(&self) -> Name {
        (self.name, self.in_tunnel)
    }
}

impl Shared {
    /// Something odd on a connection. Cold, as its likes are: so what leads to it lies apart from
    /// what every packet runs through, and does not take its place in the cache of instructions.
    #[cold]
    pub fn weird(&mut self, now: Ts, conn: &mut ConnCore, weird: &Weird<'_>, out: &mut Output) {
        self.weirds.seen += 1;
        conn.did_weird = true;
        if !conn.weirds.get_or_insert_default().permits(weird.name(), now) {
            return;
        }
        let EndName { addr: orig, port: orig_p } = conn.orig;
        let EndName { addr: resp, port: resp_p } = conn.resp;
        let whose = Whose::Connection(orig, orig_p, resp, resp_p);
        let place = Place { whose, uid: Some(conn.uid), id: Some(conn.id()) };
        self.tell(now, weird, &place, out);
    }

    /// Something odd between two addresses.
    #[cold]
    pub fn weird_of_pair(
        &mut self,
        now: Ts,
        (src, dst): (Addr, Addr),
        weird: &Weird<'_>,
        out: &mut Output,
    ) {
        self.weirds.seen += 1;
        if !self.weirds.permits_pair(weird.name(), (src, dst), now) {
            return;
        }
        let id =
            ConnId { orig_h: src.into(), orig_p: Port(0), resp_h: dst.into(), resp_p: Port(0) };
        let place = Place { whose: Whose::Pair(src, dst), uid: None, id: Some(id) };
        self.tell(now, weird, &place, out);
    }

    /// Something odd in a packet of which no address is known.
    #[cold]
    pub fn weird_of_nobody(&mut self, now: Ts, weird: &Weird<'_>, out: &mut Output) {
        self.weirds.seen += 1;
        if self.weirds.permits_everywhere(weird.name(), now) {
            self.tell(now, weird, &Place { whose: Whose::Nobody, uid: None, id: None }, out);
        }
    }

    /// Something odd in a file.
    #[cold]
    pub fn weird_of_file(&mut self, now: Ts, file: Fuid, weird: &Weird<'_>, out: &mut Output) {
        let more = if weird.addl.is_empty() { "" } else { ": " };
        let addl = format!("{}{more}{}", file_name(file), weird.addl);
        self.weird_of_nobody(now, &Weird { addl: &addl, ..*weird }, out);
    }

    fn tell(&mut self, now: Ts, weird: &Weird<'_>, place: &Place, out: &mut Output) {
        let Some(action) = self.weirds.is_told(weird.name(), place, now) else { return };
        let mut name = weird.name.to_owned();
        if weird.in_tunnel {
            name.push_str("_in_tunnel");
        }
        let addl = (!weird.addl.is_empty()).then(|| weird.addl.to_owned());
        let is_notice = action == Action::NoticePerOrig;
        if is_notice {
            let mut notice = Notice::new("Weird::Activity", name.clone());
            (notice.uid, notice.id, notice.sub) = (place.uid, place.id, addl.clone());
            self.notice(now, notice, out);
        }
        out.row(&WeirdLog {
            ts: now,
            uid: place.uid,
            id: place.id,
            name,
            addl,
            notice: is_notice,
            peer: Some(self.config.peer.clone()),
            source: weird.source,
        });
    }
}

fn action_of((name, in_tunnel): Name) -> Action {
    match name {
        // Inside of a tunnel the name is another, of which nothing special is known.
        _ if in_tunnel => Action::Log,
        _ if IGNORED.contains(&name) => Action::Ignore,
        _ if PER_ORIG.contains(&name) => Action::LogPerOrig,
        _ if PER_CONN.contains(&name) => Action::LogPerConn,
        _ if NOTICE_PER_ORIG.contains(&name) => Action::NoticePerOrig,
        _ => Action::Log,
    }
}

const fn duration() -> Interval {
    Interval::from_secs(SAMPLING_DURATION_S)
}

fn file_name(file: Fuid) -> String {
    let mut text = [0; tyto_core::uid::UID_LEN_MAX];
    String::from_utf8_lossy(file.0.print(b'F', &mut text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weirds() -> Weirds {
        Weirds::new(&KeyedHasher::with_seed)
    }

    fn conn(last: u8, port: u16) -> Place {
        let (orig, resp) = (Addr::v4([10, 0, 0, last]), Addr::v4([10, 0, 0, 9]));
        Place { whose: Whose::Connection(orig, port, resp, 80), uid: None, id: None }
    }

    fn is_told(weirds: &mut Weirds, name: &'static str, place: &Place, secs: u64) -> bool {
        weirds.is_told((name, false), place, Ts::new(secs, 0)).is_some()
    }

    #[test]
    fn the_same_on_the_same_connection_is_told_again_after_a_while() {
        let mut weirds = weirds();
        let name = "data_before_established";
        assert!(is_told(&mut weirds, name, &conn(1, 1), 100));
        assert!(!is_told(&mut weirds, name, &conn(1, 1), 100 + REPEAT_LIFE_S - 1));
        assert!(is_told(&mut weirds, name, &conn(1, 2), 101));
        assert!(is_told(&mut weirds, name, &conn(1, 1), 100 + REPEAT_LIFE_S));
    }

    #[test]
    fn some_are_told_once_per_originator_and_some_never() {
        let mut weirds = weirds();
        assert!(is_told(&mut weirds, "SYN_with_data", &conn(1, 1), 100));
        assert!(!is_told(&mut weirds, "SYN_with_data", &conn(1, 2), 2000));
        assert!(is_told(&mut weirds, "SYN_with_data", &conn(2, 1), 100));
        assert!(!is_told(&mut weirds, "spontaneous_FIN", &conn(1, 1), 100));
        // Inside of a tunnel it is another name, of which nothing is known.
        let in_tunnel = weirds.is_told(("SYN_with_data", true), &conn(1, 3), Ts::new(100, 0));
        assert_eq!(in_tunnel, Some(Action::Log));
        let notice = weirds.is_told(("FIN_storm", false), &conn(1, 3), Ts::new(100, 0));
        assert_eq!(notice, Some(Action::NoticePerOrig));
    }

    #[test]
    fn what_comes_often_is_sampled() {
        let mut sampler = Sampler::default();
        let taken = (0..2000).filter(|_| sampler.permits(("x", false), Ts::new(100, 0))).count();
        assert_eq!(taken as u64, SAMPLING_THRESHOLD + 1);
        assert!(sampler.permits(("y", false), Ts::new(100, 0)));
        assert!(sampler.permits(("x", false), Ts::new(701, 0)));
        let mut weirds = weirds();
        let pair = (Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2]));
        let mut count = |secs| {
            let taken = (0..100).filter(|_| {
                let of_pair = weirds.permits_pair(("x", false), pair, Ts::new(secs, 0));
                assert_eq!(of_pair, weirds.permits_everywhere(("x", false), Ts::new(secs, 0)));
                of_pair
            });
            taken.count() as u64
        };
        assert_eq!(
            (count(100), count(699), count(700)),
            (SAMPLING_THRESHOLD, 0, SAMPLING_THRESHOLD)
        );
    }
}
