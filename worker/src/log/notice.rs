//! `notice.log`: what a person should look at.

use crate::analyzer::Cx;

impl Cx<'_> {
    /// Something worth a person's look: `note` as Zeek names it (`FTP::Bounce`).
    pub fn notice(&mut self, _note: &'static str, _msg: &str, _sub: &str) {}
}
