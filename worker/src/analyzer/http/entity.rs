//! An entity: the headers and the body of a message, or of a part of a multipart one. State
//! only; [`super::message`] moves it.

use super::super::mime::decode::Content;
use super::super::mime::format::Format;
use super::inflate::Inflate;
use super::transactions::BodyFile;
use crate::file::handle::Handle;

/// An entity that is being read.
#[derive(Debug)]
pub(super) struct Entity {
    pub(super) format: Format,
    pub(super) content: Content,
    pub(super) in_header: bool,
    pub(super) is_over: bool,
    pub(super) body: Body,
    pub(super) chunks: Chunks,
    pub(super) content_length: Option<u64>,
    pub(super) range_length: Option<u64>,
    /// Bytes of the body, or of its chunk, that are still to come.
    pub(super) expected_bytes: i64,
    /// Bytes of the body so far, decompressed.
    pub(super) body_bytes: u64,
    pub(super) coding: Coding,
    pub(super) inflate: Option<Box<Inflate>>,
    /// Where the next byte stands in the file, of a reply to a range request.
    pub(super) range_offset: Option<u64>,
    /// Length of the file that the range is from.
    pub(super) instance_length: Option<u64>,
    /// The length is still to be told to the file.
    pub(super) owes_total: bool,
    pub(super) expects_100: bool,
    pub(super) file: Option<BodyFile>,
    /// What tells its file from others, once that has begun: bytes that come when it is over
    /// belong to the same file, although another transaction is current by then.
    pub(super) file_handle: Option<Handle>,
}

/// Whether a body follows the headers when they do not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Never, as behind 204.
    No,
    /// Yes, up to the end of the connection.
    Yes,
    /// Only if they say so: requests.
    Maybe,
}

/// The chunked transfer coding (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Not in use.
    No,
    /// The headers ask for it.
    Announced,
    Size,
    Bytes,
    /// The line end behind a chunk.
    End,
    Trailer,
    Over,
}

/// The Content-Encoding, as far as it is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Compressed,
}

impl Entity {
    /// The entity of a message.
    pub(super) fn new(body: Body) -> Self {
        Self {
            format: Format::default(),
            content: Content::default(),
            in_header: true,
            is_over: false,
            body,
            chunks: Chunks::No,
            content_length: None,
            range_length: None,
            expected_bytes: 0,
            body_bytes: 0,
            coding: Coding::Identity,
            inflate: None,
            range_offset: None,
            instance_length: None,
            owes_total: true,
            expects_100: false,
            file: None,
            file_handle: None,
        }
    }

    /// An entity inside of `self`.
    pub(super) fn child(&self) -> Self {
        Self { content: self.content.within(), ..Self::new(Body::Yes) }
    }

    pub(super) const fn is_chunked(&self) -> bool {
        !matches!(self.chunks, Chunks::No)
    }
}
