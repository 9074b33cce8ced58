//! What data connections carry, told in the rows of the commands that asked for it.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[allow(dead_code, reason = "shared with conn_log.rs, which uses all of it")]
mod frames;

use frames::{ACK, FIN, ORIG, RESP, Replay, SYN, tcp};

/// A connection from a port of the client's to one of the server's.
struct Conn {
    ports: (u16, u16),
    sent: [u32; 2],
}

impl Conn {
    fn open(replay: &mut Replay, at: f64, ports: (u16, u16)) -> Self {
        let mut conn = Self { ports, sent: [0; 2] };
        conn.segment(replay, at, true, SYN, b"");
        conn.segment(replay, at, false, SYN | ACK, b"");
        conn.segment(replay, at, true, ACK, b"");
        conn
    }

    fn segment(&mut self, replay: &mut Replay, at: f64, is_orig: bool, flags: u8, bytes: &[u8]) {
        let (client, server) = ((ORIG, self.ports.0), (RESP, self.ports.1));
        let [orig, resp] = self.sent;
        let (src, dst, seq, ack) =
            if is_orig { (client, server, orig, resp) } else { (server, client, resp, orig) };
        replay.ip(at, &tcp(src, dst, flags, seq, ack, bytes));
        let len = bytes.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.sent[usize::from(!is_orig)] += len;
    }

    fn says(&mut self, replay: &mut Replay, at: f64, is_orig: bool, text: &str) {
        self.segment(replay, at, is_orig, ACK, format!("{text}\r\n").as_bytes());
    }
}

fn file(begin: &[u8]) -> Vec<u8> {
    [begin, &[b' '; 8000]].concat()
}

/// The first data connection ends when the second file is already on its way: that is no news of
/// the second file.
#[test]
fn a_data_connection_that_ends_late_tells_nothing_of_the_next_file() {
    let replay = &mut Replay::new();
    let mut control = Conn::open(replay, 0.0, (40000, 21));
    let mut data = Vec::new();
    control.says(replay, 0.1, false, "220 ready");
    let begins: [&[u8]; 2] = [b"GIF89a", b"%PDF-1.4\n"];
    for ((at, port), begin) in [(1.0, 5001), (2.0, 5002)].into_iter().zip(begins) {
        control.says(replay, at, true, "PASV");
        let to = format!("227 ok (192,0,2,80,{},{})", port >> 8, port & 255);
        control.says(replay, at + 0.1, false, &to);
        control.says(replay, at + 0.2, true, "STOR file");
        control.says(replay, at + 0.3, false, "150 go on");
        let mut conn = Conn::open(replay, at + 0.4, (41000, port));
        conn.segment(replay, at + 0.5, true, ACK, &file(begin));
        data.push(conn);
        if let [first, _] = &mut data[..] {
            first.segment(replay, at + 0.6, true, FIN | ACK, b"");
            first.segment(replay, at + 0.6, false, FIN | ACK, b"");
            first.segment(replay, at + 0.6, true, ACK, b"");
            // The connection's row is due five seconds later.
            control.segment(replay, at + 6.6, false, ACK, b"");
        }
        control.says(replay, at + 7.0, false, "226 done");
    }
    control.says(replay, 20.0, true, "QUIT");
    let rows = replay.rows("ftp", &["command", "mime_type"]);
    assert_eq!(rows, ["PASV -", "STOR image/gif", "PASV -", "STOR application/pdf"]);
}
