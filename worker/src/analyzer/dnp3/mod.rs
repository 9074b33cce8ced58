//! DNP3 (IEEE 1815) over TCP and UDP: link frames in, a row per answer out.

use std::borrow::Cow;

use tyto_core::net::{ConnId, Proto, Side};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use self::link::{Fault, Fragment, Link};
use super::text::Text;
use super::{Analyzer, Cx, First, Match, Spec};

mod application;
mod link;
#[cfg(test)]
mod tests;

/// DNP3 over TCP as an analyzer.
pub static SPEC_TCP: Spec = Spec {
    name: "DNP3_TCP",
    ports: &[(Proto::Tcp, 20000)],
    tcp_probe: Some(probe_tcp),
    udp_probe: None,
    begin: |_| Box::new(Dnp3::default()),
};

/// DNP3 over UDP as an analyzer: found by content alone, as in Zeek.
pub static SPEC_UDP: Spec = Spec {
    name: "DNP3_UDP",
    ports: &[],
    tcp_probe: None,
    udp_probe: Some(probe_udp),
    begin: |_| Box::new(Dnp3::default()),
};

/// What every link frame begins with.
const START: [u8; 2] = [0x05, 0x64];

fn probe_tcp(first: &First<'_>) -> Match {
    if first.resp.starts_with(&START) {
        Match::Yes
    } else if START.starts_with(first.resp) {
        Match::Later
    } else {
        Match::No
    }
}

fn probe_udp(first: &First<'_>) -> Match {
    let is_found = first.orig.starts_with(&START) || first.resp.starts_with(&START);
    if is_found { Match::Yes } else { Match::No }
}

/// A request and its answer.
#[derive(Debug, LogRecord)]
#[log(stream = "dnp3")]
pub struct Dnp3Log {
    /// Time of the latest of the two.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// What is asked for.
    pub fc_request: Option<Text>,
    /// What is answered.
    pub fc_reply: Option<Text>,
    /// State of the device (IEEE 1815 section 4.2.2.6), as one number.
    pub iin: Option<u16>,
}

/// DNP3 on one connection.
#[derive(Debug, Default)]
struct Dnp3 {
    /// By [`Side::index`].
    links: [Link; 2],
    /// A request without an answer yet.
    request: Option<Box<Dnp3Log>>,
}

impl Analyzer for Dnp3 {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let Self { links, request } = self;
        let Some(link) = links.get_mut(side.index()) else { return };
        let fault =
            link.deliver(side, bytes, cx, |fragment, cx| application(request, side, fragment, cx));
        match fault {
            Ok(()) => {}
            Err(Fault::Weird(name)) => {
                if let Some(name) = name {
                    cx.weird(name);
                }
                cx.done();
            }
            Err(Fault::Violation(reason)) => {
                cx.violation(reason, &[]);
                cx.done();
            }
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(row) = self.request.take() {
            cx.row(&*row);
        }
    }
}

/// A fragment of the application layer came as a whole.
fn application(
    request: &mut Option<Box<Dnp3Log>>,
    side: Side,
    fragment: Fragment<'_>,
    cx: &mut Cx<'_>,
) -> Result<(), String> {
    if side == Side::Orig {
        let function = application::request_function(fragment.bytes)?;
        let row = request.get_or_insert_with(|| Dnp3Log::begin(cx));
        row.ts = cx.now;
        row.fc_request = Some(Text(function_name(function)));
        return application::check_request(function, fragment);
    }
    let (function, indications) = application::response_header(fragment.bytes)?;
    let mut row = request.take().unwrap_or_else(|| Dnp3Log::begin(cx));
    row.ts = cx.now;
    row.fc_reply = Some(Text(function_name(function)));
    row.iin = Some(indications);
    cx.row(&*row);
    application::check_response(function, fragment)
}

impl Dnp3Log {
    fn begin(cx: &Cx<'_>) -> Box<Self> {
        let (ts, uid, id) = (cx.now, cx.uid(), cx.id());
        Box::new(Self { ts, uid, id, fc_request: None, fc_reply: None, iin: None })
    }
}

/// IEEE 1815 section 4.4.
fn function_name(code: u8) -> Cow<'static, str> {
    Cow::Borrowed(match code {
        0x00 => "CONFIRM",
        0x01 => "READ",
        0x02 => "WRITE",
        0x03 => "SELECT",
        0x04 => "OPERATE",
        0x05 => "DIRECT_OPERATE",
        0x06 => "DIRECT_OPERATE_NR",
        0x07 => "IMMED_FREEZE",
        0x08 => "IMMED_FREEZE_NR",
        0x09 => "FREEZE_CLEAR",
        0x0a => "FREEZE_CLEAR_NR",
        0x0b => "FREEZE_AT_TIME",
        0x0c => "FREEZE_AT_TIME_NR",
        0x0d => "COLD_RESTART",
        0x0e => "WARM_RESTART",
        0x0f => "INITIALIZE_DATA",
        0x10 => "INITIALIZE_APPL",
        0x11 => "START_APPL",
        0x12 => "STOP_APPL",
        0x13 => "SAVE_CONFIG",
        0x14 => "ENABLE_UNSOLICITED",
        0x15 => "DISABLE_UNSOLICITED",
        0x16 => "ASSIGN_CLASS",
        0x17 => "DELAY_MEASURE",
        0x18 => "RECORD_CURRENT_TIME",
        0x19 => "OPEN_FILE",
        0x1a => "CLOSE_FILE",
        0x1b => "DELETE_FILE",
        0x1c => "GET_FILE_INFO",
        0x1d => "AUTHENTICATE_FILE",
        0x1e => "ABORT_FILE",
        0x1f => "ACTIVATE_CONFIG",
        0x20 => "AUTHENTICATE_REQ",
        0x21 => "AUTHENTICATE_REQ_NR",
        0x81 => "RESPONSE",
        0x82 => "UNSOLICITED_RESPONSE",
        0x83 => "AUTHENTICATE_RESP",
        _ => return Cow::Owned(format!("unknown-{code}")),
    })
}
