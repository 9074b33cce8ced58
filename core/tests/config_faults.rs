//! What the operator reads when a file is wrong: each message, word for word, with its hint.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};
use tyto_core::config::error::Faults;

/// A good cluster in eight lines; the cases come behind it.
const BASE: &str = "[DEFAULT]\nhost=10.0.0.1\n[manager]\ntype=manager\n[logger-1]\ntype=logger\n\
                    [proxy-1]\ntype=proxy\n";

fn load(nodes: &str, networks: &str, settings: &str) -> Result<Cluster, Faults> {
    let file = |name, text| ConfigFile { name, text };
    Cluster::load(ConfigFiles {
        nodes: file("node.cfg", nodes),
        networks: Some(file("networks.cfg", networks)),
        settings: Some(file("tyto.yaml", settings)),
    })
}

/// Faults of a node.cfg.
fn faults(nodes: &str) -> String {
    load(nodes, "", "").map_or_else(|faults| faults.to_string(), |_| "none".to_owned())
}

/// Faults of a worker's section behind a good cluster; its header is line 9.
fn worker(keys: &str) -> String {
    faults(&format!("{BASE}[w]\ntype=worker\n{keys}\n"))
}

/// Warnings of such a worker.
fn warnings(keys: &str) -> Vec<String> {
    let cluster = load(&format!("{BASE}[w]\ntype=worker\n{keys}\n"), "", "").unwrap();
    cluster.warnings.iter().map(ToString::to_string).collect()
}

/// The example of the conventions.
#[test]
fn a_fault_says_file_line_found_expected_and_a_hint() {
    assert_eq!(
        worker("interface=eth0\nlb_method=af_packet\nlb_procs=four"),
        "node.cfg:13: node `w`: `lb_procs` is `four`; expected a whole number from 1 to 256\n\
         hint: one process per receive queue is usual; `ethtool -l eth0` lists the queues"
    );
}

#[test]
fn all_faults_of_all_files_come_at_once_in_the_order_of_the_files() {
    let nodes = format!("{BASE}[w]\ntype=worker\nlb_procs=0\npin_cpus=x\n");
    let found = load(&nodes, "10.0.0.1\n", "port: 1\nsnaplen_bytes: 0\n").unwrap_err();
    let places: Vec<String> = found.0.iter().map(|fault| fault.at.to_string()).collect();
    assert_eq!(
        places,
        [
            "node.cfg:11",
            "node.cfg:11",
            "node.cfg:12",
            "networks.cfg:1",
            "tyto.yaml:1",
            "tyto.yaml:2"
        ]
    );
}

#[test]
fn faults_of_the_grammar() {
    assert_eq!(
        faults("host=a\ntype=b\n[zeek]\ntype=standalone\nhost=localhost\n"),
        "node.cfg:1: `host=a` stands before the first section\n\
         hint: put the name of a node above it, such as `[worker-1]`"
    );
    assert_eq!(
        worker("interface"),
        "node.cfg:11: `interface` is neither a `[section]` nor `key=value`"
    );
    assert_eq!(worker("=eth0"), "node.cfg:11: value `=eth0` has no key");
    assert_eq!(
        worker("[manager]\nnonsense=1"),
        "node.cfg:11: section `[manager]` is given twice; it is already on line 3\n\
         hint: join the two or rename one of them"
    );
    assert_eq!(
        worker("TYPE=worker"),
        "node.cfg:11: `type` is given twice in `[w]`; it is already on line 10\n\
         hint: delete one of the two lines"
    );
    assert_eq!(
        worker("af_packet.fanout_id=1\naf_packet_fanout_id=1"),
        "node.cfg:12: `af_packet_fanout_id` is given twice in `[w]`; it is already on line 11\n\
         hint: delete one of the two lines"
    );
    assert_eq!(
        worker("env_vars=A=5%"),
        "node.cfg:11: `env_vars`: `%` in `A=5%` is followed by neither `%` nor `(name)s`\n\
         hint: write `%%` for a percent sign"
    );
    assert_eq!(
        worker("env_vars=A=%(x)s"),
        "node.cfg:11: `env_vars`: `%(x)s` names a key that is neither here nor in `[DEFAULT]`\n\
         hint: write `%%` for a percent sign"
    );
    assert_eq!(
        worker("env_vars=%(env_vars)s"),
        "node.cfg:11: `env_vars`: references lead more than 10 steps deep or grow without end\n\
         hint: write `%%` for a percent sign"
    );
}

#[test]
fn faults_of_a_node_in_general() {
    assert_eq!(
        worker("[w.1]\ntype=worker"),
        "node.cfg:11: `w.1` cannot be the name of a node; expected letters, digits, `-` and `_`, \
         at most 63, not digits alone, a letter or digit first and last"
    );
    assert_eq!(
        worker("[workers]\ntype=worker"),
        "node.cfg:11: `workers` cannot be the name of a node; expected a name that is not a group \
         of nodes or a file of ctl"
    );
    let long = "n".repeat(62);
    assert_eq!(
        worker(&format!("[{long}]\ntype=worker\nlb_method=af_packet\nlb_procs=2")),
        format!(
            "node.cfg:11: `{long}-2` cannot be the name of a node; expected a name that has at \
             most 63 characters with its number"
        )
    );
    assert_eq!(
        worker("interfaec=eth0"),
        "node.cfg:11: node `w`: unknown key `interfaec`\nhint: did you mean `interface`?"
    );
    assert_eq!(
        worker("qqqqqq=root"),
        "node.cfg:11: node `w`: unknown key `qqqqqq`\nhint: `ctl keys` lists the keys"
    );
    assert_eq!(
        faults("[zeek]\nhost=localhost\n"),
        "node.cfg:1: node `zeek`: `type` is missing\nhint: type=worker"
    );
    assert_eq!(
        faults("[zeek]\ntype=standalone\n"),
        "node.cfg:1: node `zeek`: `host` is missing\nhint: host=localhost"
    );
    assert_eq!(
        faults("[zeek]\ntype=Proxy\nhost=localhost\n"),
        "node.cfg:2: node `zeek`: `type` is `Proxy`; expected standalone, logger, manager, proxy \
         or worker\nhint: type=proxy"
    );
    assert_eq!(
        worker("host=-oProxyCommand=x"),
        "node.cfg:11: node `w`: `host` is `-oProxyCommand=x`; expected a host name or an address"
    );
    assert_eq!(
        worker("env_vars=A"),
        "node.cfg:11: node `w`: `env_vars` is `A`; expected NAME=value pairs with commas between, \
         such as `A=1,B=2`"
    );
    assert_eq!(
        worker("pin_cpus=1-"),
        "node.cfg:11: node `w`: `pin_cpus` is `1-`; expected CPU numbers or ranges, such as \
         `0,2,8-11`"
    );
    assert_eq!(
        worker("interface=eth0/1"),
        "node.cfg:11: node `w`: `interface` is `eth0/1`; expected the name of a network interface"
    );
}

#[test]
fn faults_of_load_balancing() {
    assert_eq!(
        faults("[zeek]\ntype=standalone\nhost=localhost\ninterface=eth0\nlb_procs=2\n"),
        "node.cfg:5: node `zeek`: `lb_procs` is only for workers; this node is a standalone"
    );
    assert_eq!(
        worker("lb_procs=2"),
        "node.cfg:11: node `w`: `lb_procs` needs `lb_method` too\nhint: lb_method=af_packet"
    );
    assert_eq!(
        worker("lb_method=af_packet"),
        "node.cfg:11: node `w`: `lb_method` needs `lb_procs` too\nhint: lb_procs=4"
    );
    assert_eq!(
        worker("lb_interfaces=eth0"),
        "node.cfg:11: node `w`: `lb_interfaces` needs `lb_method` too"
    );
    assert_eq!(
        worker("lb_method=pf_ring\nlb_procs=2"),
        "node.cfg:11: node `w`: `lb_method` is `pf_ring`, which Tyto does not have: packets come \
         from AF_PACKET sockets\nhint: lb_method=af_packet"
    );
    assert_eq!(
        worker("lb_method=interfaces\nlb_procs=2\nlb_interfaces=eth0,eth1"),
        "node.cfg:11: node `w`: `lb_method` is `interfaces`, which Tyto does not have: one section \
         is one interface here\n\
         hint: write one worker section with its `interface` for each of them"
    );
    assert_eq!(
        worker("lb_method=afpacket\nlb_procs=2"),
        "node.cfg:11: node `w`: `lb_method` is `afpacket`; expected af_packet\n\
         hint: lb_method=af_packet"
    );
    assert_eq!(
        worker("interface=pf_ring::eth0"),
        "node.cfg:11: node `w`: `interface` is `pf_ring::eth0`, which Tyto does not have: packets \
         come from AF_PACKET sockets\nhint: interface=eth0"
    );
}

#[test]
fn faults_of_af_packet_keys() {
    for (line, expected) in [
        ("af_packet_buffer_size=1M", "bytes from 1048576 to 68719476736, such as `128*1024*1024`"),
        (
            "af_packet_block_size=40000",
            "bytes from 16384 to 16777216, a power of two, such as `256*1024`",
        ),
        ("af_packet_block_timeout=0msec", "whole milliseconds from 1 to 1000, such as `10msec`"),
        ("af_packet_enable_fanout=maybe", "T or F"),
        ("af_packet_enable_defrag=2", "T or F"),
        ("af_packet_fanout_id=65536", "a whole number from 1 to 65535"),
        (
            "af_packet_fanout_mode=FANOUT_EPBF",
            "FANOUT_HASH, FANOUT_CPU, FANOUT_QM, FANOUT_CBPF or FANOUT_EBPF",
        ),
        ("af_packet_checksum_validation_mode=NO", "CHECKSUM_ON, CHECKSUM_KERNEL or CHECKSUM_OFF"),
        ("af_packet_enable_hw_timestamping=x", "T or F"),
        ("af_packet_promiscuous=x", "T or F"),
        ("af_packet_fanout_inner=x", "T or F"),
        ("af_packet_link_type=eth", "a link type from 0 to 65535, such as 1 for Ethernet"),
        ("snaplen=64", "bytes from 128 to 262144"),
        (
            "memory_bytes_max=1G",
            "bytes from 67108864 to 17592186044416, such as `4*1024*1024*1024`, or 0",
        ),
        ("nice=20", "a whole number from -20 to 19"),
        ("core_dumps=maybe", "T or F"),
    ] {
        let (key, found) = line.split_once('=').unwrap();
        assert_eq!(
            worker(line),
            format!("node.cfg:11: node `w`: `{key}` is `{found}`; expected {expected}")
        );
    }
    for (mode, reason) in [
        (
            "AF_Packet::FANOUT_ROLLOVER",
            "a full ring would spill packets of its flows to workers that do not know these flows",
        ),
        ("FANOUT_LB", "it tears flows apart: the packets of each go to all workers"),
        ("fanout_rnd", "it tears flows apart: the packets of each go to all workers"),
    ] {
        assert_eq!(
            worker(&format!("af_packet_fanout_mode={mode}")),
            format!(
                "node.cfg:11: node `w`: `af_packet_fanout_mode` is `{mode}`, which Tyto does not \
                 have: {reason}\nhint: af_packet_fanout_mode=FANOUT_HASH"
            )
        );
    }
    assert_eq!(
        worker("interface=eth0\naf_packet_buffer_size=1048576\naf_packet_block_size=1048576"),
        "node.cfg:9: node `w`: a ring of 1048576 bytes holds fewer than two blocks of 1048576"
    );
    // Each section once, however many nodes it makes.
    assert_eq!(
        worker("interface=eth0\nlb_method=af_packet\nlb_procs=3\nmemory_bytes_max=128*1024*1024"),
        "node.cfg:9: node `w`: 134217728 bytes of memory do not hold its ring of 134217728\n\
         hint: raise memory_bytes_max, or lower af_packet_buffer_size"
    );
}

#[test]
fn an_address_of_a_host_has_no_brackets_no_zone_and_no_port() {
    for good in ["2001:db8::1", "::ffff:192.0.2.1", "fe80::1", "sensor_1.example", "10.0.0.9"] {
        assert_eq!(worker(&format!("host={good}")), "none", "{good}");
    }
    for bad in ["[2001:db8::1]", "fe80::1%eth0", "10.0.0.1:22", "2001:db8::1::2", "host:22", ":"] {
        let found = worker(&format!("host={}", bad.replace('%', "%%")));
        assert!(found.ends_with("expected a host name or an address"), "{bad}: {found}");
    }
}

#[test]
fn faults_of_fanout_groups() {
    let pair = |second: &str| {
        worker(&format!("interface=eth0\naf_packet_fanout_id=23\n[v]\ntype=worker\n{second}"))
    };
    assert_eq!(
        pair("interface=eth1\naf_packet_fanout_id=23"),
        "node.cfg:13: node `v`: fanout id 23 is also that of interface `eth0` on the same host\n\
         hint: delete `af_packet_fanout_id`: distinct numbers are made without it"
    );
    assert_eq!(
        pair("interface=eth0\naf_packet_fanout_id=24"),
        "node.cfg:13: node `v`: fanout id 24 differs from 23 of `w` on `eth0`\n\
         hint: two groups see all packets twice; give both the same number or none"
    );
    assert_eq!(pair("host=10.0.0.9\ninterface=eth1\naf_packet_fanout_id=23"), "none");
}

#[test]
fn faults_of_the_cluster() {
    assert_eq!(
        faults("# nothing\n"),
        "node.cfg: no nodes\n\
         hint: [zeek]\ntype=standalone\nhost=localhost\ninterface=eth0"
    );
    assert_eq!(
        worker("lb_method=af_packet\nlb_procs=2\n[W-2]\ntype=worker"),
        "node.cfg:13: name `W-2` is used twice; `[w]` on line 9 makes it too\n\
         hint: rename one of the two sections"
    );
    assert_eq!(
        faults("[manager]\ntype=manager\nhost=10.0.0.1\n"),
        "node.cfg: there is no logger; a cluster needs at least one to write its logs\n\
         hint: add\n[logger-1]\ntype=logger\nhost=10.0.0.1\n\
         node.cfg: there is no proxy; a cluster needs at least one\n\
         hint: add\n[proxy-1]\ntype=proxy\nhost=10.0.0.1"
    );
    assert_eq!(
        faults("[l]\ntype=logger\nhost=h\n[p]\ntype=proxy\nhost=h\n"),
        "node.cfg: there is no manager; a cluster needs exactly one\n\
         hint: add\n[manager]\ntype=manager\nhost=localhost"
    );
    assert_eq!(
        worker("[second]\ntype=manager"),
        "node.cfg:11: node `second` is a second manager; `manager` on line 3 is the first\n\
         hint: a cluster has exactly one manager"
    );
    assert_eq!(
        faults("[zeek]\ntype=standalone\nhost=localhost\n[p]\ntype=proxy\nhost=localhost\n"),
        "node.cfg:4: node `p` stands beside the standalone node `zeek`, which must be alone\n\
         hint: delete the standalone section, or all others"
    );
    assert_eq!(
        worker("host=localhost"),
        "node.cfg:9: node `w` is on `localhost` but the manager is on `10.0.0.1`\n\
         hint: write the name that other hosts know that host by"
    );
    assert_eq!(
        faults(&format!("{}[w]\ntype=worker\nhost=h\n", BASE.replace("10.0.0.1", "::1"))),
        "node.cfg:9: node `w` is on `h` but the manager is on `::1`\n\
         hint: give the manager's host the name that other hosts know it by; only when all nodes \
         are on localhost can it be localhost"
    );
    let many: String = (0..540).map(|n| format!("[l{n}]\ntype=logger\n")).collect();
    let ports = load(&format!("{BASE}{many}"), "", "port: 65000\n").unwrap_err();
    assert_eq!(
        ports.to_string(),
        "node.cfg: 543 listening nodes from port 65000 on need ports above 65535\n\
         hint: tyto.yaml: port: 27760"
    );
}

/// A node whose type is a slip may be the manager that seems to be missing.
#[test]
fn an_unreadable_type_does_not_make_a_role_missing() {
    let found = faults(&BASE.replace("type=proxy", "type=porxy"));
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.ends_with("hint: type=proxy"));
}

#[test]
fn warnings_leave_the_configuration_good() {
    assert_eq!(
        warnings("aux_scripts=x.zeek"),
        [
            "node.cfg:11: node `w`: `aux_scripts` has no effect: Tyto runs no Zeek scripts",
            "node.cfg:9: node `w` has no `interface` and captures nothing",
        ]
    );
    assert_eq!(
        warnings("interface=eth0\n[proxy-2]\ntype=proxy\ninterface=eth0"),
        ["node.cfg:14: node `proxy-2`: `interface` has no effect: only workers and standalone \
             capture"]
    );
    assert_eq!(
        warnings("interface=eth0\nlb_method=af_packet\nlb_procs=1\nlb_interfaces=eth1"),
        ["node.cfg:14: node `w`: `lb_interfaces` has no effect: it belongs to \
             lb_method=interfaces"]
    );
}

#[test]
fn faults_of_networks() {
    let networks = |text| load(BASE, text, "").unwrap_err().to_string();
    assert_eq!(
        networks("\n  10.0.0.1 tag\n"),
        "networks.cfg:2: `10.0.0.1` is not a network; expected an address, `/` and the length of \
         the prefix\nhint: 10.0.0.1/32"
    );
    assert_eq!(
        networks("10/8\n"),
        "networks.cfg:1: `10/8` is not a network; expected an address, `/` and the length of the \
         prefix\nhint: 192.0.2.0/24 or 2001:db8::/32"
    );
}

#[test]
fn names_of_nodes_are_folders_dns_labels_and_words() {
    for good in ["v", "worker-1", "W_2", "1a", "10-b"] {
        assert_eq!(worker(&format!("[{good}]\ntype=worker")), "none", "{good}");
    }
    for bad in ["7", "10-1", "-w", "w-", "w.1", "w/1", "..", "a b", "ä", "CA", "tmp"] {
        let found = worker(&format!("[{bad}]\ntype=worker"));
        assert!(found.contains("cannot be the name of a node"), "{bad}: {found}");
    }
}
