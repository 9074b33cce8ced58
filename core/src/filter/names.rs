//! The words of the language: protocols, named numbers, well-known ports, and what tcpdump
//! knows but we refuse.

use crate::config::nearest::nearest;

/// A protocol that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The link layer itself: `ether`, `link`.
    Link,
    /// Network layers, by Ethernet type.
    Ip,
    Ip6,
    Arp,
    Rarp,
    /// Over IPv4 or IPv6.
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmp6,
    Igmp,
    Igrp,
    Pim,
    Vrrp,
    Carp,
    Ah,
    Esp,
}

/// IP versions that carry a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Ip,
    Ip6,
    Both,
}

impl Protocol {
    /// Its Ethernet type, for a network layer.
    pub(super) const fn ethernet_type(self) -> Option<u32> {
        match self {
            Self::Ip => Some(0x0800),
            Self::Ip6 => Some(0x86dd),
            Self::Arp => Some(0x0806),
            Self::Rarp => Some(0x8035),
            _ => None,
        }
    }

    /// Its number and what carries it, for a protocol over IP.
    pub(super) const fn over_ip(self) -> Option<(u32, Over)> {
        match self {
            Self::Icmp => Some((1, Over::Ip)),
            Self::Igmp => Some((2, Over::Ip)),
            Self::Tcp => Some((6, Over::Both)),
            Self::Igrp => Some((9, Over::Ip)),
            Self::Udp => Some((17, Over::Both)),
            Self::Esp => Some((50, Over::Both)),
            Self::Ah => Some((51, Over::Both)),
            Self::Icmp6 => Some((58, Over::Ip6)),
            Self::Pim => Some((103, Over::Both)),
            Self::Vrrp | Self::Carp => Some((112, Over::Ip)),
            Self::Sctp => Some((132, Over::Both)),
            _ => None,
        }
    }

    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        PROTOCOLS.iter().find(|(_, protocol)| *protocol == self).map_or("link", |(name, _)| name)
    }
}

/// Words for protocols; the first word of each is how it is named in messages.
pub(super) const PROTOCOLS: &[(&str, Protocol)] = &[
    ("ether", Protocol::Link),
    ("link", Protocol::Link),
    ("ip", Protocol::Ip),
    ("ip6", Protocol::Ip6),
    ("arp", Protocol::Arp),
    ("rarp", Protocol::Rarp),
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
    ("icmp", Protocol::Icmp),
    ("icmp6", Protocol::Icmp6),
    ("igmp", Protocol::Igmp),
    ("igrp", Protocol::Igrp),
    ("pim", Protocol::Pim),
    ("vrrp", Protocol::Vrrp),
    ("carp", Protocol::Carp),
    ("ah", Protocol::Ah),
    ("esp", Protocol::Esp),
];

/// Words that are neither protocols nor values.
pub(super) const KEYWORDS: &[&str] = &[
    "src",
    "dst",
    "host",
    "net",
    "mask",
    "port",
    "portrange",
    "proto",
    "gateway",
    "and",
    "or",
    "not",
    "less",
    "greater",
    "len",
    "length",
    "broadcast",
    "multicast",
    "inbound",
    "outbound",
    "ifindex",
    "vlan",
    "mpls",
    "pppoed",
    "pppoes",
];

/// Words of tcpdump's language that Tyto does not take, and what to type instead.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("protochain", "name the protocols; a chain of headers needs a loop, which the kernel refuses"),
    ("byte", "`link[INDEX] = VALUE` tests a byte"),
    ("geneve", "filter by `udp port 6081`"),
    ("vxlan", "filter by `udp port 4789`"),
    ("atalk", "filter by `ether proto`"),
    ("aarp", "filter by `ether proto`"),
    ("decnet", "filter by `ether proto 0x6003`"),
    ("lat", "filter by `ether proto 0x6004`"),
    ("sca", "filter by `ether proto 0x6007`"),
    ("moprc", "filter by `ether proto 0x6002`"),
    ("mopdl", "filter by `ether proto 0x6001`"),
    ("iso", "Tyto reads IP and ARP"),
    ("clnp", "Tyto reads IP and ARP"),
    ("esis", "Tyto reads IP and ARP"),
    ("isis", "Tyto reads IP and ARP"),
    ("stp", "`ether proto 0x42` finds spanning tree frames"),
    ("ipx", "Tyto reads IP and ARP"),
    ("netbeui", "Tyto reads IP and ARP"),
    ("llc", "`link[12:2] <= 1500` finds frames with an LLC header"),
    ("fddi", "type `ether`"),
    ("tr", "type `ether`"),
    ("wlan", "type `ether`"),
    ("radio", "Tyto does not filter 802.11"),
    ("type", "Tyto does not filter 802.11"),
    ("subtype", "Tyto does not filter 802.11"),
    ("dir", "Tyto does not filter 802.11"),
    ("ifname", "capture on that interface"),
    ("on", "capture on that interface"),
    ("rnr", "there is no packet filter of BSD here"),
    ("rulenum", "there is no packet filter of BSD here"),
    ("reason", "there is no packet filter of BSD here"),
    ("rset", "there is no packet filter of BSD here"),
    ("action", "there is no packet filter of BSD here"),
    ("lane", "Tyto does not read ATM"),
    ("vpi", "Tyto does not read ATM"),
    ("vci", "Tyto does not read ATM"),
];

/// Named indices and values of byte tests (pcap-filter(7)).
const CONSTANTS: &[(&str, u32)] = &[
    ("icmptype", 0),
    ("icmpcode", 1),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-sourcequench", 4),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-routeradvert", 9),
    ("icmp-routersolicit", 10),
    ("icmp-timxceed", 11),
    ("icmp-paramprob", 12),
    ("icmp-tstamp", 13),
    ("icmp-tstampreply", 14),
    ("icmp-ireq", 15),
    ("icmp-ireqreply", 16),
    ("icmp-maskreq", 17),
    ("icmp-maskreply", 18),
    ("icmp6type", 0),
    ("icmp6code", 1),
    ("icmp6-destinationunreach", 1),
    ("icmp6-packettoobig", 2),
    ("icmp6-timeexceeded", 3),
    ("icmp6-parameterproblem", 4),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-multicastlistenerquery", 130),
    ("icmp6-multicastlistenerreportv1", 131),
    ("icmp6-multicastlistenerdone", 132),
    ("icmp6-routersolicit", 133),
    ("icmp6-routeradvert", 134),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-neighboradvert", 136),
    ("icmp6-redirect", 137),
    ("icmp6-routerrenum", 138),
    ("icmp6-nodeinformationquery", 139),
    ("icmp6-nodeinformationresponse", 140),
    ("icmp6-ineighbordiscoverysolicit", 141),
    ("icmp6-ineighbordiscoveryadvert", 142),
    ("icmp6-multicastlistenerreportv2", 143),
    ("icmp6-homeagentdiscoveryrequest", 144),
    ("icmp6-homeagentdiscoveryreply", 145),
    ("icmp6-mobileprefixsolicit", 146),
    ("icmp6-mobileprefixadvert", 147),
    ("icmp6-certpathsolicit", 148),
    ("icmp6-certpathadvert", 149),
    ("icmp6-multicastrouteradvert", 151),
    ("icmp6-multicastroutersolicit", 152),
    ("icmp6-multicastrouterterm", 153),
    ("tcpflags", 13),
    ("tcp-fin", 1),
    ("tcp-syn", 2),
    ("tcp-rst", 4),
    ("tcp-push", 8),
    ("tcp-ack", 16),
    ("tcp-urg", 32),
    ("tcp-ece", 64),
    ("tcp-cwr", 128),
];

/// Services by name. The list is our own, so that a filter means the same on every host.
const SERVICES: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap2", 143),
    ("imap", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("bgp", 179),
    ("irc", 194),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("isakmp", 500),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("ftps", 990),
    ("telnets", 992),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("openvpn", 1194),
    ("ms-sql-s", 1433),
    ("radius", 1812),
    ("radius-acct", 1813),
    ("nfs", 2049),
    ("mysql", 3306),
    ("ms-wbt-server", 3389),
    ("sip", 5060),
    ("sip-tls", 5061),
    ("mdns", 5353),
    ("postgresql", 5432),
    ("amqp", 5672),
    ("x11", 6000),
    ("redis", 6379),
    ("http-alt", 8080),
    ("vxlan", 4789),
];

/// Numbers of protocols over IP, for `proto`.
const IP_PROTOCOLS: &[(&str, u32)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("igrp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("carp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// Ethernet types, for `ether proto`.
const ETHERNET_TYPES: &[(&str, u32)] = &[
    ("ip", 0x0800),
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("ip6", 0x86dd),
    ("lldp", 0x88cc),
    ("mopdl", 0x6001),
    ("moprc", 0x6002),
    ("decnet", 0x6003),
    ("lat", 0x6004),
    ("sca", 0x6007),
];

/// The protocol of this name.
pub(super) fn protocol(word: &str) -> Option<Protocol> {
    find(PROTOCOLS, word)
}

/// The number of this name in a byte test.
pub(super) fn constant(word: &str) -> Option<u32> {
    find(CONSTANTS, word)
}

/// The port of this name.
pub(super) fn service(word: &str) -> Option<u16> {
    find(SERVICES, word)
}

/// The number of this protocol over IP.
pub(super) fn ip_protocol(word: &str) -> Option<u32> {
    find(IP_PROTOCOLS, word)
}

/// The Ethernet type of this name.
pub(super) fn ethernet_type(word: &str) -> Option<u32> {
    find(ETHERNET_TYPES, word)
}

/// What to type instead of a word that tcpdump knows and we do not.
pub(super) fn refused(word: &str) -> Option<&'static str> {
    find(REFUSED, word)
}

/// Whether the word has a meaning of its own, so that it is no name or value.
pub(super) fn is_reserved(word: &str) -> bool {
    KEYWORDS.contains(&word) || protocol(word).is_some() || refused(word).is_some()
}

/// The keyword, protocol or named number nearest to a mistyped word.
pub(super) fn nearest_word(word: &str) -> Option<&'static str> {
    let words = KEYWORDS.iter().copied();
    nearest(word, words.chain(names(PROTOCOLS)).chain(names(CONSTANTS)))
}

/// The service nearest to a mistyped word.
pub(super) fn nearest_service(word: &str) -> Option<&'static str> {
    nearest(word, names(SERVICES))
}

/// The protocol over IP, or the Ethernet type, nearest to a mistyped word.
pub(super) fn nearest_protocol_number(word: &str, is_link: bool) -> Option<&'static str> {
    nearest(word, names(if is_link { ETHERNET_TYPES } else { IP_PROTOCOLS }))
}

fn names<T>(table: &'static [(&'static str, T)]) -> impl Iterator<Item = &'static str> {
    table.iter().map(|(name, _)| *name)
}

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}
