//! Requests of a connection that wait for their answers, and the rows that both make.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::log::{LdapLog, LdapSearchLog};
use super::names::{self, op};
use super::parser::{Body, Message, Outcome, method};
use crate::analyzer::Cx;

/// Requests that wait (Zeek: `LDAP::max_pending_messages`), and searches
/// (`LDAP::max_pending_searches`). At the limit all are written as they are.
const OPERATIONS_MAX: usize = 10;
const SEARCHES_MAX: usize = 10;
const BIND: &str = "bind";
const BIND_SIMPLE: &str = "bind simple";
const SOURCE: &str = "LDAP";

#[derive(Debug, Default)]
pub(super) struct Session {
    operations: BTreeMap<i64, LdapLog>,
    searches: BTreeMap<i64, LdapSearchLog>,
}

impl Session {
    /// Takes a message.
    pub(super) fn message(&mut self, message: &Message<'_>, cx: &mut Cx<'_>) {
        match (&message.body, message.operation) {
            (Body::SearchRequest { scope, aliases, filter }, _) => {
                let (scope, aliases) = (names::scope(*scope), names::aliases(*aliases));
                self.search_request(message, scope, aliases, filter, cx);
            }
            (_, op::SEARCH_RESULT_ENTRY) => {
                let search = self.search(message.id, cx);
                search.result_count = search.result_count.map(|count| count + 1);
            }
            (_, op::SEARCH_RESULT_DONE) => self.search_done(message, cx),
            (_, op::SEARCH_RESULT_REFERENCE) => {}
            (Body::BindRequest { version, method, .. }, _) => {
                self.bind_request(message.id, *version, *method, cx);
                self.operation(message, cx);
            }
            _ => self.operation(message, cx),
        }
    }

    /// The connection is over, or TLS begins: writes what waits.
    pub(super) fn finish(&mut self, cx: &mut Cx<'_>) {
        self.write_operations(cx);
        self.write_searches(cx);
    }

    fn write_operations(&mut self, cx: &mut Cx<'_>) {
        for (id, row) in std::mem::take(&mut self.operations) {
            if id > 0 {
                cx.row(&row);
            }
        }
    }

    fn write_searches(&mut self, cx: &mut Cx<'_>) {
        for (id, row) in std::mem::take(&mut self.searches) {
            if id > 0 {
                cx.row(&row);
            }
        }
    }

    fn search(&mut self, id: i64, cx: &mut Cx<'_>) -> &mut LdapSearchLog {
        if self.searches.len() >= SEARCHES_MAX && !self.searches.contains_key(&id) {
            let count = self.searches.len().to_string();
            cx.weird_of(SOURCE, "LDAP_max_pending_searches_exceeded", &count);
            self.write_searches(cx);
        }
        self.searches.entry(id).or_insert_with(|| LdapSearchLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            message_id: Some(id),
            scope: None,
            deref_aliases: None,
            base_object: None,
            result_count: Some(0),
            result: None,
            diagnostic_message: None,
            filter: None,
            attributes: None,
        })
    }

    fn search_request(
        &mut self,
        message: &Message<'_>,
        scope: &'static str,
        aliases: &'static str,
        filter: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let id = message.id;
        let row = self.search(id, cx);
        change(&mut row.scope, scope, id, "LDAP_search_scope_change", cx);
        change(&mut row.deref_aliases, aliases, id, "LDAP_search_deref_aliases_change", cx);
        if !message.object.is_empty() {
            let name = "LDAP_search_base_object_change";
            change_text(&mut row.base_object, &message.object, id, name, cx);
        }
        change_text(&mut row.filter, filter, id, "LDAP_search_filter_change", cx);
    }

    fn search_done(&mut self, message: &Message<'_>, cx: &mut Cx<'_>) {
        let id = message.id;
        let row = self.search(id, cx);
        if let Some(Outcome { code, diagnostic }) = &message.result {
            change(&mut row.result, names::result(*code), id, "LDAP_search_result_change", cx);
            if !diagnostic.is_empty() {
                let name = "LDAP_search_diagnostic_message_change";
                change_text(&mut row.diagnostic_message, diagnostic, id, name, cx);
            }
        }
        if let Some(row) = self.searches.remove(&id) {
            cx.row(&row);
        }
    }

    fn operation_row(&mut self, id: i64, cx: &mut Cx<'_>) -> &mut LdapLog {
        if self.operations.len() >= OPERATIONS_MAX && !self.operations.contains_key(&id) {
            let count = self.operations.len().to_string();
            cx.weird_of(SOURCE, "LDAP_max_pending_messages_exceeded", &count);
            self.write_operations(cx);
        }
        self.operations.entry(id).or_insert_with(|| LdapLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            message_id: Some(id),
            version: None,
            opcode: None,
            result: None,
            diagnostic_message: None,
            object: None,
            argument: None,
        })
    }

    fn bind_request(&mut self, id: i64, version: i64, method: u8, cx: &mut Cx<'_>) {
        let row = self.operation_row(id, cx);
        row.version.get_or_insert(version);
        if let Some(opcode) = row.opcode {
            cx.weird_of(SOURCE, "LDAP_bind_opcode_already_set", opcode);
        }
        row.opcode = Some(match method {
            method::SIMPLE => BIND_SIMPLE,
            method::SASL => "bind SASL",
            method::SICILY_NEGOTIATE => "sicily_negotiate",
            method::SICILY_RESPONSE => "sicily_response",
            other => {
                let name = if other == 9 {
                    "LDAP::BindAuthType_SICILY_PACKAGE_DISCOVERY"
                } else {
                    "<unknown>"
                };
                cx.weird_of(SOURCE, "LDAP_unknown_auth_type", name);
                name
            }
        });
    }

    fn operation(&mut self, message: &Message<'_>, cx: &mut Cx<'_>) {
        let id = message.id;
        let row = self.operation_row(id, cx);
        let opcode = names::operation(message.operation);
        if opcode != BIND {
            change(&mut row.opcode, opcode, id, "LDAP_message_opcode_change", cx);
        } else if row.opcode.is_none() {
            cx.weird_of(SOURCE, "LDAP_bind_without_opcode", &format!("{id}: {opcode}"));
            row.opcode = Some(opcode);
        }
        if let Some(Outcome { code, diagnostic }) = &message.result {
            change(&mut row.result, names::result(*code), id, "LDAP_message_result_change", cx);
            if !diagnostic.is_empty() {
                let name = "LDAP_message_diagnostic_message_change";
                change_text(&mut row.diagnostic_message, diagnostic, id, name, cx);
            }
        }
        if !message.object.is_empty() {
            let name = "LDAP_message_object_change";
            change_text(&mut row.object, &message.object, id, name, cx);
            if message.operation == op::EXTENDED_REQUEST
                && let Some(object) = &mut row.object
            {
                let extension = names::extension(&message.object);
                object.extend_from_slice(format!(" ({extension})").as_bytes());
            }
        }
        if !message.argument.is_empty() {
            let is_password = row.opcode == Some(BIND_SIMPLE) && !cx.shared.config.log_passwords;
            let shown: &[u8] = if is_password { b"REDACTED" } else { &message.argument };
            change_text(&mut row.argument, shown, id, "LDAP_message_argument_change", cx);
        }
        if is_last(message.operation)
            && let Some(row) = self.operations.remove(&id)
        {
            cx.row(&row);
        }
    }
}

/// Whether the operation is over with this message.
const fn is_last(operation: u8) -> bool {
    matches!(
        operation,
        op::BIND_RESPONSE
            | op::UNBIND_REQUEST
            | op::MODIFY_RESPONSE
            | op::ADD_RESPONSE
            | op::DEL_RESPONSE
            | op::MOD_DN_RESPONSE
            | op::COMPARE_RESPONSE
            | op::ABANDON_REQUEST
            | op::EXTENDED_RESPONSE
    )
}

/// Sets a field; another value than before is odd.
fn change(
    field: &mut Option<&'static str>,
    value: &'static str,
    id: i64,
    weird: &'static str,
    cx: &mut Cx<'_>,
) {
    if let Some(before) = field.replace(value)
        && before != value
    {
        tell(id, &before, &value, weird, cx);
    }
}

fn change_text(
    field: &mut Option<Vec<u8>>,
    value: &[u8],
    id: i64,
    weird: &'static str,
    cx: &mut Cx<'_>,
) {
    if let Some(before) = field.replace(value.to_vec())
        && before != value
    {
        let (before, value) = (String::from_utf8_lossy(&before), String::from_utf8_lossy(value));
        tell(id, &before, &value, weird, cx);
    }
}

fn tell(id: i64, before: &dyn Display, value: &dyn Display, weird: &'static str, cx: &mut Cx<'_>) {
    cx.weird_of(SOURCE, weird, &format!("{id}: {before} -> {value}"));
}
