//! `smtp.log`: one row per message, or per session that sent none.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

use super::address::{header_addresses, ip_addresses, mail_addresses};
use crate::analyzer::Cx;
use crate::log::software::SoftwareSeen;

/// Addresses of a column (Zeek: `max_rcptto_addresses` and its like).
const ADDRESSES_MAX: usize = 1000;
/// Steps of the path.
const PATH_MAX: usize = 1000;
/// Files of a message that are in its row; all have rows of their own.
const FUIDS_MAX: usize = 1000;

/// A message.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "smtp")]
pub(super) struct SmtpLog {
    /// When its transaction began.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Number of the message on its connection.
    pub trans_depth: u64,
    /// Who the sender says it is.
    pub helo: Option<Vec<u8>>,
    /// Where it comes from, by its envelope.
    pub mailfrom: Option<Vec<u8>>,
    /// Where it goes to, by its envelope.
    pub rcptto: Option<BTreeSet<Vec<u8>>>,
    /// `Date` of its header.
    pub date: Option<Vec<u8>>,
    /// `From`.
    pub from: Option<Vec<u8>>,
    /// `To`.
    pub to: Option<BTreeSet<Vec<u8>>>,
    /// `Cc`.
    pub cc: Option<BTreeSet<Vec<u8>>>,
    /// `Reply-To`.
    pub reply_to: Option<Vec<u8>>,
    /// `Message-ID`.
    pub msg_id: Option<Vec<u8>>,
    /// `In-Reply-To`.
    pub in_reply_to: Option<Vec<u8>>,
    /// `Subject`, as it stands there.
    pub subject: Option<Vec<u8>>,
    /// `X-Originating-IP`.
    pub x_originating_ip: Option<IpAddr>,
    /// The last of its `Received` fields, which is the first that was written.
    pub first_received: Option<Vec<u8>>,
    /// The one before.
    pub second_received: Option<Vec<u8>>,
    /// What the receiver said last.
    pub last_reply: Option<Vec<u8>>,
    /// The hosts that it went through, this connection's first.
    pub path: Vector<IpAddr>,
    /// Program that wrote it.
    pub user_agent: Option<Vec<u8>>,
    /// The connection went on encrypted.
    pub tls: bool,
    /// Its parts.
    pub fuids: Vector<Fuid>,
    /// It was written in a browser.
    pub is_webmail: bool,
}

/// The row of the message that is being sent.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) row: SmtpLog,
    /// Without it there is nothing worth a row.
    pub(super) has_activity: bool,
    pub(super) entities: u64,
}

impl Transaction {
    pub(super) fn new(trans_depth: u64, helo: Option<&Vec<u8>>, cx: &Cx<'_>) -> Self {
        let id = cx.id();
        let row = SmtpLog {
            ts: cx.now,
            uid: cx.uid(),
            id,
            trans_depth,
            helo: helo.cloned(),
            mailfrom: None,
            rcptto: None,
            date: None,
            from: None,
            to: None,
            cc: None,
            reply_to: None,
            msg_id: None,
            in_reply_to: None,
            subject: None,
            x_originating_ip: None,
            first_received: None,
            second_received: None,
            last_reply: None,
            path: Vector(vec![id.resp_h, id.orig_h]),
            user_agent: None,
            tls: false,
            fuids: Vector(Vec::new()),
            is_webmail: false,
        };
        Self { row, has_activity: false, entities: 0 }
    }

    /// The argument of RCPT.
    pub(super) fn recipient(&mut self, argument: &[u8], cx: &mut Cx<'_>) {
        let recipients = self.row.rcptto.get_or_insert_default();
        for address in mail_addresses(argument) {
            if recipients.len() >= ADDRESSES_MAX {
                cx.weird_without_source("smtp_too_many_rcptto_addresses", "");
                return;
            }
            recipients.insert(without_orcpt(address));
        }
    }

    /// A field of the message's own header.
    pub(super) fn header(&mut self, name: &[u8], value: &[u8], cx: &mut Cx<'_>) {
        let row = &mut self.row;
        let column = match name.to_ascii_uppercase().as_slice() {
            b"MESSAGE-ID" => &mut row.msg_id,
            b"IN-REPLY-TO" => &mut row.in_reply_to,
            b"SUBJECT" => &mut row.subject,
            b"FROM" => &mut row.from,
            b"REPLY-TO" => &mut row.reply_to,
            b"DATE" => &mut row.date,
            b"X-MAILER" | b"X-USER-AGENT" => &mut row.user_agent,
            b"USER-AGENT" => {
                row.is_webmail |= is_webmail(value);
                &mut row.user_agent
            }
            b"RECEIVED" => {
                received(row, value, cx);
                return;
            }
            b"TO" => {
                add_addresses(&mut row.to, value, "smtp_too_many_to_addresses", cx);
                return;
            }
            b"CC" => {
                add_addresses(&mut row.cc, value, "smtp_too_many_cc_addresses", cx);
                return;
            }
            b"X-ORIGINATING-IP" => {
                let found = ip_addresses(value, false);
                row.x_originating_ip = found.first().copied().or(row.x_originating_ip);
                return;
            }
            _ => return,
        };
        *column = Some(value.to_vec());
    }

    /// A file of the message.
    pub(super) fn file(&mut self, fuid: Fuid) {
        if !self.row.tls && self.row.fuids.0.len() < FUIDS_MAX {
            self.row.fuids.0.push(fuid);
        }
    }

    /// Writes the row.
    pub(super) fn write(&self, cx: &mut Cx<'_>) {
        cx.row(&self.row);
        let Some(user_agent) = &self.row.user_agent else { return };
        if cx.shared.site.is_local(cx.conn.orig.addr) != Some(true) {
            return;
        }
        let path = &self.row.path.0;
        let via_http = self.row.first_received.as_deref().is_some_and(has_via_http);
        let steps_back = if self.row.is_webmail && via_http { 2 } else { 1 };
        let host = path.len().checked_sub(steps_back).and_then(|at| path.get(at));
        let software_type =
            if self.row.is_webmail { "SMTP::WEBMAIL_SERVER" } else { "SMTP::MAIL_CLIENT" };
        if let Some(&host) = host {
            cx.software(&SoftwareSeen {
                software_type,
                host,
                host_p: None,
                unparsed_version: user_agent,
            });
        }
    }
}

/// An address without the words that name its type (RFC 3461).
fn without_orcpt(address: Vec<u8>) -> Vec<u8> {
    const WORD: &[u8] = b"ORCPT=rfc822";
    let Some(at) = address.windows(WORD.len()).position(|window| window == WORD) else {
        return address;
    };
    let mut rest = address.get(at + WORD.len()..).unwrap_or_default();
    rest = rest.strip_prefix(b";").unwrap_or(rest);
    let mut short = address.get(..at).unwrap_or_default().to_vec();
    short.extend_from_slice(rest);
    short
}

fn add_addresses(
    column: &mut Option<BTreeSet<Vec<u8>>>,
    value: &[u8],
    too_many: &'static str,
    cx: &mut Cx<'_>,
) {
    let addresses = column.get_or_insert_default();
    for address in header_addresses(value) {
        if addresses.len() >= ADDRESSES_MAX {
            cx.weird_without_source(too_many, "");
            return;
        }
        addresses.insert(address);
    }
}

/// One more host that it went through.
fn received(row: &mut SmtpLog, value: &[u8], cx: &mut Cx<'_>) {
    row.second_received = row.first_received.take().or_else(|| row.second_received.take());
    row.first_received = Some(value.to_vec());
    let found = ip_addresses(value, true);
    // The second is the one that was looked up, the first what it said of itself.
    let Some(&ip) = found.get(1).or_else(|| found.first()) else { return };
    if row.path.0.last() == Some(&ip) {
        return;
    }
    if row.path.0.len() >= PATH_MAX {
        cx.weird_without_source("smtp_max_path_length_exceeded", "");
        return;
    }
    row.path.0.push(ip);
}

/// The program is known to be used with a browser (Zeek: `webmail_user_agents`).
fn is_webmail(user_agent: &[u8]) -> bool {
    let begins = [
        &b"iPlanet Messenger"[..],
        b"Sun Java(tm) System Messenger Express",
        b"SquirrelMail",
        b"NeoMail",
    ];
    let contains = |word: &[u8]| user_agent.windows(word.len()).any(|window| window == word);
    begins.iter().any(|begin| user_agent.starts_with(begin))
        || contains(b"(IMP)")
        || contains(b"ZimbraWebClient")
}

fn has_via_http(received: &[u8]) -> bool {
    received.windows(8).any(|window| window == b"via HTTP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_zeeks_in_zeeks_order() {
        let names: Vec<_> =
            SmtpLog::schema().fields.iter().map(|field| field.name.to_string()).collect();
        assert_eq!(
            names.join(" "),
            "ts uid id.orig_h id.orig_p id.resp_h id.resp_p trans_depth helo mailfrom rcptto \
             date from to cc reply_to msg_id in_reply_to subject x_originating_ip \
             first_received second_received last_reply path user_agent tls fuids is_webmail"
        );
    }

    #[test]
    fn the_type_of_an_original_recipient_is_left_out() {
        assert_eq!(without_orcpt(b"ORCPT=rfc822;a@b".to_vec()), b"a@b");
        assert_eq!(without_orcpt(b"a@b".to_vec()), b"a@b");
    }
}
