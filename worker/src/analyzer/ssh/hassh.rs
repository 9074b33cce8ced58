//! Fingerprints of what the sides of a key exchange offer (hassh 1.1, as the Zeek package
//! `hassh` logs them): MD5 over the names of algorithms, in the order they are offered.

use tyto_core::net::Side;
use tyto_core::record::LogRecord;

use super::kex::{Offer, first_names};
use super::log::SshLog;
use crate::analyzer::text::hex;

/// What `hasshVersion` says: which lists are put together, and how.
const VERSION: &str = "1.1";

/// The columns of hassh.
#[derive(Clone, Debug, Default, LogRecord)]
pub(super) struct Hassh {
    /// Version of the fingerprints.
    #[log(name = "hasshVersion")]
    pub version: Option<String>,
    /// MD5 of what the client offers.
    pub hassh: Option<String>,
    /// MD5 of what the server offers.
    #[log(name = "hasshServer")]
    pub hassh_server: Option<String>,
    /// Kinds of host keys that the client takes.
    pub cshka: Option<Vec<u8>>,
    /// What the client offers: key exchange, encryption, integrity, compression.
    #[log(name = "hasshAlgorithms")]
    pub algorithms: Option<Vec<u8>>,
    /// Kinds of host keys that the server has.
    pub sshka: Option<Vec<u8>>,
    /// What the server offers: key exchange, encryption, integrity, compression.
    #[log(name = "hasshServerAlgorithms")]
    pub server_algorithms: Option<Vec<u8>>,
}

/// An SSH connection with fingerprints.
#[derive(Debug, LogRecord)]
#[log(stream = "ssh")]
pub(super) struct SshLogWithHassh {
    /// What is always told.
    #[log(flatten)]
    pub ssh: SshLog,
    /// The fingerprints.
    #[log(flatten)]
    pub hassh: Hassh,
}

impl Hassh {
    /// A side told what it offers.
    pub(super) fn offered(&mut self, side: Side, offer: &Offer) {
        // Of the lists by direction, those for what the side itself sends.
        let lists = offer.sent_by(side).map(first_names);
        let algorithms = lists.join(&b';');
        let digest = hex(&fast_md5::digest(&algorithms));
        let host_keys = first_names(offer.host_key()).to_vec();
        self.version = Some(VERSION.to_owned());
        match side {
            Side::Orig => {
                self.hassh = Some(digest);
                self.cshka = Some(host_keys);
                self.algorithms = Some(algorithms);
            }
            Side::Resp => {
                self.hassh_server = Some(digest);
                self.sshka = Some(host_keys);
                self.server_algorithms = Some(algorithms);
            }
        }
    }
}
