//! The words of node.cfg's values: text in, a number, a list or a choice out, or `None` when
//! the text is not one. The caller knows the place and says what was expected.

use std::collections::BTreeMap;

use super::runtime::{ChecksumMode, FanoutMode};

/// CPU numbers that Linux can have (CONFIG_NR_CPUS on the largest kernels).
const CPU_MAX: u32 = 8191;

/// Niceness of the process that yields least (setpriority(2)).
pub(super) const NICE_MIN: i8 = -20;

/// Niceness of the process that yields most.
pub(super) const NICE_MAX: i8 = 19;

/// Bytes of an interface name: IFNAMSIZ without the closing zero.
const INTERFACE_BYTES_MAX: usize = 15;

/// A decimal number within bounds.
pub(super) fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = if digits { text.parse().ok()? } else { return None };
    (min..=max).contains(&number).then_some(number)
}

/// A size in bytes as Zeek's scripts take it: a number or a product such as `128*1024*1024`.
pub(super) fn size_bytes(text: &str, min: u64, max: u64) -> Option<u64> {
    let product = text
        .split('*')
        .map(|factor| whole(factor.trim(), 1, u64::MAX))
        .try_fold(1_u64, |product, factor| product.checked_mul(factor?))?;
    (min..=max).contains(&product).then_some(product)
}

/// A duration as Zeek's scripts write it (`10msec`, `10 msecs`, `0.01sec`), in milliseconds;
/// whole ones only.
pub(super) fn duration_ms(text: &str, min: u64, max: u64) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let unit = unit.trim();
    let in_us = match unit.strip_suffix('s').unwrap_or(unit) {
        "usec" => 1.0,
        "msec" => 1e3,
        "sec" => 1e6,
        _ => return None,
    };
    let us = number.parse::<f64>().ok()? * in_us;
    let ms = (us / 1e3).round();
    let fits = (ms * 1e3 - us).abs() < 0.5 && ms >= 0.0 && ms <= f64::from(u32::MAX);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let ms = if fits { ms as u64 } else { return None };
    (min..=max).contains(&ms).then_some(ms)
}

/// Zeek's `T` and `F`, and the usual words.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "1" | "yes" => Some(true),
        "f" | "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// CPU numbers and ranges (`0,2,8-11`), as often as they are written.
pub(super) fn cpus(text: &str) -> Option<Vec<u32>> {
    let number =
        |text: &str| whole(text.trim(), 0, CPU_MAX.into()).and_then(|cpu| u32::try_from(cpu).ok());
    let mut cpus = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => cpus.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                cpus.extend(first..=last);
            }
        }
    }
    Some(cpus)
}

/// `A=1,B=2`; a comma cannot be part of a value.
pub(super) fn env_vars(text: &str) -> Option<BTreeMap<String, String>> {
    let mut vars = BTreeMap::new();
    for part in text.split(',') {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if !is_env_name(name) || value.contains(['\n', '\0']) {
            return None;
        }
        vars.insert(name.to_owned(), value.to_owned());
    }
    Some(vars)
}

/// True for a POSIX name of an environment variable.
pub(super) fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// True for a name that Linux allows an interface.
pub(super) fn is_interface(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= INTERFACE_BYTES_MAX
        && !matches!(text, "." | "..")
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'\''))
}

/// A fanout mode by Zeek's enum name, with or without `AF_Packet::FANOUT_`, in any case.
pub(super) fn fanout_mode(text: &str) -> Option<FanoutMode> {
    match enum_word(text, "FANOUT_").as_str() {
        "HASH" => Some(FanoutMode::Hash),
        "CPU" => Some(FanoutMode::Cpu),
        "QM" => Some(FanoutMode::Qm),
        "CBPF" => Some(FanoutMode::Cbpf),
        "EBPF" => Some(FanoutMode::Ebpf),
        _ => None,
    }
}

/// A checksum mode by Zeek's enum name, with or without `AF_Packet::CHECKSUM_`, in any case.
pub(super) fn checksum_mode(text: &str) -> Option<ChecksumMode> {
    match enum_word(text, "CHECKSUM_").as_str() {
        "ON" => Some(ChecksumMode::On),
        "KERNEL" => Some(ChecksumMode::Kernel),
        "OFF" => Some(ChecksumMode::Off),
        _ => None,
    }
}

/// A niceness, which may be negative.
pub(super) fn nice(text: &str) -> Option<i8> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let niceness: i8 =
        if whole(digits, 0, 20).is_some() { text.parse().ok()? } else { return None };
    (NICE_MIN..=NICE_MAX).contains(&niceness).then_some(niceness)
}

/// Zeek's `AF_Packet::PREFIX_WORD` without what stands before the word, in upper case.
pub(super) fn enum_word(text: &str, prefix: &str) -> String {
    let upper = text.to_ascii_uppercase();
    let word = upper.strip_prefix("AF_PACKET::").unwrap_or(&upper);
    word.strip_prefix(prefix).unwrap_or(word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_or_products_as_in_zeek_scripts() {
        assert_eq!(size_bytes("4096", 1, u64::MAX), Some(4096));
        assert_eq!(size_bytes("128 * 1024*1024", 1, u64::MAX), Some(1 << 27));
        assert_eq!(size_bytes("128M", 1, u64::MAX), None);
        assert_eq!(size_bytes("99999999999*99999999999", 1, u64::MAX), None);
        assert_eq!(size_bytes("", 0, u64::MAX), None);
    }

    #[test]
    fn durations_are_whole_milliseconds() {
        assert_eq!(duration_ms("10msec", 1, 1000), Some(10));
        assert_eq!(duration_ms("10 msecs", 1, 1000), Some(10));
        assert_eq!(duration_ms("0.01sec", 1, 1000), Some(10));
        assert_eq!(duration_ms("2000usec", 1, 1000), Some(2));
        assert_eq!(duration_ms("1500usec", 1, 1000), None);
        assert_eq!(duration_ms("10", 1, 1000), None);
        assert_eq!(duration_ms("2sec", 1, 1000), None);
        assert_eq!(duration_ms("1.2.3sec", 1, 1000), None);
    }

    #[test]
    fn cpus_are_numbers_and_ranges() {
        assert_eq!(cpus("3"), Some(vec![3]));
        assert_eq!(cpus("0, 2,8-10"), Some(vec![0, 2, 8, 9, 10]));
        assert_eq!(cpus("2-1"), None);
        assert_eq!(cpus("1,,2"), None);
        assert_eq!(cpus("-1"), None);
        assert_eq!(cpus("+1"), None);
    }

    #[test]
    fn env_vars_have_a_name_and_an_equals_sign() {
        let vars = env_vars("A=1, LD_X = a=b").unwrap();
        assert_eq!(vars["A"], "1");
        assert_eq!(vars["LD_X"], "a=b");
        assert_eq!(env_vars("A"), None);
        assert_eq!(env_vars("=1"), None);
        assert_eq!(env_vars("1A=1"), None);
    }

    #[test]
    fn enum_words_may_carry_zeeks_prefix() {
        assert_eq!(fanout_mode("AF_Packet::FANOUT_HASH"), Some(FanoutMode::Hash));
        assert_eq!(fanout_mode("FANOUT_QM"), Some(FanoutMode::Qm));
        assert_eq!(fanout_mode("cpu"), Some(FanoutMode::Cpu));
        assert_eq!(fanout_mode("FANOUT_EBPF"), Some(FanoutMode::Ebpf));
        assert_eq!(fanout_mode("FANOUT_ROLLOVER"), None);
        assert_eq!(checksum_mode("AF_Packet::CHECKSUM_KERNEL"), Some(ChecksumMode::Kernel));
        assert_eq!(checksum_mode("off"), Some(ChecksumMode::Off));
        assert_eq!(checksum_mode("CHECKSUM_"), None);
    }

    #[test]
    fn niceness_is_a_small_number_with_or_without_a_sign() {
        assert_eq!(nice("-20"), Some(-20));
        assert_eq!(nice("19"), Some(19));
        for bad in ["20", "-21", "--1", "+1", "", "-", "1.5", "999"] {
            assert_eq!(nice(bad), None, "{bad}");
        }
    }
}
