//! What the protocols of Windows networks share: SMB, DCE/RPC, SPNEGO, NTLM and Kerberos ride
//! on each other, and their rows tell of a connection, whichever of them carried the parts.

pub mod der;
pub mod frames;
pub mod reader;
pub mod text;

use std::cell::Cell;

use super::Cx;
use super::{dce_rpc, krb, ntlm};
use crate::log::weird::Weird;

/// What is known of a connection, over all analyzers on it. Made when first needed.
#[derive(Debug, Default)]
pub struct Sessions {
    /// The NTLM logon.
    pub ntlm: ntlm::session::Logon,
    /// The Kerberos exchange.
    pub krb: krb::session::Exchange,
    /// Bindings of remote procedure calls, by pipe.
    pub rpc: dce_rpc::session::Bindings,
    /// The file that is the pipe of the DCE/RPC analyzer that begins next.
    pub pipe: u64,
}

impl Cx<'_> {
    /// Calls `change` with what is known of this connection.
    pub fn windows<T>(&mut self, change: impl FnOnce(&mut Sessions, &mut Self) -> T) -> T {
        let mut sessions = self.conn.windows.take().unwrap_or_default();
        let result = change(&mut sessions, self);
        self.conn.windows = Some(sessions);
        result
    }

    /// Tells of a number that was too long to be read, if there was one. Zeek tells it without
    /// the connection.
    pub fn tell_oversize(&mut self, oversize: &Cell<usize>) {
        if oversize.get() > 0 {
            let len = oversize.get().to_string();
            let weird = Weird::new("asn_binary_to_int64_shift_too_large").with(&len);
            self.shared.weird_of_nobody(self.now, &weird, self.out);
        }
    }

    /// The connection is over, and all its analyzers ended: writes what is not written yet.
    pub fn end_windows(&mut self) {
        let Some(mut sessions) = self.conn.windows.take() else { return };
        sessions.rpc.finish(self);
        sessions.ntlm.finish(self);
        sessions.krb.finish(self);
    }
}
