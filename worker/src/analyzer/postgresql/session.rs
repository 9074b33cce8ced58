//! The rows of a session, as its messages come.

use super::log::{PostgresqlLog, authentication, error_field};
use super::message::Said;
use crate::analyzer::Cx;

/// A session.
#[derive(Debug, Default)]
pub(super) struct Session {
    row: Option<PostgresqlLog>,
    user: Option<Vec<u8>>,
    database: Option<Vec<u8>>,
    application_name: Option<Vec<u8>>,
    rows: Option<u64>,
}

impl Session {
    /// The client asks for TLS.
    pub(super) fn tls_request(&mut self, cx: &Cx<'_>) {
        self.row(cx).frontend = Some("ssl_request");
    }

    /// The server answers it, with `S` or `N`.
    pub(super) fn tls_reply(&mut self, answer: u8, cx: &mut Cx<'_>) {
        let row = self.row(cx);
        row.backend = Some("ssl_reply".to_owned());
        row.backend_arg = Some(vec![answer]);
        row.success = Some(answer == b'S');
        self.write(cx);
    }

    /// The client begins the session.
    pub(super) fn startup(&mut self, parameters: &[(&[u8], &[u8])], cx: &Cx<'_>) {
        for (name, value) in parameters {
            let value = Some(value.to_vec());
            match *name {
                b"user" => self.user = value,
                b"database" => self.database = value,
                b"application_name" => self.application_name = value,
                _ => {}
            }
        }
        self.row(cx).frontend = Some("startup");
    }

    /// A message of either side.
    pub(super) fn said(&mut self, said: Said, cx: &mut Cx<'_>) {
        match said {
            Said::Nothing => {}
            Said::Query(text) => {
                self.write(cx);
                let row = self.row(cx);
                row.frontend = Some("simple_query");
                row.frontend_arg = Some(text);
                self.rows = Some(0);
            }
            Said::Terminate => {
                self.write(cx);
                self.row(cx).frontend = Some("terminate");
                self.write(cx);
            }
            Said::Error(fields) => {
                let row = self.row(cx);
                append(&mut row.backend, "error");
                append_bytes(&mut row.backend_arg, &describe(&fields));
                row.success = Some(false);
                self.write(cx);
            }
            Said::Notice(fields) => {
                let row = self.row(cx);
                for field in &fields {
                    append_bytes(&mut row.backend_arg, &describe(std::slice::from_ref(field)));
                }
            }
            Said::AuthenticationOk => {
                let row = self.row(cx);
                row.backend = Some("auth_ok".to_owned());
                row.success = Some(true);
            }
            Said::Authentication(id) => {
                let row = self.row(cx);
                append(&mut row.backend, "auth_request");
                append_bytes(&mut row.backend_arg, authentication(id).as_bytes());
            }
            Said::Row => {
                self.row(cx);
                *self.rows.get_or_insert(0) += 1;
            }
            Said::Ready(is_good) => {
                let Some(row) = &mut self.row else { return };
                row.success.get_or_insert(is_good);
                row.rows = self.rows.take().or(row.rows);
                self.write(cx);
            }
        }
    }

    /// Writes what is open.
    pub(super) fn write(&mut self, cx: &mut Cx<'_>) {
        if let Some(mut row) = self.row.take() {
            row.user.clone_from(&self.user);
            row.database.clone_from(&self.database);
            row.application_name.clone_from(&self.application_name);
            cx.row(&row);
        }
    }

    fn row(&mut self, cx: &Cx<'_>) -> &mut PostgresqlLog {
        self.row.get_or_insert_with(|| PostgresqlLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            user: None,
            database: None,
            application_name: None,
            frontend: None,
            frontend_arg: None,
            backend: None,
            backend_arg: None,
            success: None,
            rows: None,
        })
    }
}

fn append(list: &mut Option<String>, word: &str) {
    match list {
        Some(list) => {
            list.push(',');
            list.push_str(word);
        }
        None => *list = Some(word.to_owned()),
    }
}

fn append_bytes(list: &mut Option<Vec<u8>>, word: &[u8]) {
    /// What a server says of one exchange, bytes.
    const SAID_LEN_MAX: usize = 64 * 1024;
    match list {
        Some(list) if list.len() < SAID_LEN_MAX => {
            list.push(b',');
            list.extend_from_slice(word);
        }
        Some(_) => {}
        None => *list = Some(word.to_vec()),
    }
}

fn describe(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let words: Vec<_> = fields
        .iter()
        .map(|(code, value)| [error_field(*code).as_bytes(), b"=", value].concat())
        .collect();
    words.join(&b',')
}
