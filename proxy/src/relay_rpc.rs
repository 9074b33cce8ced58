//! The Relay service: notes of workers, for other workers.

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tyto_core::config::runtime::Role;
use tyto_daemon::tls;
use tyto_proto::v1;

use crate::rpc::Shared;

/// Notes of one call at most.
const CALL_NOTES_MAX: usize = 1024;
/// Length of a note's key at most, bytes.
const KEY_LEN_MAX: usize = 64;

/// The service of one proxy.
pub(crate) struct RelayService {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl v1::relay_server::Relay for RelayService {
    type ListenStream = Pin<Box<dyn Stream<Item = Result<v1::Notes, Status>> + Send>>;

    async fn tell(
        &self,
        request: Request<v1::TellRequest>,
    ) -> Result<Response<v1::TellReply>, Status> {
        let worker = tls::require(&request, &self.shared.cluster, &[Role::Worker])?;
        let notes = request.into_inner().notes;
        if notes.len() > CALL_NOTES_MAX {
            let found = notes.len();
            let fault = format!("{found} notes; expected {CALL_NOTES_MAX} at most");
            return Err(Status::invalid_argument(fault));
        }
        if let Some(note) = notes.iter().find(|note| !(1..=KEY_LEN_MAX).contains(&note.key.len())) {
            let found = note.key.len();
            let fault = format!("a key of {found} bytes; expected 1 to {KEY_LEN_MAX}");
            return Err(Status::invalid_argument(fault));
        }
        let listeners = self.shared.relay.tell(&worker.node, notes, self.shared.now());
        Ok(Response::new(v1::TellReply { listeners }))
    }

    async fn listen(
        &self,
        request: Request<Streaming<v1::Listening>>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        let worker = tls::require(&request, &self.shared.cluster, &[Role::Worker])?.node;
        let Some(joined) = self.shared.relay.join(&worker, self.shared.now()) else {
            return Err(Status::unavailable("this proxy ends"));
        };
        let (shared, call, mut own) = (self.shared.clone(), joined.call, request.into_inner());
        let over = joined.over;
        // Ends with the caller's stream, however that ends, or when ours does: whoever holds the
        // caller's keeps the connection open.
        tokio::spawn(async move {
            let left = async { while let Ok(Some(_)) = own.message().await {} };
            tokio::select! {
                () = left => shared.relay.leave(&worker, call),
                _ = over => {}
            }
        });
        let notes = tokio_stream::iter(joined.kept).chain(ReceiverStream::new(joined.notes));
        let notes = notes.map(|note| Ok(v1::Notes { notes: vec![note] }));
        Ok(Response::new(Box::pin(notes)))
    }
}
