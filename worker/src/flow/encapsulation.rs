//! The tunnels around a connection: the outermost first, and all that were ever the innermost.

use std::collections::BTreeSet;

use tyto_core::uid::Uid;

/// Tunnels within tunnels that are followed (Zeek: `Tunnel::max_depth`).
pub const TUNNEL_DEPTH_MAX: usize = 4;
/// Changes of a connection's tunnels that are noted (Zeek: `max_changes_per_connection`).
const CHANGES_MAX: u8 = 5;
/// The same, as its weird shows it.
const CHANGES_MAX_TEXT: &str = "5";

/// Kind of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// IP in IP.
    Ip,
    /// GRE, also in UDP.
    Gre,
    /// VXLAN.
    Vxlan,
    /// Geneve.
    Geneve,
    /// GTP version 1.
    Gtp,
    /// Teredo.
    Teredo,
    /// AYIYA.
    Ayiya,
}

impl TunnelKind {
    /// Its bit in a set of kinds.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The name of its analyzer; in lower case the `service` of conn.log.
    pub const fn analyzer(self) -> &'static str {
        match self {
            Self::Ip => "IPTUNNEL",
            Self::Gre => "GRE",
            Self::Vxlan => "VXLAN",
            Self::Geneve => "GENEVE",
            Self::Gtp => "GTPV1",
            Self::Teredo => "TEREDO",
            Self::Ayiya => "AYIYA",
        }
    }

    /// Its name in tunnel.log.
    pub const fn log_name(self) -> &'static str {
        match self {
            Self::Ip => "Tunnel::IP",
            Self::Gre => "Tunnel::GRE",
            Self::Vxlan => "Tunnel::VXLAN",
            Self::Geneve => "Tunnel::GENEVE",
            Self::Gtp => "Tunnel::GTPv1",
            Self::Teredo => "Tunnel::TEREDO",
            Self::Ayiya => "Tunnel::AYIYA",
        }
    }
}

/// One tunnel: its kind and the id under which it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Kind.
    pub kind: TunnelKind,
    /// Id of the outer connection, or of the tunnel where the outer packets are none.
    pub uid: Uid,
}

/// The tunnels around a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelStack {
    tunnels: [Option<Tunnel>; TUNNEL_DEPTH_MAX],
}

/// The tunnels around a connection over its life.
#[derive(Debug)]
pub struct Encapsulation {
    now: TunnelStack,
    parents: BTreeSet<Uid>,
    changes: u8,
}

/// What a packet changed of the tunnels around its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The tunnels are others.
    Noted,
    /// They are others, but so many changes are not noted.
    TooMany(&'static str),
}

impl TunnelStack {
    /// The stack with `tunnel` inside; `None` when that is too deep.
    pub fn inside(mut self, tunnel: Tunnel) -> Option<Self> {
        let free = self.tunnels.iter_mut().find(|slot| slot.is_none())?;
        *free = Some(tunnel);
        Some(self)
    }

    /// Whether no further tunnel fits.
    pub const fn is_full(&self) -> bool {
        matches!(self.tunnels, [_, _, _, Some(_)])
    }

    /// The tunnels, the outermost first.
    pub fn iter(&self) -> impl Iterator<Item = Tunnel> {
        self.tunnels.iter().flatten().copied()
    }

    /// The innermost tunnel.
    pub fn last(&self) -> Option<Tunnel> {
        self.tunnels.iter().rev().flatten().next().copied()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.tunnels[0].is_none()
    }
}

impl Encapsulation {
    /// A connection that began within `stack`; `None` outside of any tunnel.
    pub fn at_begin(stack: TunnelStack) -> Option<Box<Self>> {
        let parent = stack.last()?.uid;
        Some(Box::new(Self { now: stack, parents: BTreeSet::from([parent]), changes: 0 }))
    }

    /// The next packet came within `stack`.
    pub fn check(slot: &mut Option<Box<Self>>, stack: TunnelStack) -> Change {
        let Some(encapsulation) = slot else {
            *slot = Self::at_begin(stack);
            if let Some(begun) = slot {
                begun.changes = 1;
            }
            return Change::Noted;
        };
        if encapsulation.now == stack {
            return Change::None;
        }
        encapsulation.now = stack;
        if encapsulation.changes >= CHANGES_MAX {
            return Change::TooMany(CHANGES_MAX_TEXT);
        }
        encapsulation.changes += 1;
        encapsulation.parents.extend(stack.last().map(|tunnel| tunnel.uid));
        Change::Noted
    }

    /// Ids of all tunnels that were the innermost.
    pub const fn parents(&self) -> &BTreeSet<Uid> {
        &self.parents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(lo: u64) -> Tunnel {
        Tunnel { kind: TunnelKind::Gre, uid: Uid { hi: 0, lo } }
    }

    #[test]
    fn tunnels_stack_up_to_the_limit() {
        let mut stack = TunnelStack::default();
        for depth in 0..TUNNEL_DEPTH_MAX as u64 {
            assert!(!stack.is_full());
            stack = stack.inside(tunnel(depth)).unwrap();
        }
        assert!(stack.is_full());
        assert_eq!(stack.inside(tunnel(9)), None);
        assert_eq!(stack.last(), Some(tunnel(3)));
    }

    #[test]
    fn a_connection_keeps_the_parents_it_had_up_to_the_limit() {
        let within = |lo| TunnelStack::default().inside(tunnel(lo)).unwrap();
        let mut slot = Encapsulation::at_begin(within(0));
        for lo in 1..=u64::from(CHANGES_MAX) {
            assert_eq!(Encapsulation::check(&mut slot, within(lo)), Change::Noted);
        }
        let change = Encapsulation::check(&mut slot, within(99));
        assert_eq!(change, Change::TooMany(CHANGES_MAX_TEXT));
        assert_eq!(CHANGES_MAX_TEXT, CHANGES_MAX.to_string());
        assert_eq!(slot.unwrap().parents().len(), usize::from(CHANGES_MAX) + 1);
    }

    #[test]
    fn leaving_a_tunnel_keeps_its_parent() {
        let mut slot = None;
        Encapsulation::check(&mut slot, TunnelStack::default());
        assert!(slot.is_none());
        Encapsulation::check(&mut slot, TunnelStack::default().inside(tunnel(1)).unwrap());
        Encapsulation::check(&mut slot, TunnelStack::default());
        assert_eq!(slot.unwrap().parents().len(), 1);
    }
}
