//! `ntp.log`, `ntp_control.log` and `ntp_private.log`.

use std::net::Ipv4Addr;

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

use super::parser::{Control, Message, Private, Sync};
use crate::analyzer::Cx;

/// A message that tells the time, or asks for it.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "ntp")]
pub struct NtpLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Version of the protocol.
    pub version: u8,
    /// Part of the sender: 3 asks, 4 answers, 5 broadcasts.
    pub mode: u8,
    /// How far the sender is from a reference clock.
    pub stratum: u8,
    /// Longest time between messages.
    pub poll: Interval,
    /// Precision of the sender's clock.
    pub precision: Interval,
    /// Round trip to the reference clock.
    pub root_delay: Interval,
    /// How far off the reference clock may be.
    pub root_disp: Interval,
    /// The reference: four letters next to it, an address further away.
    pub ref_id: Vec<u8>,
    /// When the sender's clock was last set.
    pub ref_time: Ts,
    /// When the request left, by who asked.
    pub org_time: Ts,
    /// When the request came, by who answers.
    pub rec_time: Ts,
    /// When the message left.
    pub xmt_time: Ts,
    /// Extension fields.
    pub num_exts: u64,
}

/// A message that asks about the server itself (mode 6).
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "ntp_control")]
pub struct NtpControlLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Version of the protocol.
    pub version: u8,
    /// Always 6.
    pub mode: u8,
    /// What is asked for.
    pub op_code: u8,
    /// Number that pairs request and response.
    pub sequence: u16,
    /// Status of the server or association.
    pub status: u16,
    /// Association that it is about.
    pub association_id: u16,
    /// It is a response.
    pub resp_bit: bool,
    /// The response tells an error.
    pub err_bit: bool,
    /// More of the response follows.
    pub more_bit: bool,
    /// What is told.
    pub data: Option<Vec<u8>>,
    /// Key that authenticates it.
    pub key_id: Option<u32>,
    /// Its code of authenticity.
    pub crypto_checksum: Option<Vec<u8>>,
}

/// A message of an implementation's own (mode 7).
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "ntp_private")]
pub struct NtpPrivateLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Version of the protocol.
    pub version: u8,
    /// Always 7.
    pub mode: u8,
    /// What is asked for.
    pub req_code: u8,
    /// Number among the packets of a response.
    pub sequence: u8,
    /// Whose codes these are.
    pub implementation: u8,
    /// The message is authenticated.
    pub auth_bit: bool,
    /// Error of a response.
    pub err: u8,
    /// What is told.
    pub data: Option<Vec<u8>>,
}

impl NtpLog {
    pub(super) fn new(message: &Message<'_>, sync: &Sync, cx: &Cx<'_>) -> Self {
        let [ref_time, org_time, rec_time, xmt_time] = sync.times.map(time);
        Self {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            version: message.version,
            mode: message.mode,
            stratum: sync.stratum,
            poll: seconds(2f64.powi(i32::from(sync.poll))),
            precision: seconds(2f64.powi(i32::from(sync.precision))),
            root_delay: span(sync.root_delay),
            root_disp: span(sync.root_dispersion),
            ref_id: match sync.stratum {
                0 | 1 => sync.reference_id.to_vec(),
                _ => Ipv4Addr::from(sync.reference_id).to_string().into_bytes(),
            },
            ref_time,
            org_time,
            rec_time,
            xmt_time,
            num_exts: sync.extensions,
        }
    }
}

impl NtpControlLog {
    pub(super) fn new(message: &Message<'_>, control: &Control<'_>, cx: &Cx<'_>) -> Self {
        let flag = |bit| control.flags & bit != 0;
        Self {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            version: message.version,
            mode: message.mode,
            op_code: control.flags & 0x1f,
            sequence: control.sequence,
            status: control.status,
            association_id: control.association,
            resp_bit: flag(0x80),
            err_bit: flag(0x40),
            more_bit: flag(0x20),
            data: (!control.payload.is_empty()).then(|| control.payload.to_vec()),
            key_id: control.mac.map(|(key_id, _)| key_id),
            crypto_checksum: control.mac.map(|(_, code)| code.to_vec()),
        }
    }
}

impl NtpPrivateLog {
    pub(super) fn new(message: &Message<'_>, private: &Private<'_>, cx: &Cx<'_>) -> Self {
        Self {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            version: message.version,
            mode: message.mode,
            req_code: private.request,
            sequence: private.sequence,
            implementation: private.implementation,
            auth_bit: private.is_authenticated,
            err: private.error,
            data: (!private.payload.is_empty()).then(|| private.payload.to_vec()),
        }
    }
}

/// Seconds as logs print them, to the microsecond: of the fraction alone, which has all its
/// bits, not of the product.
fn seconds(seconds: f64) -> Interval {
    let (whole, fraction) = (seconds.trunc(), seconds.fract());
    // A cast from a float ends at the limits of the type.
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let (whole, micros) = (whole as i64, (fraction * 1e6).round_ties_even() as i64);
    Interval(whole.saturating_mul(1_000_000_000).saturating_add(micros * 1000))
}

/// A short time: Zeek reads both halves as signed, so that fractions of a half and more count
/// backwards. Its logs are the measure.
fn span([whole, fractions]: [i16; 2]) -> Interval {
    seconds(f64::from(whole) + f64::from(fractions) * 2f64.powi(-16))
}

/// A time since 1900 as one since 1970; with the precision of Zeek's times, a double.
fn time([whole, fractions]: [u32; 2]) -> Ts {
    const EPOCH_OFFSET: f64 = -2_208_988_800.0;
    if whole == 0 && fractions == 0 {
        return Ts(0);
    }
    let since = EPOCH_OFFSET + f64::from(whole) + f64::from(fractions) * 2f64.powi(-32);
    Ts::signed(seconds(since).0)
}
