//! Whether a peer's certificate is good: signed by a trusted CA, in its time, of this cluster,
//! and, for whoever dials, of the node dialled. Every no has its [`Refusal`]; what the other
//! end is told is the TLS alert that fits it.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tyto_core::config::runtime::Role;

use crate::certificate::Facts;
use crate::credentials::Credentials;
use crate::refusal::{Reason, Refusal};

/// Whom a client dials.
#[derive(Clone, Debug)]
pub(crate) struct Dialled {
    /// Node.
    pub(crate) node: String,
    /// What it is.
    pub(crate) role: Role,
}

/// Judges the other end of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    /// By what is trusted at this moment.
    pub(crate) credentials: Arc<Credentials>,
    /// Our cluster.
    pub(crate) cluster: String,
    /// Whom we dialled; none for a server, which hears every node.
    pub(crate) dialled: Option<Dialled>,
    /// Why the answer was no.
    pub(crate) verdict: Arc<OnceLock<Refusal>>,
}

impl Judge {
    /// Judges a chain of certificates at `now`; what it says when it is good.
    pub(crate) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Facts, (Refusal, CertificateError)> {
        let unusable = |said: &str| {
            let text = format!("the certificate shown cannot be used: {said}");
            (Refusal::new(Reason::Unusable, text), CertificateError::BadEncoding)
        };
        let facts = Facts::from_der(leaf).ok_or_else(|| unusable("it is not X.509"))?;
        self.check_cluster(&facts)?;
        let checked = match &self.dialled {
            None => self.credentials.clients.verify_client_cert(leaf, others, now).map(drop),
            Some(dialled) => match ServerName::try_from(dialled.node.as_str()) {
                Err(_) => return Err(unusable("the node dialled has no name for certificates")),
                Ok(name) => {
                    let servers = &self.credentials.servers;
                    servers.verify_server_cert(leaf, others, &name, &[], now).map(drop)
                }
            },
        };
        match checked {
            Ok(()) => self.check_holder(&facts).map(|()| facts),
            Err(Error::InvalidCertificate(error)) => Err(self.explain(&facts, error, now)),
            Err(error) => Err(unusable(&error.to_string())),
        }
    }

    /// Another cluster's certificate is told as such, whoever signed it.
    fn check_cluster(&self, facts: &Facts) -> Result<(), (Refusal, CertificateError)> {
        let Some(holder) = &facts.holder else {
            let text = format!(
                "the certificate of {} has no spiffe://CLUSTER/ROLE/NODE name",
                facts.who()
            );
            return Err((Refusal::new(Reason::Unusable, text), CertificateError::BadEncoding));
        };
        if holder.cluster == self.cluster {
            return Ok(());
        }
        let text = format!(
            "{} is of cluster `{}`, this is `{}`",
            facts.who(),
            holder.cluster,
            self.cluster
        );
        let refusal = Refusal::new(Reason::OtherCluster, text);
        Err((refusal, CertificateError::ApplicationVerificationFailure))
    }

    /// The node dialled has to answer, and be what it was dialled as.
    fn check_holder(&self, facts: &Facts) -> Result<(), (Refusal, CertificateError)> {
        let (Some(dialled), Some(holder)) = (&self.dialled, &facts.holder) else { return Ok(()) };
        if holder.node != dialled.node {
            return Err(other_node(dialled, facts));
        }
        if holder.role != dialled.role {
            let text =
                format!("`{}` answers as {}, not {}", holder.node, holder.role, dialled.role);
            let error = CertificateError::ApplicationVerificationFailure;
            return Err((Refusal::new(Reason::OtherRole, text), error));
        }
        Ok(())
    }

    fn explain(
        &self,
        facts: &Facts,
        error: CertificateError,
        now: UnixTime,
    ) -> (Refusal, CertificateError) {
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let refusal = match &error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Refusal::expired(facts, now_s)
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Refusal::not_yet_valid(facts, now_s)
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                return self.dialled.as_ref().map_or_else(
                    || (Refusal::new(Reason::OtherNode, error.to_string()), error.clone()),
                    |dialled| other_node(dialled, facts),
                );
            }
            // All CAs of a cluster have the same name, so that a stranger's signature may
            // be tried with the key of a CA that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let refusal = Refusal::stranger(facts, &self.credentials.authorities);
                return (refusal, CertificateError::UnknownIssuer);
            }
            other => {
                let text = format!("the certificate of {} cannot be used: {other}", facts.who());
                Refusal::new(Reason::Unusable, text)
            }
        };
        (refusal, error)
    }

    fn verdict(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.judge(leaf, others, now).map(drop).map_err(|(refusal, error)| {
            // Err: this connection has its verdict already.
            drop(self.verdict.set(refusal));
            Error::InvalidCertificate(error)
        })
    }
}

fn other_node(dialled: &Dialled, facts: &Facts) -> (Refusal, CertificateError) {
    let text = format!("dialled {} `{}`, {} answers", dialled.role, dialled.node, facts.who());
    (Refusal::new(Reason::OtherNode, text), CertificateError::NotValidForName)
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verdict(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.credentials.servers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.credentials.servers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.credentials.servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.credentials.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verdict(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.credentials.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.credentials.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.credentials.clients.supported_verify_schemes()
    }
}
