//! The name of a flow in the table: the same for both directions.

use crate::decode::addr::Addr;

/// Addresses and ports in canonical order, and the IP protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    a: Addr,
    b: Addr,
    ports: u32,
    ip_proto: u8,
}

impl FlowKey {
    /// The key of a packet. One-way messages (most of ICMP) are a flow of their own in each
    /// direction.
    pub fn new(src: (Addr, u16), dst: (Addr, u16), ip_proto: u8, is_one_way: bool) -> Self {
        let ((a, a_port), (b, b_port)) =
            if is_one_way || src < dst { (src, dst) } else { (dst, src) };
        Self { a, b, ports: u32::from(a_port) << 16 | u32::from(b_port), ip_proto }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key_unless_they_are_one_way() {
        let (a, b) = ((Addr::v4([192, 0, 2, 1]), 9), (Addr::v4([192, 0, 2, 2]), 1));
        assert_eq!(FlowKey::new(a, b, 6, false), FlowKey::new(b, a, 6, false));
        assert_ne!(FlowKey::new(a, b, 1, true), FlowKey::new(b, a, 1, true));
        assert_ne!(FlowKey::new(a, b, 6, false), FlowKey::new(a, b, 17, false));
    }
}
