//! `MySQL`'s client/server protocol: handshake, commands, and of the answers what tells whether
//! a command succeeded. After a request for TLS the connection goes on as TLS.

mod encoding;
mod log;
mod packet;
#[cfg(test)]
mod tests;

use tyto_core::net::{Proto, Side};

use self::log::{MysqlLog, command_name};
use self::packet::{Broken, Dialog, Told};
use super::bytes::Cursor;
use super::stage::Stage;
use super::{Analyzer, Cx, Spec, spec};

/// Bytes of a packet that are looked at; the protocol allows 16 MB.
const PACKET_KEPT_MAX: usize = 256 * 1024;

/// `MySQL`.
pub static SPEC: Spec = Spec {
    name: "MYSQL",
    ports: &[(Proto::Tcp, 1434), (Proto::Tcp, 3306)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Mysql::default()),
};

#[derive(Debug, Default)]
struct Mysql {
    sides: [Packets; 2],
    dialog: Dialog,
    pending: Option<MysqlLog>,
    has_gap: bool,
    tls: Option<Stage>,
}

/// Packets out of one side's bytes.
#[derive(Debug, Default)]
struct Packets {
    header: Vec<u8>,
    kept: Vec<u8>,
    /// Bytes of the packet that are still to come.
    missing: usize,
}

/// One packet.
#[derive(Debug)]
struct Packet {
    seq: u8,
    /// Bytes of the body by the header.
    len: usize,
    body: Vec<u8>,
}

impl Packets {
    /// Takes bytes until a packet is whole. None: all was taken.
    fn next(&mut self, rest: &mut &[u8]) -> Option<Packet> {
        const HEADER_LEN: usize = 4;
        let take = |rest: &mut &[u8], len: usize| {
            let (head, tail) = rest.split_at(len.min(rest.len()));
            *rest = tail;
            head.to_vec()
        };
        if self.header.len() < HEADER_LEN {
            self.header.extend(take(rest, HEADER_LEN - self.header.len()));
            let mut cursor = Cursor::new(&self.header);
            let (len, _seq) = (cursor.le24()?, cursor.u8()?);
            self.missing = len as usize;
        }
        let (head, tail) = rest.split_at(self.missing.min(rest.len()));
        let room = PACKET_KEPT_MAX - self.kept.len().min(PACKET_KEPT_MAX);
        self.kept.extend_from_slice(head.get(..room).unwrap_or(head));
        self.missing -= head.len();
        *rest = tail;
        if self.missing > 0 {
            return None;
        }
        let header = std::mem::take(&mut self.header);
        let mut cursor = Cursor::new(&header);
        let (len, seq) = (cursor.le24()?, cursor.u8()?);
        Some(Packet { seq, len: len as usize, body: std::mem::take(&mut self.kept) })
    }
}

impl Mysql {
    fn told(&mut self, told: Told, cx: &mut Cx<'_>) {
        match told {
            Told::Nothing => {}
            Told::Login(user) => {
                cx.confirm();
                if self.pending.is_none() {
                    self.pending = Some(row("login".to_owned(), user, cx));
                }
            }
            Told::StartTls => {
                cx.confirm();
                self.tls = spec("SSL").map(|ssl| Stage::of(ssl, cx));
            }
            Told::Command { command, arg } => {
                self.write(cx);
                self.pending = Some(row(command_name(command), arg, cx));
                if command == packet::COM_QUIT {
                    self.write(cx);
                }
            }
            Told::Ok { rows } => self.answered(
                |row| {
                    row.success = Some(true);
                    row.rows = Some(rows);
                },
                cx,
            ),
            Told::EndOfRows => self.answered(
                |row| {
                    row.success.get_or_insert(true);
                    row.rows.get_or_insert(0);
                },
                cx,
            ),
            Told::Error(text) => self.answered(
                |row| {
                    row.success = Some(false);
                    row.response = Some(text);
                },
                cx,
            ),
        }
    }

    fn answered(&mut self, set: impl FnOnce(&mut MysqlLog), cx: &mut Cx<'_>) {
        if let Some(row) = &mut self.pending {
            set(row);
        }
        self.write(cx);
    }

    fn write(&mut self, cx: &mut Cx<'_>) {
        if let Some(row) = self.pending.take() {
            cx.row(&row);
        }
    }
}

impl Analyzer for Mysql {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let mut rest = bytes;
        while self.tls.is_none() && !cx.is_partial && !self.has_gap {
            let Some(packets) = self.sides.get_mut(side.index()) else { return };
            let Some(packet) = packets.next(&mut rest) else { return };
            let is_cut = packet.body.len() < packet.len;
            let read = match side {
                Side::Orig => self.dialog.client(&packet.body),
                Side::Resp => self.dialog.server(packet.seq, packet.len, &packet.body),
            };
            match read {
                Ok(told) => self.told(told, cx),
                Err(Broken) if is_cut => {}
                Err(Broken) => {
                    cx.violation(
                        "Binpac exception: binpac exception: out_of_bound: MySQL_PDU",
                        &[],
                    );
                    return;
                }
            }
        }
        if let Some(tls) = &mut self.tls
            && !rest.is_empty()
        {
            tls.deliver(side, rest, cx);
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.gap(side, missed_bytes, cx);
        }
        self.has_gap = true;
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end_of_side(side, cx);
        }
    }

    fn flipped(&mut self) {
        self.sides.swap(0, 1);
        if let Some(tls) = &mut self.tls {
            tls.flipped();
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end(cx);
        }
        self.write(cx);
    }
}

fn row(cmd: String, arg: Vec<u8>, cx: &Cx<'_>) -> MysqlLog {
    let (ts, uid, id) = (cx.now, cx.uid(), cx.id());
    MysqlLog { ts, uid, id, cmd, arg, success: None, rows: None, response: None }
}
