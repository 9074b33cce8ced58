//! What a TLS handshake says, apart from how it is carried (TCP, DTLS, QUIC): messages, the
//! names of their numbers, fingerprints of hellos.

pub mod ciphers;
pub mod fingerprint;
pub mod message;
pub mod names;
