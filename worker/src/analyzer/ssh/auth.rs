//! Whether a login succeeded, told by the lengths of what the server sends encrypted: its
//! answers have fixed lengths, and so a refusal looks like the one before it, and a success is
//! 16 bytes shorter than the server's first answer (RFC 4252, 4253).

/// Bytes by which SERVICE_ACCEPT is longer than USERAUTH_SUCCESS, after padding.
const SUCCESS_IS_SHORTER_BY: usize = 16;
/// A first answer that is longer than SERVICE_ACCEPT by more is a banner, bytes.
const BANNER_IS_LONGER_BY: usize = 256;

/// What was seen of the encrypted packets so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Auth {
    is_decided: bool,
    client_spoke: bool,
    skipped_banner: bool,
    accept_len: Option<usize>,
    failure_len: Option<usize>,
}

impl Auth {
    /// The client sent something encrypted.
    pub(super) const fn client_spoke(&mut self) {
        self.client_spoke = true;
    }

    /// The server sent `len` encrypted bytes. Some when they end an attempt: did it succeed?
    pub(super) fn server_sent(&mut self, len: usize) -> Option<bool> {
        if self.is_decided || !self.client_spoke {
            return None;
        }
        let Some(accept_len) = self.accept_len else {
            self.accept_len = Some(len);
            return None;
        };
        let is_success = len + SUCCESS_IS_SHORTER_BY == accept_len;
        match self.failure_len {
            Some(failure_len) if len == failure_len => return Some(false),
            _ if is_success => {
                self.is_decided = true;
                return Some(true);
            }
            Some(_) => {}
            None if !self.skipped_banner && len > accept_len + BANNER_IS_LONGER_BY => {
                self.skipped_banner = true;
            }
            None => self.failure_len = Some(len),
        }
        None
    }
}
