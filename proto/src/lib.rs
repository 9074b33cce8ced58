//! The wire between Tyto's processes: generated from `proto/tyto/v1/*.proto`, which are the
//! contract. Types from here stop at each daemon's `rpc.rs` and at [`convert`].

pub mod convert;

/// Messages and services of `tyto.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic
)]
pub mod v1 {
    tonic::include_proto!("tyto.v1");
}
