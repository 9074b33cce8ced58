//! What a host is, beside what Tyto has put there: clock, kernel, rights, file system, ports,
//! interfaces. Asked in the same call as the rest of the [`super::survey`]; judged in
//! [`super::fitness`]. The script changes nothing and needs no more than the tools it checks for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::survey::Questions;

/// Asked first, so that the reading is near the moment of the call.
pub(super) const CLOCK_SCRIPT: &str = "say clock \"$(date +%s.%N)\"\n";

/// `$p` is the prefix, `$d` the part of its path that is there, `$mp` the mount point of that;
/// `say` tells a fact.
const SCRIPT: &str = r##"say kernel "$(uname -r)"
say login "$(id -u)" "$(id -un 2>/dev/null)"
b=; read -r b 2>/dev/null </proc/sys/kernel/random/boot_id
say folder "$b" "$(stat -L -c %d:%i "$d" 2>/dev/null)" "$d"
say name "$(uname -n)"
while read -r k v; do [ "$k" != CapEff: ] || say caps "$v"; done 2>/dev/null </proc/self/status
[ -e /proc/net/packet ] || say no-packet-sockets
while read -r _ t f o _; do [ "$t" != "$mp" ] || x="$f $o"; done 2>/dev/null </proc/mounts
[ -z "${x:-}" ] || say mount $x "$mp"
k=$(sed -n 's/^cluster: *//p' "$p/current/etc/host.yaml" 2>/dev/null)
[ -z "$k" ] || say cluster "$k"
n=0
[ -d "$p/releases" ] || for f in "$p"/* "$p"/.[!.]*; do
  case ${f##*/} in '*'|'.[!.]*'|etc|ca|run|spool|logs|current|lost+found) ;;
    *) say foreign "${f##*/}"; n=$((n+1)); [ $n -lt 6 ] || break ;; esac
done
"##;

/// Every interface with its flags. Those of a host come to dozens.
const INTERFACES_SCRIPT: &str = r##"for i in /sys/class/net/*; do
  g=; read -r g 2>/dev/null <"$i/flags"; [ -z "$g" ] || say interface "${i##*/}" "$g"
done
"##;

/// `$q` holds the ports asked for in hex, each between blanks. The owner of a socket is the
/// process that has its inode among its files; our own nodes are looked at first.
const PORTS_SCRIPT: &str = r##"P=$(cd "$p" 2>/dev/null && pwd -P)
owner() { i=$1; shift; ls -l /proc/self/fd "$@" 2>/dev/null | sed -n -e '/^\/proc\//h' \
  -e "/socket:\[$i\]\$/{g;s|^/proc/||;s|/fd:||;p;q;}"; }
o=
for n in $(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$p"/run/nodes/*.lock 2>/dev/null); do
  o="$o /proc/$n/fd"
done
set -- $(sed -n 's/^ *[0-9]*: \([^ ]*\) [^ ]* 0A [^ ]* [^ ]* [^ ]* *[0-9]* *[0-9]* *\([0-9]*\) .*/\1 \2/p' \
  /proc/net/tcp /proc/net/tcp6 2>/dev/null)
while [ $# -ge 2 ]; do
  l=$1; i=$2; shift 2
  case $q in *" ${l##*:} "*) ;; *) continue ;; esac
  n=$(owner "$i" $o); [ -n "$n" ] || n=$(owner "$i" /proc/[0-9]*/fd)
  w=other; c=
  if [ -n "$n" ]; then
    case $(readlink "/proc/$n/exe" 2>/dev/null) in "$P"/releases/*) w=ours ;; esac
    read -r c 2>/dev/null <"/proc/$n/comm"
  fi
  say listens "$l" "$w" "${n:--}" "$c"
done
"##;

/// What a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its clock against ours.
    pub clock: Option<ClockOffset>,
    /// `uname -r`.
    pub kernel: String,
    /// Number of the login's user; none when it was not told.
    pub uid: Option<u32>,
    /// Name of the login's user.
    pub login: String,
    /// Effective capabilities of the login's processes; none when it was not told.
    pub capabilities: Option<u64>,
    /// The kernel has no packet sockets.
    pub has_no_packet_sockets: bool,
    /// Boot, device and inode of the folder that the prefix is in, as far as it is there: the
    /// same for two hosts only when they are one, or share the folder.
    pub folder_id: Option<String>,
    /// The folder behind [`Self::folder_id`].
    pub folder: String,
    /// Its own name.
    pub hostname: String,
    /// Where the prefix is mounted.
    pub mount: Option<Mount>,
    /// Cluster of the installation there.
    pub cluster: Option<String>,
    /// What lies below a prefix without an installation and is not of Tyto; the first few.
    pub foreign: Vec<String>,
    /// Interfaces; told only where nodes capture.
    pub interfaces: Vec<Interface>,
    /// Programs that listen on ports of nodes that shall run there.
    pub listeners: Vec<Listener>,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Its folder.
    pub point: String,
    /// Its kind, `ext4`.
    pub kind: String,
    /// `rw,noexec,…`.
    pub options: String,
}

impl Mount {
    /// True when it was mounted with this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|found| found == option)
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// It is up (IFF_UP); whether there is a carrier, is another matter.
    pub is_up: bool,
}

/// A program that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// On all addresses.
    pub on_all: bool,
    /// Its address as the kernel writes it, hex, when not on all.
    pub addr: String,
    /// TCP port.
    pub port: u16,
    /// It is a node of the same installation.
    pub is_ours: bool,
    /// Process id and name, where the login may see them.
    pub process: Option<(u32, String)>,
}

/// How far a host's clock is ahead of ours. A call takes time, and when in that time the host
/// read its clock is not known: so it is a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// At least this far ahead, ns; negative is behind.
    pub min_ns: i128,
    /// At most this far ahead, ns.
    pub max_ns: i128,
    /// What the clock showed.
    pub shown: SystemTime,
}

impl ClockOffset {
    /// From what a clock showed at some moment between `sent` and `received`.
    pub fn from_reading(reading: &Reading, sent: SystemTime, received: SystemTime) -> Self {
        Self {
            min_ns: reading.ns - ns(received),
            max_ns: reading.ns + reading.grain_ns - ns(sent),
            shown: UNIX_EPOCH + Duration::from_nanos(u64::try_from(reading.ns).unwrap_or(0)),
        }
    }

    /// How far the clock is off for certain, ns: positive is ahead, 0 is not for certain.
    pub fn certain_ns(&self) -> i128 {
        if self.min_ns > 0 { self.min_ns } else { self.max_ns.min(0) }
    }
}

/// `date +%s.%N`; without ns where date knows none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    ns: i128,
    grain_ns: i128,
}

impl Reading {
    /// Reads `SECONDS.NS`.
    pub fn parse(text: &str) -> Option<Self> {
        const SECOND: i128 = 1_000_000_000;
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i128 = seconds.parse().ok()?;
        match fraction.parse::<u32>() {
            Ok(ns) if fraction.len() == 9 => {
                Some(Self { ns: seconds * SECOND + i128::from(ns), grain_ns: 0 })
            }
            _ => Some(Self { ns: seconds * SECOND, grain_ns: SECOND }),
        }
    }
}

fn ns(moment: SystemTime) -> i128 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

/// The part of the survey's script that asks for facts.
pub(super) fn script(questions: &Questions) -> String {
    let mut text = SCRIPT.to_owned();
    if !questions.interfaces.is_empty() {
        text.push_str(INTERFACES_SCRIPT);
    }
    if !questions.ports.is_empty() {
        let ports: Vec<String> = questions.ports.iter().map(|port| format!("{port:04X}")).collect();
        text.push_str(&format!("q=' {} '\n{PORTS_SCRIPT}", ports.join(" ")));
    }
    text
}

impl Facts {
    /// Takes a fact that the script told.
    pub(super) fn take(&mut self, word: &str, rest: &str) {
        let mut words = rest.split_whitespace();
        let mut next = || words.next().unwrap_or_default().to_owned();
        match word {
            "kernel" => self.kernel = rest.to_owned(),
            "login" => (self.uid, self.login) = (next().parse().ok(), next()),
            "caps" => self.capabilities = u64::from_str_radix(rest, 16).ok(),
            "no-packet-sockets" => self.has_no_packet_sockets = true,
            "folder" => {
                let (boot, file, folder) = (next(), next(), next());
                self.folder = folder;
                let is_known = !boot.is_empty() && file.contains(':');
                self.folder_id = is_known.then(|| format!("{boot} {file}"));
            }
            "name" => self.hostname = rest.to_owned(),
            "mount" => {
                let (kind, options) = (next(), next());
                self.mount = Some(Mount { kind, options, point: next() });
            }
            "cluster" => self.cluster = Some(rest.trim_matches(['\'', '"']).to_owned()),
            "foreign" => self.foreign.push(rest.to_owned()),
            "interface" => {
                let (name, flags) = (next(), next());
                let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
                self.interfaces.push(Interface { name, is_up: flags & 1 == 1 });
            }
            "listens" => self.listeners.extend(listener(rest)),
            _ => {}
        }
    }
}

/// `0100007F:6C70 other 812 nginx`.
fn listener(rest: &str) -> Option<Listener> {
    let mut words = rest.splitn(4, ' ');
    let (addr, port) = words.next()?.split_once(':')?;
    let is_ours = words.next()? == "ours";
    let pid = words.next()?.parse().ok();
    let name = words.next().unwrap_or_default().to_owned();
    Some(Listener {
        on_all: addr.bytes().all(|digit| digit == b'0'),
        addr: addr.to_owned(),
        port: u16::from_str_radix(port, 16).ok()?,
        is_ours,
        process: pid.map(|pid| (pid, name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn a_slow_call_is_no_wrong_clock_and_what_is_beyond_it_is() {
        let reading = Reading::parse("100.500000000").unwrap();
        let offset = |sent, received| {
            ClockOffset::from_reading(&reading, at(sent), at(received)).certain_ns() / 1_000_000
        };
        assert_eq!(offset(97_000, 104_000), 0);
        assert_eq!(offset(97_000, 98_000), 2_500);
        assert_eq!(offset(103_000, 104_000), -2_500);
    }

    #[test]
    fn a_date_without_nanoseconds_is_a_second_wide() {
        let reading = Reading::parse("100.%N").unwrap();
        assert_eq!(reading, Reading { ns: 100_000_000_000, grain_ns: 1_000_000_000 });
        assert_eq!(Reading::parse("soon"), None);
    }

    #[test]
    fn a_listener_is_read_whatever_its_name_holds() {
        let found = listener("00000000:6C73 other 12 tmux: server").unwrap();
        assert!(found.on_all && !found.is_ours);
        assert_eq!((found.port, found.process), (27763, Some((12, "tmux: server".to_owned()))));
        let unseen = listener("0100007F:6C73 other - ").unwrap();
        assert_eq!((unseen.on_all, unseen.process), (false, None));
    }
}
