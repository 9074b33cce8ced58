//! Meaning into tests of bytes, for one kind of link. Order matters in two ways: a load past
//! the end of a packet means "no match" at once, so tests come in the order in which libpcap
//! makes them; and `vlan`, `mpls` and `pppoes` move what follows in the text, whatever stands
//! between.

use super::Target;
use super::ast::{Direction, Expression, Test};
use super::condition::{Condition, Size};
use super::error::FilterError;
use super::instruction::{Instruction, ancillary, op};
use super::link::{Link, ip_version};
use super::names::{Over, Protocol};

const IP: u32 = 0x0800;
const IP6: u32 = 0x86dd;
const ARP: u32 = 0x0806;
const RARP: u32 = 0x8035;
const VLAN_TYPES: [u32; 3] = [0x8100, 0x88a8, 0x9100];
const MPLS: u32 = 0x8847;
const MPLS_OVER_PPP: u32 = 0x281;
const PPPOE_DISCOVERY: u32 = 0x8863;
const PPPOE_SESSION: u32 = 0x8864;
/// Length of an IPv6 header without extensions.
pub(super) const IP6_HEADER_LEN: u32 = 40;
/// Next-header number of the fragment header (RFC 8200 section 4.5).
const FRAGMENT_HEADER: u32 = 44;
/// Transport protocols with ports, in libpcap's order.
const WITH_PORTS: [u32; 3] = [132, 6, 17];

/// Where the outer VLAN tag of a live frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OuterTag {
    /// In the frame's bytes, if there is one.
    InFrame,
    /// The kernel took one out of the frame.
    Extracted,
}

/// Makes conditions; knows how far into the frame the words so far have led.
pub(super) struct Generator {
    pub(super) link: Link,
    target: Target,
    /// The next `vlan` means the tag that the kernel took out.
    extracted_tag: bool,
    pub(super) link_at: u32,
    protocol_at: u32,
    pub(super) network_at: u32,
    mpls_labels: u32,
}

impl Generator {
    pub(super) fn new(link: Link, target: Target, outer_tag: OuterTag) -> Self {
        Self {
            link,
            target,
            extracted_tag: outer_tag == OuterTag::Extracted,
            link_at: 0,
            protocol_at: link.protocol_at(),
            network_at: link.network_at(),
            mpls_labels: 0,
        }
    }

    pub(super) fn expression(&mut self, part: &Expression) -> Result<Condition, FilterError> {
        match part {
            Expression::Chain(first, rest) => {
                let mut chain = self.expression(first)?;
                for (joint, next) in rest {
                    chain = chain.join(*joint, self.expression(next)?);
                }
                Ok(chain)
            }
            Expression::Not(inner) => Ok(self.expression(inner)?.negate()),
            Expression::Test { test, column } => self.test(test, *column),
        }
    }

    fn test(&mut self, test: &Test, column: usize) -> Result<Condition, FilterError> {
        match test {
            Test::Protocol(protocol) => self.is_protocol(*protocol, column),
            Test::Ipv4 { protocol, direction, address, mask } => {
                self.ipv4(*protocol, *direction, *address, *mask, column)
            }
            Test::Ipv6 { direction, address, prefix_len } => {
                self.ipv6(*direction, address.to_bits(), *prefix_len, column)
            }
            Test::Ethernet { direction, address } => self.ethernet(*direction, *address, column),
            Test::Port { protocol, direction, first, last } => {
                let numbers = match protocol.and_then(Protocol::over_ip) {
                    Some((number, _)) => vec![number],
                    None => WITH_PORTS.to_vec(),
                };
                self.port(&numbers, *direction, (*first, *last), column)
            }
            Test::ProtocolNumber { below, number } => match below {
                None => self.carried(*number, Over::Both, column),
                Some(Protocol::Ip) => self.carried(*number, Over::Ip, column),
                Some(Protocol::Ip6) => self.carried(*number, Over::Ip6, column),
                Some(_) => self.link_carries(*number, column),
            },
            Test::Broadcast => {
                self.must_be_ethernet("broadcast", column)?;
                Ok(self.link_address(0, [0xff; 6]))
            }
            Test::Multicast(of) => self.multicast(*of, column),
            Test::LengthAtMost(bytes) => Ok(length(op::JGT, *bytes).negate()),
            Test::LengthAtLeast(bytes) => Ok(length(op::JGE, *bytes)),
            Test::Inbound => Ok(self.outgoing("inbound", column)?.negate()),
            Test::Outbound => self.outgoing("outbound", column),
            Test::Interface(number) => self.interface(*number, column),
            Test::Vlan(id) => self.vlan(*id, column),
            Test::Mpls(label) => self.mpls(*label, column),
            Test::PppoeDiscovery => self.link_carries(PPPOE_DISCOVERY, column),
            Test::PppoeSession(session) => self.pppoe_session(*session, column),
            Test::Relation { left, relation, right } => self.relation(left, *relation, right),
        }
    }

    /// The network packet is of this Ethernet type.
    pub(super) fn link_carries(&self, kind: u32, column: usize) -> Result<Condition, FilterError> {
        if self.mpls_labels == 0 {
            return Ok(self.link.carries(self.protocol_at, self.network_at, kind));
        }
        // Behind the bottom of the stack, only the first bits say what it is.
        let version = match kind {
            IP => 4,
            IP6 => 6,
            _ => {
                let message = "behind `mpls` only IPv4 and IPv6 can be told";
                return Err(FilterError::new(column, message));
            }
        };
        let is_bottom = Condition::masked(Size::Byte, self.network_at - 2, 1, 1);
        Ok(is_bottom.and(ip_version(self.network_at, version)))
    }

    pub(super) fn is_protocol(
        &self,
        protocol: Protocol,
        column: usize,
    ) -> Result<Condition, FilterError> {
        match (protocol.ethernet_type(), protocol.over_ip()) {
            (Some(kind), _) => self.link_carries(kind, column),
            (None, Some((number, over))) => self.carried(number, over, column),
            (None, None) => Ok(Condition::Constant(true)),
        }
    }

    /// IP carries this protocol. In IPv6 it is the first header, or stands behind a fragment
    /// header; other extension headers are not looked behind, as in tcpdump.
    fn carried(&self, number: u32, over: Over, column: usize) -> Result<Condition, FilterError> {
        let in_ipv4 = || -> Result<Condition, FilterError> {
            Ok(self.link_carries(IP, column)?.and(self.ipv4_protocol(number)))
        };
        let in_ipv6 =
            || -> Result<Condition, FilterError> {
                let behind_fragment = self
                    .network(Size::Byte, 6, FRAGMENT_HEADER)
                    .and(self.network(Size::Byte, IP6_HEADER_LEN, number));
                let first = self.network(Size::Byte, 6, number);
                Ok(self.link_carries(IP6, column)?.and(first.or(behind_fragment)))
            };
        match over {
            Over::Ip => in_ipv4(),
            Over::Ip6 => in_ipv6(),
            Over::Both => {
                let first = in_ipv4()?;
                Ok(first.or(in_ipv6()?))
            }
        }
    }

    /// Bytes of the network packet are `value`.
    pub(super) fn network(&self, size: Size, offset: u32, value: u32) -> Condition {
        Condition::equal(size, self.network_at + offset, value)
    }

    pub(super) fn ipv4_protocol(&self, number: u32) -> Condition {
        self.network(Size::Byte, 9, number)
    }

    /// The IPv4 packet is whole or the first fragment: only those have a transport header.
    pub(super) fn not_a_later_fragment(&self) -> Condition {
        Condition::compared(Size::Half, self.network_at + 6, op::JSET, 0x1fff).negate()
    }

    fn ipv4(
        &self,
        protocol: Option<Protocol>,
        direction: Direction,
        address: u32,
        mask: u32,
        column: usize,
    ) -> Result<Condition, FilterError> {
        let within = |kind, source, destination| -> Result<Condition, FilterError> {
            let at =
                |offset| Condition::masked(Size::Word, self.network_at + offset, mask, address);
            Ok(self.link_carries(kind, column)?.and(either(direction, at(source), at(destination))))
        };
        let in_arp = |kind| within(kind, 14, 24);
        match protocol {
            Some(Protocol::Arp) => in_arp(ARP),
            Some(Protocol::Rarp) => in_arp(RARP),
            Some(_) => within(IP, 12, 16),
            // Behind MPLS there is no ARP.
            None if self.mpls_labels > 0 => within(IP, 12, 16),
            None => Ok(within(IP, 12, 16)?.or(in_arp(ARP)?).or(in_arp(RARP)?)),
        }
    }

    fn ipv6(
        &self,
        direction: Direction,
        address: u128,
        prefix_len: u8,
        column: usize,
    ) -> Result<Condition, FilterError> {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
        let at = |offset: u32| {
            (0..4)
                .map(|word| {
                    let part = |of: u128| {
                        u32::try_from(of >> (96 - 32 * word) & u128::from(u32::MAX)).unwrap_or(0)
                    };
                    let place = self.network_at + offset + 4 * word;
                    Condition::masked(Size::Word, place, part(mask), part(address))
                })
                .fold(Condition::Constant(true), Condition::and)
        };
        Ok(self.link_carries(IP6, column)?.and(either(direction, at(8), at(24))))
    }

    fn ethernet(
        &self,
        direction: Direction,
        address: [u8; 6],
        column: usize,
    ) -> Result<Condition, FilterError> {
        self.must_be_ethernet("ether host", column)?;
        Ok(either(direction, self.link_address(6, address), self.link_address(0, address)))
    }

    /// The Ethernet address at `offset`; its last four bytes first, as they differ more often.
    fn link_address(&self, offset: u32, address: [u8; 6]) -> Condition {
        let [a, b, c, d, e, f] = address;
        let at = self.link_at + offset;
        Condition::equal(Size::Word, at + 2, u32::from_be_bytes([c, d, e, f]))
            .and(Condition::equal(Size::Half, at, u32::from_be_bytes([0, 0, a, b])))
    }

    /// Ports of any of the protocols, in IPv6 (directly behind its header) or IPv4.
    fn port(
        &self,
        protocols: &[u32],
        direction: Direction,
        ports: (u16, u16),
        column: usize,
    ) -> Result<Condition, FilterError> {
        let any = |test: &dyn Fn(u32) -> Condition| {
            protocols.iter().map(|number| test(*number)).reduce(Condition::or)
        };
        let ipv6 = any(&|number| {
            let at = |offset| {
                let place = self.network_at + IP6_HEADER_LEN + offset;
                range(vec![Instruction::new(op::LD_H_ABS, place)], ports)
            };
            self.network(Size::Byte, 6, number).and(either(direction, at(0), at(2)))
        });
        let ipv4 = any(&|number| {
            let at = |offset| {
                let load = vec![
                    Instruction::new(op::LDX_MSH, self.network_at),
                    Instruction::new(op::LD_H_IND, self.network_at + offset),
                ];
                range(load, ports)
            };
            let is_first = self.ipv4_protocol(number).and(self.not_a_later_fragment());
            is_first.and(either(direction, at(0), at(2)))
        });
        let never = || Condition::Constant(false);
        let ipv6 = self.link_carries(IP6, column)?.and(ipv6.unwrap_or_else(never));
        Ok(ipv6.or(self.link_carries(IP, column)?.and(ipv4.unwrap_or_else(never))))
    }

    fn multicast(&self, of: Option<Protocol>, column: usize) -> Result<Condition, FilterError> {
        let compared = |offset, code, value| {
            Condition::compared(Size::Byte, self.network_at + offset, code, value)
        };
        match of {
            Some(Protocol::Ip) => {
                Ok(self.link_carries(IP, column)?.and(compared(16, op::JGE, 224)))
            }
            Some(Protocol::Ip6) => {
                Ok(self.link_carries(IP6, column)?.and(compared(24, op::JEQ, 255)))
            }
            _ => {
                self.must_be_ethernet("multicast", column)?;
                Ok(Condition::compared(Size::Byte, self.link_at, op::JSET, 1))
            }
        }
    }

    fn outgoing(&self, word: &str, column: usize) -> Result<Condition, FilterError> {
        match (self.link, self.target) {
            (_, Target::Live { .. }) => {
                let load = vec![Instruction::new(op::LD_B_ABS, ancillary::PACKET_TYPE)];
                Ok(Condition::test(load, op::JEQ, ancillary::PACKET_OUTGOING))
            }
            (Link::Cooked, _) => Ok(Condition::equal(Size::Half, 0, ancillary::PACKET_OUTGOING)),
            (Link::Cooked2, _) => Ok(Condition::equal(Size::Byte, 10, ancillary::PACKET_OUTGOING)),
            (link, Target::File { .. }) => {
                let message = format!("a file of {} does not tell what was {word}", link.name());
                let hint = "filter by the host's addresses: `src host ADDRESS`";
                Err(FilterError::new(column, message).hint(hint))
            }
        }
    }

    fn interface(&self, number: u32, column: usize) -> Result<Condition, FilterError> {
        match (self.link, self.target) {
            (_, Target::Live { .. }) => {
                let load = vec![Instruction::new(op::LD_W_ABS, ancillary::INTERFACE)];
                Ok(Condition::test(load, op::JEQ, number))
            }
            (Link::Cooked2, _) => Ok(Condition::equal(Size::Word, 4, number)),
            (link, Target::File { .. }) => {
                let message = format!("a file of {} does not tell the interface", link.name());
                Err(FilterError::new(column, message))
            }
        }
    }

    fn vlan(&mut self, id: Option<u16>, column: usize) -> Result<Condition, FilterError> {
        self.must_be_ethernet("vlan", column)?;
        if self.mpls_labels > 0 {
            return Err(FilterError::new(column, "`vlan` behind `mpls` cannot be told"));
        }
        let id = id.map(u32::from);
        if std::mem::take(&mut self.extracted_tag) {
            // That there is a tag was tested before this condition is tried at all.
            return Ok(id.map_or(Condition::Constant(true), |id| {
                let load = vec![
                    Instruction::new(op::LD_H_ABS, ancillary::VLAN_TAG),
                    Instruction::new(op::AND, 0xfff),
                ];
                Condition::test(load, op::JEQ, id)
            }));
        }
        let mut tagged = Condition::Constant(false);
        for kind in VLAN_TYPES {
            tagged = tagged.or(self.link_carries(kind, column)?);
        }
        if let Some(id) = id {
            tagged = tagged.and(Condition::masked(Size::Half, self.network_at, 0xfff, id));
        }
        self.protocol_at += 4;
        self.network_at += 4;
        Ok(tagged)
    }

    fn mpls(&mut self, label: Option<u32>, column: usize) -> Result<Condition, FilterError> {
        let mut labelled = if self.mpls_labels > 0 {
            // The label before must not be the last.
            Condition::compared(Size::Byte, self.network_at - 2, op::JSET, 1).negate()
        } else {
            match self.link {
                Link::Ethernet => self.link_carries(MPLS, column)?,
                Link::Ppp | Link::BarePpp => {
                    Condition::equal(Size::Half, self.protocol_at, MPLS_OVER_PPP)
                }
                _ => return Err(self.no_such("mpls", "Ethernet or PPP", column)),
            }
        };
        if let Some(label) = label {
            let mask = 0xffff_f000;
            let value = label << 12;
            labelled = labelled.and(Condition::masked(Size::Word, self.network_at, mask, value));
        }
        self.network_at += 4;
        self.mpls_labels += 1;
        Ok(labelled)
    }

    fn pppoe_session(
        &mut self,
        session: Option<u16>,
        column: usize,
    ) -> Result<Condition, FilterError> {
        let mut in_session = self.link_carries(PPPOE_SESSION, column)?;
        if let Some(session) = session {
            let test = Condition::masked(Size::Word, self.network_at, 0xffff, session.into());
            in_session = in_session.and(test);
        }
        // Six bytes of PPPoE (RFC 2516 section 4), then PPP's protocol number.
        self.link = Link::BarePpp;
        self.link_at = self.network_at + 6;
        self.protocol_at = self.link_at;
        self.network_at = self.link_at + self.link.network_at();
        Ok(in_session)
    }

    fn must_be_ethernet(&self, word: &str, column: usize) -> Result<(), FilterError> {
        if self.link == Link::Ethernet {
            return Ok(());
        }
        Err(self.no_such(word, "Ethernet", column))
    }

    fn no_such(&self, word: &str, expected: &str, column: usize) -> FilterError {
        let found = format!("`{word}` on {}", self.link.name());
        FilterError::expected(column, &found, &format!("it on {expected}"))
    }
}

/// A port from first to last; ports are what `load` brings into A.
fn range(load: Vec<Instruction>, (first, last): (u16, u16)) -> Condition {
    if first == last {
        return Condition::test(load, op::JEQ, first.into());
    }
    let from = Condition::test(load.clone(), op::JGE, first.into());
    from.and(Condition::test(load, op::JGT, last.into()).negate())
}

fn length(code: u16, bytes: u32) -> Condition {
    Condition::test(vec![Instruction::new(op::LD_LEN, 0)], code, bytes)
}

fn either(direction: Direction, source: Condition, destination: Condition) -> Condition {
    match direction {
        Direction::Source => source,
        Direction::Destination => destination,
        Direction::Either => source.or(destination),
        Direction::Both => source.and(destination),
    }
}
