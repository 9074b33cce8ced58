//! `mqtt_connect.log`, `mqtt_publish.log`, `mqtt_subscribe.log`, with Zeek's columns.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::{EnumName, Vector};
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A client's session, written when the server answers.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "mqtt_connect")]
pub struct MqttConnectLog {
    /// When the client asked.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Name of the protocol.
    pub proto_name: Option<Vec<u8>>,
    /// Version of the protocol.
    pub proto_version: Option<String>,
    /// What the client calls itself.
    pub client_id: Option<Vec<u8>>,
    /// What the server answered.
    pub connect_status: Option<String>,
    /// Topic of the last will.
    pub will_topic: Option<Vec<u8>>,
    /// The last will.
    pub will_payload: Option<Vec<u8>>,
}

/// A message.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "mqtt_publish")]
pub struct MqttPublishLog {
    /// When it was sent.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// The client sent it.
    pub from_client: bool,
    /// The server is to keep it.
    pub retain: bool,
    /// How surely it is to arrive.
    pub qos: String,
    /// `ok`, or `incomplete_qos` when not all was seen that makes sure.
    pub status: &'static str,
    /// What it is about.
    pub topic: Vec<u8>,
    /// Its begin.
    pub payload: Vec<u8>,
    /// Its length in bytes.
    pub payload_len: u64,
}

/// A client wants the messages of topics, or no longer.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "mqtt_subscribe")]
pub struct MqttSubscribeLog {
    /// When it asked.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Whether it wants them.
    pub action: EnumName,
    /// The topics.
    pub topics: Vector<Vec<u8>>,
    /// How surely their messages are to arrive.
    pub qos_levels: Option<Vector<u64>>,
    /// What the server grants.
    pub granted_qos_level: Option<u64>,
    /// The server answered.
    pub ack: bool,
}
