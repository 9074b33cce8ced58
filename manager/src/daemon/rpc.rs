//! The Manager service, once for nodes (mTLS) and once for ctl (unix socket). Who may call
//! what is decided here.

use tonic::{Request, Response, Status};
use tyto_core::config::runtime::Role;
use tyto_daemon::tls;
use tyto_proto::v1;
use tyto_proto::v1::manager_server::Manager;

use super::registry::Membership;

/// Roles that report. A standalone node has no manager.
const REPORTERS: [Role; 4] = [Role::Logger, Role::Manager, Role::Proxy, Role::Worker];

/// The service on the network.
#[derive(Debug)]
pub(crate) struct FromNodes {
    cluster: String,
    members: Membership,
}

/// The service on the unix socket, whose mode lets only the installation's user in.
#[derive(Debug)]
pub(crate) struct FromCtl {
    members: Membership,
}

impl FromNodes {
    /// For the nodes of `cluster`.
    pub(crate) fn new(cluster: &str, members: Membership) -> Self {
        Self { cluster: cluster.to_owned(), members }
    }
}

impl FromCtl {
    /// For whoever may open the socket.
    pub(crate) fn new(members: Membership) -> Self {
        Self { members }
    }
}

#[tonic::async_trait]
impl Manager for FromNodes {
    async fn report(
        &self,
        request: Request<v1::NodeHealth>,
    ) -> Result<Response<v1::ReportReply>, Status> {
        let caller = tls::require(&request, &self.cluster, &REPORTERS)?;
        let health = request.into_inner();
        if health.node != caller.node || health.role != caller.role.as_str() {
            return Err(Status::permission_denied(format!(
                "{} `{}` reports as {} `{}`",
                caller.role, caller.node, health.role, health.node
            )));
        }
        let taken = self.members.heard(health).await;
        taken
            .map_err(|error| Status::unavailable(error.to_string()))?
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        Ok(Response::new(v1::ReportReply {}))
    }

    async fn nodes(
        &self,
        _request: Request<v1::NodesRequest>,
    ) -> Result<Response<v1::NodesReply>, Status> {
        Err(Status::permission_denied("this call is for ctl, on the manager's unix socket"))
    }
}

#[tonic::async_trait]
impl Manager for FromCtl {
    async fn report(
        &self,
        _request: Request<v1::NodeHealth>,
    ) -> Result<Response<v1::ReportReply>, Status> {
        Err(Status::permission_denied("this call is for nodes, which show a certificate"))
    }

    async fn nodes(
        &self,
        _request: Request<v1::NodesRequest>,
    ) -> Result<Response<v1::NodesReply>, Status> {
        let reply = self.members.members().await;
        Ok(Response::new(reply.map_err(|error| Status::unavailable(error.to_string()))?))
    }
}
