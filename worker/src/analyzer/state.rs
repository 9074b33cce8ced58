//! What all connections of a worker share: options, known things, files, weirds.

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::uid::{Fuid, UidMaker};

use super::dhcp::join::Transactions;
use super::dns::log::Exchange;
use super::expected::ExpectedConns;
use super::ftp::data::Channels;
use super::irc::data::Transfers;
use super::late::Late;
use super::spare::{Spare, SpareDetections};
use super::stage::Stage;
use crate::file::Files;
use crate::flow::hash::KeyedHasher;
use crate::log::known_hosts::KnownHosts;
use crate::log::known_services::KnownServices;
use crate::log::notice::Notices;
use crate::log::software::KnownSoftware;
use crate::log::traceroute::Traceroutes;
use crate::log::tunnel::Tunnels;
use crate::log::unknown_protocols::UnknownProtocols;
use crate::log::weird::Weirds;
use crate::neighbours::Neighbours;
use crate::shed::Shedding;
use crate::site::Site;
use crate::x509::Certificates;

/// State of the worker that analyzers reach through [`super::Cx`].
#[derive(Debug)]
pub struct Shared {
    /// What the operator chose.
    pub config: AnalysisConfig,
    /// Which addresses are local.
    pub site: Site,
    /// Makes ids of connections and files.
    pub uids: UidMaker,
    /// Local hosts that were seen.
    pub known_hosts: KnownHosts,
    /// Files that are carried.
    pub files: Files,
    /// Transactions of DHCP, which run over several connections.
    pub dhcp: Transactions,
    /// What was odd.
    pub weirds: Weirds,
    /// What FTP sessions and their data connections know of each other.
    pub ftp_channels: Channels,
    /// What a person should look at.
    pub notices: Notices,
    /// Programs that showed themselves.
    pub software: KnownSoftware,
    /// Services of local hosts.
    pub known_services: KnownServices,
    /// Who looks for the way to whom.
    pub traceroutes: Traceroutes,
    /// Tunnels that are known.
    pub tunnels: Tunnels,
    /// Protocols that no analyzer knows.
    pub unknown_protocols: UnknownProtocols,
    /// Connections that others announced.
    pub expected: ExpectedConns,
    /// Connections that others may announce late.
    pub late: Late,
    /// The other workers of the cluster.
    pub neighbours: Neighbours,
    /// Files that IRC clients announced.
    pub irc_transfers: Transfers,
    /// Certificates that hosts showed.
    pub certificates: Certificates,
    /// Memory of detections that are over.
    pub spare_detections: SpareDetections,
    /// Memory of stages that are over.
    pub spare_stages: Spare<Stage>,
    /// Memory of exchanges of DNS that are over.
    pub(super) spare_exchanges: Spare<Exchange>,
    /// What is left out because packets come too fast.
    pub shedding: Shedding,
    /// What was refused at a limit.
    pub stats: AnalyzerStats,
}

/// Counters of the analyzers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnalyzerStats {
    /// Protocols that were found and not followed, because the stage had enough.
    pub analyzers_refused: u64,
}

impl Shared {
    /// State of a worker whose ids and hash keys depend on `seed` alone; `hasher_of` gives each
    /// table a key of its own.
    pub fn new(config: &AnalysisConfig, seed: u64, hasher_of: impl Fn(u64) -> KeyedHasher) -> Self {
        Self {
            config: config.clone(),
            site: Site::new(config),
            uids: UidMaker::new(seed),
            known_hosts: KnownHosts::new(hasher_of(3)),
            files: Files::new(config, hasher_of(4)),
            ftp_channels: Channels::new(hasher_of(20)),
            dhcp: Transactions::default(),
            weirds: Weirds::new(&hasher_of),
            notices: Notices::new(hasher_of(13)),
            software: KnownSoftware::new(&hasher_of),
            traceroutes: Traceroutes::new(hasher_of(18)),
            tunnels: Tunnels::default(),
            unknown_protocols: UnknownProtocols::default(),
            known_services: KnownServices::new(hasher_of(16)),
            expected: ExpectedConns::new(hasher_of(17)),
            late: Late::default(),
            neighbours: Neighbours::default(),
            irc_transfers: Transfers::new(hasher_of(21)),
            certificates: Certificates::new(hasher_of(30)),
            spare_detections: SpareDetections::default(),
            spare_stages: Spare::default(),
            spare_exchanges: Spare::default(),
            shedding: Shedding::default(),
            stats: AnalyzerStats::default(),
        }
    }

    /// Entries of tables that were forgotten at their limits.
    pub fn forgotten(&self) -> u64 {
        self.known_hosts.forgotten()
            + self.known_services.forgotten()
            + self.software.forgotten()
            + self.notices.forgotten()
            + self.weirds.forgotten()
            + self.tunnels.refused()
            + self.traceroutes.refused()
            + self.expected.stats().forgotten
            + self.certificates.forgotten()
    }

    /// A new file's id.
    pub fn next_fuid(&mut self) -> Fuid {
        Fuid(self.uids.next_uid())
    }
}
