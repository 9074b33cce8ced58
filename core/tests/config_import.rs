//! `ctl import`: installations of ZeekControl as they are found in the field become ones that
//! pass our own checks, with a word about each thing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};
use tyto_core::config::error::Faults;
use tyto_core::config::import::{Change, Imported, Installation, import};
use tyto_core::config::logs::Compression;
use tyto_core::config::runtime::Role;
use tyto_core::config::zeekctl_cfg::ZeekctlCfg;
use tyto_core::config::zeekctl_options::{Fate, ZEEKCTL_OPTIONS, zeekctl_option};

fn file<'a>(name: &'a str, text: &'a str) -> ConfigFile<'a> {
    ConfigFile { name, text }
}

fn imported(zeekctl: &str, nodes: &str, networks: &str) -> Imported {
    try_import(zeekctl, nodes, networks).unwrap_or_else(|faults| panic!("{faults}"))
}

fn try_import(zeekctl: &str, nodes: &str, networks: &str) -> Result<Imported, Faults> {
    import(Installation {
        zeekctl: Some(file("zeekctl.cfg", zeekctl)),
        nodes: file("node.cfg", nodes),
        networks: Some(file("networks.cfg", networks)),
    })
}

/// The cluster that the imported files are.
fn cluster(imported: &Imported) -> Cluster {
    Cluster::load(ConfigFiles {
        nodes: file("node.cfg", &imported.node_cfg),
        networks: Some(file("networks.cfg", &imported.networks_cfg)),
        settings: Some(file("tyto.yaml", &imported.tyto_yaml)),
    })
    .unwrap_or_else(|faults| panic!("{faults}\n{}", imported.node_cfg))
}

/// `WHERE WHAT: TEXT` of each note of a kind.
fn notes(imported: &Imported, change: Change) -> Vec<String> {
    let of_kind = imported.notes.iter().filter(|note| note.change == change);
    of_kind.map(|note| format!("{} {}: {}", note.at, note.subject, note.text)).collect()
}

/// `NAME INTERFACE CPU` of each worker.
fn workers(cluster: &Cluster) -> Vec<String> {
    let workers = cluster.nodes.iter().filter(|node| node.role == Role::Worker);
    let shown = workers.map(|node| {
        let cpu = node.cpu.map_or("-".to_owned(), |cpu| cpu.to_string());
        format!("{} {} {cpu}", node.name, node.interface.as_deref().unwrap_or("-"))
    });
    shown.collect()
}

const DEFAULT: [&str; 3] = [
    include_str!("zeekctl/default/zeekctl.cfg"),
    include_str!("zeekctl/default/node.cfg"),
    include_str!("zeekctl/default/networks.cfg"),
];
const SECURITY_ONION: [&str; 3] = [
    include_str!("zeekctl/security-onion/zeekctl.cfg"),
    include_str!("zeekctl/security-onion/node.cfg"),
    include_str!("zeekctl/security-onion/networks.cfg"),
];
const BIG: [&str; 3] = [
    include_str!("zeekctl/big/zeekctl.cfg"),
    include_str!("zeekctl/big/node.cfg"),
    include_str!("zeekctl/big/networks.cfg"),
];
const BRO: [&str; 3] =
    [include_str!("zeekctl/bro/broctl.cfg"), include_str!("zeekctl/bro/node.cfg"), ""];

#[test]
fn a_fresh_installation_keeps_its_node_cfg_to_the_byte() {
    let [zeekctl, nodes, networks] = DEFAULT;
    let imported = imported(zeekctl, nodes, networks);
    assert_eq!(imported.node_cfg, nodes);
    assert_eq!(imported.networks_cfg, networks);
    let cluster = cluster(&imported);
    assert_eq!(cluster.settings.log_rotation_interval_s, 3600);
    assert_eq!(cluster.settings.crash_expire_days, 0);
    assert_eq!(cluster.networks[0].tag, "Private IP space");
    assert_eq!(
        notes(&imported, Change::Taken),
        [
            "zeekctl.cfg:6 LogRotationInterval: log_rotation_interval_s: 3600",
            "zeekctl.cfg:7 LogExpireInterval: log_expire_interval: 0",
            "zeekctl.cfg:11 CrashExpireInterval: crash_expire_days: 0",
        ]
    );
    // Each of the other lines is named.
    assert_eq!(
        notes(&imported, Change::LeftOut).len() + notes(&imported, Change::NotNeeded).len(),
        15
    );
    assert!(notes(&imported, Change::Changed).is_empty());
}

#[test]
fn a_manager_that_is_the_logger_gets_one_beside_it() {
    let [zeekctl, nodes, networks] = SECURITY_ONION;
    let imported = imported(zeekctl, nodes, networks);
    let cluster = cluster(&imported);
    assert!(imported.node_cfg.ends_with("\n[logger-1]\ntype=logger\nhost=localhost\n"));
    assert_eq!(
        workers(&cluster),
        ["worker-1-1 bond0 2", "worker-1-2 bond0 3", "worker-1-3 bond0 4", "worker-1-4 bond0 5"]
    );
    let capture = &cluster.node("worker-1-2").unwrap().capture;
    assert_eq!((capture.fanout_id, capture.fanout_defrag), (None, Some(false)));
    assert_eq!(
        notes(&imported, Change::Changed),
        [
            "node.cfg:1 [manager]: `[logger-1]` on `localhost`: a logger writes the logs, no \
             manager",
            "node.cfg:13 lb_method: af_packet: packets come from AF_PACKET sockets, not by custom",
        ]
    );
}

#[test]
fn each_option_of_a_big_cluster_goes_to_its_place_or_is_named_with_the_reason() {
    let [zeekctl, nodes, networks] = BIG;
    let imported = imported(zeekctl, nodes, networks);
    let settings = cluster(&imported).settings;
    assert_eq!((settings.port, settings.log_rotation_interval_s), (47760, 900));
    // Said twice: the last one counts.
    assert_eq!((settings.stop_timeout_s, settings.command_timeout_s), (60, 90));
    assert_eq!(settings.memory_bytes_max, Some(16 << 30));
    assert_eq!(settings.af_packet.buffer_size_bytes, 256 << 20);
    assert_eq!((settings.snaplen_bytes, settings.crash_expire_days), (1600, 14));
    assert!(settings.ignore_checksums && !settings.private_address_space_is_local);
    assert_eq!(settings.filter.as_deref(), Some("not (host 192.0.2.9 and port 9200)"));
    assert_eq!(settings.log_expire_interval.minutes, 30 * 1440);
    assert_eq!(settings.keep_logs.as_deref(), Some("conn.* dns.*"));
    assert_eq!(settings.compress_logs, Compression::Zstd);
    let env: Vec<_> = settings.env_vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["LD_PRELOAD=/usr/lib/libtcmalloc.so", "ZEEK_DNS_FAKE=1"]);
    let left_out = notes(&imported, Change::LeftOut);
    for start in [
        "zeekctl.cfg:2 MailTo: nothing is mailed",
        "zeekctl.cfg:13 StopTimeout: line 31 says it again, and counts",
        "zeekctl.cfg:18 ZeekArgs policy/tuning/json-logs: Zeek's arguments have no place here",
        "zeekctl.cfg:28 netmap.pipes: it is the option of a plugin that is not there",
        "zeekctl.cfg:30 LogRotationIntervall: ZeekControl does not know it; did you mean \
         `LogRotationInterval`?",
        "zeekctl.cfg:32 SitePolicyPath: Tyto runs no Zeek scripts",
        "networks.cfg:4 203.0.113.5 a host is no network: `203.0.113.5` is not a network",
        "node.cfg:30 aux_scripts=local-a.zeek more-a.zeek: Tyto runs no Zeek scripts",
        "node.cfg:48 zone_id=eth0: scoped IPv6 addresses are not supported",
        "node.cfg:57 af_packet_fanout_mode=AF_Packet::FANOUT_ROLLOVER: `af_packet_fanout_mode` is",
        "node.cfg:60 plugin.key=1: ZeekControl itself does not know it",
    ] {
        assert!(left_out.iter().any(|note| note.starts_with(start)), "{start}\n{left_out:#?}");
    }
    // One word or another about every line of the file.
    let options = zeekctl.lines().filter(|line| line.contains('=')).count();
    let mut lines: Vec<u32> = imported
        .notes
        .iter()
        .filter(|note| &*note.at.file == "zeekctl.cfg")
        .map(|note| note.at.line)
        .collect();
    lines.dedup();
    assert_eq!(lines.len(), options);
}

#[test]
fn sections_with_several_interfaces_become_one_for_each_in_zeekcontrols_order() {
    let [zeekctl, nodes, networks] = BIG;
    let imported = imported(zeekctl, nodes, networks);
    let cluster = cluster(&imported);
    let mut expected: Vec<String> =
        (1..=10).map(|n| format!("worker-a-{n} 99 {}", n + 1)).collect();
    let rest = [
        "worker-d-1 eth5 -",
        "worker-d-2 eth5 -",
        // ZeekControl gives interfaces out from the end of the list, and CPUs from its begin.
        "worker-b-1 eth4 4",
        "worker-b-2 eth3 6",
        "worker-b-3 eth2 4",
        "worker-c-1 eth0 -",
        "worker-c-2 eth1 -",
    ];
    expected.extend(rest.map(str::to_owned));
    assert_eq!(workers(&cluster), expected);
    let env = cluster.env(cluster.node("worker-b-2").unwrap());
    assert_eq!((env["B"].as_str(), env["TZ"].as_str()), ("100%", "UTC"));
    assert_eq!(cluster.node("worker-c-1").unwrap().host, "2001:db8::c");
    let changed = notes(&imported, Change::Changed);
    for part in [
        "node.cfg:26 pf_ring::zc:99@0: 99: a cluster of PF_RING; write the interface it reads",
        "node.cfg:54 myricom::eth5: eth5: packets come from AF_PACKET sockets",
        "node.cfg:51 [worker.d]: `worker-d`: a name is a folder and part of a certificate",
    ] {
        assert!(changed.iter().any(|note| note == part), "{part}\n{changed:#?}");
    }
    // The lines of the operator's file keep their numbers.
    let lines: Vec<&str> = imported.node_cfg.lines().collect();
    assert_eq!(lines[21], "# Ten processes by PF_RING.");
    assert_eq!(lines[29], "#aux_scripts = local-a.zeek  # left out: Tyto runs no Zeek scripts");
    assert_eq!(lines[30], "#\tmore-a.zeek");
}

#[test]
fn an_installation_of_bro_is_one_too() {
    let [broctl, nodes, networks] = BRO;
    let imported = imported(broctl, nodes, networks);
    let cluster = cluster(&imported);
    assert_eq!(cluster.nodes[0].name, "bro");
    assert!(cluster.settings.ignore_checksums);
    assert_eq!(cluster.settings.compress_logs, Compression::Gzip);
    assert_eq!(cluster.settings.memory_bytes_max, None);
    let left_out = notes(&imported, Change::LeftOut);
    for start in ["node.cfg:5 brobase=/opt/bro: ", "zeekctl.cfg:4 SitePolicyManager: "] {
        assert!(left_out.iter().any(|note| note.starts_with(start)), "{start}\n{left_out:#?}");
    }
}

/// What ZeekControl refuses is not ours to guess: all of it is told, with its lines.
#[test]
fn what_zeekcontrol_refuses_too_is_told_and_not_taken() {
    let told = |nodes: &str| try_import("", nodes, "").unwrap_err().to_string();
    assert!(told("host=a\n").starts_with("node.cfg:1: `host=a` stands before"));
    let found = told("[m]\ntype=manager\nhost=h\n[w]\ntype=worker\nhost=h\ninterface=eth0\n");
    assert!(found.starts_with("node.cfg: there is no proxy"), "{found}");
    let found = told("[z]\ntype=standalone\n[y]\ntype=wroker\nhost=h\n");
    assert!(found.contains("node.cfg:1: node `z`: `host` is missing"), "{found}");
    assert!(found.contains("node.cfg:4: node `y`: `type` is `wroker`"), "{found}");
}

#[test]
fn numbers_of_groups_are_made_anew_and_values_out_of_range_are_named() {
    let nodes = "[m]\ntype=manager\nhost=h\n[p]\ntype=proxy\nhost=h\n[l]\ntype=logger\nhost=h\n\
                 [a]\ntype=worker\nhost=s\ninterface=eth0\nlb_method=af_packet\nlb_procs=2\n\
                 af_packet_fanout_id=23\n\
                 [b]\ntype=worker\nhost=s\ninterface=eth1\nlb_method=af_packet\nlb_procs=2\n\
                 af_packet_fanout_id=23\naf_packet_block_size=10000\n";
    let imported = imported("MemLimit = 5\nPcapSnaplen = x\nZeekPort = 80\n", nodes, "");
    assert!(cluster(&imported).nodes.iter().all(|node| node.capture.fanout_id.is_none()));
    let not_needed = notes(&imported, Change::NotNeeded);
    assert_eq!(not_needed.len(), 2);
    assert!(not_needed[0].starts_with("node.cfg:16 af_packet_fanout_id=23: each interface gets"));
    let left_out = notes(&imported, Change::LeftOut).join("\n");
    for part in [
        "zeekctl.cfg:1 MemLimit: `memory_bytes_max` would be 5120; it takes a whole number",
        "zeekctl.cfg:2 PcapSnaplen: `x` is not what ZeekControl takes",
        "zeekctl.cfg:3 ZeekPort: `port` would be 80; it takes a whole number from 1024",
        "node.cfg:24 af_packet_block_size=10000: ",
    ] {
        assert!(left_out.contains(part), "{part}\n{left_out}");
    }
}

#[test]
fn workers_that_saw_all_packets_each_are_told_to_share_them_now() {
    let nodes = "[m]\ntype=manager\nhost=h\n[p]\ntype=proxy\nhost=h\n[l]\ntype=logger\nhost=h\n\
                 [a]\ntype=worker\nhost=s\ninterface=eth0\n[b]\ntype=worker\nhost=s\n\
                 interface=eth0\n";
    let changed = notes(&imported("", nodes, ""), Change::Changed);
    assert_eq!(changed.len(), 1);
    assert!(changed[0].starts_with("node.cfg:14 [b]: it shares the packets of eth0 with `a`"));
}

/// ZeekControl/options.py and the plugins of 2.6.0-67, older names included.
#[test]
fn every_option_of_zeekcontrol_is_in_the_table_once() {
    const NAMES: &str = "\
Debug HaveNFS ClusterBackend SaveTraces StopTimeout CommTimeout ControlTopic CommandTimeout
ZeekPort BroPort MetricsAddress MetricsPort LogRotationInterval LogDir MakeArchiveName CompressLogs
CompressLogsInFlight CompressCmd CompressExtension PrivateAddressSpaceIsLocal SendMail
MailSubjectPrefix MailReplyTo MailTo MailFrom MailAlarmsTo MailAlarmsInterval
MailConnectionSummary MailHostUpDown MailArchiveLogFail MailReceivingPackets MinDiskSpace
StatsLogEnable StatsLogExpireInterval CrashExpireInterval LogExpireInterval KeepLogs ZeekArgs
BroArgs MemLimit Env_Vars TimeFmt Prefixes SitePolicyScripts StatusCmdShowAll StopWait CronCmd
PFRINGClusterID PFRINGClusterType PFRINGFirstAppInstance PcapSnaplen PcapBufsize TimeMachineHost
TimeMachinePort UseWebSocket WebSocketHost WebSocketPort WebSocketUrl WebSocketTimeout ZeekBase
BroBase Version StandAlone OS Time LogExpireMinutes BinDir Zeek Bro ScriptsDir PostProcDir
HelperDir CfgDir SpoolDir BrokerDBDir FileExtractDir PolicyDir StaticDir LibDir LibDir64
LibDirInternal TmpDir TmpExecDir StatsDir PluginDir PluginZeekDir PluginBroDir TraceSummary
CapstatsPath NodeCfg LocalNetsCfg StateFile LockFile DebugLog StatsLog DefaultStoreDir
SitePolicyPath SitePluginPath PolicyDirSiteInstall PolicyDirSiteInstallAuto ZeekCtlConfigDir
BroCtlConfigDir ClusterTopicSeparator cluster_backend_zeromq.use_curve_encryption
cluster_backend_zeromq.curve_dir cluster_backend_zeromq.disable_unencrypted_warning
lb_custom.InterfacePrefix lb_custom.InterfaceSuffix";
    let names: Vec<&str> = NAMES.split_whitespace().collect();
    for name in &names {
        assert!(zeekctl_option(&name.to_lowercase()).is_some(), "{name}");
    }
    let table: Vec<&str> =
        ZEEKCTL_OPTIONS.iter().flat_map(|(_, options)| *options).map(|o| o.name).collect();
    assert_eq!(table.len(), names.len(), "one is there twice, or not ZeekControl's");
    // A key that the table names exists.
    for (_, options) in ZEEKCTL_OPTIONS {
        for option in *options {
            if let Fate::Setting { key, .. } = option.fate {
                assert!(tyto_core::config::setting_keys::setting_key(key).is_some(), "{key}");
            }
        }
    }
}

/// Lines as they may stand in a node.cfg.
fn node_line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "type",
        "host",
        "interface",
        "lb_method",
        "lb_procs",
        "lb_interfaces",
        "pin_cpus",
        "env_vars",
        "aux_scripts",
        "af_packet_fanout_id",
        "af_packet_fanout_mode",
        "x",
    ]);
    let value = prop::sample::select(vec![
        "",
        "worker",
        "manager",
        "proxy",
        "logger",
        "standalone",
        "localhost",
        "h",
        "eth0",
        "eth0 -i eth1",
        "pf_ring::eth0",
        "af_packet::eth0",
        "interfaces",
        "pf_ring",
        "af_packet",
        "2",
        "0",
        "23",
        "a,b",
        "A=1,B=2",
        "%",
        "%(type)s",
        "FANOUT_ROLLOVER",
    ]);
    prop_oneof![
        2 => "\\[[a-cA.]{1,2}\\]",
        9 => (key, value).prop_map(|(key, value)| format!("{key}={value}")),
        1 => prop::sample::select(vec!["", "# c", "[DEFAULT]", "  deeper", "\u{feff}", "word"])
            .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn what_is_imported_passes_the_checks_and_nothing_panics(
        lines in prop::collection::vec(node_line(), 0..14),
        zeekctl in "([A-Za-z]{1,5}|ZeekArgs|MemLimit|Env_Vars|StopTimeout)?[ =]{1,3}[ -~]{0,9}\n",
        networks in "([0-9.:/]{1,12}[ -~]{0,5}\n){0,3}",
    ) {
        let base = "[mm]\ntype=manager\nhost=localhost\n[pp]\ntype=proxy\nhost=localhost\n";
        for nodes in [lines.join("\n"), format!("{base}{}", lines.join("\n"))] {
            match try_import(&zeekctl, &nodes, &networks) {
                Ok(imported) => drop(cluster(&imported)),
                Err(faults) => prop_assert!(!faults.0.is_empty()),
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        drop(try_import(&text, &text, &text));
        let cfg = ZeekctlCfg::parse("f", &text);
        cfg.resolve(&text, "/opt/zeek");
        let files = ConfigFiles {
            nodes: file("n", &text),
            networks: Some(file("w", &text)),
            settings: Some(file("s", &text)),
        };
        drop(Cluster::load(files));
    }
}
