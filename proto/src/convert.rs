//! Between prost's messages and the types of `tyto-core`.

use tyto_core::lag::{BUCKETS_MS, LagFigures, LagReport, StreamLag};
use tyto_core::record::schema::{FieldType, Schema, SchemaField};

use crate::v1;

/// Why a message from the wire cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The producer named a type that this build does not know.
    #[error("log stream `{stream}`: field `{field}` has the unknown type `{found}`")]
    UnknownType {
        /// Log stream of the schema.
        stream: String,
        /// Field with the type.
        field: String,
        /// The type as it came.
        found: String,
    },
    /// The fingerprint does not belong to the fields.
    #[error("log stream `{stream}`: schema says fingerprint {said:#x}, its fields have {found:#x}")]
    Fingerprint {
        /// Log stream of the schema.
        stream: String,
        /// What the message said.
        said: u64,
        /// What the fields have.
        found: u64,
    },
}

/// The log lag of a store as its node reports it: of all log streams first, then of each.
pub fn lag_to_wire(report: &LagReport) -> Vec<v1::LogLag> {
    let figures = |of: &LagFigures| v1::LagFigures {
        rows: of.rows,
        p50_ms: of.p50_ms,
        p99_ms: of.p99_ms,
        max_ms: of.max_ms,
    };
    let bounds = || BUCKETS_MS.into_iter().chain([u64::MAX]);
    let of_stream = |stream: &str, lag: &StreamLag| v1::LogLag {
        stream: stream.to_owned(),
        last_minute: Some(figures(&lag.last_minute)),
        total: Some(figures(&lag.total)),
        buckets: (bounds().zip(lag.buckets))
            .map(|(le_ms, rows)| v1::LagBucket { le_ms, rows })
            .collect(),
        sum_ms: lag.sum_ms,
    };
    let streams = report.streams.iter().map(|(stream, lag)| of_stream(stream, lag));
    std::iter::once(of_stream("", &report.all)).chain(streams).collect()
}

/// A schema as it goes over the wire.
pub fn schema_to_wire(schema: &Schema) -> v1::Schema {
    v1::Schema {
        stream: schema.stream.to_string(),
        fingerprint: schema.fingerprint(),
        fields: schema
            .fields
            .iter()
            .map(|field| v1::SchemaField {
                name: field.name.to_string(),
                r#type: field.field_type.to_string(),
                doc: field.doc.to_string(),
            })
            .collect(),
    }
}

/// A schema that came over the wire.
///
/// # Errors
/// When a type is unknown, or the fingerprint does not belong to the fields.
pub fn schema_from_wire(wire: &v1::Schema) -> Result<Schema, ConvertError> {
    let mut fields = Vec::with_capacity(wire.fields.len());
    for field in &wire.fields {
        let field_type: FieldType =
            field.r#type.parse().map_err(|_| ConvertError::UnknownType {
                stream: wire.stream.clone(),
                field: field.name.clone(),
                found: field.r#type.clone(),
            })?;
        fields.push(SchemaField {
            name: field.name.clone().into(),
            field_type,
            doc: field.doc.clone().into(),
        });
    }
    let schema = Schema { stream: wire.stream.clone().into(), fields };
    let found = schema.fingerprint();
    if found != wire.fingerprint {
        let stream = wire.stream.clone();
        return Err(ConvertError::Fingerprint { stream, said: wire.fingerprint, found });
    }
    Ok(schema)
}
