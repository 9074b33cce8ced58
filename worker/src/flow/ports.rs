//! Ports on which servers are expected (Zeek: `likely_server_ports`, which its default scripts
//! fill; those of its Spicy analyzers, LDAP, PostgreSQL and Redis, included). They decide who is
//! taken for the originator when the begin of a flow was not seen.

/// A set of ports, one bit each.
struct PortSet([u64; 1024]);

impl PortSet {
    const fn of(ports: &[u16]) -> Self {
        let mut bits = [0_u64; 1024];
        let mut index = 0;
        while index < ports.len() {
            bits[(ports[index] >> 6) as usize] |= 1 << (ports[index] & 63);
            index += 1;
        }
        Self(bits)
    }

    fn contains(&self, port: u16) -> bool {
        self.0.get(usize::from(port >> 6)).is_some_and(|word| word >> (port & 63) & 1 != 0)
    }
}

static TCP: PortSet = PortSet::of(&[
    21, 2811, // FTP
    22,   // SSH
    25, 587, // SMTP
    53,  // DNS
    79,  // finger
    80, 81, 631, 1080, 3128, 8000, 8080, 8888, // HTTP, and SOCKS on 1080
    88,   // Kerberos
    135,  // DCE-RPC
    139, 445, // SMB
    143, // IMAP
    443, 465, 563, 585, 614, 636, 989, 990, 992, 993, 995, 5223, // TLS
    502,  // Modbus
    514,  // syslog
    1434, 3306, // MySQL
    1883, // MQTT
    3389, // RDP
    5222, 5269, // XMPP
    5432, // PostgreSQL
    6379, // Redis
    6666, 6667, 6668, 6669,  // IRC
    20000, // DNP3
]);

static UDP: PortSet = PortSet::of(&[
    53, 137, 5353, 5355, // DNS, NetBIOS, mDNS, LLMNR
    67, 4011, // DHCP servers
    88,   // Kerberos
    123,  // NTP
    161, 162,  // SNMP
    443,  // DTLS
    514,  // syslog
    1812, // RADIUS
    2123, 2152,  // GTP
    3389,  // RDP
    3544,  // Teredo
    4754,  // GRE
    4789,  // VXLAN
    5060,  // SIP
    5072,  // AYIYA
    6081,  // Geneve
    20000, // DNP3
]);

/// Whether a TCP server is expected on `port`.
pub fn is_tcp_server(port: u16) -> bool {
    TCP.contains(port)
}

/// Whether a UDP server is expected on `port`.
pub fn is_udp_server(port: u16) -> bool {
    UDP.contains(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_ports_are_told_by_protocol() {
        assert!(is_tcp_server(443) && is_udp_server(443));
        assert!(is_tcp_server(22) && !is_udp_server(22));
        assert!(is_udp_server(67) && !is_udp_server(68));
        assert!(!is_tcp_server(65535) && !is_udp_server(0));
    }
}
