//! Messages of LDAP (RFC 4511 section 4.1.1). One whole message in, what it says out.

use super::ber::{
    self, APPLICATION, CONTEXT, Element, Head, INTEGER, SEQUENCE, UNIVERSAL, invalid,
};
use super::filter;
use super::names::{self, op};
use crate::analyzer::windows::frames::Length;
use crate::analyzer::windows::reader::{Fault, Reader};

/// A message.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) id: i64,
    pub(super) operation: u8,
    pub(super) result: Option<Outcome>,
    pub(super) object: Vec<u8>,
    pub(super) argument: Vec<u8>,
    pub(super) body: Body<'a>,
}

/// How an operation ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) code: u8,
    pub(super) diagnostic: Vec<u8>,
}

/// What is special to some operations.
#[derive(Debug)]
pub(super) enum Body<'a> {
    BindRequest { version: i64, method: u8, credentials: Option<Credentials<'a>> },
    BindResponse { tokens: Vec<&'a [u8]> },
    SearchRequest { scope: u8, aliases: u8, filter: Vec<u8> },
    StartTls,
    Other,
}

/// Ways to authenticate (section 4.2; \[MS-ADTS\] section 5.1.1.1.3).
pub(super) mod method {
    pub(in super::super) const SIMPLE: u8 = 0;
    pub(in super::super) const SASL: u8 = 3;
    pub(in super::super) const SICILY_NEGOTIATE: u8 = 10;
    pub(in super::super) const SICILY_RESPONSE: u8 = 11;
}

/// What a client authenticates with.
#[derive(Debug)]
pub(super) struct Credentials<'a> {
    /// Mechanism of SASL; empty without it.
    pub(super) mechanism: Vec<u8>,
    /// Its token.
    pub(super) token: Option<&'a [u8]>,
}

/// Length of the message that begins with `bytes`.
pub(super) fn length(bytes: &[u8]) -> Result<Length, Fault> {
    let long = match bytes {
        [_, short, ..] if short & 0x80 == 0 => 0,
        [_, long, ..] => usize::from(long & 0x7f),
        _ => return Ok(Length::Unknown),
    };
    if long > 8 {
        return Err(invalid("ASN1Header:len"));
    }
    let Some(head) = bytes.get(..2 + long) else { return Ok(Length::Unknown) };
    let len = Head::parse(&mut Reader::big(head))?.len;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    Ok(Length::Known(len.saturating_add(2 + long)))
}

impl<'a> Message<'a> {
    /// Parses one whole message.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::big(bytes);
        if !Head::parse(&mut reader)?.is(UNIVERSAL, SEQUENCE) {
            return Err(invalid("Message:seqHeader"));
        }
        let id = Element::parse(&mut reader)?;
        if !id.head.is(UNIVERSAL, INTEGER) {
            return Err(invalid("Message:messageID_header"));
        }
        let operation = Element::parse(&mut reader)?;
        if operation.head.class != APPLICATION {
            return Err(invalid("Message:protocolOp"));
        }
        let mut message = Self {
            id: id.number()?,
            operation: operation.head.kind,
            result: None,
            object: Vec::new(),
            argument: Vec::new(),
            body: Body::Other,
        };
        message.operation(operation.content)?;
        Ok(message)
    }

    fn operation(&mut self, content: &'a [u8]) -> Result<(), Fault> {
        let mut reader = Reader::big(content);
        match self.operation {
            op::BIND_REQUEST => self.bind_request(&mut reader),
            op::BIND_RESPONSE => {
                self.result = Some(outcome(&mut reader)?);
                let mut tokens = Vec::new();
                while !reader.is_empty() {
                    let token = Element::parse(&mut reader)?;
                    if !token.head.is(CONTEXT, 7) {
                        return Err(invalid("ServerSaslCreds:serverSaslCreds"));
                    }
                    tokens.push(token.content);
                }
                self.body = Body::BindResponse { tokens };
                Ok(())
            }
            op::SEARCH_REQUEST => self.search_request(&mut reader),
            op::SEARCH_RESULT_ENTRY => {
                self.object = Element::parse_deep(&mut reader)?.text()?;
                Element::parse_deep(&mut reader).map(drop)
            }
            op::SEARCH_RESULT_DONE
            | op::MODIFY_RESPONSE
            | op::ADD_RESPONSE
            | op::DEL_RESPONSE
            | op::MOD_DN_RESPONSE
            | op::COMPARE_RESPONSE => {
                self.result = Some(outcome(&mut reader)?);
                Ok(())
            }
            op::MODIFY_REQUEST => {
                self.object = Element::parse_deep(&mut reader)?.text()?;
                self.argument = changes(Element::parse_deep(&mut reader)?)?;
                Ok(())
            }
            // These two stand in their tag without one of their own (RFC 4511 sections 4.8
            // and 4.11).
            op::DEL_REQUEST => {
                self.object = ber::utf8(content);
                Ok(())
            }
            op::ABANDON_REQUEST => {
                self.object = ber::number(content)?.to_string().into_bytes();
                Ok(())
            }
            op::EXTENDED_REQUEST => self.extended_request(&mut reader),
            op::EXTENDED_RESPONSE => self.extended_response(&mut reader),
            op::UNBIND_REQUEST
            | op::ADD_REQUEST
            | op::MOD_DN_REQUEST
            | op::COMPARE_REQUEST
            | op::SEARCH_RESULT_REFERENCE
            | op::INTERMEDIATE_RESPONSE => Ok(()),
            other => Err(Fault::InvalidCase { record: "Message", index: other.into() }),
        }
    }

    fn bind_request(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        let version = Element::parse_deep(reader)?.number()?;
        self.object = Element::parse_deep(reader)?.text()?;
        let authentication = Element::parse_deep(reader)?;
        if authentication.head.class == UNIVERSAL {
            return Err(invalid("BindRequest:authType"));
        }
        let method = authentication.head.kind;
        let mut credentials = None;
        if !authentication.content.is_empty() {
            credentials = self.credentials(method, authentication.content)?;
        }
        self.body = Body::BindRequest { version, method, credentials };
        Ok(())
    }

    fn credentials(
        &mut self,
        method: u8,
        content: &'a [u8],
    ) -> Result<Option<Credentials<'a>>, Fault> {
        match method {
            method::SIMPLE => self.argument = ber::utf8(content),
            method::SASL => {
                let mut reader = Reader::big(content);
                let mechanism = Element::parse(&mut reader)?.text()?;
                let token = (!reader.is_empty())
                    .then(|| Element::parse(&mut reader))
                    .and_then(Result::ok)
                    .filter(|token| token.head.kind == ber::OCTET_STRING);
                self.argument.clone_from(&mechanism);
                let token = token.map(|token| token.content);
                return Ok(Some(Credentials { mechanism, token }));
            }
            method::SICILY_NEGOTIATE | method::SICILY_RESPONSE => {
                if !content.starts_with(b"NTLMSSP") {
                    return Err(invalid("SicilyMessage:signature"));
                }
                self.argument = b"NTLMSSP".to_vec();
                return Ok(Some(Credentials { mechanism: Vec::new(), token: Some(content) }));
            }
            _ => {}
        }
        Ok(None)
    }

    fn search_request(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        self.object = Element::parse_deep(reader)?.text()?;
        let scope = small(Element::parse_deep(reader)?.number()?)?;
        let aliases = small(Element::parse_deep(reader)?.number()?)?;
        // Limits of size and time, and whether values are wanted.
        for _ in 0..3 {
            Element::parse_deep(reader)?;
        }
        let filter = filter::filter(reader, 0)?;
        Element::parse_deep(reader)?;
        self.body = Body::SearchRequest { scope, aliases, filter };
        Ok(())
    }

    fn extended_request(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        let name = Element::parse(reader)?;
        if name.head.class != CONTEXT {
            return Err(invalid("ExtendedRequest:header"));
        }
        self.object = ber::ascii(name.content);
        if !reader.is_empty() && Element::parse(reader)?.head.class != CONTEXT {
            return Err(invalid("ExtendedRequest:requestValue"));
        }
        if self.object == names::START_TLS {
            self.body = Body::StartTls;
        }
        Ok(())
    }

    fn extended_response(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        self.result = Some(outcome(reader)?);
        for _ in 0..2 {
            if reader.is_empty() {
                break;
            }
            let head = Element::parse(reader)?.head;
            if !head.is(CONTEXT, 10) && !head.is(CONTEXT, 11) {
                return Err(invalid("ExtendedResponseEntry:head"));
            }
        }
        Ok(())
    }
}

fn small(number: i64) -> Result<u8, Fault> {
    u8::try_from(number).map_err(|_| invalid("ASN1Body:num_value"))
}

fn outcome(reader: &mut Reader<'_>) -> Result<Outcome, Fault> {
    let code = small(Element::parse_deep(reader)?.number()?)?;
    Element::parse_deep(reader)?.text()?;
    let diagnostic = Element::parse_deep(reader)?.text()?;
    Ok(Outcome { code, diagnostic })
}

/// Changes of a modify request: `add(name=value)`. Values of one name follow each other without
/// anything between, as Zeek prints them.
fn changes(changes: Element<'_>) -> Result<Vec<u8>, Fault> {
    const FIELD: &str = "ModifyRequest:changes";
    if changes.head.kind != SEQUENCE {
        return Err(invalid(FIELD));
    }
    let mut text = Vec::new();
    for change in changes.parts() {
        let mut parts = change.parts();
        let (Some(kind), Some(attribute), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(invalid(FIELD));
        };
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(match kind.number()? {
            0 => b"add(",
            1 => b"delete(",
            2 => b"replace(",
            _ => return Err(invalid(FIELD)),
        });
        let mut parts = attribute.parts();
        text.extend(parts.next().ok_or(invalid(FIELD))?.text()?);
        if let Some(values) = parts.next() {
            if values.head.kind != ber::SET {
                return Err(invalid(FIELD));
            }
            let mut values = values.parts().peekable();
            if values.peek().is_some() {
                text.push(b'=');
            }
            for value in values {
                text.extend(value.text()?);
            }
        }
        text.push(b')');
    }
    Ok(text)
}
