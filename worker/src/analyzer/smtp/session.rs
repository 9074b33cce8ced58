//! What commands and replies tell of the messages of a session (Zeek: the scripts of SMTP).

use super::log::Transaction;
use crate::analyzer::Cx;

/// Broken transactions after which the session is not followed any more
/// (Zeek: `max_invalid_mail_transactions`).
const INVALID_MAX: u64 = 25;

/// The messages of a connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    transaction: Option<Transaction>,
    helo: Option<Vec<u8>>,
    messages: u64,
    has_sender: bool,
    has_recipient: bool,
    invalid: u64,
    is_last_chunk: bool,
    /// Entities so far.
    pub(super) mime_depth: u64,
}

impl Session {
    /// The message that is being sent, and the count of entities.
    pub(super) fn current(&mut self, cx: &Cx<'_>) -> (&mut Transaction, &mut u64) {
        let depth = self.messages + 1;
        let helo = self.helo.as_ref();
        let transaction = self.transaction.get_or_insert_with(|| Transaction::new(depth, helo, cx));
        (transaction, &mut self.mime_depth)
    }

    /// A command, in upper case.
    pub(super) fn request(&mut self, command: &[u8], argument: &[u8], cx: &mut Cx<'_>) {
        self.current(cx);
        match command {
            b"HELO" | b"EHLO" => {
                self.helo = Some(argument.to_vec());
                self.current(cx).0.row.helo = Some(argument.to_vec());
            }
            b"RCPT" if contains(argument, b"to:") => {
                let transaction = self.current(cx).0;
                transaction.recipient(argument, cx);
                transaction.has_activity = true;
                self.has_recipient = true;
                if !self.has_sender {
                    self.invalid("rcpt to missing mail from", cx);
                }
            }
            b"MAIL" if contains(argument, b"from:") => {
                // The reply to the message before may have been missed.
                self.message(cx);
                let transaction = self.current(cx).0;
                let sender = super::address::mail_addresses(argument).into_iter().next();
                transaction.row.mailfrom = sender.or(transaction.row.mailfrom.take());
                transaction.has_activity = true;
                self.has_sender = true;
                self.has_recipient = false;
            }
            b"DATA" | b"BDAT" => {
                if !self.has_recipient {
                    self.invalid("data missing rcpt to", cx);
                }
                if command == b"BDAT" && argument.ends_with(b" LAST") {
                    self.has_sender = false;
                    self.has_recipient = false;
                    self.is_last_chunk = true;
                }
            }
            b"." => {
                self.has_sender = false;
                self.has_recipient = false;
            }
            _ => {}
        }
    }

    /// A line of a reply. `ends_data`: to the end of a message; `ends_chunk`: the last line of
    /// one to BDAT.
    pub(super) fn reply(
        &mut self,
        code: u16,
        text: &[u8],
        (ends_data, ends_chunk): (bool, bool),
        cx: &mut Cx<'_>,
    ) {
        let mut last_reply = format!("{code} ").into_bytes();
        last_reply.extend_from_slice(text);
        self.current(cx).0.row.last_reply = Some(last_reply);
        if ends_data || (ends_chunk && self.is_last_chunk) {
            self.messages += 1;
            self.is_last_chunk = false;
            self.message(cx);
            self.transaction = None;
            self.current(cx);
        }
    }

    /// The connection goes on encrypted.
    pub(super) fn starts_tls(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.row.tls = true;
            transaction.has_activity = true;
        }
    }

    /// The connection is over.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        if self.transaction.is_some() {
            self.message(cx);
        }
    }

    /// Writes the row of the message, if there is something to tell, and begins the next.
    fn message(&mut self, cx: &mut Cx<'_>) {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.has_activity) {
            if let Some(transaction) = self.transaction.take() {
                transaction.write(cx);
            }
            self.current(cx);
        }
    }

    fn invalid(&mut self, why: &str, cx: &mut Cx<'_>) {
        cx.weird_with("smtp_mail_transaction_invalid", why);
        self.invalid += 1;
        if self.invalid == INVALID_MAX + 1 {
            cx.weird_with("smtp_excessive_invalid_mail_transactions", &self.invalid.to_string());
            cx.done();
        }
    }
}

/// `word`, which is in lower case, stands somewhere in `text`.
fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}
