//! RADIUS (RFC 2865): who asked to get in, and whether they did. Datagrams in, a row per answer
//! out.

use std::net::{IpAddr, Ipv4Addr};

use tyto_core::net::{ConnId, Proto, Side};
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

use super::bytes::Cursor;
use super::{Analyzer, Cx, Spec};

#[cfg(test)]
mod tests;

/// RADIUS as an analyzer.
pub static SPEC: Spec = Spec {
    name: "RADIUS",
    ports: &[(Proto::Udp, 1812)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Radius::default()),
};

/// An attempt to get in.
#[derive(Debug, LogRecord)]
#[log(stream = "radius")]
pub struct RadiusLog {
    /// Time of the first message.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Who wants to get in.
    pub username: Option<Vec<u8>>,
    /// From which hardware address.
    pub mac: Option<String>,
    /// Address that is to be used.
    pub framed_addr: Option<IpAddr>,
    /// Other end of a tunnel.
    pub tunnel_client: Option<Vec<u8>>,
    /// How they are connected.
    pub connect_info: Option<Vec<u8>>,
    /// What the server says to them.
    pub reply_msg: Option<Vec<u8>>,
    /// `success`, `failed` or `unknown`.
    pub result: Option<&'static str>,
    /// First request to answer.
    pub ttl: Option<Interval>,
}

/// RADIUS on one connection.
#[derive(Debug, Default)]
struct Radius {
    /// An attempt without an answer yet.
    open: Option<Box<RadiusLog>>,
}

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const ACCESS_CHALLENGE: u8 = 11;

impl Analyzer for Radius {
    fn deliver(&mut self, _side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let (code, attributes) = match parse(bytes) {
            Ok(message) => message,
            Err(reason) => {
                cx.violation(format!("Binpac exception: binpac exception: {reason}"), &[]);
                return;
            }
        };
        cx.confirm();
        let mut row = self.open.take().unwrap_or_else(|| RadiusLog::begin(cx));
        match code {
            ACCESS_REQUEST => row.request(attributes),
            ACCESS_CHALLENGE => row.challenge(attributes),
            ACCESS_ACCEPT => row.result = Some("success"),
            ACCESS_REJECT => row.result = Some("failed"),
            _ => {}
        }
        if row.result.is_none() {
            self.open = Some(row);
            return;
        }
        let ttl = cx.now.since(row.ts);
        row.ttl = (ttl.0 != 0).then_some(ttl);
        cx.row(&*row);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(mut row) = self.open.take() {
            row.result = Some("unknown");
            cx.row(&*row);
        }
    }
}

impl RadiusLog {
    fn begin(cx: &Cx<'_>) -> Box<Self> {
        Box::new(Self {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            username: None,
            mac: None,
            framed_addr: None,
            tunnel_client: None,
            connect_info: None,
            reply_msg: None,
            result: None,
            ttl: None,
        })
    }

    /// The first of each attribute counts.
    fn request(&mut self, attributes: &[u8]) {
        const USER_NAME: u8 = 1;
        const CALLING_STATION_ID: u8 = 31;
        const TUNNEL_CLIENT_ENDPOINT: u8 = 66;
        const CONNECT_INFO: u8 = 77;
        for (code, value) in each(attributes) {
            let text = match code {
                USER_NAME => &mut self.username,
                TUNNEL_CLIENT_ENDPOINT => &mut self.tunnel_client,
                CONNECT_INFO => &mut self.connect_info,
                CALLING_STATION_ID => {
                    self.mac.get_or_insert_with(|| normal_mac(value));
                    continue;
                }
                _ => continue,
            };
            text.get_or_insert_with(|| value.to_vec());
        }
    }

    fn challenge(&mut self, attributes: &[u8]) {
        const FRAMED_IP_ADDRESS: u8 = 8;
        const REPLY_MESSAGE: u8 = 18;
        for (code, value) in each(attributes) {
            match code {
                FRAMED_IP_ADDRESS => {
                    let addr = value.try_into().map_or(Ipv4Addr::UNSPECIFIED, <[u8; 4]>::into);
                    self.framed_addr.get_or_insert(IpAddr::V4(addr));
                }
                REPLY_MESSAGE => {
                    self.reply_msg.get_or_insert_with(|| value.to_vec());
                }
                _ => {}
            }
        }
    }
}

/// The code and the attributes, whose lengths fit.
fn parse(bytes: &[u8]) -> Result<(u8, &[u8]), String> {
    const HEADER_LEN: usize = 20;
    let have = bytes.len();
    let (Some(code), Some(attributes)) = (bytes.first(), bytes.get(HEADER_LEN..)) else {
        return Err(format!("out_of_bound: RADIUS_PDU:authenticator: {HEADER_LEN} > {have}"));
    };
    let mut cursor = Cursor::new(attributes);
    while !cursor.is_empty() {
        let have = cursor.len();
        let (_, Some(len)) = (cursor.u8(), cursor.u8()) else {
            return Err(format!("out_of_bound: RADIUS_Attribute:length: 2 > {have}"));
        };
        let is_taken = usize::from(len).checked_sub(2).and_then(|len| cursor.take(len));
        if is_taken.is_none() {
            return Err(format!("out_of_bound: RADIUS_Attribute:value: {len} > {have}"));
        }
    }
    Ok((*code, attributes))
}

/// The attributes: code and value (RFC 2865 section 5).
fn each(attributes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut cursor = Cursor::new(attributes);
    std::iter::from_fn(move || {
        let (code, len) = (cursor.u8()?, cursor.u8()?);
        Some((code, cursor.take(usize::from(len).checked_sub(2)?)?))
    })
}

/// A hardware address however it was written; empty when it is none.
fn normal_mac(text: &[u8]) -> String {
    let digits: Vec<u8> = text.iter().copied().filter(u8::is_ascii_hexdigit).collect();
    if !matches!(digits.len(), 12 | 16) {
        return String::new();
    }
    let pairs: Vec<_> =
        digits.chunks(2).map(|pair| String::from_utf8_lossy(pair).to_ascii_lowercase()).collect();
    pairs.join(":")
}
