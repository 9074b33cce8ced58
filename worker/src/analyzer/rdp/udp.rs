//! RDP over UDP (`[MS-RDPEUDP]`): recognised by its handshake; what it carries is encrypted.

use tyto_core::net::{Proto, Side};

use crate::analyzer::bytes::Cursor;
use crate::analyzer::{Analyzer, Cx, First, Match, Spec};

const FLAG_SYN: u16 = 0x0001;
const FLAG_DATA: u16 = 0x0008;
const FLAG_ACK_OF_ACKS: u16 = 0x0100;
const FLAG_CORRELATION_ID: u16 = 0x0800;
const FLAG_SYNEX: u16 = 0x1000;
/// Version whose datagrams have another form.
const VERSION_3: u16 = 0x0101;

/// RDP over UDP.
pub static SPEC: Spec = Spec {
    name: "RDPEUDP",
    ports: &[(Proto::Udp, 3389)],
    tcp_probe: None,
    udp_probe: Some(probe),
    begin: |_| Box::new(RdpUdp::default()),
};

/// The first datagram of a handshake: it acknowledges nothing, and is filled up.
fn probe(first: &First<'_>) -> Match {
    let is_syn = |bytes: &[u8]| {
        (1132..=1232).contains(&bytes.len())
            && matches!(bytes, [0xff, 0xff, 0xff, 0xff, a, b, c, 1, ..]
                if ![a, b, c].contains(&&b'\n'))
    };
    if is_syn(first.orig) || is_syn(first.resp) { Match::Yes } else { Match::No }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Syn,
    SynAck,
    Established,
}

#[derive(Debug, Default)]
struct RdpUdp {
    state: State,
    /// Versions of client and server.
    versions: [u16; 2],
}

impl RdpUdp {
    /// None when the datagram is cut.
    fn read(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        match self.state {
            State::Syn => {
                let (acknowledged, flags, version) = handshake(&mut cursor)?;
                if side == Side::Orig && flags & FLAG_SYN != 0 && acknowledged == u32::MAX {
                    let [client, _] = &mut self.versions;
                    *client = version;
                    self.state = State::SynAck;
                }
                Some(())
            }
            State::SynAck => {
                /// SYN or ACK.
                const EITHER: u16 = 0x0005;
                let (_, flags, version) = handshake(&mut cursor)?;
                if side == Side::Resp && flags & EITHER != 0 {
                    let [_, server] = &mut self.versions;
                    *server = version;
                    cx.confirm();
                    self.state = State::Established;
                }
                Some(())
            }
            State::Established if self.versions == [VERSION_3; 2] => cursor.skip(3),
            State::Established => acknowledgement(&mut cursor),
        }
    }
}

/// What a handshake's datagram acknowledges, its flags and version.
fn handshake(cursor: &mut Cursor<'_>) -> Option<(u32, u16, u16)> {
    let acknowledged = cursor.be32()?;
    cursor.skip(2)?;
    let flags = cursor.be16()?;
    cursor.skip(8)?;
    if flags & FLAG_CORRELATION_ID != 0 {
        cursor.skip(32)?;
    }
    let mut version = 0;
    if flags & FLAG_SYNEX != 0 {
        cursor.skip(2)?;
        version = cursor.be16()?;
        if version == VERSION_3 {
            cursor.skip(32)?;
        }
    }
    Some((acknowledged, flags, version))
}

/// Skips the headers of a datagram of the first versions.
fn acknowledgement(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.skip(6)?;
    let flags = cursor.be16()?;
    let vector = usize::from(cursor.be16()?);
    cursor.skip((2 + vector).next_multiple_of(4) - 2)?;
    if flags & FLAG_ACK_OF_ACKS != 0 {
        cursor.skip(4)?;
    }
    if flags & FLAG_DATA != 0 {
        cursor.skip(8)?;
    }
    Some(())
}

impl Analyzer for RdpUdp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.read(side, bytes, cx).is_none() {
            cx.violation("Binpac exception: binpac exception: out_of_bound: RDPEUDP_PDU", &[]);
        }
    }

    fn flipped(&mut self) {
        self.versions.swap(0, 1);
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}
