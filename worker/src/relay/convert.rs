//! Notes as they travel (`proto/tyto/v1/relay.proto`).

use std::net::IpAddr;

use tyto_core::net::{ConnId, Port};
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};
use tyto_proto::v1;
use tyto_proto::v1::announced::By;
use tyto_proto::v1::note::About;

use crate::analyzer::dhcp::join::Piece;
use crate::analyzer::irc::log::IrcLog;
use crate::neighbours::{Announced, Announcer, Note, SessionAt, Transferred};

/// How long an announced connection is waited for at most, seconds.
const TIMEOUT_S_MAX: u64 = 3600;

/// What decides which way a note takes.
pub(super) fn key(note: &Note) -> Vec<u8> {
    match note {
        Note::Announced(announced) => endpoint(announced.resp, announced.resp_port),
        Note::Transferred(transferred) => endpoint(transferred.resp, transferred.resp_port),
        Note::Dhcp(piece) => piece.transaction.to_be_bytes().into(),
        Note::Attention(_) => b"attention".into(),
    }
}

fn endpoint(addr: IpAddr, port: u16) -> Vec<u8> {
    let mut key = addr_to_wire(addr);
    key.extend(port.to_be_bytes());
    key
}

/// A note as it goes to a proxy.
pub(super) fn to_wire(note: &Note) -> v1::Note {
    let about = match note {
        Note::Announced(announced) => About::Announced(announced_to_wire(announced)),
        Note::Transferred(transferred) => About::Transferred(v1::Transferred {
            session: Some(session_to_wire(&transferred.session)),
            resp: addr_to_wire(transferred.resp),
            resp_port: transferred.resp_port.into(),
            fuid: transferred.fuid.map(|fuid| id_to_wire(fuid.0)),
            mime_type: transferred.mime_type.clone(),
        }),
        Note::Dhcp(piece) => About::Dhcp(dhcp_to_wire(piece)),
        Note::Attention(at) => About::Attention(v1::Attention { ts: at.0 }),
    };
    v1::Note { key: key(note), about: Some(about) }
}

/// A note of another worker; none when it makes no sense, or is of a later release.
pub(super) fn from_wire(note: v1::Note) -> Option<Note> {
    Some(match note.about? {
        About::Announced(announced) => Note::Announced(announced_from_wire(announced)?),
        About::Transferred(transferred) => Note::Transferred(Transferred {
            session: session_from_wire(transferred.session?),
            resp: addr_from_wire(&transferred.resp)?,
            resp_port: u16::try_from(transferred.resp_port).ok()?,
            fuid: transferred.fuid.map(|id| Fuid(id_from_wire(&id))),
            mime_type: transferred.mime_type,
        }),
        About::Dhcp(message) => Note::Dhcp(Box::new(dhcp_from_wire(message)?)),
        About::Attention(attention) => Note::Attention(Ts(attention.ts)),
    })
}

fn announced_to_wire(announced: &Announced) -> v1::Announced {
    let by = match &announced.by {
        Announcer::Ftp(session) => By::Ftp(session_to_wire(session)),
        Announcer::Dcc(row) => By::Dcc(offer_to_wire(row)),
    };
    v1::Announced {
        ts: announced.at.0,
        timeout_s: announced.timeout_s,
        orig: announced.orig.map(addr_to_wire).unwrap_or_default(),
        resp: addr_to_wire(announced.resp),
        resp_port: announced.resp_port.into(),
        by: Some(by),
    }
}

fn announced_from_wire(announced: v1::Announced) -> Option<Announced> {
    Some(Announced {
        at: Ts(announced.ts),
        timeout_s: announced.timeout_s.min(TIMEOUT_S_MAX),
        orig: optional_addr(&announced.orig)?,
        resp: addr_from_wire(&announced.resp)?,
        resp_port: u16::try_from(announced.resp_port).ok()?,
        by: match announced.by? {
            By::Ftp(session) => Announcer::Ftp(session_from_wire(session)),
            By::Dcc(offer) => Announcer::Dcc(Box::new(offer_from_wire(offer)?)),
        },
    })
}

fn offer_to_wire(row: &IrcLog) -> v1::DccOffer {
    let ConnId { orig_h, orig_p, resp_h, resp_p } = row.id;
    v1::DccOffer {
        ts: row.ts.0,
        uid: Some(id_to_wire(row.uid)),
        orig: addr_to_wire(orig_h),
        orig_port: orig_p.0.into(),
        resp: addr_to_wire(resp_h),
        resp_port: resp_p.0.into(),
        nick: row.nick.clone(),
        user: row.user.clone(),
        value: row.value.clone(),
        addl: row.addl.clone(),
        file_name: row.dcc_file_name.clone(),
        file_size: row.dcc_file_size,
    }
}

fn offer_from_wire(offer: v1::DccOffer) -> Option<IrcLog> {
    Some(IrcLog {
        ts: Ts(offer.ts),
        uid: id_from_wire(&offer.uid?),
        id: ConnId {
            orig_h: addr_from_wire(&offer.orig)?,
            orig_p: Port(u16::try_from(offer.orig_port).ok()?),
            resp_h: addr_from_wire(&offer.resp)?,
            resp_p: Port(u16::try_from(offer.resp_port).ok()?),
        },
        nick: offer.nick,
        user: offer.user,
        // Said when the file comes.
        command: None,
        value: offer.value,
        addl: offer.addl,
        dcc_file_name: offer.file_name,
        dcc_file_size: offer.file_size,
        dcc_mime_type: None,
        fuid: None,
    })
}

fn dhcp_to_wire(piece: &Piece) -> v1::DhcpMessage {
    let addr = |addr: Option<IpAddr>| addr.map(addr_to_wire).unwrap_or_default();
    v1::DhcpMessage {
        ts: piece.ts.0,
        uid: Some(id_to_wire(piece.uid)),
        transaction: piece.transaction,
        kind: piece.kind.into(),
        is_client: piece.is_client,
        sender: addr(piece.sender),
        assigned: addr(piece.assigned),
        hardware: piece.hardware.clone(),
        client_id: piece.client_id.clone(),
        host_name: piece.host_name.clone(),
        client_fqdn: piece.client_fqdn.clone(),
        domain: piece.domain.clone(),
        requested: addr(piece.requested),
        lease_s: piece.lease_s,
        text: piece.text.clone(),
    }
}

fn dhcp_from_wire(message: v1::DhcpMessage) -> Option<Piece> {
    Some(Piece {
        ts: Ts(message.ts),
        uid: id_from_wire(&message.uid?),
        transaction: message.transaction,
        kind: u8::try_from(message.kind).ok()?,
        is_client: message.is_client,
        sender: optional_addr(&message.sender)?,
        assigned: optional_addr(&message.assigned)?,
        hardware: message.hardware,
        client_id: message.client_id,
        host_name: message.host_name,
        client_fqdn: message.client_fqdn,
        domain: message.domain,
        requested: optional_addr(&message.requested)?,
        lease_s: message.lease_s,
        text: message.text,
    })
}

fn session_to_wire(session: &SessionAt) -> v1::FtpSession {
    v1::FtpSession { worker: session.worker.to_string(), serial: session.serial }
}

fn session_from_wire(session: v1::FtpSession) -> SessionAt {
    SessionAt { worker: session.worker.into(), serial: session.serial }
}

const fn id_to_wire(uid: Uid) -> v1::Id {
    v1::Id { hi: uid.hi, lo: uid.lo }
}

const fn id_from_wire(id: &v1::Id) -> Uid {
    Uid { hi: id.hi, lo: id.lo }
}

fn addr_to_wire(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets().into(),
    }
}

/// None when it is no address.
fn addr_from_wire(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// An address that may be missing; none when it is neither.
fn optional_addr(bytes: &[u8]) -> Option<Option<IpAddr>> {
    if bytes.is_empty() { Some(None) } else { addr_from_wire(bytes).map(Some) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr() -> impl Strategy<Value = IpAddr> {
        any::<IpAddr>()
    }

    fn text() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))
    }

    fn uid() -> impl Strategy<Value = Uid> {
        any::<(u32, u64)>().prop_map(|(hi, lo)| Uid { hi, lo })
    }

    fn session() -> impl Strategy<Value = SessionAt> {
        ("[a-z0-9-]{1,20}", any::<u64>())
            .prop_map(|(worker, serial)| SessionAt { worker: worker.into(), serial })
    }

    fn offer() -> impl Strategy<Value = IrcLog> {
        let ends = (addr(), any::<u16>(), addr(), any::<u16>());
        let id = ends.prop_map(|(orig_h, orig_p, resp_h, resp_p)| ConnId {
            orig_h,
            orig_p: Port(orig_p),
            resp_h,
            resp_p: Port(resp_p),
        });
        let texts = (text(), text(), text(), text(), text());
        (any::<u64>(), uid(), id, texts, any::<Option<u64>>()).prop_map(
            |(ts, uid, id, (nick, user, value, addl, name), size)| IrcLog {
                ts: Ts(ts),
                uid,
                id,
                nick,
                user,
                command: None,
                value,
                addl,
                dcc_file_name: name,
                dcc_file_size: size,
                dcc_mime_type: None,
                fuid: None,
            },
        )
    }

    fn piece() -> impl Strategy<Value = Piece> {
        let head = (any::<u64>(), uid(), any::<u32>(), any::<u8>(), any::<bool>());
        let addrs = proptest::array::uniform3(proptest::option::of(addr()));
        let words = ("[0-9a-f:]{0,17}", proptest::option::of("[0-9a-f:]{0,17}"));
        let texts = (text(), text(), text(), text());
        (head, addrs, words, texts, any::<Option<u32>>()).prop_map(
            |(
                (ts, uid, transaction, kind, is_client),
                [sender, assigned, requested],
                (hardware, client_id),
                (host_name, client_fqdn, domain, text),
                lease_s,
            )| Piece {
                ts: Ts(ts),
                uid,
                transaction,
                kind,
                is_client,
                sender,
                assigned,
                hardware,
                client_id,
                host_name,
                client_fqdn,
                domain,
                requested,
                lease_s,
                text,
            },
        )
    }

    fn announced() -> impl Strategy<Value = Announced> {
        let by = prop_oneof![
            session().prop_map(Announcer::Ftp),
            offer().prop_map(|row| Announcer::Dcc(Box::new(row))),
        ];
        let ends = (proptest::option::of(addr()), addr(), any::<u16>());
        (any::<u64>(), 0..=TIMEOUT_S_MAX, ends, by).prop_map(
            |(at, timeout_s, (orig, resp, resp_port), by)| Announced {
                at: Ts(at),
                timeout_s,
                orig,
                resp,
                resp_port,
                by,
            },
        )
    }

    fn transferred() -> impl Strategy<Value = Transferred> {
        let mime_type = proptest::option::of("[a-z/]{1,20}");
        (session(), addr(), any::<u16>(), proptest::option::of(uid()), mime_type).prop_map(
            |(session, resp, resp_port, fuid, mime_type)| {
                let fuid = fuid.map(Fuid);
                Transferred { session, resp, resp_port, fuid, mime_type }
            },
        )
    }

    fn note() -> impl Strategy<Value = Note> {
        prop_oneof![
            announced().prop_map(Note::Announced),
            transferred().prop_map(Note::Transferred),
            piece().prop_map(|piece| Note::Dhcp(Box::new(piece))),
            any::<u64>().prop_map(|ts| Note::Attention(Ts(ts))),
        ]
    }

    proptest! {
        #[test]
        fn a_note_arrives_as_it_was_sent(note in note()) {
            let sent = to_wire(&note);
            prop_assert!((1..=64).contains(&sent.key.len()));
            let arrived = from_wire(sent).map(|note| format!("{note:?}"));
            prop_assert_eq!(arrived, Some(format!("{note:?}")));
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_note() {
        let announced = v1::Announced { resp: vec![1, 2, 3], ..Default::default() };
        let dhcp =
            v1::DhcpMessage { uid: Some(v1::Id::default()), kind: 256, ..Default::default() };
        for about in [None, Some(About::Announced(announced)), Some(About::Dhcp(dhcp))] {
            assert!(from_wire(v1::Note { key: vec![1], about }).is_none());
        }
    }
}
