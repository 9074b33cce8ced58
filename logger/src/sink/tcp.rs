//! JSON lines over TCP, or TLS. The receiver acknowledges nothing: what it has read and lost, nobody
//! can know. So rows of the last seconds are sent again when the connection breaks: each row arrives
//! at least once, unless the receiver loses what it has.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tyto_core::config::sinks::SinkAddress;

use super::Sink;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a receiver may take nothing before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Rows handed over so long before a break are taken as arrived.
const DOUBT: Duration = Duration::from_secs(10);

/// A receiver of JSON lines.
pub(super) struct Tcp {
    address: SinkAddress,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<Connection>,
}

enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Tcp {
    /// A receiver at `address`; with TLS its certificate has to be of a CA in the file `ca`.
    ///
    /// # Errors
    /// When that file cannot be used.
    pub(super) fn new(address: &SinkAddress, ca: Option<&Path>) -> anyhow::Result<Self> {
        let tls = match ca {
            Some(path) if address.tls => {
                let told = || format!("cannot use the CA `{}`", path.display());
                let mut roots = RootCertStore::empty();
                for ca in CertificateDer::pem_file_iter(path).with_context(told)? {
                    roots.add(ca.with_context(told)?).with_context(told)?;
                }
                let config = ClientConfig::builder().with_root_certificates(roots);
                Some(Arc::new(config.with_no_client_auth()))
            }
            _ => None,
        };
        Ok(Self { address: address.clone(), tls, connection: None })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let SinkAddress { host, port, .. } = &self.address;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (host.as_str(), *port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Sink for Tcp {
    fn open(&mut self) -> io::Result<()> {
        self.connection = None;
        let mut stream = self.connect()?;
        self.connection = Some(match &self.tls {
            None => Connection::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from(self.address.host.clone());
                let name = name.map_err(|error| io::Error::other(error.to_string()))?;
                let session = ClientConnection::new(Arc::clone(config), name);
                let mut session = session.map_err(io::Error::other)?;
                while session.is_handshaking() {
                    session.complete_io(&mut stream)?;
                }
                Connection::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        });
        Ok(())
    }

    fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.connection {
            Some(Connection::Plain(stream)) => stream.write_all(lines),
            Some(Connection::Tls(stream)) => stream.write_all(lines).and_then(|()| stream.flush()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// A receiver that hangs up is noticed here, not at the next but one row.
    fn is_open(&mut self) -> bool {
        let mut bytes = [0; 1_024];
        let read = match &mut self.connection {
            Some(Connection::Plain(stream)) => look(stream, |mut stream| stream.read(&mut bytes)),
            Some(Connection::Tls(tls)) => {
                if tls.sock.set_nonblocking(true).is_err() {
                    return false;
                }
                let read = tls.read(&mut bytes);
                tls.sock.set_nonblocking(false).and(read)
            }
            None => return false,
        };
        match read {
            Ok(count) => count > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn doubt(&self) -> Duration {
        DOUBT
    }
}

fn look(
    stream: &TcpStream,
    read: impl FnOnce(&TcpStream) -> io::Result<usize>,
) -> io::Result<usize> {
    stream.set_nonblocking(true)?;
    let read = read(stream);
    stream.set_nonblocking(false).and(read)
}
