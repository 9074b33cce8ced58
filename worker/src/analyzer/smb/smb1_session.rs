//! Logons and shares of SMB 1 ([MS-CIFS] sections 2.2.4.52, .53 and .55; [MS-SMB] section 2.2.4).

use tyto_core::net::Side;

use super::Smb;
use super::smb1::{AndX, Header, Link, string};
use crate::analyzer::Cx;
use crate::analyzer::windows::reader::{Fault, Reader};

impl Smb {
    pub(super) fn negotiate_reply1(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_negotiate_ntlm_response:security_blob";
        const EXTENDED_SECURITY: u32 = 0x8000_0000;
        let words = reader.u8(FIELD)?;
        reader.u16(FIELD)?;
        reader.record();
        match words {
            0x01 => drop(reader.u16(FIELD)?),
            0x0d => {
                reader.take(20, FIELD)?;
                let key = reader.u16(FIELD)?;
                reader.take(4, FIELD)?;
                reader.take(key.into(), FIELD)?;
                string(header.is_unicode, reader.offset(), reader, FIELD)?;
            }
            0x11 => {
                reader.take(17, FIELD)?;
                let capabilities = reader.u32(FIELD)?;
                reader.take(10, FIELD)?;
                let key = reader.u8(FIELD)?;
                let length = i64::from(reader.u16(FIELD)?) - 16;
                if capabilities & EXTENDED_SECURITY == 0 {
                    reader.take(key.into(), FIELD)?;
                    string(header.is_unicode, reader.offset(), reader, FIELD)?;
                    return Ok(());
                }
                reader.take(16, FIELD)?;
                let token = u64::try_from(length)
                    .map_err(|_| Fault::NegativeLength { field: FIELD, length })?;
                let token = reader.take(token, FIELD)?;
                self.logon(Side::Resp, token, cx);
            }
            other => {
                let record = "SMB1_negotiate_response";
                return Err(Fault::InvalidCase { record, index: other.into() });
            }
        }
        Ok(())
    }

    pub(super) fn logon_request1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_session_setup_andx_request:native_lanman";
        let words = reader.u8(FIELD)?;
        let link = Link { offset: link.offset.wrapping_add(1), ..link };
        let outer = reader.record();
        let andx = AndX::parse(reader)?;
        reader.take(10, FIELD)?;
        let first = reader.u16(FIELD)?;
        let (rest, second, strings) = match words {
            0x0a => (6, 0, 4),
            0x0c => (10, 0, 2),
            0x0d => {
                let second = reader.u16(FIELD)?;
                (10, second, 4)
            }
            other => {
                let record = "SMB1_session_setup_andx_request";
                return Err(Fault::InvalidCase { record, index: other.into() });
            }
        };
        reader.take(rest, FIELD)?;
        let token = reader.take(first.into(), FIELD)?;
        reader.take(second.into(), FIELD)?;
        for _ in 0..strings {
            string(header.is_unicode, reader.offset() + 1, reader, FIELD)?;
        }
        self.next1(header, andx, link, reader, cx)?;
        reader.end_record(outer);
        if words == 0x0c {
            self.logon(Side::Orig, token, cx);
        }
        Ok(())
    }

    pub(super) fn logon_reply1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_session_setup_andx_response:native_lanman";
        let words = reader.u8(FIELD)?;
        if words != 3 && words != 4 {
            return reader.u16(FIELD).map(drop);
        }
        let link = Link { offset: link.offset.wrapping_add(1), ..link };
        let outer = reader.record();
        let andx = AndX::parse(reader)?;
        reader.u16(FIELD)?;
        let token = if words == 4 { reader.u16(FIELD)? } else { 0 };
        let length = reader.u16(FIELD)?;
        let token = reader.take(token.into(), FIELD)?;
        let strings = match words {
            4 => 2,
            _ if length == 0 => 0,
            _ => 3,
        };
        for _ in 0..strings {
            string(header.is_unicode, reader.offset() + 1, reader, FIELD)?;
        }
        self.next1(header, andx, link, reader, cx)?;
        reader.end_record(outer);
        if words == 4 {
            self.logon(Side::Resp, token, cx);
        }
        Ok(())
    }

    pub(super) fn tree_request1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_tree_connect_andx_request:service";
        reader.u8(FIELD)?;
        let andx = AndX::parse(reader)?;
        reader.u16(FIELD)?;
        let password = reader.u16(FIELD)?;
        reader.u16(FIELD)?;
        reader.take(password.into(), FIELD)?;
        let path = string(header.is_unicode, reader.offset(), reader, FIELD)?;
        let service = string(false, 0, reader, FIELD)?;
        self.next1(header, andx, link, reader, cx)?;
        self.state.tree_request1(path.text(), service.text(), cx.now);
        Ok(())
    }

    pub(super) fn tree_reply1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_tree_connect_andx_response:service";
        let words = reader.u8(FIELD)?;
        let andx = AndX::parse(reader)?;
        if let Some(more) = words.checked_sub(3) {
            reader.take(2 + u64::from(more) * 2, FIELD)?;
        }
        let length = usize::from(reader.u16(FIELD)?);
        let service = string(false, 0, reader, FIELD)?;
        let mut file_system = Vec::new();
        if length > service.bytes.len() {
            file_system = string(header.is_unicode, reader.offset(), reader, FIELD)?.text();
        }
        self.next1(header, andx, link, reader, cx)?;
        let service = service.text();
        if service.starts_with(b"IPC") {
            self.set_of_pipes(header.tree_id.into());
        }
        self.state.tree_reply1(header.tree_id, service, file_system, cx);
        Ok(())
    }
}
