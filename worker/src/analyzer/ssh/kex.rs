//! The algorithms that both sides offer (KEXINIT, RFC 4253 section 7.1) and what they agree on.

use tyto_core::net::Side;

use crate::analyzer::Cx;
use crate::analyzer::bytes::Cursor;

/// Bytes of one list of names (Zeek: `SSH::max_string_length`).
const STRING_LEN_MAX: u32 = 2 * 1024 * 1024;
/// Names of one list (Zeek: `SSH::max_kexinit_…_algorithms`).
const NAMES_MAX: usize = 100;

/// What one side offers.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    /// Key exchange.
    pub kex: Vec<u8>,
    host_key: Vec<u8>,
    /// Client to server, server to client.
    ciphers: [Vec<u8>; 2],
    macs: [Vec<u8>; 2],
    compressions: [Vec<u8>; 2],
}

/// What both sides agree on.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    /// Encryption.
    pub cipher: String,
    /// Integrity.
    pub mac: String,
    /// Compression.
    pub compression: String,
    /// Key exchange.
    pub kex: String,
    /// Kind of the server's key.
    pub host_key: String,
}

/// How the messages of a key exchange look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// RFC 4253 section 8.
    Dh,
    /// RFC 4419.
    DhGex,
    /// RFC 5656, 8731.
    Ecc,
    /// RFC 4462.
    Gss,
    /// RFC 4432.
    Rsa,
}

impl Offer {
    /// Reads the body of a KEXINIT. None when it is cut.
    pub(super) fn read(body: &[u8], cx: &mut Cx<'_>) -> Option<Self> {
        const COOKIE_LEN: usize = 16;
        let mut cursor = Cursor::new(body);
        cursor.skip(COOKIE_LEN)?;
        let mut next = |cx: &mut Cx<'_>| string(&mut cursor, cx).map(<[u8]>::to_vec);
        let (kex, host_key) = (next(cx)?, next(cx)?);
        let ciphers = [next(cx)?, next(cx)?];
        let macs = [next(cx)?, next(cx)?];
        let compressions = [next(cx)?, next(cx)?];
        let _languages = [next(cx)?, next(cx)?];
        let offer = Self { kex, host_key, ciphers, macs, compressions };
        cursor.u8()?;
        cursor.be32()?;
        offer.tell_limits(cx);
        Some(offer)
    }

    /// The lists for what `side` sends: key exchange, encryption, integrity, compression.
    pub(super) fn sent_by(&self, side: Side) -> [&[u8]; 4] {
        let [ciphers, macs, compressions] =
            [&self.ciphers, &self.macs, &self.compressions].map(|[up, down]| match side {
                Side::Orig => &up[..],
                Side::Resp => &down[..],
            });
        [&self.kex, ciphers, macs, compressions]
    }

    /// Kinds of host keys.
    pub(super) fn host_key(&self) -> &[u8] {
        &self.host_key
    }

    fn tell_limits(&self, cx: &mut Cx<'_>) {
        let [cipher_up, cipher_down] = &self.ciphers;
        let [mac_up, mac_down] = &self.macs;
        let [compression_up, compression_down] = &self.compressions;
        let lists = [
            (&self.kex, "SSH_max_kexinit_kex_algorithms_exceeded"),
            (&self.host_key, "SSH_max_kexinit_hostkey_algorithms_exceeded"),
            (cipher_up, "SSH_max_kexinit_encryption_algorithms_exceeded"),
            (cipher_down, "SSH_max_kexinit_encryption_algorithms_exceeded"),
            (mac_up, "SSH_max_kexinit_mac_algorithms_exceeded"),
            (mac_down, "SSH_max_kexinit_mac_algorithms_exceeded"),
            (compression_up, "SSH_max_kexinit_compression_algorithms_exceeded"),
            (compression_down, "SSH_max_kexinit_compression_algorithms_exceeded"),
        ];
        for (list, weird) in lists {
            let count = list.split(|byte| *byte == b',').count();
            if count > NAMES_MAX {
                cx.limit_reached(weird, &format!("{count} > {NAMES_MAX}"));
            }
        }
    }
}

impl Agreed {
    /// The outcome of the negotiation.
    pub(super) fn of(client: &Offer, server: &Offer) -> Self {
        let both = |client: &[Vec<u8>; 2], server: &[Vec<u8>; 2]| {
            let ([client_up, client_down], [server_up, server_down]) = (client, server);
            let (up, down) = (agree(client_up, server_up), agree(client_down, server_down));
            if up == down { up } else { format!("To server: {up}, to client: {down}") }
        };
        Self {
            cipher: both(&client.ciphers, &server.ciphers),
            mac: both(&client.macs, &server.macs),
            compression: both(&client.compressions, &server.compressions),
            kex: agree(&client.kex, &server.kex),
            host_key: agree(&client.host_key, &server.host_key),
        }
    }
}

impl Method {
    /// The method of the algorithm called `name`; None when it is not known.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        const PREFIXES: [(&[u8], Method); 5] = [
            (b"gss-", Method::Gss),
            (b"ecdh-sha2-", Method::Ecc),
            (b"curve25519-sha256", Method::Ecc),
            (b"sntrup761x25519-sha512", Method::Ecc),
            (b"mlkem", Method::Ecc),
        ];
        match name {
            b"rsa1024-sha1" | b"rsa2048-sha256" => Some(Self::Rsa),
            b"diffie-hellman-group1-sha1"
            | b"diffie-hellman-group14-sha1"
            | b"diffie-hellman-group14-sha256"
            | b"diffie-hellman-group16-sha512" => Some(Self::Dh),
            b"diffie-hellman-group-exchange-sha1" | b"diffie-hellman-group-exchange-sha256" => {
                Some(Self::DhGex)
            }
            b"ecmqv-sha2" => Some(Self::Ecc),
            _ => PREFIXES
                .iter()
                .find(|(prefix, _)| name.starts_with(prefix))
                .map(|(_, method)| *method),
        }
    }
}

/// A string with its length in front; weird when it says to be very long.
pub(super) fn string<'a>(cursor: &mut Cursor<'a>, cx: &mut Cx<'_>) -> Option<&'a [u8]> {
    let len = cursor.be32()?;
    if len > STRING_LEN_MAX {
        let addl = format!("{len} > {STRING_LEN_MAX}");
        cx.limit_reached("SSH_max_string_length_exceeded", &addl);
    }
    cursor.take(len.min(STRING_LEN_MAX) as usize)
}

/// The first name of the client's list that is in the server's.
pub(super) fn first_common<'a>(client: &'a [u8], server: &[u8]) -> Option<&'a [u8]> {
    let in_server = |name: &&[u8]| {
        let mut names = server.split(|byte| *byte == b',').take(NAMES_MAX);
        names.any(|other| other == *name)
    };
    client.split(|byte| *byte == b',').take(NAMES_MAX).find(in_server)
}

/// The names of a list that count: all but those beyond the limit.
pub(super) fn first_names(list: &[u8]) -> &[u8] {
    let ends = list.iter().enumerate().filter(|(_, byte)| **byte == b',');
    match ends.map(|(end, _)| end).nth(NAMES_MAX - 1) {
        Some(end) => list.get(..end).unwrap_or(list),
        None => list,
    }
}

fn agree(client: &[u8], server: &[u8]) -> String {
    first_common(client, server).map_or_else(
        || "Algorithm negotiation failed".to_owned(),
        |name| String::from_utf8_lossy(name).into_owned(),
    )
}
