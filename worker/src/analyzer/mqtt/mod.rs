//! MQTT 3.1, 3.1.1 and, as far as the packets are the same, 5 (OASIS): sessions, messages and
//! subscriptions in, rows of `mqtt_*.log` out. Zeek takes each TCP segment for one packet; we
//! read the stream, so that what shares a segment, or spans two, is not lost.

pub mod log;
mod parser;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tyto_core::net::{Proto, Side};
use tyto_core::record::value::{EnumName, Vector};
use tyto_core::time::Interval;

use self::log::{MqttConnectLog, MqttPublishLog, MqttSubscribeLog};
use self::parser::{Connect, Packet, Packets, Publish};
use super::{Analyzer, Cx, First, Match, Spec};

/// MQTT.
pub static SPEC: Spec = Spec {
    name: "MQTT",
    ports: &[(Proto::Tcp, 1883)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::<Mqtt>::default(),
};

/// Bytes of a payload that a row shows (Zeek: `MQTT::max_payload_size`).
const PAYLOAD_BYTES_MAX: usize = 100;
/// Seconds after which what was not acknowledged is written as it is.
const ACK_TIMEOUT_S: u64 = 5;
/// Messages, and subscriptions, that wait for their acknowledgement. One more, and the oldest id
/// is written.
const PENDING_MAX: usize = 256;
/// Topics of a subscription that a row shows (Zeek: `default_max_field_container_elements`).
const TOPICS_MAX: usize = 100;

/// Types of packets (MQTT 3.1.1 section 2.2.1).
mod kind {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const CONNACK: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const PUBREC: u8 = 5;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const PUBCOMP: u8 = 7;
    pub(super) const SUBSCRIBE: u8 = 8;
    pub(super) const SUBACK: u8 = 9;
    pub(super) const UNSUBSCRIBE: u8 = 10;
    pub(super) const UNSUBACK: u8 = 11;
}

/// The analyzer.
#[derive(Debug, Default)]
struct Mqtt {
    /// By [`Side::index`].
    packets: [Packets; 2],
    session: Session,
}

#[derive(Debug, Default)]
struct Session {
    connect: Option<MqttConnectLog>,
    published: BTreeMap<u16, Published>,
    subscribed: BTreeMap<u16, MqttSubscribeLog>,
}

/// A message that waits for its acknowledgement.
#[derive(Debug)]
struct Published {
    row: MqttPublishLog,
    qos: u8,
    was_received: bool,
    was_released: bool,
}

impl Analyzer for Mqtt {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let Self { packets, session } = self;
        let Some(packets) = packets.get_mut(side.index()) else { return };
        let mut rest = bytes;
        while !rest.is_empty() {
            match packets.take(rest, |packet| session.packet(side, packet, cx)) {
                Ok(behind) => rest = behind,
                Err(_) => {
                    cx.violation("malformed MQTT 'remaining length': too many bytes", &[]);
                    return;
                }
            }
        }
    }

    fn gap(&mut self, side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        // Most segments begin a packet: so does, with luck, what follows.
        if let Some(packets) = self.packets.get_mut(side.index()) {
            *packets = Packets::default();
        }
    }

    fn flipped(&mut self) {
        self.packets.swap(0, 1);
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        let timeout = Interval::from_secs(ACK_TIMEOUT_S.cast_signed());
        let now = cx.now;
        self.session.published.retain(|_, published| {
            let waits = now.since(published.row.ts) < timeout;
            if !waits {
                cx.row(&published.row);
            }
            waits
        });
        self.session.subscribed.retain(|_, row| {
            let waits = now.since(row.ts) < timeout;
            if !waits {
                cx.row(row);
            }
            waits
        });
        let first = self.session.published.values().map(|published| published.row.ts);
        if let Some(first) = first.chain(self.session.subscribed.values().map(|row| row.ts)).min() {
            cx.wake_at(first.plus_secs(ACK_TIMEOUT_S));
        }
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {
        // What was neither acknowledged nor waited for long enough is not written, as in Zeek.
    }
}

impl Session {
    fn packet(&mut self, side: Side, packet: Packet<'_>, cx: &mut Cx<'_>) {
        let body = packet.body;
        let told = match packet.header >> 4 {
            kind::CONNECT => Connect::parse(body).map(|connect| self.connect(&connect, cx)),
            kind::CONNACK => body.get(1).map(|code| self.connected(*code, cx)),
            kind::PUBLISH => Publish::parse(packet).map(|message| self.publish(side, &message, cx)),
            kind::PUBACK => id(body).map(|id| self.acknowledged(id, cx)),
            kind::PUBREC => id(body).map(|id| self.step(id, |message| message.was_received = true)),
            kind::PUBREL => id(body).map(|id| self.step(id, |message| message.was_released = true)),
            kind::PUBCOMP => id(body).map(|id| self.completed(id, cx)),
            kind::SUBSCRIBE => parser::subscribe(body).map(|(id, topics, levels)| {
                self.subscribe(id, "MQTT::SUBSCRIBE", topics, Some(levels), cx);
            }),
            kind::SUBACK => id(body).map(|id| self.answered(id, body.get(2).copied(), cx)),
            kind::UNSUBSCRIBE => parser::unsubscribe(body).map(|(id, topics)| {
                self.subscribe(id, "MQTT::UNSUBSCRIBE", topics, None, cx);
            }),
            kind::UNSUBACK => id(body).map(|id| self.answered(id, None, cx)),
            _ => Some(()),
        };
        if told.is_none() {
            cx.violation("Binpac exception: binpac exception: out_of_bound: MQTT_PDU", &[]);
        }
    }

    fn session(&mut self, cx: &Cx<'_>) -> &mut MqttConnectLog {
        self.connect.get_or_insert_with(|| MqttConnectLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            proto_name: None,
            proto_version: None,
            client_id: None,
            connect_status: None,
            will_topic: None,
            will_payload: None,
        })
    }

    fn connect(&mut self, connect: &Connect<'_>, cx: &mut Cx<'_>) {
        let row = self.session(cx);
        row.proto_name = Some(connect.protocol.to_vec());
        row.proto_version = Some(match connect.version {
            3 => "3.1".to_owned(),
            4 => "3.1.1".to_owned(),
            5 => "5.0".to_owned(),
            other => format!("unknown-version-{other}"),
        });
        row.client_id = Some(connect.client_id.to_vec());
        if let Some((topic, payload)) = connect.will {
            row.will_topic = Some(topic.to_vec());
            row.will_payload = Some(payload.to_vec());
        }
        cx.confirm();
    }

    fn connected(&mut self, code: u8, cx: &mut Cx<'_>) {
        let row = self.session(cx);
        row.connect_status = Some(match code {
            0 => "Connection Accepted".to_owned(),
            1 => "Refused: unacceptable protocol version".to_owned(),
            2 => "Refused: identifier rejected".to_owned(),
            3 => "Refused: server unavailable".to_owned(),
            4 => "Refused: bad user name or password".to_owned(),
            5 => "Refused: not authorized".to_owned(),
            other => format!("unknown-return-code-{other}"),
        });
        cx.row(row);
    }

    fn publish(&mut self, side: Side, message: &Publish<'_>, cx: &mut Cx<'_>) {
        self.session(cx);
        cx.confirm();
        let payload = message.payload;
        let mut row = MqttPublishLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            from_client: side == Side::Orig,
            retain: message.retain,
            qos: match message.qos {
                0 => "at most once".to_owned(),
                1 => "at least once".to_owned(),
                2 => "exactly once".to_owned(),
                other => format!("unknown-qos-level-{other}"),
            },
            status: "incomplete_qos",
            topic: message.topic.to_vec(),
            payload: payload.get(..PAYLOAD_BYTES_MAX).unwrap_or(payload).to_vec(),
            payload_len: message.payload_bytes,
        };
        if message.qos == 0 {
            row.status = "ok";
            return cx.row(&row);
        }
        if self.published.len() >= PENDING_MAX
            && let Some((_, oldest)) = self.published.pop_first()
        {
            cx.row(&oldest.row);
        }
        cx.wake_at(cx.now.plus_secs(ACK_TIMEOUT_S));
        let (was_received, was_released) = (false, false);
        let published = Published { row, qos: message.qos, was_received, was_released };
        self.published.insert(message.id, published);
    }

    fn step(&mut self, id: u16, step: impl FnOnce(&mut Published)) {
        if let Some(message) = self.published.get_mut(&id) {
            step(message);
        }
    }

    fn acknowledged(&mut self, id: u16, cx: &mut Cx<'_>) {
        if self.published.get(&id).is_some_and(|message| message.qos == 1) {
            self.arrived(id, cx);
        }
    }

    fn completed(&mut self, id: u16, cx: &mut Cx<'_>) {
        let is_complete = self.published.get(&id).is_some_and(|message| {
            message.qos == 2 && message.was_received && message.was_released
        });
        if is_complete {
            self.arrived(id, cx);
        }
    }

    fn arrived(&mut self, id: u16, cx: &mut Cx<'_>) {
        if let Some(mut message) = self.published.remove(&id) {
            message.row.status = "ok";
            cx.row(&message.row);
        }
    }

    fn subscribe(
        &mut self,
        id: u16,
        action: &'static str,
        mut topics: Vec<Vec<u8>>,
        mut levels: Option<Vec<u64>>,
        cx: &mut Cx<'_>,
    ) {
        self.session(cx);
        if self.subscribed.len() >= PENDING_MAX
            && let Some((_, oldest)) = self.subscribed.pop_first()
        {
            cx.row(&oldest);
        }
        topics.truncate(TOPICS_MAX);
        if let Some(levels) = &mut levels {
            levels.truncate(TOPICS_MAX);
        }
        cx.wake_at(cx.now.plus_secs(ACK_TIMEOUT_S));
        let row = MqttSubscribeLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            action: EnumName(action),
            topics: Vector(topics),
            qos_levels: levels.map(Vector),
            granted_qos_level: None,
            ack: false,
        };
        self.subscribed.insert(id, row);
    }

    fn answered(&mut self, id: u16, granted: Option<u8>, cx: &mut Cx<'_>) {
        if let Some(mut row) = self.subscribed.remove(&id) {
            row.granted_qos_level = granted.map(u64::from);
            row.ack = true;
            cx.row(&row);
        }
    }
}

/// The id at the begin of acknowledgements.
fn id(body: &[u8]) -> Option<u16> {
    body.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// A CONNECT packet: `MQTT`, `MQIsdp` (Zeek: `dpd_mqtt`).
fn probe(first: &First<'_>) -> Match {
    let sides = [first.orig, first.resp];
    let has_name = |bytes: &[u8]| (4..=7).any(|at| bytes.get(at..at + 2) == Some(b"MQ"));
    if sides.into_iter().any(has_name) {
        Match::Yes
    } else if sides.into_iter().all(|bytes| bytes.len() >= 9) {
        Match::No
    } else {
        Match::Later
    }
}
