//! Facts of a host in, faults out.

use std::time::{Duration, UNIX_EPOCH};

use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};

use super::*;
use crate::deploy::facts::{ClockOffset, Interface, Mount};

const NODE_CFG: &str = "[logger]\ntype=logger\nhost=10.0.0.1\n[manager]\ntype=manager\n\
                        host=10.0.0.1\n[proxy]\ntype=proxy\nhost=10.0.0.1\n[worker]\n\
                        type=worker\nhost=10.0.0.1\ninterface=eth0\n";
const SECOND: i128 = 1_000_000_000;

fn cluster() -> Cluster {
    let nodes = ConfigFile { name: "node.cfg", text: NODE_CFG };
    Cluster::load(ConfigFiles { nodes, networks: None, settings: None }).unwrap()
}

fn fit() -> Survey {
    let mut survey =
        Survey { machine: "x86_64".into(), free_bytes: Some(1 << 40), ..Survey::default() };
    survey.facts.kernel = "6.1.0-44-amd64".into();
    survey.facts.capabilities = Some(u64::MAX);
    let up = |name: &str| Interface { name: name.into(), is_up: true };
    survey.facts.interfaces = vec![up("lo"), up("eth0")];
    survey
}

fn faults_of(survey: &Survey) -> Vec<HostFault> {
    let cluster = cluster();
    let ports = cluster.ports();
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    let expected = Expected {
        cluster: "tyto",
        prefix: Path::new("/opt/tyto"),
        machine: "x86_64",
        missing_bytes: 1 << 20,
        ports: nodes.iter().filter_map(|&n| Some((n, *ports.get(&n.name)?))).collect(),
        nodes,
        addr: Some("10.0.0.1".parse().unwrap()),
    };
    faults(survey, &expected)
}

fn told(change: impl FnOnce(&mut Survey)) -> String {
    let mut survey = fit();
    change(&mut survey);
    let faults = faults_of(&survey);
    assert_eq!(faults.len(), 1, "{faults:?}");
    format!("{}\nhint: {}", faults[0], faults[0].hint())
}

fn mounted(options: &str) -> Option<Mount> {
    Some(Mount { point: "/opt".into(), kind: "ext4".into(), options: options.into() })
}

#[test]
fn a_fit_host_has_no_fault() {
    assert_eq!(faults_of(&fit()), []);
}

#[test]
fn each_lack_of_the_machine_is_told_by_itself() {
    let machine = told(|survey| survey.machine = "aarch64".into());
    assert!(machine.starts_with("it is aarch64; the programs beside ctl are for x86_64"));
    let kernel = told(|survey| survey.facts.kernel = "4.19.0-27-amd64".into());
    assert!(kernel.starts_with("its kernel is 4.19.0-27-amd64; expected 5.4 or later"), "{kernel}");
    let sockets = told(|survey| survey.facts.has_no_packet_sockets = true);
    assert!(sockets.contains("modprobe af_packet"), "{sockets}");
    let tools = told(|survey| survey.missing_tools = vec!["sed".into(), "tail".into()]);
    assert!(tools.starts_with("its shell has no sed, tail\n"), "{tools}");
    let rights = told(|survey| survey.facts.capabilities = Some(0));
    assert!(rights.contains("CAP_NET_RAW") && rights.contains("setcap"), "{rights}");
}

#[test]
fn each_lack_of_the_prefix_is_told_by_itself() {
    let owner = told(|survey| {
        survey.unwritable = Some("/opt/tyto".into());
        survey.facts.login = "sensor".into();
        survey.facts.mount = mounted("rw,relatime");
    });
    assert!(owner.starts_with("`/opt/tyto` is not writable for the login of ssh (`sensor`)\n"));
    let read_only = told(|survey| {
        survey.unwritable = Some("/opt/tyto".into());
        survey.facts.mount = mounted("ro,relatime");
    });
    assert!(read_only.contains("mount -o remount,rw /opt`"), "{read_only}");
    let no_exec = told(|survey| survey.facts.mount = mounted("rw,noexec"));
    assert!(no_exec.contains("mount -o remount,exec /opt`"), "{no_exec}");
    let room = told(|survey| survey.free_bytes = Some(10 << 20));
    assert!(room.starts_with("10 MiB are free below the prefix; 65 MiB are needed"), "{room}");
    let other = told(|survey| survey.facts.cluster = Some("north".into()));
    assert!(other.contains("of cluster `north`; this one is `tyto`"), "{other}");
    let foreign = told(|survey| survey.facts.foreign = vec!["bin".into(), "share".into()]);
    assert!(foreign.starts_with("`/opt/tyto` holds what is not of Tyto: bin, share"), "{foreign}");
}

#[test]
fn an_interface_is_named_with_its_line_and_the_nearest_there_is() {
    let missing = told(|survey| {
        survey.missing_interfaces = vec!["eth0".into()];
        survey.facts.interfaces[1].name = "eth1".into();
    });
    let expected = "node.cfg:13: there is no interface `eth0`; it has lo, eth1\n\
                    hint: did you mean `interface=eth1`?";
    assert_eq!(missing, expected);
    let down = told(|survey| survey.facts.interfaces[1].is_up = false);
    assert!(down.ends_with("hint: ip link set eth0 up"), "{down}");
}

#[test]
fn a_port_is_taken_by_who_listens_where_the_node_would() {
    let listens = |addr: &str, is_ours| Listener {
        on_all: addr.bytes().all(|b| b == b'0'),
        addr: addr.to_owned(),
        port: 27763,
        is_ours,
        process: Some((7, "nginx".into())),
    };
    for addr in ["00000000", "0100000A"] {
        let taken = told(|survey| survey.facts.listeners = vec![listens(addr, false)]);
        let said = "port 27763 of node `manager` is taken by `nginx` (process 7)\n";
        assert!(taken.starts_with(said), "{taken}");
    }
    let mut survey = fit();
    survey.facts.listeners = vec![listens("00000000", true), listens("0100007F", false)];
    assert_eq!(faults_of(&survey), []);
}

#[test]
fn a_clock_warns_from_a_second_and_is_an_error_when_certificates_would_not_hold() {
    let off = |ns: i128| {
        let mut survey = fit();
        let shown = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        survey.facts.clock = Some(ClockOffset { min_ns: ns, max_ns: ns, shown });
        faults_of(&survey)
    };
    assert_eq!(off(SECOND / 2), []);
    let warning = &off(-2 * SECOND)[0];
    assert!(warning.is_warning());
    assert_eq!(
        warning.to_string(),
        "its clock is 2.0 s behind ours: it shows 2027-01-15 08:00:00 UTC, here it is \
         2027-01-15 08:00:02 UTC"
    );
    assert!(off(-3700 * SECOND)[0].is_warning());
    assert!(!off(-7300 * SECOND)[0].is_warning());
    assert!(off(3700 * SECOND)[0].is_warning());
    assert!(!off(16 * 86_400 * SECOND)[0].is_warning());
}

#[test]
fn two_names_of_one_folder_are_found_and_two_folders_are_not() {
    let with = |id: &str| {
        let mut survey = fit();
        survey.facts.folder_id = Some(id.to_owned());
        survey
    };
    let surveys = BTreeMap::from([
        (HostName::from("a"), with("boot 8:1")),
        (HostName::from("b"), with("boot 8:2")),
        (HostName::from("c"), with("boot 8:1")),
        (HostName::from("d"), fit()),
        (HostName::from("e"), fit()),
    ]);
    let same: Vec<_> = same_hosts(&surveys).into_iter().map(|(a, b, _)| (&**a, &**b)).collect();
    assert_eq!(same, [("c", "a")]);
}
