//! Files of SMB 1 ([MS-CIFS] sections 2.2.4.42, .43, .64 and 2.2.4.5): opened, read, written,
//! closed.

use tyto_core::net::Side;

use super::Smb;
use super::smb1::{AndX, Header, Link, pad, string};
use super::things::{Action, Times};
use crate::analyzer::Cx;
use crate::analyzer::windows::reader::{Fault, Reader};

impl Smb {
    pub(super) fn create_request1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_nt_create_andx_request:filename";
        reader.u8(FIELD)?;
        let andx = AndX::parse(reader)?;
        reader.take(46, FIELD)?;
        let name = string(header.is_unicode, reader.offset(), reader, FIELD)?;
        self.next1(header, andx, link, reader, cx)?;
        let name = name.text();
        self.heed_name(header.tree_id.into(), &name);
        self.state.create_request1(name, cx.now);
        Ok(())
    }

    pub(super) fn create_reply1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_nt_create_andx_response:byte_count";
        reader.u8(FIELD)?;
        let andx = AndX::parse(reader)?;
        reader.u8(FIELD)?;
        let file = reader.u16(FIELD)?;
        reader.u32(FIELD)?;
        let (created, accessed) = (reader.u64(FIELD)?, reader.u64(FIELD)?);
        let (modified, changed) = (reader.u64(FIELD)?, reader.u64(FIELD)?);
        reader.take(12, FIELD)?;
        let size = reader.u64(FIELD)?;
        reader.take(7, FIELD)?;
        self.next1(header, andx, link, reader, cx)?;
        self.state.create_reply1(file, size, Times { modified, accessed, created, changed }, cx);
        Ok(())
    }

    pub(super) fn read_request1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_read_andx_request:byte_count";
        let words = reader.u8(FIELD)?;
        let andx = AndX::parse(reader)?;
        let file = reader.u16(FIELD)?;
        let low = reader.u32(FIELD)?;
        reader.take(10, FIELD)?;
        let mut high = 0;
        if words == 0x0c {
            high = reader.u32(FIELD)?;
            high = if high == u32::MAX { 0 } else { high };
        }
        reader.u16(FIELD)?;
        self.next1(header, andx, link, reader, cx)?;
        // Zeek shifts by 16 and not by 32: files of more than 4 GiB come out shorter.
        self.state.access1(file, Action::Read, cx);
        self.expect_read(header.message_id, u64::from(high) * 0x1_0000 + u64::from(low));
        Ok(())
    }

    pub(super) fn read_reply1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_read_andx_response:data";
        reader.u8(FIELD)?;
        let andx = AndX::parse(reader)?;
        reader.take(6, FIELD)?;
        let low = reader.u16(FIELD)?;
        let place = reader.u16(FIELD)?;
        let high = reader.u16(FIELD)?;
        reader.take(10, FIELD)?;
        pad(place, reader, FIELD)?;
        let content = reader.take(u64::from(high) << 16 | u64::from(low), FIELD)?;
        self.next1(header, andx, link, reader, cx)?;
        if header.is_pipe {
            self.pipe(Side::Resp, 0, content, cx);
        } else if !content.is_empty() {
            let offset = self.smb1.reads.remove(&header.message_id).unwrap_or(0);
            self.content(Side::Resp, offset, content, cx);
        }
        Ok(())
    }

    pub(super) fn write_request1(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_write_andx_request:data";
        let words = reader.u8(FIELD)?;
        let andx = AndX::parse(reader)?;
        let file = reader.u16(FIELD)?;
        let low = reader.u32(FIELD)?;
        reader.take(8, FIELD)?;
        let (length_high, length_low) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
        let place = reader.u16(FIELD)?;
        let high = if words == 0x0e { reader.u32(FIELD)? } else { 0 };
        reader.u16(FIELD)?;
        pad(place, reader, FIELD)?;
        let length = u64::from(length_high) << 16 | u64::from(length_low);
        let content = reader.take(length, FIELD)?;
        self.next1(header, andx, link, reader, cx)?;
        if header.is_pipe {
            self.pipe(Side::Orig, 0, content, cx);
        }
        self.state.access1(file, Action::Write, cx);
        if !header.is_pipe {
            let offset = high.wrapping_mul(0x1_0000).wrapping_add(low);
            self.content(Side::Orig, offset.into(), content, cx);
        }
        Ok(())
    }

    pub(super) fn close_request1(
        &mut self,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_close_request:byte_count";
        reader.u8(FIELD)?;
        let file = reader.u16(FIELD)?;
        reader.take(6, FIELD)?;
        self.state.close(file.into(), false, cx);
        self.content_ends(cx);
        Ok(())
    }
}
