//! `software.log`: programs that showed themselves in what they sent.

use std::net::IpAddr;

use crate::analyzer::Cx;

/// What a protocol says of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftwareSeen<'a> {
    /// Kind, such as `HTTP::SERVER`.
    pub software_type: &'static str,
    /// Where it runs.
    pub host: IpAddr,
    /// Its port, of servers.
    pub host_p: Option<u16>,
    /// What it said of itself, to be taken apart into name and version.
    pub unparsed_version: &'a [u8],
}

impl Cx<'_> {
    /// A program showed itself: logged once per host (Zeek: `Software::found`).
    pub fn software(&mut self, _seen: &SoftwareSeen<'_>) {}
}
