//! Connections that another one announced, such as the data connections of FTP: they begin
//! with an analyzer of their own, whatever their port and content.

use std::net::IpAddr;

use tyto_core::net::Proto;

use super::{Cx, Spec};

/// A connection that will come.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Its originator; `None` when anybody may be.
    pub orig: Option<IpAddr>,
    /// Its responder.
    pub resp: IpAddr,
    /// The responder's port.
    pub resp_port: u16,
    /// Transport.
    pub proto: Proto,
    /// Who analyses it.
    pub spec: &'static Spec,
    /// How long it is waited for, seconds.
    pub timeout_s: u64,
}

impl Cx<'_> {
    /// Announces a connection, to the other workers too (Zeek: `Analyzer::schedule_analyzer`).
    pub fn expect(&mut self, _expected: Expected) {}
}
