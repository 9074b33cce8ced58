//! What stands in the segments of the spool, and how. Format: docs/formats/spool.md.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tyto_core::record::schema::{Schema, SchemaField};
use tyto_writer::RowTimes;
use tyto_writer::frame::{BadBody, Fields, put_bytes, put_number};

use super::ledger::Reason;

/// Place of a batch's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Segment.
    pub(crate) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc32: u32,
}

impl Location {
    /// Size of the payload, bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.len as usize
    }
}

/// A batch, but for its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    /// Rises with each batch of this node, over all its lives.
    pub(crate) number: u64,
    /// Life that numbered the rows.
    pub(crate) epoch: u64,
    /// Log stream.
    pub(crate) stream: Arc<str>,
    /// Schema of the rows.
    pub(crate) fingerprint: u64,
    /// Sequence number of the first row.
    pub(crate) first_seq: u64,
    /// Number of rows.
    pub(crate) rows: u32,
    /// When they were written.
    pub(crate) times: RowTimes,
}

impl BatchHead {
    /// Sequence number behind the last row.
    pub(crate) const fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.rows as u64)
    }
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Columns of a log stream; stands before its first batch in each segment.
    Schema(Arc<Schema>),
    /// A batch, bound to a logger or not. One whose number came before has moved here.
    Batch {
        /// What it is.
        head: BatchHead,
        /// Where it must go.
        logger: Option<Arc<str>>,
        /// Where its payload is.
        location: Location,
        /// What else is known of it.
        origin: Origin,
    },
    /// A batch is about to be sent to a logger, and to no other from now on.
    Bound {
        /// Which batch.
        number: u64,
        /// To whom.
        logger: Arc<str>,
    },
    /// Batches whose rows a logger has on disk.
    Acked(Vec<u64>),
    /// Batches given up.
    Dropped {
        /// Why.
        reason: Reason,
        /// Which.
        numbers: Vec<u64>,
    },
    /// Batches from this number on that say nothing else may have been sent to this logger, and
    /// to no other.
    Lease(Lease),
}

/// Where a batch comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// When its rows were taken, seconds since the Unix epoch; 0: not known.
    pub(crate) taken_s: u64,
    /// The batch in whose place it stands.
    pub(crate) replaces: Option<u64>,
}

/// Who gets batches from a number on. Synced to disk before the first of them is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// First batch.
    pub(crate) from: u64,
    /// The logger; empty: nobody.
    pub(crate) logger: String,
}

/// The latest kind of record that this release knows.
const KIND_MAX: u8 = 8;

/// Whether a record comes from a later release, which was here before this one.
pub(super) fn is_from_later(body: &[u8]) -> bool {
    body.first().is_some_and(|kind| *kind > KIND_MAX)
}

/// A remark on batches.
pub(super) fn put_mark(out: &mut Vec<u8>, mark: &Record) {
    match mark {
        Record::Bound { number, logger } => {
            out.push(3);
            put_number(out, *number);
            put_bytes(out, logger.as_bytes());
        }
        Record::Acked(numbers) => {
            out.push(4);
            numbers.iter().for_each(|number| put_number(out, *number));
        }
        Record::Dropped { reason, numbers } => {
            out.extend_from_slice(&[5, reason.code()]);
            numbers.iter().for_each(|number| put_number(out, *number));
        }
        Record::Schema(schema) => put_schema(out, schema),
        Record::Lease(Lease { from, logger }) => {
            out.push(7);
            put_number(out, *from);
            put_bytes(out, logger.as_bytes());
        }
        Record::Batch { .. } => debug_assert!(false, "batches go by append_batch"),
    }
}

pub(super) fn put_schema(out: &mut Vec<u8>, schema: &Schema) {
    out.push(1);
    put_bytes(out, schema.stream.as_bytes());
    for field in &schema.fields {
        put_bytes(out, field.name.as_bytes());
        put_bytes(out, field.field_type.to_string().as_bytes());
        put_bytes(out, field.doc.as_bytes());
    }
}

pub(super) fn put_batch(
    out: &mut Vec<u8>,
    (head, origin): (&BatchHead, Origin),
    logger: Option<&str>,
    crc32: u32,
    payload: &[u8],
) {
    out.push(8);
    put_number(out, origin.taken_s);
    put_number(out, origin.replaces.map_or(0, |number| number + 1));
    put_number(out, head.number);
    put_number(out, head.epoch);
    put_bytes(out, head.stream.as_bytes());
    put_number(out, head.fingerprint);
    put_number(out, head.first_seq);
    put_number(out, u64::from(head.rows));
    // No logger has an empty name.
    put_bytes(out, logger.unwrap_or_default().as_bytes());
    put_number(out, head.times.first_ns);
    put_number(out, head.times.last_ns);
    put_number(out, u64::from(crc32));
    out.extend_from_slice(payload);
}

pub(super) fn parse(segment: u64, offset: u64, body: &[u8]) -> Result<Record, BadBody> {
    let mut fields = Fields::new(body);
    Ok(match fields.byte()? {
        1 => {
            let stream = fields.text()?.to_owned();
            let mut columns = Vec::new();
            while !fields.is_empty() {
                columns.push(SchemaField {
                    name: fields.text()?.to_owned().into(),
                    field_type: fields.text()?.parse().map_err(|_| BadBody)?,
                    doc: fields.text()?.to_owned().into(),
                });
            }
            Record::Schema(Arc::new(Schema { stream: stream.into(), fields: columns }))
        }
        // 2 and 6 are from earlier releases.
        kind @ (2 | 6 | 8) => {
            let mut origin = Origin::default();
            if kind == 8 {
                origin.taken_s = fields.number()?;
                origin.replaces = fields.number()?.checked_sub(1);
            }
            let mut head = BatchHead {
                number: fields.number()?,
                epoch: fields.number()?,
                stream: fields.text()?.into(),
                fingerprint: fields.number()?,
                first_seq: fields.number()?,
                rows: u32::try_from(fields.number()?).map_err(|_| BadBody)?,
                times: RowTimes::default(),
            };
            let logger = Some(fields.text()?).filter(|name| !name.is_empty()).map(Arc::from);
            if kind >= 6 {
                let (first_ns, last_ns) = (fields.number()?, fields.number()?);
                head.times = RowTimes { first_ns, last_ns };
            }
            let crc32 = u32::try_from(fields.number()?).map_err(|_| BadBody)?;
            let len = u32::try_from(fields.len()).map_err(|_| BadBody)?;
            let offset = offset + (body.len() - fields.len()) as u64;
            let location = Location { segment, offset, len, crc32 };
            Record::Batch { head, logger, location, origin }
        }
        3 => Record::Bound { number: fields.number()?, logger: fields.text()?.into() },
        4 => Record::Acked(numbers(&mut fields)?),
        5 => {
            let reason = Reason::from_code(fields.byte()?).ok_or(BadBody)?;
            Record::Dropped { reason, numbers: numbers(&mut fields)? }
        }
        7 => Record::Lease(Lease { from: fields.number()?, logger: fields.text()?.to_owned() }),
        _ => return Err(BadBody),
    })
}

fn numbers(fields: &mut Fields<'_>) -> Result<Vec<u64>, BadBody> {
    let mut numbers = Vec::new();
    while !fields.is_empty() {
        numbers.push(fields.number()?);
    }
    Ok(numbers)
}
