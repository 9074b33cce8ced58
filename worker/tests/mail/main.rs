//! Mail on its way: SMTP, POP3 and IMAP conversations, in every split of their bytes. What comes
//! out must not depend on where segments end.
#![allow(clippy::unwrap_used)]

mod talk;

use talk::{Talk, rows};
use tyto_core::net::Side::{Orig, Resp};

/// A message with a text, a nested message in base64, and a quoted-printable attachment.
const MESSAGE: &str = "From: A <a@example.org>\r\n\
To: \"B, C\" <b@example.org>,\r\n\tc@example.org\r\n\
Subject: folded\r\n again\r\n\
Received: from x (x [192.0.2.7]) by y\r\n\
X-Mailer: Mailer 1.2\r\n\
Content-Type: multipart/mixed; boundary=\"edge (1)\"\r\n\r\n\
what nobody reads\r\n\
--edge (1)\r\n\r\n\
plain text of the message\r\nand more\r\n\
--edge (1)\r\n\
Content-Type: text/plain; name=\"a b.txt\"\r\n\
Content-Transfer-Encoding: base64\r\n\r\n\
aGVsbG8sIHdv\r\ncmxkISBoZWxs\r\nbw==\r\n\
--edge (1)\r\n\
Content-Disposition: attachment; filename*=utf-8'en'%41.txt\r\n\
Content-Transfer-Encoding: quoted-printable\r\n\r\n\
caf=C3=A9 is =\r\nopen = x\r\n\
--edge (1)--\r\n\
epilogue\r\n";

fn smtp() -> Talk {
    let mut talk = Talk::new("SMTP");
    talk.say(Resp, "220 mx ESMTP\r\n");
    talk.say(Orig, "EHLO me\r\n");
    talk.say(Resp, "250-mx\r\n250 PIPELINING\r\n");
    talk.say(Orig, "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    talk.say(Resp, "250 ok\r\n250 ok\r\n354 go on\r\n");
    talk.say(Orig, MESSAGE);
    talk.say(Orig, "..\r\n.\r\n");
    talk.say(Resp, "250 queued\r\n");
    talk.say(Orig, "MAIL FROM:<a@example.org>\r\nRCPT TO:<c@example.org>\r\nBDAT 30\r\n");
    talk.say(Orig, "Subject: chunks\r\n\r\nfirst chunk");
    talk.say(Resp, "250 ok\r\n250 ok\r\n250 ok\r\n");
    talk.say(Orig, "BDAT 13 LAST\r\n, and second\n");
    talk.say(Resp, "250 queued\r\n");
    talk.say(Orig, "QUIT\r\n");
    talk
}

#[test]
fn a_message_is_a_row_and_its_parts_are_files() {
    let rows = rows(&smtp().whole());
    assert_eq!(rows.column("smtp", "subject"), ["folded again", "chunks"]);
    assert_eq!(rows.column("smtp", "mailfrom"), ["a@example.org", "a@example.org"]);
    assert_eq!(rows.column("smtp", "last_reply"), ["250 queued", "250 queued"]);
    assert_eq!(rows.column("smtp", "user_agent"), ["Mailer 1.2"]);
    assert_eq!(rows.column("files", "filename"), ["a b.txt", "A.txt"]);
    assert_eq!(rows.column("files", "depth"), ["2", "3", "4", "5"]);
    // The end of a part's last line is the boundary's; a chunk has no end to add.
    assert_eq!(rows.column("files", "seen_bytes"), ["35", "19", "19", "24"]);
    // `hello, world! hello`, and `café is open = x` with its line end.
    assert_eq!(
        rows.column("files", "md5")[1..3],
        ["ab47b9c6474fee8c4f5c45a80f4858a3", "d51c30779c09dc47abd3c0fc6ac3b739"]
    );
}

#[test]
fn no_split_of_the_bytes_changes_a_row() {
    for talk in [smtp(), pop3(), imap()] {
        let whole = rows(&talk.whole());
        assert_eq!(rows(&talk.bytewise()), whole);
        for seed in 0..50 {
            assert_eq!(rows(&talk.split(seed)), whole, "seed {seed}");
        }
    }
}

fn pop3() -> Talk {
    let mut talk = Talk::new("POP3");
    talk.say(Resp, "+OK hello\r\n");
    for (command, answer) in
        [("CAPA", "+OK\r\nTOP\r\n."), ("USER a", "+OK"), ("PASS b", "+OK"), ("STAT", "+OK 1 40")]
    {
        talk.say(Orig, &format!("{command}\r\n"));
        talk.say(Resp, &format!("{answer}\r\n"));
    }
    talk.say(Orig, "RETR 1\r\n");
    talk.say(Resp, "+OK 40 octets\r\nSubject: x\r\n\r\nthe text of it\r\n.\r\n");
    talk.say(Orig, "NONSENSE\r\n");
    talk.say(Resp, "-ERR what\r\n");
    talk
}

#[test]
fn mail_that_is_fetched_is_a_file() {
    let rows = rows(&pop3().whole());
    assert_eq!(rows.services, ["pop3"]);
    assert_eq!(rows.column("files", "source"), ["POP3"]);
    assert_eq!(rows.column("files", "mime_type"), ["text/plain"]);
    assert_eq!(rows.column("files", "seen_bytes"), ["16"]);
    assert_eq!(rows.column("weird", "name"), ["pop3_client_command_unknown"]);
}

fn imap() -> Talk {
    let mut talk = Talk::lines("IMAP");
    talk.say(Resp, "* OK ready\r\n");
    talk.say(Orig, "a1 STARTTLS\r\n");
    talk.say(Resp, "a1 NO not here\r\n");
    talk.say(Orig, "a2 login me secret\r\n");
    talk
}

#[test]
fn a_refused_starttls_is_told() {
    let rows = rows(&imap().whole());
    assert_eq!(rows.services, ["imap"]);
    assert_eq!(rows.column("weird", "name"), ["IMAP: server refused StartTLS"]);
}
