//! One logon: its messages, and the result that the carrier tells.

use super::log::NtlmLog;
use super::parser::Message;
use crate::analyzer::Cx;

/// SPNEGO's word for "not yet".
const INCOMPLETE: u64 = 1;

/// The logon of a connection. Only the first is logged, as Zeek does.
#[derive(Debug, Default)]
pub struct Logon {
    row: Option<NtlmLog>,
    is_written: bool,
}

impl Logon {
    /// A message came.
    pub fn message(&mut self, message: Message, cx: &Cx<'_>) {
        if matches!(message, Message::Other) {
            // A signature of what the carrier sends, say: nobody logs on.
            return;
        }
        let row = self.row.get_or_insert_with(|| NtlmLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            username: None,
            hostname: None,
            domainname: None,
            server_nb_computer_name: None,
            server_dns_computer_name: None,
            server_tree_name: None,
            success: None,
        });
        match message {
            Message::Negotiate | Message::Other => {}
            Message::Challenge(server) => {
                set(&mut row.server_nb_computer_name, server.nb_computer_name);
                set(&mut row.server_dns_computer_name, server.dns_computer_name);
                set(&mut row.server_tree_name, server.dns_tree_name);
            }
            Message::Authenticate(client) => {
                set(&mut row.username, client.user);
                set(&mut row.hostname, client.workstation);
                set(&mut row.domainname, client.domain);
            }
        }
    }

    /// The carrier tells how the negotiation stands (RFC 4178, `negState`).
    pub fn result(&mut self, state: u64, cx: &mut Cx<'_>) {
        let Some(row) = &mut self.row else { return };
        if state != INCOMPLETE {
            row.success = Some(state == 0);
        }
        if row.success.is_some() && !self.is_written {
            cx.row(row);
            self.is_written = true;
        }
    }

    /// The connection is over.
    pub fn finish(&mut self, cx: &mut Cx<'_>) {
        if let Some(row) = self.row.take()
            && !self.is_written
        {
            cx.row(&row);
        }
    }
}

fn set<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}
