//! The protection of first packets (RFC 9001 section 5.2): keys that everybody may derive who
//! sees the client's first packet.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey, quic};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf;

use super::version::Version;

/// Bytes of a packet number at most; the sample stands behind so many (RFC 9001 section 5.4.2).
const PACKET_NUMBER_LEN_MAX: usize = 4;
const SAMPLE_LEN: usize = 16;
const KEY_LEN: usize = 16;
const SECRET_LEN: usize = 32;

/// Keys of one side's first packets.
pub(super) struct Keys {
    packet: LessSafeKey,
    iv: [u8; NONCE_LEN],
    header: quic::HeaderProtectionKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Keys {
    /// Keys of the client or the server for a connection whose client first called it `dcid`.
    pub(super) fn derive(version: Version, dcid: &[u8], by_client: bool) -> Option<Self> {
        Self::try_derive(version, dcid, by_client).ok()
    }

    fn try_derive(version: Version, dcid: &[u8], by_client: bool) -> Result<Self, Unspecified> {
        let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, version.salt()).extract(dcid);
        let label: &[u8] = if by_client { b"client in" } else { b"server in" };
        let secret = expand::<SECRET_LEN>(&initial, label)?;
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret);
        let labels = version.labels();
        let key = expand::<KEY_LEN>(&secret, labels.key)?;
        let header = expand::<KEY_LEN>(&secret, labels.header)?;
        Ok(Self {
            packet: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?),
            iv: expand(&secret, labels.iv)?,
            header: quic::HeaderProtectionKey::new(&quic::AES_128, &header)?,
        })
    }

    /// Opens `packet`, whose packet number stands at `number_at`: gives its frames. `None` when
    /// it is not protected by these keys.
    pub(super) fn open(&self, packet: &[u8], number_at: usize) -> Option<Vec<u8>> {
        let sample_at = number_at + PACKET_NUMBER_LEN_MAX;
        let sample = packet.get(sample_at..sample_at + SAMPLE_LEN)?;
        let [first_mask, number_mask @ ..] = self.header.new_mask(sample).ok()?;
        let (first, _) = packet.split_first()?;
        // Long headers have four protected bits (RFC 9001 section 5.4.1).
        let first = first ^ (first_mask & 0x0F);
        let number_len = usize::from(first & 3) + 1;
        let body_at = number_at + number_len;
        let mut header = packet.get(..body_at)?.to_vec();
        *header.first_mut()? = first;
        let mut number = 0_u64;
        for (byte, mask) in header.get_mut(number_at..)?.iter_mut().zip(number_mask) {
            *byte ^= mask;
            number = number << 8 | u64::from(*byte);
        }
        let mut nonce = self.iv;
        for (byte, of_number) in nonce.iter_mut().rev().zip(number.to_le_bytes()) {
            *byte ^= of_number;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut body = packet.get(body_at..)?.to_vec();
        let len = self.packet.open_in_place(nonce, Aad::from(&header), &mut body).ok()?.len();
        body.truncate(len);
        Some(body)
    }
}

/// `HKDF-Expand-Label` with an empty context (RFC 8446 section 7.1).
fn expand<const LEN: usize>(secret: &hkdf::Prk, label: &[u8]) -> Result<[u8; LEN], Unspecified> {
    const PREFIX: &[u8] = b"tls13 ";
    let len = u16::try_from(LEN).map_err(|_| Unspecified)?.to_be_bytes();
    let label_len = [u8::try_from(PREFIX.len() + label.len()).map_err(|_| Unspecified)?];
    let info = [&len[..], &label_len, PREFIX, label, &[0]];
    let mut key = [0; LEN];
    secret.expand(&info, Length(LEN))?.fill(&mut key)?;
    Ok(key)
}
