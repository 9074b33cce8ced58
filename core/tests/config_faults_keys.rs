//! What the operator reads when tyto.yaml is wrong, a key is not known, or a filter cannot be
//! read: each message, word for word, with its hint.

use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};

/// A good cluster in eight lines; the cases come behind it.
const BASE: &str = "[DEFAULT]\nhost=10.0.0.1\n[manager]\ntype=manager\n[logger-1]\ntype=logger\n\
                    [proxy-1]\ntype=proxy\n";

/// Faults of both files.
fn load(nodes: &str, settings: &str) -> String {
    let file = |name, text| ConfigFile { name, text };
    let files = ConfigFiles {
        nodes: file("node.cfg", nodes),
        networks: None,
        settings: Some(file("tyto.yaml", settings)),
    };
    Cluster::load(files).map_or_else(|faults| faults.to_string(), |_| "none".to_owned())
}

/// Faults of a node.cfg.
fn faults(nodes: &str) -> String {
    load(nodes, "")
}

/// Faults of a worker's section behind a good cluster; its header is line 9.
fn worker(keys: &str) -> String {
    faults(&format!("{BASE}[w]\ntype=worker\n{keys}\n"))
}

/// Faults of a tyto.yaml.
fn yaml(text: &str) -> String {
    load(BASE, text)
}

/// File, line and column: the place in the expression, not that of the key.
#[test]
fn faults_of_filters() {
    let found = worker("interface=eth0\nfilter = tcp prot 80");
    assert!(found.starts_with("node.cfg:12:14: node `w`: `filter`: "), "{found}");
    let found = worker("filter=tcp and\n  prot 80");
    assert!(found.starts_with("node.cfg:11:1: node `w`: `filter`: column "), "{found}");
    let found = yaml("filter: \"ip and prot 80\"\n");
    assert!(found.starts_with("tyto.yaml:1:17: `filter`: "), "{found}");
    let found = yaml("port: 27760\nfilter: ip proto\n");
    assert!(found.starts_with("tyto.yaml:2:"), "{found}");
    for good in ["not port 22", "vlan and ip", "host 10.0.0.1 and (tcp or udp)", "ip6"] {
        assert_eq!(worker(&format!("filter={good}")), "none");
        assert_eq!(yaml(&format!("filter: {good}\n")), "none");
    }
    // What raw IP does not have is no filter for it.
    let found = worker("af_packet_link_type=101\nfilter=ether host 00:11:22:33:44:55");
    assert!(found.starts_with("node.cfg:12:"), "{found}");
}

#[test]
fn faults_of_sinks() {
    let good = "sinks:\n- { name: siem, to: 'tcp://siem:514', where: 'id.resp_p == 443' }\n";
    assert_eq!(yaml(good), "none");
    let found = load("[zeek]\ntype=standalone\nhost=localhost\ninterface=eth0\n", good);
    assert!(found.starts_with("tyto.yaml:1: `sinks` is `siem`; expected [] where "), "{found}");
    let found = yaml("sinks:\n- { name: siem, to: 'udp://siem:514' }\n");
    assert!(found.starts_with("tyto.yaml:1: `sinks` is "), "{found}");
    assert!(found.contains("is not tcp://HOST:PORT or tls://HOST:PORT"), "{found}");
}

/// A value in [DEFAULT] is one fault, not one for each section.
#[test]
fn a_fault_of_an_inherited_value_is_told_once() {
    let base = BASE.replace("[manager]", "pin_cpus=x\nfilter=prot 1\n[manager]");
    let found = faults(&base);
    assert_eq!(found.lines().filter(|line| line.starts_with("node.cfg:")).count(), 2, "{found}");
}

#[test]
fn faults_of_settings() {
    assert_eq!(
        yaml("log_fromat: tsv\n"),
        "tyto.yaml:1: unknown key `log_fromat`\nhint: did you mean `log_format`?"
    );
    assert_eq!(
        yaml("qqqqqq: root\n"),
        "tyto.yaml:1: unknown key `qqqqqq`\nhint: `ctl keys` lists the keys"
    );
    assert_eq!(
        yaml("# c\n\nssh:\n  # c\n  usr: root\n"),
        "tyto.yaml:5: unknown key `ssh.usr`\nhint: did you mean `ssh.user`?"
    );
    assert_eq!(
        yaml("ssh: {port: 0}\n"),
        "tyto.yaml:1: `ssh.port` is `0`; expected a whole number from 1 to 65535, or nothing"
    );
    assert_eq!(
        yaml("port: 1\nport: 2\n"),
        "tyto.yaml:2: `port` is given twice; it is already on line 1\n\
         hint: delete one of the two lines"
    );
    assert_eq!(
        yaml("ssh: 5\n"),
        "tyto.yaml:1: `ssh` is `5`; expected keys of its own, indented below it"
    );
    assert_eq!(yaml("[1]\n"), "tyto.yaml: the file is not a list of `key: value` lines");
    let broken = yaml("port: [1\nlog_format: x\n");
    assert!(broken.starts_with("tyto.yaml:"), "{broken}");
    for (line, expected) in [
        ("compress_logs: yes", "gzip or zstd or true or false"),
        ("port: 99", "a whole number from 1024 to 65000"),
        ("port: '27760'", "a whole number from 1024 to 65000"),
        ("commit_interval_ms: -1", "a whole number from 0 to 10000"),
        ("nice: -21", "a whole number from -20 to 19"),
        ("nice: 1.5", "a whole number from -20 to 19"),
        ("memory_bytes_max: 1", "a whole number from 67108864 to 17592186044416, or nothing"),
        ("crash_reports_max: 0", "a whole number from 1 to 1000"),
        ("log_format: csv", "tsv or json or both"),
        ("cluster: My Cluster", "lower-case letters, digits, `-` and `.`, at most 63"),
        (
            "prefix: opt/tyto",
            "an absolute path of letters, digits and `/._-`, at most 80 bytes, no `..`",
        ),
    ] {
        let (key, found) = line.split_once(": ").unwrap();
        let found = found.trim_matches('\'');
        assert_eq!(yaml(line), format!("tyto.yaml:1: `{key}` is `{found}`; expected {expected}"));
    }
    for path in ["/opt/../etc", "/", "/opt/a b", "/opt/$HOME"] {
        assert!(yaml(&format!("prefix: {path}\n")).contains("`prefix` is"), "{path}");
    }
    assert_eq!(
        yaml("af_packet:\n  block_size_bytes: 100000\n"),
        "tyto.yaml:2: `af_packet.block_size_bytes` is `100000`; expected a power of two from 16384 \
         to 16777216"
    );
    assert_eq!(
        yaml("env_vars:\n  A: 1\n"),
        "tyto.yaml:1: `env_vars` is `A=1`; expected lines of `NAME: \"value\"`, indented below it, \
         or {}"
    );
}

/// ZeekControl's options, keys of the other file, keys at the wrong depth, slips.
#[test]
fn an_unknown_key_gets_the_word_that_was_meant() {
    for (line, hint) in [
        ("LogRotationInterval: 1", "that is `log_rotation_interval_s`"),
        ("stoptimeout: 1", "that is `stop_timeout_s`"),
        ("PcapBufsize: 1", "that is `af_packet.buffer_size_bytes`: megabytes there, bytes here"),
        (
            "MailTo: x",
            "ZeekControl's MailTo has no place here: nothing is mailed; `ctl status` ends with \
             exit code 1 when a node is not running",
        ),
        (
            "HaveNFS: 1",
            "ZeekControl's HaveNFS is not needed: each host has its own copy of the release; only \
             what it lacks is copied",
        ),
        ("lb_procs: 4", "`lb_procs` is a key of node.cfg"),
        ("snaplen: 4", "that is `snaplen_bytes` here"),
        ("af_packet_fanout_mode: hash", "that is `af_packet.fanout_mode` here"),
        ("af_packet: {block_size: 1}", "that is `af_packet.block_size_bytes` here"),
        ("buffer_size_bytes: 1", "indent it below `af_packet:`"),
        ("ssh: {prefix: /opt/x}", "`prefix` stands at the beginning of a line, below nothing"),
        ("conect_timeout_s: 1", "did you mean `ssh.connect_timeout_s`?"),
        ("af_packet: {chekcsums: on}", "did you mean `af_packet.checksums`?"),
    ] {
        let found = yaml(&format!("{line}\n"));
        assert_eq!(found.lines().nth(1), Some(format!("hint: {hint}").as_str()), "{found}");
    }
    for (line, hint) in [
        ("snaplen_bytes=1", "that is `snaplen` here"),
        ("checksums=on", "that is `af_packet_checksum_validation_mode` here"),
        ("af_packet.buffer_size_bytes=1", "that is `af_packet_buffer_size` here"),
        ("log_format=json", "`log_format` is a key of tyto.yaml"),
        ("LogRotationInterval=1", "that is `log_rotation_interval_s` of tyto.yaml"),
        ("ssh.port=1", "`ssh.port` is a key of tyto.yaml"),
        ("memory_byte_max=1", "did you mean `memory_bytes_max`?"),
    ] {
        let found = worker(line);
        assert_eq!(found.lines().nth(1), Some(format!("hint: {hint}").as_str()), "{found}");
    }
}

#[test]
fn a_file_that_says_nothing_is_a_good_one() {
    for text in ["", "\n# only a comment\n", "ssh:\n", "---\n", "\u{feff}port: 27760\n"] {
        assert_eq!(yaml(text), "none", "{text:?}");
    }
}
