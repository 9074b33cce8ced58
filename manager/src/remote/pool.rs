//! The hosts of a cluster, each connected once and at the first call only.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use tyto_core::config::settings::SshSettings;

use super::Remote;
use super::error::RemoteError;
use super::local::Local;
use super::names;
use super::ssh::Ssh;

/// All hosts that were asked for so far.
#[derive(Debug, Default)]
pub struct Pool {
    settings: SshSettings,
    hosts: HashMap<String, Arc<dyn Remote>>,
}

impl Pool {
    /// No host yet; those to come are reached by `settings`.
    pub fn new(settings: SshSettings) -> Self {
        Self { settings, hosts: HashMap::new() }
    }

    /// The host `host`, this machine without SSH.
    ///
    /// # Errors
    /// When the private folder of SSH's control sockets cannot be made.
    pub fn host(&mut self, host: &str) -> Result<Arc<dyn Remote>, RemoteError> {
        if let Some(remote) = self.hosts.get(host) {
            return Ok(Arc::clone(remote));
        }
        let remote: Arc<dyn Remote> = if is_this_machine(host) {
            Arc::new(Local::new(host))
        } else {
            Arc::new(Ssh::new(host, self.settings.clone())?)
        };
        self.hosts.insert(host.to_owned(), Arc::clone(&remote));
        Ok(remote)
    }
}

/// True for `localhost`, loopback addresses and any address that one of our interfaces has,
/// as in ZeekControl. A name is resolved; one without an address is not this machine.
pub fn is_this_machine(host: &str) -> bool {
    if host == "localhost" {
        return true;
    }
    resolve(host).is_ok_and(|addr| {
        // The kernel lets us bind to an address only when it is ours.
        addr.is_loopback() || UdpSocket::bind(SocketAddr::new(addr, 0)).is_ok()
    })
}

/// Address of a host: one that others can use, IPv4 where there is the choice (as ZeekControl
/// chooses).
///
/// # Errors
/// When the name has none.
pub fn resolve(host: &str) -> Result<IpAddr, RemoteError> {
    let none = |said: String| RemoteError::NoAddress { host: host.to_owned(), said };
    let all = names::addresses_of(host).map_err(none)?;
    names::choose(&all).ok_or_else(|| none("the name is known but has none".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{is_this_machine, resolve};

    #[test]
    fn this_machine_is_known_by_name_and_loopback_address() {
        assert!(is_this_machine("localhost"));
        assert!(is_this_machine("127.0.0.1"));
        assert!(is_this_machine("::1"));
        // TEST-NET-1 (RFC 5737) is nobody's.
        assert!(!is_this_machine("192.0.2.1"));
    }

    #[test]
    fn an_address_resolves_to_itself() {
        assert_eq!(resolve("192.0.2.7").unwrap().to_string(), "192.0.2.7");
    }
}
