//! The exchange of one connection: which row the messages on it make.

use tyto_core::net::Side;
use tyto_core::uid::Fuid;

use super::log::KerberosLog;
use super::names;
use super::parser::{Message, Refusal, Reply, Request};
use crate::analyzer::Cx;
use crate::file::FileAbout;
use crate::file::handle::Handle;
use crate::x509::Certificate;

/// Errors that only ask to authenticate first: such an exchange is not logged, the next is.
const PASSED_OVER: [&[u8]; 2] = [b"NEEDED_PREAUTH", b"Need to use PA-ENC-TIMESTAMP/PA-PK-AS-REQ"];
const CERTIFICATE: &str = "application/x-x509-user-cert";

/// What is known of the exchange. One row per connection, as Zeek does.
#[derive(Debug, Default)]
pub struct Exchange {
    row: Option<KerberosLog>,
    is_written: bool,
}

/// Takes a message.
pub fn message(message: &Message<'_>, cx: &mut Cx<'_>) {
    match message {
        Message::Request(request) => {
            if let Some(certificate) = request.certificate {
                let (fuid, subject) = carry(Side::Orig, certificate, cx);
                cx.windows(|sessions, cx| {
                    let row = sessions.krb.row(cx);
                    (row.client_cert_fuid, row.client_cert_subject) = (Some(fuid), subject);
                });
            }
            cx.windows(|sessions, cx| sessions.krb.request(request, cx));
        }
        Message::Reply(reply) => {
            if let Some(certificate) = reply.certificate {
                let (fuid, subject) = carry(Side::Resp, certificate, cx);
                cx.windows(|sessions, cx| {
                    let row = sessions.krb.row(cx);
                    (row.server_cert_fuid, row.server_cert_subject) = (Some(fuid), subject);
                });
            }
            cx.windows(|sessions, cx| sessions.krb.reply(reply, cx));
        }
        // Its row tells only that it was seen.
        Message::ApRequest => cx.windows(|sessions, cx| {
            sessions.krb.row(cx);
        }),
        Message::Error(refusal) => cx.windows(|sessions, cx| sessions.krb.refusal(refusal, cx)),
        Message::ApReply | Message::Other => {}
    }
}

/// Carries a certificate to the files; gives its id there, and its subject.
fn carry(side: Side, certificate: &[u8], cx: &mut Cx<'_>) -> (Fuid, Option<Vec<u8>>) {
    let is_orig = side == Side::Orig;
    let handle = Handle::of("KRB").time(cx.conn.start).sender(is_orig).id(&cx.id());
    let handle = handle.number(u64::from(!is_orig));
    let about = FileAbout { mime_type: Some(CERTIFICATE), ..FileAbout::default() };
    let file = cx.file_open(side, handle.as_bytes(), &about);
    cx.file_bytes(file, certificate);
    cx.file_end(file);
    let subject = Certificate::read(certificate).map(|certificate| certificate.subject);
    (file.fuid, subject.map(String::into_bytes))
}

impl Exchange {
    fn row(&mut self, cx: &Cx<'_>) -> &mut KerberosLog {
        self.row.get_or_insert_with(|| KerberosLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            request_type: None,
            client: None,
            service: None,
            success: None,
            error_msg: None,
            from: None,
            till: None,
            cipher: None,
            forwardable: None,
            renewable: None,
            client_cert_subject: None,
            client_cert_fuid: None,
            server_cert_subject: None,
            server_cert_fuid: None,
        })
    }

    fn request(&mut self, request: &Request<'_>, cx: &mut Cx<'_>) {
        let row = self.row(cx);
        match request.kind {
            10 => {
                row.request_type = Some("AS");
                let client = request.client.as_deref().unwrap_or_default();
                row.client = Some(joined(client, request.realm.as_deref().unwrap_or_default()));
            }
            12 => row.request_type = Some("TGS"),
            _ => return,
        }
        if request.service.is_some() {
            row.service.clone_from(&request.service);
        }
        row.from = request.from.or(row.from);
        row.till = request.till.or(row.till);
        if let Some((forwardable, renewable)) = request.options {
            row.forwardable = Some(forwardable);
            row.renewable = Some(renewable);
        }
    }

    fn reply(&mut self, reply: &Reply<'_>, cx: &mut Cx<'_>) {
        if !matches!(reply.kind, 11 | 13) {
            return;
        }
        let row = self.row(cx);
        if row.client.is_none() {
            row.client = Some(joined(&reply.client, &reply.realm));
        }
        row.service = Some(reply.ticket.service.clone());
        row.cipher = Some(names::cipher(reply.ticket.cipher));
        row.success = Some(true);
        self.write(cx);
    }

    fn refusal(&mut self, refusal: &Refusal<'_>, cx: &mut Cx<'_>) {
        let is_written = self.is_written;
        let row = self.row(cx);
        if is_written {
            return;
        }
        if refusal.text.is_some_and(|text| PASSED_OVER.contains(&text)) {
            self.row = None;
            return;
        }
        let realm = refusal.client_realm;
        if row.client.is_none() && (refusal.client.is_some() || realm.is_some()) {
            let mut client = refusal.client.clone().unwrap_or_default();
            if refusal.client.is_some() {
                client.push(b'/');
            }
            client.extend_from_slice(realm.unwrap_or_default());
            row.client = Some(client);
        }
        if refusal.service.is_some() {
            row.service.clone_from(&refusal.service);
        }
        row.success = Some(false);
        let named = || names::error(refusal.code).map(|name| name.as_bytes().to_vec());
        if let Some(message) = refusal.text.map(<[u8]>::to_vec).or_else(named) {
            row.error_msg = Some(message);
        }
        self.write(cx);
    }

    fn write(&mut self, cx: &mut Cx<'_>) {
        if let Some(row) = &self.row
            && !self.is_written
        {
            cx.row(row);
            self.is_written = true;
        }
    }

    /// The connection is over.
    pub fn finish(&mut self, cx: &mut Cx<'_>) {
        self.write(cx);
    }
}

fn joined(name: &[u8], realm: &[u8]) -> Vec<u8> {
    [name, b"/", realm].concat()
}
