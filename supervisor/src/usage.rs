//! What a node's process uses of its host, as the kernel counts it (proc(5), `/proc/PID/stat`).

use std::fs;

use tyto_proto::v1::Usage;

/// Memory and time of the process `pid`; none when there is no such process.
pub(crate) fn of(pid: u32) -> Option<Usage> {
    if pid == 0 {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    parse(&stat, page_bytes, rustix::param::clock_ticks_per_second())
}

fn parse(stat: &str, page_bytes: u64, ticks_per_s: u64) -> Option<Usage> {
    // The second field is the program's name in brackets, with whatever characters it has.
    let (_, fields) = stat.rsplit_once(')')?;
    // Fields are numbered from 1, and these begin with the third.
    let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse().ok();
    let (user, system): (u64, u64) = (field(14)?, field(15)?);
    let (virtual_bytes, resident_pages): (u64, u64) = (field(23)?, field(24)?);
    Some(Usage {
        cpu_ms: (user + system).saturating_mul(1000) / ticks_per_s.max(1),
        virtual_bytes,
        resident_bytes: resident_pages.saturating_mul(page_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat =
            "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 999 8192000 20 1 2";
        let usage = parse(stat, 4096, 100).unwrap();
        assert_eq!(usage.cpu_ms, 2000);
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (8_192_000, 81_920));
        assert!(parse("7 (x) S 1 2", 4096, 100).is_none());
        assert!(parse("", 4096, 100).is_none());
    }

    #[test]
    fn this_process_uses_memory_and_a_process_that_is_gone_nothing() {
        let own = of(std::process::id()).unwrap();
        assert!(own.resident_bytes > 0 && own.virtual_bytes >= own.resident_bytes);
        assert!(of(0).is_none());
        assert!(of(u32::MAX).is_none());
    }
}
