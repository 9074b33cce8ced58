//! `manager ca …`: what ctl has the CA do, on the manager's host. Requests come by standard input,
//! certificates and states go to standard output.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use tyto_core::layout::Layout;

use super::authority::{Authority, Phase};
use super::ca::{Ca, CaError};

/// Most bytes of requests that one call reads.
const REQUESTS_BYTES_MAX: u64 = 4 << 20;

/// `manager ca …`.
#[derive(Debug, clap::Subcommand)]
pub enum CaCommand {
    /// Make the cluster's CA unless it is there; print what hosts are to trust.
    Init(CaPlace),
    /// Sign the requests on standard input, in the order of the nodes given; print the certificates.
    Sign {
        /// Which CA.
        #[command(flatten)]
        place: CaPlace,
        /// Whom each request is from.
        #[arg(value_name = "ROLE/NODE", required = true)]
        subjects: Vec<String>,
    },
    /// Print where a rotation is and what hosts are to trust, as JSON.
    Show(CaPlace),
    /// Make a new CA that is to replace this one; print as show does.
    Begin(CaPlace),
    /// Go on to the next phase; print as show does.
    Advance {
        /// Which CA.
        #[command(flatten)]
        place: CaPlace,
        /// The phase that all hosts are through with.
        #[arg(long)]
        from: Phase,
    },
    /// Begin the way back to the CA of before; print as show does.
    Abort(CaPlace),
}

/// Which CA.
#[derive(Debug, clap::Args)]
pub struct CaPlace {
    /// Prefix of the installation.
    #[arg(long)]
    prefix: PathBuf,
    /// Name of the cluster.
    #[arg(long)]
    cluster: String,
}

/// Does `command` and writes what it gives to `out`.
///
/// # Errors
/// What kept the CA from it.
pub fn run(command: &CaCommand, out: &mut impl Write) -> anyhow::Result<()> {
    let now = Timestamp::now().into();
    let text = match command {
        CaCommand::Init(place) => {
            Ca::init(&place.dir(), &place.cluster, now)?;
            place.open()?.state()?.bundle
        }
        CaCommand::Sign { place, subjects } => {
            let subjects = subjects.iter().map(|s| s.parse()).collect::<Result<Vec<_>, _>>()?;
            let mut requests = String::new();
            io::stdin().lock().take(REQUESTS_BYTES_MAX).read_to_string(&mut requests)?;
            place.open()?.signer()?.sign_all(&requests, &subjects, now)?
        }
        CaCommand::Show(place) => json(&place.open()?)?,
        CaCommand::Begin(place) => {
            let mut authority = place.open()?;
            authority.begin(now)?;
            json(&authority)?
        }
        CaCommand::Advance { place, from } => {
            let mut authority = place.open()?;
            authority.advance(*from)?;
            json(&authority)?
        }
        CaCommand::Abort(place) => {
            let mut authority = place.open()?;
            authority.abort()?;
            json(&authority)?
        }
    };
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn json(authority: &Authority) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&authority.state()?)?)
}

impl CaPlace {
    fn dir(&self) -> PathBuf {
        Layout::new(&self.prefix).ca_dir()
    }

    fn open(&self) -> Result<Authority, CaError> {
        Authority::open(&self.dir(), &self.cluster)
    }
}
