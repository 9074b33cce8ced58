//! Headers that say how a body comes (RFC 9110 sections 8, 10 and 14, RFC 9112 section 6). What
//! contradicts itself is how requests are smuggled: each contradiction is a weird.

use tyto_core::net::Side;

use super::super::mime::header::Header;
use super::entity::{Chunks, Coding, Entity};
use super::message::Env;
use super::number::number;

impl Entity {
    /// A header of this entity, which is `depth` deep in the message.
    pub(super) fn header(&mut self, depth: usize, header: &Header<'_>, env: &mut Env<'_, '_>) {
        if header.is(b"content-type") {
            self.format.content_type(header.value);
        } else if header.is(b"content-transfer-encoding") {
            self.content.has_encoding(header.value);
        } else if header.is(b"content-length") {
            self.content_length(header, env);
        } else if header.is(b"content-range") && env.dialog.reply_code == 206 {
            self.content_range(header, env);
        } else if header.is(b"transfer-encoding") {
            self.transfer_encoding(depth, header, env);
        } else if header.is(b"content-encoding") {
            let codings: [&[u8]; 3] = [b"gzip", b"x-gzip", b"deflate"];
            let coding = header.first_token().map(|(token, _)| token);
            if coding.is_some_and(|token| codings.iter().any(|c| token.eq_ignore_ascii_case(c))) {
                self.coding = Coding::Compressed;
            }
        } else if header.is(b"expect") {
            let token = header.first_token().map(|(token, _)| token).unwrap_or_default();
            if !token.eq_ignore_ascii_case(b"100-continue") {
                let shown = String::from_utf8_lossy(token);
                env.cx.weird_with("HTTP_expect_not_100_continue", &shown);
            }
            self.expects_100 = true;
            self.check_expectation(env);
        }
    }

    fn content_length(&mut self, header: &Header<'_>, env: &mut Env<'_, '_>) {
        if self.is_chunked() {
            env.cx.weird("HTTP_content_length_and_chunked");
        }
        let Some((token, _)) = header.first_token() else { return };
        let length = number(token, 10).and_then(|length| u64::try_from(length).ok());
        let Some(length) = length else {
            env.cx.weird_with("HTTP_bad_content_length", &String::from_utf8_lossy(token));
            self.content_length = Some(0);
            return;
        };
        if length > 0 && token.first() == Some(&b'0') {
            let shown = String::from_utf8_lossy(token);
            env.cx.weird_with("HTTP_content_length_leading_zeros", &shown);
        }
        self.content_length = Some(length);
        if let Some(range) = self.range_length.filter(|range| *range != length) {
            env.cx.weird("HTTP_range_not_matching_len");
            self.content_length = Some(length.max(range));
        }
        self.check_expectation(env);
    }

    fn check_expectation(&self, env: &mut Env<'_, '_>) {
        if self.expects_100 && self.content_length == Some(0) {
            env.cx.weird("HTTP_content_length_0_and_expect_100_cont");
        }
    }

    fn transfer_encoding(&mut self, depth: usize, header: &Header<'_>, env: &mut Env<'_, '_>) {
        if depth > 0 {
            env.cx.weird("HTTP_nested_transfer_encoding_header");
            return;
        }
        let dialog = &env.dialog;
        let version =
            if dialog.request_goes_on { dialog.request_version } else { dialog.reply_version };
        let Some((token, rest)) = header.first_token() else { return };
        if !token.eq_ignore_ascii_case(b"chunked") || version != (1, 1) {
            return;
        }
        self.chunks = Chunks::Announced;
        if !rest.is_empty() {
            // A zero byte ends what Zeek shows of it.
            let shown = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            env.cx.weird_with("HTTP_chunked_multi", &String::from_utf8_lossy(shown));
        }
        if self.content_length.is_some() {
            env.cx.weird("HTTP_content_length_and_chunked");
        }
    }

    fn content_range(&mut self, header: &Header<'_>, env: &mut Env<'_, '_>) {
        if self.is_chunked() {
            env.cx.weird("HTTP_content_range_and_chunked");
        }
        let (unit, rest) = header.first_token().unwrap_or_default();
        if unit != b"bytes" {
            env.cx.weird("HTTP_content_range_unknown_byte_unit");
            return;
        }
        let range: Vec<u8> = rest.iter().copied().filter(|c| *c != b' ').collect();
        let mut halves = range.splitn(2, |c| *c == b'/');
        let (Some(positions), Some(instance)) = (halves.next(), halves.next()) else {
            env.cx.weird("HTTP_content_range_cannot_parse");
            return;
        };
        let mut positions = positions.splitn(2, |c| *c == b'-');
        let (Some(first), Some(last)) = (positions.next(), positions.next()) else {
            env.cx.weird("HTTP_content_range_cannot_parse");
            return;
        };
        let shown = String::from_utf8_lossy(&range);
        let (Some(first), Some(last)) = (number(first, 10), number(last, 10)) else {
            env.cx.weird_with("HTTP_content_range_cannot_parse", &shown);
            return;
        };
        let (Ok(first), Ok(last)) = (u64::try_from(first), u64::try_from(last)) else {
            env.cx.weird_with("HTTP_content_range_invalid", &shown);
            return;
        };
        let Some(len) = last.checked_sub(first) else {
            env.cx.weird_with("HTTP_non_positive_content_range", &shown);
            return;
        };
        if len >= i64::MAX.unsigned_abs() {
            env.cx.weird_with("HTTP_content_range_overflow", &shown);
            return;
        }
        if instance != b"*" {
            let length = number(instance, 10);
            if length.is_none() {
                env.cx.weird_with("HTTP_content_range_invalid_instance", &shown);
            }
            self.instance_length = length.and_then(|length| u64::try_from(length).ok());
        }
        self.range_offset = Some(first);
        self.range_length = Some(len + 1);
        self.compare_lengths(len + 1, env);
    }

    /// Takes the greater of both lengths, so that nothing slips by.
    fn compare_lengths(&mut self, range: u64, env: &mut Env<'_, '_>) {
        match self.content_length {
            Some(length) if length > 0 => {
                if length != range {
                    env.cx.weird("HTTP_range_not_matching_len");
                    self.content_length = Some(length.max(range));
                }
            }
            _ => self.content_length = Some(range),
        }
    }
}

impl super::Dialog {
    /// A header that says how the connection goes on.
    pub(super) fn header(&mut self, side: Side, header: &Header<'_>) {
        let token = || header.first_token().map(|(token, _)| token).unwrap_or_default();
        if header.is(b"connection") {
            match side {
                Side::Orig if token().eq_ignore_ascii_case(b"keep-alive") => {
                    self.keeps_alive = true;
                }
                Side::Resp if token().eq_ignore_ascii_case(b"close") => self.reply_closes = true,
                Side::Resp if token().eq_ignore_ascii_case(b"upgrade") => {
                    self.reply_upgrades = true;
                }
                _ => {}
            }
        } else if side == Side::Resp && header.is(b"upgrade") {
            self.upgrade_to = token().to_vec();
        }
    }
}
