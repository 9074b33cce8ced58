//! Text of a column that is mostly one of a few constants: those need no allocation.

use std::borrow::Cow;

use tyto_core::record::FieldSink;
use tyto_core::record::schema::FieldType;
use tyto_core::record::value::LogValue;

/// A name of a number: the known ones are borrowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Cow<'static, str>);

impl LogValue for Text {
    const TYPE: FieldType = FieldType::STRING;

    fn write(&self, sink: &mut impl FieldSink) {
        sink.string(self.0.as_bytes());
    }
}
